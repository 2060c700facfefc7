"""The local HubSpot: one app, its portals and tokens, and how a call is answered."""

import math
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sandbox.hubspot import events
from sandbox.hubspot.defaults import person
from sandbox.hubspot.errors import invalid, missing, refuse
from sandbox.hubspot.options import HubSpotOptions
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import TYPES, ObjectType, object_type
from sandbox.later import Later
from sandbox.records import Record, history
from sandbox.webhooks import Manner, Sender
from sandbox.wire import (
    Actor,
    Answer,
    Call,
    Handler,
    Json,
    Post,
    Quota,
    RefusedError,
    Routes,
    Table,
    Window,
)

TOKEN_LIFE = timedelta(seconds=1800)

routes = Routes()


@dataclass(frozen=True, slots=True)
class HubSpotSettings:
    """Credentials and temper of the local HubSpot."""

    token: str = "pat-na1-sandbox-0000-0000"
    portal_id: int = 62515
    more_portals: tuple[tuple[str, int], ...] = ()
    app_id: int = 54321
    client_id: str = "hubspot-sandbox-client"
    client_secret: str = "hs-sandbox-client-secret"
    refresh_token: str = "na1-hubspot-sandbox-refresh"
    target: str | None = None
    limit: int = 190
    daily_limit: int = 650_000
    search_limit: int = 5
    search_lag: float = 2.0
    merge_new_id: bool = False
    retry_after: float = 0.5


