"""The inbox table: storing what came in, reading it, putting it back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import lanes
from app.db.pages import Page, Row, first, page, rows
from app.db.tables import deliveries, events
from app.domain.values import Delivery

#: One statement, one round trip, one transaction: store what is new, wake the `in` lanes of
#: the accounts that got something, notify once. Locks are taken in sorted order. The lane is
#: locked even where it is due already (a claim about to clear ``due_at`` must not swallow this
#: wake-up), but never waited for: a worker that settles may hold it for long. The caller is
#: told which lanes are still to be woken. A repeat is known by its key within its part, a week;
#: of one from an older part the events are known. To look for it there would cost more than all
#: else here, and the more the fuller the parts are.
_STORE = """
with stored as (
    insert into deliveries (account, key, method, target, headers, body)
    select d.account, d.key, 'POST', d.target, d.headers::jsonb, d.body
    from unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bytea[])
        as d (account, key, target, headers, body)
    order by d.account, d.key
    on conflict do nothing
    returning account, key, id
), free as (
    select account from lanes
    where direction = 'in' and account in (select account from stored)
    order by account for no key update skip locked
), woken as (
    update lanes set due_at = least(coalesce(due_at, now()), now())
    from free where lanes.account = free.account and lanes.direction = 'in'
    returning lanes.account
), told as (
    select pg_notify('syncline', '') from (select from stored limit 1) as one_of_them
)
select account, key, id, woken.account is not null, (select count(*) from told)
from stored left join woken using (account)
"""


def key(delivery: Delivery, *, named: bool) -> bytes:
    """The SHA-256 that repeats of this delivery share.

    ``named`` says that the sender gives each message an id of its own (Standard Webhooks); it
    signs that id, and may sign the same one anew. Everyone else is known by the body.
    """
    message = delivery.headers.get("webhook-id") if named else None
    return hashlib.sha256(delivery.body if message is None else message.encode()).digest()


@dataclass(frozen=True, slots=True)
class Stored:
    """What a flush did: the ids of what was new, and the accounts whose lanes were locked."""

    new: dict[tuple[str, bytes], int]
    unwoken: set[str]


async def store(
    connection: asyncpg.Connection, arrivals: Sequence[tuple[Delivery, bytes]]
) -> Stored:
    """Store what is not there yet (by key), wake and notify; committed when this returns."""
    if not arrivals:
        return Stored({}, set())
    rows = await connection.fetch(_STORE, *zip(*starmap(_columns, arrivals), strict=True))
    new = {(row[0], row[1]): row[2] for row in rows}
    return Stored(new, {row[0] for row in rows if not row[3]})


def _columns(delivery: Delivery, key: bytes) -> tuple[object, ...]:
    return (
        delivery.account,
        key,
        delivery.target,
        orjson.dumps(delivery.headers).decode(),
        delivery.body,
    )


async def add(db: AsyncConnection, arrivals: Sequence[tuple[Delivery, bytes]]) -> int:
    """Store what is not there yet (by key) and wake whoever reads it; how much was new."""
    keys = {(delivery.account, key): delivery for delivery, key in arrivals}
    if not keys:
        return 0
    place = sa.tuple_(deliveries.c.account, deliveries.c.key)
    there = await db.execute(
        sa.select(deliveries.c.account, deliveries.c.key).where(place.in_(sorted(keys)))
    )
    for account, key in there:
        keys.pop((account, key), None)
    if not keys:
        return 0
    stored = await db.execute(
        insert(deliveries)
        .values(
            [
                {
                    "account": delivery.account,
                    "key": key,
                    "method": delivery.method,
                    "target": delivery.target,
                    "headers": dict(delivery.headers),
                    "body": delivery.body,
                }
                for (_, key), delivery in keys.items()
            ]
        )
        .on_conflict_do_nothing()
    )
    for account in sorted({account for account, _ in keys}):
        await lanes.wake(db, account, "in")
    return stored.rowcount


# ------------------------------------------------------------------------------ reading

LATEST = 20_000  # deliveries looked through for an account's last one

_SUMMARY = (
    deliveries.c.id,
    deliveries.c.account,
    deliveries.c.method,
    deliveries.c.target,
    sa.func.length(deliveries.c.body).label("size"),
    deliveries.c.received_at,
    deliveries.c.state,
    deliveries.c.due_at,
    deliveries.c.attempts,
    deliveries.c.error,
)


async def listed(
    db: AsyncConnection,
    *,
    account: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Deliveries without their bodies, newest first."""
    wanted = sa.select(*_SUMMARY)
    if account is not None:
        wanted = wanted.where(deliveries.c.account == account)
    if state is not None:
        wanted = wanted.where(deliveries.c.state == state)
    return await page(db, wanted, by=[deliveries.c.id.desc()], cursor=cursor, limit=limit)


async def one(db: AsyncConnection, delivery_id: int) -> Row | None:
    """A delivery with headers and body, and the events that were read in it."""
    whole = sa.select(*_SUMMARY, deliveries.c.headers, deliveries.c.body)
    found = await first(db, whole.where(deliveries.c.id == delivery_id))
    if found is None:
        return None
    read = sa.select(events).where(events.c.delivery_id == delivery_id).order_by(events.c.id)
    return {**found, "events": await rows(db, read)}


async def last_received(db: AsyncConnection) -> dict[str, datetime]:
    """When each account last sent us something, as far as the latest deliveries tell."""
    latest = (
        sa.select(deliveries.c.account, deliveries.c.received_at)
        .order_by(deliveries.c.id.desc())
        .limit(LATEST)
        .subquery()
    )
    newest = sa.func.max(latest.c.received_at)
    found = await db.execute(sa.select(latest.c.account, newest).group_by(latest.c.account))
    return {row.account: row[1] for row in found}


# --------------------------------------------------------------------------- back again


async def replay(db: AsyncConnection, delivery_id: int) -> bool:
    """Read a delivery once more, and act on its events once more; False if there is none."""
    again = {"state": "pending", "attempts": 0, "error": None, "due_at": sa.func.now()}
    found = await db.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(again)
        .returning(deliveries.c.account)
    )
    account = found.scalar_one_or_none()
    if account is None:
        return False
    of_it = sa.update(events).where(events.c.delivery_id == delivery_id)
    await db.execute(of_it.values(again))
    await lanes.wake(db, account, "in")
    return True
