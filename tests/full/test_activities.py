"""Notes, calls, e-mails, meetings and tasks: once on each side, at their time, by their author."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, close_body, flips, until

AT = "2026-01-13T09:30:00"
KATHERINE = "katherine@syncline.example"
ANA = "ana@syncline.example"
PROPERTIES = {
    "notes": "hs_note_body,hs_timestamp,hubspot_owner_id",
    "calls": "hs_call_body,hs_timestamp,hs_call_direction,hs_call_duration,hs_call_status,"
    "hs_call_to_number,hubspot_owner_id",
    "emails": "hs_email_subject,hs_email_html,hs_timestamp,hs_email_direction,"
    "hs_email_from_email,hs_email_to_email",
    "meetings": "hs_meeting_title,hs_timestamp,hs_meeting_end_time,hs_meeting_outcome",
    "tasks": "hs_task_subject,hs_timestamp,hs_task_status,hs_task_priority,hubspot_owner_id",
}
#: HubSpot's numbers of the links from a note and a task to a company and a contact.
TO_COMPANY = {"notes": 190, "calls": 182, "tasks": 192, "meetings": 188}
TO_CONTACT = {"notes": 202, "calls": 194, "tasks": 204, "meetings": 200}


@pytest_asyncio.fixture(scope="module")
async def active_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A service that keeps activities and tasks in step too."""
    sync = {"deal": {"stages": harness.STAGES}, "activity": {}, "task": {}}
    folder = tmp_path_factory.mktemp("active")
    async with (
        databases() as own,
        harness.world(folder, own, config={"sync": sync}, workers=1) as found,
    ):
        only_there = {"email": KATHERINE, "first_name": "Katherine", "last_name": "Johnson"}
        await found.crms.control("POST", "users", {"vendor": "hubspot", **only_there})
        only_here = {"email": ANA, "first_name": "Ana", "last_name": "Silva"}
        await found.crms.control("POST", "users", {"vendor": "close", **only_here})
        yield found


