"""What inbox, journal and reconcile cost when their tables are small, and when they hold millions.

python -m bench.grown --rows 100000 1000000 10000000

So many deliveries, events, lines of history and attempts, and records up to a million. The
database lies on the disk, but need not wait for it: what is compared is the work.
"""

import asyncio
import contextlib
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.clock import now
from app.config import parse
from app.db import deliveries, embedded, events, journal, migrations, partitions
from app.db.accounts import Box
from app.db.engine import Database
from app.db.events import Answered
from app.db.journal import Cause, Entry
from app.domain.merge import Take
from app.domain.state import Plan, Result
from app.domain.values import Delivery, Event, Observation, Ref
from app.sdk.registry import Registry
from app.sync.house import House, build
from app.sync.reconcile import reconcile
from app.sync.world import Seen
from bench import machine, report
from tests.postgres import FAST, clone

CONFIG = """
accounts:
  close: {connector: close, credentials: {api_key: nobody}, base_url: "http://127.0.0.1:9"}
  hubspot: {connector: hubspot, credentials: {access_token: nobody}, base_url: "http://127.0.0.1:9"}
sync: {person: {conflict: hubspot}}
"""
#: Rows in each table of the database that counts as small.
FEW = 2_000
#: Records at most, each with a key and two links.
RECORDS = 1_000_000
#: What HubSpot's ids of these begin with; the sandbox makes none like it.
OLD = "770000"
#: Days that the rows are spread over, as far back as webhooks are kept.
DAYS = 30
#: Webhooks in a batch, and batches in a round.
BATCH, ROUND = 100, 10
#: Rounds on each database before it is measured, as on one that has run for a while.
WARM = 20
#: Rounds on each database; the quickest counts.
ROUNDS = 12
PARTS = ("inbox", "reconcile")

#: What fills the tables, side by side: whole columns at once, all within the database.
_FILLS = (
    (
        "insert into deliveries (account, key, method, target, body, received_at, state)"
        " select 'close', sha256(n::text::bytea), 'POST', '/', repeat('x', 200)::bytea,"
        " now() - n * interval '{step} ms', 'done' from generate_series(1, {rows}) n",
        "insert into events"
        " (account, key, delivery_id, type, ref_type, ref_id, gone, at, received_at, state)"
        " select 'close', md5('old ' || n), n, 'lead.updated', 'lead', 'lead_' || n % {records},"
        " n % 100 = 0, now(), now() - n * interval '{step} ms', 'done'"
        " from generate_series(1, {rows}) n",
    ),
    (
        "insert into journal (at, record_id, version, field, new, account, cause, rule)"
        " select now() - n * interval '{step} ms', md5((n % {records})::text)::uuid, n, 'title',"
        " '\"CEO\"', 'close', 'event', 'r' from generate_series(1, {rows}) n",
        "insert into attempts (at, record_id, account, op, ref_type, trace, outcome)"
        " select now() - n * interval '{step} ms', md5((n % {records})::text)::uuid, 'close',"
        " 'update', 'lead', 't', 'done' from generate_series(1, {rows}) n",
        "insert into records (id, entity, fields, stamps, hash, source)"
        " select md5(n::text)::uuid, 'person',"
        " jsonb_build_object('email', 'p' || n || '@x.example', 'first_name', 'Ada',"
        " 'last_name', 'King ' || n), '{{}}', md5(n::text), 'hubspot'"
        " from generate_series(1, {records}) n",
        "insert into keys (entity, kind, value, record_id)"
        " select 'person', 'email', 'p' || n || '@x.example', md5(n::text)::uuid"
        " from generate_series(1, {records}) n",
        "insert into links (record_id, entity, account, type, remote_id, base)"
        " select r.id, 'person', a.name, a.type,"
        " a.sign || split_part(r.fields ->> 'last_name', ' ', 2), r.fields"
        " from records r, (values ('close', 'contact', 'cont_'), ('hubspot', 'contacts', '{old}'))"
        " a (name, type, sign)",
        "insert into outbox (account, record_id, entity, wanted, state)"
        " select 'elsewhere', r.id, 'person', 1, 'dead' from records r",
    ),
)


def _told(delivery: Delivery) -> Answered:
    name = _md5(delivery.body)
    return Answered(
        "close", Event(name, "lead.updated", now(), Ref("close", "lead", name)), "handled"
    )


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


async def _inbox(database: Database, name: str, records: int) -> float:
    """Milliseconds for a webhook: stored, read, looked for, finished, and one line of history;
    each is about another one of so many records.
    """
    connection = await asyncpg.connect(database.url)
    began = time.perf_counter()
    for batch in range(ROUND):
        bodies = [f"{name} {batch} {n}".encode() for n in range(BATCH)]
        came = [Delivery("close", "POST", "/", {}, body, now()) for body in bodies]
        await deliveries.store(connection, [(d, hashlib.sha256(d.body).digest()) for d in came])
        async with database.transaction() as db:
            unread = await events.unread(db, "close", limit=BATCH)
            read = [(delivery, [_told(delivery)]) for delivery in unread]
            await events.add(db, read)
            await events.mark_read(db, [d.id for d in unread if d.id is not None])
        async with database.transaction() as db:
            waiting = await events.pending(db, "close", limit=BATCH)
            await events.sources(db, [item.delivery_id for item in waiting])
            about = random.sample(range(1, records), BATCH)
            refs = [Ref("close", "lead", f"lead_{n}") for n in about]
            await events.departed(db, refs)
            take = Take("title", "CEO", "CTO", "they changed it")
            cause = Cause("event", "1")
            ids = (UUID(_md5(str(n).encode())) for n in about)
            lines = [Entry(id, 1, "close", cause, [take]) for id in ids]
            await journal.write(db, lines)
            await events.finish(db, [item.id for item in waiting])
    spent = time.perf_counter() - began
    await connection.close()
    return spent * 1000 / (ROUND * BATCH)