class HubSpot:
    """One app installed in one or more portals. Every public call goes through `answer`."""

    name = "hubspot"

    def __init__(self, settings: HubSpotSettings) -> None:
        self.settings = settings
        manner = Manner(batch=100, timeout=5, attempts=11, backoff=settings.retry_after)
        self.sender = Sender(manner, self.post)
        self.quota = Quota(settings.limit, 10)
        self.search_quota = Quota(settings.search_limit, 1)
        self.today = 0  # calls since the start, or a reset: nobody waits for midnight here
        self.later = Later()
        self.reset()

    def reset(self) -> None:
        """Back to fresh portals."""
        config = self.settings
        self.tokens = {config.token: config.portal_id, **dict(config.more_portals)}
        self.options = HubSpotOptions(merge_new_id=config.merge_new_id)
        self.later.clear()
        self.portals = {id: Portal(id, self.options) for id in self.tokens.values()}
        self.access_tokens: dict[str, tuple[int, float]] = {}
        self.subscriptions: dict[str, Json] = {}
        self.target: str | None = config.target
        self.quota.clear()
        self.today = 0
        self.search_quota.clear()

    # -- answering --

    def answer(self, call: Call) -> Answer:
        """Authenticate, count, dispatch. Errors come in HubSpot's own shapes."""
        try:
            return self._answer(call)
        except RefusedError as refusal:
            return refusal.answer
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Every check comes before the first write, so nothing has happened yet.
            return invalid(f"Invalid input JSON: {error!r}").answer

    def _answer(self, call: Call) -> Answer:
        if call.path.startswith("/oauth/") or call.path.startswith("/webhooks/v3/"):
            handler, values = self._route(call)
            return handler(self, call, **values)
        portal, actor = self._admit(call)
        call = call.by(actor)
        if actor.is_person:
            handler, values = self._route(call)
            return handler(self, portal, call, **values)
        headers = self._count(call)
        try:
            handler, values = self._route(call)
            answer = handler(self, portal, call, **values)
        except RefusedError as refusal:
            answer = refusal.answer
        return Answer(answer.status, answer.body, {**answer.headers, **headers})

    def _route(self, call: Call) -> tuple[Handler, dict[str, str]]:
        path = call.path.rstrip("/")
        try:
            route, values = routes.find(call.method, path)
        except LookupError:
            raise refuse(404, "OBJECT_NOT_FOUND", f"No resource at {path}") from None
        if route is None:
            raise refuse(405, "METHOD_NOT_ALLOWED", "HTTP 405 Method Not Allowed")
        return route.handler, values

    def _admit(self, call: Call) -> tuple[Portal, Actor]:
        """The portal a token opens and who acts there; 401 for an unknown or stale token.

        https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/overview
        """
        if call.actor.is_person:
            portal = self.portals[int(call.one("portal") or self.settings.portal_id)]
            who = person(portal.owners, call.person)
            if who is None:
                raise refuse(401, "INVALID_AUTHENTICATION", f"No active owner {call.person}")
            return portal, Actor("CRM_UI", who)
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        app = Actor("INTEGRATION", str(self.settings.app_id), token=token)
        if scheme.lower() == "bearer" and token in self.tokens:
            return self.portals[self.tokens[token]], app
        if scheme.lower() == "bearer" and token in self.access_tokens:
            portal_id, expires = self.access_tokens[token]
            late = call.at.timestamp() - expires
            if late >= 0:
                text = f"The OAuth token used to make this call expired {late:.0f} second(s) ago."
                raise refuse(401, "EXPIRED_AUTHENTICATION", text)
            return self.portals[portal_id], app
        text = "Authentication credentials not found or not valid."
        raise refuse(401, "INVALID_AUTHENTICATION", text)

    def _count(self, call: Call) -> dict[str, str]:
        """Rate-limit headers; 429 with HubSpot's body when a window is full.

        https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
        """
        daily = self.settings.daily_limit if self.settings.limit else math.inf
        if self.today >= daily:
            raise _too_many("daily", "DAILY", {})
        if call.path.endswith("/search"):
            # Search has its own limit and shows no headers.
            if self.search_quota.take(call.actor.token, call.at).exceeded:
                raise _too_many("secondly", "SECONDLY", {})
            self.today += 1
            return {}
        window = self.quota.take(call.actor.token, call.at)
        self.today += not window.exceeded
        headers = _rate_limit(window, self.settings.daily_limit, self.today) if window.limit else {}
        if window.exceeded:
            raise _too_many("ten_secondly_rolling", "TEN_SECONDLY_ROLLING", headers)
        return headers

    def follow(self, portal: Portal, call: Call, record: Record, names: list[str]) -> None:
        """Let the automations hear of a change."""
        from sandbox.hubspot.automation import follow

        follow(self, portal, call, record, names)

    # -- webhooks --

    def post(self, target: str, batch: list[Json], attempt: int) -> Post | None:
        return events.post(self, batch, attempt)

    # -- what the front asks --

    def drain(self) -> list[tuple[str, str]]:
        return [w for portal in self.portals.values() for w in portal.store.drain()]

    def history(self, type: str, id: str) -> Json | None:
        """A record's history; with several portals the id may be `PORTAL:ID`."""
        portal_id, _, own = id.rpartition(":")
        portal = self.portals[int(portal_id or self.settings.portal_id)]
        kind = object_type(type)
        record = portal.store.find(kind.name, own) if kind else None
        return history(record) if record else None

    def tables(self, most: int | None) -> dict[str, Table]:
        from sandbox.hubspot.tables import tables

        return tables(self, most)

    def staff(self, person: Json, *, active: bool) -> Json:
        """Let a person join every portal, or leave it as an archived owner."""
        owners = [portal.staff(person, active=active) for portal in self.portals.values()]
        return owners[0]

    def seed(self, wanted: Json) -> Json:
        from sandbox.hubspot.seeds import seed

        return seed(self, wanted)

    def dump(self) -> Json:
        return {
            "portals": {str(id): portal.dump() for id, portal in self.portals.items()},
            "access_tokens": self.access_tokens,
            "subscriptions": self.subscriptions,
            "target": self.target,
            "options": asdict(self.options),
        }

    def load(self, kept: Json) -> None:
        for id, state in kept["portals"].items():
            self.portals.setdefault(int(id), Portal(int(id), self.options)).load(state)
        self.options.set(kept.get("options", {}))
        self.access_tokens = {token: (p, at) for token, (p, at) in kept["access_tokens"].items()}
        self.subscriptions = kept["subscriptions"]
        self.target = self.settings.target or kept["target"]


def typed(name: str) -> ObjectType:
    """An object type by any of its names; 400 for one that does not exist."""
    type = object_type(name)
    if type is None:
        text = f"Unable to infer object type from: {name}"
        raise refuse(400, "VALIDATION_ERROR", text)
    return type


