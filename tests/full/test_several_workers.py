"""Workers on as many machines as one likes share the work, and nobody does a thing twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.full.harness import Company, World, flips, until

WORKERS = 3


@pytest_asyncio.fixture(scope="module")
async def world(workless_world: World) -> AsyncIterator[World]:
    """Three workers for all tests of this file."""
    service = workless_world.syncline
    await service.add_workers(WORKERS)

    async def at_work() -> bool:
        workers = (await service.get("/health/lanes"))["workers"]
        return len([worker for worker in workers if worker["alive"]]) >= WORKERS

    await until(at_work, why=service.explain)
    yield workless_world
    await workless_world.crms.fair_weather()
    await service.dismiss()


@pytest.mark.heavy
async def test_several_workers_make_one_record_each_and_one_write_for_each_change(
    world: World,
) -> None:
    at_close = [Company.new("Shared") for _ in range(25)]
    at_hubspot = [Company.new("Divided") for _ in range(10)]

    async def lead(company: Company) -> dict[str, Any]:
        return await world.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            contacts=[company.contact("Ada Lovelace")],
        )

    async def firm(company: Company) -> None:
        id = await world.hubspot.create("companies", name=company.name, domain=company.domain)
        await world.hubspot.create(
            "contacts",
            firstname="Grace",
            lastname="Hopper",
            email=company.email("grace"),
            company=id,
        )

    await world.crms.weather(duplicate=2, shuffle=True)
    async with world.counting() as writes:
        leads, _ = await asyncio.gather(
            asyncio.gather(*map(lead, at_close)), asyncio.gather(*map(firm, at_hubspot))
        )
        await world.quiet(within=90)
    del writes["hubspot", "association", "created"]
    assert writes == {
        ("hubspot", "company", "created"): 25,
        ("hubspot", "contact", "created"): 25,
        ("close", "lead", "created"): 10,
        ("close", "contact", "created"): 10,
    }
    names = Counter(row["name"] for row in await world.hubspot.all("companies"))
    lead_names = Counter(row["name"] for row in await world.close.all("lead"))
    for company in (*at_close, *at_hubspot):
        assert (names[company.name], lead_names[company.name]) == (1, 1)

    there = {
        row["domain"]: row["id"]
        for row in await world.hubspot.all("companies")
        if row["domain"] in {company.domain for company in at_close}
    }
    async with world.counting() as writes:
        for company in at_close[:10]:
            await world.hubspot.edit("companies", there[company.domain], description="Edited.")
        for made in leads:
            await world.close.edit("contact", made["contacts"][0]["id"], title="CTO")
    assert writes == {
        ("close", "lead", "updated"): 10,
        ("hubspot", "contact", "updated"): 25,
    }
    for company in at_close[:10]:
        past = await world.crms.history("hubspot", "company", there[company.domain])
        assert flips(past) == {}
    await world.crms.fair_weather()
    await world.steady()


async def test_a_worker_killed_while_idle_is_not_missed(world: World, company: Company) -> None:
    await world.quiet()
    await world.syncline.workers.pop().kill()
    await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet(within=15)
    assert len(await world.hubspot.find("companies", domain=company.domain)) == 1


async def test_what_a_killed_worker_had_in_hand_goes_on_in_another_at_once(
    world: World, company: Company
) -> None:
    """Nobody waits for its lease, which is for workers that stall."""
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet()
    await world.crms.fault("hubspot", "latency", path="/batch/", seconds=60, times=1)
    await world.close.edit("lead", lead["id"], description="after it")
    await until(world.crms.struck, why=world.syncline.explain)
    query = "select owner from lanes where (account, direction) = ('hubspot', 'out')"
    (held,) = await world.syncline.sql(query)
    pid = held["owner"].split(":")[1]
    (doomed,) = [one for one in world.syncline.workers if str(one.pid) == pid]
    world.syncline.workers.remove(doomed)
    await doomed.kill()

    await world.quiet(within=20)

    (there,) = await world.hubspot.find("companies", domain=company.domain)
    assert there["description"] == "after it"
