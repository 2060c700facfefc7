"""Records with their keys and relations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import among, any_of, columns, insert_rows, rows_of
from app.db.tables import keys, records, relations
from app.domain.decide import fingerprint
from app.domain.entities import relations_of
from app.domain.state import RecordState
from app.domain.values import Key


class KeyTaken(Exception):
    """Another worker has just claimed one of the keys: look again and decide anew."""


async def get(
    db: AsyncConnection, ids: Collection[UUID], *, lock: bool = False
) -> dict[UUID, RecordState]:
    """Records by id, whatever their state; locked in one order."""
    query = sa.select(records).where(any_of(records.c.id, set(ids))).order_by(records.c.id)
    rows = (await db.execute(query.with_for_update() if lock else query)).all()
    return {
        row.id: RecordState(
            row.id, row.entity, row.fields, row.stamps, row.version, row.container, row.state
        )
        for row in rows
    }


async def lock(db: AsyncConnection, ids: Collection[UUID]) -> None:
    """Let nobody else change these records until the transaction ends."""
    query = sa.select(records.c.id).where(any_of(records.c.id, set(ids))).order_by(records.c.id)
    await db.execute(query.with_for_update())


_COLUMNS = (
    *("id", "entity", "fields", "stamps"),
    *("version", "container", "hash", "source"),
)
_NEW = insert_rows(records, *_COLUMNS)


def _row(record: RecordState, source: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "entity": record.entity,
        "fields": record.fields,
        "stamps": record.stamps,
        "version": record.version,
        "container": record.container,
        "hash": fingerprint(record.fields),
        "source": source,
    }


async def add(db: AsyncConnection, new: Sequence[RecordState], *, source: str) -> None:
    """Store new records."""
    if not new:
        return
    rows = [_row(record, source) for record in new]
    await db.execute(_NEW, columns(records, _COLUMNS, rows))
    await _relate(db, new)


_CHANGED = rows_of(records, *_COLUMNS, "state")
_CHANGE = (
    sa.update(records)
    .where(records.c.id == _CHANGED["id"])
    .values(
        **{n: cell for n, cell in _CHANGED.items() if n not in ("id", "entity")},
        changed_at=sa.func.now(),
    )
)


async def change(db: AsyncConnection, changed: Sequence[RecordState], *, source: str) -> None:
    """Store new versions of records."""
    if not changed:
        return
    rows = [{**_row(record, source), "state": record.state} for record in changed]
    await db.execute(_CHANGE, columns(records, tuple(_CHANGED), rows))
    await _relate(db, changed)


async def touch(db: AsyncConnection, ids: Iterable[UUID]) -> None:
    """These records have just been brought into step somewhere."""
    await db.execute(
        sa.update(records).where(any_of(records.c.id, set(ids))).values(synced_at=sa.func.now())
    )


async def survivors(db: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Where each of these records lives now: itself, or the record it was merged into."""
    rows = await db.execute(
        sa.select(records.c.id, records.c.merged_into).where(
            any_of(records.c.id, set(ids)), records.c.state == "merged"
        )
    )
    moved = {row.id: row.merged_into for row in rows}
    return {record_id: moved.get(record_id, record_id) for record_id in ids}


async def bump(db: AsyncConnection, record_id: UUID) -> int:
    """What belongs to a record changed, though none of its fields did; its new version."""
    found = await db.execute(
        sa.update(records)
        .where(records.c.id == record_id)
        .values(version=records.c.version + 1)
        .returning(records.c.version)
    )
    version: int = found.scalar_one()
    return version


async def keys_of(db: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, frozenset[Key]]:
    """The keys that each of these records holds."""
    rows = await db.execute(
        sa.select(keys.c.record_id, keys.c.kind, keys.c.value).where(
            any_of(keys.c.record_id, set(ids))
        )
    )
    found: dict[UUID, set[Key]] = {}
    for record_id, kind, value in rows:
        found.setdefault(record_id, set()).add(Key(kind, value))
    return {record_id: frozenset(own) for record_id, own in found.items()}


