"""CRMs store what they like: what they make of our values is learned, and starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.full.harness import Company, World, flips

LIKES = {"trim": True, "phones": True, "amounts": 1}
PLAIN = {"trim": False, "phones": False, "amounts": 0}


@pytest_asyncio.fixture
async def tidy(world: World) -> AsyncIterator[World]:
    await world.crms.control("POST", "options", {"hubspot": LIKES})
    yield world
    await world.crms.control("POST", "options", {"hubspot": PLAIN})


async def test_what_hubspot_reformats_is_one_write_and_stays_as_it_was_typed_in_close(
    tidy: World, company: Company
) -> None:
    world = tidy
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["Qualified"], value=100
    )
    await world.quiet()
    contact = lead["contacts"][0]["id"]
    there = await world.syncline.counterpart("close", contact, "person", "hubspot")

    async with world.counting() as writes:
        phones = [{"phone": "+1 415 555 0123", "type": "office"}]
        await world.close.edit("contact", contact, phones=phones, title="Countess  of   Lovelace ")
        await world.close.edit("opportunity", deal["id"], value=123456)
        await world.quiet()

    assert sorted(writes.items()) == [
        (("hubspot", "contact", "updated"), 1),
        (("hubspot", "deal", "updated"), 1),
    ]
    typed = await world.close.read("contact", contact)
    assert typed["title"].split() == ["Countess", "of", "Lovelace"]
    assert (await world.close.read("opportunity", deal["id"]))["value"] == 123456
    stored = await world.hubspot.read("contacts", there)
    assert stored["jobtitle"] == "Countess of Lovelace"
    for vendor, kind, id in (("close", "contact", contact), ("hubspot", "contacts", there)):
        assert flips(await world.crms.history(vendor, kind, id)) == {}
    await world.steady()


async def test_an_edit_of_a_reformatted_value_is_an_edit(tidy: World, company: Company) -> None:
    world = tidy
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    contact = lead["contacts"][0]["id"]
    await world.close.edit("contact", contact, title=" Countess  of Lovelace")
    await world.quiet()
    there = await world.syncline.counterpart("close", contact, "person", "hubspot")
    await world.hubspot.edit("contacts", there, jobtitle="Countess")
    await world.quiet()
    assert (await world.close.read("contact", contact))["title"] == "Countess"
    await world.steady()
