"""The transforms that activities and tasks need beside the general ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import getaddresses, parseaddr
from typing import Any

import orjson

from app.domain import bylines, identity, richtext
from app.domain.codecs import ABSENT, CODECS, Codec, Context, moment_of, number_of, zone_of
from app.domain.values import Value

_DATETIME = CODECS["datetime"]


def _moment(value: Any) -> Value:
    return _DATETIME.get([value], Context())[0]


def _words(ours: Mapping[str, Any], also: Mapping[Any, str] | None = None) -> Codec:
    """Our word <-> the vendor's. A word that only one side knows changes nothing on the other.

    ``also`` are further words of the vendor that are only read.
    """
    theirs = {**{word: name for name, word in ours.items()}, **(also or {})}

    def get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
        return [None if raw[0] is None else theirs.get(raw[0], ABSENT)]

    def put(values: Sequence[Value], _: Context) -> Sequence[Any]:
        return [None if values[0] is None else ours.get(str(values[0]), ABSENT)]

    return Codec(get, put)


def _upper_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [str(raw[0]).lower() if raw[0] else None]


def _upper_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [None if values[0] is None else str(values[0]).upper()]


# ------------------------------------------------------------------------------------ times


def _happened_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """When it happened, else when it was made."""
    made, happened = raw
    return [_moment(happened or made)]


def _happened_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [ABSENT, values[0]]


def _both_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [_moment(raw[0] or raw[1])]


def _both_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [values[0], values[0]]


def _due_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """A day, or a moment; a moment at midnight is the day."""
    text = str(raw[0]) if raw[0] else None
    if text is None or len(text) == len("2026-01-31"):
        return [text]
    return [str(_moment(text)).removesuffix("T00:00:00Z")]


def _due_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [values[0]]


def _due_moment_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    text = str(values[0]) if values[0] else None
    return [f"{text}T00:00:00Z" if text and "T" not in text else text]


def _day_in(moment: Value, context: Context) -> str | None:
    """The day that the account's people see."""
    at = moment_of(moment) if moment else None
    return str(moment) if at is None else at.astimezone(zone_of(context)).date().isoformat()


def _due_day_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """A day stays that day; of a moment, the day on which it is there."""
    due = values[0]
    return [_day_in(due, context) if due and "T" in str(due) else due]


def _logged_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """(day, when it was made) -> when it was made, if that is the day; else the day's beginning."""
    day, made = raw
    if not day or _day_in(_moment(made), context) == day:
        return [_moment(made) if made else None]
    try:
        begins = datetime.fromisoformat(str(day)).replace(tzinfo=zone_of(context))
    except ValueError:
        return [str(day)]
    return [_moment(begins.isoformat())]


def _logged_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    return [_day_in(values[0], context) if values[0] else None, ABSENT]


def _closed_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """(whether its status is one of the closed ones, the status) -> our word."""
    return [None if raw[0] is None else "done" if raw[0] else "open"]


def _closed_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [ABSENT, values[0] and ("Completed" if values[0] == "done" else "Not Started")]


def _plain_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [None if raw[0] is None else richtext.html_of(str(raw[0]))]


def _plain_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return [None if values[0] is None else richtext.text_of(str(values[0]))]


def _thousandths_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    number = number_of(raw[0])
    return [None if number is None else round(number / 1000)]


def _thousandths_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    number = number_of(values[0])
    return [None if number is None else str(round(number * 1000))]


# --------------------------------------------------------------------------- calls and mails


def _e164_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [identity.phone(str(raw[0])) if raw[0] else None]


def _e164_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    """A number that does not say its country has no place there."""
    text = str(values[0]) if values[0] else None
    return [text if text is None or text.startswith("+") else ABSENT]


def _ends_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """(direction, to, from) -> (direction, the number at the other end)."""
    way, to, source = raw
    direction = str(way).lower() if way else None
    other = (source or to) if direction == "inbound" else (to or source)
    return [direction, identity.phone(str(other)) if other else None]


def _ends_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    direction, phone = values
    way = str(direction).upper() if direction else None
    return [way, ABSENT, phone] if direction == "inbound" else [way, phone, ABSENT]


def _address_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """`"Ana" <ana@x.example>` -> `ana@x.example`."""
    found = parseaddr(str(raw[0]))[1] if raw[0] else ""
    return [identity.email(found) or (str(raw[0]) if raw[0] else None)]


def _addresses(texts: Sequence[Any]) -> list[str]:
    found = (address for _, address in getaddresses([str(text) for text in texts if text]))
    return sorted({identity.email(address) or address for address in found if address})


def _addresses_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    return [_addresses(raw[0] if isinstance(raw[0], list) else [raw[0]])]


