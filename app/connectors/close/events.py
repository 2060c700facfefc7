"""What Close's webhooks say.

https://developer.close.com/api/resources/events
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.connectors.close.shapes import COMPANY, observed, time_of, type_of
from app.sdk import BadPayloadError, Change, Edit, Event, Raw, Ref


def parse(body: bytes, account: str) -> Event:
    """The one event of a delivery. Raises BadPayloadError with what is missing."""
    given = _event(body)
    try:
        return _read(given, account)
    except (AttributeError, TypeError, ValueError) as error:
        raise BadPayloadError(f"the event has an unknown shape: {error}") from error


def as_webhook(row: Raw) -> bytes:
    """A row of the event log as its webhook brings it."""
    return orjson.dumps({"event": row})


def _read(given: dict[str, Any], account: str) -> Event:
    type = f"{given['object_type']}.{given['action']}"
    stamp = given.get("date_updated") or given.get("date_created")
    at = time_of(stamp)
    if at is None:
        raise BadPayloadError("the event has no readable date_updated or date_created")
    kept, id = type_of(given["object_type"]), given.get("object_id")
    if kept and not (isinstance(id, str) and id):
        raise BadPayloadError("the event has no object_id")
    source, survivor = merge_ends(given)
    event = Event(
        # An event that grew keeps its id and gets another date_updated.
        key=f"close:{given['id']}:{stamp}",
        type=type,
        at=at,
        ref=Ref(account, kept, str(id)) if kept else None,
        tenant=given.get("organization_id"),
        by_program=_by_program(given),
        data={**given, "source_id": source, "destination_id": survivor},
    )
    # A lead that was merged away also reports its own deletion, in any order.
    if type == "lead.merged" or (type == "lead.deleted" and source == id and survivor):
        return _merge(event, source, survivor)
    if given["action"] == "deleted":
        return replace(event, change=Change.GONE)
    return _with_snapshot(event, given)


def _by_program(event: Raw) -> bool:
    """People's edits carry neither: https://developer.close.com/api/resources/events"""
    return bool(event.get("api_key_id") or event.get("oauth_client_id"))


def _event(body: bytes) -> dict[str, Any]:
    """The event of a delivery, with the parts that everything else needs."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadPayloadError("the body is not JSON") from None
    event = data.get("event") if isinstance(data, dict) else None
    if not isinstance(event, dict):
        raise BadPayloadError("the body has no event")
    parts = ("id", "object_type", "action")
    missing = [name for name in parts if not isinstance(event.get(name), str) or not event[name]]
    if not (event.get("date_updated") or event.get("date_created")):
        missing.append("date_updated")
    if missing:
        raise BadPayloadError(f"the event has no {', '.join(missing)}")
    return event


def merge_ends(event: Raw) -> tuple[str | None, str | None]:
    meta = event.get("meta")
    if not isinstance(meta, dict):
        return None, None
    ends = (meta.get("merge_source_lead_id"), meta.get("merge_destination_lead_id"))
    source, survivor = (end if isinstance(end, str) and end else None for end in ends)
    return source, survivor


def _merge(event: Event, source: str | None, survivor: str | None) -> Event:
    if event.ref is None or not source or not survivor:
        raise BadPayloadError(
            "the merge does not name meta.merge_source_lead_id and merge_destination_lead_id"
        )
    account = event.ref.account
    return replace(
        event,
        ref=Ref(account, COMPANY, source),
        survivor=Ref(account, COMPANY, survivor),
        change=Change.MERGED,
    )


def _with_snapshot(event: Event, given: Raw) -> Event:
    data, changed = given.get("data"), given.get("changed_fields") or ()
    if event.ref is None or not isinstance(data, dict):
        return event
    names = [name for name in changed if isinstance(name, str)]
    seen = observed(event.ref.account, event.ref.type, {**data, "id": event.ref.id})
    # Close sends the whole object; one without its time is not the whole.
    seen = replace(
        seen,
        version=seen.version or event.at,
        partial=seen.version is None,
        field_times=dict.fromkeys(names, event.at),
    )
    before = given.get("previous_data")
    return replace(
        event,
        snapshot=seen,
        fields={name: data.get(name) for name in names},
        before={n: before[n] for n in names if n in before} if isinstance(before, dict) else {},
    )


def edits(log: Sequence[Raw], paths: Collection[str]) -> dict[str, tuple[Edit, ...]]:
    """What the events of one object say of its fields, newest first.

    https://developer.close.com/api/resources/events
    """
    found: dict[str, list[Edit]] = {}
    for event in log:
        data = event.get("data") or {}
        names = data.keys() if event["action"] == "created" else event.get("changed_fields") or ()
        for name in set(names).intersection(paths):
            if (at := time_of(event.get("date_updated"))) is not None:
                found.setdefault(name, []).append(Edit(data.get(name), at, _by_program(event)))
    return {name: tuple(listed) for name, listed in found.items()}
