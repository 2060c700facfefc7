"""Activities and tasks: what is put into a CRM is read back, and an author's line is no edit."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.domain import richtext
from app.domain.activities import TRANSFORMS
from app.domain.codecs import ABSENT, Context
from app.domain.draft import outgoing
from app.domain.mapping import (
    EntityMapping,
    compile_mapping,
    says_the_same,
    to_canonical,
    to_remote,
)
from app.domain.values import Directory

ANA, BOB = "ana@x.example", "bob@x.example"
THERE = Context(
    directory=Directory(owners={"u1": BOB}),
    names={ANA: "Ana Lima"},
    accounts=frozenset({"here", "there"}),
    via="here",
)
BODY = {("close", "note"): "note_html", ("hubspot", "note"): "hs_note_body"}


@cache
def built_in(connector: str, entity: str) -> EntityMapping:
    text = (files("app.connectors") / connector / "mapping.yaml").read_text()
    return compile_mapping(entity, yaml.safe_load(text)[entity], where=connector)


def put(connector: str, entity: str, context: Context = THERE, **fields: Any) -> dict[str, Any]:
    remote, held = to_remote(built_in(connector, entity), fields, fields, context)
    assert held == {}
    # Close shows a plain twin of each of its rich texts, and when it was made.
    shown = {"note": "", "date_created": "2026-01-01T00:00:00Z"} if connector == "close" else {}
    return {**shown, **remote}


def get(connector: str, entity: str, raw: dict[str, Any], context: Context = THERE) -> Any:
    return to_canonical(built_in(connector, entity), raw, context)


def round_trip(connector: str, entity: str, **fields: Any) -> None:
    back = get(connector, entity, put(connector, entity, **fields))
    assert {name: back[name] for name in fields} == fields


markup = st.text(max_size=60).map(richtext.normal)
systems = pytest.mark.parametrize("connector", ["close", "hubspot"])


@systems
@pytest.mark.parametrize("entity", ["note", "call"])
@given(body=markup.filter(bool))
def test_a_text_is_read_back_as_it_was_put(connector, entity, body):
    round_trip(connector, entity, body=body, author=BOB)


@systems
@pytest.mark.parametrize("entity", ["note", "call"])
@given(body=markup)
def test_the_line_of_an_author_without_a_user_is_written_and_never_read(connector, entity, body):
    raw = put(connector, entity, body=body, author=ANA)
    assert any("(by Ana Lima, via here)</p>" in str(value) for value in raw.values())
    back = get(connector, entity, raw)
    assert back["body"] == (body or None)
    assert "author" not in back  # whoever is shown there only lent us a key


@systems
def test_the_line_survives_an_editor_that_joins_paragraphs(connector):
    html = "<p>Hello<br>(by Ana Lima, via here)</p>"
    html = f"<body>{html}</body>" if connector == "close" else html
    raw = {"note": "", BODY[connector, "note"]: html, "user_id": "u1", "hubspot_owner_id": "u1"}
    assert get(connector, "note", raw)["body"] == "<p>Hello</p>"


@systems
def test_a_line_that_names_no_account_of_ours_is_a_persons_own(connector):
    raw = put(connector, "note", body="<p>Hello</p><p>(by Bob, via phone)</p>", author=BOB)
    assert "via phone" in get(connector, "note", raw)["body"]


@systems
def test_an_edit_of_the_text_keeps_the_line_and_leaves_the_user_alone(connector):
    base = {"body": "<p>a</p>", "author": ANA}
    fields, _ = outgoing(
        built_in(connector, "note"), ["body"], {**base, "body": "<p>b</p>"}, base, THERE
    )
    (value,) = fields.values()
    assert value.removeprefix("<body>").startswith("<p>b</p><p>(by Ana Lima, via here)</p>")


@systems
def test_the_line_is_no_difference(connector):
    raw = put(connector, "note", body="<p>a</p>", author=ANA)
    ours = {"body": "<p>a</p>", "author": ANA}
    mapping = built_in(connector, "note")
    same = says_the_same(mapping, ["body", "author"], ours, raw, THERE)
    assert same == {"body", "author"}


def test_an_author_is_never_cleared():
    for connector, name in (("close", "user_id"), ("hubspot", "hubspot_owner_id")):
        assert name not in put(connector, "note", body="<p>a</p>", author=None)


def test_what_a_vendor_does_to_markup_is_no_edit():
    ours = "<p>Call <strong>Jane</strong><br>today</p>"
    for html in (
        "<body><p>Call <b>Jane</b><br />today</p></body>",
        '<body><div class="x">Call <strong>Jane</strong><br/>today</div></body>',
    ):
        assert (
            get("close", "note", {"note": "", "note_html": html, "user_id": None})["body"] == ours
        )


def test_a_note_without_a_rich_text_is_what_its_plain_one_says():
    assert get("close", "note", {"note": "a < b", "user_id": None})["body"] == "<p>a &lt; b</p>"


# ------------------------------------------------------------------------- times and words

moments = st.datetimes().map(lambda at: f"{at.replace(microsecond=0).isoformat()}Z")


@systems
@given(at=moments)
def test_the_time_of_an_activity_is_its_own_and_not_that_of_its_logging(connector, at):
    round_trip(connector, "note", at=at)


def test_what_has_no_time_of_its_own_happened_when_it_was_logged():
    raw = {"date_created": "2026-01-14T09:12:31.417000+00:00", "activity_at": None}
    assert get("close", "note", raw)["at"] == "2026-01-14T09:12:31.417Z"


@systems
@pytest.mark.parametrize("due", ["2026-02-01", "2026-02-01T09:30:00Z"])
def test_a_task_is_due_on_a_day_or_at_a_moment(connector, due):
    round_trip(connector, "task", due=due)


@systems
@given(
    direction=st.sampled_from(["inbound", "outbound"]),
    duration=st.integers(0, 10**6),
    outcome=st.sampled_from(["completed", "no_answer", "busy", "failed", "canceled"]),
)
def test_the_facts_of_a_call_are_read_back(connector, direction, duration, outcome):
    round_trip(connector, "call", direction=direction, duration=duration, outcome=outcome)
    round_trip(connector, "call", direction=direction, phone="+14155550100")


@systems
@given(status=st.sampled_from(["open", "done"]))
def test_a_task_is_open_or_done(connector, status):
    round_trip(connector, "task", status=status)


def test_a_call_in_hubspot_lasts_milliseconds():
    assert put("hubspot", "call", duration=125)["hs_call_duration"] == "125000"


def test_a_word_that_the_other_side_lacks_changes_nothing_there():
    assert "status" not in put("close", "call", outcome="missed")
    assert "priority" not in put("close", "task", priority="low")


# ------------------------------------------------------------------------------- e-mails


def test_an_email_in_close_is_logged_and_never_sent():
    for direction, status in (("inbound", "inbox"), ("outbound", "sent")):
        assert put("close", "email", direction=direction)["status"] == status


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@systems
def test_an_email_went_in_or_out(connector, direction):
    round_trip(connector, "email", direction=direction)


def test_addresses_are_read_out_of_what_stands_around_them():
    raw = {"sender": '"Ana, Lima" <Ana@x.example>', "to": ["Bob <bob@x.example>"], "cc": []}
    found = get("close", "email", raw)
    assert (found["from"], found["to"], found["cc"]) == (ANA, [BOB], [])


def test_hubspot_shows_whom_its_headers_name():
    written: dict[str, Any] = {"from": ANA, "to": [BOB], "cc": []}
    raw = put("hubspot", "email", **written)
    assert raw["hs_email_headers"] == (
        '{"from":{"email":"ana@x.example"},"to":[{"email":"bob@x.example"}]}'
    )
    shown = {"hs_email_from_email": ANA, "hs_email_to_email": f"{BOB};{ANA}"}
    found = get("hubspot", "email", shown)
    assert (found["from"], found["to"], found["cc"]) == (ANA, [ANA, BOB], [])


# --- of systems that keep a day where others keep a moment


def in_zone(name: str | None) -> Context:
    return Context(directory=Directory(zone=name))


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        (None, "2026-01-13T09:30:00Z", "2026-01-13"),
        ("America/New_York", "2026-01-13T02:00:00Z", "2026-01-12"),
        ("Asia/Tokyo", "2026-01-13T16:00:00Z", "2026-01-14"),
    ],
)
def test_a_call_is_logged_on_the_day_that_it_was_there(zone, at, day):
    codec, where = TRANSFORMS["logged_on"], in_zone(zone)
    assert codec.put([at], where) == [day, ABSENT]
    assert codec.get([day, at], where) == [at]  # it was made on that day: then is when
    assert TRANSFORMS["due_day"].put([at], where) == [day]


def test_a_call_that_was_logged_later_was_at_the_beginning_of_its_day():
    codec = TRANSFORMS["logged_on"]
    later = "2026-01-20T12:00:00.000+0000"
    assert codec.get(["2026-01-13", later], in_zone(None)) == ["2026-01-13T00:00:00Z"]
    assert codec.get(["2026-01-13", later], in_zone("America/New_York")) == ["2026-01-13T05:00:00Z"]
    assert codec.get([None, later], in_zone(None)) == ["2026-01-20T12:00:00Z"]
    assert codec.get(["soon", None], in_zone(None)) == ["soon"]
    assert codec.put([None], in_zone(None)) == [None, ABSENT]


def test_a_day_stays_that_day_whatever_the_zone():
    for zone in (None, "America/New_York", "Asia/Tokyo"):
        assert TRANSFORMS["due_day"].put(["2026-01-13"], in_zone(zone)) == ["2026-01-13"]


def test_a_text_without_marks_names_its_author_in_a_line_of_its_own():
    codec = TRANSFORMS["signed_text"]
    context = Context(
        directory=Directory(owners={"005": "ada@x.example"}),
        accounts=frozenset({"close"}),
        via="close",
    )
    assert codec.put(["<p>One</p><p><b>Two</b></p>", "ada@x.example"], context) == [
        "One\nTwo",
        "005",
    ]
    text, user = codec.put(["<p>One</p>", "bo@x.example"], context)
    assert (text, user) == ("One\n(by bo@x.example, via close)", ABSENT)
    assert codec.get([text, "005"], context) == ["<p>One</p>", ABSENT]
    assert codec.get(["One\nTwo", "005"], context) == ["<p>One<br>Two</p>", "ada@x.example"]
