"""Two portals behind one address, a third that is nobody's, and a Close that we subscribe to."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import HUBSPOT_SECRET, PORTAL, Company, PersonAtHubSpot, World, until

EUROPE, EUROPES_TOKEN = PORTAL + 1, "pat-eu1-full-tests-0002"
STRANGER, STRANGERS_TOKEN = PORTAL + 2, "pat-na1-full-tests-0003"


@pytest_asyncio.fixture(scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """Accounts close, hubspot and europe; only the sandbox knows of the third portal."""
    portals = ((EUROPES_TOKEN, EUROPE), (STRANGERS_TOKEN, STRANGER))
    told = [f"--hubspot-portal={token}={portal}" for token, portal in portals]
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("portals"),
            own,
            accounts={
                "close": {"webhook_secret": None},
                "europe": {
                    "connector": "hubspot",
                    "portal_id": EUROPE,
                    "credentials": {"access_token": EUROPES_TOKEN},
                    "webhook_secret": HUBSPOT_SECRET,
                    "base_url": harness.SAME_SANDBOX,
                },
            },
            sandbox=told,
            subscribed=False,
            config={"sync": {}},
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture
async def world(apart: World) -> AsyncIterator[World]:
    await apart.quiet(calm=0)
    yield apart
    await apart.crms.fair_weather()


@pytest.fixture
def europe(world: World) -> PersonAtHubSpot:
    return PersonAtHubSpot(world.crms.http, EUROPE)


@pytest.fixture
def stranger(world: World) -> PersonAtHubSpot:
    return PersonAtHubSpot(world.crms.http, STRANGER)


async def test_subscribing_close_keeps_its_key_which_then_verifies_what_it_sends(
    world: World, company: Company
) -> None:
    body = b'{"subscription_id": "whsub_x", "event": {}}'
    assert (await world.syncline.deliver("close", body)).status_code == 401
    code, out, err = await world.syncline.command("webhooks", "subscribe", "close", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["url"], made["key_kept"]) == (f"{world.syncline.url}/webhooks/close", True)
    assert "signature_key" not in out
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet()
    assert await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert (await world.crms.control("GET", "webhooks"))["close"]["failed"] == 0

    # A second time repairs the same one.
    code, out, err = await world.syncline.command("webhooks", "subscribe", "close", "--json")
    assert code == 0, err
    assert json.loads(out)["id"] == made["id"]
    code, out, _ = await world.syncline.command("webhooks", "list", "close", "--json")
    assert [(s["id"], s["ours"]) for s in json.loads(out)["items"]] == [(made["id"], True)]
    await world.close.edit("lead", lead["id"], name=f"{company.name} Ltd")
    await world.quiet()
    assert len(await world.hubspot.find("companies", name=f"{company.name} Ltd")) == 1


async def test_each_event_reaches_the_account_of_its_portal(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    """Ids are the same in every portal: only the portal tells them apart."""
    other = Company.new("European")
    here = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    there = await europe.create("companies", name=other.name, domain=other.domain)
    await world.quiet()
    for account, id, name in (("hubspot", here, company.name), ("europe", there, other.name)):
        lead = await world.syncline.counterpart(account, id, "company", "close")
        assert (await world.close.read("lead", lead))["name"] == name
    for portal in (world.hubspot, europe):
        found = {row["name"] for row in await portal.all("companies")}
        assert {company.name, other.name} <= found


async def test_a_change_in_one_of_three_systems_is_two_writes(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    here = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    await world.quiet()
    there = await world.syncline.counterpart("hubspot", here, "company", "europe")
    lead = await world.syncline.counterpart("hubspot", here, "company", "close")
    async with world.counting() as writes:
        await europe.edit("companies", there, description="Makes engines.")
    assert writes == {("close", "lead", "updated"): 1, ("hubspot", "company", "updated"): 1}
    assert (await world.close.read("lead", lead))["description"] == "Makes engines."
    assert (await world.hubspot.read("companies", here))["description"] == "Makes engines."
    async with world.counting() as writes:
        await world.hubspot.edit("companies", here, industry="COMPUTER_SOFTWARE")
    assert writes == {("hubspot", "company", "updated"): 1}
    assert (await europe.read("companies", there))["industry"] == "COMPUTER_SOFTWARE"
    await world.steady()


async def test_an_unknown_portals_events_are_kept_and_counted_and_touch_nothing(
    world: World, stranger: PersonAtHubSpot, company: Company
) -> None:
    async def counted() -> float:
        return await world.syncline.metric("syncline_events_total", answer="foreign")

    before = await counted()
    async with world.counting() as writes:
        id = await stranger.create("companies", name=company.name, domain=company.domain)
    assert not writes
    kept = await world.syncline.rows("/api/events", answer="foreign")
    assert {"company.creation", "company.propertyChange"} <= {event["type"] for event in kept}
    assert {event["ref"]["id"] for event in kept} == {id}
    assert str(STRANGER) in kept[0]["error"]["reason"]
    assert await counted() - before == len(kept) >= 2
    assert await world.syncline.rows("/api/records", domain=company.domain) == []

    async def none_wait() -> bool:
        return not await world.syncline.pending()

    await until(none_wait)
