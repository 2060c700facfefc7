"""SOQL, built and never pasted together: names are checked, values are quoted.

https://developer.salesforce.com/docs/platform/salesforce-soql-sosl/guide/sforce-api-calls-soql-select-quotedstringescapes.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import quote

from app.sdk import RejectedError

#: The values of a list may take this much of the URL; 16,384 bytes are the most of URL and headers:
#: https://developer.salesforce.com/docs/platform/salesforce-app-limits-cheatsheet/guide/salesforce-app-limits-platform-api.html
ROOM = 9_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_ESCAPES = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}

#: What a field can be compared with.
Comparable = str | int | bool | Decimal | date | datetime | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition whose text is safe; made by the functions below."""

    text: str

    def __str__(self) -> str:
        return self.text


def name(text: str) -> str:
    """A field or an object by its API name. Raises RejectedError for anything else."""
    if not _NAME.fullmatch(text):
        raise RejectedError(f"{text[:80]!r} is no API name", field=text[:80])
    return text


def escaped(text: str, *, like: bool = False) -> str:
    """What stands between the quotes; in a pattern the wildcards count as themselves."""
    wild = "%_" if like else ""
    return "".join(_ESCAPES.get(c) or (f"\\{c}" if c in wild else _plain(c)) for c in text)


def _plain(character: str) -> str:
    number = ord(character)
    hidden = number < 0x20 or 0x7F <= number < 0xA0 or 0xD800 <= number < 0xE000
    return f"\\u{number:04X}" if hidden else character


def literal(value: Comparable) -> str:
    """A value as SOQL writes it: texts in quotes, moments in UTC."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"'{escaped(value)}'"
        case int():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case datetime() if value.tzinfo is not None:
            at = value.astimezone(UTC).replace(tzinfo=None)
            return f"{at.isoformat(timespec='milliseconds' if at.microsecond else 'seconds')}Z"
        case datetime():
            raise RejectedError("a moment without a zone cannot be compared")
        case date():
            return value.isoformat()
    raise RejectedError(f"SOQL has no literal for {value!r}")


def equals(field: str, value: Comparable) -> Condition:
    return Condition(f"{name(field)} = {literal(value)}")


def after(field: str, value: Comparable) -> Condition:
    return Condition(f"{name(field)} > {literal(value)}")


def since(field: str, value: Comparable) -> Condition:
    return Condition(f"{name(field)} >= {literal(value)}")


def within(field: str, values: Iterable[Comparable]) -> Condition:
    """One of these; there must be one."""
    listed = ",".join(literal(value) for value in values)
    if not listed:
        raise RejectedError(f"{field} cannot be one of none")
    return Condition(f"{name(field)} IN ({listed})")


def contains(field: str, text: str) -> Condition:
    """The text is somewhere in the field."""
    return Condition(f"{name(field)} LIKE '%{escaped(text, like=True)}%'")


def every(*conditions: Condition) -> Condition:
    return _joined("AND", conditions)


def some(*conditions: Condition) -> Condition:
    return _joined("OR", conditions)


def _joined(word: str, conditions: Sequence[Condition]) -> Condition:
    if not conditions:
        raise RejectedError("a condition of nothing")
    if len(conditions) == 1:
        return conditions[0]
    return Condition(f" {word} ".join(f"({one})" for one in conditions))


def select(
    fields: Sequence[str],
    type: str,
    where: Condition | None = None,
    *,
    order: Sequence[str] = (),
    limit: int | None = None,
) -> str:
    """A query; the order ascends."""
    text = f"SELECT {', '.join(map(name, dict.fromkeys(fields)))} FROM {name(type)}"  # noqa: S608 - checked names
    if where is not None:
        text += f" WHERE {where}"
    if order:
        text += f" ORDER BY {', '.join(map(name, order))}"
    return text if limit is None else f"{text} LIMIT {limit:d}"


def chunks(values: Sequence[str], *, beside: int = 3, room: int = ROOM) -> Iterable[list[str]]:
    """The values in lists that fit into the URL of a query each.

    ``beside`` is how much of the URL each takes beside itself.
    """
    part, size = list[str](), 0
    for value in values:
        cost = len(quote(literal(value), safe="")) + beside
        if part and size + cost > room:
            yield part
            part, size = [], 0
        part.append(value)
        size += cost
    if part:
        yield part
