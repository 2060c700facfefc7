"""What an account cannot hold is never behind there."""

from __future__ import annotations

from dataclasses import replace

from app.config import EntitySync
from app.domain.codecs import Context
from app.domain.decide import writable
from app.domain.mapping import compile_mapping
from app.domain.state import State

ROWS = {"body": "note", "direction": {"path": "way", "create_only": True}}


def state(*held: str, fixed: tuple[str, ...] = ()) -> State:
    mapping = replace(
        compile_mapping("call", ROWS, where="here"),
        relations=frozenset(held),
        fixed=frozenset(fixed),
    )
    return State("call", mapping, EntitySync(accounts=("a", "b"), conflict="a"), Context())


def test_a_relation_that_an_account_cannot_hold_is_never_written_there():
    assert writable(state("company"), "b", None) == {"body", "direction", "company"}


def test_what_cannot_be_changed_afterwards_goes_with_the_creation_alone():
    asked = state("company", "people", fixed=("company",))
    assert "company" in writable(asked, "b", None)
    assert writable(asked, "b", {}) == {"body", "people"}
