"""What decide says of one observation, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.config import EntitySync, FieldSync
from app.domain.codecs import Context
from app.domain.decide import (
    contradicts,
    decide,
    is_outlived,
    needs_reading,
    newest,
    writable,
)
from app.domain.fights import after_write
from app.domain.mapping import compile_mapping
from app.domain.state import LinkState, RecordState, State
from app.domain.values import Claim, Key, Observation, Ref

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ROWS = {"title": "role", "lead_status": "status", "phone": {"path": "tel", "direction": "from"}}


def state(**fields: FieldSync) -> State:
    sync = EntitySync(accounts=("a", "b"), conflict="a", fields=fields)
    return State("person", compile_mapping("person", ROWS, where="here"), sync, Context())


def test_what_only_fills_blanks_is_written_where_there_is_nothing():
    asked = state(title=FieldSync(write="if_blank"))
    assert "title" in writable(asked, "b", None)
    assert "title" in writable(asked, "b", {"title": None})
    assert "title" not in writable(asked, "b", {"title": "CEO"})


def test_what_is_written_once_goes_with_the_creation_alone():
    asked = state(lead_status=FieldSync(write="once"))
    assert "lead_status" in writable(asked, "b", None)
    assert "lead_status" not in writable(asked, "b", {"lead_status": None})


def test_a_row_that_only_reads_is_never_written():
    relations = {"company", "companies", "labels"}
    assert writable(state(), "b", None) == {"title", "lead_status", *relations}


def shown(title: str | None, version: datetime | None) -> Observation:
    return Observation(Ref("a", "contact", "1"), {"role": title}, version)


def test_of_two_snapshots_the_newer_counts_in_whatever_order_they_come():
    old, new = shown("old", NOON), shown("new", NOON + timedelta(seconds=1))
    assert newest(old, new) == newest(new, old) == new
    assert not contradicts(new, old)


def test_two_snapshots_of_one_moment_that_differ_prove_nothing():
    """A vendor's clock may be too coarse to tell two edits apart: then the record is read."""
    assert contradicts(shown("new", NOON), shown("old", NOON))
    assert contradicts(shown("new", None), shown("old", NOON))
    assert not contradicts(shown("same", NOON), shown("same", NOON))


def linked(ours: str, link: LinkState) -> State:
    return replace(
        state(), link=link, record=RecordState(link.record_id, "person", {"title": ours})
    )


SEEN = LinkState(UUID(int=1), {"title": "CTO", "lead_status": None, "phone": None}, seen_at=NOON)
BEFORE = NOON - timedelta(minutes=1)


def test_what_we_saw_later_outlives_a_snapshot():
    assert is_outlived(linked("CTO", SEEN), shown("CEO", BEFORE))
    assert not is_outlived(linked("CTO", SEEN), shown("CEO", NOON))
    assert not is_outlived(linked("CTO", SEEN), shown("CEO", None))
    assert not is_outlived(linked("CTO", replace(SEEN, state="gone")), shown("CEO", BEFORE))
    assert not is_outlived(state(), shown("CEO", BEFORE))


def test_a_snapshot_that_shows_only_some_fields_may_be_as_old_as_its_event_and_tell_something():
    assert not is_outlived(linked("CTO", SEEN), replace(shown("CEO", BEFORE), partial=True))


def test_an_old_snapshot_is_read_where_it_shows_what_we_never_saw():
    """A field that was mapped since, a parent that we did not know then."""
    unmapped = replace(SEEN, base={"lead_status": None})
    assert not is_outlived(linked("CTO", unmapped), shown("CEO", BEFORE))
    firm = Ref("a", "firm", "7")
    asked = replace(linked("CTO", SEEN), parents={firm: UUID(int=7)})
    related = replace(shown("CEO", BEFORE), relations={"company": (firm,)})
    assert not is_outlived(asked, related)
    told = replace(SEEN, base={**SEEN.base, "company": str(UUID(int=7))})
    assert is_outlived(replace(asked, link=told), related)