def read_json(call: Call) -> Json:
    """The body as an object; 400 or 415 if it is not one."""
    kind = call.headers.get("content-type", "application/json")
    if call.body and not kind.startswith("application/json"):
        raise refuse(415, "VALIDATION_ERROR", "HTTP 415 Unsupported Media Type")
    try:
        body = call.json()
    except ValueError:
        raise refuse(400, "VALIDATION_ERROR", "Invalid input JSON") from None
    if not isinstance(body, dict):
        raise refuse(400, "VALIDATION_ERROR", "Invalid input JSON: an object was expected")
    return body


def _rate_limit(window: Window, daily: int, today: int) -> dict[str, str]:
    return {
        "x-hubspot-ratelimit-max": str(window.limit),
        "x-hubspot-ratelimit-remaining": str(window.remaining),
        "x-hubspot-ratelimit-interval-milliseconds": "10000",
        "x-hubspot-ratelimit-daily": str(daily),
        "x-hubspot-ratelimit-daily-remaining": str(max(daily - today, 0)),
    }


def _too_many(words: str, policy: str, headers: dict[str, str]) -> RefusedError:
    body: dict[str, Any] = {
        "status": "error",
        "message": f"You have reached your {words} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": str(uuid.uuid4()),
        "policyName": policy,
        "requestId": str(uuid.uuid4()),
    }
    return RefusedError(Answer(429, body, headers))


@routes.on("POST", "/oauth/v3/token")
@routes.on("POST", "/oauth/v1/token")
def token(app: HubSpot, call: Call) -> Answer:
    """A new access token for a refresh token.

    https://developers.hubspot.com/docs/api-reference/legacy/authentication/manage-oauth-tokens
    """
    form, config = call.form(), app.settings
    known = {config.refresh_token: config.portal_id}
    known |= {f"{config.refresh_token}-{portal}": portal for portal in app.portals}
    if call.one("grant_type"):
        return _bad_grant("invalid_request", "Parameters must be in the body.")
    if (form.get("client_id"), form.get("client_secret")) != (
        config.client_id,
        config.client_secret,
    ):
        return _bad_grant("invalid_client", "The client id or secret is wrong.")
    if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in known:
        return _bad_grant("invalid_grant", "missing or invalid refresh token")
    portal_id = known[form["refresh_token"]]
    access = f"CL{uuid.uuid4().hex}{uuid.uuid4().hex}"
    app.access_tokens[access] = (portal_id, (call.at + TOKEN_LIFE).timestamp())
    body = {
        "token_type": "bearer",
        "access_token": access,
        "refresh_token": form["refresh_token"],
        "expires_in": int(TOKEN_LIFE.total_seconds()),
        "hub_id": portal_id,
        "scopes": ["oauth"] + [f"crm.objects.{t.plural}.read" for t in TYPES.values()],
    }
    return Answer(200, body)


@routes.on("GET", "/account-info/v3/details")
def account(app: HubSpot, portal: Portal, call: Call) -> Answer:
    """Which portal a token belongs to."""
    body = {
        "portalId": portal.id,
        "accountType": "DEVELOPER_TEST",
        "timeZone": "Etc/UTC",
        "companyCurrency": "USD",
        "uiDomain": "app.hubspot.com",
        "dataHostingLocation": "na1",
    }
    return Answer(200, body)


def _bad_grant(code: str, text: str) -> Answer:
    body = {
        "error": code,
        "error_description": text,
        "status": "BAD_REFRESH_TOKEN" if code == "invalid_grant" else "BAD_REQUEST",
        "message": text,
    }
    return Answer(400, body)


def existing(portal: Portal, type: ObjectType, id: str, id_property: str = "") -> Record:
    """A live record by id, by an id it swallowed, or by a unique property; 404 if none."""
    if not id_property or id_property == "hs_object_id":
        record = portal.get(type, id)
    elif portal.is_unique(type, id_property):
        record = portal.by_unique(type, id_property, id)
    else:
        text = f"Property {id_property} is not a unique identifier property"
        raise refuse(400, "VALIDATION_ERROR", text)
    if record is None:
        raise missing(id)
    return record
