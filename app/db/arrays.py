"""Many rows, keys or ids in one statement whose text never changes: arrays, unnested.

A list of VALUES or of an IN is written, compiled and planned anew for each number of rows; on a
batch of a hundred that took most of a worker's time. An array is one parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, Insert, insert

from app.db.engine import as_json

T = TypeVar("T")


def insert_rows(table: sa.Table, *names: str, **more: sa.ColumnElement[Any]) -> Insert:
    """An insert of many rows with these columns; ``more`` are what PostgreSQL works out of them."""
    cells = rows_of(table, *names)
    return insert(table).from_select([*names, *more], sa.select(*cells.values(), *more.values()))


def rows_of(table: sa.Table, *names: str) -> dict[str, sa.ColumnElement[Any]]:
    """Many rows with these columns, to insert or to update by; `columns` makes their parameters."""
    source = _source([table.c[name] for name in names], names)
    return {
        name: sa.cast(source.c[name], JSONB) if _is_json(table.c[name]) else source.c[name]
        for name in names
    }


def columns(
    table: sa.Table, names: Sequence[str], rows: Collection[Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """The parameters of `rows_of`. In JSON, ``sa.null()`` is SQL's null."""
    return {
        _parameter(name): [_json(table.c[name], row[name]) for row in rows]
        if _is_json(table.c[name])
        else [row[name] for row in rows]
        for name in names
    }


def among(
    wanted: Sequence[sa.Column[Any]], rows: Iterable[Sequence[Any]]
) -> sa.ColumnElement[bool]:
    """Whether these columns are together one of the rows."""
    listed = list(rows)
    names = [f"a{i}" for i in range(len(wanted))]
    arrays = [
        sa.literal([row[i] for row in listed], ARRAY(column.type))
        for i, column in enumerate(wanted)
    ]
    source = _unnested(wanted, names, arrays)
    return sa.tuple_(*wanted).in_(sa.select(*source.c))


def any_of(column: sa.Column[T], values: Iterable[T]) -> sa.ColumnElement[bool]:
    """Whether the column is one of the values."""
    return column == sa.any_(sa.literal(list(values), ARRAY(column.type)))


def _source(shapes: Sequence[sa.Column[Any]], names: Sequence[str]) -> sa.TableValuedAlias:
    arrays = [
        sa.bindparam(_parameter(name), type_=ARRAY(sa.Text() if _is_json(column) else column.type))
        for column, name in zip(shapes, names, strict=True)
    ]
    return _unnested(shapes, names, arrays)


def _parameter(name: str) -> str:
    """In an update the names of columns are SQLAlchemy's own."""
    return f"rows_{name}"


def _unnested(
    shapes: Sequence[sa.Column[Any]],
    names: Sequence[str],
    arrays: Sequence[sa.ColumnElement[Any]],
) -> sa.TableValuedAlias:
    made = [
        sa.column(name, sa.Text() if _is_json(column) else column.type)
        for column, name in zip(shapes, names, strict=True)
    ]
    return sa.func.unnest(*arrays).table_valued(*made, name="rows").render_derived()


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, JSONB)


def _json(column: sa.Column[Any], value: Any) -> str | None:
    assert isinstance(column.type, JSONB)
    if isinstance(value, sa.Null) or (value is None and column.type.none_as_null):
        return None
    return as_json(value)
