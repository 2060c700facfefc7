"""A value that is no option there is held; the rest of the write goes."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.codecs import Context
from app.domain.draft import outgoing
from app.domain.mapping import compile_mapping
from app.domain.picklists import limited, options_of
from app.domain.values import Directory, RemoteField

ROWS: dict[str, Any] = {
    "title": "jobtitle",
    "lead_status": {"path": "status", "values": {"Open": "OPEN"}, "unmapped": "pass"},
    "lifecycle_stage": "stage",
    "custom.tags": {"path": "tags", "as": "multi_select"},
    "custom.made": {"path": "made", "values": {"A": "a"}, "unmapped": "create"},
}
MAPPING = compile_mapping("person", ROWS, where="here")
THERE = {
    "status": ["OPEN", "DONE"],
    "stage": ["lead", "customer"],
    "tags": ["red", "green"],
    "made": ["a"],
}


def sent(base: Any = None, **ours: Any) -> tuple[dict[str, Any], list[str]]:
    fields = {name.replace("custom_", "custom."): value for name, value in ours.items()}
    context = Context(directory=Directory(options={"person": THERE}))
    remote, held = outgoing(MAPPING, list(fields), fields, base, context)
    return remote, sorted(held)


def test_what_is_an_option_goes_and_what_is_none_is_held():
    found = sent(title="CEO", lead_status="Open", lifecycle_stage="partner")
    assert found == ({"jobtitle": "CEO", "status": "OPEN"}, ["lifecycle_stage"])


def test_a_value_that_passes_its_map_is_held_all_the_same_where_the_account_has_no_such_option():
    assert sent(lead_status="DONE") == ({"status": "DONE"}, [])
    assert sent(lead_status="Lost") == ({}, ["lead_status"])


@pytest.mark.parametrize("tags", [["red"], ["green", "red"]])
def test_each_of_several_choices_must_be_an_option(tags: list[str]):
    remote, held = sent(custom_tags=tags)
    assert (list(remote), held) == (["tags"], [])
    assert sent(custom_tags=[*tags, "blue"]) == ({}, ["custom.tags"])


def test_a_clear_is_always_possible():
    base = {"lifecycle_stage": "lead"}
    assert sent(base, lifecycle_stage=None) == ({"stage": None}, [])


def test_what_stands_there_already_is_not_held():
    base = {"lifecycle_stage": "partner"}  # an option that was archived since
    assert sent(base, lifecycle_stage="partner") == ({}, [])


def test_an_option_that_is_to_be_made_is_not_missed():
    assert sent(custom_made="B") == ({"made": "B"}, [])
    assert "made" not in limited(MAPPING)


def test_an_account_that_tells_no_options_takes_anything():
    assert options_of({"stage": RemoteField("stage")}, limited(MAPPING)) == {}
    fields = {"lifecycle_stage": "partner"}
    assert outgoing(MAPPING, list(fields), fields, None, Context())[0] == {"stage": "partner"}
