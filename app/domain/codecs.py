"""The transform table: how one or more remote values become canonical ones, and back.

A codec never guesses silently: `get` of what a vendor sent never raises (an unreadable value
is kept as its text), `put` raises Held when a value has no place in the target.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.config import OwnersConfig, StagePlace
from app.domain import identity, richtext
from app.domain.values import NOTHING, Directory, Fields, Value

#: ISO 4217 currencies without, or with three, decimals: https://www.iso.org/iso-4217-currency-codes.html
_EXPONENT = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
#: Lower-case words that belong to the family name they precede.
_PARTICLES = frozenset(
    "van von der den de da di du del della dos das la le bin ibn al el ter ten zu".split()
)


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: "No opinion": the field is not sent, not taken.
ABSENT: Any = _Absent()


class Held(Exception):
    """A value that the target account has no place for; a person must map it.

    ``stand_in`` are the remote values that serve meanwhile in a create that needs some.
    """

    def __init__(self, field_name: str, reason: str, stand_in: Sequence[Any] | None = None) -> None:
        super().__init__(reason)
        self.field = field_name
        self.reason = reason
        self.stand_in = stand_in


@dataclass(frozen=True, slots=True)
class Context:
    """What codecs may look at beside the values.

    ``entity`` is what stands in the stages; the ``pipelines`` of the directory are its own.
    ``stages`` and ``pipelines`` map ours to this account's own; ``kinds`` tell the class of a
    stage name of any account; ``words`` are names of stages and pipelines from before they were
    mapped (``own_words`` in this account), with what they are called today; ``owners`` say who
    stands in for whom; ``hints`` are earlier readings of the same fields, best first;
    ``current`` is what the account last had (None on a create). ``names`` are those of people,
    by e-mail address, ``accounts`` all of ours, and ``via`` is the account that told us of this
    record's author.
    """

    entity: str = "deal"
    directory: Directory = field(default_factory=Directory)
    stages: Mapping[str, Sequence[StagePlace]] = field(default_factory=lambda: NOTHING)
    pipelines: Mapping[str, Sequence[str]] = field(default_factory=lambda: NOTHING)
    kinds: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: NOTHING)
    own_words: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: NOTHING)
    owners: OwnersConfig = field(default_factory=OwnersConfig)
    hints: tuple[Fields, ...] = ()
    current: Fields | None = None
    names: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    accounts: frozenset[str] = frozenset()
    via: str | None = None


Get = Callable[[Sequence[Any], Context], Sequence[Value]]
Put = Callable[[Sequence[Value], Context], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Codec:
    """``get``: remote values (one per path) -> canonical (one per field); ``put`` the other way.

    ``shown`` are the positions that are read but never written (a currency the account has for
    all deals). ``shape`` is how many fields and paths it takes, None for any. ``many`` says that
    its one remote value is a list. ``remembers`` says that ``get`` looks at earlier readings.
    ``one`` reads the one value that is not None, where that is all that ``get`` does.
    """

    get: Get
    put: Put
    shown: frozenset[int] = frozenset()
    shape: tuple[int, int] | None = None
    many: bool = False
    remembers: bool = False
    one: Callable[[Any], Value] | None = None


def _each(get: Callable[[Any], Value], put: Callable[[Any], Any] = lambda v: v) -> Codec:
    """One field, one path; None passes through as the clear it is."""
    return Codec(
        get=lambda raw, _: [None if v is None else get(v) for v in raw],
        put=lambda values, _: [None if v is None else put(v) for v in values],
        shape=(1, 1),
        one=get,
    )


def _text(value: Any) -> Value:
    return value if isinstance(value, str | int | float | bool) else str(value)


#: Digits beyond this are nobody's number, and an exponent could ask for gigabytes of zeros.
_DIGITS = 60
_EXACT = decimal.Context(prec=2 * _DIGITS)


def number_of(value: Any) -> Decimal | None:
    """The finite number that a text or a JSON number says; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    sane = number.is_finite() and abs(number.adjusted()) < _DIGITS and len(str(value)) < _DIGITS
    return number if sane else None


def _integer(value: Any) -> Value:
    number = number_of(value)
    if number is None:
        return str(value)
    whole = number == number.to_integral_value()
    # What does not fit into 64 bits is kept as text: JSON has no room for it everywhere.
    return int(number) if whole and abs(number) < 2**63 else plain(number)


def plain(number: Decimal) -> str:
    """A decimal as text without exponent or idle zeros: 1500.50 -> `1500.5`."""
    text = format(number, "f") if number else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _decimal(value: Any) -> Value:
    number = number_of(value)
    return str(value) if number is None else plain(number)


def _json_number(value: Any) -> Any:
    """A number as JSON has it; text where a float would not come back as the same number."""
    number = number_of(value)
    if number is None or isinstance(value, int | float):
        return value
    if number == number.to_integral_value():
        return int(number) if abs(number) < 2**53 else value
    return float(number) if Decimal(repr(float(number))) == number else value


