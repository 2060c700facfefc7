"""Deletes, restores and purges in the worst order, through the whole service.

What is deleted is told before it was made, twice, late, or not at all, while others edit it.
"""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import STAGES, Company, Json, World, until

#: A delete of a person in Close stays there, one in HubSpot travels; those of others travel.
POLICIES = {
    "company": {"deletes": "propagate"},
    "person": {"deletes": {"close": "unlink", "hubspot": "propagate"}},
    "deal": {"deletes": "propagate", "stages": STAGES},
}
CROOKED = {"duplicate": 1, "shuffle": True}


@pytest_asyncio.fixture(scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """Accounts between which deletes travel."""
    folder = tmp_path_factory.mktemp("deletes")
    async with databases() as own, harness.world(folder, own, config={"sync": POLICIES}) as found:
        yield found


@pytest_asyncio.fixture
async def world(apart: World) -> AsyncIterator[World]:
    yield apart
    await apart.crms.fair_weather()
    await apart.quiet(calm=0)


async def _a_lead(world: World, company: Company, *names: str) -> tuple[str, dict[str, str]]:
    """A lead with these contacts, in step; its id, and the contacts' by first name."""
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact(name) for name in names],
    )
    await world.quiet()
    return lead["id"], {row["name"].split()[0]: row["id"] for row in lead["contacts"]}


async def _a_deal(world: World, lead: str) -> tuple[str, str]:
    """A deal in Close and in HubSpot, in step."""
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=lead, status_id=statuses["Qualified"], value=123400
    )
    await world.quiet()
    return deal["id"], await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")


async def _there(world: World, account: str, type: str, ids: Iterable[str]) -> list[bool]:
    """Which of them the CRM still shows to people."""
    crm = world.close if account == "close" else world.hubspot
    shown = {row["id"] for row in await crm.all(type)}
    return [id in shown for id in ids]


async def _cards(world: World, record: str, kind: str = "delete") -> list[Json]:
    return await world.syncline.rows("/api/conflicts", record=record, kind=kind)


async def _says(world: World, *arguments: str) -> Any:
    code, out, err = await world.syncline.command(*arguments, "--json")
    assert code == 0, err or out
    return json.loads(out)


# --- order ----------------------------------------------------------------------------------------


async def test_a_delete_told_before_its_create_leaves_nothing_behind(
    world: World, company: Company
) -> None:
    lead, _ = await _a_lead(world, company)
    async with world.counting() as writes:
        await world.crms.weather(paused=True, **CROOKED)
        ada = await world.close.create("contact", lead_id=lead, **company.contact("Ada Lovelace"))
        await world.close.edit("contact", ada["id"], title="Countess")
        await world.close.delete("contact", ada["id"])
        bob = await world.hubspot.create("contacts", email=company.email("bob"), firstname="Bob")
        await world.hubspot.delete("contacts", bob)
        told = [e for e in await world.close.log(lead) if e["object_id"] == ada["id"]]
        assert [event["action"] for event in told] == ["deleted", "updated", "created"]
        await world.syncline.tell_close(*told)
        await world.syncline.tell_hubspot("contact.deletion", bob)
        await world.syncline.tell_hubspot("contact.creation", bob)
        await world.crms.weather(paused=False)
    assert not writes
    for name in ("ada", "bob"):
        assert await world.syncline.rows("/api/records", email=company.email(name)) == []
    assert await world.syncline.dead_letters() == []


async def test_a_restore_whose_delete_arrives_afterwards_is_no_delete(
    world: World, company: Company
) -> None:
    _, people = await _a_lead(world, company, "Ada Lovelace")
    there = await world.syncline.counterpart("close", people["Ada"], "person", "hubspot")
    async with world.counting() as writes:
        await world.crms.weather(paused=True, **CROOKED)
        await world.hubspot.delete("contacts", there)
        await world.hubspot.call("POST", f"/crm/v3/objects/contacts/{there}/restore")
        await world.syncline.tell_hubspot("contact.restore", there)
        await world.worked()
        await world.syncline.tell_hubspot("contact.deletion", there)
        await world.crms.weather(paused=False)
    assert not writes
    record = await world.syncline.record("close", people["Ada"], "person")
    assert (record["state"], {k["state"] for k in record["links"]}) == ("live", {"live"})
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", there, jobtitle="Countess")
    assert writes == {("close", "contact", "updated"): 1}


