"""What decide says of one observation, without a database."""

from __future__ import annotations

from app.config import EntitySync, FieldSync
from app.domain.codecs import Context
from app.domain.decide import State, writable
from app.domain.mapping import compile_mapping

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
