"""The mapping language: templates, filters, value maps, conditions, constants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.codecs import ABSENT, Context
from app.domain.conditions import compile_condition
from app.domain.draft import outgoing
from app.domain.filters import FILTERS
from app.domain.mapping import EntityMapping, compile_mapping, tailored, to_canonical, to_remote
from app.domain.merge import behind
from app.domain.proof import prove
from app.domain.templates import compile_template
from app.errors import ConfigError


def render(template: str, **values: Any) -> Any:
    return compile_template(template).render(values)


def mapping_of(**rows: Any) -> EntityMapping:
    named = {
        key.replace("__", ", ").replace("custom_", "custom."): row for key, row in rows.items()
    }
    return compile_mapping("person", named, where="syncline.yaml:3: accounts.x.mapping")


def written(mapping: EntityMapping, fields: dict[str, Any], *names: str) -> dict[str, Any]:
    told = tailored(mapping, fields)
    return to_remote(mapping, names or told.keys(), told, Context())[0]


# ------------------------------------------------------------------------------ templates


@pytest.mark.parametrize(
    ("template", "value", "shown"),
    [
        ("{{x|truncate:5}}", "abcdefgh", "abcde"),
        ("{{x|truncate:5}}", "abc", "abc"),
        ('{{x|truncate:5,"…"}}', "abcdefgh", "abcd…"),
        ("{{x|upper}}", "Zoë", "ZOË"),
        ("{{ x | lower }}", "ABC", "abc"),
        ("{{x|title}}", "ada lovelace", "Ada Lovelace"),
        ("{{x|trim}}", "  a   b ", "a b"),
        ('{{x|default:"none"}}', None, "none"),
        ('{{x|default:"none"}}', "", "none"),
        ('{{x|default:"none"}}', 0, 0),
        ('{{x|default:"none"}}', False, False),
        ('{{x|replace:"a","b"}}', "banana", "bbnbnb"),
        ("{{x|replace:'|',', '}}", "a|b", "a, b"),
        ('{{x|date:"%d.%m.%Y"}}', "2026-01-31", "31.01.2026"),
        ('{{x|date:"%d.%m.%Y %H:%M"}}', "2026-01-31T23:30:00Z", "31.01.2026 23:30"),
        ('{{x|date:"%d.%m. %H:%M","Europe/Berlin"}}', "2026-01-31T23:30:00Z", "01.02. 00:30"),
        ('{{x|date:"%d.%m.%Y","America/New_York"}}', "2026-01-31", "31.01.2026"),
        ('{{x|date:"%Y"}}', "some day", "some day"),
        ("{{x|number:2}}", "1234.5", "1234.50"),
        ('{{x|number:2,".",","}}', "1234567.5", "1.234.567,50"),
        ("{{x|number:0}}", "a lot", "a lot"),
        ('{{x|split:","|first}}', "a, b, c", "a"),
        ('{{x|split:","|last}}', "a, b, c", "c"),
        ('{{x|split:";"|join:" / "}}', "a;b", "a / b"),
        ('{{x|join:"; "}}', ["a", "b"], "a; b"),
        ("{{x|first}}", "Mary Jane Watson", "Mary"),
        ("{{x|last}}", "Mary Jane Watson", "Watson"),
        ("{{x|strip_html}}", "<p>Ada &amp; <b>Bob</b></p>", "Ada & Bob"),
        ("{{x|digits}}", "+1 (415) 555-0100", "14155550100"),
        ("{{x|upper|truncate:2}}", "abc", "AB"),
        ("{{x}}!", 0, "0!"),
        ("{{x}}!", False, "false!"),
        ("{{x}}!", None, None),
        ("{{x}}", 5, 5),
        ("{{x}}", ["a"], ["a"]),
        ("{{x}}", None, None),
        ("{{x}}", "", ""),
    ],
)
def test_a_template_says(template, value, shown):
    assert render(template, x=value) == shown
    assert type(render(template, x=value)) is type(shown)


def test_a_part_that_is_missing_leaves_no_gap():
    template = "{{first}} {{middle}} {{last|upper}}"
    assert render(template, first="Ada", middle=None, last="Lovelace") == "Ada LOVELACE"
    assert render(template, first=None, middle=None, last=None) is None
    assert render(template) is ABSENT


@given(st.sampled_from(sorted(FILTERS)), st.none() | st.booleans() | st.text() | st.floats())
def test_no_filter_fails_on_a_value(name, value):
    arguments = {
        "truncate": ":3",
        "default": ":x",
        "replace": ":a,b",
        "date": ':"%Y"',
        "number": ":2",
    }
    render(f"{{{{x|{name}{arguments.get(name, '')}}}}}", x=value)


def test_a_text_is_cut_before_it_can_fill_the_memory():
    assert len(render("{{x|replace:'a','" + "b" * 60 + "'}}" * 1, x="a" * 60_000)) == 65_536
    assert len(render("{{x}}{{x}}", x="a" * 60_000)) == 65_536


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{x", "braces that do not close"),
        ("x}}", "braces that do not close"),
        ("{{}}", "names nothing"),
        ("{{x y}}", "'y' is not understood; a filter follows a |"),
        ("{{x|shout}}", "there is no filter 'shout'; there are truncate, upper"),
        ("{{x|truncate}}", "the filter truncate is written truncate:50"),
        ("{{x|truncate:many}}", "the filter truncate: 'many' is not a number"),
        ("{{x|truncate:}}", "the filter truncate: an argument is missing"),
        ("{{x|upper:1}}", "the filter upper is written upper"),
        ('{{x|date:"%Y","Berlin"}}', "there is no time zone 'Berlin'"),
        ("{{x.__class__()}}", "'()' is not understood"),
    ],
)
def test_a_template_that_cannot_be_understood_is_refused(template, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        compile_template(template)


def documented() -> list[tuple[str, str, str]]:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    table = page.partition("### Templates")[2].partition("### Value maps")[0]
    row = r"^\| `(\w+.*?)` \| .+? \|(?: `(.*?)`)? \| `(.*?)` \|$"
    return re.findall(row, table, re.M)


@pytest.mark.parametrize(("filter_", "value", "shown"), documented())
def test_a_filter_does_what_its_row_in_the_documentation_says(filter_, value, shown):
    assert render(f"{{{{x|{filter_}}}}}!", x=value or None) == f"{shown}!"


def test_every_filter_is_documented():
    assert {row[0].partition(":")[0] for row in documented()} == set(FILTERS)


# ----------------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ("stage = customer", {"stage": "customer"}, True),
        ("stage = customer", {}, False),
        ("stage != customer", {}, True),
        ("stage in (lead, 'big customer')", {"stage": "big customer"}, True),
        ("stage not in (lead, customer)", {"stage": "customer"}, False),
        ("stage is blank", {"stage": ""}, True),
        ("stage is blank", {"stage": 0}, False),
        ("stage is not blank", {"stage": False}, True),
        ("tags = red", {"tags": ["blue", "red"]}, True),
        ("active = true", {"active": True}, True),
        ("employees >= 500", {"employees": 1000}, True),
        ("employees > 500", {"employees": "99"}, False),
        ("employees < 500", {}, False),
        ("due < 2026-02-01", {"due": "2026-01-31"}, True),
        ("a = 1 or b = 1 and c = 1", {"a": 1}, True),
        ("(a = 1 or b = 1) and c = 1", {"a": 1}, False),
        ("not a = 1 and not (b is blank)", {"a": 2, "b": 3}, True),
    ],
)
def test_a_condition_holds(condition, values, holds):
    assert compile_condition(condition).holds(values) is holds


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("", "ends where the name of a field should be"),
        ("stage", "after 'stage' comes =, !="),
        ("stage =", "ends where a value should be"),
        ("stage = and", "'and' stands where a value should"),
        ("stage in lead", "a '(' is missing"),
        ("(stage = lead", "a ')' is missing"),
        ("stage = big customer", "'customer' is not understood; join conditions by and, or"),
        ("stage == lead", "'=' stands where a value should"),
        ("__import__('os')", "after '__import__' comes"),
    ],
)
def test_a_condition_that_cannot_be_understood_is_refused(condition, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        compile_condition(condition)


# ----------------------------------------------------------------------------------- rows


def test_a_value_made_for_an_account_is_written_and_told_by_what_it_was_made_to_be():
    mapping = mapping_of(
        first_name="first",
        custom_full={
            "path": "full",
            "template": "{{first_name}} {{last_name|upper}}",
            "direction": "to",
        },
    )
    ada = {"first_name": "Ada", "last_name": "Lovelace"}
    assert written(mapping, ada) == {"first": "Ada", "full": "Ada LOVELACE"}
    assert to_canonical(mapping, {"first": "Ada", "full": "junk"}, Context()) == {
        "first_name": "Ada"
    }
    # The account renamed her itself: what was made for it is behind now, and nothing else.
    base = {"first_name": "Augusta", "custom.full": "Ada LOVELACE"}
    told = tailored(mapping, {**ada, "first_name": "Augusta"})
    assert behind(base, {}, told, mapping.writable(creating=False)) == {"custom.full"}
    assert outgoing(mapping, ["custom.full"], told, base, Context()) == (
        {"full": "Augusta LOVELACE"},
        {},
    )


def test_a_template_reads_remote_paths_where_the_row_is_only_read():
    mapping = mapping_of(
        title={"template": "{{job}} ({{custom.cf_1|lower}})", "direction": "from"},
        custom_day={"template": '{{when|split:" "|first}}', "as": "date", "direction": "from"},
    )
    raw = {"job": "CEO", "custom.cf_1": "SALES", "when": "2026-01-31 12:00"}
    assert to_canonical(mapping, raw, Context()) == {
        "title": "CEO (sales)",
        "custom.day": "2026-01-31",
    }
    assert to_canonical(mapping, {"other": 1}, Context()) == {}
    assert mapping.paths == ("job", "custom.cf_1", "when")
    assert written(mapping, {"title": "x", "custom.day": "y"}) == {}


def test_text_around_one_value_goes_both_ways():
    mapping = mapping_of(
        custom_id={"path": "link", "template": "https://x.example/{{custom.id}}/edit"}
    )
    assert written(mapping, {"custom.id": "42"}) == {"link": "https://x.example/42/edit"}
    raw = {"link": "https://x.example/42/edit"}
    assert to_canonical(mapping, raw, Context()) == {"custom.id": "42"}
    for blank in (None, ""):
        assert written(mapping, {"custom.id": blank}) == {"link": blank}
    assert to_canonical(mapping, {"link": "other"}, Context()) == {"custom.id": "other"}


def test_one_path_may_have_several_ways_to_make_its_value():
    mapping = mapping_of(
        custom_big={
            "path": "size",
            "constant": "big",
            "direction": "to",
            "when": "custom.employees >= 500",
        },
        custom_small={"path": "size", "constant": "small", "direction": "to"},
    )
    assert written(mapping, {"custom.employees": 600}) == {"size": "big"}
    assert written(mapping, {"custom.employees": 6}) == {"size": "small"}
    # One memory of what was told: back and forth is written each time.
    told = tailored(mapping, {"custom.employees": 600})
    assert behind({"custom.big": "small"}, {}, told, mapping.writable(creating=False)) == {
        "custom.big"
    }


def test_a_row_applies_only_while_its_condition_holds():
    mapping = mapping_of(
        lead_status="status",
        title={"path": "job", "when": "lead_status = open"},
    )
    assert written(mapping, {"lead_status": "open", "title": "CEO"}) == {
        "status": "open",
        "job": "CEO",
    }
    assert written(mapping, {"lead_status": "closed", "title": "CEO"}) == {"status": "closed"}
    raw = {"status": "closed", "job": "CEO"}
    assert to_canonical(mapping, raw, Context()) == {"lead_status": "closed"}
    assert to_canonical(mapping, {**raw, "status": "open"}, Context())["title"] == "CEO"


def test_a_condition_of_a_row_that_is_only_read_looks_at_remote_paths():
    mapping = mapping_of(
        custom_source={"constant": "web", "direction": "from", "when": "origin in (form, chat)"},
    )
    assert to_canonical(mapping, {"origin": "chat"}, Context()) == {"custom.source": "web"}
    assert to_canonical(mapping, {"origin": "phone"}, Context()) == {}
    assert mapping.paths == ("origin",)


def test_a_value_map_speaks_their_words():
    mapping = mapping_of(
        lead_status={"path": "s", "values": {"Open": "OPEN", "Lost": "UNQUALIFIED"}},
        custom_vip={"path": "v", "as": "boolean", "values": {"true": "Yes", "false": "No"}},
        custom_tags={"path": "t", "as": "multi_select", "values": {"Red": "r", "Blue": "b"}},
    )
    ours = {"lead_status": "Lost", "custom.vip": False, "custom.tags": ["Blue", "Red"]}
    theirs = {"s": "UNQUALIFIED", "v": "No", "t": ["b", "r"]}
    assert written(mapping, ours) == theirs
    assert to_canonical(mapping, theirs, Context()) == ours
    assert to_canonical(mapping, {"t": "r;b"}, Context()) == {"custom.tags": ["Blue", "Red"]}
    assert written(mapping, dict.fromkeys(ours)) == dict.fromkeys(theirs)


@pytest.mark.parametrize(
    ("policy", "put", "got"),
    [
        ({}, "held", ABSENT),
        ({"unmapped": "hold"}, "held", ABSENT),
        ({"unmapped": "default", "default": "OTHER"}, "OTHER", ABSENT),
        ({"unmapped": "pass"}, "New", "NEW"),
        ({"unmapped": "create"}, "New", "NEW"),
    ],
)
def test_a_value_that_is_not_mapped_goes_by_policy(policy, put, got):
    mapping = mapping_of(lead_status={"path": "s", "values": {"Open": "OPEN"}, **policy})
    remote, held = to_remote(mapping, ["lead_status"], {"lead_status": "New"}, Context())
    if put == "held":
        assert remote == {}
        assert "'New' is not among the values" in held["lead_status"]
    else:
        assert (remote, held) == ({"s": put}, {})
    read = to_canonical(mapping, {"s": "NEW"}, Context())
    assert read.get("lead_status", ABSENT) == got


def test_what_passes_is_never_taken_for_another_value():
    mapping = mapping_of(lead_status={"path": "s", "values": {"Open": "OPEN"}, "unmapped": "pass"})
    _, held = to_remote(mapping, ["lead_status"], {"lead_status": "OPEN"}, Context())
    assert "'OPEN' there means 'Open'" in held["lead_status"]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            {"title": {"path": "x", "template": "{{nmae}}", "direction": "to"}},
            "'nmae' is not a field",
        ),
        ({"title": {"path": "x", "template": "{{title|upper}}"}}, "cannot be read back: say dir"),
        ({"title": {"path": "x", "template": "Dr", "direction": "to"}}, "no {{name}} in it"),
        ({"title": {"path": "x", "constant": "Dr"}}, "a constant goes one way"),
        ({"title": {"path": "x", "constant": "Dr", "direction": "from"}}, "leave out path"),
        (
            {"title": {"path": "x", "template": "{{title}}", "as": "date", "direction": "to"}},
            "leave out as and values",
        ),
        ({"title": {"path": "x", "when": "titel = 1"}}, "'titel' is not a field"),
        ({"title": {"path": "x", "when": "company = 1"}}, "'company' is another record"),
        ({"title": {"path": "x", "when": "title ="}}, "it ends where a value should be"),
        ({"title": {"path": "x", "unmapped": "pass"}}, "speak of values, and there are none"),
        (
            {"title": {"path": "x", "values": {"a": "b"}, "unmapped": "default"}},
            "belong together",
        ),
        ({"title": {"path": "x", "as": "cents"}}, "cents takes two fields and two paths"),
        ({"title": "x", "custom.y": "x"}, "'x' is already written by the row 'title'"),
        ({"title": "x", "title ": "y"}, "'title' has a row of its own already"),
    ],
)
def test_a_row_that_cannot_work_is_refused_with_its_place(rows, complaint):
    with pytest.raises(ConfigError) as caught:
        compile_mapping("person", rows, where="syncline.yaml:3")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("syncline.yaml:3: person.")


# ---------------------------------------------------------------------------------- proof


def proved(entity: str, rows: dict[str, Any], *, as_text: bool = False) -> str | None:
    mapping = compile_mapping(entity, rows, where="here")
    try:
        prove(mapping, as_text=as_text, where=lambda key: f"syncline.yaml:7: {key}")
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("entity", "rows", "counter_example"),
    [
        (
            "deal",
            {"close_date": {"path": "x", "as": "datetime"}},
            "`close_date`: '1999-12-31' is written as '1999-12-31' and read back as "
            "'1999-12-31T00:00:00Z'; make the row one-way (direction: to, or from)",
        ),
        ("deal", {"amount": {"path": "x", "as": "integer"}}, "`amount`: '0' is written as '0' and"),
        (
            "person",
            {"title": {"path": "x", "values": {"a": "same", "b": "same"}}},
            "`title`: 'b' is written as 'same' and read back as 'a'",
        ),
    ],
)
def test_a_row_that_does_not_bring_back_what_it_writes_is_refused(entity, rows, counter_example):
    said = proved(entity, rows)
    assert said is not None
    assert counter_example in said


def test_numbers_in_a_system_that_keeps_texts_need_a_transform():
    rows = {"employees": "numberofemployees"}
    assert proved("company", rows) is None
    said = proved("company", rows, as_text=True)
    assert said is not None
    assert "0 is written as '0' and read back as '0'" in said
    assert proved("company", {"employees": {"path": "x", "as": "integer"}}, as_text=True) is None


def test_a_row_that_goes_one_way_needs_no_proof():
    for direction in ("to", "from"):
        row = {"path": "x", "as": "integer", "direction": direction}
        assert proved("deal", {"amount": row}) is None


def test_the_refusal_names_its_place():
    said = proved("deal", {"amount": {"path": "x", "as": "integer"}})
    assert said is not None
    assert said.startswith("syncline.yaml:7: amount: ")
