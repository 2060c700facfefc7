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
    says_the_same,
    to_canonical,
    to_remote,
)
from app.domain.stages import kinds_of
from app.domain.values import Directory, Pipeline, Stage
from app.errors import ConfigError

SALES = Pipeline(
    "pipe_1",
    "Sales",
    (
        Stage("stat_new", "New", "open"),
        Stage("stat_qualified", "Qualified", "open"),
        Stage("stat_won", "Won", "won"),
        Stage("stat_lost", "Lost", "lost"),
    ),
)
DEFAULT = Pipeline(
    "default",
    "Sales Pipeline",
    (
        Stage("appointmentscheduled", "Appointment Scheduled", "open"),
        Stage("qualifiedtobuy", "Qualified To Buy", "open"),
        Stage("closedwon", "Closed Won", "won"),
        Stage("closedlost", "Closed Lost", "lost"),
    ),
)
CLOSE, HUBSPOT = Directory((SALES,), {"user_1": "ana@x.example"}), Directory((DEFAULT,))
KINDS = kinds_of([CLOSE, HUBSPOT])


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


@pytest.mark.parametrize(
    ("stage", "remote"),
    [
        ("Won", "closedwon"),  # by class
        ("Closed Lost", "closedlost"),  # by name
        ("closed lost", "closedlost"),  # whatever the case
    ],
)
def test_stages_match_by_name_then_by_class(stage, remote):
    context = Context(directory=HUBSPOT, kinds=KINDS, current={})
    found, held = to_remote(
        built_in("hubspot", "deal"), ["stage"], {"stage": stage, "pipeline": "Sales"}, context
    )
    assert found == {"dealstage": remote, "pipeline": "default"}
    assert held == {}


def test_a_configured_stage_wins_by_id_or_by_name():
    for own in ("qualifiedtobuy", "Qualified To Buy"):
        context = Context(directory=HUBSPOT, kinds=KINDS, stages={"Qualified": own})
        found, _ = to_remote(
            built_in("hubspot", "deal"), ["stage"], {"stage": "Qualified"}, context
        )
        assert found["dealstage"] == "qualifiedtobuy"
        raw = {"dealstage": "qualifiedtobuy", "pipeline": "default"}
        assert to_canonical(built_in("hubspot", "deal"), raw, context)["stage"] == "Qualified"


def test_an_open_stage_that_matches_nothing_leaves_an_open_deal_where_it_is():
    context = Context(directory=HUBSPOT, kinds=KINDS, current={"stage": "Appointment Scheduled"})
    found, held = to_remote(built_in("hubspot", "deal"), ["stage"], {"stage": "New"}, context)
    assert (found, held) == ({}, {})


def test_a_create_takes_the_entry_stage():
    context = Context(directory=HUBSPOT, kinds=KINDS, current=None)
    found, _ = to_remote(built_in("hubspot", "deal"), ["stage"], {"stage": "New"}, context)
    assert found["dealstage"] == "appointmentscheduled"


def test_a_stage_of_no_known_class_is_held_with_a_reason():
    context = Context(directory=HUBSPOT, kinds=KINDS, current={"stage": "Closed Won"})
    found, held = to_remote(built_in("hubspot", "deal"), ["stage"], {"stage": "Limbo"}, context)
    assert found == {}
    assert "Limbo" in held["stage"]


def test_two_words_for_one_stage_are_no_difference():
    mapping = built_in("hubspot", "deal")
    context = Context(directory=HUBSPOT, kinds=KINDS, current={"stage": "Closed Won"})
    raw = {"dealstage": "closedwon", "pipeline": "default"}
    ours = {"stage": "Won", "pipeline": "Sales"}
    assert says_the_same(mapping, ["stage"], ours, raw, context) == {"stage"}


def test_an_owner_travels_by_e_mail_and_a_stranger_changes_nothing():
    mapping = built_in("close", "deal")
    context = Context(directory=CLOSE)
    assert to_canonical(mapping, {"user_id": "user_1"}, context) == {"owner": "ana@x.example"}
    assert to_canonical(mapping, {"user_id": "user_9"}, context) == {}
    assert to_remote(mapping, ["owner"], {"owner": "ana@x.example"}, context)[0] == {
        "user_id": "user_1"
    }
    assert to_remote(mapping, ["owner"], {"owner": "bob@x.example"}, context)[0] == {}


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
