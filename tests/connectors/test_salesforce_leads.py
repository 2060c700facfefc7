"""Leads of Salesforce: people under the ids of leads, until they are converted."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest_asyncio

from app.domain.values import Change, Key, Op, Ref
from app.sdk import now
from app.sdk.connector import Connector
from tests.connectors.conftest import SALESFORCE, Control, delivery, good, make, write
from tests.connectors.test_activities import scanned

API = "/salesforce/services/data/v66.0"
LEAD, OTHER = "00QSb000000001QMAQ", "00QSb000000009ZMAQ"


def told(change: str, *, leads: bool, **fields: Any) -> Any:
    """How a call-out about a lead is read."""
    row = {"object": "Lead", "id": LEAD, "change": change, "at": "2026-01-14T11:59:30Z"}
    body = orjson.dumps({"events": [{**row, "fields": fields}]})
    account = replace(SALESFORCE.account(), options={"leads": leads})
    (event,) = SALESFORCE.kind.parse(delivery(body), account)
    return event.type, event.ref, event.change, event.survivor


def test_news_of_a_lead_are_of_a_person_only_where_leads_travel():
    lead, other = Ref("acme", "Contact", LEAD), Ref("acme", "Contact", OTHER)
    assert told("update", leads=True) == ("Lead.update", lead, Change.CHANGED, None)
    merged = told("merge", leads=True, MasterRecordId=OTHER)
    assert merged == ("Lead.merge", lead, Change.MERGED, other)
    for change in ("update", "delete", "merge"):
        kind, ref, what, survivor = told(change, leads=False, MasterRecordId=OTHER)
        assert (kind, ref, what, survivor) == (f"Lead.{change}", None, Change.CHANGED, None)


@pytest_asyncio.fixture
async def lead(control: Control) -> Ref:
    fields = {"FirstName": "Ada", "LastName": "Lovelace", "Company": "Engines"}
    body = {**fields, "Email": "ada@people.example"}
    made = await control.person("POST", f"{API}/sobjects/Lead", json=body)
    return Ref("acme", "Contact", made["id"])


async def test_a_lead_is_read_found_scanned_and_written_as_a_person(
    salesforce: Connector, control: Control, lead: Ref
):
    account = await make(salesforce, "company", {"Name": "Acme"})
    bob = await make(salesforce, "person", SALESFORCE.named["person"]("Bob"), company=[account])
    seen = {one.ref: one for one in await salesforce.read([lead, bob])}
    raw = seen[lead].raw
    assert raw is not None
    assert (raw["FirstName"], raw["Email"]) == ("Ada", "ada@people.example")
    assert "company" not in seen[lead].relations  # the name of a company is no relation
    keys = [Key("email", f"{name}@people.example") for name in ("ada", "bob", "eve")]
    found = await salesforce.find("person", keys)
    assert [[one.ref for one in found[key]] for key in keys] == [[lead], [bob], []]
    assert set(await scanned(salesforce, "person")) == {lead.id, bob.id}
    assert set(await scanned(salesforce, "person", now() - timedelta(hours=1))) == {lead.id, bob.id}

    batch = [
        write(salesforce, "person", {"Title": "Countess"}, ref=lead, company=[account]),
        write(salesforce, "person", {"Title": "Baker"}, ref=bob),
        write(salesforce, "person", {"LastName": None}, ref=lead),
    ]
    outcomes = await salesforce.write(batch)
    assert [outcome.write for outcome in outcomes] == batch
    stored = [good(outcome).stored for outcome in outcomes]
    assert [one and one.raw and one.raw["Title"] for one in stored[:2]] == ["Countess", "Baker"]
    row = await control.person("GET", f"{API}/sobjects/Lead/{lead.id}")
    assert (row["Title"], row["Company"]) == ("Countess", "Engines")
    assert row["LastName"] == "[not provided]"
    assert stored[2] is not None
    assert stored[2].raw is not None
    assert stored[2].raw["LastName"] is None


async def test_a_lead_that_is_converted_is_its_contact_from_then_on(
    salesforce: Connector, control: Control, lead: Ref
):
    since = now() - timedelta(hours=1)
    await make(salesforce, "person", SALESFORCE.named["person"]("Bob"))
    made = await control.person("POST", "/salesforce/convert", json={"lead": lead.id})
    contact = Ref("acme", "Contact", made["contactId"])
    (seen,) = await salesforce.read([lead])
    assert (seen.ref, seen.asked) == (contact, lead)
    assert seen.relations["company"] == (Ref("acme", "Account", made["accountId"]),)
    assert lead.id not in await scanned(salesforce, "person")
    key = Key("email", "ada@people.example")
    assert [one.ref for one in (await salesforce.find("person", [key]))[key]] == [contact]
    bodies: list[bytes] = []
    cursor: str | None = None
    while True:
        trail = await salesforce.catch_up("person", cursor, since, deep=True)
        bodies += trail.bodies
        if (cursor := trail.cursor) is None:
            break
    events = [SALESFORCE.kind.parse(delivery(body), salesforce.account)[0] for body in bodies]
    assert {event.ref for event in events} >= {lead, contact}


async def test_leads_are_merged_and_deleted_as_people_are(
    salesforce: Connector, control: Control, lead: Ref
):
    body = {"LastName": "Byron", "Company": "Engines"}
    made = await control.person("POST", f"{API}/sobjects/Lead", json=body)
    other = Ref("acme", "Contact", made["id"])
    both = {"master": lead.id, "others": [other.id]}
    await control.person("POST", "/salesforce/merge", json=both)
    (seen,) = await salesforce.read([other])
    assert (seen.ref, seen.asked) == (lead, other)
    good((await salesforce.write([write(salesforce, "person", {}, ref=lead, op=Op.DELETE)]))[0])
    (seen,) = await salesforce.read([lead])
    assert (seen.ref, seen.gone) == (lead, True)


async def test_what_can_name_contacts_alone_leaves_leads_out(salesforce: Connector, lead: Ref):
    account = await make(salesforce, "company", {"Name": "Acme"})
    ada = await make(salesforce, "person", SALESFORCE.named["person"]("Ada"), company=[account])
    for entity in ("ticket", "deal"):
        fields = SALESFORCE.named[entity]("X")
        ref = await make(salesforce, entity, fields, company=[account], people=[lead, ada])
        (seen,) = await salesforce.read([ref])
        assert seen.relations == {"company": (account,), "people": (ada,)}


async def test_an_activity_with_a_lead_is_about_nothing_else(salesforce: Connector, lead: Ref):
    account = await make(salesforce, "company", {"Name": "Acme"})
    task = await make(salesforce, "task", {"Subject": "Ring"}, company=[account], people=[lead])
    (seen,) = await salesforce.read([task])
    assert seen.relations == {"company": (), "people": (lead,), "deals": ()}
    moved = write(salesforce, "task", {"Subject": "Ring again"}, ref=task, company=[account])
    good((await salesforce.write([moved]))[0])
    (seen,) = await salesforce.read([task])
    assert seen.relations["people"] == (lead,)
    note = await make(salesforce, "note", {"Title": "N"}, company=[account], people=[lead])
    (seen,) = await salesforce.read([note])
    assert (seen.relations["company"], seen.relations["people"]) == ((account,), (lead,))


async def test_where_leads_do_not_travel_they_are_not_there(control: Control, lead: Ref):
    connector = SALESFORCE.connect(control.base)
    connector.account = replace(connector.account, options={})
    (seen,) = await connector.read([lead])
    assert (seen.raw, seen.gone) == (None, False)
    key = Key("email", "ada@people.example")
    assert await connector.find("person", [key]) == {key: []}
    assert await scanned(connector, "person") == []
    assert "read Lead" not in {one.check for one in await connector.check()}
    await connector.aclose()
