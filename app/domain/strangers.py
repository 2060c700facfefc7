"""Ids of stages and owners that an account's directory does not know (yet)."""

from __future__ import annotations

from app.domain.codecs import ABSENT, Context
from app.domain.mapping import EntityMapping, look_up
from app.domain.owners import OWNER
from app.domain.stages import STAGE
from app.domain.values import Raw


def strangers(mapping: EntityMapping, raw: Raw, context: Context) -> set[tuple[str, str]]:
    """(path, id) of each; until it is known, the record says nothing of that field."""
    found: set[tuple[str, str]] = set()
    for row in mapping.rows:
        if row.codec not in (STAGE, OWNER) or not row.is_read:
            continue
        values = [look_up(raw, path) for path in row.paths]
        if values[0] in (ABSENT, None, ""):
            continue
        read = row.codec.get([None if v is ABSENT else v for v in values], context)
        if read[0] is ABSENT:
            found.add((row.paths[0], str(values[0])))
    return found
