"""How a portal is set up: properties, pipelines, owners; and the app's webhook settings.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide and its neighbours
"""

import re

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import error, invalid, missing, problem, refuse
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import ObjectType, definition_of
from sandbox.wire import Answer, Call, Json

UNIQUE_PROPERTIES = 10
SUBSCRIPTIONS = 1000
_FIELD_TYPES = {
    "string": {"text", "textarea", "file", "html", "phonenumber"},
    "number": {"number", "calculation_equation"},
    "bool": {"booleancheckbox", "calculation_equation"},
    "enumeration": {"select", "radio", "checkbox", "booleancheckbox", "calculation_equation"},
    "date": {"date"},
    "datetime": {"date"},
}
_REFUSED = ("hs_lastmodifieddate", "lastmodifieddate", "num_unique_conversion_events")
_EVENT = re.compile(
    r"(contact|company|deal|ticket)\.(creation|deletion|merge|restore|propertyChange|"
    r"associationChange)\Z|contact\.privacyDeletion\Z"
)


@routes.on("GET", "/crm/v3/properties/{type}")
def properties(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    return Answer(200, {"results": list(portal.properties[typed(type).name].values())})


@routes.on("POST", "/crm/v3/properties/{type}")
def create_property(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """A custom property; with `hasUniqueValue` it can serve as `idProperty`."""
    return Answer(201, _define(portal, typed(type), read_json(call), iso(call.at)))


@routes.on("GET", "/crm/v3/properties/{type}/groups")
def groups(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    names = sorted({p["groupName"] for p in portal.properties[typed(type).name].values()})
    rows = [
        {"name": n, "label": n, "displayOrder": i, "archived": False} for i, n in enumerate(names)
    ]
    return Answer(200, {"results": rows})


@routes.on("POST", "/crm/v3/properties/{type}/batch/read")
def batch_read_properties(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    known, at = portal.properties[typed(type).name], iso(call.at)
    names = [str(row.get("name")) for row in read_json(call).get("inputs") or []]
    body: Json = {"status": "COMPLETE", "startedAt": at, "completedAt": at}
    body["results"] = [known[name] for name in names if name in known]
    lost = [name for name in names if name not in known]
    if lost:
        text = f"The following properties do not exist: {', '.join(lost)}"
        row = error("OBJECT_NOT_FOUND", text, context={"name": lost}, errors=[], links={})
        return Answer(207, {**body, "numErrors": 1, "errors": [row]})
    return Answer(200, body)


@routes.on("POST", "/crm/v3/properties/{type}/batch/create")
def batch_create_properties(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    at = iso(call.at)
    rows = read_json(call).get("inputs") or []
    made = [_define(portal, typed(type), row, at) for row in rows]
    body = {"status": "COMPLETE", "results": made, "startedAt": at, "completedAt": at}
    return Answer(201, body)


@routes.on("GET", "/crm/v3/properties/{type}/{name}")
def property_of(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    return Answer(200, _property(portal, typed(type), name))


@routes.on("PATCH", "/crm/v3/properties/{type}/{name}")
def update_property(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    found = _property(portal, typed(type), name)
    changeable = {"label", "description", "options", "groupName", "hidden", "displayOrder"}
    found |= {k: v for k, v in read_json(call).items() if k in changeable}
    found["updatedAt"] = iso(call.at)
    return Answer(200, found)


@routes.on("DELETE", "/crm/v3/properties/{type}/{name}")
def delete_property(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    kind = typed(type)
    if _property(portal, kind, name)["hubspotDefined"]:
        raise invalid(f"{name} is defined by HubSpot and cannot be deleted")
    del portal.properties[kind.name][name]
    for record in portal.store.live(kind.name):
        portal.store.note(record, {name: None}, at=call.at, by=call.actor)
    return Answer(204)


@routes.on("GET", "/crm/v3/pipelines/{type}")
def pipelines(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    return Answer(200, {"results": _pipelines(portal, typed(type))})


@routes.on("POST", "/crm/v3/pipelines/{type}")
def create_pipeline(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    body, at, all = read_json(call), iso(call.at), _pipelines(portal, typed(type))
    number = sum(len(p["stages"]) + 1 for p in all)
    dates = {"createdAt": at, "updatedAt": at, "archived": False}
    stages = [
        {"metadata": {}, **stage, "id": str(9000 + number + index), **dates}
        for index, stage in enumerate(body.get("stages") or [], 1)
    ]
    pipeline = {
        "displayOrder": len(all),
        **body,
        "id": str(9000 + number),
        "stages": stages,
        **dates,
    }
    all.append(pipeline)
    return Answer(201, pipeline)


@routes.on("GET", "/crm/v3/pipelines/{type}/{id}")
def pipeline(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    return Answer(200, _pipeline(portal, typed(type), id))


@routes.on("GET", "/crm/v3/pipelines/{type}/{id}/stages")
def stages(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    return Answer(200, {"results": _pipeline(portal, typed(type), id)["stages"]})


@routes.on("GET", "/crm/v3/owners")
def owners(app: HubSpot, portal: Portal, call: Call) -> Answer:
    """Owners, optionally the one with an e-mail address."""
    email, limit = call.one("email").lower(), int(call.one("limit", "100"))
    archived = call.flag("archived")
    after = int(call.one("after", "0") or 0)
    found = [
        owner
        for owner in portal.owners
        if owner["archived"] == archived and (not email or owner["email"].lower() == email)
    ]
    body: Json = {"results": found[after : after + limit]}
    if len(found) > after + limit:
        body["paging"] = {"next": {"after": str(after + limit)}}
    return Answer(200, body)


@routes.on("GET", "/crm/v3/owners/{id}")
def owner(app: HubSpot, portal: Portal, call: Call, id: str) -> Answer:
    """One owner, by owner id or with `idProperty=userId` by user id."""
    key = "userId" if call.one("idProperty") == "userId" else "id"
    for found in portal.owners:
        if str(found[key]) == id:
            return Answer(200, found)
    raise missing(id)


# -- the app: developer API key, no portal --


@routes.on("GET", "/webhooks/v3/{app_id}/settings")
def webhook_settings(app: HubSpot, call: Call, app_id: str) -> Answer:
    _developer(app, call, app_id)
    if not app.target:
        raise missing()
    throttling = {"maxConcurrentRequests": app.sender.manner.concurrent}
    return Answer(200, {"targetUrl": app.target, "throttling": throttling})


@routes.on("PUT", "/webhooks/v3/{app_id}/settings")
def set_webhook_settings(app: HubSpot, call: Call, app_id: str) -> Answer:
    """https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide"""
    _developer(app, call, app_id)
    url = read_json(call).get("targetUrl")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise invalid("targetUrl must be a URL")
    app.target = url
    return webhook_settings(app, call, app_id)


@routes.on("GET", "/webhooks/v3/{app_id}/subscriptions")
def subscriptions(app: HubSpot, call: Call, app_id: str) -> Answer:
    _developer(app, call, app_id)
    return Answer(200, {"results": list(app.subscriptions.values())})


@routes.on("POST", "/webhooks/v3/{app_id}/subscriptions")
def subscribe(app: HubSpot, call: Call, app_id: str) -> Answer:
    """New subscriptions are paused unless `active` says otherwise; one per property."""
    _developer(app, call, app_id)
    body = read_json(call)
    kind, name = str(body.get("eventType")), body.get("propertyName")
    if not _EVENT.match(kind):
        raise invalid(f"{kind} is not an event type")
    if kind.endswith(".propertyChange") and (not name or name in _REFUSED):
        raise invalid(f"{name} is not a property that can be subscribed to")
    if len(app.subscriptions) >= SUBSCRIPTIONS:
        raise invalid(f"At most {SUBSCRIPTIONS} subscriptions are allowed")
    known = {(s["eventType"], s.get("propertyName")) for s in app.subscriptions.values()}
    if (kind, name) in known:
        raise refuse(409, "CONFLICT", "This subscription exists already")
    row: Json = {
        "id": str(7_000_000 + len(app.subscriptions)),
        "eventType": kind,
        "active": bool(body.get("active")),
        "createdAt": iso(call.at),
    }
    if name:
        row["propertyName"] = name
    app.subscriptions[row["id"]] = row
    return Answer(201, row)


@routes.on("PATCH", "/webhooks/v3/{app_id}/subscriptions/{id}")
def update_subscription(app: HubSpot, call: Call, app_id: str, id: str) -> Answer:
    _developer(app, call, app_id)
    if id not in app.subscriptions:
        raise missing(id)
    app.subscriptions[id]["active"] = bool(read_json(call).get("active"))
    return Answer(200, app.subscriptions[id])


@routes.on("DELETE", "/webhooks/v3/{app_id}/subscriptions/{id}")
def unsubscribe(app: HubSpot, call: Call, app_id: str, id: str) -> Answer:
    _developer(app, call, app_id)
    app.subscriptions.pop(id, None)
    return Answer(204)


def _developer(app: HubSpot, call: Call, app_id: str) -> None:
    """Any developer key will do here, but one must be sent."""
    if not call.one("hapikey"):
        raise refuse(401, "INVALID_AUTHENTICATION", "This endpoint needs a developer hapikey")
    if app_id != str(app.settings.app_id):
        raise missing(app_id)


def _define(portal: Portal, type: ObjectType, body: Json, at: str) -> Json:
    known = portal.properties[type.name]
    for key in ("name", "label", "type", "fieldType", "groupName"):
        if not isinstance(body.get(key), str):
            raise invalid(
                f"{key} is required", problem("REQUIRED_FIELD", key, f"{key} is required")
            )
    name = body["name"]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise invalid(f"{name} is not a valid property name")
    if body["fieldType"] not in _FIELD_TYPES.get(body["type"], ()):
        raise invalid(f"{body['type']} cannot have the fieldType {body['fieldType']}")
    if name in known:
        text = f"A property named '{name}' already exists."
        raise refuse(409, "OBJECT_ALREADY_EXISTS", text)
    unique = bool(body.get("hasUniqueValue"))
    custom = sum(p["hasUniqueValue"] and not p["hubspotDefined"] for p in known.values())
    if unique and custom >= UNIQUE_PROPERTIES:
        raise invalid(f"At most {UNIQUE_PROPERTIES} unique properties are allowed per object")
    definition = definition_of(
        name=name,
        type=body["type"],
        field_type=body["fieldType"],
        group=body["groupName"],
        options=[],
    )
    definition |= {k: v for k, v in body.items() if k in definition and v is not None}
    definition |= {"createdAt": at, "updatedAt": at, "hasUniqueValue": unique}
    known[name] = definition
    return definition


def _property(portal: Portal, type: ObjectType, name: str) -> Json:
    if name not in portal.properties[type.name]:
        raise missing(name)
    return portal.properties[type.name][name]


def _pipelines(portal: Portal, type: ObjectType) -> list[Json]:
    if type.name not in portal.pipelines:
        raise invalid(f"{type.plural} have no pipelines")
    return portal.pipelines[type.name]


def _pipeline(portal: Portal, type: ObjectType, id: str) -> Json:
    for found in _pipelines(portal, type):
        if found["id"] == id:
            return found
    raise missing(id)
