"""What scripts and agents sent us, and what each of them last said of a record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import intake_bases, intakes
from app.domain.values import Fields


@dataclass(frozen=True, slots=True)
class Intake:
    """One that was answered: the digest of what it said, and the answer."""

    digest: bytes
    status: int
    answer: dict[str, Any]


async def begin(db: AsyncConnection, source: str, key: str, digest: bytes) -> Intake | None:
    """Take the key of an intake; what was answered to it where it is taken already.

    Whoever comes at the same time waits until the first one has committed.
    """
    row = insert(intakes).values(source=source, key=key, digest=digest, status=0, answer={})
    fresh = await db.execute(row.on_conflict_do_nothing().returning(intakes.c.key))
    if fresh.first() is not None:
        return None
    found = await db.execute(sa.select(intakes).where(_is(source, key)))
    known = found.one()
    return Intake(known.digest, known.status, known.answer)


async def finish(
    db: AsyncConnection, source: str, key: str, status: int, answer: dict[str, Any]
) -> None:
    """Keep what was answered."""
    await db.execute(
        sa.update(intakes).where(_is(source, key)).values(status=status, answer=answer)
    )


async def forget(db: AsyncConnection, before: datetime) -> int:
    """Forget the keys that have had their time; how many."""
    done = await db.execute(sa.delete(intakes).where(intakes.c.at < before))
    return done.rowcount


async def base(db: AsyncConnection, source: str, record_id: UUID) -> tuple[Fields, Fields] | None:
    """What this source last said of a record, and what ours was then where it differed."""
    found = await db.execute(
        sa.select(intake_bases.c.base, intake_bases.c.sent).where(
            intake_bases.c.source == source, intake_bases.c.record_id == record_id
        )
    )
    row = found.one_or_none()
    return None if row is None else (row.base, row.sent)


async def agree(
    db: AsyncConnection, source: str, record_id: UUID, said: Fields, sent: Fields
) -> None:
    """Remember what this source said of a record."""
    row = insert(intake_bases).values(
        source=source, record_id=record_id, base=dict(said), sent=dict(sent)
    )
    await db.execute(
        row.on_conflict_do_update(
            index_elements=[intake_bases.c.source, intake_bases.c.record_id],
            set_={"base": row.excluded.base, "sent": row.excluded.sent, "at": sa.func.now()},
        )
    )


def _is(source: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(intakes.c.source == source, intakes.c.key == key)
