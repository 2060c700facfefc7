"""The local Close organisation: its state, who may call, and how a call is answered."""

import base64
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import timedelta

from sandbox.close import defaults
from sandbox.close.event_types import ACTIONS
from sandbox.close.ids import record_id, short_id
from sandbox.close.options import CloseOptions
from sandbox.later import Later
from sandbox.records import Record, Store, history
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

RECORDS = ("lead", "contact", "opportunity")
ACTIVITIES = ("activity.note", "activity.call", "activity.email", "activity.meeting")
TASKS = ("task.lead", "task.outgoing_call")
CHILDREN = ("contact", "opportunity", *ACTIVITIES, *TASKS)
TOKEN_LIFE = timedelta(seconds=3600)

routes = Routes()


@dataclass(frozen=True, slots=True)
class CloseSettings:
    """Credentials and temper of the local Close."""

    api_key: str = "api_SandboxCloseKey0000000.local"
    user_id: str = defaults.USERS[0]["id"]
    client_id: str = "oa2client_SandboxClient000000000"
    client_secret: str = "close-sandbox-secret"
    refresh_token: str = "close-sandbox-refresh"
    webhook: str | None = None
    signature_key: str = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
    consolidation: float = 0.2
    limit: int = 100
    window: float = 5.0
    search_lag: float = 2.0
    retry_after: float = 0.5

    @property
    def api_key_id(self) -> str:
        """A key's public id is the part before its dot."""
        return self.api_key.partition(".")[0]


def refuse(status: int, text: str) -> RefusedError:
    """A plain refusal: `{"error": text}`."""
    return RefusedError(Answer(status, {"error": text}))


def invalid(fields: Json, *errors: str) -> RefusedError:
    """A 400 as the official client reads it: `errors` and `field-errors`."""
    return RefusedError(Answer(400, {"errors": list(errors), "field-errors": fields}))


