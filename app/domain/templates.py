"""`{{first_name}} {{last_name|upper}}`: texts with values in them, compiled once.

The whole language is here: text, names in double braces, and filters with arguments. There are
no loops, no calls and no expressions, so a template can neither run long nor reach out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.codecs import ABSENT
from app.domain.filters import LONGEST, Step, is_blank, make, text

_HOLE = re.compile(r"""\{\{((?:[^{}"']|"[^"]*"|'[^']*')*)\}\}""")
_NAME = re.compile(r"\s*([\w.-]+(?:\[\](?:\.[\w.-]+)?)?)\s*")
_FILTER = re.compile(r"\s*\|\s*(\w+)\s*(:?)")
_ARGUMENT = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^|,"'\s]+))\s*(,?)""")


@dataclass(frozen=True, slots=True)
class Hole:
    """One pair of braces: a name, and its filters as they are written."""

    name: str
    filters: tuple[tuple[str, Step], ...] = ()

    def fill(self, value: Any) -> Any:
        for _, step in self.filters:
            value = step(value)
        return value


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and holes, in order."""

    source: str
    parts: tuple[str | Hole, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What stands in braces, each once."""
        return tuple(dict.fromkeys(hole.name for hole in self.holes))

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))

    @property
    def around(self) -> tuple[str, str] | None:
        """The text before and after the one bare name; None where what was put is not known."""
        if len(self.holes) != 1 or self.holes[0].filters:
            return None
        at = self.parts.index(self.holes[0])
        return "".join(map(str, self.parts[:at])), "".join(map(str, self.parts[at + 1 :]))

    def render(self, values: Mapping[str, Any]) -> Any:
        """The text; ABSENT where nothing is known, None where all that is known is blank.

        A lone `{{name}}` keeps the type of its value.
        """
        known = [values.get(hole.name, ABSENT) for hole in self.holes]
        if self.holes and all(value is ABSENT for value in known):
            return ABSENT
        filled = iter(
            hole.fill(None if value is ABSENT else value)
            for hole, value in zip(self.holes, known, strict=True)
        )
        parts = [next(filled) if isinstance(part, Hole) else part for part in self.parts]
        if len(parts) == 1:
            return parts[0]
        told = [p for p, own in zip(parts, self.parts, strict=True) if isinstance(own, Hole)]
        if told and all(is_blank(value) for value in told):
            return None
        whole = "".join(map(text, parts))[:LONGEST]
        # A part that is missing leaves no gap.
        return re.sub(r" {2,}", " ", whole).strip() if any(map(is_blank, told)) else whole

    def invert(self, value: Any) -> Any:
        """The value that was put between the texts; what does not fit is kept as it is."""
        assert self.around is not None
        before, after = self.around
        if value is None or not (before or after):
            return value
        whole = text(value)
        if len(whole) < len(before) + len(after):
            return whole
        fits = whole.startswith(before) and whole.endswith(after)
        return whole[len(before) : len(whole) - len(after)] if fits else whole


def compile_template(source: str) -> Template:
    """Raises ValueError that quotes what cannot be understood, and says what to write."""
    parts: list[str | Hole] = []
    at = 0
    for found in _HOLE.finditer(source):
        parts += [source[at : found.start()], _hole(found[1])]
        at = found.end()
    parts.append(source[at:])
    for part in parts:
        if isinstance(part, str) and ("{{" in part or "}}" in part):
            raise ValueError(
                f"{part.strip()!r}: braces that do not close; write {{{{name|filter}}}}"
            )
    return Template(source, tuple(part for part in parts if part != ""))


def _hole(inside: str) -> Hole:
    named = _NAME.match(inside)
    if named is None:
        raise ValueError(f"{{{{{inside}}}}} names nothing; write {{{{name|filter:argument}}}}")
    filters: list[tuple[str, Step]] = []
    at = named.end()
    while at < len(inside):
        found = _FILTER.match(inside, at)
        if found is None:
            raise ValueError(f"{inside[at:].strip()!r} is not understood; a filter follows a |")
        start, at = found.start(), found.end()
        arguments: list[str] = []
        more = found[2] == ":"
        while more:
            given = _ARGUMENT.match(inside, at)
            if given is None:
                raise ValueError(f"the filter {found[1]}: an argument is missing after : or ,")
            arguments.append(next(group for group in given.groups()[:3] if group is not None))
            at, more = given.end(), given[4] == ","
        filters.append((inside[start:at].strip(" |"), make(found[1], arguments)))
    return Hole(named[1], tuple(filters))
