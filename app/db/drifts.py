"""Comparisons of an account with our records: how far they are, and what they found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.journal import as_json
from app.db.pages import Page, Row, first, page, rows
from app.db.tables import accounts, deliveries, differences, drifts, events, links, outbox
from app.domain.drift import EMPTY, EXPECTED, Difference
from app.domain.values import Ref

_OPEN = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Drift:
    """One comparison. ``cursor`` is {entity, after, n}, or None before the start."""

    id: UUID
    account: str
    entities: Sequence[str]
    repair: bool
    cursor: Mapping[str, Any] | None
    counts: Mapping[str, int]
    causes: Mapping[str, int]
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Found:
    """A difference and whose it is."""

    entity: str
    record_id: UUID
    ref: Ref
    difference: Difference


# ---------------------------------------------------------------------------------- begin


async def begin(
    db: AsyncConnection,
    account: str,
    entities: Sequence[str],
    *,
    repair: bool,
    reason: str = "person",
) -> Row:
    """Queue a comparison; its row."""
    new = {"id": uuid.uuid7(), "account": account, "entities": list(entities)}
    query = sa.insert(drifts).values(**new, repair=repair, reason=reason).returning(drifts)
    (begun,) = await rows(db, query)
    return begun


async def schedule(
    db: AsyncConnection, account: str, entities: Sequence[str], *, every: int | None, repair: bool
) -> None:
    """Queue the comparison that is due by the schedule, and know when the next one is.

    The first one is due a whole pause after the schedule was first seen.
    """
    query = sa.select(accounts.c.drift_due_at, sa.func.now()).where(accounts.c.name == account)
    row = (await db.execute(query.with_for_update())).one_or_none()
    if row is None or (every is None and row[0] is None):
        return
    due, moment = row
    later = None if every is None else moment + timedelta(seconds=every)
    if due is not None and later is not None and moment < due <= later:
        return
    if due is not None and due <= moment and entities and every is not None:
        under_way = sa.select(drifts.c.id).where(
            drifts.c.account == account, drifts.c.state.in_(_OPEN)
        )
        if (await db.execute(under_way.limit(1))).first() is None:
            await begin(db, account, entities, repair=repair, reason="schedule")
    await db.execute(
        sa.update(accounts).where(accounts.c.name == account).values(drift_due_at=later)
    )


# --------------------------------------------------------------------------------- under way


async def current(db: AsyncConnection, account: str) -> Drift | None:
    """The comparison to go on with: the oldest that is open."""
    query = (
        sa.select(drifts)
        .where(drifts.c.account == account, drifts.c.state.in_(_OPEN))
        .order_by(drifts.c.created_at)
        .limit(1)
    )
    row = (await db.execute(query)).one_or_none()
    if row is None:
        return None
    return Drift(
        row.id,
        row.account,
        row.entities,
        row.repair,
        row.cursor,
        row.counts,
        row.causes,
        row.ours or EMPTY,
        row.theirs or EMPTY,
    )


async def total(db: AsyncConnection, account: str, entities: Collection[str]) -> int:
    """How many linked records there are to compare."""
    query = sa.select(sa.func.count()).where(
        links.c.account == account, links.c.entity.in_(set(entities)), links.c.state == "live"
    )
    return int((await db.execute(query)).scalar_one())


async def linked(
    db: AsyncConnection, account: str, type: str, *, after: str, limit: int
) -> list[Ref]:
    """Living refs of an account behind this id, in the order of their ids."""
    query = (
        sa.select(links.c.remote_id)
        .where(
            links.c.account == account,
            links.c.type == type,
            links.c.remote_id > after,
            links.c.state == "live",
        )
        .order_by(links.c.remote_id)
        .limit(limit)
    )
    return [Ref(account, type, id) for id in (await db.execute(query)).scalars()]


async def marks(
    db: AsyncConnection, account: str, record_ids: Collection[UUID]
) -> dict[UUID, tuple[str, str | None]]:
    """Of those of these records that are ahead of the account: the state of the mark, and why."""
    query = sa.select(outbox.c.record_id, outbox.c.state, outbox.c.error).where(
        outbox.c.account == account, outbox.c.record_id.in_(set(record_ids))
    )
    found = await db.execute(query)
    return {row.record_id: (row.state, (row.error or {}).get("reason")) for row in found}


async def unread(db: AsyncConnection, refs: Collection[Ref]) -> set[Ref]:
    """Those of which events wait to be dealt with."""
    if not refs:
        return set()
    named = sa.tuple_(events.c.account, events.c.ref_type, events.c.ref_id).in_(
        [(ref.account, ref.type, ref.id) for ref in sorted(refs)]
    )
    query = sa.select(events.c.account, events.c.ref_type, events.c.ref_id).where(
        named, events.c.state == "pending"
    )
    return {Ref(*row) for row in await db.execute(query)}


async def unopened(db: AsyncConnection, account: str) -> bool:
    """Whether deliveries wait of which nobody knows yet what they are about."""
    query = sa.select(deliveries.c.id).where(
        deliveries.c.account == account, deliveries.c.state == "pending"
    )
    return (await db.execute(query.limit(1))).first() is not None


async def advance(
    db: AsyncConnection,
    drift: Drift,
    *,
    cursor: Mapping[str, Any],
    counts: Mapping[str, int],
    causes: Mapping[str, int],
    ours: str,
    theirs: str,
    total: int | None,
    found: Sequence[Found],
) -> bool:
    """Keep the progress of one page; False if it was cancelled meanwhile."""
    values: dict[str, Any] = {
        "state": "running",
        "started_at": sa.func.coalesce(drifts.c.started_at, sa.func.now()),
        "cursor": dict(cursor),
        "counts": _sum(drift.counts, counts),
        "causes": _sum(drift.causes, causes),
        "ours": ours,
        "theirs": theirs,
    }
    if total is not None:
        values["total"] = total
    change = sa.update(drifts).where(drifts.c.id == drift.id, drifts.c.state.in_(_OPEN))
    kept = await db.execute(change.values(**values).returning(drifts.c.id))
    if kept.first() is None:
        return False
    if found:
        start = int(cursor["n"]) - len(found)
        await db.execute(
            sa.insert(differences).values(
                [
                    {
                        "drift_id": drift.id,
                        "n": start + i,
                        "entity": one.entity,
                        "record_id": one.record_id,
                        "remote_id": one.ref.id,
                        "field": one.difference.field,
                        "ours": as_json(one.difference.ours),
                        "theirs": as_json(one.difference.theirs),
                        "cause": str(one.difference.cause),
                        "reason": one.difference.reason,
                    }
                    for i, one in enumerate(found)
                ]
            )
        )
    return True


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {*one, *other}}


async def finish(
    db: AsyncConnection, drift: Drift, state: str, *, error: Mapping[str, Any] | None = None
) -> None:
    values: dict[str, Any] = {"state": state, "finished_at": sa.func.now()}
    if error is not None:
        values["errors"] = {"items": [dict(error)]}
    await db.execute(
        sa.update(drifts).where(drifts.c.id == drift.id, drifts.c.state.in_(_OPEN)).values(**values)
    )


# ---------------------------------------------------------------------------------- to look at


async def show(db: AsyncConnection, drift_id: UUID) -> Row | None:
    """One comparison."""
    return await first(db, sa.select(drifts).where(drifts.c.id == drift_id))


async def listed(
    db: AsyncConnection,
    *,
    account: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Comparisons, newest first."""
    given = {drifts.c.account: account, drifts.c.state: state}
    wanted = sa.select(drifts).where(*(c == v for c, v in given.items() if v is not None))
    return await page(db, wanted, by=[drifts.c.id.desc()], cursor=cursor, limit=limit)


