"""What a Salesforce call-out says: JSON of our own making, sent by a Flow or an Apex class.

Salesforce has no signed webhook of its own. The body is described in docs/salesforce.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from app.sdk import BadPayloadError, Change, Event, Raw, Ref, read_each

#: An object that is read through another, and the field that names it.
READ_THROUGH: Mapping[str, tuple[str, str]] = {
    "OpportunityContactRole": ("Opportunity", "OpportunityId"),
}
CHANGES: Mapping[str, Change] = {
    "create": Change.CHANGED,
    "update": Change.CHANGED,
    "delete": Change.GONE,
    "undelete": Change.CHANGED,
    "merge": Change.GONE,
}
#: Of a record that was merged into another: that other.
MASTER = "MasterRecordId"
#: They move with every change, whatever changed.
SYSTEM = frozenset(
    {
        "Id",
        "CreatedById",
        "CreatedDate",
        "IsDeleted",
        "LastModifiedById",
        "LastModifiedDate",
        "SystemModstamp",
        MASTER,
    }
)
_OBJECT = re.compile(r"[A-Za-z]\w{0,79}")
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?", re.ASCII)
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def parse(body: bytes, account: str, *, message: str | None = None) -> list[Event]:
    """The events of a call-out, in its order. Raises BadPayloadError naming the event.

    ``message`` is the id that its sender gave it, which a repeat has too.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadPayloadError("the body is not JSON") from None
    rows = said.get("events") if isinstance(said, dict) else None
    if not isinstance(rows, list) or not rows:
        raise BadPayloadError("the body has no list of events")

    def read(number: int, row: Any) -> list[Event]:
        if not isinstance(row, dict):
            raise BadPayloadError("it is not an object")
        return [_read(row, account, _key(row, number, message))]

    return read_each("event", rows, read)


def as_callout(
    object: str, id: str, change: str, at: datetime, fields: Mapping[str, Any] | None = None
) -> bytes:
    """A change that was found by looking, in the body of the call-out that did not tell it."""
    row = {"object": object, "id": id, "change": change, "at": at.isoformat()}
    return orjson.dumps({"events": [{**row, "fields": dict(fields)} if fields else row]})


def long_id(value: Any, name: str = "id") -> str:
    """The 18 characters of an id that may be given with 15. Raises BadPayloadError.

    One of 18 stays as it is, whatever its checksum: it is the name under which the org, or a
    stand-in for one, shows the record.
    https://help.salesforce.com/s/articleView?id=000385008&type=1
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadPayloadError(f"its {name} is not an id of Salesforce")
    if len(value) > 15:
        return value
    return value + "".join(
        _SUFFIX[sum(1 << bit for bit, one in enumerate(value[at : at + 5]) if one.isupper())]
        for at in (0, 5, 10)
    )


def moment(value: Any, name: str) -> datetime:
    """A point in time, also in Salesforce's own spelling with +0000. Raises BadPayloadError."""
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise BadPayloadError(f"its {name} names no time zone")
        return found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BadPayloadError(f"it has no readable {name}") from None


def _read(row: Raw, account: str, key: str) -> Event:
    object, change, fields = row.get("object"), row.get("change"), row.get("fields") or {}
    if not isinstance(object, str):
        raise BadPayloadError("it has no object")
    if not isinstance(change, str) or change not in CHANGES:
        raise BadPayloadError(f"its change is none of {', '.join(CHANGES)}")
    if not isinstance(fields, dict):
        raise BadPayloadError("its fields are not an object")
    at, id = moment(row.get("at"), "at"), long_id(row.get("id"))
    return event(object, id, change, key=key, at=at, account=account, fields=fields, data=row)


def event(
    object: str,
    id: str,
    change: str,
    *,
    key: str,
    at: datetime,
    account: str,
    fields: Mapping[str, Any],
    data: Raw,
    by_program: bool = False,
) -> Event:
    """One change of one record, however it was told. Raises BadPayloadError.

    ``fields`` are those that changed; they say when each was edited, never what the record is.
    """
    if not _OBJECT.fullmatch(object):
        raise BadPayloadError("it has no object")
    type, kind = object, CHANGES[change]
    survivor = None
    if object in READ_THROUGH:
        type, name = READ_THROUGH[object]
        id, kind, fields = long_id(fields.get(name), f"fields.{name}"), Change.CHANGED, {}
    elif kind is Change.GONE and fields.get(MASTER) is not None:
        master = long_id(fields[MASTER], f"fields.{MASTER}")
        # Some tell of a merge by the record that lives on: that one is only to be looked at.
        survivor = Ref(account, type, master) if master != id else None
        kind = Change.MERGED if survivor else Change.CHANGED
    return Event(
        key=key,
        type=f"{object}.{change}",
        at=at,
        ref=Ref(account, type, id),
        change=kind,
        survivor=survivor,
        fields={n: v for n, v in fields.items() if n not in SYSTEM} if change == "update" else {},
        by_program=by_program,
        data=data,
    )


def _key(row: Raw, number: int, message: str | None) -> str:
    """What a repeat shares: the id of its message and its place in it, else all that it says."""
    if message:
        return f"salesforce:{hashlib.sha256(message.encode()).hexdigest()[:32]}:{number}"
    told = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    parts = (str(row.get(name))[:80] for name in ("object", "id", "change"))
    return f"salesforce:{':'.join(parts)}:{hashlib.sha256(told).hexdigest()[:16]}"
