"""Cards for a person."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import among, any_of
from app.db.tables import conflicts
from app.domain.merge import Clash
from app.domain.state import RecordState
from app.domain.unread import Unread
from app.domain.values import NOTHING, Ref

_BATCH = 10_000

#: The cards of fields into which nothing is written until they are settled.
UNWRITTEN = ("field", "word")


async def held_fields(
    db: AsyncConnection,
    record_ids: Collection[UUID],
    account: str,
    *,
    kinds: Collection[str] = ("field",),
) -> dict[UUID, frozenset[str]]:
    """The fields of these records that are held in an account, waiting for a person."""
    rows = await db.execute(
        sa.select(conflicts.c.record_id, conflicts.c.field).where(
            any_of(conflicts.c.record_id, set(record_ids)),
            conflicts.c.account == account,
            conflicts.c.kind.in_(set(kinds)),
            conflicts.c.state == "open",
        )
    )
    found: dict[UUID, set[str]] = {}
    for record_id, name in rows:
        found.setdefault(record_id, set()).add(name)
    return {record_id: frozenset(names) for record_id, names in found.items()}


async def words(
    db: AsyncConnection, account: str, *, record_ids: Collection[UUID] | None = None
) -> dict[Ref, dict[str, str]]:
    """What an account shows that no value map names, by field; of these records or of all."""
    asked = [any_of(conflicts.c.record_id, set(record_ids))] if record_ids is not None else []
    rows = await db.execute(
        sa.select(
            conflicts.c.ref_type, conflicts.c.ref_id, conflicts.c.field, conflicts.c.theirs
        ).where(
            conflicts.c.account == account,
            conflicts.c.kind == "word",
            conflicts.c.state == "open",
            *asked,
        )
    )
    found: dict[Ref, dict[str, str]] = {}
    for ref_type, ref_id, name, theirs in rows:
        found.setdefault(Ref(account, ref_type, ref_id), {})[name] = theirs["value"]
    return found


async def cannot_read(db: AsyncConnection, record: RecordState, ref: Ref, one: Unread) -> None:
    """An option there that no value map names; nothing is written over it."""
    word = json.dumps(one.word, ensure_ascii=False)  # as YAML writes it, too
    await _open(
        db,
        kind="word",
        entity=record.entity,
        record_id=record.id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        field=one.field,
        ours={"value": record.fields.get(one.field)},
        theirs={"value": one.word},
        detail={
            "reason": f"no value map names {word}: it is neither read nor written over; name it "
            "in the configuration, or change it there",
            "key": f"accounts.{ref.account}.mapping.{record.entity}.{one.row}.values",
            "line": f"OURS: {word}",
        },
    )


async def hold_field(
    db: AsyncConnection, record_id: UUID, entity: str, ref: Ref, clash: Clash
) -> None:
    """Both values are kept until a person chooses."""
    await _open(
        db,
        kind="field",
        entity=entity,
        record_id=record_id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        field=clash.field,
        ours={"value": clash.ours},
        theirs={"value": clash.theirs},
        detail={"reason": clash.rule},
    )


async def unsure(
    db: AsyncConnection,
    entity: str,
    ref: Ref,
    candidates: Sequence[UUID],
    reason: str,
    theirs: Mapping[str, Any],
    *,
    record_id: UUID | None = None,
    found: Mapping[str, Any] = NOTHING,
    departed: bool = False,
) -> None:
    """An identity nobody but a person can decide.

    ``theirs`` is what the ref shows; ``found`` are the remote records, by id, that a create of
    ours met there instead, each with what it shows, or showed before it was deleted (``departed``).
    """
    await _open(
        db,
        kind="identity",
        entity=entity,
        record_id=record_id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        theirs=theirs,
        detail={
            "reason": reason,
            "candidates": [str(c) for c in candidates],
            **({"found": dict(found)} if found else {}),
            **({"departed": True} if departed else {}),
        },
    )


async def parked(
    db: AsyncConnection,
    entity: str,
    record_id: UUID,
    ref: Ref,
    survivor: Ref,
    *,
    reason: str = "",
) -> None:
    """Two records became one elsewhere; here a second one stays, parked, until a person says."""
    merged = f"its counterpart was merged into {survivor}; merge it here too or unlink it"
    await _open(
        db,
        kind="merge",
        entity=entity,
        record_id=record_id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        detail={
            "reason": reason or merged,
            "survivor": str(survivor),
        },
    )


async def kept(
    db: AsyncConnection, entity: str, record_id: UUID, ref: Ref, reason: str, fields: Sequence[str]
) -> None:
    """A delete was not carried out, because something would be lost by it."""
    await _open(
        db,
        kind="delete",
        entity=entity,
        record_id=record_id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        detail={"reason": reason, "fields": list(fields)},
    )


async def suspect(db: AsyncConnection, entity: str, record_id: UUID, ref: Ref, rival: Ref) -> None:
    """We made a record there while somebody else made the same one: one of them is surplus."""
    await _open(
        db,
        kind="suspect",
        entity=entity,
        record_id=record_id,
        account=ref.account,
        ref_type=ref.type,
        ref_id=ref.id,
        detail={"reason": f"it was made at the same time as {rival}; merge or delete one of them"},
    )


async def _open(db: AsyncConnection, **values: Any) -> None:
    row = insert(conflicts).values(**values)
    await db.execute(
        row.on_conflict_do_update(
            index_elements=[
                conflicts.c.kind,
                conflicts.c.account,
                conflicts.c.ref_type,
                conflicts.c.ref_id,
                conflicts.c.field,
            ],
            index_where=sa.text("state = 'open'"),  # a parameter matches no index in a generic plan
            set_={
                "ours": row.excluded.ours,
                "theirs": row.excluded.theirs,
                # Why a field was held stays true while its values move on.
                "detail": sa.case(
                    (conflicts.c.kind == "field", conflicts.c.detail), else_=row.excluded.detail
                ),
            },
        )
    )


async def settle(
    db: AsyncConnection,
    ref: Ref,
    *,
    fields: Collection[str],
    how: Mapping[str, Any],
    kind: str = "field",
) -> None:
    """Close the open cards of these fields of a ref."""
    await db.execute(
        sa.update(conflicts)
        .where(_open_of([ref]), conflicts.c.field.in_(set(fields)), conflicts.c.kind == kind)
        .values(state="settled", settled_at=sa.func.now(), settled=dict(how))
    )


async def settle_identities(db: AsyncConnection, refs: Collection[Ref]) -> None:
    """These refs have found their record: nobody need decide who they are."""
    if refs:
        await db.execute(
            sa.update(conflicts)
            .where(_open_of(refs), conflicts.c.kind == "identity")
            .values(state="settled", settled_at=sa.func.now(), settled={"by": "link"})
        )


async def asked_for(db: AsyncConnection, account: str, record_id: UUID) -> list[str]:
    """The remote ids there of which a person is asked whether they are this record."""
    asked = await db.execute(
        sa.select(conflicts.c.ref_id).where(
            conflicts.c.account == account,
            conflicts.c.kind == "identity",
            conflicts.c.state == "open",
            conflicts.c.record_id.is_(None),
            conflicts.c.detail["candidates"].contains([str(record_id)]),
        )
    )
    return list(asked.scalars())


async def settle_refs(
    db: AsyncConnection,
    refs: Collection[Ref],
    *,
    kinds: Collection[str] | None = None,
    how: Mapping[str, Any],
) -> None:
    """Close the open cards about these refs, of some kinds or of all."""
    if not refs:
        return
    wanted = [_open_of(refs)]
    if kinds is not None:
        wanted.append(conflicts.c.kind.in_(set(kinds)))
    await db.execute(
        sa.update(conflicts)
        .where(*wanted)
        .values(state="settled", settled_at=sa.func.now(), settled=dict(how))
    )


async def settle_between(
    db: AsyncConnection, one: UUID, other: UUID, *, how: Mapping[str, Any]
) -> None:
    """Close the open cards that ask whether these two records are one."""
    asks = sa.or_(
        *(
            sa.and_(
                conflicts.c.record_id == mine,
                conflicts.c.detail["candidates"].contains([str(theirs)]),
            )
            for mine, theirs in ((one, other), (other, one), (other, other))
        )
    )
    await db.execute(
        sa.update(conflicts)
        .where(conflicts.c.kind == "identity", conflicts.c.state == "open", asks)
        .values(state="settled", settled_at=sa.func.now(), settled=dict(how))
    )


async def open_merges(db: AsyncConnection, refs: Collection[Ref]) -> frozenset[Ref]:
    """Which of these refs wait for a word about a merge elsewhere."""
    if not refs:
        return frozenset()
    rows = await db.execute(
        sa.select(conflicts.c.account, conflicts.c.ref_type, conflicts.c.ref_id).where(
            _open_of(refs), conflicts.c.kind == "merge"
        )
    )
    return frozenset(Ref(*row) for row in rows)


async def close(db: AsyncConnection, conflict_id: int, *, how: Mapping[str, Any]) -> None:
    """Settle one card."""
    await db.execute(
        sa.update(conflicts)
        .where(conflicts.c.id == conflict_id, conflicts.c.state == "open")
        .values(state="settled", settled_at=sa.func.now(), settled=dict(how))
    )


async def forget(db: AsyncConnection, before: datetime) -> int:
    """Delete cards that were settled before this, up to a batch; how many."""
    old = sa.select(conflicts.c.id).where(conflicts.c.settled_at < before).limit(_BATCH)
    return (await db.execute(sa.delete(conflicts).where(conflicts.c.id.in_(old)))).rowcount


async def rename(db: AsyncConnection, ref: Ref, to: Ref) -> None:
    """The open cards about a ref are about another one now."""
    await db.execute(
        sa.update(conflicts).where(_open_of([ref])).values(ref_type=to.type, ref_id=to.id)
    )


async def hand_over(db: AsyncConnection, lost: UUID, survivor: UUID) -> None:
    """The open cards of a record that was merged away are the survivor's."""
    await db.execute(
        sa.update(conflicts)
        .where(conflicts.c.record_id == lost, conflicts.c.state == "open")
        .values(record_id=survivor)
    )


def _open_of(refs: Collection[Ref]) -> sa.ColumnElement[bool]:
    named = [(ref.account, ref.type, ref.id) for ref in refs]
    return sa.and_(
        conflicts.c.state == "open",
        among([conflicts.c.account, conflicts.c.ref_type, conflicts.c.ref_id], named),
    )


async def get(db: AsyncConnection, conflict_id: int) -> Any | None:
    """One card as a row, locked; None if there is none."""
    found = await db.execute(
        sa.select(conflicts).where(conflicts.c.id == conflict_id).with_for_update()
    )
    return found.one_or_none()
