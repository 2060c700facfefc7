"""Merges in the CRMs in the worst order, through the whole service.

Chains told backwards, survivors with ids of their own, losers deleted first, both sides at once.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import PORTAL, STAGES, Company, Json, World

#: Companies are merged everywhere at once; of people somebody is asked. Deletes travel, so that
#: a merge that is taken for one shows.
POLICIES = {
    "company": {"follow_merges": "merge", "deletes": "propagate"},
    "person": {"deletes": "propagate"},
    "deal": {"deletes": "propagate", "stages": STAGES},
}
CROOKED = {"duplicate": 1, "shuffle": True}
PLAIN: Json = {
    "hubspot": {"merge_new_id": False, "merge_deletes": False},
    "close": {"merge_names_source": False},
}


@pytest_asyncio.fixture(scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """Accounts between which merges and deletes travel."""
    folder = tmp_path_factory.mktemp("merges")
    async with databases() as own, harness.world(folder, own, config={"sync": POLICIES}) as found:
        yield found


@pytest_asyncio.fixture
async def world(apart: World) -> AsyncIterator[World]:
    yield apart
    await apart.crms.fair_weather()
    await apart.crms.control("POST", "options", PLAIN)
    await apart.quiet(calm=0)


async def _leads(world: World, companies: list[Company]) -> tuple[list[str], list[str]]:
    """A lead with a contact of each company, in step; their ids in Close and in HubSpot."""
    made = [
        await world.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            contacts=[company.contact("Ada Lovelace")],
        )
        for company in companies
    ]
    await world.quiet()
    leads = [lead["id"] for lead in made]
    firms = [await world.syncline.counterpart("close", id, "company", "hubspot") for id in leads]
    return leads, firms


async def _merge_told(world: World, survivor: str, loser: str, *, kind: str = "company") -> None:
    """HubSpot's webhook of a merge, by hand."""
    await world.syncline.tell_hubspot(
        f"{kind}.merge",
        survivor,
        primaryObjectId=int(survivor),
        mergedObjectIds=[int(loser)],
        newObjectId=int(survivor),
        numberOfPropertiesMoved=0,
        portalId=PORTAL,
    )


async def _merges(world: World, vendor: str, *, since: float = 0) -> list[Json]:
    """The merges that the service has asked for."""
    calls = await world.crms.calls(vendor, since=since)
    return [call for call in calls if call["path"].rstrip("/").endswith("/merge")]


async def _left(world: World, account: str, type: str, ids: list[str]) -> list[str]:
    crm = world.close if account == "close" else world.hubspot
    shown = {row["id"] for row in await crm.all(type)}
    return [id for id in ids if id in shown]


async def _one(world: World, lead: str, firm: str) -> Json:
    """The one record of both, which lives."""
    here = await world.syncline.record("close", lead, "company")
    there = await world.syncline.record("hubspot", firm, "company")
    assert here["id"] == there["id"]
    living = {(k["account"], k["remote_id"]) for k in here["links"] if k["state"] == "live"}
    assert living == {("close", lead), ("hubspot", firm)}
    assert here["state"] == "live"
    return here


async def test_a_chain_of_merges_told_backwards_is_carried_over_and_nothing_is_deleted(
    world: World,
) -> None:
    companies = [Company.new(f"Chain {letter}") for letter in "ABC"]
    leads, firms = await _leads(world, companies)
    before = len(await _merges(world, "close"))
    await world.crms.control("POST", "options", {"hubspot": {"merge_deletes": True}})
    await world.crms.weather(paused=True, **CROOKED)
    a, b, c = firms
    await world.hubspot.merge("companies", b, a)
    await world.hubspot.merge("companies", c, b)
    # The deletes of the losers come first, then the later merge, then the earlier one.
    for loser in (b, a):
        await world.syncline.tell_hubspot("company.deletion", loser)
    await _merge_told(world, c, b)
    await _merge_told(world, b, a)
    await world.crms.weather(paused=False)
    await world.quiet()

    (lead,) = await _left(world, "close", "lead", leads)
    record = await _one(world, lead, c)
    assert len(await _merges(world, "close")) - before == 2
    contacts = (await world.close.read("lead", lead))["contacts"]
    assert sorted(contact["emails"][0]["email"] for contact in contacts) == sorted(
        company.email("ada") for company in companies
    )
    people = await world.hubspot.all("contacts")
    assert {company.email("ada") for company in companies} <= {row["email"] for row in people}
    # What did not fit is in the journal.
    lost = {row["lost"] for row in record["journal"] if row["cause"] == "merge"}
    assert {companies[0].name, companies[1].name} & lost
    assert await world.syncline.rows("/api/conflicts", record=record["id"]) == []
    await world.steady()


