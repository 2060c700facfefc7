"""What may be written to a property, and the text that is kept of it.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from sandbox.hubspot.errors import invalid, problem, refuse
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import LIFECYCLE, STAGE_PROPERTIES, ObjectType
from sandbox.wire import Json, RefusedError

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s.,;<>]+\Z")
_STARTS = (
    ("hs_timestamp", "hs_meeting_start_time"),
    ("hs_meeting_start_time", "hs_timestamp"),
)
_EDITOR = '<div style="" dir="auto" data-top-level="true">'
_MONEY = ("amount", "annualrevenue")
_DEFAULTS = {
    "task": {
        "hs_task_status": "NOT_STARTED",
        "hs_task_priority": "NONE",
        "hs_task_type": "TODO",
    },
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WrongValueError(ValueError):
    """A value the property cannot take."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def read(
    portal: Portal, type: ObjectType, given: Any, current: Mapping[str, Any], *, new: bool
) -> Json:
    """The values to keep of a body's `properties`; 400 names every bad one."""
    if not isinstance(given, dict):
        raise invalid("Invalid input JSON: properties must be an object")
    values: Json = {}
    problems = []
    for name, value in given.items():
        try:
            values[name] = _read(portal, type, name, value, current)
        except WrongValueError as wrong:
            problems.append(problem(wrong.code, name, wrong.text))
    if problems:
        rows = [
            {
                "isValid": False,
                "message": wrong["message"],
                "error": wrong["code"],
                "name": wrong["context"]["propertyName"][0],
                "localizedErrorMessage": wrong["message"],
                "portalId": portal.id,
            }
            for wrong in problems
        ]
        raise invalid(f"Property values were not valid: {orjson.dumps(rows).decode()}", *problems)
    values = _staged(portal, type, values, current)
    if new:
        values = {**_DEFAULTS.get(type.name, {}), **values}
    if type.name == "meeting":
        values = _timed(values)
    if new:
        _complete(type, values)
    return {name: value for name, value in values.items() if not new or value is not None}


def claim(
    portal: Portal, type: ObjectType, values: Json, own_id: str | None, taken: set[tuple[str, str]]
) -> None:
    """409 if a unique value belongs to another record, or to another row of the same batch."""
    for name, value in values.items():
        if value is None or not portal.is_unique(type, name):
            continue
        other = portal.by_unique(type, name, value)
        if other and other.id != own_id:
            raise _taken(portal, type, name, value, own_id, other.id)
        key = (name, value.lower())
        if key in taken:
            raise _taken(portal, type, name, value, own_id, "another row of this batch")
        taken.add(key)


def _taken(
    portal: Portal, type: ObjectType, name: str, value: str, own_id: str | None, other: str
) -> RefusedError:
    if (type.name, name) == ("contact", "email"):
        return refuse(409, "CONFLICT", f"Contact already exists. Existing ID: {other}")
    text = (
        f"Cannot set PropertyValueCoordinates{{portalId={portal.id}, objectTypeId={type.id}, "
        f"propertyName={name}, value={value}}} on {own_id or 'new object'}. "
        f"{other} already has that value."
    )
    wrong = problem("CONFLICTING_UNIQUE_VALUE", name, text)
    return refuse(409, "CONFLICT", text, errors=[wrong])


def _read(
    portal: Portal, type: ObjectType, name: str, value: Any, current: Mapping[str, Any]
) -> str | None:
    definition = portal.properties[type.name].get(name)
    if definition is None:
        raise WrongValueError("PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
    if definition["modificationMetadata"]["readOnlyValue"]:
        raise WrongValueError("READ_ONLY_VALUE", f'"{name}" is a read only property')
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, dict | list):
        raise WrongValueError("INVALID_STRING", f'"{name}" takes a single value')
    text = "" if value is None else portal.options.spaced(str(value).strip())
    if not text:
        return None
    if name == "lifecyclestage" and _is_backward(text, current.get(name)):
        # A lifecycle stage only moves forward: HubSpot answers 200 and keeps what it has.
        kept: str = current[name]
        return kept
    return _typed(portal, type, definition, text, current)


def _typed(
    portal: Portal, type: ObjectType, definition: Json, text: str, current: Mapping[str, Any]
) -> str | None:
    name = definition["name"]
    match definition["type"]:
        case "number":
            kept = _number(name, text)
            if name not in _MONEY or not portal.options.amounts:
                return kept
            return f"{portal.options.rounded(Decimal(kept)).normalize():f}"
        case "bool":
            if text.lower() not in ("true", "false"):
                raise WrongValueError("INVALID_BOOLEAN", f'"{text}" is not a boolean')
            return text.lower()
        case "date":
            return moment(text, whole_days=True)[:10]
        case "datetime":
            return moment(text)
        case "enumeration":
            return _option(portal, definition, text, current.get(name))
    if (type.name, name) == ("contact", "email"):
        if not _EMAIL.match(text):
            raise WrongValueError("INVALID_EMAIL", f"Email address {text} is invalid")
        if text.lower() in portal.blocked:
            text = f"Email address {text} is on the blocklist of deleted contacts"
            raise WrongValueError("INVALID_EMAIL", text)
        return text.lower()
    if name == "hs_email_headers" and not _is_object(text):
        raise WrongValueError("INVALID_JSON", "hs_email_headers must be JSON text")
    if (type.name, name) == ("company", "domain"):
        return re.sub(r"\A(https?://)?(www\.)?", "", text.lower()).partition("/")[0] or None
    if definition["fieldType"] == "html" and portal.options.rich_texts:
        return text if text.startswith(_EDITOR) else f"{_EDITOR}{text}</div>"
    if definition["fieldType"] == "phonenumber" and portal.options.phones:
        return formatted(text)
    if len(text) > 65_536:
        raise WrongValueError("PROPERTY_VALUE_TOO_LONG", f'"{name}" takes 65,536 characters')
    return text


