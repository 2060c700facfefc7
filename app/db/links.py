"""Links: record <-> ref, with what both sides last agreed on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import among, any_of, columns, insert_rows, rows_of
from app.db.tables import links, outbox
from app.domain.fights import Written
from app.domain.values import NOTHING, Fields, Ref

_NEVER = datetime.min.replace(tzinfo=UTC)

#: An account shows a value of ours in words of its own, or somebody who stands in.
SPELLED = sa.text("links.sent <> '{}'")


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
    written: Written
    #: What a write of ours that is on its way says, in canonical terms.
    intended: Fields = field(default_factory=lambda: NOTHING)
    #: Why it is gone: deleted, merged, propagated, purged or waived.
    ended: str | None = None
    ended_at: datetime | None = None

    @classmethod
    def new(
        cls,
        record_id: UUID,
        entity: str,
        ref: Ref,
        base: Fields,
        sent: Fields,
        seen_at: datetime | None,
    ) -> Link:
        """A link that is about to be made."""
        return cls(0, record_id, entity, ref, base, sent, seen_at, False, _NEVER, "live", {})

    def now(self, **what: Any) -> Link:
        """The same link with something changed."""
        return replace(self, **what)


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
        row.written,
        row.intended,
        row.ended,
        row.ended_at,
    )


def _named(refs: Collection[Ref]) -> sa.ColumnElement[bool]:
    named = ((ref.account, ref.type, ref.id) for ref in refs)
    return among([links.c.account, links.c.type, links.c.remote_id], named)


async def by_ref(
    db: AsyncConnection, refs: Collection[Ref], *, lock: bool = False
) -> dict[Ref, Link]:
    """The links of these refs, whatever their state."""
    if not refs:
        return {}
    query = sa.select(links).where(_named(refs)).order_by(links.c.id)
    rows = await db.execute(query.with_for_update() if lock else query)
    return {link.ref: link for link in map(_link, rows)}


async def lock(db: AsyncConnection, refs: Collection[Ref]) -> None:
    """Let nobody else change these links until the transaction ends."""
    if refs:
        query = sa.select(links.c.id).where(_named(refs)).order_by(links.c.id)
        await db.execute(query.with_for_update())


async def standing(
    db: AsyncConnection, record_ids: Collection[UUID], account: str
) -> dict[UUID, set[Ref]]:
    """The living refs that an account has of these records."""
    rows = await db.execute(
        sa.select(links.c.record_id, links.c.type, links.c.remote_id).where(
            any_of(links.c.record_id, set(record_ids)),
            links.c.account == account,
            links.c.state == "live",
        )
    )
    found: dict[UUID, set[Ref]] = {}
    for record_id, type, remote_id in rows:
        found.setdefault(record_id, set()).add(Ref(account, type, remote_id))
    return found


async def by_record(
    db: AsyncConnection,
    record_ids: Collection[UUID],
    *,
    account: str | None = None,
    lock: bool = False,
) -> list[Link]:
    """The links of these records, all accounts or one."""
    query = sa.select(links).where(any_of(links.c.record_id, set(record_ids))).order_by(links.c.id)
    if account is not None:
        query = query.where(links.c.account == account)
    rows = await db.execute(query.with_for_update() if lock else query)
    return [_link(row) for row in rows]


async def idle_merges(db: AsyncConnection, account: str) -> list[Link]:
    """What was to be merged in this account, and nothing is under way to do it."""
    marked = sa.exists().where(
        outbox.c.account == links.c.account, outbox.c.record_id == links.c.record_id
    )
    query = sa.select(links).where(links.c.account == account, links.c.state == "merging", ~marked)
    return [_link(row) for row in await db.execute(query.with_for_update())]


async def spelled(
    db: AsyncConnection, account: str, entity: str, *, after: int, limit: int
) -> list[Link]:
    """Living links that hold a value of ours in other words, by their numbers."""
    rows = await db.execute(
        sa.select(links)
        .where(
            links.c.account == account,
            links.c.entity == entity,
            links.c.id > after,
            links.c.state == "live",
            SPELLED,
        )
        .order_by(links.c.id)
        .limit(limit)
    )
    return [_link(row) for row in rows]


class LinkTaken(Exception):
    """Another worker has just linked one of these refs to another record: decide anew."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an account has shown; None leaves what the link has."""

    ref: Ref
    base: Fields | None
    sent: Fields | None
    seen_at: datetime | None
    written: Written | None = None

    def after(self, before: Agreement | None) -> Agreement:
        """The two of them in one: what this leaves is what the one before said."""
        if before is None:
            return self
        moments = [at for at in (before.seen_at, self.seen_at) if at is not None]
        return Agreement(
            self.ref,
            before.base if self.base is None else self.base,
            before.sent if self.sent is None else self.sent,
            max(moments, default=None),
            before.written if self.written is None else self.written,
        )


_COLUMNS = (
    *("record_id", "entity", "account", "type", "remote_id"),
    *("base", "sent", "seen_at", "state", "ended"),
)
_ROWS = insert_rows(
    links, *_COLUMNS, ended_at=sa.case((sa.column("ended").is_not(None), sa.func.now()))
)
_ADD = _ROWS.on_conflict_do_update(
    index_elements=[links.c.account, links.c.type, links.c.remote_id],
    set_={
        **{n: _ROWS.excluded[n] for n in ("record_id", "base", "sent", "seen_at")},
        **{n: _ROWS.excluded[n] for n in ("state", "ended", "ended_at")},
        "synced_at": sa.func.clock_timestamp(),
    },
    where=(links.c.state == "gone") | (links.c.record_id == _ROWS.excluded.record_id),
).returning(links.c.id)