async def set_state(db: AsyncConnection, ids: Collection[UUID], state: str) -> None:
    """Records come back to life, or are to be deleted wherever they still are."""
    if ids:
        await db.execute(
            sa.update(records)
            .where(any_of(records.c.id, set(ids)), records.c.state.not_in((state, "purged")))
            .values(state=state, changed_at=sa.func.now(), version=records.c.version + 1)
        )


_KEY = ("entity", "kind", "value", "record_id")
_ROWS = insert_rows(keys, *_KEY)
_CLAIM = _ROWS.on_conflict_do_update(
    index_elements=[keys.c.entity, keys.c.kind, keys.c.value],
    set_={"record_id": _ROWS.excluded.record_id},
    where=keys.c.record_id == _ROWS.excluded.record_id,
).returning(keys.c.value)


async def claim(db: AsyncConnection, entity: str, wanted: Mapping[UUID, Collection[Key]]) -> None:
    """Let each record hold exactly these keys. Raises KeyTaken if another one has one."""
    held = sorted((k, record_id) for record_id, own in wanted.items() for k in own)
    if held:
        rows = [
            {"entity": entity, "kind": k.kind, "value": k.value, "record_id": record_id}
            for k, record_id in held
        ]
        done = await db.execute(_CLAIM, columns(keys, _KEY, rows))
        if len(done.all()) < len(rows):
            raise KeyTaken
    kept = among(
        [keys.c.record_id, keys.c.kind, keys.c.value],
        ((record_id, k.kind, k.value) for k, record_id in held),
    )
    await db.execute(sa.delete(keys).where(any_of(keys.c.record_id, wanted), ~kept))


async def owners_of(db: AsyncConnection, entity: str, wanted: Collection[Key]) -> dict[Key, UUID]:
    """The records that hold these keys."""
    if not wanted:
        return {}
    rows = await db.execute(
        sa.select(keys.c.kind, keys.c.value, keys.c.record_id).where(
            keys.c.entity == entity,
            among([keys.c.kind, keys.c.value], ((k.kind, k.value) for k in wanted)),
        )
    )
    return {Key(kind, value): record_id for kind, value, record_id in rows}


async def children(db: AsyncConnection, parents: Collection[UUID]) -> list[UUID]:
    """The records that name one of these as their parent."""
    rows = await db.execute(
        sa.select(relations.c.child_id)
        .distinct()
        .where(any_of(relations.c.parent_id, set(parents)))
    )
    return list(rows.scalars())


async def bury(db: AsyncConnection, ids: Collection[UUID]) -> None:
    """Records that live on nowhere. Their keys are free: who comes with one of them is new."""
    await set_state(db, ids, "gone")
    await db.execute(sa.delete(keys).where(any_of(keys.c.record_id, set(ids))))


async def merge_into(db: AsyncConnection, lost: UUID, survivor: UUID) -> None:
    """The lost record lives on in the survivor, which takes its keys."""
    await db.execute(sa.update(keys).where(keys.c.record_id == lost).values(record_id=survivor))
    await db.execute(
        sa.update(records)
        .where((records.c.id == lost) | (records.c.merged_into == lost))
        .values(
            state="merged",
            merged_into=survivor,
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


_RELATION = ("child_id", "name", "parent_id")
_RELATE = insert_rows(relations, *_RELATION).on_conflict_do_nothing()


async def _relate(db: AsyncConnection, changed: Collection[RecordState]) -> None:
    """Keep the relations table as the fields of these records say."""
    children_of = [record for record in changed if relations_of(record.entity)]
    if not children_of:
        return
    named = sorted(
        {
            (record.id, name, parent)
            for record in children_of
            for name, listed in parents_of(record).items()
            for parent in listed
        }
    )
    await db.execute(
        sa.delete(relations).where(
            any_of(relations.c.child_id, [record.id for record in children_of]),
            ~among([relations.c.child_id, relations.c.name, relations.c.parent_id], named),
        )
    )
    if named:
        rows = [dict(zip(_RELATION, row, strict=True)) for row in named]
        await db.execute(_RELATE, columns(relations, _RELATION, rows))
