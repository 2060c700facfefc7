"""Automations of the CRMs that work on the same fields as we do."""

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

    await world.close.edit("lead", lead["id"], name=f"{company.name} Group")

    async def cards() -> list[dict[str, object]]:
        return await world.syncline.rows("/api/conflicts", kind="field", entity="company")

    await until(cards, why=world.syncline.explain)
    await world.quiet()
    (card,) = await cards()
    assert "set back" in str(card["detail"])
    assert {card["ours"], card["theirs"]} == {f"{company.name} Inc", f"{company.name} Ltd"}
    lead_now = await world.close.read("lead", lead["id"])
    assert lead_now["name"] == f"{company.name} Ltd"
    assert (await world.hubspot.read("companies", there))["name"] == f"{company.name} Inc"
    await world.steady()
