"""Advanced filtering: `POST /data/search/` over leads or contacts.

https://developer.close.com/api/resources/advanced-filtering
"""

import operator
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.close.ids import rest_time, short_id
from sandbox.close.org import Close, invalid, routes
from sandbox.close.shapes import shape
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json

Read = Callable[[Any], Any]

PAGE = 200
DEEPEST = 10_000
CURSOR_LIFE = timedelta(seconds=30)

_PARTS = {"contact_email": "emails", "contact_phone": "phones", "contact_url": "urls"}
_FIELDS = {
    "lead": {"id", "name", "display_name", "description", "url", "status_id", "source"},
    "contact": {"id", "name", "title", "lead_id"},
    "opportunity": {
        *("id", "lead_id", "contact_id", "user_id", "status_id", "note", "value", "confidence"),
        *("value_period", "date_won"),
    },
    "contact_email": {"email", "type"},
    "contact_phone": {"phone", "type"},
    "contact_url": {"url", "type"},
    "address": {"label", "address_1", "address_2", "city", "state", "zipcode", "country"},
}
_DATES = {"date_created", "date_updated"}
_RELATED = {
    "lead": {"contact", "opportunity", "address"},
    "contact": {"lead", *_PARTS},
    "opportunity": {"lead"},
}


def utc(text: str) -> datetime:
    """A time from ISO text; without an offset it is UTC. 400 if it is no time."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise invalid({}, f"Invalid date {text!r}.") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


@routes.on("POST", "/data/search/")
def search(org: Close, call: Call) -> Answer:
    """Pages of one run: a cursor lives 30 seconds, a run ends at 10,000 objects."""
    body = org.read_json(call)
    limit = body.get("_limit", 100)
    if not isinstance(limit, int) or not 0 <= limit <= PAGE:
        raise invalid({"_limit": f"Must be between 0 and {PAGE}."})
    if body.get("cursor"):
        run = org.cursors.pop(body["cursor"], None)
        if run is None or run["expires"] < call.at:
            raise invalid({"cursor": "The cursor is invalid or has expired."})
    else:
        run = _run(org, call, body)
    page, rest = run["records"][:limit], run["records"][limit:]
    answer: Json = {
        "data": [_row(org, record, body.get("_fields") or {}) for record in page],
        "cursor": None,
    }
    if rest:
        answer["cursor"] = short_id("cursor")
        org.cursors = {k: v for k, v in org.cursors.items() if v["expires"] >= call.at}
        org.cursors[answer["cursor"]] = {**run, "records": rest, "expires": call.at + CURSOR_LIFE}
    if body.get("include_counts"):
        answer["count"] = {"limited": run["limited"], "total": run["total"]}
    return Answer(200, answer)


def _run(org: Close, call: Call, body: Json) -> Json:
    query = body.get("query")
    if not isinstance(query, dict):
        raise invalid({"query": "This field is required."})
    type = _object_type(query)
    at = call.at - timedelta(seconds=org.settings.search_lag)
    seen = (record.as_of(at) for record in org.store.all(type))
    search = _Search(org, at, call.actor.user)
    found = [record for record in seen if record and search.matches(type, record, query)]
    for order in reversed(body.get("sort") or [_BY_CREATION]):
        found = _sorted(org, type, found, order)
    total = len(found)
    limited = min(total, DEEPEST, body.get("results_limit") or DEEPEST)
    return {"records": found[:limited], "limited": limited, "total": total}


_BY_CREATION = {
    "direction": "asc",
    "field": {"type": "regular_field", "field_name": "date_created"},
}


def _sorted(org: Close, type: str, found: list[Record], order: Json) -> list[Record]:
    field = order.get("field") or {}
    name = field.get("field_name")
    if field.get("type") != "regular_field" or name not in _FIELDS[type] | _DATES:
        raise invalid({"sort": f"Cannot sort by {name!r}."})
    if order.get("direction") not in ("asc", "desc"):
        raise invalid({"sort": "direction must be asc or desc."})
    return sorted(
        found,
        key=lambda record: (_value(record, name) or "", record.id),
        reverse=order["direction"] == "desc",
    )


def _object_type(query: Json) -> str:
    """The type that is searched: leads or contacts, nothing else."""
    if query.get("type") == "object_type":
        if query.get("object_type") not in ("lead", "contact"):
            raise invalid({}, "Only leads and contacts can be searched.")
        return str(query["object_type"])
    for part in query.get("queries") or []:
        if isinstance(part, dict) and part.get("type") in ("object_type", "and", "or"):
            return _object_type(part)
    raise invalid({}, "The query must contain an object_type.")


def _row(org: Close, record: Record, fields: Json) -> Json:
    """A result: the id, and the fields that were asked for of its type."""
    row: Json = {"__object_type": record.type, "id": record.id}
    wanted = fields.get(record.type)
    if not wanted:
        return row
    body = shape(org, record)
    every = "custom" in wanted
    chosen = {
        name: value
        for name, value in body.items()
        if name in wanted or (every and name.startswith("custom."))
    }
    return row | chosen


class _Search:
    """The grammar, evaluated record by record against the index's view of the past."""

    def __init__(self, org: Close, at: datetime, user: str | None) -> None:
        self.org, self.at, self.user = org, at, user

    def matches(self, type: str, item: Any, query: Json) -> bool:
        found = self._matches(type, item, query)
        return not found if query.get("negate") else found

    def _matches(self, type: str, item: Any, query: Json) -> bool:
        match query.get("type"):
            case "and":
                return all(self.matches(type, item, part) for part in query["queries"])
            case "or":
                return any(self.matches(type, item, part) for part in query["queries"])
            case "object_type":
                return bool(query["object_type"] == type)
            case "id":
                return bool(_value(item, "id") == query.get("value"))
            case "text":
                return self._anywhere(item, query)
            case "field_condition":
                return self._condition(type, item, query["field"], query["condition"])
            case "has_related":
                return self._related(type, item, query)
            case kind:
                raise invalid({}, f"Unknown query type {kind!r}.")

    def _related(self, type: str, item: Any, query: Json) -> bool:
        related = str(query.get("related_object_type"))
        if query.get("this_object_type") != type or related not in _RELATED.get(type, ()):
            raise invalid({}, f"{type} has no related {related!r}.")
        inner = query.get("related_query") or {"type": "object_type", "object_type": related}
        return any(self.matches(related, other, inner) for other in self._relatives(item, related))

    def _relatives(self, item: Record, related: str) -> Iterable[Any]:
        if related in _PARTS:
            return item.get(_PARTS[related]) or []
        if related == "address":
            return item.get("addresses") or []
        if related == "lead":
            lead = self.org.store.get("lead", item.get("lead_id") or "")
            return [lead] if lead else []
        children = self.org.of_lead(related, item.id)
        return [child for record in children if (child := record.as_of(self.at))]

    def _anywhere(self, item: Any, query: Json) -> bool:
        fields = item.fields if isinstance(item, Record) else item
        text = " ".join(_strings(fields.values()))
        return _has_words(text, str(query.get("value", "")), query.get("mode") or "full_words")

    def _condition(self, type: str, item: Any, field: Json, condition: Json) -> bool:
        if field.get("type") == "custom_field":
            id = field.get("custom_field_id")
            known = {f["id"] for fields in self.org.custom_fields.values() for f in fields}
            if id not in known:
                raise invalid({}, f"Unknown custom field {id!r}.")
            value = item.get(f"custom.{id}")
        else:
            name = field.get("field_name")
            if field.get("object_type") != type or name not in _FIELDS[type] | _DATES:
                raise invalid({}, f"{field.get('object_type')} has no field {name!r}.")
            value = _value(item, str(name))
            if name == "display_name":
                value = _value(item, "name")
        return self._holds(value, condition)

    def _holds(self, value: Any, condition: Json) -> bool:
        values = value if isinstance(value, list) else [value]
        match condition.get("type"):
            case "text":
                mode, wanted = condition.get("mode"), str(condition.get("value", ""))
                if mode not in ("full_words", "phrase"):
                    raise invalid({}, "mode must be full_words or phrase.")
                return any(v is not None and _has_words(str(v), wanted, mode) for v in values)
            case "term":
                return any(v in condition.get("values", ()) for v in values)
            case "reference":
                return any(v in condition.get("object_ids", ()) for v in values)
            case "current_user":
                return self.user in values
            case "boolean":
                return bool(value is condition.get("value"))
            case "exists":
                return value not in (None, "", [])
            case "number_range":
                return _within(value, condition, ("gt", "gte", "lt", "lte"), lambda bound: bound)
            case "moment_range":
                verbs = ("after", "on_or_after", "before", "on_or_before")
                return _within(value, condition, verbs, lambda bound: rest_time(_fixed(bound)))
            case kind:
                raise invalid({}, f"Unknown condition type {kind!r}.")


