"""Records with their keys and relations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import keys, records, relations
from app.domain.decide import RecordState, fingerprint
from app.domain.entities import relations_of
from app.domain.values import Key


class KeyTaken(Exception):
    """Another worker has just claimed one of the keys: look again and decide anew."""


async def get(
    db: AsyncConnection, ids: Collection[UUID], *, lock: bool = False
) -> dict[UUID, RecordState]:
    """Records by id, following remote merges to the survivor; locked in one order."""
    query = sa.select(records).where(records.c.id.in_(set(ids))).order_by(records.c.id)
    rows = (await db.execute(query.with_for_update() if lock else query)).all()
    return {
        row.id: RecordState(row.id, row.entity, row.fields, row.stamps, row.version, row.container)
        for row in rows
    }


async def add(
    db: AsyncConnection, record: RecordState, *, source: str, claimed: Collection[Key]
) -> None:
    """Store a new record and claim its keys. Raises KeyTaken if somebody was faster."""
    await db.execute(
        insert(records).values(
            id=record.id,
            entity=record.entity,
            fields=record.fields,
            stamps=record.stamps,
            version=record.version,
            container=record.container,
            hash=fingerprint(record.fields),
            source=source,
        )
    )
    await claim(db, record, claimed)
    await _relate(db, record)


async def change(db: AsyncConnection, record: RecordState, *, source: str) -> None:
    """Store a new version of a record."""
    await db.execute(
        sa.update(records)
        .where(records.c.id == record.id)
        .values(
            fields=record.fields,
            stamps=record.stamps,
            version=record.version,
            container=record.container,
            hash=fingerprint(record.fields),
            source=source,
            changed_at=sa.func.now(),
        )
    )
    await _relate(db, record)


async def touch(db: AsyncConnection, ids: Iterable[UUID]) -> None:
    """These records have just been brought into step somewhere."""
    await db.execute(
        sa.update(records).where(records.c.id.in_(set(ids))).values(synced_at=sa.func.now())
    )


async def claim(db: AsyncConnection, record: RecordState, wanted: Collection[Key]) -> None:
    """Hold exactly these keys. Raises KeyTaken if one belongs to another record."""
    rows = [
        {"entity": record.entity, "kind": k.kind, "value": k.value, "record_id": record.id}
        for k in sorted(wanted)
    ]
    if rows:
        row = insert(keys).values(rows)
        held = await db.execute(
            row.on_conflict_do_update(
                index_elements=[keys.c.entity, keys.c.kind, keys.c.value],
                set_={"record_id": row.excluded.record_id},
                where=keys.c.record_id == row.excluded.record_id,
            ).returning(keys.c.value)
        )
        if len(held.all()) < len(rows):
            raise KeyTaken
    await db.execute(
        sa.delete(keys).where(
            keys.c.record_id == record.id,
            sa.tuple_(keys.c.kind, keys.c.value).not_in([(k.kind, k.value) for k in wanted]),
        )
    )


async def owners_of(db: AsyncConnection, entity: str, wanted: Collection[Key]) -> dict[Key, UUID]:
    """The records that hold these keys."""
    if not wanted:
        return {}
    rows = await db.execute(
        sa.select(keys.c.kind, keys.c.value, keys.c.record_id).where(
            keys.c.entity == entity,
            sa.tuple_(keys.c.kind, keys.c.value).in_([(k.kind, k.value) for k in wanted]),
        )
    )
    return {Key(kind, value): record_id for kind, value, record_id in rows}


async def children(db: AsyncConnection, parents: Collection[UUID]) -> list[UUID]:
    """The records that name one of these as their parent."""
    rows = await db.execute(
        sa.select(relations.c.child_id).distinct().where(relations.c.parent_id.in_(set(parents)))
    )
    return list(rows.scalars())


async def bury(db: AsyncConnection, record_id: UUID, *, into: UUID | None = None) -> None:
    """A record that lives on nowhere, or in another one."""
    await db.execute(
        sa.update(records)
        .where(records.c.id == record_id)
        .values(
            state="merged" if into else "gone",
            merged_into=into,
            changed_at=sa.func.now(),
            version=records.c.version + 1,
        )
    )


def parents_of(record: RecordState) -> dict[str, list[UUID]]:
    """The parents a record names, by relation."""
    found = {}
    for name in relations_of(record.entity):
        value = record.fields.get(name)
        listed = value if isinstance(value, list) else [value] if value else []
        found[name] = [UUID(str(item)) for item in listed]
    return found


async def _relate(db: AsyncConnection, record: RecordState) -> None:
    named = {(n, p) for n, listed in parents_of(record).items() for p in listed}
    if not relations_of(record.entity):
        return
    await db.execute(
        sa.delete(relations).where(
            relations.c.child_id == record.id,
            sa.tuple_(relations.c.name, relations.c.parent_id).not_in(sorted(named)),
        )
    )
    if named:
        await db.execute(
            insert(relations)
            .values([{"child_id": record.id, "name": n, "parent_id": p} for n, p in sorted(named)])
            .on_conflict_do_nothing()
        )


async def hand_over(db: AsyncConnection, lost: UUID, survivor: UUID) -> None:
    """After a remote merge: keys and children of the lost record belong to the survivor."""
    await db.execute(sa.update(keys).where(keys.c.record_id == lost).values(record_id=survivor))
    for child in (await get(db, await children(db, [lost]), lock=True)).values():
        fields = dict(child.fields)
        for name in relations_of(child.entity):
            value = fields.get(name)
            if isinstance(value, list):
                fields[name] = sorted({str(survivor) if v == str(lost) else v for v in value})
            elif value == str(lost):
                fields[name] = str(survivor)
        await db.execute(
            sa.update(records)
            .where(records.c.id == child.id)
            .values(fields=fields, hash=fingerprint(fields))
        )
        await _relate(db, RecordState(child.id, child.entity, fields))
    await bury(db, lost, into=survivor)
