"""Our subscription at Close: one, active, whole, and what it did not tell is caught up with."""

from collections.abc import AsyncIterator

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


async def _time_passes(world: World) -> None:
    """It is time to look after the subscription, and somebody has."""
    await world.syncline.sql("update accounts set callback_due_at = now() where name = 'close'")
    await world.syncline.sql(
        "update lanes set due_at = now() where account = 'close' and direction = 'scan'"
    )

    async def looked() -> bool:
        found = await world.syncline.sql(
            "select 1 from accounts where name = 'close' and callback_due_at <= now()"
        )
        return not found

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
