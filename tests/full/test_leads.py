"""A lead of Salesforce is a person, and stays the same one when it is converted."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World


@pytest_asyncio.fixture(scope="module")
async def leading(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A service for which leads are people, with a HubSpot beside."""
    folder = tmp_path_factory.mktemp("leading")
    accounts = {"salesforce": {"leads": True}}
    sync = {"person": {"accounts": ["salesforce", "hubspot"]}}
    async with (
        databases() as own,
        harness.world(folder, own, accounts=accounts, config={"sync": sync}, workers=1) as found,
    ):
        yield found


def people(writes: harness.Writes) -> dict[tuple[str, str, str], int]:
    types = ("contact", "Contact", "Lead")
    return {key: n for key, n in writes.items() if n and key[1] in types}


async def test_a_lead_is_a_person_and_its_conversion_changes_nobody(leading: World) -> None:
    world, firm = leading, Company.new("Difference Engines")
    email = firm.email("ada")
    async with world.counting() as writes:
        lead = await world.salesforce.create(
            "Lead", FirstName="Ada", LastName="Lovelace", Company=firm.name, Email=email
        )
    assert people(writes) == {("hubspot", "contact", "created"): 1}
    id = await world.syncline.counterpart("salesforce", lead, "person", "hubspot")
    before = await world.syncline.record("salesforce", lead, "person")

    async with world.counting() as writes:
        await world.hubspot.edit("contacts", id, jobtitle="Countess")
    assert people(writes) == {("salesforce", "Lead", "updated"): 1}
    assert (await world.salesforce.read("Lead", lead))["Title"] == "Countess"

    async with world.counting() as writes:
        made = await world.salesforce.convert(lead)
    assert people(writes) == {}
    contact = made["contactId"]
    after = await world.syncline.record("salesforce", contact, "person")
    assert after["id"] == before["id"]
    company = await world.syncline.counterpart(
        "salesforce", made["accountId"], "company", "hubspot"
    )
    assert list(await world.hubspot.links("contacts", id, "companies")) == [company]

    async with world.counting() as writes:
        await world.hubspot.edit("contacts", id, jobtitle="Programmer")
    assert people(writes) == {("salesforce", "Contact", "updated"): 1}
    async with world.counting() as writes:
        await world.salesforce.edit("Contact", contact, FirstName="Augusta")
    assert people(writes) == {("hubspot", "contact", "updated"): 1}
    assert len(await world.hubspot.find("contacts", email=email)) == 1
    assert len(await world.salesforce.find("Contact", Email=email)) == 1
    await world.steady()
    assert not await world.syncline.dead_letters()
    assert not await world.syncline.rows("/api/conflicts")


async def test_whom_hubspot_has_and_who_is_a_lead_already_is_one_person(leading: World) -> None:
    world, firm = leading, Company.new("Looms")
    email = firm.email("bob")
    await world.crms.weather(vendor="salesforce", paused=True)
    lead = await world.salesforce.create(
        "Lead", FirstName="Bob", LastName="Weaver", Company=firm.name, Email=email
    )
    async with world.counting() as writes:
        id = await world.hubspot.create("contacts", email=email, firstname="Bob", jobtitle="Weaver")
        await world.crms.weather(vendor="salesforce", paused=False)
    assert people(writes).keys() <= {
        ("salesforce", "Lead", "updated"),
        ("hubspot", "contact", "updated"),
    }
    assert await world.salesforce.find("Contact", Email=email) == []
    assert await world.syncline.counterpart("salesforce", lead, "person", "hubspot") == id
    assert (await world.salesforce.read("Lead", lead))["Title"] == "Weaver"
