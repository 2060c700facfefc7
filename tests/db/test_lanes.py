"""Lanes: one holder at a time, and no wake-up is ever lost."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from app.db import accounts, lanes
from app.db.engine import Database
from app.db.lanes import Lane

NAMES = ("close", "hubspot")


@pytest.fixture
async def work(database: Database) -> Database:
    """Two accounts whose lanes have nothing to do."""
    async with database.transaction() as db:
        await accounts.register(db, dict.fromkeys(NAMES, "close"))
        await db.execute(sa.text("update lanes set due_at = null"))
    return database


async def claim(database: Database, owner: str, *, lease: int = 30, limit: int = 10) -> list[Lane]:
    async with database.transaction() as db:
        return await lanes.claim(db, owner, accounts=NAMES, limit=limit, lease=lease)


async def wake(database: Database, account: str = "close", direction: str = "in") -> None:
    async with database.transaction() as db:
        await lanes.wake(db, account, direction)


async def release(database: Database, lane: Lane, owner: str) -> None:
    async with database.transaction() as db:
        await lanes.release(db, lane, owner)


async def deliver(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(
            sa.text(
                "insert into deliveries (account, key, method, target, body)"
                " values ('close', gen_random_uuid()::text::bytea, 'POST', '/', '')"
            )
        )
        await lanes.wake(db, "close", "in")


async def test_a_lane_has_one_holder_however_many_ask(work: Database):
    await wake(work)
    got = await asyncio.gather(*(claim(work, f"w{n}") for n in range(8)))
    assert sorted(map(len, got)) == [0] * 7 + [1]


async def test_an_idle_lane_is_nobodys(work: Database):
    assert await claim(work, "w1") == []


async def test_a_wake_up_during_the_work_is_not_lost(work: Database):
    await wake(work)
    (lane,) = await claim(work, "w1")
    await deliver(work)
    assert await claim(work, "w2") == []
    await release(work, lane, "w1")
    assert [(found.account, found.direction) for found in await claim(work, "w2")] == [
        ("close", "in")
    ]


async def test_a_wake_up_whose_transaction_is_still_open_at_release_is_not_lost(work: Database):
    await wake(work)
    (lane,) = await claim(work, "w1")
    async with work.engine.connect() as sender:
        await sender.execute(
            sa.text(
                "insert into deliveries (account, key, method, target, body)"
                " values ('close', 'k', 'POST', '/', '')"
            )
        )
        await lanes.wake(sender, "close", "in")
        releasing = asyncio.create_task(release(work, lane, "w1"))
        await asyncio.wait({releasing}, timeout=0.2)
        assert not releasing.done()  # it waits for the sender, and so will see the row
        await sender.commit()
        await releasing
    assert len(await claim(work, "w2")) == 1


async def test_what_is_left_undone_makes_the_lane_due_again(work: Database):
    await deliver(work)
    (lane,) = await claim(work, "w1")
    await release(work, lane, "w1")
    assert len(await claim(work, "w1")) == 1


async def test_a_dead_workers_lane_is_taken_over_and_it_can_settle_nothing(work: Database):
    await wake(work)
    (old,) = await claim(work, "w1", lease=0)
    (new,) = await claim(work, "w2")
    assert new.fence > old.fence
    async with work.transaction() as db:
        assert not await lanes.holds(db, old)
        assert await lanes.holds(db, new)
    await release(work, old, "w1")  # too late: it is not his to give back
    assert await claim(work, "w3") == []


async def test_a_renewed_lease_is_kept(work: Database):
    await wake(work)
    (lane,) = await claim(work, "w1", lease=0)
    async with work.transaction() as db:
        await lanes.renew(db, "w1", [lane], lease=30)
    assert await claim(work, "w2") == []


async def test_a_paused_lane_rests_until_its_time(work: Database):
    await wake(work)
    (lane,) = await claim(work, "w1")
    async with work.transaction() as db:
        soon = (await db.execute(sa.text("select now() + interval '1 hour'"))).scalar_one()
        await lanes.release(db, lane, "w1", paused_until=soon, reason="asked to wait", failed=True)
    await wake(work)
    assert await claim(work, "w1") == []
    async with work.transaction() as db:
        assert await lanes.failures(db, lane) == 1
        await accounts.resume(db, "close")
    assert {found.direction for found in await claim(work, "w1")} == {"in", "out", "scan"}


async def test_a_paused_account_is_not_worked(work: Database):
    async with work.transaction() as db:
        await accounts.pause(db, "close", reason="holiday")
        assert await accounts.paused(db) == {"close": "holiday"}
    await wake(work)
    assert await claim(work, "w1") == []


async def test_what_waits_for_an_observed_account_goes_on_waiting(work: Database):
    await wake(work, direction="out")
    async with work.transaction() as db:
        assert not await lanes.claim(db, "w", accounts=NAMES, writers=[], limit=9, lease=30)
        assert await lanes.next_due(db, NAMES, []) is None
        assert await lanes.claim(db, "w", accounts=NAMES, writers=NAMES, limit=9, lease=30)


async def test_live_work_goes_before_scans(work: Database):
    await wake(work, direction="scan")
    await wake(work, direction="out")
    (first,) = await claim(work, "w1", limit=1)
    assert first.direction == "out"


async def test_the_sweeper_finds_what_nobody_woke(work: Database):
    await deliver(work)
    async with work.transaction() as db:
        await db.execute(sa.text("update lanes set due_at = null"))
    assert await claim(work, "w1") == []
    async with work.transaction() as db:
        await lanes.sweep(db)
    assert len(await claim(work, "w1")) == 1


async def test_a_worker_is_seen_while_it_lives(work: Database):
    async with work.transaction() as db:
        await lanes.beat(db, "w1")
        await lanes.beat(db, "w1")
        count = sa.text("select count(*) from workers")
        assert (await db.execute(count)).scalar_one() == 1
        await lanes.leave(db, "w1")
        assert (await db.execute(count)).scalar_one() == 0


async def _absent(database: Database, owner: str) -> set[str]:
    async with database.transaction() as db:
        return {worker for worker, _ in await lanes.absent(db, owner)}


async def test_a_worker_is_absent_once_its_session_is_gone_and_until_it_has_another(
    work: Database,
):
    session = await asyncpg.connect(work.url)
    await lanes.attend(session, "w1")
    assert await _absent(work, "w2") == set()
    await session.close()
    assert await _absent(work, "w2") == {"w1"}
    assert await _absent(work, "w1") == set()  # nobody buries itself
    another = await asyncpg.connect(work.url)
    await lanes.attend(another, "w1")
    assert await _absent(work, "w2") == set()
    await another.close()


async def test_a_session_whose_number_was_given_again_is_another(work: Database):
    session = await asyncpg.connect(work.url)
    await lanes.attend(session, "w1")
    async with work.transaction() as db:
        earlier = "session_at - interval '1 microsecond'"
        await db.execute(sa.text(f"update workers set session_at = {earlier}"))
    assert await _absent(work, "w2") == {"w1"}
    await session.close()


async def test_a_session_that_ended_with_the_server_proves_nothing_of_its_worker(work: Database):
    session = await asyncpg.connect(work.url)
    await lanes.attend(session, "w1")
    await session.close()
    assert await _absent(work, "w2") == {"w1"}
    async with work.transaction() as db:
        before = "pg_postmaster_start_time() - interval '1 second'"
        await db.execute(sa.text(f"update workers set session_at = {before}"))
    assert await _absent(work, "w2") == set()


async def test_whoever_is_gone_for_good_settles_nothing_and_its_lanes_are_due(work: Database):
    await wake(work)
    (old,) = await claim(work, "w1")
    async with work.transaction() as db:
        await lanes.leave(db, "w1")
    async with work.transaction() as db:
        assert not await lanes.holds(db, old)
    (new,) = await claim(work, "w2")
    assert new.fence > old.fence
