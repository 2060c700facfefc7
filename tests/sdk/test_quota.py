"""The limiter: exact in any window, paced, and corrected by what the vendor says."""

import asyncio
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.manifest import Limit
from app.domain.windows import LOST, MARGIN, STALE, Rate
from app.errors import RateLimitedError
from app.sdk.quota import Allowance, OwnLedger, Quota, background


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def ticks(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Calls(Quota):
    """A quota whose calls are answered at once, unless a test says otherwise."""

    async def take(self, group: str = "default") -> float:
        taken = await super().take(group)
        self.landed(taken, group)
        return taken


def make(limits: dict[str, Limit], kind: type[Quota] = Calls, **more) -> tuple[Quota, Time]:
    time = Time()
    return kind(limits, ledger=OwnLedger(time.ticks), sleep=time.sleep, **more), time


def limit(calls: int, per: float) -> Limit:
    return Limit(calls=calls, per=per)


def busiest(times: list[float], per: float) -> int:
    return max(sum(1 for t in times if start <= t < start + per) for start in times)


async def test_no_window_ever_holds_more_than_the_limit():
    quota, _ = make({"default": limit(100, 10)})
    times = [await quota.take() for _ in range(450)]
    assert busiest(times, 10 + MARGIN - 1e-6) == 100
    # … and what may be used is used: 100 for each full window.
    assert times[399] - times[0] < 4 * (10 + MARGIN)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 20),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_whatever_the_rhythm_the_limit_holds(calls, per, pauses):
    async def run() -> list[float]:
        quota, time = make({"default": limit(calls, per)}, patience=1e9)
        times = []
        for pause in pauses:
            time.now += pause
            times.append(await quota.take())
        return times

    assert busiest(asyncio.run(run()), per) <= calls


async def test_calls_slow_down_instead_of_stopping():
    quota, _ = make({"default": limit(100, 10)})
    times = [await quota.take() for _ in range(150)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(gap < 0.001 for gap in gaps[:48])
    assert max(gaps) < 1  # eager calls would stall for ten seconds
    assert times[-1] - times[0] <= 2 * (10 + MARGIN)


async def test_a_slow_rhythm_never_waits():
    quota, time = make({"default": limit(10, 1)})
    for _ in range(50):
        time.now += 0.3
        before = time.now
        assert await quota.take() == before


async def test_groups_are_apart_and_unknown_ones_share_the_default():
    quota, time = make({"default": limit(2, 10), "search": limit(1, 1)})
    await quota.take("search")
    await quota.take("whatever")
    start = time.now
    await quota.take("default")
    await quota.take("another")
    assert time.now > start
    quota, time = make({"default": limit(1, 10)})
    await quota.take("default GET /a/")
    await quota.take("default GET /b/")
    assert time.now == 1000.0  # a window for each path


async def test_who_would_wait_long_gives_the_lane_back():
    quota, time = make({"default": limit(1, 60)}, patience=12)
    await quota.take()
    with pytest.raises(RateLimitedError):
        await quota.take()
    assert time.now == 1000.0


async def test_a_pause_holds_its_group_only():
    quota, time = make({"default": limit(9, 1), "search": limit(9, 1)})
    quota.pause(3, "search")
    await quota.take()
    assert time.now == 1000.0
    await quota.take("search")
    assert time.now == 1003.0
    quota.pause(500)
    with pytest.raises(RateLimitedError):
        await quota.take()


async def test_headers_correct_the_limit():
    quota, _ = make({"default": limit(100, 10)})
    first = await quota.take()
    quota.landed(first, rate=Rate(limit=4, per=10, remaining=3))
    times = [first] + [await quota.take() for _ in range(11)]
    assert busiest(times, 10) == 4


async def test_what_others_use_is_not_ours():
    quota, _ = make({"default": limit(10, 10)})
    first = await quota.take()
    quota.landed(first, rate=Rate(limit=10, per=10, remaining=2))  # seven are not ours
    times = [first] + [await quota.take() for _ in range(2)]
    following = await quota.take()
    assert times[-1] - first < 10
    assert following - first >= 10


async def test_the_last_of_a_vendors_window_waits_for_its_reset():
    quota, time = make({"default": limit(1000, 1)})
    first = await quota.take()
    quota.landed(first, rate=Rate(remaining=2, reset=5))
    await quota.take()
    await quota.take()
    assert time.now == 1000.0
    await quota.take()
    assert time.now == pytest.approx(1005 + MARGIN)


async def test_an_older_answer_does_not_give_calls_back():
    quota, time = make({"default": limit(1000, 1)})
    first = await quota.take()
    second = await quota.take()
    quota.landed(second, rate=Rate(remaining=0, reset=5))
    quota.landed(first, rate=Rate(remaining=1, reset=5))
    await quota.take()
    assert time.now >= 1005


async def test_scans_leave_a_reserve_to_live_traffic():
    quota, time = make({"default": limit(10, 10)})
    with background():
        for _ in range(8):
            await quota.take()
    start = time.now
    await quota.take()
    live = time.now - start
    quota, time = make({"default": limit(10, 10)})
    with background():
        for _ in range(9):
            await quota.take()
    assert live < 5
    assert time.now - 1000 >= 10


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32))
def test_workers_that_share_a_ledger_share_the_limit_however_late_calls_arrive(
    calls, workers, seed
):
    """Every worker asks for far more than there is; each call arrives when it likes."""
    fate, per = random.Random(seed), 5.0

    async def run() -> list[float]:
        time = Time()
        ledger = OwnLedger(time.ticks)
        arrived: list[float] = []
        under_way: list[tuple[float, Quota, float]] = []

        async def pass_by(seconds: float) -> None:
            """Time goes by, and answers come while it does."""
            until = time.now + seconds
            for landing in sorted(under_way, key=lambda item: item[0]):
                if landing[0] <= until:
                    under_way.remove(landing)
                    time.now = max(time.now, landing[0])
                    landing[1].landed(landing[2])
                    await landing[1].tell()
            time.now = until

        limits = {"default": limit(calls, per)}
        quotas = [Quota(limits, ledger=ledger, sleep=pass_by, patience=1e9) for _ in range(workers)]
        for _ in range(5 * calls):
            quota = fate.choice(quotas)
            taken = await quota.take()
            late = fate.choice((0.0, fate.uniform(0, 0.2), fate.uniform(0, 4)))
            arrived.append(time.now + fate.uniform(0, late))
            under_way.append((time.now + late, quota, taken))
        return arrived

    assert busiest(asyncio.run(run()), per) <= calls


