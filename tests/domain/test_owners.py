"""Owners travel by e-mail; who has no user somewhere is stood in for, or changes nothing."""

from __future__ import annotations

from typing import Any

from app.config import OwnersConfig
from app.domain.codecs import ABSENT, Context
from app.domain.merge import Winner, behind, merge
from app.domain.owners import OWNER, check
from app.domain.values import Directory

THERE = Directory(
    owners={"1": "ana@x.example", "2": "left@x.example", "3": "bo@crm.example"},
    retired=frozenset({"2"}),
)
RULES = OwnersConfig(
    aliases={"Bo@x.example": "bo@crm.example"},
    stand_ins={"left@x.example": "bo@crm.example"},
    default="ana@x.example",
)


def get(id: str | None, rules: OwnersConfig | None = None) -> Any:
    return OWNER.get([id], Context(directory=THERE, owners=rules or OwnersConfig()))[0]


def put(mail: str | None, rules: OwnersConfig | None = None) -> Any:
    return OWNER.put([mail], Context(directory=THERE, owners=rules or OwnersConfig()))[0]


def test_an_owner_travels_by_e_mail_and_a_stranger_changes_nothing():
    assert (get("1"), put("ana@x.example"), put("Ana@X.example")) == ("ana@x.example", "1", "1")
    assert (get("9"), put("stranger@x.example")) == (ABSENT, ABSENT)
    assert (get(""), put(None)) == (None, None)


def test_a_retired_owner_is_read_and_never_given_anything():
    assert (get("2"), put("left@x.example")) == ("left@x.example", ABSENT)


def test_an_alias_is_the_same_person_both_ways():
    assert (put("bo@x.example", RULES), get("3", RULES)) == ("3", "bo@x.example")


def test_a_stand_in_and_the_default_serve_one_way():
    assert put("left@x.example", RULES) == "3"
    assert put("stranger@x.example", RULES) == "1"
    assert get("1", RULES) == "ana@x.example"


def test_what_a_stand_in_owns_is_not_read_back_as_an_edit():
    ours = {"owner": "stranger@x.example"}
    written = put(ours["owner"], RULES)
    base, sent = {"owner": get(written, RULES)}, dict(ours)  # as after every write
    echo = {"owner": get(written, RULES)}
    found = merge(base, sent, ours, echo, policy=lambda *_: (Winner.THEIRS, "theirs wins"))
    assert (found.takes, found.clashes) == ((), ())
    assert behind(found.base, found.sent, ours, ["owner"]) == frozenset()


def test_the_check_names_addresses_that_can_own_nothing_there():
    rules = OwnersConfig(default="left@x.example", aliases={"a@x.example": "bo@crm.example"})
    (finding,) = check(rules, THERE)
    assert (finding.ok, finding.detail) == (
        False,
        "left@x.example: no active user there has this address",
    )
    assert check(RULES, THERE) == []
