"""What follows from a merge of two remote records, given what we know of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from app.domain.meeting import (
    Step,
    last_words,
    promoted,
    state_after_move,
    step_of,
    united,
    unmade,
)
from app.domain.state import RecordState
from app.domain.values import Value


@dataclass(frozen=True)
class Known:
    state: str = "live"
    ended: str | None = None


def record(id: int, **fields: Value) -> RecordState:
    return RecordState(UUID(int=id), "person", fields, version=id)


@pytest.mark.parametrize(
    ("lost", "kept", "step"),
    [
        (None, None, Step.NOTHING),
        (None, Known(), Step.REMEMBER),
        (Known(), None, Step.RENAME),
        (Known(), Known("unlinked"), Step.RENAME),
        (Known("gone", "deleted"), None, Step.RENAME),
        (Known("gone", "merged"), None, Step.NOTHING),
        (Known("unlinked"), Known(), Step.DISMISS),
        (Known(), Known(), Step.FOLLOW),
        (Known("gone", "merged"), Known(), Step.FOLLOW),
        (Known("gone", "purged"), Known(), Step.NOTHING),
    ],
)
def test_what_a_merge_means_follows_from_what_we_know(
    lost: Known | None, kept: Known | None, step: Step
) -> None:
    assert step_of(lost, kept) is step


def test_a_survivor_that_we_may_be_making_just_now_is_waited_for() -> None:
    assert step_of(Known(), None, making=True) is Step.WAIT
    assert step_of(Known(), Known("unlinked"), making=True) is Step.RENAME


def test_beside_a_counterpart_that_lives_there_a_second_one_waits() -> None:
    assert state_after_move("live", beside=True) == "parked"
    assert state_after_move("live", beside=False) == "live"
    assert state_after_move("gone", beside=False) == "gone"


def test_a_parked_counterpart_takes_the_place_of_one_that_is_gone() -> None:
    parked = Known("parked")
    assert promoted([Known("gone"), parked]) is parked
    assert promoted([Known(), parked]) is None


def test_what_we_deleted_of_one_of_two_that_became_one_is_made_anew() -> None:
    ours = Known("gone", "propagated")
    assert unmade([Known(), Known("gone", "merged"), ours, Known("gone", "deleted")]) == [ours]


def test_the_survivor_fills_its_blanks_and_what_does_not_fit_is_told() -> None:
    after, takes, clashes = united(
        record(1, title="CEO", score=None), record(2, title="CTO", score="5")
    )
    assert after.fields == {"title": "CEO", "score": "5"}
    assert [take.field for take in takes] == ["score"]
    assert [(clash.field, clash.theirs) for clash in clashes] == [("title", "CTO")]


def test_an_edit_made_before_the_merge_is_taken_if_nobody_else_changed_the_field() -> None:
    ours = record(1, title="CEO", score="5")
    after, takes, clashes = last_words(
        ours, {"title": "CEO", "score": "1"}, {"title": "Founder", "score": "2"}
    )
    assert after.fields == {"title": "Founder", "score": "5"}
    assert [take.field for take in takes] == ["title"]
    assert [(clash.field, clash.theirs) for clash in clashes] == [("score", "2")]


def test_what_stands_in_a_field_that_nobody_has_agreed_on_is_not_lost_in_the_merge() -> None:
    after, _, _ = last_words(record(1, title=None), {}, {"title": "Founder"})
    assert after.fields == {"title": "Founder"}
    _, _, clashes = last_words(record(1, title="CEO"), {}, {"title": "Founder"})
    assert [clash.theirs for clash in clashes] == ["Founder"]


def test_an_element_removed_before_the_merge_is_removed() -> None:
    ours = record(1, phones=["+491", "+492", "+493"])
    after, takes, _ = last_words(ours, {"phones": ["+492", "+493"]}, {"phones": ["+493", "+494"]})
    assert after.fields == {"phones": ["+491", "+493", "+494"]}
    assert [(take.field, take.new) for take in takes] == [("phones", ["+491", "+493", "+494"])]


def test_an_edit_made_before_the_merge_keeps_what_was_to_be_deleted() -> None:
    doomed = replace(record(1, title="CEO"), state="gone")
    after, _, _ = last_words(doomed, {"title": "CEO"}, {"title": "Founder"})
    assert (after.state, after.fields) == ("live", {"title": "Founder"})
    same, _, _ = last_words(doomed, {"title": "CEO"}, {"title": "CEO"})
    assert same.state == "gone"
