"""Who is who."""

from __future__ import annotations

from uuid import UUID

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from app.domain import identity
from app.domain.identity import contradiction, email, keys, normalise, verdict
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
        ("phone", "+1 (415) 555-0100", "+14155550100"),
        ("phone", "415 555 0100", None),  # whose country? It identifies nobody
        ("name", "  ACME\u00a0 Ltd ", "acme ltd"),
        ("custom.customer_number", "K-0042", "k-0042"),
    ],
)
def test_keys_are_compared_in_one_form(kind, text, key):
    assert normalise(kind, text) == key


@given(st.text(max_size=40))
def test_normalising_never_fails_and_is_stable(text):
    for kind in ("email", "domain", "external_id", "phone", "name"):
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


@given(st.text("aB0._+-@xn", max_size=20))
def test_a_plain_address_is_compared_as_the_library_would_have_it(text):
    try:
        checked = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        assert email(text) in (None, text.strip().casefold())
    else:
        assert email(text) == checked.normalized.casefold()


RULES = ("external_id", "email", "phone", "name", "company + name")
plain_text = st.text(max_size=12)
some_fields = st.fixed_dictionaries(
    {},
    optional={
        "email": st.none() | plain_text,
        "emails": st.lists(st.sampled_from(["a@x.example", "B@x.example", "", "?"])),
        "phone": st.none() | st.sampled_from(["+14155550100", "555", ""]),
        "name": st.none() | plain_text | st.integers() | st.booleans(),
        "company": st.none() | st.uuids().map(str),
    },
)


@given(some_fields, st.permutations(RULES))
def test_keys_do_not_depend_on_the_order_of_rules_or_fields(fields, rules):
    found = keys("person", fields, rules)
    assert found == tuple(sorted(set(found)))
    assert found == keys("person", dict(reversed(fields.items())), RULES)


@given(some_fields)
def test_a_part_that_is_missing_makes_no_key(fields):
    for key in keys("deal", {**fields, "company": None}, RULES):
        assert key.value
        assert key.kind != "company + name"


def test_parts_cannot_be_mistaken_for_each_other():
    rule = ["first_name + last_name"]
    one = keys("person", {"first_name": "a", "last_name": '","b'}, rule)
    other = keys("person", {"first_name": 'a","', "last_name": "b"}, rule)
    assert one != other


def test_a_rule_of_several_parts_uses_every_address():
    found = keys(
        "person", {"emails": ["a@x.example", "b@x.example"], "title": "CEO"}, ["email + title"]
    )
    assert len(found) == 2


def test_without_rules_nobody_is_recognised():
    assert keys("person", {"email": "a@x.example"}, ()) == ()


def test_a_text_no_index_would_take_is_no_key():
    assert keys("company", {"name": "x" * 4000}, ["name"]) == ()


@given(some_fields, some_fields)
def test_a_contradiction_is_mutual_and_nobody_contradicts_himself(one, other):
    mine, yours = keys("person", one, RULES), keys("person", other, RULES)
    assert contradiction(RULES, mine, yours) == contradiction(RULES, yours, mine)
    assert contradiction(RULES, mine, mine) == ""


def test_a_stronger_key_that_differs_outweighs_a_weaker_one_that_agrees():
    rules = ("domain", "name")
    one = keys("company", {"domain": "acme.com", "name": "Acme"}, rules)
    other = keys("company", {"domain": "acme.de", "name": "ACME"}, rules)
    renamed = keys("company", {"domain": "acme.com", "name": "Acme Inc"}, rules)
    bare = keys("company", {"name": "acme"}, rules)
    assert contradiction(rules, one, other) == "domain"
    assert contradiction(rules, one, renamed) == ""
    assert contradiction(rules, one, bare) == ""
