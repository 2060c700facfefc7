"""Notes, calls, e-mails and meetings: all of a lead's past, together and kind by kind.

https://developer.close.com/api/resources/activities
"""

from collections.abc import Callable
from typing import Any

from sandbox.close.activity_fields import FROM_SOMEONE, both_texts, fixed, referred, required
from sandbox.close.checks import read
from sandbox.close.events import announce, watched
from sandbox.close.ids import record_id, rest_time
from sandbox.close.org import ACTIVITIES, Close, invalid, new_request_id, refuse, routes
from sandbox.close.rows import bounded, create, existing, listed, remove, shown
from sandbox.close.search import utc
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json

LABELS = {type: type.partition(".")[2].capitalize() for type in ACTIVITIES}
_FOR_ONE_LEAD = ("_type", "_type__in", "user_id", "user_id__in", "contact_id", "contact_id__in")
_ORDERS = ("date_created", "-date_created", "activity_at", "-activity_at")


@routes.on("GET", "/activity/")
def list_activities(org: Close, call: Call) -> Answer:
    """Activities of all kinds; by kind, user or contact only within one lead."""
    wanted = [name for name in _FOR_ONE_LEAD if name in call.query]
    if wanted and not call.one("lead_id"):
        raise invalid(dict.fromkeys(wanted, "Can only be used together with lead_id."))
    labels = {*call.many("_type"), *call.many("_type__in")}
    types = [type for type in ACTIVITIES if not labels or LABELS[type] in labels]
    return _listed(org, call, types)


def _add(type: str) -> None:
    """The routes of one kind."""
    path = f"/activity/{type.partition('.')[2]}/"

    @routes.on("GET", path)
    def list_all(org: Close, call: Call) -> Answer:
        return _listed(org, call, [type])

    @routes.on("POST", path)
    def log(org: Close, call: Call) -> Answer:
        """Log what happened. Meetings come from people's calendars, not from the API."""
        if type == "activity.meeting" and not call.actor.is_person:
            raise refuse(405, "Method not allowed")
        values = read(org, type, org.read_json(call), {})
        values = _complete(type, {k: v for k, v in values.items() if v is not None}, call)
        referred(org, values, {})
        date = values.pop("date_created", None)
        record = create(org, call, type, values)
        if date:
            record.created = utc(date)
        request = new_request_id()
        announce(org, call, request, record, "created")
        if type == "activity.email" and values["status"] == "outbox":
            _send(org, call, request, record)
        return shown(org, call, record)

    @routes.on("GET", path + "{id}/")
    def read_one(org: Close, call: Call, id: str) -> Answer:
        return shown(org, call, existing(org, type, id))

    @routes.on("PUT", path + "{id}/")
    def update(org: Close, call: Call, id: str) -> Answer:
        """Change what is sent; what cannot be changed is refused."""
        record = existing(org, type, id)
        values = both_texts(read(org, type, org.read_json(call), record.fields))
        if type == "activity.email" and record.get("status") != "draft":
            raise invalid({"status": "Only drafts can be changed."})
        if not (type == "activity.meeting" and call.actor.is_person):
            fixed(type, values, _settled(record))
        referred(org, values, record.fields)
        values.pop("date_created", None)
        lead_id = values.pop("lead_id", None) or record.get("lead_id")
        request = new_request_id()
        canceled = values.get("status") == "canceled" != record.get("status")
        with watched(org, call, request, record):
            org.abandon(record)
            changes = {**values, "lead_id": lead_id}
            org.store.update(record, changes, at=call.at, by=call.actor)
            org.adopt(record)
            org.store.note(record, {"updated_by": call.actor.user}, at=call.at, by=call.actor)
        if type == "activity.meeting" and canceled:
            announce(org, call, request, record, "canceled")
        if type == "activity.email" and values.get("status") == "outbox":
            _send(org, call, request, record)
        return shown(org, call, record)

    @routes.on("DELETE", path + "{id}/")
    def delete(org: Close, call: Call, id: str) -> Answer:
        remove(org, call, new_request_id(), existing(org, type, id))
        return Answer(200, {})


for _type in ACTIVITIES:
    _add(_type)


def _complete(type: str, values: Json, call: Call) -> Json:
    """A new activity's values with their defaults; 400 if something it needs is missing."""
    required(values, "lead_id")
    values = {"user_id": call.actor.user, **both_texts(values)}
    match type:
        case "activity.call":
            source = "Close.io" if call.actor.is_person else "External"
            return {"status": "completed", "duration": 0, "source": source, **values}
        case "activity.email":
            required(values, "status")
            if values["status"] in FROM_SOMEONE:
                required(values, "sender")
            if values["status"] == "scheduled":
                required(values, "date_scheduled")
            return {"thread_id": record_id("acti"), **values}
        case "activity.meeting":
            required(values, "starts_at", "ends_at")
            status = "completed" if utc(values["ends_at"]) < call.at else "upcoming"
            return {"status": status, **values}
        case _:
            return values


def _settled(record: Record) -> Json:
    """What a change may repeat of fields that it cannot change."""
    return {**record.fields, "date_created": rest_time(record.created)}


def _send(org: Close, call: Call, request: str, email: Record) -> None:
    """What lies in the outbox goes out for real."""
    org.store.note(email, {"status": "sent"}, at=call.at, by=call.actor)
    announce(org, call, request, email, "sent")


def occurred(record: Record) -> str:
    """When an activity happened, as opposed to when it was logged."""
    at = record.get("activity_at") or record.get("starts_at")
    return rest_time(utc(at)) if at else rest_time(record.created)


def _listed(org: Close, call: Call, types: list[str]) -> Answer:
    """A page of the activities a call asks for, the newest first."""
    if unknown := [name for name in call.query if name.startswith("date_updated")]:
        raise invalid(dict.fromkeys(unknown, "Activities cannot be filtered by this field."))
    tests = [_among(call, "id", lambda r: r.id)]
    tests += [_among(call, name, _reader(name)) for name in ("lead_id", "user_id", "contact_id")]
    tests.append(bounded(call, "date_created", lambda r: rest_time(r.created)))
    tests.append(bounded(call, "activity_at", occurred))
    order = call.one("_order_by", "-date_created")
    if order not in _ORDERS:
        raise invalid({"_order_by": "Unknown field."})
    if "activity_at" in order and not call.one("lead_id"):
        raise invalid({"_order_by": "Sorting by activity_at needs lead_id."})
    leads = call.many("lead_id")
    found = [
        record
        for type in types
        for source in ([org.of_lead(type, id) for id in leads] or [org.store.live(type)])
        for record in source
        if all(test(record) for test in tests)
    ]
    by = occurred if "activity_at" in order else lambda record: rest_time(record.created)
    found.sort(
        key=lambda record: (by(record), record.created, record.id), reverse=order.startswith("-")
    )
    return listed(org, call, found)


def _reader(name: str) -> Callable[[Record], Any]:
    return lambda record: record.get(name)


def _among(call: Call, name: str, value: Callable[[Record], Any]) -> Callable[[Record], bool]:
    wanted = {*call.many(name), *call.many(f"{name}__in")}
    return lambda record: not wanted or value(record) in wanted
