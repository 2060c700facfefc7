"""What the API shows of records, events, conflicts and resyncs: lists and single things."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import words
from app.db.pages import Page, Row, first, page, rows
from app.db.tables import (
    attempts,
    conflicts,
    events,
    journal,
    keys,
    links,
    outbox,
    plan_items,
    records,
    resyncs,
)
from app.domain import identity

RECENT = 50  # journal rows shown with a record


# ------------------------------------------------------------------------------ records


async def list_records(
    db: AsyncConnection,
    *,
    entity: str | None = None,
    email: str | None = None,
    domain: str | None = None,
    account: str | None = None,
    remote_id: str | None = None,
    q: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Living records, newest first, each with its links.

    ``email`` and ``domain`` are compared as identity compares them; ``q`` is looked for in
    names and addresses.
    """
    wanted = sa.select(records).where(records.c.state == "live")
    if entity is not None:
        wanted = wanted.where(records.c.entity == entity)
    for kind, text in (("email", email), ("domain", domain)):
        if text is not None:
            value = identity.normalise(kind, text) or text
            own = sa.select(keys.c.record_id).where(keys.c.kind == kind, keys.c.value == value)
            wanted = wanted.where(records.c.id.in_(own))
    if account is not None or remote_id is not None:
        linked = sa.select(links.c.record_id).where(links.c.state != "gone")
        if account is not None:
            linked = linked.where(links.c.account == account)
        if remote_id is not None:
            linked = linked.where(links.c.remote_id == remote_id)
        wanted = wanted.where(records.c.id.in_(linked))
    if q is not None:
        named = ("name", "first_name", "last_name", "email", "domain")
        said = sa.func.concat_ws(" ", *(records.c.fields[name].astext for name in named))
        wanted = wanted.where(said.icontains(q, autoescape=True))
    found = await page(db, wanted, by=[records.c.id.desc()], cursor=cursor, limit=limit)
    linked_to = await _links(db, [row["id"] for row in found.items])
    items = [{**row, "links": linked_to.get(row["id"], [])} for row in found.items]
    return Page(items, found.next_cursor)


async def _links(db: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, list[Row]]:
    query = sa.select(links).where(links.c.record_id.in_(ids)).order_by(links.c.id)
    found: dict[UUID, list[Row]] = {}
    for row in await rows(db, query):
        found.setdefault(row["record_id"], []).append(row)
    return found


async def record(db: AsyncConnection, record_id: UUID) -> Row | None:
    """Everything about one record: links, open conflicts, who is behind, recent history."""
    found = await first(db, sa.select(records).where(records.c.id == record_id))
    if found is None:
        return None
    open_cards = (
        sa.select(conflicts)
        .where(conflicts.c.record_id == record_id, conflicts.c.state == "open")
        .order_by(conflicts.c.id)
    )
    behind = sa.select(outbox).where(outbox.c.record_id == record_id).order_by(outbox.c.account)
    recent = (
        sa.select(journal)
        .where(journal.c.record_id == record_id)
        .order_by(journal.c.id.desc())
        .limit(RECENT)
    )
    return {
        **found,
        "links": (await _links(db, [record_id])).get(record_id, []),
        "conflicts": await rows(db, open_cards),
        "waiting": await rows(db, behind),
        "journal": await rows(db, recent),
    }


async def history(db: AsyncConnection, record_id: UUID, field: str) -> Sequence[Row]:
    """Every journal row of one field, oldest first, with the event that caused it.

    ``event_type`` and ``delivery_id`` are null where no event of ours was the cause.
    """
    # A cause is kept as text: only whole numbers can be ids of events.
    number = sa.case(
        (
            sa.and_(journal.c.cause == "event", journal.c.cause_id.regexp_match("^[0-9]{1,18}$")),
            sa.cast(journal.c.cause_id, sa.BigInteger),
        )
    )
    return await rows(
        db,
        sa.select(
            journal,
            # A loser may have been "cleared", which is a value of its own.
            journal.c.lost.is_not(sa.null()).label("has_loser"),
            events.c.type.label("event_type"),
            events.c.delivery_id,
        )
        .outerjoin(events, events.c.id == number)
        .where(journal.c.record_id == record_id, journal.c.field == field)
        .order_by(journal.c.id),
    )


