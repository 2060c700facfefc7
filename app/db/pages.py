"""Cursor-paged lists: stable under inserts, the same cost on every page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import UnaryExpression

Row: TypeAlias = Mapping[str, Any]


class BadCursorError(ValueError):
    """This text is not a cursor of the list it was given to."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list; ``next_cursor`` is None on the last page."""

    items: Sequence[Row]
    next_cursor: str | None


async def rows(db: AsyncConnection, query: sa.Executable) -> list[Row]:
    """All rows of a statement, by name."""
    return [row._asdict() for row in await db.execute(query)]


async def first(db: AsyncConnection, query: sa.Executable) -> Row | None:
    """The first row of a statement, if there is one."""
    row = (await db.execute(query)).first()
    return None if row is None else row._asdict()


async def page(
    db: AsyncConnection,
    wanted: sa.Select[Any],
    *,
    by: Sequence[sa.ColumnElement[Any]],
    cursor: str | None,
    limit: int,
) -> Page:
    """One page of a statement.

    ``by`` are columns that the statement selects, unique together, all ascending or all
    ``.desc()``. Raises BadCursorError.
    """
    down = all(isinstance(column, UnaryExpression) for column in by)
    columns = [_column(column) for column in by]
    if cursor is not None:
        after = sa.tuple_(*(sa.literal(v, c.type) for v, c in _decode(cursor, columns)))
        place = sa.tuple_(*columns)
        wanted = wanted.where(place < after if down else place > after)
    found = await rows(db, wanted.order_by(*by).limit(limit + 1))
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], encode([last[column.name] for column in columns]))


def _column(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return column.element if isinstance(column, UnaryExpression) else column


def encode(place: Sequence[Any]) -> str:
    """An opaque cursor for a place in a list."""
    return base64.urlsafe_b64encode(orjson.dumps(list(place), default=str)).decode().rstrip("=")


_READ: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    UUID: UUID,
    str: str,
    int: int,
}


def _decode(
    cursor: str, columns: Sequence[sa.ColumnElement[Any]]
) -> list[tuple[Any, sa.ColumnElement[Any]]]:
    try:
        place = orjson.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        types = [column.type.python_type for column in columns]
        plain = [int if kind is int else str for kind in types]
        if not isinstance(place, list) or [type(v) for v in place] != plain:
            raise BadCursorError(cursor)
        values = [_READ[kind](value) for kind, value in zip(types, place, strict=True)]
    except (binascii.Error, ValueError) as error:
        raise BadCursorError("the cursor is damaged, or of another list") from error
    return list(zip(values, columns, strict=True))
