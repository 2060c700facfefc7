"""A database of six hours ago replaces today's: nothing old goes out, nothing is doubled."""

from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, World, flips, until
from tests.postgres import clone, server


async def _restart(world: World, *, database_url: str, mode: str) -> None:
    """The service anew, on this database."""
    service = world.syncline
    file = service.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    for account in content["accounts"].values():
        account["mode"] = mode
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    service.environment["DATABASE_URL"] = service.database_url = database_url
    await service.api.start()
    await service.ready()
    await service.works()


async def _in_step(world: World) -> bool:
    """Whether the log of every account was read to its end."""
    shown = await world.syncline.rows("/api/accounts")
    read = [one for account in shown for one in account["catch_ups"]]
    return all(one["last"] and one["last"]["reason"] == "start" for one in read) and bool(read)


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
            await _restart(world, database_url=own, mode="live")
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
            await _restart(world, database_url=backup, mode="observe")
            await until(lambda: _in_step(world), why=world.syncline.explain)
            await _heard(world)
            await world.syncline.api.stop()
            await _restart(world, database_url=backup, mode="live")
            await world.quiet()

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


async def _heard(world: World) -> None:
    """All that the logs told is dealt with; what is ahead waits, because nothing is written."""

    async def dealt_with() -> bool:
        lanes = (await world.syncline.get("/health/lanes"))["lanes"]
        reading = [lane for lane in lanes if lane["direction"] != "out"]
        return not any(lane["pending"] or lane["owner"] for lane in reading)

    await until(dealt_with, why=world.syncline.explain)
