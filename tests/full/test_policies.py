"""Each rule of the configuration, as people on both sides meet it; and values that are nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World

SYNC: Json = {
    "company": {"conflict": "latest", "fields": {"description": {"conflict": "review"}}},
    "person": {
        "conflict": "hubspot",
        "fields": {
            "title": {"direction": "from close"},
            "phone": {"direction": "to hubspot"},
            "phones": {"direction": "to hubspot"},
        },
    },
    "deal": {
        "stages": harness.STAGES,
        "fields": {
            "amount": {"write": "once"},
            "description": {"write": "if_blank"},
            "close_date": {"direction": "off"},
        },
    },
}


@pytest_asyncio.fixture(scope="module")
async def ruled(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("policies")
    async with databases() as own, harness.world(folder, own, config={"sync": SYNC}) as found:
        yield found


@pytest_asyncio.fixture
async def pair(ruled: World) -> AsyncIterator[dict[str, str]]:
    """A lead with Ada and a deal, and where each stands in HubSpot."""
    company = Company.new("Looms")
    statuses = await ruled.close.statuses()
    lead = await ruled.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace", title="Countess")],
    )
    deal = await ruled.close.create(
        "opportunity",
        lead_id=lead["id"],
        status_id=statuses["Qualified"],
        value=10000,
        note=None,
        date_won="2027-03-31",
    )
    await ruled.quiet()
    found = {"lead": lead["id"], "contact": lead["contacts"][0]["id"], "opportunity": deal["id"]}
    for here, there, entity in (
        ("lead", "companies", "company"),
        ("contact", "contacts", "person"),
        ("opportunity", "deals", "deal"),
    ):
        found[there] = await ruled.syncline.counterpart("close", found[here], entity, "hubspot")
    yield found
    await ruled.crms.fair_weather()
    await ruled.quiet()


async def both(world: World, pair: dict[str, str], type: str, here: str, there: str) -> list[Any]:
    types = {"companies": "lead", "contacts": "contact", "deals": "opportunity"}
    row = await world.close.read(types[type], pair[types[type]])
    return [row[here], (await world.hubspot.read(type, pair[type]))[there]]


@pytest.mark.parametrize("last", ["close", "hubspot"])
async def test_under_latest_the_later_edit_wins_whoever_is_heard_first(
    ruled: World, pair: dict[str, str], last: str
) -> None:
    await ruled.crms.weather(pause=True)
    first = "hubspot" if last == "close" else "close"
    for one in (first, last):
        if one == "close":
            await ruled.close.edit("lead", pair["lead"], name="From Close")
        else:
            await ruled.hubspot.edit("companies", pair["companies"], name="From HubSpot")
    await ruled.crms.weather(vendor=last, resume=True)  # the later one is heard first
    await ruled.worked()
    await ruled.crms.weather(resume=True)
    await ruled.quiet()
    won = {"close": "From Close", "hubspot": "From HubSpot"}
    assert await both(ruled, pair, "companies", "name", "name") == [won[last], won[last]]
    record = await ruled.syncline.record("close", pair["lead"], "company")
    assert won[first] in [line["lost"] for line in record["journal"] if line["field"] == "name"]
    await ruled.steady()


@pytest.mark.parametrize(
    ("word", "left"),
    [
        ({"account": "close"}, "From Close"),
        ({"account": "hubspot"}, "From HubSpot"),
        ({"value": "From a person"}, "From a person"),
        ({"value": None}, None),
    ],
    ids=["close", "hubspot", "value", "clear"],
)
async def test_under_review_both_stay_until_a_person_says(
    ruled: World, pair: dict[str, str], word: Json, left: str | None
) -> None:
    await ruled.close.edit("lead", pair["lead"], description="Before")
    await ruled.quiet()
    await ruled.crms.weather(pause=True)
    await ruled.hubspot.edit("companies", pair["companies"], description="From HubSpot")
    await ruled.close.edit("lead", pair["lead"], description="From Close")
    await ruled.crms.weather(resume=True)
    await ruled.quiet()
    shown = await both(ruled, pair, "companies", "description", "description")
    assert shown == ["From Close", "From HubSpot"]
    # Whatever else is edited travels.
    async with ruled.counting() as writes:
        await ruled.hubspot.edit("companies", pair["companies"], name="Renamed")
    assert writes == {("close", "lead", "updated"): 1}
    record = await ruled.syncline.record("close", pair["lead"], "company")
    (card,) = await ruled.syncline.rows("/api/conflicts", record=record["id"])
    async with ruled.counting() as writes:
        await ruled.syncline.post(f"/api/conflicts/{card['id']}/resolve", word)
    assert sum(writes.values()) == (1 if "account" in word else 2)
    shown = await both(ruled, pair, "companies", "description", "description")
    assert [value or None for value in shown] == [left, left]
    await ruled.steady()


async def test_a_named_account_wins_and_a_direction_keeps_the_other_out(
    ruled: World, pair: dict[str, str]
) -> None:
    await ruled.crms.weather(pause=True)
    await ruled.hubspot.edit("contacts", pair["contacts"], firstname="Augusta", jobtitle="Poet")
    await ruled.close.edit("contact", pair["contact"], name="Adele Lovelace")
    await ruled.crms.weather(resume=True)
    await ruled.quiet()
    assert await both(ruled, pair, "contacts", "name", "firstname") == [
        "Augusta Lovelace",
        "Augusta",
    ]
    # A title is Close's alone: what HubSpot says of it counts nothing and is put right.
    assert await both(ruled, pair, "contacts", "title", "jobtitle") == ["Countess", "Countess"]
    await ruled.hubspot.edit("contacts", pair["contacts"], phone="+14155550111")
    await ruled.quiet()
    assert (await ruled.close.read("contact", pair["contact"]))["phones"] == []
    await ruled.steady()


async def test_once_is_once_if_blank_is_never_over_a_value_and_off_is_off(
    ruled: World, pair: dict[str, str]
) -> None:
    there = await ruled.hubspot.read("deals", pair["deals"])
    assert (there["amount"], there["description"], there["closedate"]) == ("100", None, None)
    await ruled.close.edit("opportunity", pair["opportunity"], value=20000, note="First")
    await ruled.quiet()
    there = await ruled.hubspot.read("deals", pair["deals"])
    assert (there["amount"], there["description"]) == ("100", "First")
    await ruled.close.edit("opportunity", pair["opportunity"], note="Second")
    await ruled.hubspot.edit("deals", pair["deals"], closedate="2028-01-01")
    await ruled.quiet()
    here = await ruled.close.read("opportunity", pair["opportunity"])
    there = await ruled.hubspot.read("deals", pair["deals"])
    assert (there["description"], here["note"]) == ("First", "Second")
    assert here["date_won"] == "2027-03-31"
    await ruled.steady()


async def test_nothing_zero_and_a_clear_are_different_things_on_both_sides(
    world: World, company: Company
) -> None:
    """In the service that has no rules of its own."""
    statuses = await world.close.statuses()
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        description="Makes looms.",
        contacts=[company.contact("Ada Lovelace", title="Countess")],
    )
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["New"], value=0, note="Free"
    )
    await world.quiet()
    contact = lead["contacts"][0]["id"]
    deals = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    people = await world.syncline.counterpart("close", contact, "person", "hubspot")
    firms = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert (await world.hubspot.read("deals", deals))["amount"] == "0"  # zero is an amount

    async with world.counting() as writes:
        await world.close.edit("opportunity", deal["id"], value=12345)
        await world.quiet()
        await world.hubspot.edit("deals", deals, amount="0")
        await world.quiet()
        assert (await world.close.read("opportunity", deal["id"]))["value"] == 0
        await world.hubspot.edit("deals", deals, amount="")
        await world.quiet()
        assert (await world.close.read("opportunity", deal["id"]))["value"] is None
        await world.close.edit("opportunity", deal["id"], value=0)
    assert writes == {("hubspot", "deal", "updated"): 2, ("close", "opportunity", "updated"): 2}
    assert (await world.hubspot.read("deals", deals))["amount"] == "0"

    async with world.counting() as writes:
        await world.close.edit("lead", lead["id"], description="")
        await world.hubspot.edit("contacts", people, jobtitle="")
    assert writes == {("hubspot", "company", "updated"): 1, ("close", "contact", "updated"): 1}
    assert not (await world.hubspot.read("companies", firms))["description"]
    assert not (await world.close.read("contact", contact))["title"]
    # What was not sent stays: an edit of one field clears no other.
    assert (await world.close.read("contact", contact))["name"] == "Ada Lovelace"
    assert (await world.hubspot.read("companies", firms))["name"] == company.name
    await world.steady()