def _fixed(bound: Json) -> datetime:
    if bound.get("type") != "fixed_utc":
        raise invalid({}, "Only fixed_utc moments are understood here.")
    return utc(str(bound.get("value")))


def _within(value: Any, condition: Json, verbs: tuple[str, ...], read: Read) -> bool:
    """Whether a value lies within the bounds given, named by verb in the order > >= < <=."""
    if value is None:
        return False
    tests = (operator.gt, operator.ge, operator.lt, operator.le)
    given = zip(verbs, tests, strict=True)
    return all(
        test(value, read(condition[verb]))
        for verb, test in given
        if condition.get(verb) is not None
    )


def _value(item: Any, name: str) -> Any:
    """A field of a record, or of one of its e-mails, phones, URLs, addresses."""
    if not isinstance(item, Record):
        return item.get(name)
    match name:
        case "id":
            return item.id
        case "date_created":
            return rest_time(item.created)
        case "date_updated":
            return rest_time(item.updated)
        case "display_name":
            return item.get("name")
        case _:
            return item.get(name)


def _has_words(text: str, wanted: str, mode: str) -> bool:
    """Matching is by words: an address also finds longer ones that contain its words."""
    have, want = _words(text), _words(wanted)
    if mode == "full_words":
        return bool(want) and set(want) <= set(have)
    size = len(want)
    return bool(want) and any(have[i : i + size] == want for i in range(len(have) - size + 1))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _strings(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _strings(value.values())
        elif isinstance(value, list):
            yield from _strings(value)
