"""Canonical fields <-> remote paths: rows of data, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.codecs import ABSENT, Context, Held
from app.domain.entities import ties_of
from app.domain.rows import TRANSFORMS, Direction, Plain, Row, compile_row, look_up
from app.domain.values import Fields, Raw, Value
from app.errors import ConfigError

__all__ = ["TRANSFORMS", "Direction", "EntityMapping", "Row", "compile_mapping", "look_up"]


@dataclass(frozen=True, slots=True)
class EntityMapping:
    """The rows of one entity in one account.

    ``relations`` are those that the account can hold, None if all; ``fixed`` are those of them
    that stay as they were created.
    """

    entity: str
    #: Those with a condition on our fields last: when they are read, the fields are known.
    rows: tuple[Row, ...]
    #: What `tailored` has to look at.
    special: tuple[Row, ...] = ()
    relations: frozenset[str] | None = None
    fixed: frozenset[str] = frozenset()
    #: Paths that a write clears before it sets them.
    clears_first: frozenset[str] = frozenset()
    # Worked out once, for every record that is looked at asks for them.
    _read: tuple[tuple[Row, Plain | None], ...] = field(init=False, repr=False, compare=False)
    _made: frozenset[str] = field(init=False, repr=False, compare=False)
    _kept: frozenset[str] = field(init=False, repr=False, compare=False)
    _by_field: Mapping[str, Row] = field(init=False, repr=False, compare=False)
    #: The fields that a write of ours leaves blank for a moment.
    passing_blank: frozenset[str] = field(init=False, repr=False, compare=False)
    #: Whether a row has words of its own for values, some of which may have none.
    has_words: bool = field(init=False, repr=False, compare=False)
    #: Whether a reading depends on earlier ones.
    remembers: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[str, Any] = {
            "_read": tuple((row, row.plain) for row in self.rows if row.is_read),
            "_made": self._writable(creating=True),
            "_kept": self._writable(creating=False),
            "_by_field": {name: row for row in reversed(self.rows) for name in row.fields},
            "passing_blank": frozenset(
                name
                for row in self.rows
                if self.clears_first.intersection(row.written_paths)
                for name in row.fields
            ),
            "has_words": any(row.values is not None for row in self.rows),
            "remembers": bool(self.special) or any(row.codec.remembers for row in self.rows),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(name for row in self.rows for name in row.fields)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every remote path that is read or written, once."""
        return tuple(dict.fromkeys(path for row in self.rows for path in row.read_paths))

    def writable(self, *, creating: bool) -> frozenset[str]:
        """The canonical names, relations among them, that can be written at all."""
        return self._made if creating else self._kept

    @property
    def ties(self) -> frozenset[str]:
        """The relations that the account can hold, and their labels."""
        held = ties_of(self.entity)
        return held if self.relations is None else held & self.relations

    def _writable(self, *, creating: bool) -> frozenset[str]:
        rows = (row for row in self.rows if row.is_written and (creating or not row.create_only))
        held = self.ties if creating else self.ties - self.fixed
        return frozenset(held.union(name for row in rows for name in row.fields))

    def row_of(self, name: str) -> Row | None:
        return self._by_field.get(name)

    @property
    def filled(self) -> frozenset[str]:
        """The fields that the vendor fills by itself."""
        return frozenset(name for row in self.rows if row.fills for name in row.fields)

    def only_if_blank(self, name: str) -> bool:
        row = self.row_of(name)
        return row is not None and row.only_if_blank


def compile_mapping(
    entity: str, source: Mapping[str, Any], *, where: str | Callable[[str], str]
) -> EntityMapping:
    """Rows from YAML. Raises ConfigError naming the place for what cannot be used.

    ``where`` is the place of the whole, or tells that of each row.
    """
    rows: list[Row] = []
    fields: dict[str, str] = {}
    written: dict[str, int] = {}
    for key, given in source.items():
        place = f"{where}: {entity}.{key}" if isinstance(where, str) else where(key)
        row = compile_row(entity, key, given, place)
        for name in row.fields:
            if name in fields:
                raise ConfigError(f"{place}: {name!r} has a row of its own already: {fields[name]}")
            fields[name] = key
        for path in row.written_paths:
            first = rows[written[path]] if path in written else None
            if first is None:
                written[path] = len(rows)
            elif row.made and first.made:
                # One path, one memory of what it was told, however many ways to make its value.
                rows[written[path]] = replace(first, made=(*first.made, *row.made))
                break
            else:
                raise ConfigError(
                    f"{place}: {path!r} is already written by the row {first.key!r}; set that to "
                    "direction: from or off"
                )
        else:
            rows.append(row)
    rows.sort(key=lambda row: row.looks_at_ours)
    special = tuple(row for row in rows if row.is_written and (row.made or row.when))
    return EntityMapping(entity, tuple(rows), special)


