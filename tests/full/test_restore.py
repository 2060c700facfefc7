"""A database of six hours ago replaces today's: nothing old goes out, nothing is doubled."""

from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World, flips, until
from tests.postgres import clone, server


async def _restart(world: World, *, database_url: str) -> None:
    """The service anew, on this database."""
    service = world.syncline
    service.environment["DATABASE_URL"] = service.database_url = database_url
    await service.api.start()
    await service.ready()
    await service.works()


async def _waits(world: World) -> list[str | None]:
    """Why each account is waited for."""
    shown = await world.syncline.rows("/api/accounts")
    return [account["reread"] and account["reread"]["why"] for account in shown]


async def _waits_for_somebody(world: World) -> list[str | None]:
    found = await _waits(world)
    return found if any(found) else []


async def _read(world: World, account: str) -> bool:
    """Whether all is known of an account again."""
    return (await world.syncline.get(f"/api/accounts/{account}"))["reread"] is None


@pytest.mark.heavy
async def test_a_restored_database_catches_up_before_it_writes(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> None:
    company, later, found = (Company.new(n) for n in ("Kept", "Made later", "Found later"))
    folder = tmp_path_factory.mktemp("restore")
    quick = ("--search-lag", "0.1")
    async with databases() as own, harness.world(folder, own, sandbox=quick) as world:
        lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
        contact = await world.close.create(
            "contact", lead_id=lead["id"], **company.contact("Ada Lovelace")
        )
        await world.quiet()
        there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")

        # The backup holds a change that was still on its way.
        await world.crms.fault("hubspot", "outage", method="POST", path="batch/update")
        await world.close.edit("lead", lead["id"], description="First")

        async def on_its_way() -> bool:
            return bool(await world.syncline.sql("select 1 from outbox where state = 'pending'"))

        await until(on_its_way, why=world.syncline.explain)
        await world.syncline.api.stop()
        async with clone(server(), urlsplit(own).path[1:]) as backup:
            await world.crms.clear_faults()
            await _restart(world, database_url=own)
            await world.quiet()
            assert (await world.hubspot.read("companies", there))["description"] == "First"

            # What the backup does not know of.
            await world.hubspot.edit("companies", there, description="Second")
            url = f"https://{later.domain}"
            made = await world.close.create("lead", name=later.name, url=url)
            await world.close.create("contact", lead_id=made["id"], **later.contact("Bo Diddley"))
            await world.hubspot.create("companies", name=found.name, domain=found.domain)
            await world.quiet()
            await world.close.delete("contact", contact["id"])
            await world.quiet()
            assert (await world.close.read("lead", lead["id"]))["description"] == "Second"
            before = await world.crms.writes()
            people, firms, leads = [await _count(world, one) for one in _LISTS]
            await world.syncline.api.stop()

            old = "update catchups set through = through - interval '6 hours'"
            await _on(backup, old)
            # Close's log does not answer: what was on its way waits, though nobody said so.
            await world.crms.fault("close", "status", status=503, path="/event/")
            await _restart(world, database_url=backup)
            assert "moved" in await until(lambda: _waits_for_somebody(world))
            await until(lambda: _read(world, "hubspot"), why=world.syncline.explain)
            lanes = (await world.syncline.get("/health/lanes"))["lanes"]
            out = [lane for lane in lanes if lane["direction"] == "out"]
            assert any(lane["pending"] for lane in out)
            assert all("log of close" in lane["pause_reason"] for lane in out)
            assert await world.crms.writes() == before
            await world.crms.clear_faults()
            await world.quiet()
            assert await _waits(world) == [None, None]

            assert await world.crms.writes() == before
            assert [await _count(world, one) for one in _LISTS] == [people, firms, leads]
            assert (await world.hubspot.read("companies", there))["description"] == "Second"
            assert (await world.close.read("lead", lead["id"]))["description"] == "Second"
            assert not flips(await world.crms.history("hubspot", "companies", there))

            # And it goes on as it did.
            await world.close.edit("lead", made["id"], description="Third")
            await world.quiet()
            known = await world.syncline.counterpart("close", made["id"], "company", "hubspot")
            assert (await world.hubspot.read("companies", known))["description"] == "Third"


_LISTS = (("hubspot", "contacts"), ("hubspot", "companies"), ("close", "lead"))


async def _count(world: World, listed: tuple[str, str]) -> int:
    vendor, type = listed
    return len(await (world.close if vendor == "close" else world.hubspot).all(type))


async def _on(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