async def test_what_is_restored_after_its_delete_was_carried_over_is_made_there_anew(
    world: World, company: Company
) -> None:
    lead, people = await _a_lead(world, company, "Ada Lovelace", "Bob Frost")
    there = await world.syncline.counterpart("close", people["Ada"], "person", "hubspot")
    async with world.counting() as writes:
        await world.hubspot.delete("contacts", there)
    assert writes == {("close", "contact", "deleted"): 1}
    async with world.counting() as writes:
        await world.crms.weather(**CROOKED)
        await world.hubspot.call("POST", f"/crm/v3/objects/contacts/{there}/restore")
    assert writes["close", "contact", "created"] == 1
    contacts = (await world.close.read("lead", lead))["contacts"]
    assert sorted(row["name"] for row in contacts) == ["Ada Lovelace", "Bob Frost"]
    await world.steady()


# --- what a delete does ---------------------------------------------------------------------------


async def test_each_account_has_its_own_policy_and_a_delete_is_one_write(
    world: World, company: Company
) -> None:
    _, people = await _a_lead(world, company, "Ada Lovelace", "Bob Frost")
    there = {
        name: await world.syncline.counterpart("close", id, "person", "hubspot")
        for name, id in people.items()
    }
    await world.crms.weather(**CROOKED)
    async with world.counting() as writes:
        await world.close.delete("contact", people["Ada"])
        await world.hubspot.delete("contacts", there["Bob"])
    assert writes == {("close", "contact", "deleted"): 1}
    assert await _there(world, "hubspot", "contacts", there.values()) == [True, False]
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", there["Ada"], jobtitle=company.name)
    assert not writes
    ended = {
        row["remote_id"]: (row["ended"], row["left"])
        for row in await world.syncline.rows("/api/deletes", entity="person")
    }
    assert ended[people["Ada"]] == ("deleted", ["hubspot"])
    assert ended[people["Bob"]] == ("propagated", [])
    assert ended[there["Bob"]] == ("deleted", [])

    # A person wants Ada there after all: one create, and she is kept in step again.
    record = await world.syncline.record("hubspot", there["Ada"], "person")
    async with world.counting() as writes:
        await _says(world, "recreate", record["id"], "close")
    assert writes == {("close", "contact", "created"): 1}
    (found,) = await world.close.find("contact", title=company.name)
    async with world.counting() as writes:
        await world.close.edit("contact", found["id"], title="Enchantress")
    assert writes == {("hubspot", "contact", "updated"): 1}
    await world.steady()


async def test_an_edit_at_the_same_time_keeps_the_record_until_a_person_decides(
    world: World, company: Company
) -> None:
    _, people = await _a_lead(world, company, "Ada Lovelace", "Bob Frost")
    there = [
        await world.syncline.counterpart("close", id, "person", "hubspot") for id in people.values()
    ]
    async with world.counting() as writes:
        await world.crms.weather(paused=True, **CROOKED)
        for id, remote in zip(people.values(), there, strict=True):
            await world.close.edit("contact", id, title="Countess")
            await world.hubspot.delete("contacts", remote)
        # The delete comes first for one of them, the edit for the other.
        await world.syncline.tell_hubspot("contact.deletion", there[0])
        await world.crms.weather(paused=False)
    assert not writes
    assert await _there(world, "close", "contact", people.values()) == [True, True]
    words = {"Ada": "--delete", "Bob": "--keep"}
    async with world.counting() as writes:
        for name, word in words.items():
            record = await world.syncline.record("close", people[name], "person")
            assert record["state"] == "live"
            (card,) = await _cards(world, record["id"])
            await _says(world, "decide-delete", str(card["id"]), word)
            assert await _cards(world, record["id"]) == []
    assert writes == {("close", "contact", "deleted"): 1}
    assert await _there(world, "close", "contact", people.values()) == [False, True]
    assert await _there(world, "hubspot", "contacts", there) == [False, False]


