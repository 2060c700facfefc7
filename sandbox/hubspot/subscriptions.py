"""The app's webhook settings and subscriptions: a developer API key, no portal.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
"""

import re

from sandbox.hubspot.app import HubSpot, read_json, routes
from sandbox.hubspot.errors import invalid, missing, refuse
from sandbox.hubspot.events import UNHEARD
from sandbox.hubspot.portal import iso
from sandbox.hubspot.schema import TYPES
from sandbox.wire import Answer, Call, Json

SUBSCRIPTIONS = 1000
_REFUSED = ("hs_lastmodifieddate", "lastmodifieddate", "num_unique_conversion_events")
_EVENT = re.compile(
    r"(contact|company|deal|ticket|line_item|object)\.(creation|deletion|merge|restore|"
    r"propertyChange|associationChange)\Z|product\.(creation|deletion|merge|restore|"
    r"propertyChange)\Z|contact\.privacyDeletion\Z|conversation\.(creation|deletion|"
    r"privacyDeletion|propertyChange|newMessage)\Z"
)


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
    type = None
    if kind.startswith("object."):
        # https://developers.hubspot.com/docs/apps/legacy-apps/public-apps/create-generic-webhook-subscriptions
        type = next((t for t in TYPES.values() if t.id == body.get("objectTypeId")), None)
        if type is None:
            raise invalid(f"{kind} needs the objectTypeId of an object type")
    if kind.endswith(".propertyChange") != bool(name):
        raise invalid("propertyName is needed for propertyChange and for nothing else")
    if name in _REFUSED or (type and (type.name, name) in UNHEARD):
        raise invalid(f"{name} is not a property that can be subscribed to")
    if len(app.subscriptions) >= SUBSCRIPTIONS:
        raise invalid(f"At most {SUBSCRIPTIONS} subscriptions are allowed")
    row: Json = {"eventType": kind, "active": bool(body.get("active"))}
    if name:
        row["propertyName"] = name
    if type:
        row["objectTypeId"] = type.id
    same = {k: v for k, v in row.items() if k != "active"}
    if any(
        same.items() <= kept.items() and len(kept) == len(row) + 2
        for kept in app.subscriptions.values()
    ):
        raise refuse(409, "CONFLICT", "This subscription exists already")
    first = max((int(id) for id in app.subscriptions), default=6_999_999)
    row |= {"id": str(first + 1), "createdAt": iso(call.at)}
    app.subscriptions[row["id"]] = row
    return Answer(201, row)


@routes.on("POST", "/webhooks/v3/{app_id}/subscriptions/batch/update")
def update_subscriptions(app: HubSpot, call: Call, app_id: str) -> Answer:
    _developer(app, call, app_id)
    rows, at = read_json(call).get("inputs") or [], iso(call.at)
    if unknown := [str(r.get("id")) for r in rows if str(r.get("id")) not in app.subscriptions]:
        raise missing(unknown[0])
    for row in rows:
        app.subscriptions[str(row["id"])]["active"] = bool(row.get("active"))
    results = [app.subscriptions[str(row["id"])] for row in rows]
    body = {"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at}
    return Answer(200, body)


@routes.on("GET", "/webhooks/v3/{app_id}/subscriptions/{id}")
def subscription(app: HubSpot, call: Call, app_id: str, id: str) -> Answer:
    _developer(app, call, app_id)
    if id not in app.subscriptions:
        raise missing(id)
    return Answer(200, app.subscriptions[id])


@routes.on("DELETE", "/webhooks/v3/{app_id}/settings")
def clear_webhook_settings(app: HubSpot, call: Call, app_id: str) -> Answer:
    _developer(app, call, app_id)
    app.target = None
    return Answer(204)


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
