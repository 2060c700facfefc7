"""The inbox, read side: deliveries waiting to be parsed, events waiting to be looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import among, any_of, columns, insert_rows
from app.db.tables import deliveries, events
from app.domain.values import Change, Delivery, Event, Ref


def _delivery(row: Any) -> Delivery:
    return Delivery(
        account=row.account,
        method=row.method,
        target=row.target,
        headers=row.headers,
        body=row.body,
        received_at=row.received_at,
        id=row.id,
    )


async def unread(db: AsyncConnection, account: str, *, limit: int) -> list[Delivery]:
    """The oldest deliveries nobody has parsed yet."""
    rows = await db.execute(
        sa.select(deliveries)
        .where(
            deliveries.c.account == account,
            deliveries.c.state == "pending",
            deliveries.c.due_at <= sa.func.now(),
        )
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    return [_delivery(row) for row in rows]


async def mark_read(db: AsyncConnection, ids: Collection[int]) -> None:
    await db.execute(
        sa.update(deliveries)
        .where(any_of(deliveries.c.id, ids), deliveries.c.state == "pending")
        .values(state="done", error=None)
    )


async def bury_delivery(db: AsyncConnection, delivery_id: int, error: Mapping[str, Any]) -> None:
    """A delivery that cannot be read waits for a person."""
    await db.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(state="dead", error=error, attempts=deliveries.c.attempts + 1)
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """An event with the account it belongs to and the registry's answer.

    ``answer`` is handled, ignored, unsupported or foreign (of a portal nobody configured).
    """

    account: str
    event: Event
    answer: str
    error: Mapping[str, Any] | None = None


_COLUMNS = (
    *("account", "key", "delivery_id", "type", "ref_type", "ref_id"),
    *("gone", "at", "received_at", "answer", "state", "error"),
)
_ADD = insert_rows(events, *_COLUMNS).on_conflict_do_nothing()


async def add(db: AsyncConnection, read: Sequence[tuple[Delivery, Sequence[Answered]]]) -> None:
    """Store what is new; a handled event waits to be looked at, the others are kept as they are.

    A replayed delivery finds its events already there: those that were unsupported get today's
    answer.
    """
    wanted: dict[tuple[str, str], tuple[Delivery, Answered]] = {}
    for delivery, answered in read:
        for item in answered:
            wanted.setdefault((item.account, item.event.key), (delivery, item))
    if not wanted:
        return
    known = await _known(db, wanted)
    for place, answer in known.items():
        _, item = wanted.pop(place)
        if answer in ("unsupported", "foreign") and answer != item.answer:
            await db.execute(
                sa.update(events)
                .where(events.c.account == place[0], events.c.key == place[1])
                .values(answer=item.answer, state=_state(item))
            )
    rows = [
        {
            "account": item.account,
            "key": item.event.key,
            "delivery_id": delivery.id,
            "type": item.event.type,
            "ref_type": item.event.ref.type if item.event.ref else None,
            "ref_id": item.event.ref.id if item.event.ref else None,
            "gone": item.event.change is not Change.CHANGED,
            "at": item.event.at,
            "received_at": delivery.received_at,
            "answer": item.answer,
            "state": _state(item),
            "error": item.error,
        }
        for delivery, item in wanted.values()
    ]
    if rows:
        await db.execute(_ADD, columns(events, _COLUMNS, rows))


def _state(item: Answered) -> str:
    return "pending" if item.answer == "handled" else "done"


async def _known(
    db: AsyncConnection, places: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The answers to those of these events that are there already, in whatever part."""
    there = among([events.c.account, events.c.key], places)
    rows = await db.execute(sa.select(events.c.account, events.c.key, events.c.answer).where(there))
    return {(account, key): answer for account, key, answer in rows}


async def departed(db: AsyncConnection, refs: Collection[Ref]) -> set[Ref]:
    """Those of these refs that some event says were deleted or merged away."""
    if not refs:
        return set()
    rows = await db.execute(
        sa.select(events.c.account, events.c.ref_type, events.c.ref_id).where(
            among(
                [events.c.account, events.c.ref_type, events.c.ref_id],
                ((ref.account, ref.type, ref.id) for ref in refs),
            ),
            events.c.gone,
        )
    )
    return {Ref(*row) for row in rows}


async def leaving(db: AsyncConnection, refs: Collection[Ref]) -> set[Ref]:
    """Those of these refs of which news that they left still waits to be looked at."""
    if not refs:
        return set()
    rows = await db.execute(
        sa.select(events.c.account, events.c.ref_type, events.c.ref_id).where(
            among(
                [events.c.account, events.c.ref_type, events.c.ref_id],
                ((ref.account, ref.type, ref.id) for ref in refs),
            ),
            events.c.gone,
            events.c.state == "pending",
        )
    )
    return {Ref(*row) for row in rows}


