"""Canonical fields <-> remote paths: rows of data, compiled once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from app.config import FIELDS
from app.domain import activities
from app.domain.codecs import ABSENT, CODECS, Codec, Context, Held
from app.domain.entities import relations_of
from app.domain.owners import OWNER
from app.domain.stages import STAGE
from app.domain.values import Fields, Raw, Value
from app.errors import ConfigError

#: Every transform by its name in a mapping.
TRANSFORMS: Mapping[str, Codec] = {
    **CODECS,
    **activities.TRANSFORMS,
    "owner": OWNER,
    "stage": STAGE,
}

Direction = Literal["both", "from", "to", "off"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a mapping: canonical field(s), remote path(s), and the codec between.

    ``direction`` is seen from us: ``from`` reads only, ``to`` writes only. ``fills`` marks a
    blank that the vendor fills by itself when we write something else: that is no edit.
    ``create_only`` marks what the vendor lets nobody change afterwards.
    """

    fields: tuple[str, ...]
    paths: tuple[str, ...]
    codec: Codec
    direction: Direction = "both"
    only_if_blank: bool = False
    fills: bool = False
    create_only: bool = False


@dataclass(frozen=True, slots=True)
class EntityMapping:
    """The rows of one entity in one account.

    ``relations`` are those that the account can hold, None if all; ``fixed`` are those of them
    that stay as they were created.
    """

    entity: str
    rows: tuple[Row, ...]
    relations: frozenset[str] | None = None
    fixed: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(name for row in self.rows for name in row.fields)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every remote path that is read or written, once."""
        return tuple(
            dict.fromkeys(p for row in self.rows if row.direction != "off" for p in row.paths)
        )

    def writable(self, *, creating: bool) -> set[str]:
        """The canonical names, relations among them, that can be written at all."""
        rows = (
            row
            for row in self.rows
            if row.direction in ("both", "to") and (creating or not row.create_only)
        )
        held = set(relations_of(self.entity))
        if self.relations is not None:
            held &= self.relations
        if not creating:
            held -= self.fixed
        return held.union(name for row in rows for name in row.fields)

    def row_of(self, name: str) -> Row | None:
        return next((row for row in self.rows if name in row.fields), None)

    @property
    def filled(self) -> frozenset[str]:
        """The fields that the vendor fills by itself."""
        return frozenset(name for row in self.rows if row.fills for name in row.fields)

    def only_if_blank(self, name: str) -> bool:
        row = self.row_of(name)
        return row is not None and row.only_if_blank


def compile_mapping(entity: str, source: Mapping[str, Any], *, where: str) -> EntityMapping:
    """Rows from YAML. Raises ConfigError naming the place for what cannot be used."""
    rows = []
    for left, right in source.items():
        names = tuple(name.strip() for name in left.split(","))
        spec = {"path": right} if isinstance(right, str) else dict(right)
        place = f"{where}: {entity}.{left}"
        for name in names:
            if name not in FIELDS.get(entity, ()) and not name.startswith("custom."):
                raise ConfigError(f"{place}: {name!r} is not a field of {entity}")
        paths = (spec["path"],) if spec.get("path") else tuple(spec.get("paths") or ())
        codec = spec.get("as") or "text"
        if codec not in TRANSFORMS:
            known = ", ".join(TRANSFORMS)
            raise ConfigError(f"{place}: unknown transform {codec!r}; known: {known}")
        if not paths:
            raise ConfigError(f"{place}: name a path or paths")
        rows.append(
            Row(
                names,
                paths,
                TRANSFORMS[codec],
                cast(Direction, spec.get("direction") or "both"),
                bool(spec.get("only_if_blank")),
                bool(spec.get("fills")),
                bool(spec.get("create_only")),
            )
        )
    return EntityMapping(entity, tuple(rows))


def overlay(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """A built-in mapping with an operator's rows on top; a row replaces those it overlaps."""
    named = {name.strip() for left in override for name in left.split(",")}
    kept = {
        left: right
        for left, right in base.items()
        if not named & {name.strip() for name in left.split(",")}
    }
    return {**kept, **override}


def look_up(raw: Raw, path: str) -> Any:
    """The value at a path, ABSENT if the vendor did not send it.

    ``a`` and flat keys with dots (``custom.cf_X``) come first; ``list[].key`` is that key of
    each element; ``list[]`` is the list itself.
    """
    if path in raw:
        return raw[path]
    name, brackets, key = path.partition("[]")
    if not brackets or name not in raw:
        return ABSENT
    items = raw[name] or []
    return [item.get(key[1:]) for item in items] if key else items


def to_canonical(mapping: EntityMapping, raw: Raw, context: Context) -> dict[str, Value]:
    """What a remote record says in canonical terms; what it does not say is left out."""
    fields: dict[str, Value] = {}
    for row in mapping.rows:
        if row.direction in ("to", "off"):
            continue
        values = [look_up(raw, path) for path in row.paths]
        if values[0] is ABSENT:
            continue
        values = [None if value is ABSENT else value for value in values]
        for name, value in zip(row.fields, row.codec.get(values, context), strict=True):
            if value is not ABSENT:
                fields[name] = value
    return fields


def to_remote(
    mapping: EntityMapping, names: Iterable[str], fields: Fields, context: Context
) -> tuple[dict[str, Any], dict[str, str]]:
    """The remote paths to write for these canonical names, and the names held with a reason."""
    wanted = set(names)
    remote: dict[str, Any] = {}
    held: dict[str, str] = {}
    for row in mapping.rows:
        if row.direction in ("from", "off") or not wanted.intersection(row.fields):
            continue
        try:
            values = row.codec.put([fields.get(name) for name in row.fields], context)
        except Held as refusal:
            held.update(dict.fromkeys(wanted.intersection(row.fields), refusal.reason))
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
