"""What is peculiar to the activities and tasks of each system."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio

from app.connectors.close import connector as close_module
from app.domain.values import Change, Event, Page, Ref
from app.errors import RejectedError
from app.sdk import now
from app.sdk.connector import Connector
from tests.connectors.conftest import CLOSE, HUBSPOT, Control, delivery, good, make, write

API = "/close/api/v1"
AT = "2026-01-13T09:30:00Z"


def html(text: str) -> dict[str, str]:
    return {"note_html": f"<body><p>{text}</p></body>"}


@pytest_asyncio.fixture
async def lead(close: Connector) -> Ref:
    return await make(close, "company", {"name": "Acme"})


async def scanned(connector: Connector, entity: str, since: Any = None) -> list[str]:
    """The ids that a whole scan visits, in its order."""
    found: list[str] = []
    page: Page = await connector.scan(entity, None, since)
    while True:
        found += [one.ref.id for one in page.observations]
        if page.cursor is None:
            return found
        page = await connector.scan(entity, page.cursor, since)


# --------------------------------------------------------------------------------- Close


def parse_close(**event: Any) -> Event:
    whole = {"id": "ev_1", "date_updated": "2026-01-14T09:15:02", "action": "updated", **event}
    (found,) = CLOSE.kind.parse(delivery(orjson.dumps({"event": whole})), CLOSE.account())
    return found


def test_a_draft_is_not_shown_before_it_is_sent():
    email = {"object_type": "activity.email", "object_id": "acti_1"}
    draft = parse_close(**email, data={"status": "draft", "lead_id": "lead_1"})
    assert draft.ref == Ref("acme", "activity/email", "acti_1")
    assert draft.snapshot is not None
    assert (draft.snapshot.raw, draft.snapshot.gone) == (None, False)
    sent = parse_close(**email, action="sent", data={"status": "sent", "lead_id": "lead_1"})
    assert sent.snapshot is not None
    assert sent.snapshot.raw is not None


def test_closes_own_reminders_are_no_tasks():
    event = parse_close(object_type="task.missed_call", object_id="task_1", data={})
    assert event.ref is None


async def test_an_activity_about_people_alone_lies_on_the_lead_of_the_first(close, lead):
    jane = await make(close, "person", {"name": "Jane"}, company=[lead])
    for entity, fields in (("note", html("n")), ("task", {"text": "t"})):
        (outcome,) = await close.write([write(close, entity, fields, people=[jane])])
        stored = good(outcome).stored
        assert stored is not None
        assert (stored.relations["company"], stored.relations["people"]) == ((lead,), (jane,))


async def test_an_activity_about_nobody_is_refused_in_words(close):
    (outcome,) = await close.write([write(close, "note", html("n"))])
    assert isinstance(outcome.error, RejectedError)
    assert "a Close activity.note needs a lead" in outcome.error.reason


async def test_what_close_cannot_change_is_left_out_and_the_rest_is_written(
    close, control: Control, lead
):
    user = (await close.client.call("GET", "/user/")).data["data"][1]["id"]
    note = await make(close, "note", html("a"), company=[lead])
    both = write(close, "note", {**html("b"), "user_id": user}, ref=note)
    stored = good((await close.write([both]))[0]).stored
    assert stored is not None
    assert stored.raw is not None
    assert stored.raw["note"] == "b"
    alone = write(close, "note", {"user_id": user}, ref=note)
    stored = good((await close.write([alone]))[0]).stored
    assert stored is not None
    assert stored.raw is not None
    assert stored.raw["user_id"] != user

    body = {"lead_id": lead.id, "duration": 60, "status": "completed"}
    made = await control.person("POST", f"{API}/activity/call/", json=body)
    call = Ref("acme", "activity/call", made["id"])
    edit = write(close, "call", {**html("c"), "duration": 61, "status": "busy"}, ref=call)
    stored = good((await close.write([edit]))[0]).stored
    assert stored is not None
    assert stored.raw is not None
    assert (stored.raw["note"], stored.raw["duration"]) == ("c", 60)


async def test_what_was_made_or_changed_since_is_found_in_the_event_log(
    close, control: Control, lead
):
    ids = [(await make(close, "note", html(f"n{n}"), company=[lead])).id for n in range(60)]
    since = now() - timedelta(hours=1)
    assert set(await scanned(close, "note", since)) == set(ids)
    assert await scanned(close, "call", since) == []
    refused = {"vendor": "close", "fault": "status", "status": 403, "match": {"path": "/event/"}}
    await control.fault(**refused)
    assert set(await scanned(close, "note", since)) == set(ids)  # all of them, then
    assert set(await scanned(close, "note", now() - timedelta(days=60))) == set(ids)


async def test_a_whole_scan_leaves_drafts_out_and_goes_on_where_close_will_not_skip(
    close, control: Control, lead, monkeypatch
):
    monkeypatch.setattr(close_module, "PAGE", 10)
    ids = [(await make(close, "note", html(f"n{n}"), company=[lead])).id for n in range(35)]
    assert set(await scanned(close, "note")) == set(ids)
    deep = {"path": "/activity/note/$", "method": "GET"}
    page = await close.scan("note", None, None)
    await control.fault(vendor="close", fault="status", status=400, match=deep, times=1)
    seen = {one.ref.id for one in page.observations}
    while page.cursor:
        page = await close.scan("note", page.cursor, None)
        seen |= {one.ref.id for one in page.observations}
    assert seen == set(ids)
    mail = {"lead_id": lead.id, "subject": "x"}
    await control.person("POST", f"{API}/activity/email/", json={**mail, "status": "draft"})
    sent = await control.person("POST", f"{API}/activity/email/", json={**mail, "status": "sent"})
    assert await scanned(close, "email") == [sent["id"]]


async def test_only_the_events_of_what_travels_are_subscribed_to(control: Control):
    connector = CLOSE.connect(control.base)
    connector.properties = {"lead": (), "activity/note": ()}
    subscription, _ = await connector.subscribe("https://hooks.example/webhooks/close")
    assert {event.rpartition(".")[0] for event in subscription.events} == {"lead", "activity.note"}
    await connector.aclose()


# -------------------------------------------------------------------------------- HubSpot


def parse_hubspot(**row: Any) -> Event:
    whole = [{"eventId": 1, "subscriptionId": 2, "portalId": 62515, "occurredAt": 10**12, **row}]
    (found,) = HUBSPOT.kind.parse(delivery(orjson.dumps(whole)), HUBSPOT.account())
    return found


@pytest.mark.parametrize(
    ("id", "word", "type"),
    [
        ("0-46", "note", "notes"),
        ("0-48", "call", "calls"),
        ("0-49", "email", "emails"),
        ("0-47", "meeting", "meetings"),
        ("0-27", "task", "tasks"),
    ],
)
def test_a_generic_event_is_read_as_that_of_its_object(id, word, type):
    event = parse_hubspot(subscriptionType="object.deletion", objectTypeId=id, objectId=7)
    assert (event.type, event.ref, event.change) == (
        f"{word}.deletion",
        Ref("acme", type, "7"),
        Change.GONE,
    )
    ends = {"fromObjectTypeId": "0-1", "toObjectTypeId": id, "fromObjectId": 3, "toObjectId": 7}
    event = parse_hubspot(subscriptionType="object.associationChange", **ends)
    assert (event.type, event.ref) == (f"{word}.associationChange", Ref("acme", type, "7"))


async def test_a_task_without_a_date_gets_one_that_hubspot_demands(hubspot):
    ref = await make(hubspot, "task", {"hs_task_subject": "Some day"})
    (seen,) = await hubspot.read([ref])
    assert seen.raw is not None
    assert seen.raw["hs_timestamp"]


async def test_a_lost_note_is_told_from_another_of_the_same_moment(hubspot):
    company = await make(hubspot, "company", {"name": "A", "domain": "a.example"})
    before = now()
    fields = {"hs_note_body": "<p>One</p>", "hs_timestamp": AT}
    one = await make(hubspot, "note", fields, company=[company])
    await make(hubspot, "note", {**fields, "hs_note_body": "<p>Two</p>"}, company=[company])
    lost = write(hubspot, "note", {**fields, "hs_note_body": "<p>One</p>"}, company=[company])
    assert [found.ref for found in await hubspot.probe(lost, before)] == [one]


async def test_an_activity_belongs_to_a_company_its_people_and_deals(hubspot):
    company = await make(hubspot, "company", {"name": "A", "domain": "a.example"})
    people = [
        await make(hubspot, "person", {"firstname": name, "email": f"{name}@a.example"})
        for name in ("ada", "bob")
    ]
    deal = await make(hubspot, "deal", HUBSPOT.named["deal"]("D"))
    note = await make(
        hubspot,
        "note",
        {"hs_note_body": "x", "hs_timestamp": AT},
        company=[company],
        people=people,
        deals=[deal],
    )
    (seen,) = await hubspot.read([note])
    assert seen.relations == {"company": (company,), "people": tuple(people), "deals": (deal,)}
