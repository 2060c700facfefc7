"""Edits that a write of ours replaced before anybody could show them to us."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.config import EntitySync
from app.domain.codecs import CODECS, Context
from app.domain.decide import decide
from app.domain.fights import after_write
from app.domain.mapping import EntityMapping, Row
from app.domain.merge import Winner
from app.domain.state import LinkState, Plan, RecordState, State
from app.domain.values import Claim, Observation, Ref

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TITLE = EntityMapping("person", (Row(("title",), ("title",), CODECS["text"]),))
ADA = UUID(int=1)


def seen_after_our_write(shows: str, **times: datetime) -> Plan:
    """We wrote "ours" over "old"; the vendor tells that it replaced "typed", and shows this."""
    written = after_write({}, {"title": "old"}, {"title": "ours"}, {"title"}, NOON, NOON)
    sync = EntitySync.model_validate({"accounts": ("a", "b"), "conflict": "b"})
    record = RecordState(ADA, "person", {"title": "ours"}, {}, version=2)
    link = LinkState(ADA, {"title": "ours"}, written=written)
    state = State("person", TITLE, sync, Context(), link, record)
    claim = Claim(NOON, {"title": "ours"}, {"title": "typed"}, {"title": "ours"}, by_program=True)
    later = NOON + timedelta(seconds=1)
    seen = Observation(
        Ref("a", "contact", "1"), {"title": shows}, later, field_times=times, claims=(claim,)
    )
    return decide(state, seen, new_id=UUID(int=2), now=later)


def test_an_edit_replaced_unseen_is_taken_up_again_where_it_wins():
    plan = seen_after_our_write("ours")
    assert [(take.new, take.lost) for take in plan.takes] == [("typed", "ours")]


def test_an_edit_replaced_unseen_is_written_down_though_it_was_edited_anew_since():
    plan = seen_after_our_write("newer")
    assert plan.record is not None
    assert plan.record.fields["title"] == "newer"
    assert [(c.theirs, c.winner) for c in plan.clashes] == [("typed", Winner.OURS)]


def test_an_edit_replaced_unseen_keeps_its_own_time_whatever_was_edited_since():
    plan = seen_after_our_write("ours", title=NOON + timedelta(seconds=9))
    assert plan.record is not None
    assert plan.record.stamps["title"]["at"] == NOON.isoformat()


def test_an_edit_replaced_unseen_is_found_though_we_have_written_again_since():
    written = after_write({}, {"title": "old"}, {"title": "ours"}, {"title"}, NOON, NOON)
    written = after_write(written, {"title": "ours"}, {"title": None}, {"title"}, NOON, NOON)
    sync = EntitySync.model_validate({"accounts": ("a", "b"), "conflict": "b"})
    record = RecordState(ADA, "person", {"title": None}, {}, version=3)
    state = State(
        "person", TITLE, sync, Context(), LinkState(ADA, {"title": None}, written=written), record
    )
    claim = Claim(NOON, {"title": "ours"}, {"title": "typed"}, {"title": "ours"}, by_program=True)
    seen = Observation(Ref("a", "contact", "1"), {"title": None}, NOON, claims=(claim,))
    plan = decide(state, seen, new_id=UUID(int=2), now=NOON)
    assert [(take.new, take.old) for take in plan.takes] == [("typed", None)]