@dataclass
class Sale:
    """A lead with Ada, and what stands for both in HubSpot."""

    world: World
    lead: str
    ada: str
    company: str
    contact: str

    async def at_hubspot(self, type: str) -> list[Json]:
        """The activities of this company."""
        links = await self.world.hubspot.links("companies", self.company, type)
        found = []
        for id in sorted(links, key=int):
            query = f"properties={PROPERTIES[type]}"
            answer = await self.world.hubspot.call("GET", f"/crm/v3/objects/{type}/{id}?{query}")
            found.append({"id": answer["id"], **answer["properties"]})
        return found

    async def at_close(self, type: str) -> list[Json]:
        return await self.world.close.find(type, lead_id=self.lead)

    async def create(self, type: str, **properties: str) -> str:
        """Somebody in HubSpot makes one, about Ada at her company."""
        ends = ((self.company, TO_COMPANY[type]), (self.contact, TO_CONTACT[type]))
        body = {
            "properties": properties,
            "associations": [
                {
                    "to": {"id": id},
                    "types": [
                        {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": number}
                    ],
                }
                for id, number in ends
            ],
        }
        answer = await self.world.hubspot.call("POST", f"/crm/v3/objects/{type}", body)
        return str(answer["id"])


@pytest_asyncio.fixture
async def sale(active_world: World) -> AsyncIterator[Sale]:
    world, firm = active_world, Company.new("Difference Engines")
    lead = await world.close.create(
        "lead",
        name=firm.name,
        url=f"https://{firm.domain}",
        contacts=[firm.contact("Ada Lovelace")],
    )
    await world.quiet()
    ada = lead["contacts"][0]["id"]
    yield Sale(
        world,
        lead["id"],
        ada,
        await world.syncline.counterpart("close", lead["id"], "company", "hubspot"),
        await world.syncline.counterpart("close", ada, "person", "hubspot"),
    )
    await world.crms.fair_weather()
    await world.quiet(calm=0)


def rows(writes: harness.Writes) -> dict[tuple[str, str, str], int]:
    """Without the associations, which a create brings along; both systems' types in one word."""
    return {
        (vendor, type.removeprefix("activity.").removesuffix(".lead"), verb): n
        for (vendor, type, verb), n in writes.items()
        if n and type != "association"
    }


async def owner_of(world: World, email: str) -> str:
    answer = await world.hubspot.call("GET", "/crm/v3/owners")
    return next(str(row["id"]) for row in answer["results"] if row["email"] == email)


async def test_a_note_of_close_stands_in_hubspot_once_and_every_edit_is_one_write(sale: Sale):
    world = sale.world
    async with world.counting() as writes:
        note = await world.close.create(
            "activity/note",
            lead_id=sale.lead,
            contact_id=sale.ada,
            note_html="<body><p>Wants the <strong>annual</strong> plan</p></body>",
            activity_at=f"{AT}+00:00",
        )
    assert rows(writes) == {("hubspot", "note", "created"): 1}
    (there,) = await sale.at_hubspot("notes")
    assert there["hs_note_body"] == "<p>Wants the <strong>annual</strong> plan</p>"
    assert there["hs_timestamp"] == f"{AT}.000Z"
    assert note["user_name"] == "Alan Turing"
    assert there["hubspot_owner_id"] == await owner_of(world, "alan@syncline.example")
    assert list(await world.hubspot.links("notes", there["id"], "contacts")) == [sale.contact]

    async with world.counting() as writes:
        await world.close.edit("activity/note", note["id"], note="Wants two years")
    assert rows(writes) == {("hubspot", "note", "updated"): 1}
    async with world.counting() as writes:
        await world.hubspot.edit("notes", there["id"], hs_note_body="<div>Wants <b>three</b></div>")
    assert rows(writes) == {("close", "note", "updated"): 1}
    assert (await world.close.read("activity/note", note["id"]))["note"] == "Wants three"
    await world.steady()
    assert not flips(await world.crms.history("hubspot", "note", there["id"]))


async def test_a_note_of_hubspot_stands_on_the_lead_at_its_own_time(sale: Sale):
    world = sale.world
    async with world.counting() as writes:
        id = await sale.create(
            "notes",
            hs_note_body="<p>Met at the fair</p>",
            hs_timestamp=f"{AT}Z",
            hubspot_owner_id=await owner_of(world, "grace@syncline.example"),
        )
    assert rows(writes) == {("close", "note", "created"): 1}
    (note,) = await sale.at_close("activity/note")
    assert (note["note"], note["activity_at"]) == ("Met at the fair", f"{AT}+00:00")
    assert (note["user_name"], note["contact_id"]) == ("Grace Hopper", sale.ada)
    async with world.counting() as writes:
        await world.hubspot.edit("notes", id, hs_note_body="<p>Met again</p>")
    assert rows(writes) == {("close", "note", "updated"): 1}
    await world.steady()


async def test_an_author_without_a_user_there_is_named_in_the_text_alone(sale: Sale):
    world = sale.world
    owner = await owner_of(world, KATHERINE)
    id = await sale.create(
        "notes", hs_note_body="<p>Hello</p>", hs_timestamp=f"{AT}Z", hubspot_owner_id=owner
    )
    await world.quiet()
    (note,) = await sale.at_close("activity/note")
    assert note["note"] == "Hello\n(by Katherine Johnson, via hubspot)"
    async with world.counting() as writes:
        await world.close.edit(
            "activity/note", note["id"], note=note["note"].replace("Hello", "Good morning")
        )
    assert rows(writes) == {("hubspot", "note", "updated"): 1}
    (there,) = [row for row in await sale.at_hubspot("notes") if row["id"] == id]
    assert there["hs_note_body"] == "<p>Good morning</p>"
    assert there["hubspot_owner_id"] == owner
    await world.steady()


async def test_an_author_of_close_without_a_user_in_hubspot_is_named_there(sale: Sale):
    world = sale.world
    users = {user["email"]: user["id"] for user in await world.close.all("user")}
    note = await world.close.create(
        "activity/note", lead_id=sale.lead, note="Hello", user_id=users[ANA]
    )
    await world.quiet()
    (there,) = await sale.at_hubspot("notes")
    assert there["hs_note_body"] == "<p>Hello</p><p>(by Ana Silva, via close)</p>"
    assert not there["hubspot_owner_id"]
    async with world.counting() as writes:
        body = there["hs_note_body"].replace("Hello", "Good morning")
        await world.hubspot.edit("notes", there["id"], hs_note_body=body)
    assert rows(writes) == {("close", "note", "updated"): 1}
    seen = await world.close.read("activity/note", note["id"])
    assert (seen["note"], seen["user_id"]) == ("Good morning", users[ANA])
    await world.steady()


async def test_a_note_about_a_person_alone_goes_to_that_persons_lead(sale: Sale):
    world = sale.world
    body = {
        "properties": {"hs_note_body": "Just Ada", "hs_timestamp": f"{AT}Z"},
        "associations": [
            {
                "to": {"id": sale.contact},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}],
            }
        ],
    }
    await world.hubspot.call("POST", "/crm/v3/objects/notes", body)
    await world.quiet()
    (note,) = await sale.at_close("activity/note")
    assert (note["note"], note["contact_id"]) == ("Just Ada", sale.ada)
    await world.steady()


