"""Programs die at the worst moment: what was acknowledged is there, and nothing is doubled."""

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from app.db import embedded, migrations
from tests.full import harness
from tests.full.harness import Company, Json, World, close_headers, until

POSTERS = 8


@pytest.fixture
def world(workless: World) -> World:
    return workless


async def _leads(world: World, companies: list[Company]) -> dict[str, Json]:
    """A lead each, and the event that Close logged of its creation; nothing is delivered yet."""
    await world.crms.weather(pause=True)
    found = {}
    for company in companies:
        lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
        found[lead["id"]] = await world.close.event(lead["id"])
    return found


class Stream:
    """Signed deliveries posted as fast as they are taken, and which of them were acknowledged."""

    def __init__(self, world: World, events: dict[str, Json]) -> None:
        self.url = f"{world.syncline.url}/webhooks/close"
        self.left = list(events.items())
        self.acknowledged: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.enough = asyncio.Event()

    async def run(self, *, enough: int) -> None:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            await asyncio.gather(*(self._post(http, enough) for _ in range(POSTERS)))
        self.enough.set()

    async def _post(self, http: httpx.AsyncClient, enough: int) -> None:
        while self.left:
            id, event = self.left.pop()
            body = harness.close_body(event)
            try:
                answer = await http.post(self.url, content=body, headers=close_headers(body))
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
                await asyncio.sleep(0.01)
                continue
            if answer.is_success:
                self.acknowledged.add(id)
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                self.refused["503"] += 1
            if len(self.acknowledged) >= enough:
                self.enough.set()


async def _stored(world: World, most: int) -> set[str]:
    """The leads that the latest stored deliveries of Close tell of."""
    rows = await world.syncline.rows("/api/deliveries", account="close")
    found = await asyncio.gather(
        *(world.syncline.get(f"/api/deliveries/{row['id']}") for row in rows[:most])
    )
    return {json.loads(delivery["body"])["event"]["object_id"] for delivery in found}


async def _all_there_once(world: World, companies: list[Company]) -> None:
    there = Counter(row["domain"] for row in await world.hubspot.all("companies"))
    assert {c.domain: there[c.domain] for c in companies} == {c.domain: 1 for c in companies}
    at_home = Counter(row["name"] for row in await world.close.all("lead"))
    assert {c.name: at_home[c.name] for c in companies} == {c.name: 1 for c in companies}


async def test_what_the_api_acknowledged_before_a_kill_9_is_there_after_it_and_has_its_effect(
    world: World,
) -> None:
    companies = [Company.new("Acknowledged") for _ in range(60)]
    events = await _leads(world, companies)
    stream = Stream(world, events)
    posting = asyncio.create_task(stream.run(enough=20))
    await stream.enough.wait()
    await world.syncline.api.kill()
    await posting
    assert stream.refused, "the kill came too late"
    assert len(stream.acknowledged) < len(events)

    await world.syncline.api.start()
    await world.syncline.add_workers(1)
    await world.syncline.ready()

    async def worked() -> bool:
        return not await world.syncline.pending()

    await until(worked, why=world.syncline.explain)
    assert stream.acknowledged <= await _stored(world, len(events))
    names = {row["name"] for row in await world.hubspot.all("companies")}
    for lead in stream.acknowledged:
        assert events[lead]["data"]["name"] in names

    # Close sends the rest, and what it got no answer for once more.
    await world.crms.weather(resume=True)
    await world.quiet(within=90)
    await _all_there_once(world, companies)
    await world.steady()


@pytest.mark.heavy
async def test_the_work_of_a_worker_killed_in_the_middle_is_taken_over_and_nothing_is_doubled(
    world: World,
) -> None:
    companies = [Company.new("Taken over") for _ in range(12)]
    await world.syncline.add_workers(1)
    await world.syncline.works()
    first = world.syncline.workers.pop()
    # The creates are carried out by HubSpot, but nobody is there any more to hear the answer.
    await world.crms.fault("hubspot", "latency", path="companies/batch/create", seconds=2, times=1)
    for company in companies:
        contacts = [company.contact("Ada Lovelace")]
        await world.close.create(
            "lead", name=company.name, url=f"https://{company.domain}", contacts=contacts
        )
    await until(world.crms.struck, why=world.syncline.explain)
    await first.kill()

    async def carried_out() -> bool:
        there = {row["domain"] for row in await world.hubspot.all("companies")}
        return bool(there & {company.domain for company in companies})

    await until(carried_out)
    await world.syncline.add_workers(1)
    await world.quiet(within=110)
    await _all_there_once(world, companies)
    people = Counter(row["email"] for row in await world.hubspot.all("contacts"))
    assert {people[company.email("ada")] for company in companies} == {1}