def test_an_old_snapshot_is_read_where_a_write_of_ours_may_have_replaced_what_it_tells():
    written = replace(SEEN, written={"title": {"was": "CIO", "now": "CTO"}})
    claims = (Claim(BEFORE, {"role": "CEO"}, {}),)
    assert is_outlived(linked("CTO", written), shown("CEO", BEFORE))
    assert is_outlived(linked("CTO", SEEN), replace(shown("CEO", BEFORE), claims=claims))
    assert not is_outlived(linked("CTO", written), replace(shown("CEO", BEFORE), claims=claims))


def test_an_edit_before_our_write_shows_what_the_write_has_replaced_and_is_read():
    """Somebody edits the phone after we looked and before we write the title."""

    def written(version: datetime | None) -> State:
        wrote = after_write({}, {"title": "CEO"}, {"title": "CTO"}, {"title"}, NOON, version)
        return linked("CTO", replace(SEEN, seen_at=BEFORE, written=wrote))

    between, after = (
        replace(shown("CEO", at), raw={"role": "CEO", "tel": "+49 30 1"})
        for at in (NOON - timedelta(seconds=1), NOON + timedelta(seconds=1))
    )
    plan = decide(written(NOON), between, new_id=UUID(int=2), now=NOON)
    assert needs_reading(written(NOON), between, plan)
    assert not needs_reading(written(NOON), after, plan)
    assert needs_reading(written(None), after, plan)


def test_an_old_snapshot_says_nothing_of_a_held_field():
    """A person would decide about a value that the account has not shown for long."""
    held = LinkState(UUID(int=1), {"title": "CEO"}, seen_at=NOON, held=frozenset({"title"}))
    asked, old = linked("CTO", held), shown("CEO", NOON - timedelta(minutes=1))
    plan = decide(asked, old, new_id=UUID(int=2), now=NOON)
    assert needs_reading(asked, old, plan)


def test_a_person_is_asked_who_is_who_only_about_what_is_still_there():
    """A snapshot of somebody who was deleted since, while another took their place."""
    twin = replace(shown("CEO", NOON), raw={"role": "CEO"})
    taken = replace(
        state(), candidates={Key("email", "ada@x.example"): UUID(int=1)}, taken=(UUID(int=1),)
    )
    plan = decide(taken, twin, new_id=UUID(int=2), now=NOON)
    assert plan.candidates == (UUID(int=1),)
    assert needs_reading(taken, twin, plan)


def test_our_value_in_the_vendors_spelling_is_no_edit_though_the_answer_is_late():
    for said, kept in (("Ada", "ADA "), ("7.5", "7"), ("7.5", "8")):
        made = LinkState(UUID(int=1), intended={"title": said})
        plan = decide(linked(said, made), shown(kept, NOON), new_id=UUID(int=2), now=NOON)
        assert plan.record is None
        assert (plan.base, plan.sent) == ({"title": kept}, {"title": said})


def test_neither_is_a_blank_in_the_vendors_spelling():
    made = LinkState(UUID(int=1), {"title": "old"}, intended={"title": ""})
    plan = decide(linked("new", made), shown(None, NOON), new_id=UUID(int=2), now=NOON)
    assert plan.record is None
    assert (plan.base, plan.sent) == ({"title": None}, {"title": ""})


def test_another_value_is_an_edit_though_a_write_of_ours_is_unanswered():
    made = LinkState(UUID(int=1), {"title": "old"}, intended={"title": "Ada"})
    plan = decide(linked("old", made), shown("Eve", NOON), new_id=UUID(int=2), now=NOON)
    assert plan.record is not None
    assert plan.record.fields["title"] == "Eve"


def test_what_was_changed_and_is_not_there_any_more_was_cleared():
    """And what nobody says was changed is no opinion, though it is not there."""
    base = {"title": "CEO", "lead_status": "New"}
    record = RecordState(UUID(int=1), "person", base, version=1)
    known = replace(state(), link=LinkState(record.id, base), record=record)
    claims = (Claim(NOON, {"role": None}, {"role": "CEO"}),)
    seen = Observation(Ref("a", "contact", "1"), {}, claims=claims)
    plan = decide(known, seen, new_id=UUID(int=2), now=NOON)
    assert [(take.field, take.new) for take in plan.takes] == [("title", None)]
    assert decide(known, replace(seen, claims=()), new_id=UUID(int=2), now=NOON).takes == ()
