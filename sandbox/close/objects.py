"""Leads, contacts and opportunities: create, read, list, update, delete, merge.

https://developer.close.com/api/resources/leads, /contacts and /opportunities
"""

from datetime import timedelta
from typing import Any

from sandbox.close.checks import read
from sandbox.close.events import announce, watched
from sandbox.close.ids import rest_time
from sandbox.close.org import RECORDS, Close, invalid, new_request_id, routes
from sandbox.close.richtext import plain, rich
from sandbox.close.rows import comparable, create, existing, holds, listed, move, remove, shown
from sandbox.close.shapes import snapshot
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json, RefusedError

_MOMENTS = ("date_created", "date_updated", "date_won")
_VERBS = ("gte", "gt", "lte", "lt")
_DEAL_FILTERS = ("user_id", "status_id", "status_type", "status_label", "value_period")


@routes.on("POST", "/lead/")
def create_lead(org: Close, call: Call) -> Answer:
    """A lead with its contacts; other children cannot be nested."""
    body = org.read_json(call)
    nested = body.pop("contacts", None) or []
    values = read(org, "lead", _status_by_id(org, body), {})
    people = _nested(org, nested)
    request = new_request_id()
    lead = create(org, call, "lead", _with_lead_status(org, values))
    made = [create(org, call, "contact", {**person, "lead_id": lead.id}) for person in people]
    announce(org, call, request, lead, "created")
    for contact in made:
        announce(org, call, request, contact, "created")
    return shown(org, call, lead)


@routes.on("POST", "/contact/")
def create_contact(org: Close, call: Call) -> Answer:
    """A contact; without `lead_id` a new lead named after it appears."""
    values = read(org, "contact", org.read_json(call), {})
    request = new_request_id()
    if lead_id := values.get("lead_id"):
        lead = _parent(org, lead_id)
        with watched(org, call, request, lead):
            contact = create(org, call, "contact", values)
    else:
        named = {"name": values.get("name") or "Untitled"}
        lead = create(org, call, "lead", _with_lead_status(org, named))
        contact = create(org, call, "contact", {**values, "lead_id": lead.id})
        announce(org, call, request, lead, "created")
    announce(org, call, request, contact, "created")
    return shown(org, call, contact)


@routes.on("POST", "/opportunity/")
def create_opportunity(org: Close, call: Call) -> Answer:
    """An opportunity; without `lead_id` an "Untitled" lead appears."""
    values = read(org, "opportunity", _status_by_label(org, org.read_json(call)), {})
    request = new_request_id()
    if lead_id := values.get("lead_id"):
        _parent(org, lead_id)
    values = _deal(org, call, values, {})
    if not lead_id:
        lead = create(org, call, "lead", _with_lead_status(org, {"name": "Untitled"}))
        announce(org, call, request, lead, "created")
        values["lead_id"] = lead.id
    deal = create(org, call, "opportunity", values)
    announce(org, call, request, deal, "created")
    return shown(org, call, deal)


def _add_common(type: str) -> None:
    """The routes that are the same for all three."""

    @routes.on("GET", f"/{type}/")
    def list_all(org: Close, call: Call) -> Answer:
        return listed(org, call, _filtered(org, call, type))

    @routes.on("GET", f"/{type}/{{id}}/")
    def read_one(org: Close, call: Call, id: str) -> Answer:
        return shown(org, call, existing(org, type, id))

    @routes.on("PUT", f"/{type}/{{id}}/")
    def update(org: Close, call: Call, id: str) -> Answer:
        """Change what is sent, leave the rest; arrays are replaced as a whole."""
        record = existing(org, type, id)
        body = org.read_json(call)
        if type == "lead":
            body = _status_by_id(org, body)
            body.pop("contacts", None)
        if type == "opportunity":
            body = _status_by_label(org, body)
        values = read(org, type, body, record.fields)
        target = values.pop("lead_id", None) or record.get("lead_id")
        if type == "lead" and "status_id" in values:
            values = _with_lead_status(org, values)
        if type == "opportunity":
            values = _deal(org, call, values, record.fields)
        leads = []
        if type != "lead" and target != record.get("lead_id"):
            leads = [_parent(org, record.get("lead_id")), _parent(org, target)]
        with watched(org, call, new_request_id(), record, *leads):
            if leads:
                move(org, call, record, target)
            org.store.update(record, values, at=call.at, by=call.actor)
            org.store.note(record, {"updated_by": call.actor.user}, at=call.at, by=call.actor)
        return shown(org, call, record)

    @routes.on("DELETE", f"/{type}/{{id}}/")
    def delete(org: Close, call: Call, id: str) -> Answer:
        """Gone for good, and a lead's children with it."""
        record = existing(org, type, id)
        request = new_request_id()
        if type == "lead":
            for child in org.all_of_lead(id):
                remove(org, call, request, child)
        lead = org.store.get("lead", record.get("lead_id") or "")
        if type == "contact" and lead:
            with watched(org, call, request, lead):
                remove(org, call, request, record)
        else:
            remove(org, call, request, record)
        return Answer(200, {})


for _type in RECORDS:
    _add_common(_type)


def _parent(org: Close, lead_id: Any) -> Record:
    lead = org.store.get("lead", lead_id)
    if lead is None:
        raise invalid({"lead_id": "Object does not exist."})
    return lead


def _nested(org: Close, given: Any) -> list[Json]:
    """The contacts of a new lead; errors name the row."""
    if not isinstance(given, list):
        raise invalid({"contacts": "Expected a list."})
    people, problems = [], {}
    for index, person in enumerate(given):
        try:
            people.append(read(org, "contact", person, {}))
        except RefusedError as refusal:
            problems[str(index)] = refusal.answer.body
    if problems:
        raise invalid({"contacts": {"errors": problems}})
    return people