async def test_a_worker_told_to_stop_ends_its_work_in_hand_and_the_next_goes_on(
    world: World,
) -> None:
    companies = [Company.new("Drained") for _ in range(10)]
    await world.syncline.add_workers(1)
    await world.syncline.works()
    await world.crms.fault("hubspot", "latency", path="companies/batch/create", seconds=1, times=1)
    for company in companies:
        await world.close.create("lead", name=company.name, url=f"https://{company.domain}")

    await until(world.crms.struck, why=world.syncline.explain)
    (worker,) = world.syncline.workers
    before = (await world.syncline.get("/health/lanes"))["workers"]
    assert await worker.stop(within=25) == 0
    health = await world.syncline.get("/health/lanes")
    assert [lane["owner"] for lane in health["lanes"]] == [None] * len(health["lanes"])
    assert len(health["workers"]) == len(before) - 1
    await world.syncline.add_workers(1)
    await world.quiet(within=20)  # no lease has to run out first
    await _all_there_once(world, companies)


async def test_an_api_told_to_stop_keeps_what_it_acknowledged_and_leaves_in_order(
    world: World,
) -> None:
    companies = [Company.new("Stopped") for _ in range(40)]
    events = await _leads(world, companies)
    stream = Stream(world, events)
    posting = asyncio.create_task(stream.run(enough=12))
    await stream.enough.wait()
    assert await world.syncline.api.stop(within=20) == 0
    await posting
    await world.syncline.api.start()
    await world.syncline.ready()
    assert stream.acknowledged <= await _stored(world, len(events))
    await world.syncline.add_workers(1)
    await world.crms.weather(resume=True)
    await world.quiet(within=60)
    await _all_there_once(world, companies)


# ---------------------------------------------------------------------- the database dies


def _kill_postgres(home: Path) -> None:
    """As a power cut would, and its children with it."""
    (lock,) = [*home.glob("postgres/**/postmaster.pid")] or [
        Path(embedded.start(home).data) / "postmaster.pid"
    ]
    os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)


async def test_while_postgresql_is_dead_senders_are_asked_to_return_and_then_all_goes_on(
    tmp_path: Path, company: Company
) -> None:
    home = tmp_path / "database"
    url = (await asyncio.to_thread(embedded.start, home)).url
    try:
        await migrations.upgraded(url)
        async with harness.world(tmp_path, url) as world:
            lead = await world.close.create("lead", name=company.name)
            await world.quiet()
            there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
            more = [Company.new("Before the end") for _ in range(60)]
            events = await _leads(world, more)
            stream = Stream(world, events)
            posting = asyncio.create_task(stream.run(enough=20))
            await stream.enough.wait()
            await asyncio.to_thread(_kill_postgres, home)
            await posting
            assert stream.refused["503"] > 0

            answer = await world.syncline.deliver(
                "close", harness.close_body(next(iter(events.values())))
            )
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            get = world.syncline.http.get
            for path in ("/health/live", "/healthz"):
                assert (await get(path)).status_code == 200
            for path in ("/health/ready", "/readyz", "/health/lanes", "/api/records"):
                answer = await get(path)
                assert (answer.status_code, path) == (503, path)
                assert int(answer.headers["retry-after"]) >= 1
            assert (await get("/metrics")).status_code == 200
            refused = await world.syncline.deliver("close", b"{}", headers={"close-sig-hash": "0"})
            assert refused.status_code in (401, 503)

            assert (await asyncio.to_thread(embedded.start, home)).url == url
            await until(lambda: _is_ready(world), why=world.syncline.explain, within=15)
            assert stream.acknowledged <= await _stored(world, len(events))
            await world.crms.weather(resume=True)
            await world.close.edit("lead", lead["id"], name=f"{company.name} again")

            async def arrived() -> bool:
                found = await world.hubspot.read("companies", there)
                return bool(found["name"] == f"{company.name} again")

            await until(arrived, why=world.syncline.explain, within=10)
            await world.quiet(within=60)
            await _all_there_once(world, more)
    finally:
        with contextlib.suppress(embedded.EmbeddedPostgresError):
            await asyncio.to_thread(embedded.stop, home)


async def _is_ready(world: World) -> bool:
    return (await world.syncline.http.get("/health/ready")).is_success