async def test_a_merge_told_before_the_edits_keeps_them_and_a_new_id_is_followed(
    world: World,
) -> None:
    companies = [Company.new("New id"), Company.new("Old id")]
    leads, firms = await _leads(world, companies)
    await world.crms.control(
        "POST", "options", {"hubspot": {"merge_new_id": True, "merge_deletes": True}}
    )
    await world.crms.weather(paused=True, **CROOKED)
    await world.hubspot.edit("companies", firms[0], description="Edited before the merge")
    await world.close.edit("lead", leads[1], name=f"{companies[1].name} Ltd")
    await world.hubspot.merge("companies", firms[0], firms[1])
    (merged,) = await world.hubspot.find("companies", domain=companies[0].domain)
    assert merged["id"] not in firms
    for loser in firms:
        await world.syncline.tell_hubspot("company.deletion", loser)
    await world.syncline.tell_hubspot(
        "company.merge",
        merged["id"],
        primaryObjectId=int(firms[0]),
        mergedObjectIds=[int(firms[1])],
        newObjectId=int(merged["id"]),
        numberOfPropertiesMoved=2,
    )
    await world.hubspot.edit("companies", merged["id"], phone="+1 415 555 0123")
    await world.crms.weather(paused=False)
    await world.quiet()

    (lead,) = await _left(world, "close", "lead", leads)
    record = await _one(world, lead, merged["id"])
    assert record["fields"]["description"] == "Edited before the merge"
    assert record["fields"]["phone"] == "+14155550123"
    assert (await world.close.read("lead", lead))["description"] == "Edited before the merge"
    values = [record["fields"]["name"], *(row["lost"] for row in record["journal"])]
    assert f"{companies[1].name} Ltd" in values
    assert len((await world.close.read("lead", lead))["contacts"]) == 2
    await world.steady()


async def test_a_merge_of_leads_is_followed_with_its_contacts_and_deals(world: World) -> None:
    companies = [Company.new("Kept"), Company.new("Lost")]
    leads, firms = await _leads(world, companies)
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=leads[1], status_id=statuses["Qualified"], value=100
    )
    await world.quiet()
    theirs = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    await world.crms.control("POST", "options", {"close": {"merge_names_source": True}})
    await world.crms.weather(paused=True, **CROOKED)
    await world.hubspot.edit("companies", firms[1], phone="+14155550123")
    await world.close.edit("lead", leads[0], description="Makes engines")
    await world.close.merge(leads[0], leads[1])
    told = [*await world.close.log(leads[0]), *await world.close.log(leads[1])]
    await world.syncline.tell_close(*told)
    await world.crms.weather(paused=False)
    await world.quiet()

    assert await _left(world, "hubspot", "companies", firms) == [firms[0]]
    record = await _one(world, leads[0], firms[0])
    assert record["fields"]["description"] == "Makes engines"
    assert set(await world.hubspot.links("deals", theirs, "companies")) == {firms[0]}
    for company in companies:
        (contact,) = await world.hubspot.find("contacts", email=company.email("ada"))
        assert set(await world.hubspot.links("contacts", contact["id"], "companies")) == {firms[0]}
    values = [record["fields"].get("phone"), *(row["lost"] for row in record["journal"])]
    assert "+14155550123" in values
    await world.steady()


async def test_an_edit_that_nobody_told_of_survives_the_merge_of_its_lead(world: World) -> None:
    companies = [Company.new("Kept"), Company.new("Lost")]
    leads, firms = await _leads(world, companies)
    await world.crms.weather(vendor="close", lose=True)
    await world.close.edit("lead", leads[1], name="Told by nobody", description="Makes looms")
    await world.quiet()
    await world.crms.weather(vendor="close", lose=False)
    await world.close.merge(leads[0], leads[1])
    await world.quiet()
    record = await _one(world, leads[0], firms[0])
    assert record["fields"]["name"] == companies[0].name
    assert record["fields"]["description"] == "Makes looms"
    assert "Told by nobody" in [row["lost"] for row in record["journal"]]
    await world.steady()


