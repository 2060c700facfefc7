"""How many records of a type one record may be linked to, where an administrator says so.

https://developers.hubspot.com/changelog/introducing-custom-association-limits-for-associations-api
"""

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import invalid
from sandbox.hubspot.links import limit_key, link_types
from sandbox.hubspot.portal import Portal
from sandbox.wire import Answer, Call, Json

_ALL = "/crm/v4/associations/definitions/configurations/{start}/{end}"


@routes.on("GET", _ALL)
def limits(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    rows = []
    for type in link_types(portal, typed(start).name, typed(end).name).values():
        most = portal.limits.get(limit_key(type))
        row: Json = type.spec() | ({"userEnforcedMaxToObjectIds": most} if most else {})
        rows.append(row)
    return Answer(200, {"results": rows})


@routes.on("POST", _ALL + "/batch/create")
def limit(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    known = {
        type.public_id: type
        for type in link_types(portal, typed(start).name, typed(end).name).values()
    }
    rows = []
    for row in read_json(call).get("inputs") or []:
        type, most = known.get(int(row.get("typeId", 0))), row.get("maxToObjectIds")
        if type is None or not isinstance(most, int) or most < 1:
            raise invalid("Each input needs a known typeId and maxToObjectIds of at least 1")
        portal.limits[limit_key(type)] = most
        rows.append({**type.spec(), "userEnforcedMaxToObjectIds": most})
    return Answer(201, {"status": "COMPLETE", "results": rows})
