"""By which rules the stored records hold their keys, and how far a change of rules has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import records
from app.db.arrays import any_of
from app.db.tables import keyed, separations
from app.db.tables import records as stored
from app.domain.state import RecordState


@dataclass(frozen=True, slots=True)
class Progress:
    """``cursor`` is the last record that has the keys of the ``wanted`` rules."""

    rules: Sequence[str] | None
    wanted: Sequence[str] | None
    cursor: UUID | None


async def progress(db: AsyncConnection, entity: str) -> Progress:
    """Where the keys of an entity stand; locked, so that one worker at a time goes on."""
    await db.execute(insert(keyed).values(entity=entity).on_conflict_do_nothing())
    query = sa.select(keyed.c.rules, keyed.c.wanted, keyed.c.cursor)
    found = await db.execute(query.where(keyed.c.entity == entity).with_for_update())
    return Progress(*found.one())


async def keep(db: AsyncConnection, entity: str, at: Progress) -> None:
    await db.execute(
        sa.update(keyed)
        .where(keyed.c.entity == entity)
        .values(rules=at.rules, wanted=at.wanted, cursor=at.cursor)
    )


async def page(
    db: AsyncConnection, entity: str, after: UUID | None, *, limit: int
) -> list[RecordState]:
    """The next living records of an entity, by id, locked."""
    query = sa.select(stored.c.id).where(stored.c.entity == entity, stored.c.state == "live")
    if after is not None:
        query = query.where(stored.c.id > after)
    ids = (await db.execute(query.order_by(stored.c.id).limit(limit))).scalars().all()
    found = await records.get(db, ids, lock=True)
    return [found[record_id] for record_id in ids]


async def separate(db: AsyncConnection, pairs: Collection[tuple[UUID, UUID]]) -> None:
    """A person said that these are two."""
    rows = sorted({tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]})
    if rows:
        await db.execute(
            insert(separations)
            .values([{"one": one, "other": other} for one, other in rows])
            .on_conflict_do_nothing()
        )


async def reunite(db: AsyncConnection, one: UUID, other: UUID) -> None:
    """A person said that these are one after all."""
    first, second = sorted((one, other))
    await db.execute(
        sa.delete(separations).where(separations.c.one == first, separations.c.other == second)
    )


async def separated(db: AsyncConnection, ids: Collection[UUID]) -> Mapping[UUID, frozenset[UUID]]:
    """Each of these records with those that a person said are another one."""
    wanted = set(ids)
    rows = await db.execute(
        sa.select(separations.c.one, separations.c.other).where(
            any_of(separations.c.one, wanted) | any_of(separations.c.other, wanted)
        )
    )
    found: dict[UUID, set[UUID]] = {}
    for one, other in rows:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {record_id: frozenset(others) for record_id, others in found.items()}