async def test_both_sides_merge_the_same_two_crosswise(world: World) -> None:
    companies = [Company.new("Left"), Company.new("Right")]
    leads, firms = await _leads(world, companies)
    await world.crms.weather(paused=True, **CROOKED)
    await world.hubspot.merge("companies", firms[0], firms[1])
    await world.close.merge(leads[1], leads[0])
    await world.crms.weather(paused=False)
    await world.quiet()
    assert await _left(world, "close", "lead", leads) == [leads[1]]
    assert await _left(world, "hubspot", "companies", firms) == [firms[0]]
    record = await _one(world, leads[1], firms[0])
    assert await world.syncline.rows("/api/conflicts", record=record["id"]) == []
    assert len((await world.close.read("lead", leads[1]))["contacts"]) == 2
    for company in companies:
        (contact,) = await world.hubspot.find("contacts", email=company.email("ada"))
        assert set(await world.hubspot.links("contacts", contact["id"], "companies")) == {firms[0]}
    async with world.counting() as writes:
        await world.hubspot.edit("companies", firms[0], description="One")
    assert writes == {("close", "lead", "updated"): 1}


async def test_a_merge_that_the_crm_refuses_is_a_card_that_says_so_and_can_be_tried_again(
    world: World,
) -> None:
    companies = [Company.new("Refused A"), Company.new("Refused B")]
    leads, firms = await _leads(world, companies)
    said = {"status": "error", "category": "VALIDATION_ERROR", "message": "Not these two."}
    path = r"/crm/v3/objects/companies/merge"
    await world.crms.fault("hubspot", "status", status=400, body=said, times=1, path=path)
    await world.close.merge(leads[0], leads[1])
    await world.quiet()
    record = await world.syncline.record("close", leads[0], "company")
    (card,) = await world.syncline.rows("/api/conflicts", record=record["id"])
    assert (card["kind"], card["ref"]["id"]) == ("merge", firms[1])
    assert "refused to merge it" in card["detail"]["reason"]
    assert "Not these two." in card["detail"]["reason"]
    assert len(await _left(world, "hubspot", "companies", firms)) == 2
    await world.syncline.post(f"/api/conflicts/{card['id']}/resolve", {"merge": True})
    await world.quiet()
    assert await _left(world, "hubspot", "companies", firms) == [firms[0]]
    await _one(world, leads[0], firms[0])

    # A merge that the CRM could not answer is not asked for twice.
    more, theirs = await _leads(world, [Company.new("Dropped A"), Company.new("Dropped B")])
    await world.crms.fault("hubspot", "drop_after_commit", times=1, path=path)
    await world.close.merge(more[0], more[1])
    await world.quiet()
    assert await _left(world, "hubspot", "companies", theirs) == [theirs[0]]
    record = await _one(world, more[0], theirs[0])
    assert await world.syncline.rows("/api/conflicts", record=record["id"]) == []
    await world.steady()


async def test_people_merged_in_one_crm_stay_two_in_the_other_until_somebody_says(
    world: World,
) -> None:
    company = Company.new("Two people")
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[
            company.contact("Ada Lovelace", title="Countess"),
            company.contact("Augusta King", title="Enchantress"),
        ],
    )
    await world.quiet()
    ada, king = (contact["id"] for contact in lead["contacts"])
    here = await world.syncline.counterpart("close", ada, "person", "hubspot")
    there = await world.syncline.counterpart("close", king, "person", "hubspot")
    await world.crms.weather(**CROOKED)
    async with world.counting() as writes:
        await world.hubspot.merge("contacts", here, there)
    assert writes["close", "contact", "deleted"] == 0
    assert len(await _left(world, "close", "contact", [ada, king])) == 2
    record = await world.syncline.record("hubspot", here, "person")
    assert record["fields"]["title"] == "Countess"
    assert sorted(record["fields"]["emails"]) == [company.email("ada"), company.email("augusta")]
    lost = {row["lost"] for row in record["journal"] if row["cause"] == "merge"}
    assert "Enchantress" in lost
    (card,) = await world.syncline.rows("/api/conflicts", record=record["id"])
    assert (card["kind"], card["ref"]["id"]) == ("merge", king)
    # Close has no merge of contacts; one of them goes on alone.
    answer = await world.syncline.http.post(
        f"/api/conflicts/{card['id']}/resolve", json={"merge": True}
    )
    assert answer.status_code == 409
    assert "cannot merge a person" in answer.text
    await world.syncline.post(f"/api/conflicts/{card['id']}/resolve", {"unlink": True})
    await world.quiet()
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", here, jobtitle="Author of notes")
    assert writes == {("close", "contact", "updated"): 1}
    await world.steady()