async def discarded(db: AsyncConnection, record_id: UUID) -> dict[str, Row]:
    """The accounts whose last write of this record a person discarded."""
    recent = sa.select(attempts).where(attempts.c.record_id == record_id)
    recent = recent.order_by(attempts.c.id.desc()).limit(RECENT)
    last: dict[str, Row] = {}
    for row in await rows(db, recent):
        last.setdefault(row["account"], row)
    return {account: row for account, row in last.items() if row["outcome"] == "discarded"}


# ------------------------------------------------------------------------------- events


async def list_events(
    db: AsyncConnection,
    *,
    account: str | None = None,
    type: str | None = None,
    state: str | None = None,
    answer: str | None = None,
    delivery: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Events, newest first."""
    given = {
        events.c.account: account,
        events.c.type: type,
        events.c.state: state,
        events.c.answer: answer,
        events.c.delivery_id: delivery,
    }
    wanted = sa.select(events).where(
        *(c == value for c, value in given.items() if value is not None)
    )
    return await page(db, wanted, by=[events.c.id.desc()], cursor=cursor, limit=limit)


# ---------------------------------------------------------------------------- conflicts


async def list_conflicts(
    db: AsyncConnection,
    *,
    state: str | None = None,
    kind: str | None = None,
    entity: str | None = None,
    account: str | None = None,
    record_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Cards for a person, newest first; of those about one word the first, unless one record's
    are asked for.
    """
    given = {
        conflicts.c.state: state,
        conflicts.c.kind: kind,
        conflicts.c.entity: entity,
        conflicts.c.account: account,
        conflicts.c.record_id: record_id,
    }
    wanted = sa.select(conflicts).where(
        *(c == value for c, value in given.items() if value is not None)
    )
    if record_id is None:
        wanted = wanted.where(words.stands_for_all())
    return await page(db, wanted, by=[conflicts.c.id.desc()], cursor=cursor, limit=limit)


async def conflict(db: AsyncConnection, conflict_id: int) -> Row | None:
    """One card."""
    return await first(db, sa.select(conflicts).where(conflicts.c.id == conflict_id))


# ------------------------------------------------------------------------------ deletes


async def list_deletes(
    db: AsyncConnection,
    *,
    account: str | None = None,
    entity: str | None = None,
    ended: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Links that are gone, newest first, each with the accounts that still have its record."""
    others = links.alias()
    left = (
        sa.select(sa.func.coalesce(sa.func.array_agg(others.c.account.distinct()), []))
        .where(others.c.record_id == links.c.record_id, others.c.state.in_(("live", "parked")))
        .scalar_subquery()
        .label("left")
    )
    given = {links.c.account: account, links.c.entity: entity, links.c.ended: ended}
    wanted = sa.select(links, left).where(
        links.c.state == "gone", *(c == value for c, value in given.items() if value is not None)
    )
    return await page(db, wanted, by=[links.c.id.desc()], cursor=cursor, limit=limit)


# ------------------------------------------------------------------------------ resyncs


async def begin_resync(db: AsyncConnection, **values: Any) -> Row:
    """Queue a resync; its row."""
    (begun,) = await rows(db, sa.insert(resyncs).values(**values).returning(resyncs))
    return begun


async def list_resyncs(
    db: AsyncConnection,
    *,
    account: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Resyncs, newest first: their ids grow with time."""
    wanted = sa.select(resyncs)
    if account is not None:
        wanted = wanted.where(resyncs.c.account == account)
    if state is not None:
        wanted = wanted.where(resyncs.c.state == state)
    return await page(db, wanted, by=[resyncs.c.id.desc()], cursor=cursor, limit=limit)


async def resync(db: AsyncConnection, resync_id: UUID) -> Row | None:
    """One resync."""
    return await first(db, sa.select(resyncs).where(resyncs.c.id == resync_id))


async def cancel_resync(db: AsyncConnection, resync_id: UUID) -> Row | None:
    """Cancel it if it is still open; its row then, else None."""
    return await first(
        db,
        sa.update(resyncs)
        .where(resyncs.c.id == resync_id, resyncs.c.state.in_(("queued", "running")))
        .values(state="cancelled", finished_at=sa.func.now())
        .returning(resyncs),
    )


async def list_plan(
    db: AsyncConnection, resync_id: UUID, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """What a dry run would do, in its order."""
    wanted = sa.select(plan_items.c.n, plan_items.c.item).where(plan_items.c.resync_id == resync_id)
    return await page(db, wanted, by=[plan_items.c.n], cursor=cursor, limit=limit)
