"""The labels that links of a pair of object types can carry.

https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
"""

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import invalid, missing, problem, refuse
from sandbox.hubspot.links import OWN, link_types
from sandbox.hubspot.portal import Portal
from sandbox.wire import Answer, Call, Json

LABELS = 10
_ALL = "/crm/v4/associations/{start}/{end}/labels"


@routes.on("GET", _ALL)
def labels(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    known = link_types(portal, typed(start).name, typed(end).name)
    return Answer(200, {"results": [type.spec() for type in known.values()]})


@routes.on("POST", _ALL)
def create_label(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    """A portal's own label: one type in each direction, of which the answer tells both."""
    body, one, two = read_json(call), typed(start).name, typed(end).name
    label, name = (_text(body, key) for key in ("label", "name"))
    back = body.get("inverseLabel") or label
    own = [row for row in portal.labels if (row["start"], row["end"]) == (one, two)]
    if len(own) >= LABELS:
        raise invalid(f"At most {LABELS} labels are allowed between {one} and {two}")
    taken = {type.label for type in link_types(portal, one, two).values()}
    if label in taken or name in {row["name"] for row in own}:
        raise refuse(409, "OBJECT_ALREADY_EXISTS", f"The label '{label}' already exists")
    first = 1 + max((row["id"] for row in portal.labels), default=OWN)
    # A label of a type with itself that reads the same both ways is one type.
    single = one == two and back == label
    rows = [
        {"start": one, "end": two, "id": first, "label": label, "inverse": first + (not single)},
        {"start": two, "end": one, "id": first + 1, "label": back, "inverse": first},
    ]
    for row in rows[: 1 if single else 2]:
        portal.labels.append({**row, "category": "USER_DEFINED", "name": name})
    ids = {row["id"] for row in rows}
    types = [*link_types(portal, one, two).values(), *link_types(portal, two, one).values()]
    made = {type.id: type.spec() for type in types if type.id in ids}
    return Answer(200, {"results": [made[id] for id in sorted(made)]})


@routes.on("PUT", _ALL)
def rename_label(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    body = read_json(call)
    row = _own(portal, typed(start).name, typed(end).name, str(body.get("associationTypeId")))
    row["label"] = _text(body, "label")
    for other in portal.labels:
        if other["id"] == row["inverse"] != row["id"] and body.get("inverseLabel"):
            other["label"] = body["inverseLabel"]
    return Answer(204)


@routes.on("DELETE", _ALL + "/{id}")
def delete_label(app: HubSpot, portal: Portal, call: Call, start: str, end: str, id: str) -> Answer:
    """The label goes in both directions; the links it stood on stay, unlabelled."""
    row = _own(portal, typed(start).name, typed(end).name, id)
    ids = {row["id"], row["inverse"]}
    portal.labels = [kept for kept in portal.labels if kept["id"] not in ids]
    for ends in portal.links.values():
        for other, types in ends.items():
            ends[other] = [id for id in types if id not in ids]
    return Answer(204)


def _own(portal: Portal, start: str, end: str, id: str) -> Json:
    for row in portal.labels:
        if (row["start"], row["end"], str(row["id"] - OWN)) == (start, end, id):
            return row
    if id.isdigit() and int(id) in link_types(portal, start, end):
        raise invalid("The association types of HubSpot itself cannot be changed")
    raise missing(id)


def _text(body: Json, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        raise invalid(f"{key} is required", problem("REQUIRED_FIELD", key, f"{key} is required"))
    return value.strip()
