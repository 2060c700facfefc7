"""The filters of a template: small, named, and unable to do harm.

A filter never raises on a value: what it cannot read stays as it is. A blank passes through all
of them untouched, except through `default`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.domain import richtext
from app.domain.codecs import moment_of, number_of

#: One step on one value.
Step = Callable[[Any], Any]

#: The longest text that a filter or a template makes.
LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Filter:
    """How a filter is made from its arguments. ``make`` raises ValueError for wrong ones.

    ``usage`` and ``does`` are its row in the documentation.
    """

    make: Callable[..., Step]
    usage: str
    does: str
    least: int = 0
    most: int = 0


def text(value: Any) -> str:
    """A value as a template writes it: 0 and false are said, a blank is not."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(text(item) for item in value)
    return str(value)


def is_blank(value: Any) -> bool:
    return value is None or value == "" or value == []


def _whole(argument: str, least: int = 0) -> int:
    if not argument.isdecimal() or not least <= int(argument) <= LONGEST:
        raise ValueError(f"{argument!r} is not a number from {least} to {LONGEST}")
    return int(argument)


def _on_text(change: Callable[[str], Any]) -> Step:
    return lambda value: change(text(value))


def _each_or_text(change: Callable[[str], str]) -> Step:
    """On a text, or on each element of a list."""

    def step(value: Any) -> Any:
        return [change(text(v)) for v in value] if isinstance(value, list) else change(text(value))

    return step


def _truncate(length: str, tail: str = "") -> Step:
    most = _whole(length)
    if len(tail) > most:
        raise ValueError(f"{tail!r} is longer than {most}")
    return _on_text(lambda t: t if len(t) <= most else t[: most - len(tail)] + tail)


def _date(form: str, zone: str = "UTC") -> Step:
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"there is no time zone {zone!r}; one is Europe/Berlin") from None

    def step(value: Any) -> Any:
        shown = text(value)
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", shown):  # a day has no zone, and never moves
                return date.fromisoformat(shown).strftime(form)
            moment = moment_of(value)
            return value if moment is None else moment.astimezone(place).strftime(form)
        except ValueError:
            return value

    datetime(2026, 1, 31).strftime(form)
    return step


def _number(decimals: str, thousands: str = "", point: str = ".") -> Step:
    unit = Decimal(1).scaleb(-min(_whole(decimals), 20))

    def step(value: Any) -> Any:
        number = number_of(value)
        if number is None or abs(number) >= Decimal(10) ** 18:
            return value
        shown = format(number.quantize(unit, ROUND_HALF_UP), ",f")
        return "".join({",": thousands, ".": point}.get(sign, sign) for sign in shown)

    return step


def _split(at: str = " ") -> Step:
    if not at:
        raise ValueError("an empty text splits nothing")
    return lambda value: (
        value
        if isinstance(value, list)
        else [part.strip() for part in text(value).split(at) if part.strip()]
    )


def _pick(position: int) -> Step:
    def step(value: Any) -> Any:
        parts = value if isinstance(value, list) else text(value).split()
        return parts[position] if parts else None

    return step


def _replace(old: str, new: str = "") -> Step:
    if not old:
        raise ValueError("an empty text cannot be replaced")
    return _each_or_text(lambda t: t.replace(old, new))


def _default(instead: str) -> Step:
    return lambda value: instead if is_blank(value) else value


def _join(between: str = ", ") -> Step:
    return lambda value: (
        between.join(text(v) for v in value) if isinstance(value, list) else text(value)
    )


FILTERS: Mapping[str, Filter] = {
    "truncate": Filter(
        _truncate,
        'truncate:50 or truncate:50,"…"',
        "at most so many characters, the tail too",
        1,
        2,
    ),
    "upper": Filter(lambda: _each_or_text(str.upper), "upper", "in capitals"),
    "lower": Filter(lambda: _each_or_text(str.lower), "lower", "in small letters"),
    "title": Filter(lambda: _each_or_text(str.title), "title", "Each Word With A Capital"),
    "trim": Filter(
        lambda: _each_or_text(lambda t: " ".join(t.split())),
        "trim",
        "no spaces around it, single ones within",
    ),
    "default": Filter(_default, 'default:"none"', "this where there is nothing", 1, 1),
    "replace": Filter(_replace, 'replace:"old","new"', "every one of these by that", 1, 2),
    "date": Filter(
        _date,
        'date:"%d.%m.%Y" or date:"%H:%M","Europe/Berlin"',
        "a day or a moment in this form, a moment in this zone (else UTC); a day never moves",
        1,
        2,
    ),
    "number": Filter(
        _number,
        'number:2 or number:2,".",","',
        "with so many decimals; then what parts the thousands, and the decimals",
        1,
        3,
    ),
    "split": Filter(_split, 'split:","', "the parts of a text; by spaces unless told", 0, 1),
    "join": Filter(_join, 'join:", "', "the parts in one text", 0, 1),
    "first": Filter(
        lambda: _pick(0), "first", "the first part of a list, the first word of a text"
    ),
    "last": Filter(lambda: _pick(-1), "last", "the last part, or word"),
    "strip_html": Filter(
        lambda: _on_text(richtext.text_of), "strip_html", "the text of rich text, a line each"
    ),
    "digits": Filter(
        lambda: _each_or_text(lambda t: re.sub(r"\D", "", t)), "digits", "the digits alone"
    ),
}


def make(name: str, arguments: Sequence[str]) -> Step:
    """The step that a filter with these arguments is. Raises ValueError with what to write."""
    found = FILTERS.get(name)
    if found is None:
        raise ValueError(f"there is no filter {name!r}; there are {', '.join(FILTERS)}")
    if not found.least <= len(arguments) <= found.most:
        raise ValueError(f"the filter {name} is written {found.usage}")
    try:
        step = found.make(*arguments)
    except ValueError as error:
        raise ValueError(f"the filter {name}: {error}") from None
    if name == "default":
        return step
    return lambda value: value if is_blank(value) else _short(step(value))


def _short(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value
