"""Guards: how many writes of each kind an account takes in an hour before a person is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import lanes
from app.db.arrays import any_of
from app.db.outbox import Mark
from app.db.pages import Row, rows
from app.db.records import set_state
from app.db.tables import attempts, guards, outbox, records, tallies

#: How many records a held guard names.
SAMPLES = 5

_MINUTE = sa.func.date_trunc("minute", sa.func.now())
#: The minute in which an hour ago lies counts in full: never a write too many.
_RECENT = tallies.c.minute >= _MINUTE - sa.text("interval '1 hour'")


def _of(table: sa.Table, account: str, op: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.account == account, table.c.op == op)


def _held(account: str, ops: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(
        outbox.c.account == account, outbox.c.state == "held", outbox.c.guard.in_(set(ops))
    )


async def admit(
    db: AsyncConnection, account: str, op: str, *, wanted: int, limit: int | None
) -> int:
    """How many of these writes may go; they count from now on.

    None may while others of their kind are held: a person looks first.
    """
    if limit is None or wanted == 0:
        return wanted
    # Whoever counts waits for the one before, on whatever machine.
    await db.execute(
        sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"guard {account} {op}")))
    )
    if await _is_open(db, account, op):
        return wanted
    if await holds(db, account, op):
        return 0
    used = await db.execute(
        sa.select(sa.func.coalesce(sa.func.sum(tallies.c.count), 0)).where(
            _of(tallies, account, op), _RECENT
        )
    )
    admitted = min(max(limit - int(used.scalar_one()), 0), wanted)
    if admitted:
        await _tally(db, account, op, admitted)
    return admitted


async def holds(db: AsyncConnection, account: str, op: str) -> bool:
    """Whether writes of this kind wait for a person."""
    found = await db.execute(sa.select(sa.exists().where(_held(account, [op]))))
    return bool(found.scalar_one()) and not await _is_open(db, account, op)


async def _is_open(db: AsyncConnection, account: str, op: str) -> bool:
    opened = sa.exists().where(_of(guards, account, op), guards.c.open_until > sa.func.now())
    return bool((await db.execute(sa.select(opened))).scalar_one())


async def _tally(db: AsyncConnection, account: str, op: str, count: int) -> None:
    row = insert(tallies).values(account=account, op=op, minute=_MINUTE, count=count)
    await db.execute(
        row.on_conflict_do_update(
            index_elements=[tallies.c.account, tallies.c.op, tallies.c.minute],
            set_={"count": tallies.c.count + row.excluded.count},
        )
    )
    await db.execute(sa.delete(tallies).where(_of(tallies, account, op), ~_RECENT))


async def give_back(db: AsyncConnection, account: str, op: str, count: int) -> None:
    """These writes were admitted and not sent."""
    if count:
        await _tally(db, account, op, -count)


async def hold(
    db: AsyncConnection, marks: Sequence[Mark], op: str, error: Mapping[str, Any]
) -> None:
    """Keep these marks until a person has decided. All are of one account."""
    if marks:
        await db.execute(
            sa.update(outbox)
            .where(
                outbox.c.account == marks[0].account,
                any_of(outbox.c.record_id, [mark.record_id for mark in marks]),
            )
            .values(
                state="held",
                guard=op,
                held_at=sa.func.coalesce(outbox.c.held_at, sa.func.now()),
                error=dict(error),
                intent=None,
                intent_at=None,
            )
        )


async def approve(
    db: AsyncConnection, account: str, ops: Collection[str], *, for_an_hour: bool
) -> int:
    """Let what is held through, and count anew; how many marks are due now.

    ``for_an_hour`` opens the guard for that long to what comes meanwhile.
    """
    await db.execute(
        sa.delete(tallies).where(tallies.c.account == account, tallies.c.op.in_(set(ops)))
    )
    if for_an_hour:
        until = sa.func.now() + sa.text("interval '1 hour'")
        row = insert(guards).values(
            [{"account": account, "op": op, "open_until": until} for op in sorted(ops)]
        )
        await db.execute(
            row.on_conflict_do_update(
                index_elements=[guards.c.account, guards.c.op],
                set_={"open_until": row.excluded.open_until},
            )
        )
    released = await db.execute(
        sa.update(outbox)
        .where(_held(account, ops))
        .values(state="pending", due_at=sa.func.now(), held_at=None, error=None, attempts=0)
        .returning(outbox.c.record_id)
    )
    count = len(released.all())
    await lanes.wake(db, account, "out")
    return count


async def discard(
    db: AsyncConnection,
    account: str,
    ops: Collection[str],
    *,
    types: Mapping[str, str],
    reason: str,
) -> int:
    """Drop the marks that are held, each with a line in the journal of attempts; how many.

    ``types`` are the account's own words for entities.
    """
    dropped = await db.execute(
        sa.delete(outbox)
        .where(_held(account, ops))
        .returning(outbox.c.record_id, outbox.c.entity, outbox.c.guard)
    )
    tried = [
        {
            "record_id": row.record_id,
            "account": account,
            "op": row.guard,
            "ref_type": types.get(row.entity, row.entity),
            "trace": "",
            "outcome": "discarded",
            "error": {"class": "Discarded", "cause": f"guard: {row.guard}", "reason": reason},
        }
        for row in dropped
    ]
    if tried:
        await db.execute(sa.insert(attempts), tried)
    # What was not deleted lives on; what was erased for good does not.
    spared = await db.execute(
        sa.select(records.c.id).where(
            records.c.id.in_([row["record_id"] for row in tried if row["op"] == "delete"]),
            records.c.state == "gone",
        )
    )
    await set_state(db, list(spared.scalars()), "live")
    return len(tried)


async def states(db: AsyncConnection) -> dict[tuple[str, str], Row]:
    """(account, op) -> used in the last hour, held, since when, open until."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def of(row: Row) -> dict[str, Any]:
        blank = {"used": 0, "held": 0, "since": None, "open_until": None}
        return found.setdefault((row["account"], row["op"]), blank)

    used = sa.select(tallies.c.account, tallies.c.op, sa.func.sum(tallies.c.count).label("used"))
    for row in await rows(db, used.where(_RECENT).group_by(tallies.c.account, tallies.c.op)):
        of(row)["used"] = int(row["used"])
    held = (
        sa.select(
            outbox.c.account,
            outbox.c.guard.label("op"),
            sa.func.count().label("held"),
            sa.func.min(outbox.c.held_at).label("since"),
        )
        .where(outbox.c.state == "held")
        .group_by(outbox.c.account, outbox.c.guard)
    )
    for row in await rows(db, held):
        of(row).update(held=row["held"], since=row["since"])
    opened = sa.select(guards).where(guards.c.open_until > sa.func.now())
    for row in await rows(db, opened):
        of(row)["open_until"] = row["open_until"]
    return dict(found)


async def samples(db: AsyncConnection, account: str, op: str) -> Sequence[Row]:
    """Some of the records whose writes are held, the longest first."""
    query = (
        sa.select(outbox.c.record_id, outbox.c.entity, records.c.fields, outbox.c.held_at)
        .join(records, records.c.id == outbox.c.record_id)
        .where(_held(account, [op]))
        .order_by(outbox.c.held_at, outbox.c.record_id)
        .limit(SAMPLES)
    )
    return await rows(db, query)