async def _reconcile(house: House, number: int, records: int) -> float:
    """Milliseconds for an observation that is taken in: of two, one is an edit of a known person,
    one a person whom nobody has met; the record, keys, links, history and marks with it.
    """
    began = time.perf_counter()
    for batch in range(ROUND):
        seen = []
        for n, known in enumerate(random.sample(range(1, records), BATCH // 2)):
            fresh = f"9{number:03}{batch:03}{n:03}"
            edited = {"email": f"p{known}@x.example", "firstname": f"Ada {number} {batch}"}
            unmet = {"email": f"new{fresh}@x.example", "firstname": "Grace", "lastname": "Hopper"}
            seen += [_seen(f"{OLD}{known}", edited), _seen(fresh, unmet)]
        answers = await reconcile(house, seen)
        results = [a.result for a in answers if isinstance(a, Plan)]
        half = BATCH // 2
        assert (results.count(Result.UPDATED), results.count(Result.CREATED)) == (half, half), (
            answers
        )
    return (time.perf_counter() - began) * 1000 / (ROUND * BATCH)


def _seen(id: str, raw: dict[str, str]) -> Seen:
    ref = Ref("hubspot", "contacts", id)
    return Seen(Observation(ref, raw, version=now()), Cause("event", "1"), now())


def _house(database: Database) -> House:
    registry = Registry.load()
    config = parse(CONFIG, lambda name: registry.connector(name).manifest.entities)
    return build(database, config, registry, Box((SecretStr(Fernet.generate_key().decode()),)))


async def _made(url: str, rows: int) -> Database:
    """A database whose tables hold so many rows each, the inbox and history over many days."""
    await migrations.upgraded(url)
    database = Database(url)
    await fill(database, rows)
    return database


async def fill(database: Database, rows: int) -> None:
    """Put so many rows, long done with, into each table of the hot path."""
    async with database.transaction() as db:
        for cut in partitions.CUTS:
            for day in range(0, DAYS + 1, 7):
                await partitions.make(db, cut, now() - timedelta(days=day))
    await asyncio.gather(*(_fill(database.url, statements, rows) for statements in _FILLS))
    await _settled(database)


async def _settled(database: Database) -> None:
    """As autovacuum leaves it; and nobody measured writes what others have left to be written."""
    connection = await asyncpg.connect(database.url)
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    await connection.close()


async def _fill(url: str, statements: Sequence[str], rows: int) -> None:
    connection = await asyncpg.connect(url)  # no limit of time: millions take minutes
    # What is made up here needs no check against what it names.
    await connection.execute("set session_replication_role = replica")
    sizes = {
        "old": OLD,
        "rows": rows,
        "records": min(rows, RECORDS),
        "step": DAYS * 86_400_000 // rows,
    }
    for statement in statements:
        await connection.execute(statement.format(**sizes))
    await connection.close()


@contextlib.asynccontextmanager
async def _databases() -> AsyncIterator[tuple[str, str]]:
    """Two empty databases of a server of their own."""
    with tempfile.TemporaryDirectory(prefix="syncline-bench-") as name:
        started = await asyncio.to_thread(_started, Path(name))
        try:
            async with clone(started.url) as one, clone(started.url) as other:
                yield one, other
        finally:
            await asyncio.to_thread(embedded.stop, Path(name))
            await asyncio.to_thread(shutil.rmtree, started.data, ignore_errors=True)


def _started(home: Path) -> embedded.Server:
    home.chmod(0o711)  # as root the server is another user
    return embedded.start(home, settings={**FAST, "max_wal_size": "8GB", "shared_buffers": "1GB"})


async def measure(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Each size beside a small database, by turns: what else the machine does hits both."""
    found: list[dict[str, Any]] = []
    for rows in sizes:
        async with _databases() as (one, other):
            report.step(f"filling tables with {rows:,} rows")
            few, many = await _made(one, FEW), await _made(other, rows)
            houses = {few: _house(few), many: _house(many)}
            spent: dict[tuple[str, Database], list[float]] = {}
            for n in range(WARM + ROUNDS):
                if n == WARM:
                    report.step("measuring")
                    spent.clear()
                    for database in houses:
                        await _settled(database)
                for database, house in houses.items():
                    records = min(FEW if database is few else rows, RECORDS)
                    spent.setdefault(("inbox", database), []).append(
                        await _inbox(database, f"round {n}", records)
                    )
                    spent.setdefault(("reconcile", database), []).append(
                        await _reconcile(house, n, records)
                    )
            size: dict[str, Any] = {"rows": rows}
            for part in PARTS:
                before, after = (min(spent[part, database]) for database in houses)
                size[part] = {
                    "few_ms": round(before, 3),
                    "many_ms": round(after, 3),
                    "ratio": round(after / before, 3),
                }
            found.append(size)
            for database in houses:
                await database.close()
    return found


def show(found: dict[str, Any]) -> None:
    rows = [
        (
            f"{part}, {size['rows']:,} rows in each table",
            *(f"{size[part][what]:.2f}" for what in ("few_ms", "many_ms", "ratio")),
        )
        for size in found["sizes"]
        for part in PARTS
    ]
    headings = ("", f"ms at {FEW:,} rows", "ms at so many", "ratio")
    report.table("a webhook through the inbox; an observation reconciled", headings, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("grown", __doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="in each table"
    )
    given = parser.parse_args(arguments)
    found = {"bench": "grown", "sizes": asyncio.run(measure(given.rows)), **machine.about()}
    show(found)
    report.write(found, given.json)


if __name__ == "__main__":
    main()