async def test_calls_and_tasks_travel_both_ways(sale: Sale):
    world = sale.world
    async with world.counting() as writes:
        call = await world.close.create(
            "activity/call",
            lead_id=sale.lead,
            contact_id=sale.ada,
            direction="outbound",
            duration=125,
            phone="+14155550199",
            status="no-answer",
            note="Nobody",
        )
        task = await world.close.create(
            "task", _type="lead", lead_id=sale.lead, text="Try again", date="2027-02-01"
        )
        await sale.create(
            "calls",
            hs_timestamp=f"{AT}Z",
            hs_call_direction="INBOUND",
            hs_call_duration="61000",
            hs_call_status="COMPLETED",
            hs_call_body="Rang back",
        )
        todo = await sale.create("tasks", hs_task_subject="Send it", hs_timestamp=f"{AT}Z")
    assert rows(writes) == {
        (vendor, type, "created"): 1 for vendor in ("close", "hubspot") for type in ("call", "task")
    }
    there = next(row for row in await sale.at_hubspot("calls") if "Nobody" in row["hs_call_body"])
    assert (there["hs_call_duration"], there["hs_call_status"]) == ("125000", "NO_ANSWER")
    assert (there["hs_call_direction"], there["hs_call_to_number"]) == ("OUTBOUND", "+14155550199")
    here = next(row for row in await sale.at_close("activity/call") if row["id"] != call["id"])
    assert (here["direction"], here["duration"], here["status"]) == ("inbound", 61, "completed")
    assert here["activity_at"] == f"{AT}+00:00"
    due = next(r for r in await sale.at_hubspot("tasks") if r["hs_task_subject"] == "Try again")
    assert due["hs_timestamp"] == "2027-02-01T00:00:00.000Z"
    made = next(row for row in await sale.at_close("task") if row["text"] == "Send it")
    assert made["date"] == f"{AT}+00:00"

    async with world.counting() as writes:
        await world.close.edit("task", task["id"], is_complete=True)
        await world.hubspot.edit("tasks", todo, hs_task_status="COMPLETED")
    assert rows(writes) == {("hubspot", "task", "updated"): 1, ("close", "task", "updated"): 1}
    assert {row["hs_task_status"] for row in await sale.at_hubspot("tasks")} == {"COMPLETED"}
    assert {row["is_complete"] for row in await sale.at_close("task")} == {True}
    async with world.counting() as writes:
        await world.hubspot.edit("tasks", todo, hs_task_status="NOT_STARTED")
        # A call that Close itself made keeps what Close measured, whatever others say.
        await world.hubspot.edit("calls", there["id"], hs_call_duration="1000")
    assert rows(writes) == {("close", "task", "updated"): 1}
    await world.steady()
    assert not await world.syncline.dead_letters()


async def test_an_email_is_logged_when_it_was_sent_and_nothing_is_ever_sent_by_us(sale: Sale):
    world = sale.world
    async with world.counting() as writes:
        draft = await world.close.create(
            "activity/email",
            lead_id=sale.lead,
            contact_id=sale.ada,
            status="draft",
            sender="grace@syncline.example",
            to=["ada@people.example"],
            subject="Your offer",
            body_html="<p>Dear Ada</p>",
        )
    assert rows(writes) == {}
    async with world.counting() as writes:
        await world.close.edit("activity/email", draft["id"], status="outbox")
    assert rows(writes) == {("hubspot", "email", "created"): 1}
    (there,) = await sale.at_hubspot("emails")
    assert (there["hs_email_subject"], there["hs_email_html"]) == ("Your offer", "<p>Dear Ada</p>")
    assert there["hs_email_direction"] == "EMAIL"
    assert there["hs_email_from_email"] == "grace@syncline.example"
    assert there["hs_email_to_email"] == "ada@people.example"
    await world.steady()


async def test_a_meeting_goes_from_close_to_hubspot_and_never_back(sale: Sale):
    world = sale.world
    async with world.counting() as writes:
        meeting = await world.close.create(
            "activity/meeting",
            lead_id=sale.lead,
            title="Demo",
            starts_at="2030-01-01T10:00:00+00:00",
            ends_at="2030-01-01T10:45:00+00:00",
        )
        await sale.create("meetings", hs_meeting_title="Dinner", hs_timestamp=f"{AT}Z")
    assert rows(writes) == {("hubspot", "meeting", "created"): 1}
    there = next(r for r in await sale.at_hubspot("meetings") if r["hs_meeting_title"] == "Demo")
    assert there["hs_timestamp"] == "2030-01-01T10:00:00.000Z"
    assert there["hs_meeting_end_time"] == "2030-01-01T10:45:00.000Z"
    async with world.counting() as writes:
        await world.close.edit("activity/meeting", meeting["id"], status="canceled")
    assert rows(writes) == {("hubspot", "meeting", "updated"): 1}
    assert not await world.syncline.dead_letters()


