"""Who is who, through the whole service: found by weak keys, kept through changes, said by hand."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World, until

KEYS = {"company": {"keys": ["domain", "name"]}, "deal": {"keys": ["company + amount"]}}


@pytest_asyncio.fixture
async def world(tmp_path_factory: Any, databases: Databases) -> AsyncIterator[World]:
    """Two CRMs whose companies are also known by name, and deals by their amount."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("identity"),
            own,
            config={"sync": KEYS},
            sandbox=("--search-lag", "0.1"),
            workers=1,
        ) as found,
    ):
        yield found


async def test_what_no_crm_can_be_asked_for_is_matched_by_scanning_both(
    world: World, company: Company
) -> None:
    await world.crms.weather(paused=True)
    statuses = await world.close.statuses()
    lead = await world.close.create("lead", name=company.name)
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["Qualified"], value=123400
    )
    there = await world.hubspot.create("companies", name=company.name.upper())
    theirs = await world.hubspot.create(
        "deals", company=there, dealname="Engines", amount="1234", dealstage="qualifiedtobuy"
    )
    firms, deals = len(await world.hubspot.all("companies")), len(await world.hubspot.all("deals"))
    await world.syncline.resync(account="close")

    async def told() -> bool:
        """The create waits, and says for what."""
        waiting = (await world.syncline.record("close", lead["id"], "company"))["waiting"]
        return any(
            "syncline resync hubspot" in (w["error"] or {}).get("reason", "") for w in waiting
        )

    await until(told)
    assert len(await world.hubspot.all("companies")) == firms
    await world.syncline.resync(account="hubspot")
    await world.crms.weather(paused=False)
    await world.quiet()
    assert len(await world.hubspot.all("companies")) == firms
    assert len(await world.hubspot.all("deals")) == deals
    assert await world.syncline.counterpart("close", lead["id"], "company", "hubspot") == there
    assert await world.syncline.counterpart("close", deal["id"], "deal", "hubspot") == theirs


async def test_a_person_stays_one_through_a_change_of_address_and_a_word_by_hand(
    world: World, company: Company
) -> None:
    await world.syncline.resync(account="hubspot")
    await world.syncline.resync(account="close")
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace")],
    )
    ada = lead["contacts"][0]["id"]
    await world.quiet()
    there = await world.syncline.counterpart("close", ada, "person", "hubspot")
    before = await world.syncline.record("close", ada, "person")

    # A new address is an edit, and no new person.
    await world.hubspot.edit("contacts", there, email=company.email("countess"))
    await world.quiet()
    after = await world.syncline.record("hubspot", there, "person")
    assert after["id"] == before["id"]
    assert after["fields"]["email"] == company.email("countess")

    # A double in HubSpot is a card; the person has it merged there.
    double = await world.hubspot.create("contacts", firstname="Ada", lastname="Lovelace")
    await world.quiet()
    found = await world.syncline.record("hubspot", double, "person")
    merged = await world.syncline.post(f"/api/records/{found['id']}/merge", {"into": after["id"]})
    assert merged["dry_run"] is False
    (card,) = await world.syncline.rows("/api/conflicts", record=after["id"], account="hubspot")
    assert card["kind"] == "merge"
    await world.syncline.post(f"/api/conflicts/{card['id']}/resolve", {"merge": True})

    async def one() -> bool:
        return double not in {row["id"] for row in await world.hubspot.all("contacts")}

    await until(one)
    await world.quiet()
    now = await world.syncline.get(f"/api/records/{after['id']}")
    living = {
        k["remote_id"] for k in now["links"] if (k["account"], k["state"]) == ("hubspot", "live")
    }
    assert living == {there}
    assert now["fields"]["email"] == company.email("countess")


async def test_an_address_that_hubspot_has_already_is_a_dead_letter_and_not_a_loop(
    world: World, company: Company
) -> None:
    await world.syncline.resync(account="hubspot")
    address = [{"email": company.email("office"), "type": "office"}]
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[{"name": "Ada Lovelace", "emails": address}],
    )
    await world.quiet()
    second = await world.close.create(
        "contact", lead_id=lead["id"], name="Charles Babbage", emails=address
    )
    await world.quiet()
    (card,) = await world.syncline.rows("/api/conflicts", account="close")
    assert (card["kind"], card["ref"]["id"]) == ("identity", second["id"])
    assert card["sides"][1]["differs"] == ["first_name", "last_name"]
    await world.syncline.post(f"/api/conflicts/{card['id']}/resolve", {"new": True})
    await world.quiet()

    # They are two in Close; HubSpot takes an address once. Nobody is asked again who they are.
    charles = await world.syncline.record("close", second["id"], "person")
    assert charles["fields"]["first_name"] == "Charles"
    assert await world.syncline.rows("/api/conflicts", account="hubspot") == []
    (letter,) = await world.syncline.dead_letters()
    assert "belongs to another record" in letter["reason"]
    assert len(await world.hubspot.all("contacts")) == 1
