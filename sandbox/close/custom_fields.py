"""Custom fields: made, changed and deleted by type, and shown together as a schema.

https://developer.close.com/api/resources/custom-fields
"""

from typing import Any

from sandbox.close import defaults
from sandbox.close.ids import record_id, rest_time
from sandbox.close.org import RECORDS, Close, invalid, refuse, routes
from sandbox.close.setup import listed, named
from sandbox.wire import Answer, Call, Json

TYPES = ("text", "number", "date", "datetime", "choices", "user", "contact", "hidden")
SEVERAL = ("user", "choices", "contact")
_SETTABLE = (
    *("name", "description", "type", "choices", "accepts_multiple_values", "required"),
    "editable_with_roles",
)


@routes.on("GET", "/custom_field_schema/{type}/")
def schema(org: Close, call: Call, type: str) -> Answer:
    """All custom fields of a type, shared ones included."""
    fields = _fields_of(org, type)
    return Answer(200, {"id": f"{type}_schema", "object_type": type, "fields": fields})


@routes.on("PUT", "/custom_field_schema/{type}/")
def arrange(org: Close, call: Call, type: str) -> Answer:
    """Put the fields into another order: all of them, by id."""
    fields = {field["id"]: field for field in _fields_of(org, type)}
    ids = [field.get("id") for field in org.read_json(call).get("fields") or []]
    if sorted(map(str, ids)) != sorted(fields):
        raise invalid({"fields": "Every field must be named once."})
    org.custom_fields[type] = [fields[id] for id in ids]
    return schema(org, call, type)


@routes.on("GET", "/custom_field/{type}/")
def list_all(org: Close, call: Call, type: str) -> Answer:
    return listed(call, _fields_of(org, type))


@routes.on("POST", "/custom_field/{type}/")
def create(org: Close, call: Call, type: str) -> Answer:
    body, fields = org.read_json(call), _fields_of(org, type)
    _known(body)
    name, kind = named(body, "name"), body.get("type")
    several = bool(body.get("accepts_multiple_values"))
    if kind not in TYPES:
        raise invalid({"type": "Unknown type."})
    if several and kind not in SEVERAL:
        raise invalid({"accepts_multiple_values": f"Not possible for {kind}."})
    _unused(fields, name)
    field = {
        "id": record_id("cf"),
        "organization_id": defaults.ORGANIZATION,
        "name": name,
        "description": body.get("description"),
        "type": kind,
        "choices": _choices(kind, body.get("choices")),
        "accepts_multiple_values": several,
        "editable_with_roles": body.get("editable_with_roles") or [],
        "is_shared": False,
        "required": bool(body.get("required")),
        "created_by": call.actor.user,
        "updated_by": call.actor.user,
        "date_created": rest_time(call.at),
        "date_updated": rest_time(call.at),
    }
    fields.append(field)
    return Answer(200, field)


@routes.on("GET", "/custom_field/{type}/{id}/")
def read_one(org: Close, call: Call, type: str, id: str) -> Answer:
    return Answer(200, _field(org, type, id))


@routes.on("PUT", "/custom_field/{type}/{id}/")
def update(org: Close, call: Call, type: str, id: str) -> Answer:
    """Rename a field or change its choices. A value that is no choice any more stays."""
    field, body = _field(org, type, id), org.read_json(call)
    _known(body)
    fixed = ("type", "accepts_multiple_values")
    if touched := [name for name in fixed if body.get(name, field[name]) != field[name]]:
        raise invalid(dict.fromkeys(touched, "Cannot be changed."))
    if "name" in body and named(body, "name") != field["name"]:
        _unused(org.custom_fields[type], body["name"])
    if "choices" in body:
        body["choices"] = _choices(field["type"], body["choices"])
    field |= {**body, "updated_by": call.actor.user, "date_updated": rest_time(call.at)}
    return Answer(200, field)


@routes.on("DELETE", "/custom_field/{type}/{id}/")
def delete(org: Close, call: Call, type: str, id: str) -> Answer:
    org.custom_fields[type].remove(_field(org, type, id))
    for record in org.store.live(type):
        org.store.note(record, {f"custom.{id}": None}, at=call.at, by=call.actor)
    return Answer(200, {})


def _known(body: Json) -> None:
    if unknown := set(body) - set(_SETTABLE):
        raise invalid(dict.fromkeys(sorted(unknown), "Unknown field, or it cannot be changed."))


def _unused(fields: list[Json], name: str) -> None:
    if any(field["name"] == name for field in fields):
        raise invalid({"name": "A custom field with this name already exists."})


def _choices(kind: str, given: Any) -> list[str] | None:
    """The choices of a field of that type; 400 if it needs some, or can have none."""
    if kind != "choices":
        if given:
            raise invalid({"choices": f"Not possible for {kind}."})
        return None
    if not isinstance(given, list) or not given:
        raise invalid({"choices": "This field is required."})
    if not all(isinstance(choice, str) and choice for choice in given):
        raise invalid({"choices": "Expected a list of strings."})
    if len(set(given)) != len(given):
        raise invalid({"choices": "Choices must be unique."})
    return list(given)


def _fields_of(org: Close, type: str) -> list[Json]:
    if type not in RECORDS:
        raise refuse(404, "Not found")
    return org.custom_fields[type]


def _field(org: Close, type: str, id: str) -> Json:
    found = next((field for field in _fields_of(org, type) if field["id"] == id), None)
    if found is None:
        raise refuse(404, "Not found")
    return found