async def test_repeated_and_shuffled_webhooks_make_no_second_copy(sale: Sale):
    world = sale.world
    await world.crms.weather(duplicate=1, shuffle=True)
    async with world.counting() as writes:
        notes = [
            await world.close.create("activity/note", lead_id=sale.lead, note=f"Note {n}")
            for n in range(5)
        ]
        for n in range(5):
            await sale.create("notes", hs_note_body=f"<p>Memo {n}</p>", hs_timestamp=f"{AT}Z")
        await world.close.edit("activity/note", notes[0]["id"], note="Note 0, again")
    created = {key: n for key, n in rows(writes).items() if key[2] == "created"}
    assert created == {("hubspot", "note", "created"): 5, ("close", "note", "created"): 5}
    event = {
        "id": f"ev_{secrets.token_hex(8)}",
        "object_type": "activity.note",
        "object_id": notes[1]["id"],
        "lead_id": sale.lead,
        "action": "created",
        "date_updated": notes[1]["date_created"].replace("+00:00", ""),
        "data": notes[1],
    }
    async with world.counting() as writes:
        for _ in range(3):
            answer = await world.syncline.deliver("close", close_body(event))
            assert answer.is_success
    assert rows(writes) == {}


async def test_a_create_whose_answer_is_lost_makes_one_activity(sale: Sale):
    world = sale.world
    await world.crms.fault(
        "hubspot", "drop_after_commit", method="POST", path="notes/batch/create", times=1
    )
    await world.crms.fault(
        "close", "drop_after_commit", method="POST", path="/activity/note/$", times=1
    )
    await world.close.create("activity/note", lead_id=sale.lead, note="From Close")
    await sale.create("notes", hs_note_body="<p>From HubSpot</p>", hs_timestamp=f"{AT}Z")
    await until(world.crms.struck, why=world.syncline.explain, within=100)
    await world.quiet(within=150)
    assert sorted(row["note"] for row in await sale.at_close("activity/note")) == [
        "From Close",
        "From HubSpot",
    ]
    assert len(await sale.at_hubspot("notes")) == 2
    await world.steady()


@pytest.mark.heavy
async def test_a_worker_killed_between_a_create_and_its_answer_leaves_one_activity(sale: Sale):
    world = sale.world
    slow = {"seconds": 2, "times": 1, "method": "POST"}
    await world.crms.fault("hubspot", "latency", path="notes/batch/create", **slow)
    await world.crms.fault("close", "latency", path="/activity/note/$", **slow)
    await world.close.create("activity/note", lead_id=sale.lead, note="From Close")
    await sale.create("notes", hs_note_body="<p>From HubSpot</p>", hs_timestamp=f"{AT}Z")
    await until(world.crms.struck, why=world.syncline.explain)
    await world.syncline.workers.pop().kill()

    async def carried_out() -> bool:
        """By the CRMs, but nobody is there any more to hear it."""
        both = len(await sale.at_close("activity/note")), len(await sale.at_hubspot("notes"))
        return both == (2, 2)

    await until(carried_out)
    await world.syncline.add_workers(1)
    await world.quiet(within=150)
    assert await carried_out()
    await world.steady()


async def test_an_account_is_tested_for_what_travels(sale: Sale):
    for account, read in (("close", "read activity.note"), ("hubspot", "read notes")):
        found = await sale.world.syncline.post(f"/api/accounts/{account}/test")
        wrong = [row for row in found["findings"] if not row["ok"] and row["check"] != "stages"]
        assert wrong == []
        assert read in [row["check"] for row in found["findings"]]


async def test_a_resync_since_a_date_finds_what_no_webhook_told(sale: Sale):
    world = sale.world
    await world.close.create("activity/note", lead_id=sale.lead, note="Known")
    await world.quiet()
    async with world.counting() as writes:
        found = await world.syncline.resync(
            account="close", entity="note", since="2020-01-01T00:00:00Z"
        )
        there = await world.syncline.resync(account="hubspot", entity="task")
    assert (found["state"], there["state"]) == ("done", "done")
    assert rows(writes) == {}
