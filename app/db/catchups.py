"""How far each account's own log was read, by entity, and what no webhook had told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import lanes
from app.db.pages import Row, rows
from app.db.tables import catchups, deliveries, events
from app.domain.values import Delivery, Ref

#: After less than this nobody was away: workers come and go.
AWAY = timedelta(seconds=60)
#: Why a log is read a second time at once: something was listed whose moment was not over.
MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Run:
    """A reading under way: what happened from ``since`` on, as it was told when it began.

    ``cursor`` is None at the start; ``deep`` says that deletes are looked for too, ``again`` that
    something was listed whose moment was not over.
    """

    account: str
    entity: str
    reason: str
    since: datetime
    began: datetime
    cursor: str | None
    deep: bool
    listed: int = 0
    missed: int = 0
    again: bool = False

    def content(self) -> dict[str, Any]:
        """The run as it is kept."""
        return {
            "reason": self.reason,
            "since": self.since.isoformat(),
            "began": self.began.isoformat(),
            "cursor": self.cursor,
            "deep": self.deep,
            "listed": self.listed,
            "missed": self.missed,
            "again": self.again,
        }


async def register(
    db: AsyncConnection, account: str, entities: Collection[str], *, every: int | None
) -> None:
    """Know every entity of an account; one whose log nobody has read lately is due.

    What is new is read from now on: what was before is for a resync.
    """
    await db.execute(
        sa.delete(catchups).where(
            catchups.c.account == account, catchups.c.entity.not_in(sorted(entities))
        )
    )
    if not entities:
        return
    due = None if every is None else sa.func.now() + timedelta(seconds=every)
    await db.execute(
        insert(catchups)
        .values([{"account": account, "entity": e, "due_at": due} for e in sorted(entities)])
        .on_conflict_do_nothing()
    )
    woken = await db.execute(
        sa.update(catchups)
        .where(
            catchups.c.account == account,
            catchups.c.run.is_(None),
            catchups.c.through < sa.func.now() - AWAY,
        )
        .values(due_at=sa.func.now(), reason="start")
    )
    if woken.rowcount:
        await lanes.wake(db, account, "scan")


async def request(
    db: AsyncConnection,
    account: str,
    reason: str,
    *,
    since: datetime | None = None,
    entity: str | None = None,
) -> int:
    """Have the log read now, perhaps further back than it was; how many entities that concerns.

    A reading under way begins anew where it must go further back.
    """
    values: dict[str, Any] = {"due_at": sa.func.now(), "reason": reason}
    if since is not None:
        values |= {"through": sa.func.least(catchups.c.through, since), "run": None}
    wanted = sa.update(catchups).where(catchups.c.account == account)
    if entity is not None:
        wanted = wanted.where(catchups.c.entity == entity)
    found = await db.execute(wanted.values(values))
    await lanes.wake(db, account, "scan")
    return found.rowcount


async def due(
    db: AsyncConnection, account: str, entities: Collection[str], *, deep_every: timedelta
) -> Run | None:
    """The reading to go on with, or to begin; None if none is due."""
    found = await db.execute(
        sa.select(catchups, sa.func.now().label("now"))
        .where(
            catchups.c.account == account,
            catchups.c.entity.in_(sorted(entities)),
            catchups.c.due_at <= sa.func.now(),
        )
        .order_by(catchups.c.run.is_(None), catchups.c.due_at, catchups.c.entity)
        .limit(1)
    )
    row = found.one_or_none()
    if row is None:
        return None
    if row.run is None:
        routine = row.reason in ("schedule", MOMENT)
        deep = not routine or row.now - row.deep_through >= deep_every
        return Run(account, row.entity, row.reason, row.through, row.now, None, deep)
    times = {name: datetime.fromisoformat(row.run[name]) for name in ("since", "began")}
    return Run(account, row.entity, **{**row.run, **times})


async def known(db: AsyncConnection, account: str, keys: Collection[str]) -> set[str]:
    """Those of these events that were told before."""
    found = await db.execute(
        sa.select(events.c.key).where(events.c.account == account, events.c.key.in_(set(keys)))
    )
    return set(found.scalars())


async def told(db: AsyncConnection, refs: Collection[Ref]) -> dict[Ref, datetime]:
    """The newest event of each of these refs."""
    if not refs:
        return {}
    found = await db.execute(
        sa.select(events.c.account, events.c.ref_type, events.c.ref_id, sa.func.max(events.c.at))
        .where(
            sa.tuple_(events.c.account, events.c.ref_type, events.c.ref_id).in_(
                [(ref.account, ref.type, ref.id) for ref in sorted(refs)]
            )
        )
        .group_by(events.c.account, events.c.ref_type, events.c.ref_id)
    )
    return {Ref(*row[:3]): row[3] for row in found}


async def store(db: AsyncConnection, found: Sequence[tuple[Delivery, bytes]]) -> dict[bytes, int]:
    """Keep what the log told as if a webhook had brought it and it were read; the ids by key."""
    if not found:
        return {}
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
                    "received_at": delivery.received_at,
                    "state": "done",
                }
                for delivery, key in found
            ]
        )
        .on_conflict_do_nothing()
        .returning(deliveries.c.key, deliveries.c.id)
    )
    return {row.key: row.id for row in stored}


async def advance(db: AsyncConnection, run: Run, *, counts: tuple[int, int]) -> None:
    """Keep how far the reading is, with what this page ``listed`` and ``missed``."""
    listed, missed = counts
    await db.execute(
        _of(run).values(
            run=run.content(),
            due_at=sa.func.now(),
            listed=catchups.c.listed + listed,
            missed=catchups.c.missed + missed,
            error=None,
        )
    )


async def finish(
    db: AsyncConnection, run: Run, *, counts: tuple[int, int], every: int | None
) -> None:
    """All until the beginning of this reading is taken in; come back after ``every`` seconds.

    Where somebody has asked for another one meanwhile, that one is due.
    """
    listed, missed = counts
    reason = MOMENT if run.again else "schedule"
    asked = catchups.c.reason != run.reason
    later = None if every is None else sa.func.now() + timedelta(seconds=every)
    values: dict[str, Any] = {
        "through": sa.func.greatest(catchups.c.through, run.began),
        "run": None,
        "last": {**run.content(), "finished": now().isoformat()},
        "due_at": sa.case((asked, sa.func.now()), else_=sa.cast(later, catchups.c.due_at.type)),
        "reason": sa.case((asked, catchups.c.reason), else_=reason),
        "listed": catchups.c.listed + listed,
        "missed": catchups.c.missed + missed,
        "error": None,
    }
    if run.deep:
        values["deep_through"] = run.began
    await db.execute(_of(run).values(values))


async def fail(db: AsyncConnection, run: Run, error: Mapping[str, Any], *, until: datetime) -> None:
    """Begin this reading anew later: perhaps its cursor is of no more use."""
    await db.execute(_of(run).values(run=None, error=dict(error), due_at=until))


def _of(run: Run) -> sa.Update:
    """The row of this reading, unless it must go further back than it does."""
    return sa.update(catchups).where(
        catchups.c.account == run.account,
        catchups.c.entity == run.entity,
        catchups.c.through >= run.since,
    )


async def clock(db: AsyncConnection) -> datetime:
    """What time the database says it is."""
    moment: datetime = (await db.execute(sa.select(sa.func.now()))).scalar_one()
    return moment


async def listed(db: AsyncConnection) -> Sequence[Row]:
    """How far each account's log was read."""
    return await rows(db, sa.select(catchups).order_by(catchups.c.account, catchups.c.entity))
