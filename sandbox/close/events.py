"""The event log, and the webhooks that follow from it.

https://developer.close.com/api/resources/events and https://developer.close.com/api/resources/webhooks
"""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson

from sandbox.close import defaults
from sandbox.close.filters import passes
from sandbox.close.ids import event_time, short_id
from sandbox.close.org import Close, invalid, refuse, routes
from sandbox.close.shapes import snapshot
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json, Post, now

PAGE = 50
KEPT = timedelta(days=30)
_SILENT = {"date_updated", "updated_by", "updated_by_name"}
_FILTERS = ("object_type", "object_id", "action", "lead_id", "user_id", "request_id")
# The combinations the documentation allows, each with or without date_updated.
_COMBINATIONS = [
    set(names.split())
    for names in (
        "",
        "object_type object_id",
        "object_type action",
        "object_id action",
        "lead_id",
        "lead_id object_type",
        "lead_id object_type action",
        "lead_id user_id",
        "lead_id user_id object_type",
        "lead_id user_id object_type action",
        "user_id",
        "user_id action",
        "user_id object_id",
        "user_id object_id action",
        "user_id object_type",
        "user_id object_type action",
        "request_id",
    )
]


def sign(key: str, timestamp: str, body: bytes) -> str:
    """`close-sig-hash`: the hex key is decoded, and nothing stands between time and body."""
    return hmac.new(bytes.fromhex(key), timestamp.encode() + body, hashlib.sha256).hexdigest()


@contextmanager
def watched(org: Close, call: Call, request: str, *records: Record) -> Iterator[None]:
    """Announce an update for each record that looks different afterwards."""
    before = {record.id: snapshot(org, record) for record in records}
    yield
    for record in records:
        old, new = before[record.id], snapshot(org, record)
        changed = [name for name in {**new, **old} if old.get(name) != new.get(name)]
        if changed := [name for name in changed if name not in _SILENT]:
            record.updated = call.at
            previous = {name: old.get(name) for name in changed}
            _updated(org, call, request, record, changed, previous)


def announce(
    org: Close,
    call: Call,
    request: str,
    record: Record,
    action: str,
    *,
    previous: Json | None = None,
    meta: Json | None = None,
) -> None:
    """Log an event about a record and send it to who subscribed."""
    event = _event(org, call, request, record, action, meta or {})
    event["previous_data"] = previous or {}
    if action == "deleted":
        event["data"] = None
    _log(org, event)
    _dispatch(org, event, after=0.0)
    if action == "created":
        org.follow(call, record, list(record.fields))


def _updated(
    org: Close, call: Call, request: str, record: Record, changed: list[str], previous: Json
) -> None:
    """Log an update. Shortly after another by the same caller it becomes part of that one."""
    org.follow(call, record, changed)
    fresh = _event(org, call, request, record, "updated", {})
    since = event_time(call.at - timedelta(seconds=org.settings.consolidation))
    for event in reversed(org.events.values()):
        if event["date_updated"] < since:
            break
        if _continues(event, fresh) and event["date_created"] >= since:
            event["changed_fields"] = list(dict.fromkeys(event["changed_fields"] + changed))
            event["previous_data"] = {**previous, **event["previous_data"]}
            event["date_updated"], event["data"] = fresh["date_updated"], fresh["data"]
            del org.events[event["id"]]
            _log(org, event)
            return
    fresh["changed_fields"], fresh["previous_data"] = changed, previous
    _log(org, fresh)
    _dispatch(org, fresh, after=org.settings.consolidation)


def _continues(event: Json, fresh: Json) -> bool:
    same = ("object_id", "action", "user_id", "api_key_id", "oauth_client_id")
    return all(event[name] == fresh[name] for name in same)


def _event(org: Close, call: Call, request: str, record: Record, action: str, meta: Json) -> Json:
    actor = call.actor
    return {
        "id": short_id("ev"),
        "date_created": event_time(call.at),
        "date_updated": event_time(call.at),
        "organization_id": defaults.ORGANIZATION,
        "user_id": actor.user,
        "request_id": request,
        "api_key_id": actor.source_id if actor.source == "api_key" else None,
        "oauth_client_id": actor.source_id if actor.source == "oauth" else None,
        "oauth_scope": "all.full_access offline_access" if actor.source == "oauth" else None,
        "object_type": record.type,
        "object_id": record.id,
        "lead_id": record.id if record.type == "lead" else record.get("lead_id"),
        "action": action,
        "changed_fields": [],
        "meta": {"request_method": call.method, "request_path": f"/api/v1{call.path}", **meta},
        "data": snapshot(org, record),
        "previous_data": {},
    }


