"""Activities and tasks of three systems: each once, on its own side, with whom and about what."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World

AT = "2026-01-13T09:30:00"
KINDS = ("activity.note", "activity.call", "activity.email", "activity.meeting", "task.lead")
TYPES = ("note", "call", "email", "meeting", "task", "Task", "Event", "ContentNote", *KINDS)
TO_COMPANY = {"notes": 190, "calls": 182, "tasks": 192, "meetings": 188}
TO_CONTACT = {"notes": 202, "calls": 194, "tasks": 204, "meetings": 200}


@pytest_asyncio.fixture(scope="module")
async def three(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A service that keeps the activities of Close, HubSpot and Salesforce in step."""
    folder = tmp_path_factory.mktemp("three")
    sync = {"deal": {"stages": harness.STAGES}, "activity": {}, "task": {}}
    accounts: dict[str, Json] = {"salesforce": {}}
    async with (
        databases() as own,
        harness.world(folder, own, accounts=accounts, config={"sync": sync}, workers=1) as found,
    ):
        yield found


@dataclass
class Sale:
    """A lead with Ada, and what stands for both elsewhere."""

    world: World
    lead: str
    ada: str
    company: str
    contact: str
    account: str
    person: str

    async def at_salesforce(self, kind: str) -> list[Json]:
        """Those of this account; of a note those that are linked to it."""
        query, all = self.world.salesforce.query, self.world.salesforce.read
        if kind == "ContentNote":
            text = "SELECT ContentDocumentId FROM ContentDocumentLink WHERE LinkedEntityId = '{}'"
            ids = [row["ContentDocumentId"] for row in await query(text.format(self.account))]
        else:
            rows = await query(f"SELECT Id FROM {kind} WHERE AccountId = '{self.account}'")
            ids = [row["Id"] for row in rows]
        return [await all(kind, id) for id in ids]

    async def at_close(self, type: str) -> list[Json]:
        return await self.world.close.find(type, lead_id=self.lead)

    async def at_hubspot(self, type: str, properties: str) -> list[Json]:
        links = await self.world.hubspot.links("companies", self.company, type)
        found = []
        for id in links:
            path = f"/crm/v3/objects/{type}/{id}?properties={properties}"
            answer = await self.world.hubspot.call("GET", path)
            found.append({"id": answer["id"], **answer["properties"]})
        return found

    async def create_in_hubspot(self, type: str, **properties: str) -> str:
        ends = ((self.company, TO_COMPANY[type]), (self.contact, TO_CONTACT[type]))
        spec = "HUBSPOT_DEFINED"
        links = [
            {
                "to": {"id": id},
                "types": [{"associationCategory": spec, "associationTypeId": number}],
            }
            for id, number in ends
        ]
        body = {"properties": properties, "associations": links}
        answer = await self.world.hubspot.call("POST", f"/crm/v3/objects/{type}", body)
        return str(answer["id"])


@pytest_asyncio.fixture
async def sale(three: World) -> AsyncIterator[Sale]:
    world, firm = three, Company.new("Difference Engines")
    lead = await world.close.create(
        "lead",
        name=firm.name,
        url=f"https://{firm.domain}",
        contacts=[firm.contact("Ada Lovelace")],
    )
    await world.quiet()
    ada, counterpart = lead["contacts"][0]["id"], world.syncline.counterpart
    yield Sale(
        world,
        lead["id"],
        ada,
        *[
            await counterpart("close", id, entity, other)
            for other in ("hubspot", "salesforce")
            for id, entity in ((lead["id"], "company"), (ada, "person"))
        ],
    )
    await world.quiet()


def rows(writes: harness.Writes) -> dict[tuple[str, str, str], int]:
    """The activities among them."""
    return {key: n for key, n in writes.items() if n and key[1] in TYPES}


async def user(world: World, email: str) -> str:
    found = await world.salesforce.query("SELECT Id, Email FROM User")
    return next(str(row["Id"]) for row in found if row["Email"] == email)


