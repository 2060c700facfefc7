"""`lifecycle_stage in (customer, evangelist) and owner is not blank`: when a row applies.

Values are compared as texts; `<` and `>` compare numbers where both sides are numbers. There is
nothing else in the language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.domain.codecs import ABSENT, number_of
from app.domain.filters import is_blank, text

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign>!=|<=|>=|=|<|>|\(|\)|,)"""
    r"""|(?P<word>[^\s()!=<>,"']+))"""
)
_WORDS = frozenset("and or not in is blank".split())

#: What each sign says of a comparison that gave -1, 0 or 1.
_ORDER: Mapping[str, Callable[[int], bool]] = {
    "<": lambda way: way < 0,
    "<=": lambda way: way <= 0,
    ">": lambda way: way > 0,
    ">=": lambda way: way >= 0,
}

Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a row applies to these values. ``names`` are what it looks at."""

    source: str
    names: tuple[str, ...]
    holds: Test


def compile_condition(source: str) -> Condition:
    """Raises ValueError that says where it is not understood."""
    reader = _Reader(source)
    test = reader.either()
    if reader.at < len(reader.tokens):
        raise ValueError(f"{reader.rest()!r} is not understood; join conditions by and, or")
    return Condition(source, tuple(dict.fromkeys(reader.names)), test)


class _Reader:
    """Reads left to right; `and` binds closer than `or`."""

    def __init__(self, source: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.names: list[str] = []
        self.at = 0
        end = 0
        while source[end:].strip():
            found = _TOKEN.match(source, end)
            if found is None or found.lastgroup is None:
                raise ValueError(f"{source[end:].strip()!r} is not understood")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            end = found.end()

    def rest(self) -> str:
        return " ".join(written for _, written in self.tokens[self.at :])

    def took(self, *words: str) -> bool:
        """Whether these words come next; they are taken."""
        following = self.tokens[self.at : self.at + len(words)]
        if [w for kind, w in following if kind != "quoted"] != list(words):
            return False
        self.at += len(words)
        return True

    def either(self) -> Test:
        tests = [self.every()]
        while self.took("or"):
            tests.append(self.every())
        return tests[0] if len(tests) == 1 else lambda values: any(t(values) for t in tests)

    def every(self) -> Test:
        tests = [self.one()]
        while self.took("and"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda values: all(t(values) for t in tests)

    def one(self) -> Test:
        if self.took("not"):
            inner = self.one()
            return lambda values: not inner(values)
        if self.took("("):
            inside = self.either()
            self.need(")")
            return inside
        name = self.name()
        if self.took("is", "not", "blank"):
            return lambda values: not _blank(values.get(name, ABSENT))
        if self.took("is", "blank"):
            return lambda values: _blank(values.get(name, ABSENT))
        if self.took("not", "in"):
            among = self.several()
            return lambda values: not _is_among(values.get(name), among)
        if self.took("in"):
            among = self.several()
            return lambda values: _is_among(values.get(name), among)
        for sign in ("=", "!=", *_ORDER):
            if self.took(sign):
                return partial(_compare, name, sign, self.literal())
        raise ValueError(f"after {name!r} comes =, !=, <, >, in (…), is blank or is not blank")

    def need(self, sign: str) -> None:
        if not self.took(sign):
            raise ValueError(f"a {sign!r} is missing before {self.rest() or 'the end'!r}")

    def name(self) -> str:
        kind, written = self.next("the name of a field")
        if kind != "word" or written in _WORDS:
            raise ValueError(f"{written!r} stands where the name of a field should")
        self.names.append(written)
        return written

    def literal(self) -> str:
        kind, written = self.next("a value")
        if kind == "sign" or (kind == "word" and written in _WORDS):
            raise ValueError(f"{written!r} stands where a value should; put it in quotes")
        return written[1:-1] if kind == "quoted" else written

    def several(self) -> frozenset[str]:
        self.need("(")
        found = [self.literal()]
        while self.took(","):
            found.append(self.literal())
        self.need(")")
        return frozenset(found)

    def next(self, wanted: str) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise ValueError(f"it ends where {wanted} should be")
        self.at += 1
        return self.tokens[self.at - 1]


def _blank(value: Any) -> bool:
    return value is ABSENT or is_blank(value)


def _is_among(value: Any, among: frozenset[str]) -> bool:
    """A list is among them if one of its elements is."""
    listed = value if isinstance(value, list) else [value]
    return any(text(item) in among for item in listed)


def _compare(name: str, sign: str, wanted: str, values: Mapping[str, Any]) -> bool:
    value = values.get(name)
    if sign == "=":
        return _is_among(value, frozenset({wanted}))
    if sign == "!=":
        return not _is_among(value, frozenset({wanted}))
    if is_blank(value):
        return False
    one, other = number_of(value), number_of(wanted)
    if one is None or other is None:
        return _ORDER[sign]((text(value) > wanted) - (text(value) < wanted))
    return _ORDER[sign]((one > other) - (one < other))
