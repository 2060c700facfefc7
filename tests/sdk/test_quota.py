"""The limiter: exact in any window, paced, and corrected by what the vendor says."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.manifest import Limit
from app.errors import RateLimitedError
from app.sdk.quota import MARGIN, Quota, background


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def ticks(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def make(limits: dict[str, Limit], **more) -> tuple[Quota, Time]:
    time = Time()
    return Quota(limits, ticks=time.ticks, sleep=time.sleep, **more), time


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
    assert all(gap == 0 for gap in gaps[:48])
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
    quota.learn("default", limit=4, per=10, remaining=3, since=first)
    times = [first] + [await quota.take() for _ in range(11)]
    assert busiest(times, 10) == 4


async def test_what_others_use_is_not_ours():
    quota, _ = make({"default": limit(10, 10)})
    first = await quota.take()
    quota.learn("default", limit=10, per=10, remaining=2, since=first)  # seven are not ours
    times = [first] + [await quota.take() for _ in range(2)]
    following = await quota.take()
    assert times[-1] - first < 10
    assert following - first >= 10


async def test_the_last_of_a_vendors_window_waits_for_its_reset():
    quota, time = make({"default": limit(1000, 1)})
    first = await quota.take()
    quota.learn("default", remaining=2, reset=5, since=first)
    await quota.take()
    await quota.take()
    assert time.now == 1000.0
    await quota.take()
    assert time.now == pytest.approx(1005 + MARGIN)


async def test_an_older_answer_does_not_give_calls_back():
    quota, time = make({"default": limit(1000, 1)})
    first = await quota.take()
    second = await quota.take()
    quota.learn("default", remaining=0, reset=5, since=second)
    quota.learn("default", remaining=1, reset=5, since=first)
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
