"""Options of a CRM that a value map does not name: shown there, and no opinion until named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.domain.codecs import ABSENT, strings
from app.domain.filters import text
from app.domain.mapping import EntityMapping
from app.domain.rows import Row
from app.domain.values import Fields, Raw


@dataclass(frozen=True, slots=True)
class Unread:
    """A field of ours whose value there has no word of ours; ``row`` is the key of its row."""

    field: str
    word: str
    row: str


def unread(mapping: EntityMapping, raw: Raw, fields: Fields) -> dict[str, Unread]:
    """The fields of a remote record that say what nobody can read, by name.

    ``fields`` are ours: some rows are read only where these say so.
    """
    found = [_unread(row, raw, fields) for row in mapping.rows if row.values is not None]
    return {one.field: one for one in found if one is not None}


def understood(mapping: EntityMapping, raw: Raw, names: Iterable[str]) -> tuple[str, ...]:
    """Which of these fields, none of which is unread, the vendor told at all."""
    rows = {name: mapping.row_of(name) for name in names}
    return tuple(n for n, row in rows.items() if row is None or row.source(raw) is not None)


def readable(mapping: EntityMapping, field: str, word: str) -> bool:
    """Whether a word that could not be read has a value of ours by now."""
    row = mapping.row_of(field)
    return row is None or row.values is None or not _strange(row, word)


def _unread(row: Row, raw: Raw, fields: Fields) -> Unread | None:
    if not row.is_read or (row.looks_at_ours and not row.applies(fields)):
        return None
    values = row.source(raw)
    word = None if values is None else _strange(row, values[0])
    return Unread(row.fields[0], word, row.key) if word else None


def _strange(row: Row, value: Any) -> str | None:
    """The first word in this value that the row does not name."""
    assert row.values is not None
    if value in (None, ""):
        return None
    listed = strings(value) if row.codec.many else [value]
    strange = (text(one) for one in listed if row.values.get(one) is ABSENT)
    # What stands for all that has no word there says nothing of ours.
    return next((word for word in strange if word != row.values.default), None)
