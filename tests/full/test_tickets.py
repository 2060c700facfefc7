"""Tickets: once in HubSpot and once in Salesforce, in the same stage; Close has none."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World

PRIMARY, CONTACT = 26, 16
STAGES = {
    "Waiting": {"hubspot": ["Waiting on us", "Waiting on contact"], "salesforce": "Working"},
    "New": {"hubspot": "New", "salesforce": "New"},
}


@pytest_asyncio.fixture(scope="module")
async def desk(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A service that keeps tickets of two help desks in step, beside a Close without any."""
    folder = tmp_path_factory.mktemp("desk")
    sync = {"deal": {"stages": harness.STAGES}, "ticket": {"stages": STAGES}}
    accounts = {"salesforce": {"connector": "salesforce"}}
    async with (
        databases() as own,
        harness.world(folder, own, accounts=accounts, config={"sync": sync}, workers=1) as found,
    ):
        yield found


async def shown(world: World, id: str) -> Json:
    names = "subject,content,hs_pipeline_stage,hs_ticket_priority,hubspot_owner_id"
    answer = await world.hubspot.call("GET", f"/crm/v3/objects/tickets/{id}?properties={names}")
    return dict(answer["properties"])


def tickets(writes: harness.Writes) -> harness.Writes:
    return +type(writes)({key: n for key, n in writes.items() if key[1] in ("ticket", "Case")})


async def test_a_ticket_stands_in_both_and_closed_is_closed(desk: World) -> None:
    world, firm = desk, Company.new("Difference Engines")
    lead = await world.close.create(
        "lead",
        name=firm.name,
        url=f"https://{firm.domain}",
        contacts=[firm.contact("Ada Lovelace")],
    )
    await world.quiet()
    ada = lead["contacts"][0]["id"]
    counterpart = world.syncline.counterpart
    company = await counterpart("close", lead["id"], "company", "hubspot")
    contact = await counterpart("close", ada, "person", "hubspot")
    async with world.counting() as writes:
        ends = ((company, PRIMARY), (contact, CONTACT))
        made = await world.hubspot.call(
            "POST",
            "/crm/v3/objects/tickets",
            {
                "properties": {
                    "subject": "It stalls",
                    "content": "At the third wheel",
                    "hs_pipeline_stage": "3",
                    "hs_ticket_priority": "URGENT",
                    "hubspot_owner_id": "81001",
                },
                "associations": [
                    {
                        "to": {"id": id},
                        "types": [
                            {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type}
                        ],
                    }
                    for id, type in ends
                ],
            },
        )
    assert tickets(writes) == {("salesforce", "Case", "created"): 1}
    id = await counterpart("hubspot", made["id"], "ticket", "salesforce")
    case = await world.salesforce.read("Case", id)
    assert (case["Subject"], case["Description"]) == ("It stalls", "At the third wheel")
    # Salesforce has no higher priority, and that HubSpot has one stays so.
    assert (case["Status"], case["Priority"]) == ("Working", "High")
    assert case["AccountId"] == await counterpart("close", lead["id"], "company", "salesforce")
    assert case["ContactId"] == await counterpart("close", ada, "person", "salesforce")
    owners = await world.salesforce.query("SELECT Id, Email FROM User")
    grace = next(row["Id"] for row in owners if row["Email"] == "grace@syncline.example")
    assert case["OwnerId"] == grace

    async with world.counting() as writes:
        await world.salesforce.edit("Case", id, Status="Closed", Description="A tooth was bent")
    assert tickets(writes) == {("hubspot", "ticket", "updated"): 1}
    there = await shown(world, made["id"])
    assert (there["hs_pipeline_stage"], there["content"]) == ("4", "A tooth was bent")
    assert there["hs_ticket_priority"] == "URGENT"

    async with world.counting() as writes:
        await world.hubspot.edit("tickets", made["id"], hs_pipeline_stage="2", subject="Again")
    assert tickets(writes) == {("salesforce", "Case", "updated"): 1}
    case = await world.salesforce.read("Case", id)
    assert (case["Status"], case["Subject"], case["IsClosed"]) == ("Working", "Again", False)
    assert (await shown(world, made["id"]))["hs_pipeline_stage"] == "2"
    await world.steady()
    assert not await world.syncline.dead_letters()


async def test_a_case_of_an_unmapped_status_is_told_and_the_rest_of_it_travels(desk: World) -> None:
    world, firm = desk, Company.new("Looms")
    account = await world.salesforce.create(
        "Account", Name=firm.name, Website=f"https://{firm.domain}"
    )
    case = await world.salesforce.create(
        "Case", AccountId=account, Subject="Torn", Status="Escalated", Priority="Low"
    )
    await world.quiet()
    id = await world.syncline.counterpart("salesforce", case, "ticket", "hubspot")
    there = await shown(world, id)
    assert (there["subject"], there["hs_ticket_priority"]) == ("Torn", "LOW")
    (letter,) = await world.syncline.dead_letters()
    assert letter["reason"] == "no stage there matches 'Escalated'; map it under sync.ticket.stages"
    async with world.counting() as writes:
        await world.salesforce.edit("Case", case, Status="New")
    assert tickets(writes) == {}  # it stood there in the first stage meanwhile
    assert not await world.syncline.dead_letters()
    _, out, _ = await world.syncline.command("accounts", "test", "salesforce")
    assert "Escalated: is mapped by nothing, so a ticket in it is held" in " ".join(out.split())
