"""Rows of an operator's own: made values, words of the CRM, options, and what waits for a word."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World, until

ROWS = {
    "company": {
        "description": {
            "path": "hs_lead_status",
            "values": {"Fresh": "NEW"},
            "unmapped": "create",
        },
    },
    "person": {
        "title": {"path": "hs_lead_status", "values": {"Boss": "NEW"}},
        "lead_status": {"direction": "off"},
        "custom.greeting": {
            "path": "salutation",
            "template": "Dear {{first_name}} {{last_name|upper|truncate:6}}",
        },
    },
}


@pytest_asyncio.fixture
async def world(tmp_path_factory: Any, databases: Databases) -> AsyncIterator[World]:
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("mapping"),
            own,
            accounts={"hubspot": {"mapping": ROWS}},
            workers=1,
        ) as found,
    ):
        yield found


async def test_made_values_follow_their_parts_and_an_unmapped_one_waits_for_its_word(
    world: World, company: Company
) -> None:
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        description="Reseller",
        contacts=[company.contact("Ada Lovelace", title="Clerk")],
    )
    await world.quiet()
    contact = lead["contacts"][0]["id"]
    there = await world.syncline.counterpart("close", contact, "person", "hubspot")
    firm = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")

    # The option was made first, then the value was written.
    company_there = await world.hubspot.call(
        "GET", f"/crm/v3/objects/companies/{firm}?properties=hs_lead_status"
    )
    assert company_there["properties"]["hs_lead_status"] == "Reseller"

    async def person() -> dict[str, Any]:
        names = "firstname,salutation,hs_lead_status"
        path = f"/crm/v3/objects/contacts/{there}?properties={names}"
        return dict((await world.hubspot.call("GET", path))["properties"])

    seen = await person()
    assert (seen["salutation"], seen["hs_lead_status"]) == ("Dear Ada LOVELA", None)
    (letter,) = await world.syncline.dead_letters()
    assert (letter["cause"], letter["value"]) == ("HeldError: title", "Clerk")
    assert "'Clerk' is not among the values of this row" in letter["reason"]

    async with world.counting() as writes:
        await world.close.edit("contact", contact, name="Augusta Lovelace")
        await world.quiet()
    assert dict(writes) == {("hubspot", "contact", "updated"): 1}
    assert (await person())["salutation"] == "Dear Augusta LOVELA"

    code, out, err = await world.syncline.command("mapping", "try", "close", contact, "--json")
    assert code == 0, err
    (told,) = json.loads(out)["accounts"]
    assert "'Clerk' is not among the values" in told["held"]["title"]
    assert told["says"]["salutation"] == "Dear Augusta LOVELA"
    code, out, _ = await world.syncline.command("mapping", "try", "close", f"contact/{contact}")
    assert code == 0
    assert "title is held" in out

    await world.syncline.dismiss()
    file = world.syncline.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    content["accounts"]["hubspot"]["mapping"]["person"]["title"]["values"]["Clerk"] = "OPEN"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    await world.syncline.add_workers(1)

    async def released() -> bool:
        return bool((await person())["hs_lead_status"] == "OPEN")

    await until(released, why=world.syncline.explain)
    await world.quiet()
    assert await world.syncline.dead_letters() == []
    assert (await world.close.read("contact", contact))["title"] == "Clerk"
