"""An account's guard: what would exceed it waits for a person, before any of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import guards
from app.db.outbox import Mark
from app.domain.values import Op
from app.sync.draft import Job, count
from app.sync.house import Member

log = structlog.get_logger()


async def stop_early(
    db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs that are worth preparing: none, while others of their kind are held."""
    if not jobs or not await guards.holds(db, member.name, op):
        return list(jobs)
    passed = [job for job in jobs if job.mark.guard == op]
    await _hold(db, member, op, [job.mark for job in jobs if job.mark.guard != op], counts)
    return passed


async def admit(
    db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs that may be written now; the excess is held. Counted in this transaction."""
    passed = [job for job in jobs if job.mark.guard == op]
    asking = [job for job in jobs if job.mark.guard != op]
    limit = member.config.guard.of(op)
    room = await guards.admit(db, member.name, op, wanted=len(asking), limit=limit)
    await _hold(db, member, op, [job.mark for job in asking[room:]], counts)
    return [*passed, *asking[:room]]


async def admit_merges(
    db: AsyncConnection, member: Member, marks: Sequence[Mark], counts: dict[str, int]
) -> int:
    """How many of these merges may be done now, one for each mark; the excess is held.

    What is merged away is gone there: it counts as a delete.
    """
    room = await guards.admit(
        db, member.name, Op.DELETE, wanted=len(marks), limit=member.config.guard.of(Op.DELETE)
    )
    await _hold(db, member, Op.DELETE, marks[room:], counts)
    return room


async def give_back(db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job]) -> None:
    """These were admitted, and nothing of them was sent."""
    if member.config.guard.of(op) is not None:
        asked = [job for job in jobs if job.mark.guard != op]
        await guards.give_back(db, member.name, op, len(asked))


async def _hold(
    db: AsyncConnection, member: Member, op: Op, marks: Sequence[Mark], counts: dict[str, int]
) -> None:
    if not marks:
        return
    limit = member.config.guard.of(op)
    await guards.hold(db, marks, op, held_because(member.name, op, limit))
    count(counts, "guarded", len(marks))
    log.warning("guard.held", account=member.name, op=op, limit=limit, marks=len(marks))


def held_because(account: str, op: str, limit: int | None) -> dict[str, Any]:
    """What stands beside a mark that waits for a person."""
    return {
        "class": "Guarded",
        "cause": f"guard: {op}",
        "reason": f"more than {limit} {op}s in an hour would reach {account}",
        "next_step": f"look at `syncline guard show {account}`, then approve or discard",
    }
