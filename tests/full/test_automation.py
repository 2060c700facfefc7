"""What HubSpot makes of its own accord: the company of an e-mail domain, met and never doubled."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.full.harness import Company, World


@pytest_asyncio.fixture
async def eager(world: World) -> AsyncIterator[World]:
    """A portal that gives every contact the company of its domain."""
    await world.crms.control("POST", "options", {"hubspot": {"auto_company": True}})
    yield world
    await world.crms.control("POST", "options", {"hubspot": {"auto_company": False}})


async def test_a_company_that_hubspot_makes_for_a_new_contact_is_one_lead(
    eager: World, company: Company
) -> None:
    world = eager
    await world.crms.weather(duplicate=1, shuffle=True)
    ada = await world.hubspot.create(
        "contacts", email=company.email("ada"), firstname="Ada", lastname="Lovelace"
    )
    await world.quiet()
    (firm,) = await world.hubspot.find("companies", domain=company.domain)
    lead = await world.syncline.counterpart("hubspot", firm["id"], "company", "close")
    contact = await world.syncline.counterpart("hubspot", ada, "person", "close")
    assert [row["id"] for row in (await world.close.read("lead", lead))["contacts"]] == [contact]
    assert len(await world.close.find("lead", name=firm["name"])) == 1
    await world.steady()


async def test_a_lead_with_a_website_keeps_its_contact_and_its_company(
    eager: World, company: Company
) -> None:
    world = eager
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace")],
    )
    await world.quiet()
    (firm,) = await world.hubspot.find("companies", domain=company.domain)
    assert await world.syncline.counterpart("close", lead["id"], "company", "hubspot") == firm["id"]
    (ada,) = await world.hubspot.find("contacts", email=company.email("ada"))
    assert set(await world.hubspot.links("contacts", ada["id"], "companies")) == {firm["id"]}
    await world.steady()


async def test_the_contact_of_a_lead_without_a_website_follows_hubspot_and_is_not_doubled(
    eager: World, company: Company
) -> None:
    """HubSpot makes the company of the domain the primary one: that is an edit like any other."""
    world = eager
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    await world.quiet()
    (firm,) = await world.hubspot.find("companies", domain=company.domain)
    theirs = await world.syncline.counterpart("hubspot", firm["id"], "company", "close")
    ours = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert (theirs, ours) != (lead["id"], firm["id"])
    ada = lead["contacts"][0]["id"]
    assert (await world.close.read("contact", ada))["lead_id"] == theirs
    assert len(await world.hubspot.find("contacts", email=company.email("ada"))) == 1
    await world.steady()