def _same(values: Sequence[Value], _: Context) -> Sequence[Any]:
    return list(values)


def _headers_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """(from, to, cc, headers) -> (from, to, cc); the headers are what was written."""
    sender, to, cc, _headers = raw
    ends = [_addresses(str(end or "").split(";")) for end in (to, cc)]
    return [_address_get([sender], Context())[0], *ends]


def _headers_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    sender, to, cc = values
    headers: dict[str, Any] = {"from": {"email": sender}} if sender else {}
    for name, listed in (("to", to), ("cc", cc)):
        if isinstance(listed, list) and listed:
            headers[name] = [{"email": address} for address in listed]
    return [ABSENT, ABSENT, ABSENT, orjson.dumps(headers).decode() if headers else None]


def _twins_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    """(plain text, HTML) -> the text as HTML in one form."""
    text, html = raw
    if html:
        return [richtext.normal(str(html))]
    return [text if not text else richtext.html_of(str(text))]


def _twins_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    body = values[0]
    return [None if body is None else richtext.text_of(str(body)), body]


def _mail_way_get(raw: Sequence[Any], _: Context) -> Sequence[Value]:
    if raw[0] is None:
        return [None]
    return ["inbound" if raw[0] in ("inbox", "INCOMING_EMAIL", "FORWARDED_EMAIL") else "outbound"]


def _box_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    """To log a mail as sent sends nothing: https://developer.close.com/api/resources/activities"""
    return [values[0] and ("inbox" if values[0] == "inbound" else "sent")]


def _mail_way_put(values: Sequence[Value], _: Context) -> Sequence[Any]:
    if values[0] == "outbound":
        return ["EMAIL", "SENT"]
    return [values[0] and "INCOMING_EMAIL", ABSENT]


#: Those without a shape take only words, forms and pairs of their own: what holds of them is stated
#: in their tests, not tried on any text.
TRANSFORMS: Mapping[str, Codec] = {
    "signed_html": bylines.SIGNED,
    "signed_text": bylines.SIGNED_TEXT,
    "signed_twins": bylines.SIGNED_TWINS,
    "plain_text": Codec(_plain_get, _plain_put),
    "text_twins": Codec(_twins_get, _twins_put),
    "upper": Codec(_upper_get, _upper_put),
    "happened": Codec(_happened_get, _happened_put, shown=frozenset({0}), shape=(1, 2)),
    "both": Codec(_both_get, _both_put, shape=(1, 2)),
    "due": Codec(_due_get, _due_put),
    "due_day": Codec(_due_get, _due_day_put),
    "logged_on": Codec(_logged_get, _logged_put, shown=frozenset({1})),
    "due_moment": Codec(_due_get, _due_moment_put),
    "thousandths": Codec(_thousandths_get, _thousandths_put, shape=(1, 1)),
    "e164": Codec(_e164_get, _e164_put),
    "call_ends": Codec(_ends_get, _ends_put),
    "address_line": Codec(_address_get, _same),
    "address_list": Codec(_addresses_get, _same, many=True),
    "mail_headers": Codec(_headers_get, _headers_put, shown=frozenset({0, 1, 2})),
    "mail_box": Codec(_mail_way_get, _box_put),
    "mail_way": Codec(_mail_way_get, _mail_way_put),
    "call_status": _words(
        {
            "completed": "completed",
            "no_answer": "no-answer",
            "busy": "busy",
            "failed": "failed",
            "canceled": "cancel",
        },
        {"timeout": "failed"},
    ),
    "meeting_status": _words(
        {"scheduled": "upcoming", "completed": "completed", "canceled": "canceled"},
        {
            "in-progress": "scheduled",
            "declined-by-lead": "canceled",
            "declined-by-org": "canceled",
        },
    ),
    "call_type": _words({"inbound": "Inbound", "outbound": "Outbound"}),
    "call_result": _words(
        {
            "completed": "Completed",
            "no_answer": "No answer",
            "busy": "Busy",
            "failed": "Failed",
            "canceled": "Canceled",
        }
    ),
    "task_closed": Codec(_closed_get, _closed_put, shown=frozenset({0})),
    "task_rank": _words({"low": "Low", "medium": "Normal", "high": "High"}),
    "done": _words({"open": False, "done": True}),
    "task_status": _words(
        {"open": "NOT_STARTED", "done": "COMPLETED"},
        dict.fromkeys(("IN_PROGRESS", "WAITING", "DEFERRED"), "open"),
    ),
    "case_priority": _words({"low": "Low", "medium": "Medium", "urgent": "High", "high": "High"}),
    "task_level": _words({"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}),
    "task_priority": _words({"high": "high", "medium": "medium"}),
}
