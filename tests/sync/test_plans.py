"""However much is stored, what happens all day long finds its rows by an index.

PostgreSQL counts the scans of each table: after a story of ordinary work no large table may have
been gone through, whichever statements that work consists of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from app.db import deliveries, lanes
from app.db.engine import Database
from app.db.lanes import Lane
from app.domain.values import Delivery
from app.sync.scan import scan
from bench.grown import fill
from tests.connectors.conftest import Control, control, sandbox
from tests.full.harness import until
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]

ROWS = 20_000
#: Below this a table is small, and going through it is the cheapest way.
LARGE = 1_000
ACCOUNTS = ["close", "hubspot"]

Story = Callable[[Town], Awaitable[None]]


async def a_webhook_is_stored(town: Town) -> None:
    connection = await asyncpg.connect(town.db.url)
    bodies = [f"webhook {n}".encode() for n in range(50)]
    came = [Delivery("close", "POST", "/", {}, body, datetime.now(UTC)) for body in bodies]
    await deliveries.store(connection, [(d, hashlib.sha256(d.body).digest()) for d in came])
    await connection.close()


async def an_edit_travels_and_comes_back(town: Town) -> None:
    contact, there = await town.ada()
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    await town.work()
    await town.hear_hubspot("contact.propertyChange", there.id, propertyName="jobtitle")
    await town.work()


async def a_contact_is_deleted(town: Town) -> None:
    contact, _ = await town.ada()
    await town.close("DELETE", f"/contact/{contact.id}/")
    await town.hear_close("contact", "deleted", contact.id)
    await town.work()


async def a_resync_goes_through_it_all_twice(town: Town) -> None:
    seed = {"close": {"leads": 30, "contacts_per_lead": 2}}
    await town.control.call("POST", "/_sandbox/seed", json=seed)
    for _ in range(2):
        async with town.db.transaction() as db:
            await db.execute(
                sa.text(
                    "insert into resyncs (id, account, entities)"
                    " values (gen_random_uuid(), 'close', '{company,person}')"
                )
            )
        while await town.scalar("select count(*) from resyncs where state <> 'done'"):
            await town._turn("close", "scan", scan)
        await town.work()


async def a_worker_looks_for_work(town: Town) -> None:
    async with town.db.transaction() as db:
        claimed = await lanes.claim(
            db, "test", accounts=ACCOUNTS, writers=ACCOUNTS, limit=9, lease=30
        )
        await lanes.sweep(db)
        for lane in claimed:
            await lanes.release(db, Lane(lane.account, lane.direction, lane.fence), "test")


@pytest.mark.parametrize(
    ("story", "writes"),
    [
        (a_webhook_is_stored, 0),
        (an_edit_travels_and_comes_back, 3),
        (a_contact_is_deleted, 2),
        (a_resync_goes_through_it_all_twice, 90),
        (a_worker_looks_for_work, 0),
    ],
    ids=lambda given: given.__name__ if callable(given) else None,
)
async def test_nobody_goes_through_a_large_table_when(
    story: Story, writes: int, database: Database, control: Control
) -> None:
    await fill(database, ROWS)
    await database.close()  # a connection that ends tells what it has done
    before = await _scans(database.url)
    async with founded(database, control) as town:
        await story(town)
        await database.close()
        after = await _scans(database.url)
        assert len(after) > 10, after
        # A part that has only now grown large was small when it was gone through.
        assert {name: n for name, n in after.items() if n != before.get(name, n)} == {}
        assert len(await town.wrote("hubspot")) == writes  # … it was a story indeed


async def _scans(url: str) -> dict[str, int]:
    """How often each large table was gone through, once nobody else is connected."""
    connection = await asyncpg.connect(url)

    async def alone() -> Any:
        others = "select from pg_stat_activity where datname = current_database() and pid <> $1"
        own = connection.get_server_pid()
        return await connection.fetchval(f"select not exists ({others})", own)

    try:
        await until(alone)
        await connection.execute("select pg_stat_clear_snapshot()")
        found = await connection.fetch(
            "select relname, seq_scan from pg_stat_user_tables where n_live_tup > $1", LARGE
        )
        return {row[0]: row[1] for row in found}
    finally:
        await connection.close()
