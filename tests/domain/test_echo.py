"""A write of ours that comes back is not read again, unless it tells more than we wrote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.codecs import Context
from app.domain.echo import is_echo
from app.domain.mapping import compile_mapping, to_canonical
from app.domain.values import Claim, Ref

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAPPING = compile_mapping(
    "person",
    {
        "first_name": "FirstName",
        "last_name": "LastName",
        "email": {"path": "Email", "as": "email"},
        "phone, phones": {"paths": ["Phone", "MobilePhone"], "as": "phone_pair"},
        "title": {"path": "Title", "when": "last_name is not blank"},
    },
    where="here",
)
RAW = {
    "FirstName": "Ada",
    "LastName": "Lovelace",
    "Email": "Ada@Acme.example",
    "Phone": "+14155550100",
    "MobilePhone": None,
    "Title": "Countess",
}
BASE = to_canonical(MAPPING, RAW, Context())


def echo(*claims: dict[str, Any], ours: bool = True) -> bool:
    made = [
        Claim(NOON.replace(minute=n), fields, {}, None, ours) for n, fields in enumerate(claims)
    ]
    return is_echo(MAPPING, BASE, made, Context(), {})


def test_what_we_wrote_comes_back_and_is_known():
    assert echo({"LastName": "Lovelace"})
    assert echo({"Email": "ada@acme.example", "FirstName": "Ada"})
    assert echo({"LastName": "Byron"}, {"LastName": "Lovelace"})


@pytest.mark.parametrize(
    "fields",
    [
        {"LastName": "King"},
        {"LastName": "Lovelace", "FirstName": None},
        {"LastName": "Lovelace", "Email": "x@acme.example"},
        {"LastName": "Lovelace", "AccountId": "001"},  # a relation: it is not compared here
        {"LastName": "Lovelace", "Score__c": 3},  # an automation of theirs may have done this
        {"MobilePhone": "+14155550100"},  # half of what makes a field
        {"Title": "Countess"},  # it depends on what else stands there
    ],
)
def test_what_says_more_is_looked_at(fields):
    assert not echo(fields)
    assert not echo({"LastName": "Lovelace"}, fields)


def test_half_of_a_field_is_known_where_the_other_half_is_blank():
    assert echo({"Phone": "+14155550100"})
    both = to_canonical(MAPPING, {**RAW, "MobilePhone": "+14155550101"}, Context())
    claim = Claim(NOON, {"Phone": "+14155550100"}, {}, None, by_program=True)
    assert not is_echo(MAPPING, both, [claim], Context(), {})


def test_a_value_that_is_not_told_may_be_any():
    blank = to_canonical(MAPPING, {**RAW, "LastName": None}, Context())
    claim = Claim(NOON, {"LastName": None}, {}, None, by_program=True)
    assert not is_echo(MAPPING, blank, [claim], Context(), {})


@pytest.mark.parametrize("names", [("Lovelace", "King"), ("King", "Lovelace")])
def test_of_two_values_in_one_moment_nobody_knows_which_came_last(names):
    claims = [Claim(NOON, {"LastName": name}, {}, None, by_program=True) for name in names]
    assert not is_echo(MAPPING, BASE, claims, Context(), {})


def test_whom_we_know_it_names_is_no_news():
    acme, other = Ref("crm", "companies", "1"), Ref("crm", "companies", "2")
    ends = {acme: UUID(int=1), other: UUID(int=2)}
    base = {**BASE, "company": str(UUID(int=1))}

    def known(*refs: Ref) -> bool:
        claims = [Claim(NOON, {}, {}, names={"company": ref}) for ref in refs]
        return is_echo(MAPPING, base, claims, Context(), ends)

    assert known(acme)
    assert not known(other)
    assert not known(acme, other)
    assert not known(Ref("crm", "companies", "3"))


def test_that_a_record_we_know_was_made_is_no_news():
    assert is_echo(MAPPING, BASE, [], Context(), {})


def test_the_same_from_somebody_else_is_looked_at():
    assert not echo({"LastName": "Lovelace"}, ours=False)


#: What stands there, and what is told of it; the few values meet each other often.
VALUES = st.sampled_from([None, "", "Ada", "x", "+14155550100", "+14155550101"])


@given(
    st.fixed_dictionaries(dict.fromkeys(sorted(RAW), VALUES)),
    st.dictionaries(st.sampled_from(sorted(RAW)), VALUES, min_size=1),
)
def test_an_echo_never_hides_a_difference(raw, fields):
    base = to_canonical(MAPPING, raw, Context())
    if is_echo(MAPPING, base, [Claim(NOON, fields, {}, None, by_program=True)], Context(), {}):
        assert to_canonical(MAPPING, {**raw, **fields}, Context()) == base
