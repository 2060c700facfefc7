"""The day's budget, and how windows look to those who watch."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.domain.manifest import Limit
from app.domain.windows import BLANK, ROLLS, Day, Rate, Window, midnight, standing

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


def test_a_day_that_is_spent_too_fast_says_when_it_will_end():
    day = Day.of(BLANK, NOON, own=1000)
    for second in range(600):
        day.take(NOON + second)
    assert day.free == 400
    ends = day.ends_at(NOON + 600)
    assert ends is not None
    assert 395 <= ends - (NOON + 600) <= 405


def test_a_day_that_will_do_has_no_end():
    day = Day.of(BLANK, NOON, own=100_000)
    day.take(NOON)
    assert day.ends_at(NOON + 600) is None
    assert Day.of(BLANK, NOON).ends_at(NOON) is None


def test_the_forecast_forgets_what_was_long_ago():
    day = Day.of(BLANK, NOON, own=1000)
    for second in range(600):
        day.take(NOON + second)
    assert day.ends_at(NOON + 2 * 3600) is None


def test_a_day_begins_where_the_account_lives():
    assert midnight(NOON, "UTC") - NOON == 12 * 3600
    assert midnight(NOON, "Europe/Berlin") - NOON == 11 * 3600
    assert midnight(NOON, "America/New_York") - NOON == 17 * 3600


def test_what_is_spent_outlives_the_process_and_not_the_day():
    day = Day.of(BLANK, NOON, own=10)
    day.take(NOON)
    day.learn(Rate(daily=500, daily_remaining=300), NOON, after=0)
    again = Day.of(day.kept(), NOON + 60, own=10)
    assert (again.spent, again.left, again.most) == (1, 300, 10)
    tomorrow = Day.of(day.kept(), day.ends + 1, own=10)
    assert (tomorrow.spent, tomorrow.left, tomorrow.calls) == (0, None, 500)


def test_a_day_that_rolls_knows_no_midnight_and_grows_again():
    day = Day.of(BLANK, NOON)
    day.take(NOON)
    day.learn(Rate(daily=1000, daily_remaining=0, rolling=True), NOON, after=0)
    later = Day.of(day.kept(), day.ends + 1)
    assert later.left == 0
    # Some calls come free all the time: one asks after a quarter of an hour.
    assert day.wait(NOON + 60) == ROLLS - 60
    assert day.wait(NOON + ROLLS) <= 0
    day.learn(Rate(daily=1000, daily_remaining=3, rolling=True), NOON + ROLLS, after=1)
    assert (day.left, day.wait(NOON + ROLLS)) == (2, 0)
    shown = standing("day", day.kept(), NOON + ROLLS)
    assert shown.left == 2
    assert shown.resets_at == datetime.fromtimestamp(NOON + ROLLS + 86400, UTC)


def test_a_day_that_rolls_ends_only_if_more_is_called_than_comes_free():
    day = Day.of(BLANK, NOON)
    for second in range(0, 3600, 10):
        day.take(NOON + second)
    day.learn(Rate(daily=100_000, daily_remaining=50, rolling=True), NOON + 3600, after=0)
    assert day.ends_at(NOON + 3600) is None  # 360 an hour are 8,640 a day
    day.learn(Rate(daily=1000, daily_remaining=50, rolling=True), NOON + 3600, after=0)
    ends = day.ends_at(NOON + 3600)
    assert ends is not None
    assert NOON + 3600 + 400 < ends < NOON + 3600 + 700


@given(st.lists(st.floats(0, 3), max_size=40), st.integers(1, 9), st.floats(0.1, 5))
def test_a_window_goes_on_where_it_was_kept(pauses, calls, per):
    limit, now, own, kept = Limit(calls=calls, per=per), NOON, Window(calls, per), BLANK
    for pause in pauses:
        now += pause
        shared = Window.of(kept, limit)
        assert shared.wait(now) == own.wait(now)
        for window in (own, shared):
            if window.wait(now) <= 0:
                window.land(window.take(now), now + 0.01)
        kept = shared.kept()


def test_a_changed_manifest_counts_until_the_vendor_has_told():
    window = Window(10, 1.0)
    assert Window.of(window.kept(), Limit(calls=5, per=1)).calls == 5
    window.learn(Rate(limit=190, per=10), NOON, taken=NOON)
    assert Window.of(window.kept(), Limit(calls=5, per=1)).calls == 190


def test_a_window_that_held_one_call_alone_was_all_before_it_when_that_was_answered():
    window = Window(20, 1.0)
    window.learn(Rate(limit=100, remaining=60, reset=2.5), NOON, taken=NOON)
    assert (window.calls, window.per) == (20, 1.0)  # others were before us: how long is it?
    window.learn(Rate(limit=100, remaining=99, reset=5.0), NOON + 9, taken=NOON + 9)
    assert (window.calls, window.per) == (100, 5.0)


def test_how_a_window_stands():
    window = Window(10, 10.0)
    for second in range(4):
        window.take(NOON + second)
    window.pause(NOON + 60)
    shown = standing("search", window.kept(), NOON + 5)
    assert (shown.used, shown.left, shown.calls, shown.per) == (4, 6, 10, 10.0)
    assert shown.paused_until == datetime.fromtimestamp(NOON + 60, UTC)
