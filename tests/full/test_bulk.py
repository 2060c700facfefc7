"""First loads by Bulk API 2.0: each row once and with its own fate, whatever happens meanwhile."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Json, World, until

THRESHOLD = 50
MANY = 120


@contextlib.asynccontextmanager
async def a_world(
    folder: Path, database: str, threshold: int, settings: Json | None = None, **options: Any
) -> AsyncIterator[World]:
    """Close and Salesforce alone, and webhooks that do not come."""
    own = {"external_id": "Syncline_Id__c", "bulk_threshold": threshold, **(settings or {})}
    async with harness.world(
        folder,
        database,
        accounts={"salesforce": own, "hubspot": {"mode": "paused"}},
        config={"sync": {n: {"accounts": ["close", "salesforce"]} for n in ("company", "person")}},
        **options,
    ) as found:
        await found.crms.weather(paused=True)
        yield found


@pytest_asyncio.fixture
async def world(tmp_path: Path, databases: Databases) -> AsyncIterator[World]:
    async with databases() as own, a_world(tmp_path, own, THRESHOLD) as found:
        yield found


async def first_load(world: World) -> None:
    """Everything of Close, and then until nothing waits."""
    await world.syncline.resync(account="close")
    await idle(world)


async def idle(world: World, within: float = 300) -> None:
    async def still() -> bool:
        return not await world.syncline.pending()

    await until(still, why=world.syncline.explain, within=within)


async def jobs(world: World) -> list[Json]:
    found = await world.salesforce.call("GET", f"{world.salesforce.data}/jobs/ingest")
    return list(found["records"])


async def rows_in_files(world: World) -> int:
    """How many rows files have brought."""
    done = (job["numberRecordsProcessed"] - job["numberRecordsFailed"] for job in await jobs(world))
    return sum(done)


async def each_once(world: World, leads: int) -> None:
    """Every company and its contact are there once, and belong together."""
    rows = await world.salesforce.query("SELECT Id, Website, Syncline_Id__c FROM Account")
    there = Counter(row["Website"] for row in rows)
    assert len(there) == leads
    assert set(there.values()) == {1}
    people = await world.salesforce.query("SELECT Email, AccountId FROM Contact")
    assert set(Counter(row["Email"] for row in people).values()) == {1}
    assert {row["AccountId"] for row in people} == {row["Id"] for row in rows}


@pytest.mark.heavy
async def test_thousands_of_rows_are_loaded_by_files_and_each_is_there_once(
    tmp_path: Path, databases: Databases
) -> None:
    async with databases() as own, a_world(tmp_path, own, 2_000) as world:
        await world.crms.seed(close={"leads": 2_500})
        await first_load(world)
        await each_once(world, 2_500)
        writes = await world.crms.writes()
        assert writes["salesforce", "Account", "created"] == 2_500
        assert writes["salesforce", "Contact", "created"] == 2_500
        assert writes["salesforce", "Account", "updated"] == 0
        files = Counter(job["object"] for job in await jobs(world))
        assert files == {"Account": 1, "Contact": 1}
        assert await rows_in_files(world) >= 2 * 2_000
        assert await world.syncline.dead_letters() == []
        await world.crms.fair_weather()
        await world.steady()


async def test_below_the_threshold_rows_go_by_collections(world: World) -> None:
    await world.crms.seed(close={"leads": THRESHOLD - 1})
    await first_load(world)
    await each_once(world, THRESHOLD - 1)
    assert await jobs(world) == []


async def test_a_row_that_is_refused_is_a_dead_letter_with_record_field_and_reason(
    world: World,
) -> None:
    await world.crms.seed(close={"leads": MANY})
    lead = await world.close.create("lead", name="x" * 300, url="https://long.example")
    await first_load(world)
    (letter,) = await world.syncline.dead_letters()
    record = await world.syncline.record("close", lead["id"], "company")
    assert letter["record"] == record["id"]
    assert (letter["field"], letter["value"][:3]) == ("Name", "xxx")
    assert "STRING_TOO_LONG" in letter["reason"]
    await each_once(world, MANY)
    # Mended in Close, it goes by itself.
    await world.crms.fair_weather()
    await world.close.edit("lead", lead["id"], name="Long enough")
    await world.quiet()
    assert await world.salesforce.find("Account", Name="Long enough")
    assert await world.syncline.dead_letters() == []


async def test_what_a_job_that_fails_did_not_come_to_goes_by_collections(world: World) -> None:
    await world.crms.control("POST", "options", {"salesforce": {"break_jobs": 1}})
    await world.crms.seed(close={"leads": MANY})
    await first_load(world)
    await each_once(world, MANY)
    first, *others = [job["state"] for job in await jobs(world)]
    assert (first, set(others)) == ("Failed", {"JobComplete"})
    assert await rows_in_files(world) < 2 * MANY
    assert await world.syncline.dead_letters() == []


@pytest.mark.heavy
async def test_a_job_that_outlives_its_worker_is_found_again_and_nothing_is_sent_twice(
    tmp_path: Path, databases: Databases
) -> None:
    async with databases() as own, a_world(tmp_path, own, THRESHOLD, workers=1) as world:
        await world.crms.control("POST", "options", {"salesforce": {"job_seconds": 12}})
        await world.crms.seed(close={"leads": MANY})
        await world.syncline.post("/api/resyncs", {"account": "close"})

        async def open_job() -> bool:
            return any(job["state"] == "InProgress" for job in await jobs(world))

        await until(open_job, why=world.syncline.explain, within=120)
        await world.syncline.workers[0].kill()
        world.syncline.workers.clear()
        (waiting,) = await world.syncline.sql("select entity, account from loads")
        assert waiting == {"entity": "company", "account": "salesforce"}
        await world.syncline.add_workers(1)
        # Somebody edits a company whose row is on its way: that goes when the row is there.
        rows = await world.syncline.sql(
            "select remote_id from links join outbox using (record_id) where links.state = 'live'"
            " and links.account = 'close' and load is not null"
        )
        lead = rows[0]["remote_id"]
        await world.close.edit("lead", lead, name="Edited meanwhile")
        await world.syncline.resync(account="close", ids=[lead], entity="company")
        await idle(world)
        await each_once(world, MANY)
        writes = await world.crms.writes()
        assert writes["salesforce", "Account", "created"] == MANY
        assert writes["salesforce", "Account", "updated"] == 1
        assert writes["salesforce", "Contact", "created"] == MANY
        assert writes["salesforce", "Contact", "updated"] == 0
        assert len(await world.salesforce.find("Account", Name="Edited meanwhile")) == 1
        assert await world.syncline.sql("select * from loads") == []
        await world.crms.fair_weather()
        await world.steady()


async def test_live_work_does_not_wait_for_a_job(world: World) -> None:
    await world.crms.control("POST", "options", {"salesforce": {"job_seconds": 600}})
    await world.crms.seed(close={"leads": MANY})
    await world.syncline.post("/api/resyncs", {"account": "close"})

    async def loading() -> bool:
        return bool(await world.syncline.sql("select * from loads"))

    await until(loading, why=world.syncline.explain, within=60)
    await world.crms.fair_weather()
    await world.close.create("lead", name="Live", url="https://live.example")

    async def there() -> bool:
        return bool(await world.salesforce.find("Account", Name="Live"))

    await until(there, why=world.syncline.explain)
    assert "JobComplete" not in {job["state"] for job in await jobs(world)}


@pytest.mark.heavy
async def test_a_guard_counts_the_rows_of_a_file_and_holds_the_rest(
    tmp_path: Path, databases: Databases
) -> None:
    guard = {"guard": {"creates": MANY + 20}}
    async with databases() as own, a_world(tmp_path, own, THRESHOLD, settings=guard) as world:
        await world.crms.seed(close={"leads": MANY})
        await world.syncline.resync(account="close")

        async def as_many_as_may() -> bool:
            writes = await world.crms.writes()
            made = [writes["salesforce", type, "created"] for type in ("Account", "Contact")]
            assert sum(made) <= MANY + 20
            return sum(made) == MANY + 20

        await until(as_many_as_may, why=world.syncline.explain, within=100)
        assert await rows_in_files(world) >= THRESHOLD

        async def held() -> bool:
            return bool(await world.syncline.sql("select 1 from outbox where state = 'held'"))

        await until(held, why=world.syncline.explain)
