"""Fields with fixed options: a value that is none of them would sink the whole write."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.domain.mapping import EntityMapping
from app.domain.rows import Row
from app.domain.values import RemoteField

#: Path -> the values it takes.
Options = Mapping[str, Sequence[str]]


def limited(mapping: EntityMapping) -> frozenset[str]:
    """The paths whose options matter: stages and owners are looked up, some options are made."""
    return frozenset(p for row in mapping.rows if _is_limited(row) for p in row.written_paths)


def options_of(known: Mapping[str, RemoteField], paths: Collection[str]) -> dict[str, list[str]]:
    """The options of these paths, where they have any."""
    return {p: list(known[p].options) for p in sorted(paths) if p in known and known[p].options}


def fitting(
    mapping: EntityMapping, names: Collection[str], fields: Mapping[str, Any], options: Options
) -> tuple[dict[str, Any], dict[str, str]]:
    """What of a write the account can take, and the names held with a reason."""
    taken = dict(fields)
    held: dict[str, str] = {}
    if not options:
        return taken, held
    for row in mapping.rows:
        strange = _strange(row, fields, options)
        if strange is None:
            continue
        path, word = strange
        reason = (
            f"{word!r} is no option of {path} there; name it under `values` of its row, or add "
            "the option"
        )
        held |= {name: reason for name in row.fields if name in names}
        for own in row.paths:
            taken.pop(own, None)
    return taken, held


def _is_limited(row: Row) -> bool:
    made = row.values is not None and row.values.unmapped == "create"
    return not made and row.transform not in ("stage", "owner")


def _strange(row: Row, fields: Mapping[str, Any], options: Options) -> tuple[str, str] | None:
    """The first (path, word) of a row that is no option."""
    if not _is_limited(row):
        return None
    for path in row.written_paths:
        offered = options.get(path)
        if not offered or path not in fields:
            continue
        for word in _words(fields[path], offered):
            if word not in offered:
                return path, word
    return None


def _words(value: Any, offered: Collection[str]) -> list[str]:
    """The words of one value, or of several: a list, or text with `;` between."""
    match value:
        case None:
            return []
        case bool():
            return ["true" if value else "false"]
        case list() | tuple():
            return [str(item) for item in value]
        case _:
            text = str(value)
            parts = [text] if text in offered else text.split(";")
            return [part.strip() for part in parts if part.strip()]
