"""What inbox, journal and reconcile cost when their tables are small, and when they hold millions.

python -m bench.grown --rows 100000 1000000
"""

import argparse
import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import uuid_utils.compat as uuid
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.clock import now
from app.config import parse
from app.db import deliveries, events, journal, migrations, partitions
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
from tests.postgres import clone, server

CONFIG = """
accounts:
  close: {connector: close, credentials: {api_key: nobody}, base_url: "http://127.0.0.1:9"}
  hubspot: {connector: hubspot, credentials: {access_token: nobody}, base_url: "http://127.0.0.1:9"}
sync: {person: {conflict: hubspot}}
"""
#: Rows in each table of the database that counts as small.
FEW = 2_000
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
    "insert into records (id, entity, fields, stamps, hash, source)"
    " select md5(n::text)::uuid, 'person', jsonb_build_object('email', 'p' || n || '@x.example',"
    " 'first_name', 'Ada', 'last_name', 'King ' || n), '{{}}', md5(n::text), 'hubspot'"
    " from generate_series(1, {rows}) n",
    "insert into keys (entity, kind, value, record_id)"
    " select 'person', 'email', 'p' || n || '@x.example', md5(n::text)::uuid"
    " from generate_series(1, {rows}) n",
    "insert into links (record_id, entity, account, type, remote_id, base)"
    " select r.id, 'person', a.name, a.type,"
    " a.sign || split_part(r.fields ->> 'last_name', ' ', 2), r.fields"
    " from records r, (values ('close', 'contact', 'cont_'), ('hubspot', 'contacts', ''))"
    " a (name, type, sign)",
    "analyze",
)


def _told(delivery: Delivery) -> Answered:
    name = delivery.body.decode()
    return Answered(
        "close", Event(name, "lead.updated", now(), Ref("close", "lead", name)), "handled"
    )


async def _inbox(database: Database, name: str) -> float:
    """Milliseconds for a webhook: stored, read, looked for, finished, and one line of history."""
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


async def _reconcile(house: House, number: int) -> float:
    """Milliseconds for an observation that is taken in: of two, one is an edit of a known person,
    one a person whom nobody has met; the record, keys, links, history and marks with it.
    """
    began = time.perf_counter()
    for batch in range(ROUND):
        seen = []
        for n in range(BATCH // 2):
            known = 1 + (batch * BATCH // 2 + n) * 3
            fresh = f"9{number:03}{batch:03}{n:03}"
            edited = {"email": f"p{known}@x.example", "firstname": f"Ada {number}"}
            unmet = {"email": f"new{fresh}@x.example", "firstname": "Grace", "lastname": "Hopper"}
            seen += [_seen(str(known), edited), _seen(fresh, unmet)]
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
    async with database.transaction() as db:
        for cut in partitions.CUTS:
            for day in range(0, DAYS + 1, 7):
                await partitions.make(db, cut, now() - timedelta(days=day))
    connection = await asyncpg.connect(url)  # no limit of time: millions take minutes
    for statement in _FILL:
        await connection.execute(statement.format(rows=rows, step=DAYS * 86_400_000 // rows))
    await connection.close()
    return database


async def measure(sizes: Sequence[int]) -> None:
    """Each size beside a small database, by turns: what else the machine does hits both."""
    for rows in sizes:
        async with clone(server()) as one, clone(server()) as other:
            few, many = await _made(one, FEW), await _made(other, rows)
            houses = {few: _house(few), many: _house(many)}
            spent: dict[tuple[str, Database], list[float]] = {}
            for n in range(ROUNDS):
                for database, house in houses.items():
                    spent.setdefault(("inbox", database), []).append(
                        await _inbox(database, f"round {n}")
                    )
                    spent.setdefault(("reconcile", database), []).append(await _reconcile(house, n))
            for part in ("inbox", "reconcile"):
                before, after = (min(spent[part, database]) for database in houses)
                print(
                    f"{part:<9} {FEW:,} rows {before:.2f} ms · {rows:,} rows in each table"
                    f" {after:.2f} ms · ratio {after / before:.2f}",
                    flush=True,
                )
            for database in houses:
                await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.grown", description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="in each table"
    )
    asyncio.run(measure(parser.parse_args().rows))


if __name__ == "__main__":
    main()