def formatted(phone: str) -> str:
    """A phone number as people write it: `(415) 555-0100`, `+47 22 33 44 55`."""
    digits = "".join(c for c in phone if c.isdigit())
    if phone.startswith("+1") and len(digits) == 11:
        return f"({digits[1:4]}) {digits[4:7]}-{digits[7:]}"
    if not phone.startswith("+"):
        return phone
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    return "+" + " ".join(pairs)


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except ValueError:
        return False


def moment(text: str, *, whole_days: bool = False) -> str:
    """A date or time, from ISO text or epoch milliseconds, as ISO text in UTC."""
    try:
        if re.fullmatch(r"-?\d{5,}", text):
            at = _EPOCH + timedelta(milliseconds=int(text))
        else:
            at = datetime.fromisoformat(text)
            at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WrongValueError("INVALID_DATE", f"{text} was not a valid date") from None
    if whole_days and (at.hour, at.minute, at.second, at.microsecond) != (0, 0, 0, 0):
        raise WrongValueError("INVALID_DATE", f"{text} is at another time than midnight UTC")
    return iso(at)


def _number(name: str, text: str) -> str:
    try:
        if not Decimal(text).is_finite():
            raise InvalidOperation
    except InvalidOperation:
        code = "INVALID_INTEGER" if "number" in name else "INVALID_NUMBER"
        raise WrongValueError(code, f"{text} was not a valid number") from None
    return text


def _option(portal: Portal, definition: Json, text: str, current: str | None) -> str:
    name = definition["name"]
    if name == "hubspot_owner_id":
        # An owner who left stays with what he owns and gets nothing new.
        if text != current and text not in {o["id"] for o in portal.owners if not o["archived"]}:
            raise WrongValueError("INVALID_OWNER_ID", f"{text} is not the id of an owner")
        return text
    options = [option["value"] for option in definition["options"]]
    if definition["fieldType"] != "checkbox":
        if options and text not in options:
            raise _not_an_option(text, options)
        return text
    # Several values: "a;b" replaces, a leading ";" appends.
    values = [value for value in text.split(";") if value]
    for value in values:
        if options and value not in options:
            raise _not_an_option(value, options)
    kept = current.split(";") if text.startswith(";") and current else []
    return ";".join(dict.fromkeys(kept + values))


def _not_an_option(value: str, options: Sequence[str]) -> WrongValueError:
    text = f"{value} was not one of the allowed options: [{', '.join(options)}]"
    return WrongValueError("INVALID_OPTION", text)


def _is_backward(wanted: str, current: str | None) -> bool:
    if current not in LIFECYCLE or wanted not in LIFECYCLE:
        return False
    return LIFECYCLE.index(wanted) < LIFECYCLE.index(current)


def _staged(portal: Portal, type: ObjectType, values: Json, current: Mapping[str, Any]) -> Json:
    """Pipeline and stage belong together; a stage alone settles the pipeline."""
    if type.name not in STAGE_PROPERTIES:
        return values
    pipeline_name, stage_name = STAGE_PROPERTIES[type.name]
    pipelines = {p["id"]: p for p in portal.pipelines[type.name]}
    pipeline = values.get(pipeline_name)
    if pipeline and pipeline not in pipelines:
        text = f'"{pipeline}" was not one of the allowed options'
        raise invalid(text, problem("INVALID_OPTION", pipeline_name, text))
    stage = values.get(stage_name)
    if not stage:
        return values
    found = portal.stage(type.name, stage)
    wanted = pipeline or current.get(pipeline_name) or (found[0]["id"] if found else None)
    if not found or stage not in {s["id"] for s in pipelines[wanted]["stages"]}:
        text = f'"{stage}" is not a stage of pipeline "{wanted}"'
        raise invalid(text, problem("INVALID_OPTION", stage_name, text))
    return {**values, pipeline_name: wanted}


def _timed(values: Json) -> Json:
    """A meeting's start and its timestamp are the same moment."""
    for one, other in _STARTS:
        if one in values and other not in values:
            return {**values, other: values[one]}
    return values


def _complete(type: ObjectType, values: Json) -> None:
    given = {name for name, value in values.items() if value is not None}
    lacking = [name for name in type.needs_all if name not in given]
    if type.needs_one_of and not given & set(type.needs_one_of):
        lacking.append(" or ".join(type.needs_one_of))
    if lacking:
        text = f"Error creating {type.name.upper()}. Some required properties were not set."
        wrong = [problem("REQUIRED_FIELD", name, f'"{name}" is required') for name in lacking]
        raise invalid(text, *wrong)