def _log(org: Close, event: Json) -> None:
    org.event_count += 1
    event["_order"] = org.event_count
    org.events[event["id"]] = event
    oldest = event_time(now() - KEPT)
    id, old = next(iter(org.events.items()))
    if old["date_updated"] < oldest:
        del org.events[id]


def _dispatch(org: Close, event: Json, *, after: float) -> None:
    for subscription in org.subscriptions.values():
        if subscription["status"] == "active" and _wants(subscription, event):
            org.sender.put(subscription["id"], event, after=after)


def _wants(subscription: Json, event: Json) -> bool:
    return any(
        wanted["object_type"] == event["object_type"]
        and wanted["action"] == event["action"]
        and passes(wanted.get("extra_filter"), event)
        for wanted in subscription["events"]
    )


def post(org: Close, subscription_id: str, event: Json) -> Post | None:
    """The request for one event, signed now with the subscription's key."""
    subscription = org.subscriptions.get(subscription_id)
    if not subscription or subscription["status"] != "active":
        return None
    body = orjson.dumps({"subscription_id": subscription_id, "event": _public(event)})
    timestamp = str(int(now().timestamp()))
    headers = {
        "content-type": "application/json",
        "user-agent": "Close Webhooks 2.0",
        "close-sig-hash": sign(subscription["signature_key"], timestamp, body),
        "close-sig-timestamp": timestamp,
    }
    return Post(subscription["url"], body, headers)


def _public(event: Json) -> Json:
    return {name: value for name, value in event.items() if name != "_order"}


@routes.on("GET", "/event/")
def list_events(org: Close, call: Call) -> Answer:
    """The log, newest first, with cursors to older and newer events.

    https://developer.close.com/api/resources/events/list
    """
    given = {name: call.one(name) for name in _FILTERS if name in call.query}
    if set(given) not in _COMBINATIONS:
        raise invalid({}, f"Events cannot be filtered by {', '.join(sorted(given))} together.")
    if "_skip" in call.query:
        raise invalid({"_skip": "Not supported; use _cursor."})
    limit = _limit(call)
    bounds = {name: call.one(name) for name in call.query if name.startswith("date_updated")}
    cursor = call.one("_cursor")
    if cursor and bounds:
        raise invalid({"_cursor": "date_updated cannot be combined with _cursor."})
    compare = [(name.partition("__")[2], _naive(name, text)) for name, text in bounds.items()]
    direction, _, order = cursor.partition("_")
    if cursor and (direction not in ("older", "newer") or not order.isdigit()):
        raise invalid({"_cursor": "Invalid cursor."})
    found = []
    for event in reversed(org.events.values()):
        if direction == "newer" and event["_order"] <= int(order):
            break
        if direction == "older" and event["_order"] >= int(order):
            continue
        if all(event.get(name) == value for name, value in given.items()) and all(
            _holds(event["date_updated"], verb, value) for verb, value in compare
        ):
            found.append(event)
        if len(found) > limit and direction != "newer":
            break
    more = len(found) > limit
    page = found[-limit:] if direction == "newer" else found[:limit]
    older = direction == "newer" or more
    newer = more if direction == "newer" else direction == "older"
    body = {
        "data": [_public(event) for event in page],
        "cursor_next": f"older_{page[-1]['_order']}" if page and older else None,
        "cursor_previous": f"newer_{page[0]['_order']}" if page and newer else None,
    }
    return Answer(200, body)


@routes.on("GET", "/event/{id}/")
def read_event(org: Close, call: Call, id: str) -> Answer:
    if id not in org.events:
        raise refuse(404, "Not found")
    return Answer(200, _public(org.events[id]))


def _limit(call: Call) -> int:
    text = call.one("_limit", str(PAGE))
    if not text.isdigit() or not 1 <= int(text) <= PAGE:
        raise invalid({"_limit": f"Must be between 1 and {PAGE}."})
    return int(text)


def _naive(name: str, text: str) -> str:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise invalid({name: "Invalid date."}) from None
    return event_time((at - (at.utcoffset() or timedelta(0))).replace(tzinfo=None))


def _holds(value: Any, verb: str, bound: Any) -> bool:
    match verb:
        case "gte":
            return bool(value >= bound)
        case "gt":
            return bool(value > bound)
        case "lte":
            return bool(value <= bound)
        case "lt":
            return bool(value < bound)
        case _:
            return bool(value == bound)
