"""What no webhook told is found by comparing, and mended by the ordinary path."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World

#: Whose webhook has not come at once has not come; nothing else looks for it.
ALONE: Json = {"catch_up": {"every": "off", "grace": 0}}


@pytest_asyncio.fixture
async def world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """CRMs whose webhooks may be lost, and a service that does not look for them by itself."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("drift"), own, accounts={"close": ALONE, "hubspot": ALONE}
        ) as found,
    ):
        yield found


async def _drift(world: World, *options: str) -> tuple[int, Json]:
    code, out, err = await world.syncline.command("drift", "hubspot", "--json", *options)
    assert not err, err
    return code, json.loads(out)


async def test_an_edit_that_was_never_told_is_found_and_mended_from_the_command_line(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.close.create("contact", lead_id=lead["id"], **company.contact("Ada Lovelace"))
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")

    code, found = await _drift(world)
    assert (code, found["equal"], found["counts"]["records"]) == (0, True, 2)
    assert found["ours"] == found["theirs"]

    await world.crms.weather(vendor="hubspot", lose=True)
    await world.hubspot.edit("companies", there, description="Nobody told")
    await world.quiet()
    before = await world.crms.writes()
    code, found = await _drift(world)
    assert (code, found["equal"], found["causes"]) == (1, False, {"missed_webhook": 1})
    (one,) = found["differences"]
    assert (one["remote_id"], one["field"], one["theirs"]) == (there, "description", "Nobody told")
    assert found["ours"] != found["theirs"]
    await world.quiet()
    assert await world.crms.writes() == before

    code, found = await _drift(world, "--repair", "--entity", "company")
    assert (code, found["counts"]["repaired"]) == (1, 1)
    await world.quiet()
    assert (await world.close.read("lead", lead["id"]))["description"] == "Nobody told"
    code, found = await _drift(world)
    assert (code, found["equal"]) == (0, True)
    metric = "syncline_drift_differences_total"
    assert await world.syncline.metric(metric, cause="missed_webhook") == 2
