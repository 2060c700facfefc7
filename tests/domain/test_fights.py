"""Another automation that insists is told from people who change their minds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.fights import ANSWERS, ROUNDS, WINDOW, after_write, overwrote, verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = timedelta(seconds=1)


def rounds_until_held(answer: Callable[[int], str], pause: timedelta = SOON) -> int | None:
    """We write what others say, the account answers; the round that is held, None if none is."""
    written: dict[str, Any] = {}
    at, shown = NOON, "theirs"
    for number in range(3 * ANSWERS):
        ours = f"ours {number}"
        written = after_write(written, {"phone": shown}, {"phone": ours}, {"phone"}, at, at)
        at += pause
        shown = answer(number)
        if verdict(written, "phone", shown, at) is not None:
            return number
        at += pause
    return None


def test_a_value_that_is_set_back_again_and_again_is_held_after_a_few_rounds():
    assert rounds_until_held(lambda _: "theirs") == ROUNDS


def test_new_values_are_carried_for_long_but_not_for_ever():
    assert rounds_until_held(lambda n: f"typed {n}") == ANSWERS


def test_what_is_set_back_once_an_hour_is_no_fight():
    assert rounds_until_held(lambda _: "theirs", pause=WINDOW) is None


def test_people_who_answer_minutes_later_are_never_held_for_new_values():
    assert rounds_until_held(lambda n: f"typed {n}", pause=timedelta(minutes=2)) is None


@given(st.lists(st.sampled_from("ab"), max_size=40))
def test_edits_of_one_side_alone_are_never_a_fight(values):
    """We never write a field to the account where its edits are made."""
    assert all(verdict({}, "phone", value, NOON) is None for value in values)


def test_an_event_that_tells_of_a_blank_in_another_way_tells_of_no_edit_of_its_own():
    """HubSpot's events say "" of a cleared property whose record shows null."""
    written = after_write({}, {"title": None}, {"title": "CEO"}, {"title"}, NOON, NOON)
    assert not overwrote(written["title"], "", NOON)
    assert overwrote(written["title"], "typed in that instant", NOON)