def overlay(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """A built-in mapping with an operator's rows on top; a row replaces those it overlaps."""
    named = {name.strip() for left in override for name in left.split(",")}
    kept = {
        left: right
        for left, right in base.items()
        if not named & {name.strip() for name in left.split(",")}
    }
    return {**kept, **override}


def to_canonical(mapping: EntityMapping, raw: Raw, context: Context) -> dict[str, Value]:
    """What a remote record says in canonical terms; what it does not say is left out."""
    fields: dict[str, Value] = {}
    if not raw:
        return fields
    known: Fields = {}
    if mapping.special:
        known = {name: v for hint in reversed(context.hints) for name, v in hint.items()}
    for row, plain in mapping._read:
        if plain is not None:  # most are, and every record that is looked at is read
            name, path, read = plain
            if path in raw:
                value = raw[path]
                fields[name] = None if value is None else read(value)
            continue
        if mapping.special and row.looks_at_ours and not row.applies({**known, **fields}):
            continue
        values = row.source(raw)
        if values is None:
            continue
        for name, value in zip(row.fields, row.codec.get(values, context), strict=True):
            if value is not ABSENT:
                fields[name] = value
    return fields


def tailored(mapping: EntityMapping, fields: Fields) -> Fields:
    """Our record as this account shall see it: values made for it, rows that do not apply left out.

    Everything that is compared with what the account was told is compared as this.
    """
    if not mapping.special:
        return fields
    told = dict(fields)
    for row in mapping.special:
        if row.made:
            told[row.fields[0]] = row.outgoing(fields)
        elif not row.applies(fields):
            told.update(dict.fromkeys(row.fields, ABSENT))
    return {name: value for name, value in told.items() if value is not ABSENT}


def to_remote(
    mapping: EntityMapping, names: Iterable[str], fields: Fields, context: Context
) -> tuple[dict[str, Any], dict[str, str]]:
    """The remote paths to write for these canonical names, and the names held with a reason.

    ``fields`` are those that `tailored` tells.
    """
    wanted = set(names)
    remote: dict[str, Any] = {}
    held: dict[str, str] = {}
    for row in mapping.rows:
        if not row.is_written or not wanted.intersection(row.fields):
            continue
        try:
            values = row.codec.put([fields.get(name) for name in row.fields], context)
        except Held as refusal:
            named = (refusal.field,) if refusal.field in row.fields else ()
            for name in (*named, *row.fields):
                if name in wanted:
                    held[name] = refusal.reason
            if refusal.stand_in is None:
                continue
            values = refusal.stand_in
        remote.update({p: v for p, v in zip(row.paths, values, strict=False) if v is not ABSENT})
    return remote, held


def says_the_same(
    mapping: EntityMapping, names: Sequence[str], fields: Fields, raw: Raw, context: Context
) -> frozenset[str]:
    """The names whose value, put in the account's own words, is what it already holds.

    Two spellings of one value (a stage matched by class, a name split elsewhere) then are no
    difference, whatever `get` would read.
    """
    same: set[str] = set()
    for row in mapping.rows:
        asked = [name for name in row.fields if name in names]
        if not asked or row.direction != "both" or not all(n in fields for n in row.fields):
            continue
        try:
            values = row.codec.put([fields[name] for name in row.fields], context)
        except Held:
            continue
        pairs = [(look_up(raw, p), v) for p, v in zip(row.paths, values, strict=False)]
        if all(v is ABSENT or v == there for there, v in pairs) and any(
            v is not ABSENT for _, v in pairs
        ):
            same.update(asked)
    return frozenset(same)


def edited(mapping: EntityMapping, name: str) -> tuple[str, ...]:
    """The remote fields whose edits are edits of this one."""
    row = mapping.row_of(name)
    return tuple(dict.fromkeys(path.partition("[]")[0] for path in row.paths)) if row else ()
