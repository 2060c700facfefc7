"""What a mapping puts, it gets back; and what a vendor did not say stays unsaid."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.domain.codecs import Context, join_name, split_name
from app.domain.mapping import (
    EntityMapping,
    compile_mapping,
    overlay,
    to_canonical,
    to_remote,
)
from app.errors import ConfigError


def built_in(connector: str, entity: str) -> EntityMapping:
    text = (files("app.connectors") / connector / "mapping.yaml").read_text()
    return compile_mapping(entity, yaml.safe_load(text)[entity], where=connector)


word = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)


@given(word, st.lists(word, min_size=1, max_size=3))
def test_a_name_joined_there_is_split_as_it_was_here(first, rest):
    last = " ".join(rest)
    mapping = built_in("close", "person")
    remote, _ = to_remote(
        mapping, ["first_name"], {"first_name": first, "last_name": last}, Context()
    )
    context = Context(hints=({"first_name": first, "last_name": last},))
    back = to_canonical(mapping, remote, context)
    assert (back["first_name"], back["last_name"]) == (first, last)


@given(st.lists(word, min_size=1, max_size=5))
def test_splitting_a_name_loses_no_word(words):
    text = " ".join(words)
    assert join_name(*split_name(text)) == text


@pytest.mark.parametrize(
    ("full", "first", "last"),
    [
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("Ludwig van Beethoven", "Ludwig", "van Beethoven"),
        ("Mary Jane Watson", "Mary Jane", "Watson"),
        ("Madonna", "Madonna", None),
        ("", None, None),
    ],
)
def test_names_are_split_the_usual_way(full, first, last):
    assert split_name(full) == (first, last)


def test_a_renamed_person_keeps_the_part_that_did_not_change():
    mapping = built_in("close", "person")
    context = Context(hints=({"first_name": "Mary Jane", "last_name": "Watson"},))
    found = to_canonical(mapping, {"name": "Mary Jane Parker"}, context)
    assert (found["first_name"], found["last_name"]) == ("Mary Jane", "Parker")


@given(st.integers(min_value=0, max_value=10**12))
def test_cents_come_back_as_the_same_cents(cents):
    mapping = built_in("close", "deal")
    found = to_canonical(mapping, {"value": cents, "value_currency": "USD"}, Context())
    remote, _ = to_remote(mapping, ["amount"], found, Context())
    assert remote == {"value": cents}


def test_a_currency_without_cents_has_none():
    mapping = built_in("close", "deal")
    found = to_canonical(mapping, {"value": 5000, "value_currency": "JPY"}, Context())
    assert found["amount"] == "5000"


def test_null_zero_empty_and_missing_are_kept_apart():
    mapping = built_in("close", "deal")
    assert (
        to_canonical(mapping, {"value": None, "value_currency": "USD"}, Context())["amount"] is None
    )
    assert to_canonical(mapping, {"value": 0, "value_currency": "USD"}, Context())["amount"] == "0"
    assert "amount" not in to_canonical(mapping, {"note": "x"}, Context())
    assert to_canonical(mapping, {"note": ""}, Context()) == {"description": ""}


def test_an_operators_row_replaces_what_it_overlaps():
    laid = overlay({"name": {"path": "lead_name"}, "description": "note"}, {"name": "custom.cf_1"})
    mapping = compile_mapping("deal", laid, where="syncline.yaml")
    assert to_canonical(mapping, {"custom.cf_1": "Big", "lead_name": "Acme"}, Context()) == {
        "name": "Big"
    }


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({"nmae": "x"}, "'nmae' is not a field of person"),
        ({"title": {"path": "x", "as": "txet"}}, "unknown transform 'txet'"),
        ({"title": {"as": "text"}}, "name a path or paths"),
    ],
)
def test_a_row_that_cannot_work_is_refused_with_its_place(rows, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        compile_mapping("person", rows, where="syncline.yaml:3")
    assert str(caught.value).startswith("syncline.yaml:3: person.")
