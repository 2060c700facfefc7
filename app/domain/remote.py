"""Rows against the fields that an account really has: what could never be read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from app.domain.mapping import EntityMapping
from app.domain.rows import Row
from app.domain.values import Finding, RemoteField

#: How many options a sentence names.
_SHOWN = 8


def compare(
    mapping: EntityMapping,
    known: Mapping[str, RemoteField],
    *,
    title: str,
    where: Callable[[str], str],
) -> list[Finding]:
    """One finding per trouble, or one that says all is well. ``where`` is the place of a row."""
    check = f"map {mapping.entity}"
    found = [
        Finding(check, ok, detail, remedy)
        for row in mapping.rows
        for ok, detail, remedy in _troubles(row, known, title, where(row.key))
    ]
    if all(finding.ok for finding in found):
        paths = {_name(path) for path in mapping.paths}
        found.insert(0, Finding(check, True, f"all {len(paths)} fields are there"))
    return found


def _troubles(
    row: Row, known: Mapping[str, RemoteField], title: str, place: str
) -> Iterator[tuple[bool, str, str | None]]:
    what = f"`{row.key}`"
    for path in row.read_paths:
        name = _name(path)
        there = known.get(name)
        if there is None:
            near = get_close_matches(name, list(known), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            yield (
                False,
                f"{what}: {title} has no field {name!r}{hint}",
                f"Correct {place}, create the field in {title}, or set the row to direction: off.",
            )
        elif path in row.written_paths and not there.writable:
            yield (
                False,
                f"{what}: {name!r} is read-only in {title}",
                f"Set direction: from at {place}: then it is read, and never written.",
            )
        elif row.values is not None and there.options:
            yield from _options(row, there, title, place)


def _options(
    row: Row, there: RemoteField, title: str, place: str
) -> Iterator[tuple[bool, str, str | None]]:
    """Words of the row that are no options, and options that have no word."""
    assert row.values is not None
    what, offered = f"`{row.key}`", _list(there.options)
    own = [*row.values.theirs]
    if row.values.default is not None and row.is_written:
        own.append(row.values.default)
    strange = [word for word in dict.fromkeys(own) if word not in there.options]
    if strange and row.is_written and row.values.unmapped != "create":
        yield (
            False,
            f"{what}: {_list(strange)} is no option of {there.path!r} in {title}; it has {offered}",
            f"Correct the values at {place}, or add the option in {title}.",
        )
    silent = [word for word in there.options if word not in row.values.theirs]
    if silent and row.is_read and not row.values.passes and not row.values.reads_default:
        yield True, f"{what}: {_list(silent)} of {there.path!r} has no value and is not read", None


def _list(words: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(repr(word) for word in words[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN} more" if len(words) > _SHOWN else shown


def _name(path: str) -> str:
    """The field that a path leads into."""
    return path.partition("[]")[0]
