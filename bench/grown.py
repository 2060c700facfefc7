"""What the inbox and the journal cost when their tables are empty, and when they hold millions.

python -m bench.grown --rows 2000000
"""

import argparse
import asyncio
import hashlib
import time
from datetime import timedelta

import asyncpg
import uuid_utils.compat as uuid

from app.clock import now
from app.db import deliveries, events, journal, migrations, partitions
from app.db.engine import Database
from app.db.events import Answered
from app.db.journal import Cause, Entry
from app.domain.merge import Take
from app.domain.values import Delivery, Event, Ref
from tests.postgres import clone, server

#: Days that the rows are spread over, as far back as webhooks are kept.
DAYS = 30
#: Webhooks in a batch, and batches in a round.
BATCH, ROUND = 100, 10
#: Rounds on each database; the quickest counts.
ROUNDS = 6

_FILL = (
    "insert into deliveries (account, key, method, target, body, received_at, state)"
    " select 'close', sha256(n::text::bytea), 'POST', '/', repeat('x', 200)::bytea,"
    " now() - n * interval '{step} ms', 'done' from generate_series(1, {rows}) n",
    "insert into events (account, key, delivery_id, type, ref_type, ref_id, at, received_at, state)"
    " select 'close', 'old_' || n, n, 'lead.updated', 'lead', 'lead_' || n % 50000, now(),"
    " now() - n * interval '{step} ms', 'done' from generate_series(1, {rows}) n",
    "insert into journal (at, record_id, version, field, new, account, cause, rule)"
    " select now() - n * interval '{step} ms', md5((n % 50000)::text)::uuid, n, 'title',"
    " '\"CEO\"', 'close', 'event', 'r' from generate_series(1, {rows}) n",
    "insert into attempts (at, record_id, account, op, ref_type, trace, outcome)"
    " select now() - n * interval '{step} ms', md5((n % 50000)::text)::uuid, 'close', 'update',"
    " 'lead', 't', 'done' from generate_series(1, {rows}) n",
    "analyze",
)


async def _round(database: Database, name: str) -> float:
    """Milliseconds for a webhook: stored, read, looked for, finished, and one line of history."""
    connection = await asyncpg.connect(database.url)
    began = time.perf_counter()
    for batch in range(ROUND):
        bodies = [f"{name} {batch} {n}".encode() for n in range(BATCH)]
        came = [Delivery("close", "POST", "/", {}, body, now()) for body in bodies]
        await deliveries.store(connection, [(d, hashlib.sha256(d.body).digest()) for d in came])
        async with database.transaction() as db:
            unread = await events.unread(db, "close", limit=BATCH)
            for delivery in unread:
                ref = Ref("close", "lead", delivery.body.decode())
                event = Event(delivery.body.decode(), "lead.updated", now(), ref)
                await events.add(db, [(delivery, [Answered("close", event, "handled")])])
            await events.mark_read(db, [d.id for d in unread if d.id is not None])
        async with database.transaction() as db:
            waiting = await events.pending(db, "close", limit=BATCH)
            await events.sources(db, [item.delivery_id for item in waiting])
            refs = [Ref("close", "lead", f"lead_{n}") for n in range(BATCH)]
            await events.departed(db, refs)
            take = Take("title", "CEO", "CTO", "they changed it")
            cause = Cause("event", "1")
            lines = [Entry(uuid.uuid7(), 1, "close", cause, [take]) for _ in waiting]
            await journal.write(db, lines)
            await events.finish(db, [item.id for item in waiting])
    spent = time.perf_counter() - began
    await connection.close()
    return spent * 1000 / (ROUND * BATCH)


async def _made(url: str) -> Database:
    await migrations.upgraded(url)
    database = Database(url)
    async with database.transaction() as db:
        for cut in partitions.CUTS:
            for day in range(0, DAYS + 1, 7):
                await partitions.make(db, cut, now() - timedelta(days=day))
    return database


async def measure(rows: int) -> None:
    async with clone(server()) as one, clone(server()) as other:
        empty, full = await _made(one), await _made(other)
        for statement in _FILL:
            async with full.transaction() as db:
                step = DAYS * 86_400_000 // rows
                await db.exec_driver_sql(statement.format(rows=rows, step=step))
        spent: dict[Database, list[float]] = {empty: [], full: []}
        for n in range(ROUNDS):  # by turns: what else the machine does hits both
            for database, found in spent.items():
                found.append(await _round(database, f"round {n}"))
        before, after = (min(found) for found in spent.values())
        for database in spent:
            await database.close()
    print(f"empty {before:.2f} ms · {rows:,} rows each {after:.2f} ms · ratio {after / before:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.grown", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="in each of the four tables")
    asyncio.run(measure(parser.parse_args().rows))


if __name__ == "__main__":
    main()
