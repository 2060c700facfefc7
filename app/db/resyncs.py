"""Resyncs: resumable scans of one account."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import foreseen
from app.db.arrays import columns, insert_rows
from app.db.tables import plan_items, resyncs


@dataclass(frozen=True, slots=True)
class Resync:
    """``cursor`` is {entity, cursor, n: plan items so far}, or None before the start."""

    id: UUID
    account: str
    entities: Sequence[str]
    ids: Sequence[str] | None
    since: datetime | None
    dry_run: bool
    state: str
    cursor: Mapping[str, Any] | None
    counts: Mapping[str, int]
    match_id: UUID | None = None


async def current(db: AsyncConnection, account: str) -> Resync | None:
    """The resync to go on with: the oldest that is open."""
    found = await db.execute(
        sa.select(
            resyncs.c.id,
            resyncs.c.account,
            resyncs.c.entities,
            resyncs.c.ids,
            resyncs.c.since,
            resyncs.c.dry_run,
            resyncs.c.state,
            resyncs.c.cursor,
            resyncs.c.counts,
            resyncs.c.match_id,
        )
        .where(resyncs.c.account == account, resyncs.c.state.in_(("queued", "running")))
        .order_by(resyncs.c.created_at)
        .limit(1)
    )
    row = found.one_or_none()
    return None if row is None else Resync(**row._mapping)


async def are_under_way(db: AsyncConnection) -> bool:
    """Whether any account is being scanned for good."""
    open_ = resyncs.c.state.in_(("queued", "running"))
    found = sa.exists().where(open_, ~resyncs.c.dry_run, resyncs.c.ids.is_(None))
    return bool((await db.execute(sa.select(found))).scalar_one())


async def surveyed(db: AsyncConnection, account: str) -> frozenset[str]:
    """The entities of which we have seen every record of this account at least once."""
    found = await db.execute(
        sa.select(resyncs.c.entities, resyncs.c.cursor, resyncs.c.state).where(
            resyncs.c.account == account,
            resyncs.c.ids.is_(None),
            resyncs.c.since.is_(None),
            ~resyncs.c.dry_run,
            resyncs.c.state.in_(("running", "done")),
        )
    )
    seen: set[str] = set()
    for entities, cursor, state in found:
        passed = len(entities) if state == "done" else entities.index(cursor["entity"])
        seen.update(entities[:passed])
    return frozenset(seen)


async def begin(db: AsyncConnection, account: str, entity: str, ids: Collection[str]) -> None:
    """Queue a look at these remote records."""
    await db.execute(
        sa.insert(resyncs).values(
            id=uuid.uuid7(), account=account, entities=[entity], ids=sorted(ids)
        )
    )


async def begin_since(db: AsyncConnection, account: str, entity: str, since: datetime) -> None:
    """Queue a scan of what changed since, unless one that waits goes as far back."""
    there = await db.execute(
        sa.select(resyncs.c.id)
        .where(
            resyncs.c.account == account,
            resyncs.c.state == "queued",
            ~resyncs.c.dry_run,
            resyncs.c.ids.is_(None),
            resyncs.c.entities == [entity],
            sa.func.coalesce(resyncs.c.since, since) <= since,
        )
        .limit(1)
    )
    if there.first() is None:
        new = {"id": uuid.uuid7(), "account": account, "entities": [entity], "since": since}
        await db.execute(sa.insert(resyncs).values(new))


_ITEM = ("resync_id", "n", "item")
_PLAN = insert_rows(plan_items, *_ITEM).on_conflict_do_nothing()


async def advance(
    db: AsyncConnection,
    resync: Resync,
    *,
    cursor: Mapping[str, Any],
    counts: Mapping[str, int],
    total: int | None,
    errors: Sequence[Mapping[str, Any]],
    plan: Sequence[Mapping[str, Any]],
) -> bool:
    """Keep the progress of one page; False if the resync was cancelled meanwhile."""
    added = {
        name: int(resync.counts.get(name, 0)) + int(counts.get(name, 0))
        for name in {*resync.counts, *counts}
    }
    values: dict[str, Any] = {
        "state": "running",
        "started_at": sa.func.coalesce(resyncs.c.started_at, sa.func.now()),
        "cursor": dict(cursor),
        "counts": added,
    }
    if total is not None:
        values["total"] = total
    if errors:
        values["errors"] = {"items": list(errors)[:100]}
    kept = await db.execute(
        sa.update(resyncs)
        .where(resyncs.c.id == resync.id, resyncs.c.state.in_(("queued", "running")))
        .values(**values)
        .returning(resyncs.c.id)
    )
    if kept.first() is None:
        return False
    start = int(cursor.get("n", 0)) - len(plan)
    if plan:
        await db.execute(
            _PLAN,
            columns(
                plan_items,
                _ITEM,
                [
                    {"resync_id": resync.id, "n": start + i, "item": dict(item)}
                    for i, item in enumerate(plan)
                ],
            ),
        )
    return True


async def finish(
    db: AsyncConnection, resync: Resync, state: str, *, error: Mapping[str, Any] | None = None
) -> None:
    values: dict[str, Any] = {"state": state, "finished_at": sa.func.now()}
    if error is not None:
        values["errors"] = {"items": [dict(error)]}
    await db.execute(
        sa.update(resyncs)
        .where(resyncs.c.id == resync.id, resyncs.c.state.in_(("queued", "running")))
        .values(**values)
    )
    await foreseen.forget(db, resync.id)