async def found(
    db: AsyncConnection,
    drift_id: UUID,
    *,
    cause: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """What a comparison found, in its order."""
    wanted = sa.select(differences).where(differences.c.drift_id == drift_id)
    if cause is not None:
        wanted = wanted.where(differences.c.cause == cause)
    return await page(db, wanted, by=[differences.c.n], cursor=cursor, limit=limit)


async def cancel(db: AsyncConnection, drift_id: UUID) -> Row | None:
    """Cancel it if it is still open; its row then, else None."""
    return await first(
        db,
        sa.update(drifts)
        .where(drifts.c.id == drift_id, drifts.c.state.in_(_OPEN))
        .values(state="cancelled", finished_at=sa.func.now())
        .returning(drifts),
    )


def unexpected(causes: Mapping[str, int]) -> int:
    """How many differences nothing explains that is under way, or that a person was told of."""
    return sum(count for cause, count in causes.items() if cause not in EXPECTED)


async def last(db: AsyncConnection) -> dict[str, int]:
    """What the last comparison of each account left that nothing explains."""
    query = (
        sa.select(drifts.c.account, drifts.c.causes, drifts.c.repair)
        .where(drifts.c.state == "done")
        .ext(distinct_on(drifts.c.account))
        .order_by(drifts.c.account, drifts.c.finished_at.desc())
    )
    return {
        row.account: 0 if row.repair else unexpected(row.causes) for row in await db.execute(query)
    }
