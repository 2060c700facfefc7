"""Before the first write, and above too many of them: a person is asked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, until


@pytest_asyncio.fixture(scope="module")
async def guarded_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """A HubSpot that takes five new records an hour."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("guarded"),
            own,
            accounts={"hubspot": {"guard": {"creates": 5, "updates": 500}}},
            config={"sync": {"deal": {"accounts": []}}},
        ) as found,
    ):
        yield found


async def guard_of(world: World, op: str = "create") -> Json:
    (found,) = [
        guard
        for guard in (await world.syncline.get("/api/accounts/hubspot"))["guards"]
        if guard["op"] == op
    ]
    return dict(found)


async def test_what_exceeds_a_guard_waits_until_a_person_approves_or_discards(
    guarded_world: World,
) -> None:
    world = guarded_world
    async with world.counting() as writes:
        companies = [Company.new(f"Guarded {n}") for n in range(8)]
        leads = [
            await world.close.create("lead", name=c.name, url=f"https://{c.domain}")
            for c in companies
        ]
        held = await until(lambda: _held(world, 3), why=world.syncline.explain)
    assert writes["hubspot", "company", "created"] == 5
    assert (held["limit"], held["used"]) == (5, 5)
    assert {one["entity"] for one in held["samples"]} == {"company"}
    assert {one["name"] for one in held["samples"]} < {c.name for c in companies}
    assert held["since"]
    (lane,) = [
        lane
        for lane in (await world.syncline.get("/health/lanes"))["lanes"]
        if (lane["account"], lane["direction"]) == ("hubspot", "out")
    ]
    assert (lane["held"], lane["pending"], lane["paused"]) == (3, 0, False)
    assert await world.syncline.metric("syncline_guard_held", account="hubspot", op="create") == 3
    code, out, _ = await world.syncline.command("accounts", "list")
    assert (code, "3 creates" in out, "syncline guard show hubspot" in out) == (0, True, True)

    # Everything else of the account goes on.
    there = {row["name"] for row in await world.hubspot.all("companies")}
    known = next(lead for lead in leads if lead["name"] in there)
    async with world.counting() as writes:
        await world.close.edit("lead", known["id"], description="edited meanwhile")
    assert writes["hubspot", "company", "updated"] == 1
    assert not writes["hubspot", "company", "created"]

    # A person lets them through: no more and no less than what waited.
    async with world.counting() as writes:
        code, out, _ = await world.syncline.command("guard", "approve", "hubspot", "--op", "create")
        assert (code, "3 writes" in out) == (0, True)
    assert writes == {("hubspot", "company", "created"): 3}
    assert (await guard_of(world))["held"] == 0

    # It counts anew, and what waits can be dropped as well.
    async with world.counting() as writes:
        for n in range(7):
            other = Company.new(f"Dropped {n}")
            await world.close.create("lead", name=other.name, url=f"https://{other.domain}")
        await until(lambda: _held(world, 2), why=world.syncline.explain)
    assert writes["hubspot", "company", "created"] == 5
    async with world.counting() as writes:
        answer = await world.syncline.post("/api/accounts/hubspot/guard/discard", {"op": "create"})
        assert answer["discarded"] == 2
    assert not writes
    assert (await guard_of(world))["held"] == 0
    assert await world.syncline.dead_letters() == []


async def test_the_children_of_what_waits_wait_with_it_and_follow_it(guarded_world: World) -> None:
    world = guarded_world
    await world.syncline.post("/api/accounts/hubspot/guard/approve")  # count anew
    for n in range(5):
        other = Company.new(f"Filler {n}")
        await world.close.create("lead", name=other.name, url=f"https://{other.domain}")
    await world.quiet()
    company = Company.new("Parent")
    async with world.counting() as writes:
        lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
        await until(lambda: _held(world, 1), why=world.syncline.explain)
    contact = await world.close.create(
        "contact", lead_id=lead["id"], **company.contact("Ada Lovelace")
    )

    async def waits() -> bool:
        rows = await world.syncline.rows("/api/accounts/hubspot/pending")
        return {row["entity"] for row in rows} == {"company", "person"}

    await until(waits, why=world.syncline.explain)
    assert not writes["hubspot", "company", "created"]
    assert await world.hubspot.find("contacts", email=company.email("ada")) == []

    await world.syncline.post("/api/accounts/hubspot/guard/approve", {"for_an_hour": True})
    ada = await until(lambda: _counterpart(world, contact["id"]), why=world.syncline.explain)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert set(await world.hubspot.links("contacts", ada, "companies")) == {there}


async def test_updates_and_deletes_have_a_limit_of_their_own(
    tmp_path: Path, databases: Databases
) -> None:
    guard = {"hubspot": {"guard": {"updates": 2, "deletes": 1}}}
    sync = {"company": {"deletes": "propagate"}}
    async with (
        databases() as own,
        harness.world(tmp_path, own, accounts=guard, config={"sync": sync}) as world,
    ):
        companies = [Company.new(f"Limited {n}") for n in range(3)]
        leads = [
            await world.close.create("lead", name=c.name, url=f"https://{c.domain}")
            for c in companies
        ]
        await world.quiet()
        await world.syncline.post("/api/accounts/hubspot/guard/approve")  # count anew

        async with world.counting() as writes:
            for lead in leads:
                await world.close.edit("lead", lead["id"], description="edited")
            await until(lambda: _held(world, 1, "update"), why=world.syncline.explain)
        assert writes == {("hubspot", "company", "updated"): 2}
        async with world.counting() as writes:
            await world.syncline.post("/api/accounts/hubspot/guard/approve", {"op": "update"})
        assert writes == {("hubspot", "company", "updated"): 1}

        async with world.counting() as writes:
            for lead in leads:
                await world.close.delete("lead", lead["id"])
            await until(lambda: _held(world, 2, "delete"), why=world.syncline.explain)
        assert writes == {("hubspot", "company", "deleted"): 1}
        async with world.counting() as writes:
            await world.syncline.post("/api/accounts/hubspot/guard/discard", {"op": "delete"})
        assert not writes
        there = {row["name"] for row in await world.hubspot.all("companies")}
        assert len(there & {company.name for company in companies}) == 2


async def _counterpart(world: World, contact: str) -> str:
    found = await world.syncline.record("close", contact, "person")
    ids = [link["remote_id"] for link in found["links"] if link["account"] == "hubspot"]
    return ids[0] if ids else ""


async def _held(world: World, count: int, op: str = "create") -> Json:
    found = await guard_of(world, op)
    return found if found["held"] == count else {}
