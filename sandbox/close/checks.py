"""What may be written to a lead, contact or opportunity, field by field.

https://developer.close.com/api/resources/leads and its neighbours. A check returns the value
to keep or raises `ValueError` with what Close would say; nested errors are dictionaries.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sandbox.close.org import Close, invalid
from sandbox.close.richtext import clean
from sandbox.wire import Json

Check = Callable[[Any], Any]

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s.,;<>]+\Z")
_ADDRESS = ("label", "address_1", "address_2", "city", "state", "zipcode", "country")
_PERIODS = ("one_time", "monthly", "annual")


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("Expected a string.")
    return value


def cents(value: Any) -> int:
    """Opportunity values are whole numbers of the currency's minor unit."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("Expected an integer.")
    return value


def confidence(value: Any) -> int:
    if not 0 <= cents(value) <= 100:
        raise ValueError("Must be between 0 and 100.")
    return int(value)


def period(value: Any) -> str:
    if value not in _PERIODS:
        raise ValueError(f"Must be one of {', '.join(_PERIODS)}.")
    return str(value)


def day(value: Any) -> str:
    return date.fromisoformat(_iso(value)[:10]).isoformat()


def moment(value: Any) -> str:
    """A time, in UTC whatever zone it came in."""
    at = datetime.fromisoformat(_iso(value))
    return (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("Expected a number.")
    return value


def emails(value: Any) -> list[Json]:
    return _each(value, _email)


def phones(value: Any) -> list[Json]:
    return _each(value, _phone)


def urls(value: Any) -> list[Json]:
    return _each(value, lambda item: {"url": text(item.get("url")), "type": _kind(item, "url")})


def addresses(value: Any) -> list[Json]:
    return _each(value, _address)


FIELDS: dict[str, dict[str, Check]] = {
    "lead": {
        "name": text,
        "description": text,
        "url": text,
        "status_id": text,
        "addresses": addresses,
        "source": text,
    },
    "contact": {
        "lead_id": text,
        "name": text,
        "title": text,
        "emails": emails,
        "phones": phones,
        "urls": urls,
    },
    "opportunity": {
        "lead_id": text,
        "contact_id": text,
        "user_id": text,
        "status_id": text,
        "pipeline_id": text,
        "value": cents,
        "value_period": period,
        "confidence": confidence,
        "note": text,
        "note_html": clean,
        "date_won": day,
    },
}

# Sent back by clients that write what they read; Close ignores them.
_READ_ONLY = re.compile(
    r"(id|organization_id|display_name|html_url|\w+_by|\w+_by_name|date_created|date_updated|"
    r"date_lost|\w+_label|status_type|status_display_name|contact_ids|opportunities|tasks|"
    r"value_formatted|value_currency|annualized_\w+|expected_value|lead_name|contact_name|"
    r"user_name|pipeline_name|integration_links|custom|_type|users|\w+_name|thread_id|message_ids|"
    r"references|envelope|body_preview|opens|opens_summary|date_sent|has_reply|cost|duration|"
    r"direction|view|is_new|object_id|object_type|source)\Z"
)


def read(org: Close, type: str, body: Mapping[str, Any], current: Mapping[str, Any]) -> Json:
    """The values to keep of a body; 400 with every bad field named."""
    values: Json = {}
    problems: Json = {}
    for name, value in body.items():
        try:
            if name.startswith("custom."):
                key, kept = custom(org, type, name, value, current)
                values[key] = kept
            elif name in FIELDS[type]:
                kept = None if value is None else FIELDS[type][name](value)
                values[name] = _settled(org, name, kept)
            elif not _READ_ONLY.match(name):
                raise ValueError("Unknown field.")
        except ValueError as error:
            problems[name] = error.args[0]
    if problems:
        raise invalid(problems)
    return values


def _settled(org: Close, name: str, value: Any) -> Any:
    """What is kept of a good value, where the options say that Close has its own mind."""
    if isinstance(value, str) and not name.endswith("_html"):
        return org.options.spaced(value)
    if name == "value" and value is not None:
        return int(org.options.rounded(Decimal(value)))
    return value


def custom(
    org: Close, type: str, name: str, value: Any, current: Mapping[str, Any]
) -> tuple[str, Any]:
    """The flat key and value of `custom.cf_x`, `custom.cf_x.add` or `custom.cf_x.remove`.

    https://developer.close.com/api/resources/custom-fields
    """
    id, _, verb = name.removeprefix("custom.").partition(".")
    key = f"custom.{id}"
    field = next((f for f in org.custom_fields.get(type, ()) if f["id"] == id), None)
    if field is None:
        raise ValueError("Unknown custom field.")
    if value is None:
        return key, None
    several = field["accepts_multiple_values"]
    if verb in ("add", "remove"):
        if not several:
            raise ValueError("This field holds a single value.")
        one, kept = _custom_value(org, field, value), list(current.get(key) or [])
        kept = [item for item in kept if item != one] + ([one] if verb == "add" else [])
        return key, kept or None
    if verb:
        raise ValueError("Unknown custom field.")
    if several and isinstance(value, list):
        return key, [_custom_value(org, field, item) for item in value] or None
    kept = _custom_value(org, field, value)
    return key, [kept] if several else kept


def _custom_value(org: Close, field: Json, value: Any) -> Any:
    match field["type"]:
        case "number":
            return number(value)
        case "date":
            return day(value)
        case "datetime":
            return moment(value)
        case "choices":
            if value not in (field["choices"] or []):
                raise ValueError("Not one of the choices.")
            return value
        case "user":
            if not org.can_own(value):
                raise ValueError("Unknown user.")
            return value
        case "contact":
            if not org.store.get("contact", value):
                raise ValueError("Unknown contact.")
            return value
        case _:
            return text(value)


def _each(value: Any, check: Callable[[Json], Json]) -> list[Json]:
    if not isinstance(value, list):
        raise ValueError("Expected a list.")
    kept, problems = [], {}
    for index, item in enumerate(value):
        try:
            kept.append(check(item if isinstance(item, dict) else {}))
        except ValueError as error:
            problems[str(index)] = {"errors": [], "field-errors": error.args[0]}
    if problems:
        raise ValueError({"errors": problems})
    return kept


def _email(item: Json) -> Json:
    address = str(item.get("email") or "").strip()
    if not _EMAIL.match(address):
        raise ValueError({"email": "Invalid email address."})
    return {"email": address, "type": _kind(item, "office"), "is_unsubscribed": False}


def _phone(item: Json) -> Json:
    """Numbers are kept in E.164; ten digits without a country are taken as American."""
    given = str(item.get("phone") or "")
    digits = re.sub(r"\D", "", given)
    if len(digits) < 3:
        raise ValueError({"phone": "Invalid phone number."})
    american = not given.strip().startswith("+") and len(digits) == 10
    phone = ("+1" if american else "+" if given.strip().startswith("+") else "") + digits
    country = "US" if phone.startswith("+1") else None
    return {
        "phone": phone,
        "phone_formatted": phone,
        "type": _kind(item, "office"),
        "country": country,
    }


def _address(item: Json) -> Json:
    if unknown := set(item) - {*_ADDRESS, "tz_ids"}:
        raise ValueError(dict.fromkeys(sorted(unknown), "Unknown field."))
    return {name: text(item[name]) if item.get(name) else "" for name in _ADDRESS}


def _kind(item: Json, default: str) -> str:
    return text(item.get("type") or default)


def _iso(value: Any) -> str:
    try:
        datetime.fromisoformat(text(value))
    except ValueError:
        raise ValueError("Invalid date.") from None
    return str(value)