class Close:
    """One organisation. Every public call goes through `answer`."""

    name = "close"

    def __init__(self, settings: CloseSettings) -> None:
        self.settings = settings
        manner = Manner(batch=1, timeout=10, attempts=500, backoff=settings.retry_after)
        self.sender = Sender(manner, self.post)
        self.quota = Quota(settings.limit, settings.window)
        self.later = Later()
        self.reset()

    def reset(self) -> None:
        """Back to a fresh organisation."""
        self.store = Store()
        self.users = deepcopy(defaults.USERS)
        self.inactive_users = deepcopy(defaults.INACTIVE_USERS)
        self.lead_statuses = deepcopy(defaults.LEAD_STATUSES)
        self.pipelines = deepcopy(defaults.PIPELINES)
        self.custom_fields: dict[str, list[Json]] = {type: [] for type in RECORDS}
        self.subscriptions: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.event_count = 0
        self.cursors: dict[str, Json] = {}
        self.access_tokens: dict[str, float] = {}
        self.refresh_tokens = {self.settings.refresh_token}
        self.children: dict[str, dict[str, dict[str, None]]] = {}
        self.options = CloseOptions()
        self.later.clear()
        self.quota.clear()
        self.subscribe_built_in()

    def subscribe_built_in(self) -> None:
        """The subscription of the command line, once."""
        if not self.settings.webhook:
            return
        events = [
            {"object_type": type, "action": action}
            for type in ("lead", *CHILDREN)
            for action in sorted(ACTIONS[type])
        ]
        id = "whsub_SandboxSubscription00"
        self.subscriptions[id] = {
            "id": id,
            "url": self.settings.webhook,
            "events": events,
            "status": "active",
            "verify_ssl": True,
            "signature_key": self.settings.signature_key,
        }

    # -- answering --

    def answer(self, call: Call) -> Answer:
        """Authenticate, count, dispatch. Errors come in Close's own shapes."""
        try:
            return self._answer(_unmasked(call))
        except RefusedError as refusal:
            return refusal.answer
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Every check comes before the first write, so nothing has happened yet.
            return invalid({}, f"The request could not be understood: {error!r}").answer

    def _answer(self, call: Call) -> Answer:
        if call.path.startswith("/oauth2/"):
            route, values = self._route(call)
            return route(self, call, **values)
        path = call.path.removeprefix("/api/v1")
        if path == call.path:
            raise refuse(404, "Not found")
        actor = self._actor(call)
        call = Call(call.method, path, call.query, call.headers, call.body, call.at, actor)
        if actor.is_person:
            route, values = self._route(call)
            return route(self, call, **values)
        window = self.quota.take(f"{actor.token} {self._group(call)}", call.at)
        headers = {"ratelimit": _rate_limit(window)} if self.settings.limit else {}
        if window.exceeded:
            headers["retry-after"] = str(math.ceil(window.reset))
            return Answer(429, {"error": "Too many requests"}, headers)
        try:
            route, values = self._route(call)
            answer = route(self, call, **values)
        except RefusedError as refusal:
            answer = refusal.answer
        return Answer(answer.status, answer.body, {**answer.headers, **headers})

    def _route(self, call: Call) -> tuple[Handler, dict[str, str]]:
        try:
            route, values = routes.find(call.method, call.path)
        except LookupError:
            raise refuse(404, "Not found") from None
        if route is None:
            raise refuse(405, "Method not allowed")
        return route.handler, values

    def _group(self, call: Call) -> str:
        """The endpoint group of a call; limits are counted per group and credential."""
        try:
            route, _ = routes.find(call.method, call.path)
        except LookupError:
            route = None
        return f"{call.method} {route.template if route else '?'}"

    def _actor(self, call: Call) -> Actor:
        """Who calls; 401 for anyone unknown."""
        if call.actor.is_person:
            named = [u for u in self.users if u["email"] == call.person]
            if call.person and not named:
                raise refuse(401, f"No active user {call.person}")
            return Actor("CRM_UI", user=(named or self.users)[-1]["id"])
        scheme, _, given = call.headers.get("authorization", "").partition(" ")
        user = self.settings.user_id
        if scheme.lower() == "basic" and _decoded(given) == f"{self.settings.api_key}:":
            return Actor("api_key", self.settings.api_key_id, user, token=given)
        if scheme.lower() == "bearer" and self.access_tokens.get(given, 0) > call.at.timestamp():
            return Actor("oauth", self.settings.client_id, user, token=given)
        raise refuse(401, "Unauthorized")

    def read_json(self, call: Call) -> Json:
        """The body as an object; 400 or 415 if it is not one."""
        kind = call.headers.get("content-type", "application/json")
        if call.body and not kind.startswith("application/json"):
            raise refuse(415, "Unsupported media type")
        try:
            body = call.json()
        except ValueError:
            raise invalid({}, "Invalid JSON in the request body.") from None
        if not isinstance(body, dict):
            raise invalid({}, "The request body must be an object.")
        return body

    # -- state that several files share --

    def user(self, id: str | None) -> Json | None:
        """A user, active or not."""
        everybody = (*self.users, *self.inactive_users)
        return next((user for user in everybody if user["id"] == id), None)

    def can_own(self, id: str, current: str | None = None) -> bool:
        """Whether a record may be given to a user: to an active one, or to whom it has already."""
        return id == current or any(user["id"] == id for user in self.users)

    def user_name(self, id: str | None) -> str | None:
        user = self.user(id)
        return f"{user['first_name']} {user['last_name']}" if user else None

    def lead_status(self, id: str | None) -> Json | None:
        return next((status for status in self.lead_statuses if status["id"] == id), None)

    def deal_status(self, id: str | None) -> tuple[Json, Json] | None:
        """The pipeline and status of an opportunity status id."""
        for pipeline in self.pipelines:
            for status in pipeline["statuses"]:
                if status["id"] == id:
                    return pipeline, status
        return None

    def of_lead(self, type: str, lead_id: str) -> Iterator[Record]:
        """The live children of a lead that have this type, in the order they were added."""
        for id in self.children.get(lead_id, {}).get(type, {}):
            if record := self.store.get(type, id):
                yield record

    def all_of_lead(self, lead_id: str) -> list[Record]:
        return [child for type in CHILDREN for child in self.of_lead(type, lead_id)]

    def adopt(self, record: Record) -> None:
        """Remember to which lead a record belongs."""
        if lead_id := record.get("lead_id"):
            lead = self.children.setdefault(lead_id, {})
            lead.setdefault(record.type, {})[record.id] = None

    def abandon(self, record: Record) -> None:
        if lead_id := record.get("lead_id"):
            self.children.get(lead_id, {}).get(record.type, {}).pop(record.id, None)

    def follow(self, call: Call, record: Record, names: list[str]) -> None:
        """Let the automations hear of a change."""
        from sandbox.close.automation import follow

        follow(self, call, record, names)

    # -- what the front asks --

    def drain(self) -> list[tuple[str, str]]:
        return self.store.drain()

    def history(self, type: str, id: str) -> Json | None:
        """A record's history; `note` and `task` will do for `activity.note` and `task.lead`."""
        names = (type, f"activity.{type}", *(TASKS if type == "task" else ()))
        record = next((r for name in names if (r := self.store.find(name, id))), None)
        return history(record) if record else None

    def tables(self, most: int | None) -> dict[str, Table]:
        from sandbox.close.tables import tables

        return tables(self, most)

    def staff(self, person: Json, *, active: bool) -> Json:
        """Let a person, known by e-mail address, join or leave; who leaves can be back later."""
        everybody = [*self.users, *self.inactive_users]
        known = next((user for user in everybody if user["email"] == person["email"]), None)
        blank = {"id": record_id("user"), "first_name": "", "last_name": ""}
        user = {**blank, **(known or {}), **person}
        for users in (self.users, self.inactive_users):
            users[:] = [kept for kept in users if kept["email"] != person["email"]]
        # New people come first: the last one is who edits as a person.
        (self.users if active else self.inactive_users).insert(0, user)
        return user

    def seed(self, wanted: Json) -> Json:
        from sandbox.close.seeds import seed

        return seed(self, wanted)

    def post(self, target: str, events: list[Json], attempt: int) -> Post | None:
        from sandbox.close.events import post

        return post(self, target, events[0])

    def dump(self) -> Json:
        return {
            "store": self.store.dump(),
            **{name: getattr(self, name) for name in _KEPT},
            "refresh_tokens": sorted(self.refresh_tokens),
            "options": asdict(self.options),
        }

    def load(self, kept: Json) -> None:
        self.store.load(kept["store"])
        for name in _KEPT:
            setattr(self, name, kept.get(name, getattr(self, name)))
        self.refresh_tokens = set(kept["refresh_tokens"])
        self.options.set(kept.get("options", {}))
        self.children = {}
        for type in CHILDREN:
            for record in self.store.live(type):
                self.adopt(record)
        self.subscribe_built_in()