async def test_a_lead_that_is_deleted_takes_its_deals_along_and_leaves_its_people(
    world: World, company: Company
) -> None:
    lead, people = await _a_lead(world, company, "Ada Lovelace")
    _, deal = await _a_deal(world, lead)
    firm = await world.syncline.counterpart("close", lead, "company", "hubspot")
    there = await world.syncline.counterpart("close", people["Ada"], "person", "hubspot")
    await world.crms.weather(**CROOKED)
    async with world.counting() as writes:
        await world.close.delete("lead", lead)
    assert writes == {("hubspot", "company", "deleted"): 1, ("hubspot", "deal", "deleted"): 1}
    assert await _there(world, "hubspot", "contacts", [there]) == [True]
    assert await _there(world, "hubspot", "companies", [firm]) == [False]
    assert await _there(world, "hubspot", "deals", [deal]) == [False]
    await world.steady()


async def test_a_company_whose_people_live_on_is_kept_until_they_are_gone(
    world: World, company: Company
) -> None:
    lead, people = await _a_lead(world, company, "Ada Lovelace")
    firm = await world.syncline.counterpart("close", lead, "company", "hubspot")
    there = await world.syncline.counterpart("close", people["Ada"], "person", "hubspot")
    record = await world.syncline.record("close", lead, "company")
    async with world.counting() as writes:
        await world.hubspot.delete("companies", firm)
    assert not writes
    (card,) = await _cards(world, record["id"])
    assert "would delete 1 more" in card["detail"]["reason"]
    async with world.counting() as writes:
        await world.hubspot.delete("contacts", there)
        await world.quiet()
        await world.syncline.post(f"/api/conflicts/{card['id']}/resolve", {"delete": True})
    assert writes == {("close", "contact", "deleted"): 1, ("close", "lead", "deleted"): 1}
    await world.steady()


# --- what only looks like a delete ----------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 403])
async def test_a_record_that_the_crm_does_not_show_for_a_while_is_deleted_nowhere(
    world: World, company: Company, status: int
) -> None:
    lead, _ = await _a_lead(world, company)
    close, hubspot = await _a_deal(world, lead)
    reading = {"path": r"/crm/v3/objects/deals/(\d+|batch/read)"}
    await world.crms.fault("hubspot", "status", status=status, times=4, **reading)
    async with world.counting() as writes:
        await world.hubspot.edit("deals", hubspot, description="Engines")
        # An old word of a delete proves nothing of a record that was seen since.
        await world.syncline.tell_hubspot("deal.deletion", hubspot, occurredAt=1_500_000_000_000)
        await until(lambda: _asked(world, reading["path"]))
        await world.crms.clear_faults()
        await world.syncline.post("/api/accounts/hubspot/resume")
    assert set(writes) <= {("close", "opportunity", "updated")}
    assert await _there(world, "close", "opportunity", [close]) == [True]
    record = await world.syncline.record("hubspot", hubspot, "deal")
    assert (record["state"], {k["state"] for k in record["links"]}) == ("live", {"live"})
    # It is still listened to.
    await world.hubspot.edit("deals", hubspot, description="Difference engines")
    await world.quiet()
    assert (await world.close.read("opportunity", close))["note"] == "Difference engines"


async def _asked(world: World, path: str) -> bool:
    """Whether the fault has struck at least once."""
    found = (await world.crms.control("GET", "faults"))["faults"]
    return any(fault["path"] == path and fault["times"] < 4 for fault in found)


async def test_a_page_that_fails_or_is_empty_deletes_nothing(
    world: World, company: Company
) -> None:
    lead, _ = await _a_lead(world, company, "Ada Lovelace")
    await _a_deal(world, lead)
    async with world.counting() as writes:
        listing = {"path": r"/crm/v3/objects/(companies|contacts|deals)(/search)?$"}
        await world.crms.fault("hubspot", "status", status=500, times=2, **listing)
        empty: Json = {"results": [], "total": 0}
        await world.crms.fault("hubspot", "status", status=200, body=empty, times=6, **listing)
        found = await world.syncline.resync(account="hubspot")
        assert found["counts"].get("failed", 0) == 0
        await world.crms.clear_faults()
        listing = {"method": "GET", "path": r"/(lead|contact|opportunity)/$"}
        await world.crms.fault("close", "status", status=500, times=2, **listing)
        nothing: Json = {"data": [], "has_more": False}
        await world.crms.fault("close", "status", status=200, body=nothing, times=6, **listing)
        found = await world.syncline.resync(account="close")
        assert found["counts"].get("failed", 0) == 0
        left = (await world.crms.control("GET", "faults"))["faults"]
        assert [fault["times"] < 6 for fault in left] == [True, True]  # both have struck
        await world.crms.clear_faults()
        await world.crms.fault("close", "status", status=403, times=1, path="/lead/")
        await world.syncline.post("/api/accounts/close/resume")
    assert not writes
    record = await world.syncline.record("close", lead, "company")
    assert {k["state"] for k in record["links"]} == {"live"}


