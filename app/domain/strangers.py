"""Ids of stages, owners and options that an account's directory does not know (any more)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.codecs import ABSENT, Context
from app.domain.mapping import EntityMapping, look_up
from app.domain.owners import OWNER
from app.domain.picklists import fitting
from app.domain.stages import STAGE, seen_by
from app.domain.values import Directory, Raw


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


def listed(
    mapping: EntityMapping, fields: Mapping[str, Any], directory: Directory
) -> set[tuple[str, str]]:
    """(path, word) of each stage, owner and option in what is written to an account."""
    options = directory.options.get(mapping.entity, {})
    return {
        (path, str(fields[path]))
        for row in mapping.rows
        for path in row.written_paths
        if fields.get(path) and (row.codec in (STAGE, OWNER) or path in options)
    }


def vanished(mapping: EntityMapping, fields: Mapping[str, Any], directory: Directory) -> set[str]:
    """The paths among them whose word the account does not have (any more)."""
    taken, _ = fitting(mapping, (), fields, directory.options.get(mapping.entity, {}))
    pipelines = seen_by(mapping.entity, directory).pipelines
    stages = {stage.id for pipeline in pipelines for stage in pipeline.stages}
    users = directory.owners.keys() - directory.retired
    gone = fields.keys() - taken.keys()
    for row in mapping.rows:
        known = stages if row.codec is STAGE else users if row.codec is OWNER else None
        word = fields.get(row.paths[0])
        if known is not None and word and str(word) not in known:
            gone |= {row.paths[0]}
    return set(gone)