_KEPT = (
    "users",
    "inactive_users",
    "lead_statuses",
    "pipelines",
    "custom_fields",
    "subscriptions",
    "events",
    "event_count",
    "access_tokens",
)


@routes.on("POST", "/oauth2/token/")
def refresh_token(org: Close, call: Call) -> Answer:
    """A new access token. Refresh tokens rotate: the old one is revoked.

    https://developer.close.com/api/overview/oauth-authentication
    """
    form = call.form()
    config = org.settings
    if (form.get("client_id"), form.get("client_secret")) != (
        config.client_id,
        config.client_secret,
    ):
        return Answer(401, {"error": "invalid_client"})
    if form.get("grant_type") != "refresh_token":
        return Answer(400, {"error": "unsupported_grant_type"})
    if form.get("refresh_token") not in org.refresh_tokens:
        return Answer(400, {"error": "invalid_grant"})
    org.refresh_tokens.remove(form["refresh_token"])
    access, refresh = record_id("at"), record_id("rt")
    org.access_tokens[access] = (call.at + TOKEN_LIFE).timestamp()
    org.refresh_tokens.add(refresh)
    body = {
        "token_type": "Bearer",
        "access_token": access,
        "expires_in": int(TOKEN_LIFE.total_seconds()),
        "refresh_token": refresh,
        "scope": "all.full_access offline_access",
        "organization_id": defaults.ORGANIZATION,
        "user_id": config.user_id,
    }
    return Answer(200, body)


@routes.on("POST", "/oauth2/revoke/")
def revoke_token(org: Close, call: Call) -> Answer:
    """Forget a refresh token and all access tokens."""
    org.refresh_tokens.discard(call.form().get("token", ""))
    org.access_tokens.clear()
    return Answer(200, {})


def new_request_id() -> str:
    return short_id("req")


def _rate_limit(window: Window) -> str:
    """The header of https://developer.close.com/api/overview/rate-limits; reset has decimals."""
    return f"limit={window.limit}, remaining={window.remaining}, reset={window.reset:.3f}"


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def _unmasked(call: Call) -> Call:
    """A POST that says it is a GET with a long filter, as the GET it means.

    https://developer.close.com/api/overview
    """
    if call.method != "POST" or call.headers.get("x-http-method-override", "").upper() != "GET":
        return call
    try:
        parameters = call.json().get("_params") or {}
    except (ValueError, AttributeError):
        raise invalid({}, "Invalid JSON in the request body.") from None
    query = {name: [str(value)] for name, value in parameters.items()}
    return Call("GET", call.path, query, call.headers, b"", call.at, call.actor)