# --- looking before ------------------------------------------------------------------------------


async def test_a_dry_run_lists_the_deletes_that_would_travel(
    world: World, company: Company
) -> None:
    lead, _ = await _a_lead(world, company, "Ada Lovelace")
    close, hubspot = await _a_deal(world, lead)
    firm = await world.syncline.counterpart("close", lead, "company", "hubspot")
    await world.crms.weather(paused=True)
    await world.hubspot.delete("deals", hubspot)
    await world.hubspot.delete("companies", firm)

    async def plan(entity: str, id: str) -> list[Json]:
        wanted = {"account": "hubspot", "entity": entity, "ids": [id]}
        run = await world.syncline.resync(**wanted, dry_run=True)
        return await world.syncline.rows(f"/api/resyncs/{run['id']}/plan")

    (item,) = await plan("deal", hubspot)
    assert (item["op"], item["account"], item["remote_id"]) == ("delete", "close", close)
    (item,) = await plan("company", firm)
    assert (item["op"], item["account"], item["remote_id"]) == ("hold", "close", lead)
    assert "would delete 2 more" in item["reason"]
    record = await world.syncline.record("close", close, "deal")
    assert record["state"] == "live"
    assert await _there(world, "close", "opportunity", [close]) == [True]


# --- forgetting ----------------------------------------------------------------------------------


async def _traces(world: World, *words: str) -> list[str]:
    """Where in the database something of these words is still to be read."""
    tables = await world.syncline.sql(
        "select table_name from information_schema.tables"
        " where table_schema = 'public' and table_type = 'BASE TABLE'"
    )
    found = []
    for (name,) in (row.values() for row in tables):
        body = " || convert_from(body, 'utf8')" if name == "deliveries" else ""
        query = f"select (t::text{body}) as text from {name} t where (t::text{body}) ilike any($1)"
        rows = await world.syncline.sql(query, [f"%{word}%" for word in words])
        found += [f"{name}: {row['text'][:400]}" for row in rows]
    return found


async def test_who_asks_to_be_forgotten_is_in_no_table_and_does_not_return(
    shared_world: World, company: Company
) -> None:
    world = shared_world
    await world.crms.control("POST", "options", {"hubspot": {"block_erased": False}})
    mark = company.domain.split("-")[-1].split(".")[0]
    surname = f"Byron{mark}"
    address = company.email("ada")
    lead, people = await _a_lead(world, company, f"Ada {surname}")
    ada = people["Ada"]
    there = await world.syncline.counterpart("close", ada, "person", "hubspot")
    # She is repeated where one would not look: another record's webhooks, planned runs, reports.
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=lead, contact_id=ada, status_id=statuses["Qualified"], value=100
    )
    await world.close.edit("contact", ada, title="Countess")
    await world.syncline.resync(account="close", entity="person", dry_run=True)
    await world.quiet()
    assert await _traces(world, surname, address)

    async with world.counting() as writes:
        await world.hubspot.call(
            "POST", "/crm/v3/objects/contacts/gdpr-delete", {"objectId": there}
        )
    assert not writes
    assert await _traces(world, surname, address) == []

    # Close keeps her, and goes on telling of her.
    async with world.counting() as writes:
        await world.close.edit("contact", ada, title="Enchantress")
        await world.close.edit("opportunity", deal["id"], value=200)
        other = await world.close.create("lead", name=f"{company.name} again")
        await world.close.create(
            "contact",
            lead_id=other["id"],
            name=f"Ada {surname}",
            emails=[{"email": address.upper(), "type": "home"}],
        )
        await world.quiet()
        for account in ("close", "hubspot"):
            await world.syncline.resync(account=account)
    assert writes["hubspot", "contact", "created"] == 0
    assert await _traces(world, surname, address) == []

    # With a new consent she may.
    answer = await _says(world, "readmit", address)
    assert answer["removed"] >= 1
    async with world.counting() as writes:
        await world.syncline.resync(account="close", entity="person")
    assert writes["hubspot", "contact", "created"] == 1