async def departed_since(
    db: AsyncConnection, account: str, ref_type: str, since: datetime
) -> list[Ref]:
    """Refs that we never met and heard of only since then: they were deleted, or merged away, and
    then remembered with whom they were merged into.
    """
    rows = await db.execute(
        sa.text(
            """
            select distinct e.ref_id from events e
            where e.account = :account and e.ref_type = :type and e.gone and e.received_at >= :since
            and not exists (
                select from links k where k.account = e.account
                and k.type = e.ref_type and k.remote_id = e.ref_id
                and not (k.ended = 'merged' and k.base = '{}' and k.created_at >= :since))
            and not exists (
                select from events b where b.account = e.account
                and b.ref_type = e.ref_type and b.ref_id = e.ref_id and b.received_at < :since)
            order by e.ref_id
            """
        ),
        {"account": account, "type": ref_type, "since": since},
    )
    return [Ref(account, ref_type, id) for id in rows.scalars()]


async def unread_until(db: AsyncConnection, account: str, moment: datetime) -> bool:
    """Whether a delivery that came until then has not been read yet."""
    found = await db.execute(
        sa.select(
            sa.exists().where(
                deliveries.c.account == account,
                deliveries.c.state == "pending",
                deliveries.c.received_at <= moment,
            )
        )
    )
    return bool(found.scalar_one())


@dataclass(frozen=True, slots=True)
class Pending:
    """An event waiting to be looked at."""

    id: int
    account: str
    key: str
    type: str
    delivery_id: int
    received_at: datetime
    attempts: int


async def pending(db: AsyncConnection, account: str, *, limit: int) -> list[Pending]:
    """The oldest due events of an account."""
    rows = await db.execute(
        sa.select(
            events.c.id,
            events.c.account,
            events.c.key,
            events.c.type,
            events.c.delivery_id,
            events.c.received_at,
            events.c.attempts,
        )
        .where(
            events.c.account == account,
            events.c.state == "pending",
            events.c.due_at <= sa.func.now(),
        )
        .order_by(events.c.id)
        .limit(limit)
    )
    return [Pending(*row) for row in rows]


async def sources(db: AsyncConnection, ids: Collection[int]) -> list[Delivery]:
    """The deliveries that events came from, to read the events anew."""
    rows = await db.execute(sa.select(deliveries).where(any_of(deliveries.c.id, ids)))
    return [_delivery(row) for row in rows]


async def finish(db: AsyncConnection, ids: Collection[int]) -> None:
    """These events have been dealt with."""
    await db.execute(
        sa.update(events)
        .where(any_of(events.c.id, ids), events.c.state == "pending")
        .values(state="done", error=None)
    )


async def postpone(
    db: AsyncConnection,
    ids: Collection[int],
    *,
    until: datetime,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Look again later; a postponement with an error counts as an attempt."""
    await db.execute(
        sa.update(events)
        .where(any_of(events.c.id, ids), events.c.state == "pending")
        .values(
            due_at=until,
            error=error,
            attempts=events.c.attempts + (0 if error is None else 1),
        )
    )


async def end_backoff(db: AsyncConnection, account: str) -> None:
    """What kept these events waiting is over: they are due now."""
    await db.execute(
        sa.update(events)
        .where(
            events.c.account == account,
            events.c.state == "pending",
            events.c.attempts > 0,
            events.c.due_at > sa.func.now(),
        )
        .values(due_at=sa.func.now())
    )


async def bury(db: AsyncConnection, ids: Collection[int], error: Mapping[str, Any]) -> None:
    """These events wait for a person."""
    await db.execute(
        sa.update(events)
        .where(any_of(events.c.id, ids), events.c.state == "pending")
        .values(state="dead", error=error, attempts=events.c.attempts + 1)
    )


async def oldest(db: AsyncConnection, accounts: Collection[str]) -> datetime | None:
    """When the oldest delivery or event that is due was received; None if all are dealt with."""
    found = await db.execute(
        sa.text(
            """
            select least(
                (select min(received_at) from deliveries
                 where account = any(:accounts) and state = 'pending' and due_at <= now()),
                (select min(received_at) from events
                 where account = any(:accounts) and state = 'pending' and due_at <= now()))
            """
        ),
        {"accounts": sorted(accounts)},
    )
    moment: datetime | None = found.scalar_one()
    return moment
