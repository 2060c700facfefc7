"""Our subscription: one, active, whole, and what it did not tell is caught up with."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, until


@pytest_asyncio.fixture
async def world(tmp_path_factory, databases: Databases) -> AsyncIterator[World]:
    """Close, which nobody has told where to call yet."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("guardian"),
            own,
            accounts={"close": {"webhook_secret": None}},
            subscribed=False,
        ) as found,
    ):
        yield found


async def _there(world: World) -> list[Json]:
    """What Close shows its people."""
    answer = await world.crms.http.get(f"{world.close.path}/webhook/")
    return list(answer.json()["data"])


async def _change(world: World, method: str, id: str = "", body: Json | None = None) -> None:
    path = f"{world.close.path}/webhook/" + (f"{id}/" if id else "")
    answer = await world.crms.http.request(method, path, json=body)
    assert answer.is_success, answer.text


async def _time_passes(world: World, account: str = "close") -> None:
    """It is time to look after the subscription, and somebody has."""
    due = "update accounts set callback_due_at = now() where name = $1"
    await world.syncline.sql(due, account)
    lane = "update lanes set due_at = now() where account = $1 and direction = 'scan'"
    await world.syncline.sql(lane, account)

    async def looked() -> bool:
        waits = "select 1 from accounts where name = $1 and callback_due_at <= now()"
        return not await world.syncline.sql(waits, account)

    await until(looked, why=world.syncline.explain)
    await world.quiet()


async def _learned(world: World) -> int:
    shown = await world.syncline.get("/api/accounts/close")
    return int(shown["secrets"]["webhook_learned"])


async def test_the_subscription_that_somebody_asked_for_is_kept_until_they_remove_it(
    world: World, company: Company
) -> None:
    code, out, err = await world.syncline.command("webhooks", "subscribe", "close")
    assert code == 0, out + err
    (first,) = await _there(world)
    assert await _learned(world) == 1
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")

    async def description() -> str | None:
        return str((await world.hubspot.read("companies", there))["description"])

    # Paused without a word: what it did not tell is found.
    await _change(world, "PUT", first["id"], {"status": "paused"})
    await world.close.edit("lead", lead["id"], description="While it was paused")
    await _time_passes(world)
    assert [(one["id"], one["status"]) for one in await _there(world)] == [(first["id"], "active")]
    assert await description() == "While it was paused"

    # Deleted there: another takes its place, and the old key is forgotten.
    await _change(world, "DELETE", first["id"])
    await world.close.edit("lead", lead["id"], description="While there was none")
    await _time_passes(world)
    (second,) = await _there(world)
    assert await description() == "While there was none"
    assert await _learned(world) == 1
    await world.close.edit("lead", lead["id"], description="By webhook again")
    await world.quiet()
    assert await description() == "By webhook again"

    # A second one goes, and one that tells less is made whole.
    await _change(world, "POST", body={"url": second["url"], "events": [second["events"][0]]})
    await _change(world, "PUT", second["id"], {"events": [second["events"][0]]})
    await _time_passes(world)
    (left,) = await _there(world)
    assert left["id"] == second["id"]
    assert len(left["events"]) == len(second["events"])
    assert await world.syncline.metric("syncline_subscriptions_mended_total", account="close") == 4

    # Whoever removes it has removed it.
    code, out, err = await world.syncline.command("webhooks", "remove", "close", left["id"])
    assert code == 0, out + err
    assert await _learned(world) == 0
    assert await _there(world) == []
    kept = "select callback, callback_due_at from accounts where name = 'close'"
    assert await world.syncline.sql(kept) == [{"callback": None, "callback_due_at": None}]


@pytest_asyncio.fixture
async def app_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A HubSpot app that calls nobody yet, whose developer's key we have."""
    keys = {"access_token": harness.HUBSPOT_TOKEN, "developer_key": "a-developers-key"}
    hubspot: Json = {"app_id": 54321, "credentials": keys, "catch_up": {"grace": 0}}
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("app"),
            own,
            accounts={"hubspot": hubspot},
            sandbox=("--search-lag", "0.1"),
            targeted=False,
        ) as found,
    ):
        yield found


async def test_the_subscriptions_of_a_hubspot_app_are_made_mended_and_removed(
    app_world: World, company: Company
) -> None:
    world = app_world
    app, key = "/hubspot/webhooks/v3/54321", "hapikey=a-developers-key"

    async def rows() -> list[Json]:
        answer = await world.crms.http.get(f"{app}/subscriptions?{key}")
        return list(answer.json()["results"])

    code, out, err = await world.syncline.command("webhooks", "subscribe", "hubspot")
    assert code == 0, out + err
    made = await rows()
    assert all(row["active"] for row in made)
    there = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    await world.quiet()
    lead = await world.syncline.counterpart("hubspot", there, "company", "close")

    # Somebody puts one to sleep and removes another: both are mended, what they kept is found.
    asleep, gone = (
        next(r for r in made if (r["eventType"], r.get("propertyName")) == one)
        for one in (("company.propertyChange", "description"), ("company.deletion", None))
    )
    change = await world.crms.http.patch(
        f"{app}/subscriptions/{asleep['id']}?{key}", json={"active": False}
    )
    assert change.is_success
    await world.crms.http.delete(f"{app}/subscriptions/{gone['id']}?{key}")
    await world.hubspot.edit("companies", there, description="Nobody told")
    await world.quiet()
    await _time_passes(world, "hubspot")
    assert (await world.close.read("lead", lead))["description"] == "Nobody told"
    names = ("eventType", "propertyName", "objectTypeId")
    kinds = [tuple(row.get(name) for name in names) for row in await rows()]
    assert len(kinds) == len(set(kinds)) == len(made)
    assert all(row["active"] for row in await rows())
    mended = "syncline_subscriptions_mended_total"
    assert await world.syncline.metric(mended, account="hubspot") == 1

    code, out, err = await world.syncline.command("webhooks", "remove", "hubspot", "54321")
    assert code == 0, out + err
    assert await rows() == []
    kept = "select callback, callback_due_at from accounts where name = 'hubspot'"
    assert await world.syncline.sql(kept) == [{"callback": None, "callback_due_at": None}]
