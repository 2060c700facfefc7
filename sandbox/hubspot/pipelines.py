"""Pipelines and their stages.

https://developers.hubspot.com/docs/api-reference/legacy/crm/pipelines/guide
"""

from typing import Any

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import invalid, missing, problem
from sandbox.hubspot.portal import FIRST_ID, Portal, iso
from sandbox.hubspot.schema import STAGE_PROPERTIES, ObjectType
from sandbox.wire import Answer, Call, Json

FIRST_STAGE = 9001
_ONE = "/crm/v3/pipelines/{type}/{id}"
_STAGE = _ONE + "/stages/{stage_id}"


@routes.on("GET", "/crm/v3/pipelines/{type}")
def pipelines(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    return Answer(200, {"results": _pipelines(portal, typed(type))})


@routes.on("POST", "/crm/v3/pipelines/{type}")
def create_pipeline(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    kind, body = typed(type), read_json(call)
    known = _pipelines(portal, kind)
    _unused(known, _label(body))
    if not isinstance(body.get("stages"), list) or not body["stages"]:
        raise invalid("stages are required")
    stages = [_read_stage(kind, row, order) for order, row in enumerate(body["stages"])]
    if len({stage["label"] for stage in stages}) != len(stages):
        raise invalid("The labels of stages must be unique")
    pipeline = {
        "id": _fresh(portal),
        "label": body["label"],
        "displayOrder": body.get("displayOrder", len(known)),
        "stages": [{"id": _fresh(portal), **stage, **_dates(call)} for stage in stages],
        **_dates(call),
    }
    known.append(pipeline)
    return Answer(201, pipeline)


@routes.on("GET", _ONE)
def pipeline(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    return Answer(200, _pipeline(portal, typed(type), id))


@routes.on("PATCH", _ONE)
def update_pipeline(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    kind, body = typed(type), read_json(call)
    found = _pipeline(portal, kind, id)
    if body.get("label", found["label"]) != found["label"]:
        _unused(_pipelines(portal, kind), _label(body))
    found |= {k: body[k] for k in ("label", "displayOrder") if k in body}
    found["updatedAt"] = iso(call.at)
    return Answer(200, found)


@routes.on("DELETE", _ONE)
def delete_pipeline(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    kind = typed(type)
    found = _pipeline(portal, kind, id)
    _idle(portal, kind, {stage["id"] for stage in found["stages"]})
    if len(_pipelines(portal, kind)) == 1:
        raise invalid("The last pipeline cannot be deleted")
    _pipelines(portal, kind).remove(found)
    return Answer(204)


@routes.on("GET", _ONE + "/stages")
def stages(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    return Answer(200, {"results": _pipeline(portal, typed(type), id)["stages"]})


@routes.on("POST", _ONE + "/stages")
def create_stage(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    kind = typed(type)
    found = _pipeline(portal, kind, id)
    stage = _read_stage(kind, read_json(call), len(found["stages"]))
    _unused(found["stages"], stage["label"])
    found["stages"].append({"id": _fresh(portal), **stage, **_dates(call)})
    return Answer(201, found["stages"][-1])


@routes.on("GET", _STAGE)
def stage(app: HubSpot, portal: Portal, call: Call, type: str, id: str, stage_id: str) -> Answer:
    return Answer(200, _stage(_pipeline(portal, typed(type), id), stage_id))


@routes.on("PATCH", _STAGE)
def update_stage(
    app: HubSpot, portal: Portal, call: Call, type: str, id: str, stage_id: str
) -> Answer:
    """A new label or probability; what follows from it is worked out anew for every record."""
    kind, body = typed(type), read_json(call)
    pipeline = _pipeline(portal, kind, id)
    found = _stage(pipeline, stage_id)
    changed = _read_stage(kind, {**found, **body}, found["displayOrder"])
    if changed["label"] != found["label"]:
        _unused(pipeline["stages"], changed["label"])
    found |= {**changed, "updatedAt": iso(call.at)}
    for record in portal.store.live(kind.name):
        if record.get(STAGE_PROPERTIES[kind.name][1]) == stage_id:
            portal.derive(record, {}, call.at, call.actor)
    return Answer(200, found)


@routes.on("DELETE", _STAGE)
def delete_stage(
    app: HubSpot, portal: Portal, call: Call, type: str, id: str, stage_id: str
) -> Answer:
    """Only a stage that nothing is in can go."""
    kind = typed(type)
    pipeline = _pipeline(portal, kind, id)
    found = _stage(pipeline, stage_id)
    _idle(portal, kind, {stage_id})
    pipeline["stages"].remove(found)
    return Answer(204)


def _pipelines(portal: Portal, type: ObjectType) -> list[Json]:
    if type.name not in portal.pipelines:
        raise invalid(f"{type.plural} have no pipelines")
    return portal.pipelines[type.name]


def _pipeline(portal: Portal, type: ObjectType, id: str) -> Json:
    for found in _pipelines(portal, type):
        if found["id"] == id:
            return found
    raise missing(id)


def _stage(pipeline: Json, id: str) -> Json:
    stages: list[Json] = pipeline["stages"]
    for found in stages:
        if found["id"] == id:
            return found
    raise missing(id)


def _fresh(portal: Portal) -> str:
    """Stages and pipelines share a row of numbers, so that no two look alike."""
    return str(FIRST_STAGE + int(portal.next_id("stage")) - FIRST_ID)


def _dates(call: Call) -> Json:
    return {"createdAt": iso(call.at), "updatedAt": iso(call.at), "archived": False}


def _label(body: Json) -> str:
    if not isinstance(body.get("label"), str) or not body["label"].strip():
        raise invalid("label is required", problem("REQUIRED_FIELD", "label", "label is required"))
    return str(body["label"])


def _unused(known: list[Json], label: str) -> None:
    if any(row["label"] == label for row in known):
        raise invalid(f"The label '{label}' is used already")


def _read_stage(type: ObjectType, given: Any, order: int) -> Json:
    """A stage's own values. Of a deal it says how likely the deal is, of a ticket if it is open."""
    if not isinstance(given, dict):
        raise invalid("A stage needs label and metadata")
    metadata = given.get("metadata") or {}
    if type.name == "deal":
        chance = str(metadata.get("probability"))
        if chance not in {f"{tenth / 10:.1f}" for tenth in range(11)}:
            raise invalid("metadata.probability must be one of 0.0, 0.1, ... 1.0")
        kept = {"probability": chance, "isClosed": str(chance in ("0.0", "1.0")).lower()}
    else:
        state = metadata.get("ticketState", "OPEN")
        if state not in ("OPEN", "CLOSED"):
            raise invalid("metadata.ticketState must be OPEN or CLOSED")
        kept = {"ticketState": state, "isClosed": str(state == "CLOSED").lower()}
    label = _label(given)
    return {"label": label, "displayOrder": given.get("displayOrder", order), "metadata": kept}


def _idle(portal: Portal, type: ObjectType, ids: set[str]) -> None:
    name = STAGE_PROPERTIES[type.name][1]
    busy = [r.id for r in portal.store.live(type.name) if r.get(name) in ids]
    if busy:
        text = f"There are {type.plural} in this stage: {', '.join(busy[:10])}"
        raise invalid(text)
