"""How the organisation is set up: users, memberships, webhooks."""

import secrets
from typing import Any

from sandbox.close import defaults
from sandbox.close.event_types import ACTIONS
from sandbox.close.filters import check
from sandbox.close.ids import rest_time, short_id
from sandbox.close.org import Close, invalid, refuse, routes
from sandbox.wire import Answer, Call, Json

SUBSCRIPTIONS = 40


@routes.on("GET", "/me/")
def me(org: Close, call: Call) -> Answer:
    """The caller, with the organisations it belongs to."""
    user = org.user(call.actor.user) or org.users[0]
    organizations = [{"id": defaults.ORGANIZATION, "name": "Sandbox", "currency": "USD"}]
    return Answer(200, {**user, "organizations": organizations})


@routes.on("GET", "/user/")
def users(org: Close, call: Call) -> Answer:
    """Active users only; those who left can be read by id."""
    return listed(call, org.users)


@routes.on("GET", "/user/{id}/")
def user(org: Close, call: Call, id: str) -> Answer:
    found = org.user(id)
    if found is None:
        raise refuse(404, "Not found")
    return Answer(200, found)


@routes.on("GET", "/organization/{id}/")
def organization(org: Close, call: Call, id: str) -> Answer:
    """The organisation; `_expand=memberships__user` and its like show whole users.

    https://developer.close.com/api/resources/organizations
    """
    if id != defaults.ORGANIZATION:
        raise refuse(404, "Not found")
    expanded = call.many("_expand")
    body: Json = {"id": id, "name": "Sandbox", "currency": "USD"}
    groups = {"memberships": org.users, "inactive_memberships": org.inactive_users}
    for name, people in groups.items():
        body[name] = [_membership(user, f"{name}__user" in expanded) for user in people]
    return Answer(200, body | {"lead_statuses": org.lead_statuses, "pipelines": org.pipelines})


def _membership(user: Json, expanded: bool) -> Json:
    membership = {
        "id": user["id"].replace("user_", "memb_", 1),
        "user_id": user["id"],
        "role_id": "admin",
        "organization_id": defaults.ORGANIZATION,
    }
    return membership | {"user": user} if expanded else membership


@routes.on("GET", "/webhook/")
def subscriptions(org: Close, call: Call) -> Answer:
    return listed(call, [_shown(s) for s in org.subscriptions.values()])


@routes.on("POST", "/webhook/")
def subscribe(org: Close, call: Call) -> Answer:
    """A new subscription; the only answer that shows its signature key.

    https://developer.close.com/api/resources/webhooks
    """
    if len(org.subscriptions) >= SUBSCRIPTIONS:
        raise invalid({}, f"At most {SUBSCRIPTIONS} webhook subscriptions are allowed.")
    body = org.read_json(call)
    subscription = {
        "id": short_id("whsub"),
        "organization_id": defaults.ORGANIZATION,
        "status": "active",
        "verify_ssl": True,
        "signature_key": secrets.token_hex(32),
        "date_created": rest_time(call.at),
        "date_updated": rest_time(call.at),
        **_subscription({"url": None, "events": None, **body}),
    }
    org.subscriptions[subscription["id"]] = subscription
    location = f"/api/v1/webhook/{subscription['id']}/"
    return Answer(201, subscription, {"location": location})


@routes.on("GET", "/webhook/{id}/")
def subscription(org: Close, call: Call, id: str) -> Answer:
    return Answer(200, _shown(_subscribed(org, id)))


@routes.on("PUT", "/webhook/{id}/")
def update_subscription(org: Close, call: Call, id: str) -> Answer:
    found = _subscribed(org, id)
    found |= _subscription(org.read_json(call))
    found["date_updated"] = rest_time(call.at)
    return Answer(200, _shown(found))


@routes.on("DELETE", "/webhook/{id}/")
def unsubscribe(org: Close, call: Call, id: str) -> Answer:
    _subscribed(org, id)
    del org.subscriptions[id]
    return Answer(204)


def listed(call: Call, rows: list[Json]) -> Answer:
    limit, skip = int(call.one("_limit", "100")), int(call.one("_skip", "0"))
    return Answer(200, {"data": rows[skip : skip + limit], "has_more": len(rows) > skip + limit})


def named(body: Json, key: str) -> str:
    if not isinstance(body.get(key), str) or not body[key].strip():
        raise invalid({key: "This field is required."})
    return str(body[key])


def _subscribed(org: Close, id: str) -> Json:
    if id not in org.subscriptions:
        raise refuse(404, "Not found")
    return org.subscriptions[id]


def _shown(subscription: Json) -> Json:
    return {name: value for name, value in subscription.items() if name != "signature_key"}


def _subscription(body: Json) -> Json:
    """The settable parts of a subscription; 400 names what is wrong."""
    problems: Json = {}
    for name, value in body.items():
        if error := _wrong(name, value):
            problems[name] = error
    if problems:
        raise invalid(problems)
    return body


def _wrong(name: str, value: Any) -> str | None:
    match name:
        case "url":
            good = isinstance(value, str) and value.startswith(("http://", "https://"))
            return None if good else "A valid URL is required."
        case "events":
            return _wrong_events(value)
        case "status":
            return None if value in ("active", "paused") else "Must be active or paused."
        case "verify_ssl":
            return None if isinstance(value, bool) else "Expected a boolean."
        case _:
            return "Unknown field."


def _wrong_events(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "Expected a list of events."
    for event in value:
        if not isinstance(event, dict) or not {"object_type", "action"} <= set(event):
            return "Each event needs object_type and action."
        if event["action"] not in ACTIONS.get(event["object_type"], ()):
            return f"Unknown event {event['object_type']}.{event['action']}."
        if event.get("extra_filter") is not None:
            try:
                check(event["extra_filter"])
            except ValueError as error:
                return str(error)
    return None
