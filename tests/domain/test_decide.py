"""What decide says of one observation, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.config import EntitySync, FieldSync
from app.domain.codecs import Context
from app.domain.decide import contradicts, newest, writable
from app.domain.mapping import compile_mapping
from app.domain.state import State
from app.domain.values import Observation, Ref

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
    assert writable(state(), "b", None) == {"title", "lead_status", "company"}


def shown(title: str, version: datetime | None) -> Observation:
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
