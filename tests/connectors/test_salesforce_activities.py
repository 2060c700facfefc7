"""What is peculiar to the tasks, calls, e-mails, meetings and notes of Salesforce."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio

from app.domain.values import Change, Ref, RelationEdit, Write
from app.errors import ExistsError
from app.sdk import now
from app.sdk.connector import Connector
from tests.connectors.conftest import SALESFORCE, Control, delivery, good, make, write
from tests.connectors.test_activities import scanned

API = "/salesforce/services/data/v66.0"
ID = "00TSb000000001TMAQ"


def told(change: str, **fields: Any) -> list[tuple[str, Ref | None, Change]]:
    """How a call-out about a task is read."""
    row = {"object": "Task", "id": ID, "change": change, "at": "2026-01-14T11:59:30Z"}
    body = orjson.dumps({"events": [{**row, "fields": fields}]})
    found = SALESFORCE.kind.parse(delivery(body), SALESFORCE.account())
    assert len({one.key for one in found}) == len(found)
    assert all("TaskSubtype" not in one.fields for one in found)
    return [(one.type, one.ref, one.change) for one in found]


def test_news_of_a_task_are_of_its_kind_or_of_any_that_it_may_be():
    call = ("Call.update", Ref("acme", "Call", ID), Change.CHANGED)
    assert told("update", TaskSubtype="Call", Subject="x") == [call]
    for fields in ({}, {"TaskSubtype": "LinkedIn"}, {"TaskSubtype": ["?"]}):
        assert told("delete", **fields) == [
            (f"{kind}.delete", Ref("acme", kind, ID), Change.GONE)
            for kind in ("Task", "Call", "Email")
        ]


@pytest_asyncio.fixture
async def account(salesforce: Connector) -> Ref:
    return await make(salesforce, "company", {"Name": "Acme"})


@pytest_asyncio.fixture
async def ada(salesforce: Connector, account: Ref) -> Ref:
    return await make(salesforce, "person", {"LastName": "Ada"}, company=[account])


@pytest_asyncio.fixture
async def deal(salesforce: Connector, account: Ref) -> Ref:
    return await make(salesforce, "deal", SALESFORCE.named["deal"]("D"), company=[account])


async def related(connector: Connector, ref: Ref, entity: str, **edits: RelationEdit) -> Any:
    """The relations of a record after this change of them."""
    if edits:
        change = replace(write(connector, entity, {}, ref=ref), relations=edits)
        good((await connector.write([change]))[0])
    (seen,) = await connector.read([ref])
    return seen.relations


@pytest.mark.parametrize("entity", ["task", "call", "email", "meeting"])
async def test_an_activity_is_about_a_deal_before_its_company_and_with_one_person(
    salesforce: Connector, entity: str, account: Ref, ada: Ref, deal: Ref
):
    fields = SALESFORCE.named[entity]("A")
    whole = {"company": (account,), "people": (ada,), "deals": (deal,)}
    one = await make(salesforce, entity, fields, company=[account], people=[ada], deals=[deal])
    assert await related(salesforce, one, entity) == whole
    # Its account is that of the deal, and it stays with whom it is when others join.
    bob = await make(salesforce, "person", {"LastName": "Bob"})
    other = await make(salesforce, "company", {"Name": "Other"})
    joins = RelationEdit(wanted=(bob, ada), add=(bob,))
    moves = RelationEdit(wanted=(other,), add=(other,), remove=(account,))
    assert await related(salesforce, one, entity, people=joins) == whole
    assert await related(salesforce, one, entity, company=moves) == whole
    leaves = RelationEdit(remove=(deal,))
    assert await related(salesforce, one, entity, deals=leaves) == {**whole, "deals": ()}
    assert (await related(salesforce, one, entity, company=moves))["company"] == (other,)
    assert (await related(salesforce, one, entity, people=RelationEdit(remove=(ada,)))) == {
        "company": (other,),
        "people": (),
        "deals": (),
    }


async def test_kinds_of_tasks_are_kept_apart(salesforce: Connector, control: Control):
    call = await make(salesforce, "call", {"Subject": "Rang"})
    task = await make(salesforce, "task", {"Subject": "Ring"})
    mail = await make(salesforce, "email", {"Subject": "Wrote"})
    since = now() - timedelta(hours=1)
    for entity, ref in (("call", call), ("task", task), ("email", mail)):
        assert await scanned(salesforce, entity) == [ref.id]
        assert await scanned(salesforce, entity, since) == [ref.id]
    (seen,) = await salesforce.read([Ref("acme", "Call", task.id)])
    assert (seen.raw, seen.gone) == (None, False)
    row = await control.person("GET", f"{API}/sobjects/Task/{call.id}")
    assert (row["TaskSubtype"], row["Status"], row["IsClosed"]) == ("Call", "Completed", True)
    trail = await salesforce.catch_up("call", None, since, deep=True)
    (body,) = trail.bodies
    (event,) = SALESFORCE.kind.parse(delivery(body), salesforce.account)
    assert (event.type, event.ref) == ("Call.update", call)
    await control.person("DELETE", f"{API}/sobjects/Task/{call.id}")
    (seen,) = await salesforce.read([call])
    assert seen.gone


async def test_a_call_that_is_still_to_be_made_is_nothing_to_tell_of(
    salesforce: Connector, control: Control
):
    body = {"Subject": "Ring", "TaskSubtype": "Call", "Status": "Not Started"}
    made = await control.person("POST", f"{API}/sobjects/Task", json=body)
    call = Ref("acme", "Call", made["id"])
    (seen,) = await salesforce.read([call])
    assert (seen.raw, seen.gone) == (None, False)
    await control.person("PATCH", f"{API}/sobjects/Task/{call.id}", json={"Status": "Completed"})
    (seen,) = await salesforce.read([call])
    assert seen.raw is not None


async def test_a_meeting_without_an_end_ends_as_it_begins(salesforce: Connector):
    meeting = await make(salesforce, "meeting", {"StartDateTime": "2026-01-13T09:30:00Z"})
    (seen,) = await salesforce.read([meeting])
    assert seen.raw is not None
    assert seen.raw["StartDateTime"] == seen.raw["EndDateTime"]


async def test_a_note_is_linked_to_all_that_it_is_about_and_keeps_its_text(
    salesforce: Connector, control: Control, account: Ref, ada: Ref, deal: Ref
):
    text = "<p>Wants the <strong>annual</strong> plan &amp; more</p>"
    bob = await make(salesforce, "person", {"LastName": "Bob"})
    note = await make(
        salesforce, "note", {"Content": text}, company=[account], people=[ada], deals=[deal]
    )
    (seen,) = await salesforce.read([note])
    assert seen.raw is not None
    # Salesforce demands a title, and calls it so itself.
    assert (seen.raw["Content"], seen.raw["Title"]) == (text, None)
    row = await control.person("GET", f"{API}/sobjects/ContentNote/{note.id}")
    assert row["Title"] == "Untitled Note"
    assert seen.relations == {"company": (account,), "people": (ada,), "deals": (deal,)}
    joins = RelationEdit(wanted=(bob, ada), add=(bob,))
    after = await related(salesforce, note, "note", people=joins)
    assert set(after["people"]) == {ada, bob}
    leaves = RelationEdit(wanted=(bob,), remove=(ada,))
    left = RelationEdit(remove=(deal,))
    after = await related(salesforce, note, "note", people=leaves, deals=left)
    assert (after["people"], after["deals"], after["company"]) == ((bob,), (), (account,))


async def test_a_lost_note_is_told_from_another_of_the_same_moment(salesforce: Connector):
    before = now()
    one = await make(salesforce, "note", {"Content": "<p>One</p>"})
    await make(salesforce, "note", {"Content": "<p>Two</p>"})
    lost: Write = write(salesforce, "note", {"Content": "<p>One</p>"})
    assert [found.ref for found in await salesforce.probe(lost, before)] == [one]


async def test_an_external_id_makes_the_creation_of_a_task_happen_once(control: Control):
    connector = SALESFORCE.connect(control.base)
    connector.account = replace(connector.account, external_id="Syncline_Id__c")
    for entity in ("task", "call", "meeting"):
        twice = [
            write(connector, entity, SALESFORCE.named[entity]("Once"), external_id=f"id-{entity}")
            for _ in range(2)
        ]
        first, again = [(await connector.write([one]))[0] for one in twice]
        made = good(first).ref
        assert made is not None
        exists = isinstance(again.error, ExistsError) and again.error.remote_id == made.id
        assert exists or again.ref == made
    await connector.aclose()


async def test_the_org_may_call_a_task_that_is_done_otherwise(salesforce: Connector):
    salesforce._words = {"Not Started": "Offen", "Completed": "Deferred"}  # type: ignore[attr-defined]
    task = await make(salesforce, "task", {"Subject": "T", "Status": "Completed"})
    (seen,) = await salesforce.read([task])
    assert seen.raw is not None
    assert seen.raw["Status"] == "Deferred"


async def test_what_travels_of_the_activities_is_looked_over_once_for_each_object(
    salesforce: Connector,
):
    checks = [one.check for one in await salesforce.check()]
    assert checks.count("read Task") == 1
    assert {"read Event", "read ContentNote"} <= set(checks)
    assert all(one.ok for one in await salesforce.check())
