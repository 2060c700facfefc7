"""A lifecycle stage that HubSpot does not take back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World


@pytest_asyncio.fixture
async def world(tmp_path_factory: Any, databases: Databases) -> AsyncIterator[World]:
    """Before a worker starts."""
    folder = tmp_path_factory.mktemp("lifecycle")
    async with databases() as own, harness.world(folder, own, workers=0) as found:
        yield found


async def test_an_earlier_lifecycle_stage_is_told_once_and_flips_nothing(
    world: World, company: Company
) -> None:
    field = await world.close._call(
        "POST", "/custom_field/contact/", {"name": "Stage", "type": "text"}
    )
    path = f"custom.{field['id']}"
    file = world.syncline.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    content["accounts"]["close"]["mapping"] = {"person": {"lifecycle_stage": path}}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    await world.syncline.add_workers(1)
    await world.syncline.works()

    contact = company.contact("Ada Lovelace", **{path: "customer"})
    lead = await world.close.create("lead", name=company.name, contacts=[contact])
    ada = lead["contacts"][0]["id"]
    await world.quiet()
    there = await world.syncline.counterpart("close", ada, "person", "hubspot")
    assert (await world.hubspot.read("contacts", there))["lifecyclestage"] == "customer"

    async with world.counting() as writes:
        await world.close.edit("contact", ada, title="Countess", **{path: "lead"})
        await world.quiet()
    assert dict(writes) == {("hubspot", "contact", "updated"): 1}
    seen = await world.hubspot.read("contacts", there)
    assert (seen["jobtitle"], seen["lifecyclestage"]) == ("Countess", "customer")
    (letter,) = await world.syncline.dead_letters()
    assert letter["cause"] == "RejectedError: lifecyclestage"
    assert "cannot go back to lead" in letter["reason"]

    # Nothing comes back from it, whatever else happens to the two.
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", there, jobtitle="Lady")
        await world.quiet()
    assert dict(writes) == {("close", "contact", "updated"): 1}
    assert (await world.close.read("contact", ada))[path] == "lead"
    await world.steady()