def _status_by_id(org: Close, body: Json) -> Json:
    """A lead's `status` label as `status_id`; both together are refused."""
    if "status" not in body:
        return body
    if "status_id" in body:
        raise invalid({"status": "Send status or status_id, not both."})
    label = body["status"]
    found = next((s["id"] for s in org.lead_statuses if s["label"] == label), None)
    if found is None:
        raise invalid({"status": "Unknown status."})
    return {**{k: v for k, v in body.items() if k != "status"}, "status_id": found}


def _status_by_label(org: Close, body: Json) -> Json:
    """An opportunity's deprecated `status` label as `status_id`."""
    if "status" not in body or "status_id" in body:
        return {name: value for name, value in body.items() if name != "status"}
    for pipeline in org.pipelines:
        for status in pipeline["statuses"]:
            if status["label"] == body["status"]:
                rest = {k: v for k, v in body.items() if k != "status"}
                return {**rest, "status_id": status["id"]}
    raise invalid({"status": "Unknown status."})


def _with_lead_status(org: Close, values: Json) -> Json:
    status_id = values.get("status_id") or org.lead_statuses[0]["id"]
    if not org.lead_status(status_id):
        raise invalid({"status_id": "Unknown status."})
    return {**values, "status_id": status_id}


def _deal(org: Close, call: Call, values: Json, current: Json) -> Json:
    """An opportunity's values with status, pipeline, owner and dates made consistent."""
    values = _noted(values, current)
    pipeline_id = values.pop("pipeline_id", None)
    pipeline = next((p for p in org.pipelines if p["id"] == pipeline_id), None)
    if pipeline_id and not pipeline:
        raise invalid({"pipeline_id": "Unknown pipeline."})
    if not current and not values.get("status_id"):
        values["status_id"] = (pipeline or org.pipelines[0])["statuses"][0]["id"]
    if pipeline and current and "status_id" not in values:
        now_in, _ = org.deal_status(current["status_id"]) or ({}, {})
        if now_in.get("id") != pipeline["id"]:
            values["status_id"] = pipeline["statuses"][0]["id"]
    if not current:
        values.setdefault("user_id", call.actor.user)
        values.setdefault("value_period", "one_time")
        values.setdefault("confidence", 50)
    owner = values.get("user_id")
    if owner and not org.can_own(owner, current.get("user_id")):
        raise invalid({"user_id": "Unknown user."})
    contact = values.get("contact_id")
    lead_id = values.get("lead_id") or current.get("lead_id")
    if contact and contact not in {c.id for c in org.of_lead("contact", lead_id or "")}:
        raise invalid({"contact_id": "Not a contact of this lead."})
    if "status_id" not in values:
        return values
    found = org.deal_status(values["status_id"])
    if not found or (pipeline and found[0] is not pipeline):
        raise invalid({"status_id": "Unknown status, or not one of this pipeline."})
    # A won status fills date_won if it is empty; moving back does not clear it.
    today = _today(call)
    kind = found[1]["status_type"]
    if kind == "won" and not values.get("date_won") and not current.get("date_won"):
        values["date_won"] = today
    if kind == "lost" and not current.get("date_lost"):
        values["date_lost"] = today
    return values


def _noted(values: Json, current: Json) -> Json:
    """A deal's note in both forms; plain text has a rich twin only where there was one before.

    https://developer.close.com/api/overview/changelog/2026/6/1
    """
    if "note_html" in values:
        html = values["note_html"]
        return {**values, "note": None if html is None else plain(html)}
    if "note" in values and current.get("note_html"):
        words = values["note"]
        return {**values, "note_html": None if words is None else rich(words)}
    return dict(values)


def _today(call: Call) -> str:
    """The date where the caller is, by its `x-tz-offset` in hours."""
    try:
        offset = timedelta(hours=float(call.headers.get("x-tz-offset", "0")))
    except ValueError:
        raise invalid({}, "x-tz-offset must be a number of hours.") from None
    return (call.at + offset).date().isoformat()


def _filtered(org: Close, call: Call, type: str) -> list[Record]:
    """The records a list call asks for, in its order."""
    if (lead_id := call.one("lead_id")) and type != "lead":
        found = list(org.of_lead(type, lead_id))
    else:
        found = list(org.store.live(type))
    if type != "opportunity":
        return found
    for name in call.query:
        field, _, verb = name.partition("__")
        if field in _MOMENTS and (verb in _VERBS or not verb):
            bound = comparable(call.one(name))
            found = [r for r in found if holds(_moment(r, field), verb, bound)]
        elif field in _DEAL_FILTERS and verb in ("", "in"):
            wanted = set(call.many(name)) if verb else {call.one(name)}
            found = [r for r in found if str(snapshot(org, r).get(field)) in wanted]
    if order := call.one("_order_by"):
        field = order.removeprefix("-")
        if field not in (*_MOMENTS, "value", "confidence"):
            raise invalid({"_order_by": "Unknown field."})
        found.sort(key=lambda r: (_moment(r, field) or "", r.id), reverse=order.startswith("-"))
    return found


def _moment(record: Record, field: str) -> Any:
    match field:
        case "date_created":
            return rest_time(record.created)
        case "date_updated":
            return rest_time(record.updated)
        case "date_won":
            return record.get(field)
        case _:
            return f"{record.get(field) or 0:020}"
