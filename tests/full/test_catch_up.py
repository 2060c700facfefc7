"""What no webhook told is found in the CRMs' own logs, and nothing is done twice."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, until

#: A webhook that has not come at once is missed.
AT_ONCE = {"every": "off", "grace": 0}


@pytest_asyncio.fixture(scope="module")
async def forgetful(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """CRMs whose webhooks may be lost, and a service that reads their logs when it is told."""
    accounts: Json = {name: {"catch_up": AT_ONCE} for name in ("close", "hubspot")}
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("forgetful"),
            own,
            accounts=accounts,
            sandbox=("--search-lag", "0.1"),
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture
async def world(forgetful: World) -> AsyncIterator[World]:
    yield forgetful
    await forgetful.crms.fair_weather()
    await forgetful.quiet(calm=0)


async def _caught_up(world: World, account: str) -> Json:
    """Have the log read to its end; how it stands then."""
    path = f"/api/accounts/{account}/catch-up"
    await world.syncline.post(path)

    async def over() -> Json:
        state = await world.syncline.get(path)
        return state if state["done"] else {}

    state = await until(over, why=world.syncline.explain)
    await world.quiet()
    return state


async def _linked(world: World, company: Company) -> tuple[Json, str]:
    """A lead with a contact, and its company in HubSpot."""
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.close.create("contact", lead_id=lead["id"], **company.contact("Ada Lovelace"))
    await world.quiet()
    return lead, await world.syncline.counterpart("close", lead["id"], "company", "hubspot")


async def test_what_close_did_not_tell_is_in_its_log(world: World, company: Company) -> None:
    lead, there = await _linked(world, company)
    other = Company.new("Difference Engines")
    await world.crms.weather(vendor="close", lose=True)
    await world.close.edit("lead", lead["id"], description="Calculates")
    new = await world.close.create("lead", name=other.name, url=f"https://{other.domain}")
    short = await world.close.create("lead", name="A short visit", url="https://short.example")
    await world.close.delete("lead", short["id"])
    await world.close.delete(
        "contact", (await world.close.read("lead", lead["id"]))["contact_ids"][0]
    )
    await world.crms.weather(vendor="close", lose=False)
    await world.quiet()
    assert (await world.hubspot.read("companies", there))["description"] is None

    async with world.counting() as writes:
        state = await _caught_up(world, "close")
    assert (await world.hubspot.read("companies", there))["description"] == "Calculates"
    assert await world.syncline.counterpart("close", new["id"], "company", "hubspot")
    assert await world.hubspot.find("companies", name="A short visit") == []
    assert writes["hubspot", "company", "created"] == 1
    assert writes["hubspot", "company", "updated"] == 1
    assert state["done"]
    assert sum(one["missed"] for one in state["items"]) >= 4
    assert state["missed_rate"] > 0

    # Whoever reads the same again finds that all of it is known.
    async with world.counting() as writes:
        code, out, err = await world.syncline.command("--json", "accounts", "catch-up", "close")
    assert code == 0, out + err
    assert not writes
    assert _missed(json.loads(out)) == _missed(state)


def _missed(state: Json) -> dict[str, int]:
    return {one["entity"]: one["missed"] for one in state["items"]}


async def test_what_hubspot_did_not_tell_is_searched_for(world: World, company: Company) -> None:
    lead, there = await _linked(world, company)
    other = Company.new("Difference Engines")
    gone = await world.hubspot.create("companies", name="Gone soon", domain="gone-soon.example")
    await world.quiet()
    leaving = await world.syncline.record("hubspot", gone, "company")
    await world.crms.weather(vendor="hubspot", lose=True)
    await world.hubspot.edit("companies", there, description="Calculates")
    new = await world.hubspot.create("companies", name=other.name, domain=other.domain)
    await world.hubspot.delete("companies", gone)
    await world.crms.weather(vendor="hubspot", lose=False)
    await world.quiet()

    async with world.counting() as writes:
        await until(lambda: _told(world, there, new), why=world.syncline.explain)
    assert (await world.close.read("lead", lead["id"]))["description"] == "Calculates"
    assert await world.syncline.counterpart("hubspot", new, "company", "close")
    assert writes["close", "lead", "created"] == 1
    states = await world.syncline.get(f"/api/records/{leaving['id']}")
    assert {link["account"]: link["state"] for link in states["links"]}["hubspot"] == "gone"

    state = await _caught_up(world, "hubspot")
    async with world.counting() as writes:
        again = await _caught_up(world, "hubspot")
    assert not writes
    assert _missed(again) == _missed(state)


async def _told(world: World, edited: str, new: str) -> bool:
    """Read HubSpot's changes until its search, which lags, shows these two."""
    await _caught_up(world, "hubspot")
    rows = await world.syncline.rows("/api/events", account="hubspot")
    return {edited, new} <= {
        row["ref"]["id"] for row in rows if row["type"] == "company.propertyChange"
    }


async def test_what_webhooks_told_is_not_told_again(world: World, company: Company) -> None:
    lead, there = await _linked(world, company)
    await world.close.edit("lead", lead["id"], description="Told")
    await world.hubspot.edit("companies", there, phone="+14155550123")
    await world.quiet()
    before = {a: _missed(await _caught_up(world, a)) for a in ("close", "hubspot")}
    async with world.counting() as writes:
        after = {a: _missed(await _caught_up(world, a)) for a in ("close", "hubspot")}
    assert not writes
    assert after == before
