"""Others who work on the same field as we do, and at the same time: automations and people."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.full.harness import Company, World, until


@pytest_asyncio.fixture
async def willful(world: World) -> AsyncIterator[World]:
    yield world
    for vendor in ("close", "hubspot"):
        await world.crms.control("POST", "options", {vendor: {"workflows": []}})


async def _insist(world: World, vendor: str, type: str, field: str, **how: object) -> None:
    workflow = {"type": type, "field": field, "delay": 0.02, **how}
    await world.crms.control("POST", "options", {vendor: {"workflows": [workflow]}})


async def test_a_workflow_that_corrects_what_we_write_is_an_edit_like_any_other(
    willful: World, company: Company
) -> None:
    world = willful
    await _insist(world, "hubspot", "company", "name", case="upper")
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert (await world.hubspot.read("companies", there))["name"] == company.name.upper()
    assert (await world.close.read("lead", lead["id"]))["name"] == company.name.upper()
    await world.steady()


async def test_two_workflows_that_insist_are_stopped_and_a_card_says_who(
    willful: World, company: Company
) -> None:
    world = willful
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await _insist(world, "hubspot", "company", "name", value=f"{company.name} Inc")
    await _insist(world, "close", "lead", "name", value=f"{company.name} Ltd")

    async def cards() -> list[dict[str, object]]:
        return await world.syncline.rows("/api/conflicts", kind="field", entity="company")

    async with world.counting() as writes:
        await world.close.edit("lead", lead["id"], name=f"{company.name} Group")
        await until(cards, why=world.syncline.explain)
    assert sum(writes.values()) <= 10  # it was set back four times on either side, at most
    (card,) = await cards()
    assert "set back" in str(card["detail"])
    assert {card["ours"], card["theirs"]} == {f"{company.name} Inc", f"{company.name} Ltd"}
    lead_now = await world.close.read("lead", lead["id"])
    assert lead_now["name"] == f"{company.name} Ltd"
    assert (await world.hubspot.read("companies", there))["name"] == f"{company.name} Inc"
    await world.steady()


async def _a_contact(world: World, company: Company) -> tuple[str, str]:
    """One that stands in both, by its id in Close and in HubSpot."""
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    await world.quiet()
    contact = lead["contacts"][0]["id"]
    return contact, await world.syncline.counterpart("close", contact, "person", "hubspot")


async def _lost_titles(world: World, contact: str) -> list[object]:
    """The titles that the journal says have lost."""
    record = await world.syncline.record("close", contact, "person")
    why = await world.syncline.get(f"/api/records/{record['id']}/why", field="title")
    return [step["lost"] for step in why["journal"]]


async def test_an_edit_in_the_instant_of_our_write_is_not_swallowed(
    world: World, company: Company
) -> None:
    """Close wins conflicts here; our write to it is under way when its own person edits."""
    contact, there = await _a_contact(world, company)
    slow = {"method": "PUT", "path": "/contact/", "seconds": 1.5, "times": 1}
    await world.crms.fault("close", "latency", **slow)

    await world.hubspot.edit("contacts", there, jobtitle="From HubSpot")
    await until(world.crms.struck, why=world.syncline.explain)
    await world.close.edit("contact", contact, title="From Close")
    await world.quiet()

    assert (await world.close.read("contact", contact))["title"] == "From Close"
    assert (await world.hubspot.read("contacts", there))["jobtitle"] == "From Close"
    assert "From HubSpot" in await _lost_titles(world, contact)
    await world.steady()


async def test_an_edit_right_after_our_write_is_no_echo_of_it_and_wins(
    world: World, company: Company
) -> None:
    """The news of both come together. Close wins conflicts here, and this is none."""
    contact, there = await _a_contact(world, company)
    await world.crms.weather(vendor="hubspot", pause=True)
    await world.close.edit("contact", contact, title="From Close")

    async def written() -> bool:
        return bool((await world.hubspot.read("contacts", there))["jobtitle"] == "From Close")

    await until(written, why=world.syncline.explain)
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", there, jobtitle="From HubSpot")
        await world.crms.weather(vendor="hubspot", resume=True)
    assert writes == {("close", "contact", "updated"): 1}
    assert (await world.close.read("contact", contact))["title"] == "From HubSpot"
    assert (await world.hubspot.read("contacts", there))["jobtitle"] == "From HubSpot"
    assert "From HubSpot" not in await _lost_titles(world, contact)
    await world.steady()


async def test_an_edit_in_hubspot_in_the_instant_of_our_write_is_in_the_journal(
    world: World, company: Company
) -> None:
    """It loses, as Close wins here; what it was is kept."""
    contact, there = await _a_contact(world, company)
    slow = {"method": "POST", "path": "/batch/update", "seconds": 1.5, "times": 1}
    await world.crms.fault("hubspot", "latency", **slow)

    await world.close.edit("contact", contact, title="From Close")
    await until(world.crms.struck, why=world.syncline.explain)
    await world.hubspot.edit("contacts", there, jobtitle="From HubSpot")
    await world.quiet()

    assert (await world.hubspot.read("contacts", there))["jobtitle"] == "From Close"
    assert "From HubSpot" in await _lost_titles(world, contact)
    await world.steady()
