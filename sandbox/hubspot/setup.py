"""How a portal is set up: pipelines with their stages, and owners.

https://developers.hubspot.com/docs/api-reference/legacy/crm/pipelines/guide
"""

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import invalid, missing
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import ObjectType
from sandbox.wire import Answer, Call, Json

OWNERS_PAGE = 500


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
    if not 1 <= limit <= OWNERS_PAGE:
        raise invalid(f"limit must be between 1 and {OWNERS_PAGE}")
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
    """One owner, by owner id or with `idProperty=userId` by user id; archived ones on request."""
    key = "userIdIncludingInactive" if call.one("idProperty") == "userId" else "id"
    for found in portal.owners:
        if str(found[key]) == id and found["archived"] == call.flag("archived"):
            return Answer(200, found)
    raise missing(id)


def _pipelines(portal: Portal, type: ObjectType) -> list[Json]:
    if type.name not in portal.pipelines:
        raise invalid(f"{type.plural} have no pipelines")
    return portal.pipelines[type.name]


def _pipeline(portal: Portal, type: ObjectType, id: str) -> Json:
    for found in _pipelines(portal, type):
        if found["id"] == id:
            return found
    raise missing(id)
