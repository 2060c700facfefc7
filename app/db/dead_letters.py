"""Dead letters: rows of inbox, events and outbox that need a person, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq, ge, lt
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import lanes
from app.db.arrays import among, any_of
from app.db.pages import Page, Row, page, rows
from app.db.tables import deliveries, events, outbox


def _text(error: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[str]:
    return sa.func.jsonb_extract_path_text(error, name)


def _letters(table: sa.Table, kind: str, id: sa.ColumnElement[Any], *more: Any) -> sa.Select[Any]:
    error = table.c.error
    return sa.select(
        (sa.literal(f"{kind}:") + id).label("id"),
        sa.literal(kind).label("kind"),
        table.c.account,
        sa.func.coalesce(_text(error, "cause"), "unknown").label("cause"),
        error.label("error"),
        table.c.attempts,
        *more,
    ).where(table.c.state == "dead")


def _none(name: str, kind: Any) -> sa.ColumnElement[Any]:
    return sa.null().cast(kind).label(name)


_LETTERS = sa.union_all(
    _letters(
        deliveries,
        "delivery",
        sa.cast(deliveries.c.id, sa.Text),
        deliveries.c.received_at.label("since"),
        deliveries.c.id.label("delivery_id"),
        _none("record_id", sa.Uuid()),
    ),
    _letters(
        events,
        "event",
        sa.cast(events.c.id, sa.Text),
        events.c.received_at.label("since"),
        events.c.delivery_id,
        _none("record_id", sa.Uuid()),
    ),
    _letters(
        outbox,
        "outbox",
        outbox.c.account + ":" + sa.cast(outbox.c.record_id, sa.Text),
        outbox.c.marked_at.label("since"),
        _none("delivery_id", sa.BigInteger()),
        outbox.c.record_id,
    ),
).subquery("letters")


#: When a letter died is in its error; what died before that was written down, when it came.
_ALL = sa.select(
    _LETTERS,
    sa.func.coalesce(
        sa.cast(_text(_LETTERS.c.error, "at"), sa.TIMESTAMP(timezone=True)), _LETTERS.c.since
    ).label("died_at"),
).subquery("letters_with_times")


@dataclass(frozen=True, slots=True)
class Which:
    """Which letters are meant: those of a cause, of an account, that died in a span of time."""

    cause: str | None = None
    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        asked: list[tuple[Any, Callable[[Any, Any], Any], Any]] = [
            (_ALL.c.cause, eq, self.cause),
            (_ALL.c.account, eq, self.account),
            (_ALL.c.died_at, ge, self.since),
            (_ALL.c.died_at, lt, self.until),
        ]
        return [compare(column, value) for column, compare, value in asked if value is not None]


EVERY = Which()


async def listed(
    db: AsyncConnection,
    which: Which = EVERY,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Dead letters, those of one cause together."""
    wanted = sa.select(_ALL).where(*which.conditions())
    return await page(db, wanted, by=[_ALL.c.cause, _ALL.c.id], cursor=cursor, limit=limit)


async def causes(db: AsyncConnection, which: Which = EVERY) -> Sequence[Row]:
    """Each cause with how many letters it has, the most frequent first."""
    count = sa.func.count()
    query = (
        sa.select(
            _ALL.c.cause,
            count.label("count"),
            sa.func.array_agg(_ALL.c.account.distinct()).label("accounts"),
            sa.func.min(_ALL.c.died_at).label("oldest"),
            sa.func.max(_ALL.c.died_at).label("newest"),
            sa.func.min(_text(_ALL.c.error, "next_step")).label("next_step"),
        )
        .where(*which.conditions())
        .group_by(_ALL.c.cause)
        .order_by(count.desc(), _ALL.c.cause)
    )
    return await rows(db, query)


async def replay(
    db: AsyncConnection, which: Which = EVERY, *, ids: Collection[str] | None = None
) -> list[str]:
    """Put letters back: these ids, or those that are meant; the ids of what went back.

    What is not dead (any more) stays as it is.
    """
    wanted = sa.select(_ALL.c.id).where(*which.conditions())
    if ids is not None:
        wanted = wanted.where(_ALL.c.id.in_(set(ids)))
    found = list((await db.execute(wanted)).scalars())
    numbers: dict[str, set[int]] = {"delivery": set(), "event": set()}
    marks: set[tuple[str, UUID]] = set()
    for letter in found:
        kind, _, rest = letter.partition(":")
        if kind in numbers:
            numbers[kind].add(int(rest))
        else:
            account, _, record_id = rest.rpartition(":")
            marks.add((account, UUID(record_id)))
    woken: set[tuple[str, str]] = set()
    for table, chosen, direction in (
        (deliveries, any_of(deliveries.c.id, numbers["delivery"]), "in"),
        (events, any_of(events.c.id, numbers["event"]), "in"),
        (outbox, among([outbox.c.account, outbox.c.record_id], marks), "out"),
    ):
        back = await db.execute(
            sa.update(table)
            .where(chosen, table.c.state == "dead")
            .values(state="pending", attempts=0, error=None, due_at=sa.func.now())
            .returning(table.c.account)
        )
        woken |= {(account, direction) for account in back.scalars()}
    for account, direction in sorted(woken):
        await lanes.wake(db, account, direction)
    return sorted(found)


async def by_account(db: AsyncConnection) -> Sequence[Row]:
    """Each cause of each account, with how many letters it has."""
    query = sa.select(_ALL.c.account, _ALL.c.cause, sa.func.count().label("count"))
    return await rows(db, query.group_by(_ALL.c.account, _ALL.c.cause))
