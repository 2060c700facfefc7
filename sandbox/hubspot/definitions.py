"""Property definitions: listed, made, changed, deleted.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
"""

import re

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import error, invalid, missing, problem, refuse
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.properties import definition_of, group_of
from sandbox.hubspot.schema import ObjectType
from sandbox.wire import Answer, Call, Json

UNIQUE_PROPERTIES = 10
_CHANGEABLE = (
    *("label", "description", "options", "groupName", "hidden", "displayOrder", "formField"),
    *("type", "fieldType", "calculationFormula"),
)
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
    return Answer(200, {"results": portal.groups[typed(type).name]})


@routes.on("POST", "/crm/v3/properties/{type}/groups")
def create_group(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    known, body = portal.groups[typed(type).name], read_json(call)
    _needed(body, "name", "label")
    if body["name"] in {group["name"] for group in known}:
        raise refuse(409, "OBJECT_ALREADY_EXISTS", f"The group '{body['name']}' already exists.")
    known.append(group_of(body["name"], body["label"], len(known)))
    return Answer(201, known[-1])


@routes.on("GET", "/crm/v3/properties/{type}/groups/{name}")
def group(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    for found in portal.groups[typed(type).name]:
        if found["name"] == name:
            return Answer(200, found)
    raise missing(name)


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


@routes.on("POST", "/crm/v3/properties/{type}/batch/archive")
def batch_archive_properties(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    kind = typed(type)
    for row in read_json(call).get("inputs") or []:
        if row.get("name") in portal.properties[kind.name]:
            _delete(portal, kind, row["name"], call)
    return Answer(204)


@routes.on("GET", "/crm/v3/properties/{type}/{name}")
def property_of(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    return Answer(200, _property(portal, typed(type), name))


@routes.on("PATCH", "/crm/v3/properties/{type}/{name}")
def update_property(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    """Change a definition; `options` replaces all options. HubSpot's own are mostly fixed."""
    kind, body = typed(type), read_json(call)
    found = _property(portal, kind, name)
    changes = {k: v for k, v in body.items() if k in _CHANGEABLE and v is not None}
    limits = found["modificationMetadata"]
    fixed = set() if not limits["readOnlyDefinition"] else set(changes) - {"options"}
    if limits["readOnlyOptions"]:
        fixed |= set(changes) & {"options"}
    if touched := sorted(n for n in fixed if changes[n] != found[n]):
        text = f"{', '.join(touched)} of {name} is read only"
        raise invalid(text, *(problem("READ_ONLY_DEFINITION", n, text) for n in touched))
    whole = {**found, **changes}
    _checked(portal, kind, whole)
    found |= {**changes, "options": _options(whole), "updatedAt": iso(call.at)}
    return Answer(200, found)


@routes.on("DELETE", "/crm/v3/properties/{type}/{name}")
def delete_property(app: HubSpot, portal: Portal, call: Call, type: str, name: str) -> Answer:
    kind = typed(type)
    _property(portal, kind, name)
    _delete(portal, kind, name, call)
    return Answer(204)


def _delete(portal: Portal, type: ObjectType, name: str, call: Call) -> None:
    if not _property(portal, type, name)["modificationMetadata"]["archivable"]:
        raise invalid(f"{name} is defined by HubSpot and cannot be deleted")
    del portal.properties[type.name][name]
    for record in portal.store.live(type.name):
        portal.store.note(record, {name: None}, at=call.at, by=call.actor)


def _define(portal: Portal, type: ObjectType, body: Json, at: str) -> Json:
    known = portal.properties[type.name]
    _needed(body, "name", "label", "type", "fieldType", "groupName")
    name = body["name"]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise invalid(f"{name} is not a valid property name")
    _checked(portal, type, body)
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
    given = {*_CHANGEABLE, "externalOptions"}
    definition |= {k: v for k, v in body.items() if k in given and v is not None}
    definition |= {"createdAt": at, "updatedAt": at, "hasUniqueValue": unique}
    definition["options"] = _options(definition)
    definition["calculated"] = body["fieldType"] == "calculation_equation"
    definition["modificationMetadata"]["readOnlyValue"] = definition["calculated"]
    known[name] = definition
    return definition


def _needed(body: Json, *names: str) -> None:
    for name in names:
        if not isinstance(body.get(name), str) or not body[name].strip():
            text = f"{name} is required"
            raise invalid(text, problem("REQUIRED_FIELD", name, text))


def _checked(portal: Portal, type: ObjectType, body: Json) -> None:
    """400 unless type, field type, group and options of a definition fit together."""
    if body["fieldType"] not in _FIELD_TYPES.get(body["type"], ()):
        raise invalid(f"{body['type']} cannot have the fieldType {body['fieldType']}")
    if body["groupName"] not in {group["name"] for group in portal.groups[type.name]}:
        raise invalid(f"Property group {body['groupName']} does not exist")
    derived = body["fieldType"] == "calculation_equation" and not body.get("hubspotDefined")
    if derived and not body.get("calculationFormula"):
        raise invalid("calculationFormula is required")
    _options(body)


def _options(body: Json) -> list[Json]:
    """The options of a definition as HubSpot keeps them: labels and values are unique."""
    given = body.get("options") or []
    if body["type"] == "bool":
        given = given or [{"label": "Yes", "value": "true"}, {"label": "No", "value": "false"}]
    elif body["type"] != "enumeration" and given:
        raise invalid(f"A property of type {body['type']} has no options")
    elif body["type"] == "enumeration" and not given and not _is_open(body):
        raise invalid("options are required", problem("REQUIRED_FIELD", "options", "is required"))
    options = []
    for order, option in enumerate(given):
        if not isinstance(option, dict):
            raise invalid("An option needs label and value")
        _needed(option, "label", "value")
        extra = {"displayOrder": order, "hidden": False, "description": ""}
        extra |= {k: v for k, v in option.items() if k in extra and v is not None}
        options.append({"label": option["label"], "value": option["value"], **extra})
    for key in ("label", "value"):
        if len({option[key] for option in options}) != len(options):
            text = f"Property option {key}s must be unique"
            raise invalid(text, problem("DUPLICATE_OPTION", "options", text))
    return options


def _is_open(body: Json) -> bool:
    """Whether an enumeration may do without options: those of HubSpot itself, and external ones."""
    return bool(body.get("externalOptions") or body.get("hubspotDefined"))


def _property(portal: Portal, type: ObjectType, name: str) -> Json:
    if name not in portal.properties[type.name]:
        raise missing(name)
    return portal.properties[type.name][name]
