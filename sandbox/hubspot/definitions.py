"""Property definitions: listed, made, changed, deleted.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
"""

import re

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import error, invalid, missing, problem, refuse
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.properties import definition_of
from sandbox.hubspot.schema import ObjectType
from sandbox.wire import Answer, Call, Json

UNIQUE_PROPERTIES = 10
_FIELD_TYPES = {
    "string": {"text", "textarea", "file", "html", "phonenumber"},
    "number": {"number", "calculation_equation"},
    "bool": {"booleancheckbox", "calculation_equation"},
    "enumeration": {"select", "radio", "checkbox", "booleancheckbox", "calculation_equation"},
    "date": {"date"},
    "datetime": {"date"},
}


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
