"""Who is who."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import identity
from app.domain.identity import keys, normalise, verdict
from app.domain.values import Key

A, B = UUID(int=1), UUID(int=2)
MAIL, OTHER = Key("email", "a@x.example"), Key("email", "b@x.example")


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        ("email", " Jane@Acme.Example ", "jane@acme.example"),
        ("email", "not an address", None),
        ("domain", "https://www.acme.co.uk/en?x=1", "acme.co.uk"),
        ("domain", "shop.acme.example", "shop.acme.example"),
        ("domain", "gmail.com", None),
        ("domain", "https://www.facebook.com/acme", None),
        ("domain", "co.uk", None),
        ("domain", "localhost", None),
        ("external_id", " 7 ", "7"),
        ("external_id", "", None),
    ],
)
def test_keys_are_compared_in_one_form(kind, text, key):
    assert normalise(kind, text) == key


@given(st.text(max_size=40))
def test_normalising_never_fails_and_is_stable(text):
    for kind in ("email", "domain", "external_id"):
        once = normalise(kind, text)
        assert once is None or normalise(kind, once) == once
    assert identity.phone(identity.phone(text)) == identity.phone(text)


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("+1 (415) 555-0100", "+14155550100"),
        ("+49 30 1234567 ext. 12", "+49301234567;ext=12"),
        ("415 555 0100", "415 555 0100"),  # whose country? The text is kept
        ("call reception", "call reception"),
    ],
)
def test_a_phone_is_e164_where_it_says_its_country(text, e164):
    assert identity.phone(text) == e164


def test_a_person_is_known_by_every_address():
    found = keys("person", {"email": "A@x.example", "emails": ["a@x.example", "b@x.example"]})
    assert found == (MAIL, OTHER)
    assert keys("deal", {"name": "Big"}) == ()


def test_no_candidate_is_new_and_one_is_the_same():
    assert verdict({}).is_new
    assert verdict({MAIL: A, OTHER: A}).same == A


def test_keys_that_disagree_are_for_a_person_to_decide():
    found = verdict({MAIL: A, OTHER: B})
    assert found.same is None
    assert set(found.unsure) == {A, B}


def test_a_second_record_of_one_account_with_the_same_key_is_unsure():
    found = verdict({MAIL: A}, taken=[A])
    assert found.unsure == (A,)
    assert "another record of this account" in found.reason
