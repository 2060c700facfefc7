"""Loads: files of creates that an account works through by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.outbox import MARKS, Mark
from app.db.tables import loads, outbox
from app.domain.values import Fields


@dataclass(frozen=True, slots=True)
class Open:
    """A load whose rows are not settled yet; ``id`` is the account's word for it."""

    account: str
    id: str
    entity: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Loading:
    """A mark in a load: what its create says, and what was worked out for it."""

    mark: Mark
    intended: Fields
    loaded: Mapping[str, Any]


_LOAD = (
    sa.update(outbox)
    .where(
        outbox.c.account == sa.bindparam("b_account"),
        outbox.c.record_id == sa.bindparam("b_record"),
    )
    .values(
        state="loading",
        load=sa.bindparam("b_load"),
        loaded=sa.bindparam("b_loaded", type_=outbox.c.loaded.type),
    )
)


async def open_load(
    db: AsyncConnection, load: str, rows: Sequence[tuple[Mark, Mapping[str, Any]]]
) -> None:
    """Commit to sending these marks of one entity in this load, before the first byte is sent."""
    first = rows[0][0]
    await db.execute(sa.insert(loads).values(account=first.account, id=load, entity=first.entity))
    await db.execute(
        _LOAD,
        [
            {
                "b_account": mark.account,
                "b_record": mark.record_id,
                "b_load": load,
                "b_loaded": dict(loaded),
            }
            for mark, loaded in rows
        ],
    )


async def due(db: AsyncConnection, account: str) -> list[Open]:
    """The loads to be asked about now."""
    rows = await db.execute(
        sa.select(loads.c.account, loads.c.id, loads.c.entity, loads.c.opened_at)
        .where(loads.c.account == account, loads.c.due_at <= sa.func.now())
        .order_by(loads.c.opened_at)
    )
    return [Open(*row) for row in rows]


async def rows_of(db: AsyncConnection, load: Open) -> list[Loading]:
    """The marks of a load that are not settled yet."""
    found = await db.execute(
        sa.select(*MARKS, outbox.c.intended, outbox.c.loaded)
        .where(outbox.c.account == load.account, outbox.c.load == load.id)
        .order_by(outbox.c.record_id)
    )
    return [Loading(Mark(*row[: len(MARKS)]), row.intended, row.loaded) for row in found]


async def put_off(db: AsyncConnection, load: Open, until: datetime) -> None:
    """Ask about it later."""
    await db.execute(sa.update(loads).where(_this(load)).values(due_at=until))


async def close(db: AsyncConnection, load: Open) -> int:
    """It is over: what it never tried is due as it was; how many marks."""
    left = await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == load.account, outbox.c.load == load.id)
        .values(
            state="pending",
            load=None,
            loaded=None,
            intent=None,
            intent_at=None,
            due_at=sa.func.now(),
        )
    )
    await db.execute(sa.delete(loads).where(_this(load)))
    return left.rowcount


def _this(load: Open) -> sa.ColumnElement[bool]:
    return sa.and_(loads.c.account == load.account, loads.c.id == load.id)