async def test_what_is_done_in_close_stands_in_salesforce_once(sale: Sale) -> None:
    world = sale.world
    whom = {"lead_id": sale.lead, "contact_id": sale.ada}
    async with world.counting() as writes:
        call = await world.close.create(
            "activity/call",
            **whom,
            direction="outbound",
            duration=125,
            status="no-answer",
            note_html="<body><p>Nobody <strong>there</strong></p></body>",
            activity_at=f"{AT}+00:00",
        )
        task = await world.close.create(
            "task", _type="lead", lead_id=sale.lead, text="Try again", date="2027-02-01"
        )
        await world.close.create(
            "activity/meeting",
            **whom,
            title="Demo",
            starts_at="2030-01-01T10:00:00+00:00",
            ends_at="2030-01-01T10:45:00+00:00",
        )
        note = await world.close.create(
            "activity/note", **whom, note_html="<body><p>Wants <em>it</em></p></body>"
        )
    assert {key: n for key, n in rows(writes).items() if key[0] == "salesforce"} == {
        ("salesforce", "Task", "created"): 2,
        ("salesforce", "Event", "created"): 1,
        ("salesforce", "ContentNote", "created"): 1,
    }
    assert sum(rows(writes).values()) == 8
    tasks = {row["TaskSubtype"]: row for row in await sale.at_salesforce("Task")}
    rang, todo = tasks["Call"], tasks["Task"]
    assert (rang["Description"], rang["CallDisposition"]) == ("Nobody there", "No answer")
    assert (rang["CallType"], rang["CallDurationInSeconds"]) == ("Outbound", 125)
    assert (rang["ActivityDate"], rang["Status"]) == ("2026-01-13", "Completed")
    assert (rang["WhatId"], rang["WhoId"]) == (sale.account, sale.person)
    assert rang["OwnerId"] == await user(world, "alan@syncline.example")
    assert (todo["Subject"], todo["ActivityDate"], todo["IsClosed"]) == (
        "Try again",
        "2027-02-01",
        False,
    )
    (demo,) = await sale.at_salesforce("Event")
    assert demo["StartDateTime"].startswith("2030-01-01T10:00:00")
    assert demo["EndDateTime"].startswith("2030-01-01T10:45:00")
    (written,) = await sale.at_salesforce("ContentNote")
    path = f"{world.salesforce.data}/sobjects/ContentNote/{written['Id']}/Content"
    answer = await world.salesforce.http.get(f"{world.salesforce.path}{path}")
    assert answer.text == "<p>Wants <em>it</em></p>"

    # An edit is one write in each of the others, and the time of the call stays its own.
    async with world.counting() as writes:
        await world.salesforce.edit("Task", todo["Id"], Status="Completed")
        await world.close.edit("activity/note", note["id"], note="Wants two")
    assert rows(writes) == {
        ("close", "task.lead", "updated"): 1,
        ("hubspot", "task", "updated"): 1,
        ("hubspot", "note", "updated"): 1,
        ("salesforce", "ContentNote", "updated"): 1,
    }
    assert (await world.close.read("task", task["id"]))["is_complete"] is True
    again = await world.close.read("activity/call", call["id"])
    assert again["activity_at"] == f"{AT}+00:00"
    assert "<strong>" in again["note_html"]
    await world.steady()
    assert not await world.syncline.dead_letters()


async def test_what_is_done_in_salesforce_stands_in_the_others_once(sale: Sale) -> None:
    world = sale.world
    alan = await user(world, "alan@syncline.example")
    ends = {"WhoId": sale.person, "WhatId": sale.account, "OwnerId": alan}
    async with world.counting() as writes:
        await world.salesforce.create(
            "Task",
            **ends,
            TaskSubtype="Call",
            Status="Completed",
            Subject="Rang",
            Description="They agree",
            ActivityDate="2026-01-13",
            CallType="Inbound",
            CallDurationInSeconds=61,
        )
        todo = await world.salesforce.create(
            "Task", **ends, Subject="Send it", ActivityDate="2027-02-01", Priority="High"
        )
        await world.salesforce.create("Task", **ends, TaskSubtype="LinkedIn", Subject="Not ours")
        await world.salesforce.create(
            "Event",
            **ends,
            Subject="Dinner",
            StartDateTime="2030-01-01T18:00:00Z",
            EndDateTime="2030-01-01T20:00:00Z",
        )
    # Meetings of Close come from calendars alone.
    assert rows(writes) == {
        ("close", "activity.call", "created"): 1,
        ("close", "task.lead", "created"): 1,
        ("hubspot", "call", "created"): 1,
        ("hubspot", "task", "created"): 1,
        ("hubspot", "meeting", "created"): 1,
    }
    (call,) = await sale.at_close("activity/call")
    assert (call["direction"], call["duration"], call["note"]) == ("inbound", 61, "They agree")
    assert call["activity_at"] == "2026-01-13T00:00:00+00:00"
    assert (call["user_name"], call["contact_id"]) == ("Alan Turing", sale.ada)
    (task,) = await sale.at_close("task")
    assert (task["text"], task["date"]) == ("Send it", "2027-02-01")
    (there,) = await sale.at_hubspot("tasks", "hs_task_priority,hs_task_status")
    assert (there["hs_task_priority"], there["hs_task_status"]) == ("HIGH", "NOT_STARTED")
    async with world.counting() as writes:
        await world.close.edit("task", task["id"], is_complete=True)
    assert rows(writes) == {
        ("salesforce", "Task", "updated"): 1,
        ("hubspot", "task", "updated"): 1,
    }
    assert (await world.salesforce.read("Task", todo))["Status"] == "Completed"
    await world.steady()
    assert not await world.syncline.dead_letters()


async def test_a_note_of_salesforce_is_found_by_catch_up_with_what_it_is_about(sale: Sale) -> None:
    world = sale.world
    html = "PHA+TWV0IGF0IHRoZSBmYWlyPC9wPg=="
    note = await world.salesforce.create("ContentNote", Title="Fair", Content=html)
    for end in (sale.account, sale.person):
        await world.salesforce.create(
            "ContentDocumentLink", ContentDocumentId=note, LinkedEntityId=end, ShareType="V"
        )

    assert await sale.at_close("activity/note") == []
    code, out, err = await world.syncline.command("accounts", "catch-up", "salesforce")
    assert code == 0, out + err
    await world.quiet()
    (there,) = await sale.at_close("activity/note")
    assert (there["title"], there["note"], there["contact_id"]) == (
        "Fair",
        "Met at the fair",
        sale.ada,
    )
    (also,) = await sale.at_hubspot("notes", "hs_note_body")
    assert also["hs_note_body"] == "<p>Met at the fair</p>"
    assert not await world.syncline.dead_letters()
