"""What Salesforce's Change Data Capture tells: Avro records with a header, as JSON of our own.

https://developer.salesforce.com/docs/atlas.en-us.change_data_capture.meta/change_data_capture/cdc_event_fields_header.htm
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from app.connectors.salesforce.events import READ_THROUGH, event, long_id
from app.sdk import BadPayloadError, Event, Raw

HEADER = "ChangeEventHeader"
#: As whom we write: the mark of our own changes, which skips a read and proves nothing.
CLIENT = "syncline"
OVERFLOW = "GAP_OVERFLOW"
#: A transaction takes ten minutes at most, and its records bear the time at which it began.
TRANSACTION = timedelta(minutes=15)

_CHANGES = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete", "UNDELETE": "undelete"}
_GAP = "GAP_"
#: What of the header is kept; the rest are lists of fields, which are told by name.
_KEPT = (
    "entityName",
    "recordIds",
    "changeType",
    "changeOrigin",
    "transactionKey",
    "sequenceNumber",
    "commitTimestamp",
    "commitNumber",
    "commitUser",
)
_LIST = re.compile(r"(?:(\d+)-)?0x([0-9A-Fa-f]+)", re.ASCII)
_DAY = 86_400_000


def names_nobody(header: Raw, fields: Raw) -> bool:
    """Whether it tells of changes without the id of what is to be looked at."""
    ids, through = header["recordIds"], READ_THROUGH.get(header["entityName"])
    nameless = header["changeType"] == OVERFLOW or not ids or any("*" in id for id in ids)
    return nameless or (through is not None and not fields.get(through[1]))


def since(header: Raw) -> datetime:
    """From when on records may have been changed by the transaction of an event."""
    return _moment(header["commitTimestamp"]) - TRANSACTION


def spelled_out(schema: Any, known: dict[str, Raw] | None = None) -> Any:
    """The same Avro schema with each record written where it is only named."""
    known = {} if known is None else known
    if isinstance(schema, str):
        return known.get(schema.rpartition(".")[2], schema)
    if isinstance(schema, list):
        return [spelled_out(kind, known) for kind in schema]
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return schema
    fields = [{**field, "type": spelled_out(field["type"], known)} for field in schema["fields"]]
    whole = {**schema, "fields": fields}
    known[schema["name"].rpartition(".")[2]] = whole
    return whole


def told(schema: Raw, record: Raw) -> bytes:
    """An event that was decoded by its schema, in the body of a delivery.

    Only the fields that changed are in it. Raises BadPayloadError where lists and schema differ.
    """
    header = record[HEADER]
    changed = _listed(schema, [*header["changedFields"], *header["nulledFields"]])
    fields = {}
    for path, told in changed.items():
        value: Any = record
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping | list):
            fields[_rest_name(path)] = _rest_value(value, told)
    kept = {name: header.get(name) for name in _KEPT}
    _, through = READ_THROUGH.get(header["entityName"], ("", ""))
    if record.get(through):  # it need not have changed
        fields[through] = record[through]
    body = {"change": kept, "fields": fields}
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def parse(body: bytes, account: str) -> list[Event]:
    """One event per record; those that cannot be named have none. Raises BadPayloadError."""
    try:
        said = orjson.loads(body)
        header, fields = said["change"], said["fields"]
        ids, type, object = header["recordIds"], header["changeType"], header["entityName"]
        mark = f"{header['transactionKey']}:{header['sequenceNumber']}"
        at = _moment(header["commitTimestamp"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        raise BadPayloadError("the body is no change event") from None
    if names_nobody(header, fields):
        return []
    change = _CHANGES.get(type.removeprefix(_GAP))
    if change is None:
        raise BadPayloadError(f"its changeType is {type!r}")
    whole = not type.startswith(_GAP)  # a gap event says nothing but that somebody is to look
    return [
        event(
            object,
            long_id(id, "recordId"),
            change,
            key=f"salesforce:change:{mark}:{id}",
            at=at,
            account=account,
            fields=fields if whole else {},
            data=header,
            by_program=f"client={CLIENT}" in (header.get("changeOrigin") or "").split(";"),
        )
        for id in ids
    ]


# --------------------------------------------------------------------------- lists of fields


def _listed(schema: Raw, lists: Sequence[str]) -> dict[tuple[str, ...], Raw]:
    """The fields that bitmaps name, each with its part of the schema.

    `0x65` names top-level fields, `7-0x3` those inside the field at position 7; bit i is field i:
    https://developer.salesforce.com/docs/platform/pub-sub-api/guide/event-deserialization-considerations.html
    """
    found: dict[tuple[str, ...], Raw] = {}
    inside: set[str] = set()
    for text in lists:
        try:
            position, bits = _LIST.fullmatch(text).groups()  # type: ignore[union-attr]
            outer = schema["fields"][int(position)] if position else None
            for field in _set(int(bits, 16), _record(outer) if outer else schema):
                path = (outer["name"], field["name"]) if outer else (field["name"],)
                found[path] = field
        except (AttributeError, LookupError, TypeError):
            raise BadPayloadError(f"the list of fields {text!r} does not fit the schema") from None
        if outer:
            inside.add(outer["name"])
    # A compound field is also named as a whole: what changed in it is told by its parts.
    return {path: field for path, field in found.items() if len(path) > 1 or path[0] not in inside}


def _set(bits: int, record: Raw) -> Iterator[Raw]:
    fields = record["fields"]
    if bits >> len(fields):
        raise LookupError("a bit beyond the last field")
    return (field for number, field in enumerate(fields) if bits >> number & 1)


def _record(field: Raw) -> Raw:
    """The record that a field holds, which may be null."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    found: Raw | None = next((k for k in kinds if isinstance(k, dict) and "fields" in k), None)
    if found is None:
        raise LookupError("it holds no record")
    return found


def _rest_name(path: tuple[str, ...]) -> str:
    """What REST calls it: parts of a name and of an address are fields of their own there.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/compound_fields.htm
    """
    if len(path) == 1 or path[0] == "Name":
        return path[-1]
    outer, inner = path
    if outer.endswith("__c"):
        return f"{outer[:-1]}{inner}__s"
    return f"{outer.removesuffix('Address')}{inner}"


def _rest_value(value: Any, field: Raw) -> Any:
    """As REST shows it: here days and moments are milliseconds."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    if "long" not in kinds or not isinstance(value, int) or isinstance(value, bool):
        return value
    # The schema's own word for it, as `Data:DateOnly:00N…`.
    word = str(field.get("doc", "")).partition(":")[2].partition(":")[0]
    moment = _moment(value)
    if word == "DateOnly" or (word != "DateTime" and value % _DAY == 0):
        return moment.date().isoformat()
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value % 1000:03d}+0000"


def _moment(milliseconds: Any) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
