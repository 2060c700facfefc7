"""Rows of any type: made, found, shown, moved, removed; and how lists are paged and bounded."""

from collections.abc import Callable
from typing import Any

from sandbox.close.events import announce
from sandbox.close.ids import record_id, rest_time
from sandbox.close.org import ACTIVITIES, TASKS, Close, invalid, refuse
from sandbox.close.search import utc
from sandbox.close.shapes import shape, snapshot
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json

PAGE = 100
DEEPEST_SKIP = 100_000
PREFIX = {
    "lead": "lead",
    "contact": "cont",
    "opportunity": "oppo",
    "lead_merge": "acti",
    **dict.fromkeys(ACTIVITIES, "acti"),
    **dict.fromkeys(TASKS, "task"),
}


def shown(org: Close, call: Call, record: Record) -> Answer:
    return Answer(200, narrowed(shape(org, record), call.many("_fields")))


def listed(org: Close, call: Call, found: list[Record]) -> Answer:
    """A page by offset: `{"data": [...], "has_more": ...}`.

    https://developer.close.com/api/overview/pagination
    """
    limit, skip = page(call)
    wanted = call.many("_fields")
    data = [narrowed(shape(org, record), wanted) for record in found[skip : skip + limit]]
    return Answer(200, {"data": data, "has_more": len(found) > skip + limit})


def narrowed(body: Json, wanted: list[str]) -> Json:
    if not wanted:
        return body
    # `_fields=custom` asks for every custom field.
    every = "custom" in wanted
    return {
        name: value
        for name, value in body.items()
        if name in wanted or (every and name.startswith("custom."))
    }


def existing(org: Close, type: str, id: str) -> Record:
    record = org.store.get(type, id)
    if record is None:
        raise refuse(404, "Not found")
    return record


def create(org: Close, call: Call, type: str, values: Json) -> Record:
    fields = {"created_by": call.actor.user, "updated_by": call.actor.user}
    fields |= {name: value for name, value in values.items() if value is not None}
    id = record_id(PREFIX[type])
    record = org.store.create(type, id, fields, at=call.at, by=call.actor)
    org.adopt(record)
    return record


def move(org: Close, call: Call, record: Record, lead_id: str) -> None:
    org.abandon(record)
    org.store.update(record, {"lead_id": lead_id}, at=call.at, by=call.actor)
    org.adopt(record)


def remove(org: Close, call: Call, request: str, record: Record) -> None:
    previous = snapshot(org, record)
    org.abandon(record)
    org.store.remove(record, at=call.at)
    announce(org, call, request, record, "deleted", previous=previous)


def page(call: Call) -> tuple[int, int]:
    """`_limit` and `_skip`; 400 beyond their maxima."""
    limit, skip = call.one("_limit", str(PAGE)), call.one("_skip", "0")
    if not limit.isdigit() or not 1 <= int(limit) <= PAGE:
        raise invalid({"_limit": f"Must be between 1 and {PAGE}."})
    if not skip.isdigit() or int(skip) > DEEPEST_SKIP:
        raise invalid({"_skip": f"Must be between 0 and {DEEPEST_SKIP}."})
    return int(limit), int(skip)


def bounded(call: Call, name: str, values: Callable[[Record], Any]) -> Callable[[Record], bool]:
    """The bounds a call sets to a date: `name__gte` and so on."""
    bounds = [
        (verb, comparable(call.one(given)))
        for given in call.query
        for field, _, verb in [given.partition("__")]
        if field == name and verb in ("", "gte", "gt", "lte", "lt")
    ]
    return lambda record: all(holds(values(record), verb, bound) for verb, bound in bounds)


def comparable(text: str) -> str:
    """A bound in the form that sorts like the values: dates stay dates, times become UTC."""
    return text if len(text) == 10 else rest_time(utc(text))


def holds(value: Any, verb: str, bound: str) -> bool:
    if value is None:
        return False
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
            return str(value).startswith(bound)