async def add(db: AsyncConnection, new: Sequence[Link]) -> None:
    """Link refs to records; a ref that was linked before (and gone) comes back to life.

    A ref that lives with another record is never taken from it: raises LinkTaken.
    """
    if not new:
        return
    rows = [
        {
            "record_id": link.record_id,
            "entity": link.entity,
            "account": link.ref.account,
            "type": link.ref.type,
            "remote_id": link.ref.id,
            "base": link.base,
            "sent": link.sent,
            "seen_at": link.seen_at,
            "state": link.state,
            "ended": link.ended,
        }
        for link in sorted({link.ref: link for link in new}.values(), key=lambda k: k.ref)
    ]
    done = await db.execute(_ADD, columns(links, _COLUMNS, rows))
    if len(done.all()) < len(rows):
        raise LinkTaken


_SHOWN = rows_of(links, "account", "type", "remote_id", "base", "sent", "written", "seen_at")
_AGREE = (
    sa.update(links)
    .where(*(links.c[name] == _SHOWN[name] for name in ("account", "type", "remote_id")))
    .values(
        base=sa.func.coalesce(_SHOWN["base"], links.c.base),
        sent=sa.func.coalesce(_SHOWN["sent"], links.c.sent),
        written=sa.func.coalesce(_SHOWN["written"], links.c.written),
        intended=sa.case(
            (_SHOWN["base"].is_(None), links.c.intended),
            else_=sa.literal({}, type_=links.c.intended.type),
        ),
        # What was seen never becomes older.
        seen_at=sa.func.greatest(links.c.seen_at, _SHOWN["seen_at"]),
        synced_at=sa.func.clock_timestamp(),
    )
)


async def agree(db: AsyncConnection, agreements: Sequence[Agreement]) -> None:
    """Remember what the account showed; of two of one ref the later adds to the earlier."""
    told: dict[Ref, Agreement] = {}
    for item in agreements:
        told[item.ref] = item.after(told.get(item.ref))
    if told:
        rows = [
            {
                "account": ref.account,
                "type": ref.type,
                "remote_id": ref.id,
                "base": item.base,
                "sent": item.sent,
                "written": item.written,
                "seen_at": item.seen_at,
            }
            for ref, item in told.items()
        ]
        await db.execute(_AGREE, columns(links, tuple(_SHOWN), rows))


_BEGUN = rows_of(links, "account", "type", "remote_id", "intended")
_BEGIN = (
    sa.update(links)
    .where(*(links.c[name] == _BEGUN[name] for name in ("account", "type", "remote_id")))
    .values(writing=True, intended=_BEGUN["intended"], synced_at=sa.func.clock_timestamp())
)


async def begin_writes(db: AsyncConnection, intended: Mapping[Ref, Fields]) -> None:
    """Say that writes are on their way, and what: what is read meanwhile cannot be trusted."""
    if intended:
        rows = [
            {
                "account": ref.account,
                "type": ref.type,
                "remote_id": ref.id,
                "intended": dict(fields),
            }
            for ref, fields in intended.items()
        ]
        await db.execute(_BEGIN, columns(links, tuple(_BEGUN), rows))


async def end_writes(db: AsyncConnection, refs: Collection[Ref]) -> None:
    """Their answers are known."""
    if refs:
        await db.execute(
            sa.update(links)
            .where(_named(refs), links.c.writing)
            .values(writing=False, intended={}, synced_at=sa.func.clock_timestamp())
        )


async def forget_writes(db: AsyncConnection, refs: Collection[Ref]) -> None:
    """Whoever began these writes is dead; what they said may stand there or not."""
    if refs:
        await db.execute(
            sa.update(links)
            .where(_named(refs), links.c.writing)
            .values(writing=False, synced_at=sa.func.clock_timestamp())
        )


async def set_state(db: AsyncConnection, refs: Collection[Ref], state: str) -> None:
    if refs:
        await db.execute(
            sa.update(links).where(_named(refs)).values(state=state, ended=None, ended_at=None)
        )


async def end(db: AsyncConnection, refs: Collection[Ref], why: str) -> None:
    """These refs are gone: deleted, merged, propagated or purged.

    What was read of them before is not trusted any more: it would bring them back.
    """
    if refs:
        await db.execute(
            sa.update(links)
            .where(_named(refs))
            .values(
                state="gone",
                ended=why,
                ended_at=sa.func.now(),
                writing=False,
                synced_at=sa.func.clock_timestamp(),
            )
        )


async def remove(db: AsyncConnection, ref: Ref) -> None:
    """Forget a ref: it is as if we had never met it. What it was is in the journal."""
    await db.execute(sa.delete(links).where(_named([ref])))


async def move(
    db: AsyncConnection, ref: Ref, record_id: UUID, *, state: str, base: Fields | None = None
) -> None:
    """Give a link to another record (after a remote merge); ``base`` None keeps what it has."""
    values: dict[str, Any] = {"record_id": record_id, "state": state, "sent": {}}
    if state != "live":
        # Nothing is written to it any more: a write whose worker died would shut it for ever.
        values |= {"writing": False, "synced_at": sa.func.clock_timestamp()}
    if base is not None:
        values["base"] = base
    await db.execute(sa.update(links).where(_named([ref])).values(**values))
