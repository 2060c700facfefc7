"""get(put(x)) = x: what a two-way row writes, it reads back; or it may not go both ways.

Tried on edge values of each kind, the same ones every time, when the configuration is read. A
transform that normalises (phones, addresses of mail, markup) is tried on its normal forms. What
speaks the account's own words (stages, owners) depends on its directory and is not tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.domain.codecs import ABSENT, Context, Held
from app.domain.entities import equal, is_blank
from app.domain.mapping import EntityMapping
from app.domain.rows import TRANSFORMS, Row
from app.domain.values import Value
from app.errors import ConfigError

#: What a field holds, where that is not simply text.
FIELD_KINDS: Mapping[str, str] = {
    "employees": "integer",
    "probability": "integer",
    "duration": "integer",
    "annual_revenue": "decimal",
    "amount": "decimal",
    "currency": "currency",
    "close_date": "date",
    "at": "datetime",
    "start": "datetime",
    "end": "datetime",
    "email": "email",
    "emails": "emails",
    "phone": "phone",
    "phones": "phones",
    "domain": "domain",
    "website": "website",
    "address": "address",
}
#: What a transform makes of a field that could be anything.
TRANSFORM_KINDS: Mapping[str, str] = {
    "number": "integer",
    "json_decimal": "decimal",
    "midnight": "date",
    "epoch_ms": "datetime",
    "close_address": "address",
    **{
        same: same
        for same in (
            *("integer", "decimal", "boolean", "date", "datetime", "email", "phone", "domain"),
            *("multi_select", "rich_text", "html_text", "address"),
        )
    },
}
_PHONES = ("+14155550100", "+442071838750;ext=7", "ask for Ada")
_MAILS = ("ada@x.example", "o'neil+crm@sub.x.example")
EDGES: Mapping[str, Sequence[Value]] = {
    "text": (
        *("", "Ada", "ada lovelace", "ADA", "Zoë 王", "a;b", "0", "007", "1e3", "false", "null"),
        *("a, b", 'the "best" & <last>', "one\ntwo", "x" * 300),
    ),
    "integer": (0, 1, -1, 42, 2**31, 2**53 + 1),
    "decimal": ("0", "1", "-1.5", "0.1", "1500.5", "99999999999999.99", "0.000001"),
    "boolean": (True, False),
    "date": ("1999-12-31", "2024-02-29", "2026-01-01"),
    "datetime": ("1999-12-31T23:59:59Z", "2026-03-29T01:30:00Z", "2026-01-01T00:00:00.5Z"),
    "currency": ("USD", "JPY"),
    "email": _MAILS,
    "emails": ([], [_MAILS[0]], sorted(_MAILS)),
    "phone": _PHONES,
    "phones": ([], [_PHONES[0]], sorted(_PHONES[:2])),
    "domain": ("x.example", "shop.x.co.uk"),
    "website": ("https://x.example", "http://www.x.example/de?a=b"),
    "address": ("1 Main St|Oslo||0150|NO", "||Ohio||"),
    "multi_select": ([], ["a"], ["a b", "c"]),
    "rich_text": ("", "<p>Ada &amp; <strong>Bob</strong></p>", "<ul><li>one</li><li>two</li></ul>"),
    "html_text": ("", "Ada & Bob", "one\ntwo", "1 < 2"),
}
#: Fields that only make sense together.
PAIRS: Mapping[str, Sequence[tuple[Value, Value]]] = {
    "person_name": (
        *(("Ada", "Lovelace"), ("Mary Jane", "van der Berg"), ("Zoë", None), (None, "Solo")),
        ("", ""),
    ),
    "emails": ((_MAILS[0], [_MAILS[0]]), (_MAILS[1], sorted(_MAILS)), (None, [])),
    "phones": ((_PHONES[0], [_PHONES[0]]), (_PHONES[1], sorted(_PHONES[:2])), (None, [])),
    "phone_pair": ((_PHONES[0], sorted(_PHONES[:2])), (_PHONES[1], [_PHONES[1]]), (None, [])),
    "website": (("https://x.example/de", "x.example"), ("http://shop.x.co.uk", "shop.x.co.uk")),
    **dict.fromkeys(
        ("cents", "money"),
        (("0", "USD"), ("1500.5", "USD"), ("-0.01", "EUR"), ("5000", "JPY"), ("1.234", "KWD")),
    ),
}


def prove(mapping: EntityMapping, *, as_text: bool, where: Callable[[str], str]) -> None:
    """Raises ConfigError with a counter-example. ``as_text``: the vendor keeps texts alone."""
    for row in mapping.rows:
        if row.direction != "both" or row.codec.shape is None:
            continue
        for values in edges(row):
            if found := _counter_example(row, values, as_text=as_text):
                raise ConfigError(f"{where(row.key)}: {found}")


def edges(row: Row) -> Iterator[tuple[Value, ...]]:
    """The values that a row is tried on; each stands for a kind of trouble met before."""
    if len(row.fields) == 1:
        yield (None,)
    kinds = [_kind(row, name) for name in row.fields]
    if row.values is not None:
        plain = TRANSFORMS[row.transform]
        words = list(row.values.ours)
        for word in words:
            yield (plain.get([[word] if plain.many else word], Context())[0],)
        if not row.values.passes:
            return
    if len(kinds) == 1:
        yield from ((value,) for value in EDGES[kinds[0]])
    elif row.transform in PAIRS:
        yield from PAIRS[row.transform]
    else:
        longest = max(len(EDGES[kind]) for kind in kinds)
        for n in range(longest):
            yield tuple(EDGES[kind][n % len(EDGES[kind])] for kind in kinds)


def _kind(row: Row, name: str) -> str:
    own = FIELD_KINDS.get(name, "text")
    return own if own != "text" else TRANSFORM_KINDS.get(row.transform, "text")


def _counter_example(row: Row, values: Sequence[Value], *, as_text: bool) -> str | None:
    context = Context(hints=(dict(zip(row.fields, values, strict=True)),))
    try:
        put = row.codec.put(values, context)
    except Held:
        return None  # nothing is written
    there = [
        _placed(path, _kept(values[n] if v is ABSENT and n in row.codec.shown else v, as_text))
        for n, (path, v) in enumerate(zip(row.paths, put, strict=True))
    ]
    back = row.codec.get(there, context)
    for n, (name, value, read) in enumerate(zip(row.fields, values, back, strict=True)):
        if n in row.codec.shown or _same(value, read, as_text=as_text):
            continue
        written = there[0] if len(there) == 1 else there
        shown = "not read back" if read is ABSENT else f"read back as {read!r}"
        return (
            f"`{name}`: {value!r} is written as {written!r} and {shown}; make the row one-way "
            f"(direction: to, or from){_advice(row)}"
        )
    return None


def _same(value: Value, read: Value, *, as_text: bool) -> bool:
    return equal(value, read) or (as_text and is_blank(value) and is_blank(read))


def _advice(row: Row) -> str:
    if row.values is not None:
        return ", or give each value one of its own there"
    return " or choose a transform (as) for what it holds"


def _placed(path: str, value: Any) -> Any:
    """What is put to `list[]` is its first element; to leave that out empties the list."""
    if path.endswith("[]") and not isinstance(value, list):
        return [] if value is None else [value]
    return value


def _kept(value: Any, as_text: bool) -> Any:
    """The value as it comes back in an answer: through JSON, and as text where all is text."""
    if as_text and value is not None:
        if isinstance(value, list):
            value = ";".join(map(str, value))
        elif isinstance(value, bool):
            value = str(value).lower()
        value = str(value) or None
    return orjson.loads(orjson.dumps(value))
