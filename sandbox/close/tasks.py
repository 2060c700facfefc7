"""Tasks: what somebody means to do about a lead.

https://developer.close.com/api/resources/tasks
"""

from collections.abc import Callable
from datetime import timedelta

from sandbox.close.activity_fields import fixed, referred, required
from sandbox.close.checks import read
from sandbox.close.events import announce, watched
from sandbox.close.ids import rest_time
from sandbox.close.org import TASKS, Close, invalid, new_request_id, refuse, routes
from sandbox.close.rows import bounded, create, listed, remove, shown
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json

_BULK = ("assigned_to", "date", "is_complete")
_ORDERS = ("date", "date_created", "date_updated")
_VIEWS = ("inbox", "future", "archive")


@routes.on("GET", "/task/")
def list_tasks(org: Close, call: Call) -> Answer:
    """A page of tasks; without `_type` only those of the type `lead`."""
    order = call.one("_order_by", "date_created")
    field = order.removeprefix("-")
    if field not in _ORDERS:
        raise invalid({"_order_by": "Unknown field."})
    found = _wanted(org, call)
    found.sort(key=lambda task: (_moment(task, field), task.id), reverse=order.startswith("-"))
    return listed(org, call, found)


@routes.on("POST", "/task/")
def create_task(org: Close, call: Call) -> Answer:
    """A task for somebody, by default for the caller. Other types come from Close itself."""
    body = org.read_json(call)
    required(body, "_type", "lead_id")
    type = f"task.{body['_type']}"
    if type not in TASKS:
        raise invalid({"_type": "Must be one of lead, outgoing_call."})
    values = _dated({k: v for k, v in read(org, type, body, {}).items() if v is not None})
    values = {"assigned_to": call.actor.user, "text": "", "is_complete": False, **values}
    referred(org, values, {})
    del values["_type"]
    request = new_request_id()
    task = create(org, call, type, values)
    announce(org, call, request, task, "created")
    if task.get("is_complete"):
        announce(org, call, request, task, "completed")
    return shown(org, call, task)


@routes.on("PUT", "/task/")
def update_tasks(org: Close, call: Call) -> Answer:
    """The same change to every task the filters find."""
    body = org.read_json(call)
    if wrong := set(body) - set(_BULK):
        raise invalid(dict.fromkeys(sorted(wrong), "Cannot be changed in bulk."))
    for task in _wanted(org, call):
        _change(org, call, task, body)
    return Answer(200, {})


@routes.on("GET", "/task/{id}/")
def read_task(org: Close, call: Call, id: str) -> Answer:
    return shown(org, call, _existing(org, id))


@routes.on("PUT", "/task/{id}/")
def update_task(org: Close, call: Call, id: str) -> Answer:
    task = _existing(org, id)
    _change(org, call, task, org.read_json(call))
    return shown(org, call, task)


@routes.on("DELETE", "/task/{id}/")
def delete_task(org: Close, call: Call, id: str) -> Answer:
    remove(org, call, new_request_id(), _existing(org, id))
    return Answer(200, {})


def _change(org: Close, call: Call, task: Record, body: Json) -> None:
    values = _dated(read(org, task.type, body, task.fields))
    fixed(task.type, values, {"_type": task.type.partition(".")[2]})
    referred(org, values, task.fields)
    values.pop("_type", None)
    completed = values.get("is_complete") and not task.get("is_complete")
    request = new_request_id()
    with watched(org, call, request, task):
        org.abandon(task)
        org.store.update(task, values, at=call.at, by=call.actor)
        org.adopt(task)
        org.store.note(task, {"updated_by": call.actor.user}, at=call.at, by=call.actor)
    if completed:
        announce(org, call, request, task, "completed")


def _dated(values: Json) -> Json:
    """`due_date` is another name of `date`, and a dateless task has none."""
    values = dict(values)
    due = values.pop("due_date", None)
    if due is not None:
        values.setdefault("date", due)
    if values.pop("is_dateless", False):
        values["date"] = None
    return values


def _existing(org: Close, id: str) -> Record:
    for type in TASKS:
        if task := org.store.get(type, id):
            return task
    raise refuse(404, "Not found")


def _wanted(org: Close, call: Call) -> list[Record]:
    """The tasks a call's filters find."""
    asked = {*call.many("_type"), *call.many("_type__in")} or {"lead"}
    types = [type for type in TASKS if asked & {"all", type.partition(".")[2]}]
    ids = {*call.many("id"), *call.many("id__in")}
    people, leads = call.many("assigned_to"), call.many("lead_id")
    tests: list[Callable[[Record], bool]] = [
        bounded(call, "date", lambda task: _moment(task, "date") or None),
        bounded(call, "due_date", lambda task: _moment(task, "date") or None),
        bounded(call, "date_created", lambda task: rest_time(task.created)),
        bounded(call, "date_updated", lambda task: rest_time(task.updated)),
        _viewed(call),
    ]
    if "is_complete" in call.query:
        tests.append(lambda task: bool(task.get("is_complete")) == call.flag("is_complete"))
    return [
        task
        for type in types
        for task in org.store.live(type)
        if (not ids or task.id in ids)
        and (not people or task.get("assigned_to") in people)
        and (not leads or task.get("lead_id") in leads)
        and all(test(task) for test in tests)
    ]


def _viewed(call: Call) -> Callable[[Record], bool]:
    """The preset filters: what is due by today, what is due later, what is done."""
    view = call.one("view")
    if view and view not in _VIEWS:
        raise invalid({"view": f"Must be one of {', '.join(_VIEWS)}."})
    tomorrow = (call.at + timedelta(days=1)).date().isoformat()
    match view:
        case "inbox":
            return lambda task: not task.get("is_complete") and _moment(task, "date") < tomorrow
        case "future":
            return lambda task: not task.get("is_complete") and _moment(task, "date") >= tomorrow
        case "archive":
            return lambda task: bool(task.get("is_complete"))
        case _:
            return lambda task: True


def _moment(task: Record, field: str) -> str:
    match field:
        case "date_created":
            return rest_time(task.created)
        case "date_updated":
            return rest_time(task.updated)
        case _:
            return str(task.get("date") or "")
