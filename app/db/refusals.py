"""Accounts that a CRM does not let in, or that it does not answer: one call asks until it does.

All lanes of an account wait whose credential is refused. Where its CRM is away, what has come in is
taken in as far as that goes without it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import accounts, lanes

#: Whoever asks has this long for it; nobody else asks meanwhile.
_ASKING = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Since when an account is refused, in the CRM's words, and when it is asked next."""

    since: datetime
    reason: str
    asked_at: datetime


async def refuse(db: AsyncConnection, name: str, reason: str, *, until: datetime) -> bool:
    """Let the whole account wait, and ask again then; whether that is new."""
    found = await db.execute(
        sa.select(accounts.c.refused_at).where(accounts.c.name == name).with_for_update()
    )
    before = found.scalar_one_or_none()
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(
            refused_at=sa.func.coalesce(accounts.c.refused_at, sa.func.now()),
            refused_reason=reason,
            away_at=None,
            probe_at=until,
            probes=accounts.c.probes + 1,
        )
    )
    return before is None


async def miss(db: AsyncConnection, name: str, *, until: datetime) -> bool:
    """Its CRM does not answer, and is asked again then; whether that is new."""
    found = await db.execute(
        sa.select(accounts.c.away_at).where(accounts.c.name == name).with_for_update()
    )
    before = found.scalar_one_or_none()
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(
            away_at=sa.func.coalesce(accounts.c.away_at, sa.func.now()),
            probe_at=until,
            probes=accounts.c.probes + 1,
        )
    )
    return before is None


async def is_away(db: AsyncConnection, name: str) -> bool:
    """Whether its CRM is known to be away."""
    query = sa.select(accounts.c.away_at).where(accounts.c.name == name)
    return (await db.execute(query)).scalar_one_or_none() is not None


async def put_off(db: AsyncConnection, name: str, *, until: datetime) -> bool:
    """It could not be asked just now: nothing is learned. False if it is not refused."""
    refused = sa.and_(accounts.c.name == name, accounts.c.refused_at.is_not(None))
    done = await db.execute(sa.update(accounts).where(refused).values(probe_at=until))
    return done.rowcount > 0


@dataclass(frozen=True, slots=True)
class Over:
    """What is over: since when an account was refused, or its CRM away."""

    refused_at: datetime | None
    away_at: datetime | None


async def admit(db: AsyncConnection, name: str) -> Over | None:
    """It is let in: all of its lanes are due. None if it was neither refused nor away."""
    shut = sa.or_(accounts.c.refused_at.is_not(None), accounts.c.away_at.is_not(None))
    query = sa.select(accounts.c.refused_at, accounts.c.away_at)
    found = await db.execute(query.where(accounts.c.name == name, shut).with_for_update())
    row = found.one_or_none()
    if row is None:
        return None
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(refused_at=None, refused_reason=None, away_at=None, probe_at=None, probes=0)
    )
    await db.execute(
        sa.update(lanes)
        .where(lanes.c.account == name)
        .values(due_at=sa.func.now(), paused_until=None, pause_reason=None, failures=0)
    )
    return Over(*row)


async def take(db: AsyncConnection, names: Collection[str]) -> dict[str, int]:
    """The accounts among these that are to be asked now, by us alone; how often they were.

    What a person has paused is left alone.
    """
    due = (
        sa.select(accounts.c.name)
        .where(
            accounts.c.name.in_(sorted(names)),
            accounts.c.probe_at <= sa.func.now(),
            ~accounts.c.paused,
        )
        .with_for_update(skip_locked=True)
    )
    taken = await db.execute(
        sa.update(accounts)
        .where(accounts.c.name.in_(due.scalar_subquery()))
        .values(probe_at=sa.func.now() + _ASKING)
        .returning(accounts.c.name, accounts.c.probes)
    )
    return {row.name: row.probes for row in taken}


async def hurry(db: AsyncConnection, names: Collection[str]) -> None:
    """Ask those of these that wait at once: their credentials may be others now."""
    waiting = sa.and_(accounts.c.name.in_(sorted(names)), accounts.c.probe_at.is_not(None))
    await db.execute(sa.update(accounts).where(waiting).values(probe_at=sa.func.now(), probes=0))


async def all_of(db: AsyncConnection) -> dict[str, Refusal]:
    """Every account that is refused."""
    query = sa.select(
        accounts.c.name, accounts.c.refused_at, accounts.c.refused_reason, accounts.c.probe_at
    ).where(accounts.c.refused_at.is_not(None))
    return {row[0]: Refusal(*row[1:]) for row in await db.execute(query)}
