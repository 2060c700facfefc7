"""Words that nobody can read: a row for each record that shows one, a card for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.pages import Row
from app.db.tables import conflicts

#: How many of the records a card names.
SAMPLES = 5
_KIND = "word"


def _word(table: Any) -> sa.ColumnElement[str]:
    found: sa.ColumnElement[str] = table.c.theirs["value"].astext
    return found


def stands_for_all() -> sa.ColumnElement[bool]:
    """Of the rows about one word, the first; and every row that is about no word."""
    older = conflicts.alias("older")
    same = sa.exists().where(
        older.c.kind == sa.text(f"'{_KIND}'"),
        older.c.state == conflicts.c.state,
        older.c.account == conflicts.c.account,
        older.c.entity == conflicts.c.entity,
        older.c.field == conflicts.c.field,
        _word(older) == _word(conflicts),
        older.c.id < conflicts.c.id,
    )
    return sa.or_(conflicts.c.kind != _KIND, ~same)


async def concerned(db: AsyncConnection, cards: Sequence[Row]) -> dict[int, Mapping[str, Any]]:
    """How many records each of these cards is about, and a few of them."""
    found: dict[int, Mapping[str, Any]] = {}
    for card in cards:
        if card["kind"] != _KIND:
            continue
        alike = sa.select(conflicts).where(
            conflicts.c.kind == sa.text(f"'{_KIND}'"),
            conflicts.c.state == card["state"],
            conflicts.c.account == card["account"],
            conflicts.c.entity == card["entity"],
            conflicts.c.field == card["field"],
            _word(conflicts) == card["theirs"]["value"],
        )
        rows = await db.execute(alike.order_by(conflicts.c.id).limit(SAMPLES))
        count = await db.execute(sa.select(sa.func.count()).select_from(alike.subquery()))
        found[card["id"]] = {
            "count": count.scalar_one(),
            "samples": [{"record_id": str(row.record_id), "remote_id": row.ref_id} for row in rows],
        }
    return found
