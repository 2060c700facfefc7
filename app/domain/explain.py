"""A row at work, step by step: what it read, what each step made of it, what came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.domain.codecs import ABSENT, Context
from app.domain.mapping import EntityMapping
from app.domain.rows import Made, Row, look_up
from app.domain.templates import Template
from app.domain.values import Raw, Value


@dataclass(frozen=True, slots=True)
class Step:
    """One row on one record. ``through`` are its steps in order, each with what it gave.

    ``note`` says why nothing was read.
    """

    row: str
    direction: str
    given: dict[str, Any]
    through: tuple[tuple[str, Any], ...] = ()
    fields: dict[str, Value] | None = None
    note: str | None = None


def explain(mapping: EntityMapping, raw: Raw, context: Context) -> list[Step]:
    """Every row of the mapping on this record, in the order in which they are read."""
    known: dict[str, Any] = {}
    for hint in reversed(context.hints):
        known |= hint
    steps = []
    for row in mapping.rows:
        step = _step(row, raw, context, known)
        known |= step.fields or {}
        steps.append(step)
    return steps


def _step(row: Row, raw: Raw, context: Context, known: dict[str, Any]) -> Step:
    looked_at = {path: look_up(raw, path) for path in row.read_paths}
    given = {path: value for path, value in looked_at.items() if value is not ABSENT}
    if not row.is_read:
        note = "off" if row.direction == "off" else "is written only"
        return Step(row.key, row.direction, given, note=note)
    fields = known if row.looks_at_ours else looked_at
    if row.when is not None and not row.applies(fields):
        return Step(row.key, row.direction, given, note=f"does not apply: {row.when.source}")
    values = row.source(raw)
    if values is None:
        return Step(row.key, row.direction, given, note="the account did not send it")
    through: list[tuple[str, Any]] = []
    for way in row.made:
        through += _made(way, looked_at)
    shown: Any = values[0] if len(values) == 1 else values
    if row.values is not None:
        word = row.values.get(shown)
        through.append(("values", None if word is ABSENT else word))
    found = dict(zip(row.fields, row.codec.get(values, context), strict=True))
    told = {name: value for name, value in found.items() if value is not ABSENT}
    if row.transform != "text":
        made = list(told.values())
        through.append((f"as {row.transform}", made[0] if len(made) == 1 else told))
    silence = None if told else "has no value of ours: not read"
    return Step(row.key, row.direction, given, tuple(through), told, silence)


def _made(way: Made, values: dict[str, Any]) -> list[tuple[str, Any]]:
    if not isinstance(way.content, Template):
        return [("constant", way.content)]
    through: list[tuple[str, Any]] = []
    for hole in way.content.holes:
        value = values.get(hole.name)
        value = None if value is ABSENT else value
        for name, step in hole.filters:
            value = step(value)
            through.append((f"{hole.name} | {name}", value))
    return [*through, ("template", way.content.render(values))]
