"""Links: record <-> ref, with what both sides last agreed on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import links
from app.domain.values import Fields, Ref


@dataclass(frozen=True, slots=True)
class Link:
    id: int
    record_id: UUID
    entity: str
    ref: Ref
    base: Fields
    sent: Fields
    seen_at: datetime | None
    writing: bool
    synced_at: datetime
    state: str


def _link(row: Any) -> Link:
    return Link(
        row.id,
        row.record_id,
        row.entity,
        Ref(row.account, row.type, row.remote_id),
        row.base,
        row.sent,
        row.seen_at,
        row.writing,
        row.synced_at,
        row.state,
    )


def _named(refs: Collection[Ref]) -> sa.ColumnElement[bool]:
    return sa.tuple_(links.c.account, links.c.type, links.c.remote_id).in_(
        [(ref.account, ref.type, ref.id) for ref in sorted(refs)]
    )


async def by_ref(
    db: AsyncConnection, refs: Collection[Ref], *, lock: bool = False
) -> dict[Ref, Link]:
    """The links of these refs, whatever their state."""
    if not refs:
        return {}
    query = sa.select(links).where(_named(refs)).order_by(links.c.id)
    rows = await db.execute(query.with_for_update() if lock else query)
    return {link.ref: link for link in map(_link, rows)}


async def by_record(
    db: AsyncConnection,
    record_ids: Collection[UUID],
    *,
    account: str | None = None,
    lock: bool = False,
) -> list[Link]:
    """The links of these records, all accounts or one."""
    query = sa.select(links).where(links.c.record_id.in_(set(record_ids))).order_by(links.c.id)
    if account is not None:
        query = query.where(links.c.account == account)
    rows = await db.execute(query.with_for_update() if lock else query)
    return [_link(row) for row in rows]


async def add(
    db: AsyncConnection,
    record_id: UUID,
    entity: str,
    ref: Ref,
    *,
    base: Fields,
    sent: Fields,
    seen_at: datetime | None,
    state: str = "live",
) -> None:
    """Link a ref to a record; a ref that was linked before (and gone) comes back to life."""
    row = insert(links).values(
        record_id=record_id,
        entity=entity,
        account=ref.account,
        type=ref.type,
        remote_id=ref.id,
        base=base,
        sent=sent,
        seen_at=seen_at,
        state=state,
    )
    await db.execute(
        row.on_conflict_do_update(
            index_elements=[links.c.account, links.c.type, links.c.remote_id],
            set_={
                name: getattr(row.excluded, name)
                for name in ("record_id", "base", "sent", "seen_at", "state")
            }
            | {"synced_at": sa.func.clock_timestamp()},
        )
    )


async def agree(
    db: AsyncConnection,
    ref: Ref,
    *,
    base: Fields | None,
    sent: Fields | None,
    seen_at: datetime | None,
) -> None:
    """Remember what the account showed. ``seen_at`` never goes back."""
    values: dict[str, Any] = {"synced_at": sa.func.clock_timestamp()}
    if base is not None:
        values["base"] = base
    if sent is not None:
        values["sent"] = sent
    if seen_at is not None:
        values["seen_at"] = sa.func.greatest(links.c.seen_at, seen_at)
    await db.execute(sa.update(links).where(_named([ref])).values(values))


async def begin_writes(db: AsyncConnection, refs: Collection[Ref]) -> None:
    """Say that writes are on their way: what is read meanwhile cannot be trusted."""
    if refs:
        await db.execute(
            sa.update(links)
            .where(_named(refs))
            .values(writing=True, synced_at=sa.func.clock_timestamp())
        )


async def end_writes(db: AsyncConnection, refs: Collection[Ref]) -> None:
    if refs:
        await db.execute(
            sa.update(links)
            .where(_named(refs), links.c.writing)
            .values(writing=False, synced_at=sa.func.clock_timestamp())
        )


async def set_state(db: AsyncConnection, ref: Ref, state: str) -> None:
    await db.execute(sa.update(links).where(_named([ref])).values(state=state))


async def move(db: AsyncConnection, ref: Ref, record_id: UUID, *, state: str) -> None:
    """Give a link to another record (after a remote merge)."""
    await db.execute(
        sa.update(links).where(_named([ref])).values(record_id=record_id, state=state, sent={})
    )