def _boolean(value: Any) -> Value:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).casefold(), str(value))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(value: Any) -> datetime | None:
    """The moment that an ISO text (UTC where it names no zone) or epoch milliseconds say."""
    text = str(value)
    try:
        if text.removeprefix("-").isdecimal() and len(text) > 8:
            return _EPOCH + timedelta(milliseconds=int(text))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _date(value: Any) -> Value:
    """The day as it is written: a zone never moves it to the day before."""
    text = str(value)
    if text[4:5] == "-" and text[10:11] in ("", "T", " "):
        try:
            return date.fromisoformat(text[:10]).isoformat()
        except ValueError:
            return text
    moment = moment_of(value)
    return moment.date().isoformat() if moment else text


def _moment(value: Any) -> Value:
    """A moment in UTC, without idle zeros: `2026-01-31T12:00:00Z`."""
    moment = moment_of(value)
    if moment is None:
        return str(value)
    text = moment.replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def _epoch(value: Any) -> Any:
    moment = moment_of(value)
    return value if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


@cache
def _zone(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def zone_of(context: Context) -> tzinfo:
    """The time zone in which the account shows its days."""
    return _zone(context.directory.zone)


def _midnight_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """The day that the account's people see; what is midnight in UTC was meant as a day."""
    value = raw[0]
    moment = moment_of(value) if value not in (None, "") else None
    if moment is None or isinstance(value, bool) or moment.time() == time():
        return [value if value is None else _date(value)]
    return [moment.astimezone(_zone(context.directory.zone)).date().isoformat()]


def _midnight_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """The day's first moment in UTC; in its own zone, where people would see the day before."""
    try:
        day = datetime.combine(date.fromisoformat(str(values[0])), time(), UTC)
    except ValueError:
        return [values[0]]
    zone = _zone(context.directory.zone)
    with suppress(OverflowError):
        if day.astimezone(zone).date() != day.date():
            day = day.replace(tzinfo=zone).astimezone(UTC)
    return [f"{day.replace(tzinfo=None).isoformat()}Z"]


def _cents_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    value, currency = raw
    number = number_of(value)
    if number is None:
        return [value if value is None else str(value), currency]
    exponent = _EXPONENT.get(str(currency or ""), 2)
    return [plain(_EXACT.scaleb(number, -exponent)), currency]


def _cents_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """Minor units of the account's one currency: in another, the number would be a lie."""
    amount, currency = values
    if amount is None or amount == "":
        return [None, ABSENT]
    number = number_of(amount)
    if number is None:
        raise Held("amount", f"{amount!r} is not a number")
    own = context.directory.currency
    if own and currency and currency != own:
        raise Held("amount", f"the amount is in {currency}, and all amounts there are in {own}")
    exponent = _EXPONENT.get(own or str(currency or ""), 2)
    return [int(_EXACT.scaleb(number, exponent).to_integral_value()), ABSENT]


def _money_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    value, currency = raw
    return [
        value if value is None else _decimal(value),
        str(currency).upper() if currency else None,
    ]


def _money_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    """The amount with the decimals of its currency, and the currency."""
    amount, currency = values
    number = number_of(amount)
    if number is None:
        return [amount, currency]
    unit = Decimal(1).scaleb(-_EXPONENT.get(str(currency or ""), 2))
    return [plain(number.quantize(unit, decimal.ROUND_HALF_UP, _EXACT)), currency]


def split_name(text: str) -> tuple[str | None, str | None]:
    """`Ludwig van Beethoven` -> (`Ludwig`, `van Beethoven`); one word is a first name."""
    words = text.split()
    if len(words) < 2:
        return (words[0] if words else None), None
    start = len(words) - 1
    while start > 1 and words[start - 1].casefold() in _PARTICLES:
        start -= 1
    return " ".join(words[:start]), " ".join(words[start:])


def join_name(first: Value, last: Value) -> str | None:
    if first is None and last is None:
        return None
    return " ".join(str(part) for part in (first, last) if part not in (None, ""))


def _name_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """Split a full name the way it was split before, as far as it still fits."""
    text = raw[0]
    if text is None:
        return [None, None]
    text = " ".join(str(text).split())
    if not text:
        return ["", ""]
    for hint in context.hints:
        first, last = hint.get("first_name"), hint.get("last_name")
        if text == join_name(first, last):
            return [first, last]
        if first and text.startswith(f"{first} "):
            return [first, text[len(str(first)) + 1 :]]
        if last and text.endswith(f" {last}"):
            return [text[: -len(str(last)) - 1], last]
    return list(split_name(text))


def _name_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [join_name(*values)]


def _website_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [raw[0], identity.host(str(raw[0])) if raw[0] else None]


def _website_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    """The website where it agrees with the domain, else the domain as an address."""
    website, domain = values
    if website and (not domain or identity.host(str(website)) == domain):
        return [website]
    return [f"https://{domain}" if domain else None]


def strings(value: Any) -> list[str]:
    """A list of texts, or a `;` list."""
    if value is None:
        return []
    parts = value if isinstance(value, list | tuple) else str(value).split(";")
    return [str(part).strip() for part in parts if part is not None and str(part).strip()]


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _primary_and_all(normal: Callable[[str], str | None]) -> Codec:
    """(primary, all) <-> one remote list, first the primary."""

    def get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
        found = _unique([normal(text) or text for text in strings(raw[0])])
        return [found[0] if found else None, sorted(found)]

    def put(values: Sequence[Value], _: Context) -> Sequence[Any]:
        primary, every = values
        rest = every if isinstance(every, list) else []
        return [_unique([str(v) for v in (primary, *rest) if v])]

    return Codec(get, put, shape=(2, 1))


def _primary_and_more(normal: Callable[[str], str | None]) -> Codec:
    """(primary, all) <-> (primary, further) where the further ones cannot be written."""

    def get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
        primary = normal(str(raw[0])) or str(raw[0]) if raw[0] else None
        found = _unique([normal(text) or text for text in strings(raw[1])])
        return [primary, sorted(_unique([*([primary] if primary else []), *found]))]

    def put(values: Sequence[Value], _: Context) -> Sequence[Any]:
        return [values[0], ABSENT]

    return Codec(get, put, shown=frozenset({1}), shape=(2, 2))


def _phone_pair() -> Codec:
    """(phone, phones) <-> (phone, mobile): the first other number is the mobile."""

    def get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
        first, second = (identity.phone(str(v)) if v else None for v in raw)
        return [first, sorted(_unique([v for v in (first, second) if v]))]

    def put(values: Sequence[Value], _: Context) -> Sequence[Any]:
        primary, every = values
        rest = [v for v in every if v != primary] if isinstance(every, list) else []
        return [primary, rest[0] if rest else None]

    return Codec(get, put, shape=(2, 2))


_ADDRESS = ("street", "city", "state", "postal_code", "country")


def _address_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """One line per address: the parts with `, ` between, in a fixed order, kept apart by `|`."""
    parts = ["" if v is None else str(v).replace("|", "/").strip() for v in raw]
    return ["|".join(parts) if any(parts) else None]


def _address_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    parts = str(values[0]).split("|") if values[0] else []
    return [(parts[n] or None) if n < len(parts) else None for n in range(len(_ADDRESS))]


def _close_address_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    first = (raw[0] or [{}])[0]
    street = " ".join(str(first.get(k)) for k in ("address_1", "address_2") if first.get(k))
    return _address_get(
        [street, *(first.get(k) for k in ("city", "state", "zipcode", "country"))], context
    )


def _close_address_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    if values[0] is None:
        return [None]
    street, city, state, zipcode, country = _address_put(values, context)
    return [
        {
            "address_1": street or "",
            "address_2": "",
            "city": city or "",
            "state": state or "",
            "zipcode": zipcode or "",
            "country": country or "",
        }
    ]


def _many(get: Callable[[Any], list[str]]) -> Codec:
    return Codec(
        get=lambda raw, _: [None if raw[0] is None else get(raw[0])],
        put=lambda values, _: [None if values[0] is None else strings(values[0])],
        shape=(1, 1),
        many=True,
    )


CODECS: dict[str, Codec] = {
    "text": _each(_text),
    "integer": _each(_integer, str),
    "number": _each(_integer, _json_number),
    "decimal": _each(_decimal),
    "json_decimal": _each(_decimal, _json_number),
    "boolean": _each(_boolean),
    "date": _each(_date),
    "midnight": Codec(_midnight_get, _midnight_put, shape=(1, 1)),
    "datetime": _each(_moment),
    "epoch_ms": _each(_moment, _epoch),
    "email": _each(lambda v: identity.email(str(v)) or str(v)),
    "phone": _each(lambda v: identity.phone(str(v))),
    "domain": _each(lambda v: identity.host(str(v)) or str(v)),
    "multi_select": _many(lambda v: sorted(_unique(strings(v)))),
    "rich_text": _each(lambda v: richtext.normal(str(v))),
    "html_text": _each(lambda v: richtext.text_of(str(v)), lambda v: richtext.html_of(str(v))),
    "emails": _primary_and_all(identity.email),
    "phones": _primary_and_all(identity.phone),
    "email_and_more": _primary_and_more(identity.email),
    "phone_pair": _phone_pair(),
    "cents": Codec(_cents_get, _cents_put, shown=frozenset({1}), shape=(2, 2)),
    "money": Codec(_money_get, _money_put, shape=(2, 2)),
    "person_name": Codec(_name_get, _name_put, shape=(2, 1), remembers=True),
    "website": Codec(_website_get, _website_put, shape=(2, 1)),
    "address": Codec(_address_get, _address_put, shape=(1, 5)),
    "close_address": Codec(_close_address_get, _close_address_put, shape=(1, 1)),
}
