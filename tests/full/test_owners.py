"""Owners where one of the two CRMs has no user for somebody."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World, flips

GRACE, ALAN, MARY = "grace@syncline.example", "alan@syncline.example", "mary@syncline.example"


@pytest_asyncio.fixture
async def world(tmp_path_factory: Any, databases: Databases) -> AsyncIterator[World]:
    """Mary works in Close only; Grace stands in for people whom HubSpot does not know."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("owners"),
            own,
            accounts={"hubspot": {"owners": {"default": GRACE}}},
        ) as found,
    ):
        await found.crms.control("POST", "users", {"vendor": "close", "email": MARY})
        yield found


async def test_who_has_no_user_there_is_stood_in_for_and_stays_the_owner(
    world: World, company: Company
) -> None:
    users = {user["email"]: user["id"] for user in await world.close.all("user")}
    owners = {
        row["email"]: row["id"]
        for row in (await world.hubspot.call("GET", "/crm/v3/owners"))["results"]
    }
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], user_id=users[MARY], value=100
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    assert (await world.hubspot.read("deals", there))["hubspot_owner_id"] == owners[GRACE]

    # Grace in HubSpot is no news for Close, whatever else is edited there.
    await world.hubspot.edit("deals", there, amount="7")
    await world.quiet()
    seen = await world.close.read("opportunity", deal["id"])
    assert (seen["value"], seen["user_id"]) == (700, users[MARY])
    record = await world.syncline.record("close", deal["id"], "deal")
    assert record["fields"]["owner"] == MARY

    # To give it to somebody there is.
    await world.hubspot.edit("deals", there, hubspot_owner_id=owners[ALAN])
    await world.quiet()
    assert (await world.close.read("opportunity", deal["id"]))["user_id"] == users[ALAN]
    assert flips(await world.crms.history("hubspot", "deals", there)) == {}
    await world.steady()


async def test_who_has_left_there_is_stood_in_for_as_well(world: World, company: Company) -> None:
    """HubSpot shows Alan as archived: it still knows him, and he can own nothing new."""
    await world.crms.control("POST", "users", {"vendor": "hubspot", "email": ALAN, "active": False})
    users = {user["email"]: user["id"] for user in await world.close.all("user")}
    owners = {
        row["email"]: row["id"]
        for row in (await world.hubspot.call("GET", "/crm/v3/owners"))["results"]
    }
    assert ALAN not in owners
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], user_id=users[ALAN], value=100
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    assert (await world.hubspot.read("deals", there))["hubspot_owner_id"] == owners[GRACE]
    assert (await world.close.read("opportunity", deal["id"]))["user_id"] == users[ALAN]
    assert await world.syncline.dead_letters() == []
    await world.steady()
