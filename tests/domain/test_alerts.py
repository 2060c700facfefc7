"""When somebody is told: once for each change of state, whatever the looks see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.alerts import Alert, Pace, Trouble, Word, word

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PACE = Pace(after=timedelta(seconds=60), summary=timedelta(hours=1))


def trouble(count: int = 1, *, passing: bool = False) -> Trouble:
    return Trouble("k", "lag", "close", "close/out is late", count, passing)


def told_over(looks: list[int], *, passing: bool, every: timedelta) -> list[Word]:
    """What is said when each look sees this many (0: nothing is wrong)."""
    alert, said, at = None, [], NOON
    for count in looks:
        at += every
        seen = trouble(count, passing=passing) if count else None
        if alert is None and seen:
            alert = Alert("k", at)
        if alert is None:
            continue
        now_said = word(alert, seen, at, PACE)
        if now_said:
            said.append(now_said)
            raised = alert.raised_at or at
            alert = replace(alert, raised_at=raised, told_at=at, told=count)
        if seen is None:
            alert = None
    return said


@given(
    st.lists(st.integers(0, 3), max_size=60),
    st.booleans(),
    st.sampled_from([timedelta(seconds=10), timedelta(minutes=20)]),
)
def test_it_is_raised_before_anything_else_is_said_and_recovers_as_often_at_most(
    looks: list[int], passing: bool, every: timedelta
):
    said = told_over(looks, passing=passing, every=every)
    state = [one for one in said if one is not Word.CHANGED]
    assert state == [Word.RAISED, Word.RECOVERED] * (len(state) // 2) + [Word.RAISED] * (
        len(state) % 2
    )
    assert not said or said[0] is Word.RAISED


def test_what_passes_within_a_minute_is_told_to_nobody():
    looks = [1, 1, 1, 0, 1, 1, 0]
    assert told_over(looks, passing=True, every=timedelta(seconds=10)) == []
    assert told_over(looks, passing=False, every=timedelta(seconds=10)) == [
        Word.RAISED,
        Word.RECOVERED,
        Word.RAISED,
        Word.RECOVERED,
    ]


def test_a_change_of_size_is_told_once_an_hour():
    looks = [1, *range(2, 20)]
    said = told_over(looks, passing=False, every=timedelta(minutes=20))
    assert said.count(Word.RAISED) == 1
    assert said.count(Word.CHANGED) == len(looks) // 3


def test_what_stays_as_it_is_is_told_once():
    assert told_over([5] * 50, passing=False, every=timedelta(hours=2)) == [Word.RAISED]
