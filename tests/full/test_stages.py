"""A deal in a stage that nothing maps: told, held, and on its way as soon as it is mapped."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import STAGES, Company, World, until

KNOWN = {ours: STAGES[ours] for ours in ("New", "Qualified", "Won", "Lost")}


@pytest_asyncio.fixture
async def world(tmp_path_factory: Any, databases: Databases) -> AsyncIterator[World]:
    """Accounts whose map has no Demo and no Proposal."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("stages"),
            own,
            config={"sync": {"deal": {"stages": KNOWN}}},
            workers=1,
        ) as found,
    ):
        yield found


async def _held(world: World) -> list[tuple[str, str]]:
    return [(letter["cause"], letter["reason"]) for letter in await world.syncline.dead_letters()]


async def test_an_unmapped_stage_is_told_and_goes_once_it_is_mapped(
    world: World, company: Company
) -> None:
    statuses = await world.close.statuses()
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["Proposal"], value=123400
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    seen = await world.hubspot.read("deals", there)
    # Everything else has travelled; it stands in the first stage meanwhile.
    assert (seen["amount"], seen["dealstage"]) == ("1234", "appointmentscheduled")
    reason = "no stage there matches 'Proposal'; map it under sync.deal.stages"
    assert await _held(world) == [("HeldError: stage", reason)]

    # The rest of it goes on; the stage is not tried again and again.
    async with world.counting() as writes:
        await world.close.edit("opportunity", deal["id"], note="Sent on Monday.")
        await world.quiet()
    assert dict(writes) == {("hubspot", "deal", "updated"): 1}
    assert await _held(world) == [("HeldError: stage", reason)]

    await world.syncline.dismiss()
    file = world.syncline.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    content["sync"]["deal"]["stages"] = STAGES
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    async with world.counting() as writes:
        await world.syncline.add_workers(1)

        async def moved() -> bool:
            return bool((await world.hubspot.read("deals", there))["dealstage"] == "contractsent")

        await until(moved, why=world.syncline.explain)
        await world.quiet()
    assert dict(writes) == {("hubspot", "deal", "updated"): 1}
    assert await _held(world) == []
    assert (await world.close.read("opportunity", deal["id"]))["status_label"] == "Proposal"


async def test_a_stage_that_was_made_a_moment_ago_is_known_and_goes_once_it_exists_there(
    world: World, company: Company
) -> None:
    statuses = await world.close.statuses()
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["Qualified"], value=100
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    legal = await world.close._call(
        "POST", "/status/opportunity/", {"label": "Legal", "status_type": "active"}
    )
    await world.close.edit("opportunity", deal["id"], status_id=legal["id"])
    await world.quiet()
    assert [cause for cause, _ in await _held(world)] == ["HeldError: stage"]
    assert (await world.hubspot.read("deals", there))["dealstage"] == "qualifiedtobuy"

    made = await world.hubspot.call(
        "POST",
        "/crm/v3/pipelines/deals",
        {"label": "Sales", "stages": [{"label": "Legal", "metadata": {"probability": "0.5"}}]},
    )
    code, out, _ = await world.syncline.command("accounts", "test", "hubspot")
    assert code == 0, out  # Demo and Proposal may be left out on purpose
    assert "is mapped by nothing, so a deal in it is held" in " ".join(out.split())

    async def moved() -> bool:
        return bool((await world.hubspot.read("deals", there))["pipeline"] == made["id"])

    await until(moved, why=world.syncline.explain)
    await world.quiet()
    assert await _held(world) == []
