"""An account's guard: what would exceed it waits for a person, before any of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import guards
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
    await _hold(db, member, op, [job for job in jobs if job.mark.guard != op], counts)
    return passed


async def admit(
    db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs that may be written now; the excess is held. Counted in this transaction."""
    passed = [job for job in jobs if job.mark.guard == op]
    asking = [job for job in jobs if job.mark.guard != op]
    limit = member.config.guard.of(op)
    room = await guards.admit(db, member.name, op, wanted=len(asking), limit=limit)
    await _hold(db, member, op, asking[room:], counts)
    return [*passed, *asking[:room]]


async def give_back(db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job]) -> None:
    """These were admitted, and nothing of them was sent."""
    if member.config.guard.of(op) is not None:
        asked = [job for job in jobs if job.mark.guard != op]
        await guards.give_back(db, member.name, op, len(asked))


async def _hold(
    db: AsyncConnection, member: Member, op: Op, jobs: Sequence[Job], counts: dict[str, int]
) -> None:
    if not jobs:
        return
    limit = member.config.guard.of(op)
    await guards.hold(db, [job.mark for job in jobs], op, held_because(member.name, op, limit))
    count(counts, "guarded", len(jobs))
    log.warning("guard.held", account=member.name, op=op, limit=limit, marks=len(jobs))


def held_because(account: str, op: str, limit: int | None) -> dict[str, Any]:
    """What stands beside a mark that waits for a person."""
    return {
        "class": "Guarded",
        "cause": f"guard: {op}",
        "reason": f"more than {limit} {op}s in an hour would reach {account}",
        "next_step": f"look at `syncline guard show {account}`, then approve or discard",
    }
