"""Whether what was deleted meanwhile is what a create of ours had made."""

from __future__ import annotations

from app.domain.departed import is_ours
from app.domain.values import Key

ADA, BEN = Key("email", "ada@x.example"), Key("email", "ben@x.example")


def test_what_shows_our_key_is_ours_whatever_else_was_changed_there():
    assert is_ours({"title": "CEO"}, [ADA], {"title": "CTO"}, [ADA])


def test_what_shows_all_that_our_create_said_is_ours():
    assert is_ours({"name": "Acme", "amount": None}, [], {"name": "Acme", "amount": "5"}, [])


def test_what_shows_another_key_or_other_values_proves_nothing():
    assert not is_ours({"title": "CEO"}, [ADA], {"title": "CTO"}, [BEN])
    assert not is_ours({}, [], {}, [])