async def test_a_call_whose_worker_is_gone_weighs_for_a_while_only():
    quota, _ = make({"default": limit(1, 1)}, Quota, patience=1e9)
    first = await quota.take()
    assert await quota.take() >= first + LOST


async def test_a_day_has_so_many_calls_and_scans_never_touch_the_reserve():
    quota, _ = make({}, allowance=Allowance(daily=10, reserve=0.3), patience=0)
    with background():
        for _ in range(7):
            await quota.take()
        with pytest.raises(RateLimitedError):
            await quota.take()
    for _ in range(3):
        await quota.take()
    with pytest.raises(RateLimitedError):
        await quota.take()


async def test_a_spent_day_begins_anew_at_midnight():
    quota, time = make({}, allowance=Allowance(daily=1), patience=0)
    await quota.take()
    with pytest.raises(RateLimitedError):
        await quota.take()
    time.now = 86400.0
    await quota.take()


async def test_the_vendors_own_day_is_asked_about_once_an_hour():
    """Nobody tells in which time zone it ends."""
    quota, time = make({"default": limit(50, 1)}, patience=0)
    quota.landed(await quota.take(), rate=Rate(daily=1000, daily_remaining=0))
    with pytest.raises(RateLimitedError):
        await quota.take()
    time.now += STALE
    probe = await quota.take()
    with pytest.raises(RateLimitedError):
        await quota.take()
    quota.landed(probe, rate=Rate(daily=1000, daily_remaining=999))
    await quota.take()


async def test_an_older_answer_does_not_lengthen_the_day():
    quota, _ = make({"default": limit(50, 1)}, patience=0)
    first, second = await quota.take(), await quota.take()
    quota.landed(second, rate=Rate(daily=1000, daily_remaining=1))
    quota.landed(first, rate=Rate(daily=1000, daily_remaining=2))
    await quota.take()
    with pytest.raises(RateLimitedError):
        await quota.take()
