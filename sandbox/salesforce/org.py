"""The local Salesforce organisation: its state, who may call, and how a call is answered."""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox.later import Later
from sandbox.records import Record, Store, history
from sandbox.salesforce import defaults
from sandbox.salesforce.bus import Bus
from sandbox.salesforce.errors import missing, refuse
from sandbox.salesforce.ids import is_id, numbered, whole
from sandbox.salesforce.options import SalesforceOptions
from sandbox.salesforce.outbound import is_acknowledged
from sandbox.salesforce.schema import Field, Schema, SObject, parsed, sobject
from sandbox.salesforce.transaction import Transaction
from sandbox.webhooks import Manner, Sender
from sandbox.wire import Actor, Answer, Call, Json, Post, RefusedError, Routes, Table, now

HERE = Path(__file__).parent
OLDEST, NEWEST = 31, 67
PERSON_SOURCE = "CRM_UI"
_VERSIONED = re.compile(r"/services/data/v(\d+)\.0(/.*)\Z")

#: `/services/oauth2/…` and the like; the paths beneath a version; what only people can do.
plain, routes, people = Routes(), Routes(), Routes()


@dataclass(frozen=True, slots=True)
class SalesforceSettings:
    """Credentials and temper of the local Salesforce."""

    client_id: str = "3MVG9SandboxConsumerKey000000000000000000000"
    client_secret: str = "salesforce-sandbox-secret"
    username: str = "integration@syncline.example"
    password: str = "salesforce-sandbox-password"
    security_token: str = "SandboxSecurityToken"
    refresh_token: str = "5Aep861SandboxRefreshToken"
    key: Path = HERE / "private_key.pem"
    external_id: str = defaults.EXTERNAL_ID
    webhook: str | None = None
    webhook_secret: str = "salesforce-sandbox-webhook-secret"
    outbound: str | None = None
    retry_after: float = 0.5
    daily_limit: int = 15_000


class Salesforce:
    """One organisation. Every public call goes through `answer`."""

    name = "salesforce"

    def __init__(self, settings: SalesforceSettings) -> None:
        self.settings = settings
        # Call-outs from Apex are not sent again.
        self.sender = Sender(Manner(batch=100, timeout=10, attempts=1, backoff=1), self.post)
        again = Manner(batch=100, timeout=60, attempts=200, backoff=settings.retry_after)
        self.outbound = Sender(again, self.post_outbound, accepts=is_acknowledged)
        self.later = Later()
        self.bus = Bus()
        self.reset()

    def reset(self) -> None:
        """Back to a fresh organisation."""
        self.store = Store()
        self.options = SalesforceOptions(daily_limit=self.settings.daily_limit)
        self.schema = Schema(self.options)
        self.custom_fields: list[Json] = []
        self.custom_objects: list[Json] = []
        self.next_ids: dict[str, int] = {}
        self.unique: dict[tuple[str, str], dict[str, list[str]]] = {}
        self.sessions: dict[str, Json] = {}
        self.codes: dict[str, Json] = {}
        self.refresh_tokens = {self.settings.refresh_token: self.settings.username}
        self.cursors: dict[str, Any] = {}
        self.jobs: dict[str, Any] = {}
        self.transaction: Transaction | None = None
        self.deleted_with: dict[str, str] = {}
        self.bus.forget()
        self.calls: dict[str, int] = {}
        self.later.clear()
        self._build()

    def _build(self) -> None:
        created = datetime.fromisoformat(defaults.CREATED)
        for type, row in defaults.rows():
            id = row.pop("Id", None) or self.next_id(type)
            self.store.create(type, id, row, at=created, by=Actor("SETUP"))
        if name := self.settings.external_id:
            for type in defaults.WITH_EXTERNAL_ID:
                self.add_field(type, name, EXTERNAL)
        self.store.drain()

    def add_object(self, name: str, plural: str) -> str:
        """A custom object that has a name; the prefix of its ids."""
        prefix = f"a{len(self.custom_objects):02}"
        fields = {"Name": "string 80 required"}
        row = {"prefix": prefix, "plural": plural, "owner": "User", "fields": fields}
        self.custom_objects.append({"name": name, "plural": plural})
        self.schema.add_object(sobject(name, row))
        return prefix

    def add_field(self, type: str, name: str, spec: str, **more: Any) -> None:
        """A custom field, by the way `objects.yaml` writes one."""
        self.custom_fields.append({"type": type, "name": name, "spec": spec, **more})
        self.schema.add_field(type, parsed(name, spec, custom=True, **more))

    # -- answering --

    def answer(self, call: Call) -> Answer:
        """Authenticate, count, dispatch. Errors come in Salesforce's own shapes."""
        return _heard(self._answer, call)

    def attempt(self, call: Call) -> Answer:
        """The same for a call inside another, which is neither admitted nor counted again."""
        return _heard(self.dispatch, call)

    def _answer(self, call: Call) -> Answer:
        if (found := _find(plain, call)) is not None:
            return found(self)
        if call.actor.is_person and (found := _find(people, call)) is not None:
            return found(self, self._as_person(call))
        match = _VERSIONED.match(call.path)
        if not match or not OLDEST <= int(match[1]) <= NEWEST:
            raise missing()
        call = replace(call, path=match[2].rstrip("/") or "/", base=f"/services/data/v{match[1]}.0")
        if call.actor.is_person:
            return self.dispatch(self._as_person(call))
        return self._counted(call.by(self._actor(call)))

    def dispatch(self, call: Call) -> Answer:
        """Answer a call whose path is beneath the version and whose actor is known."""
        found = _find(routes, call)
        if found is None:
            raise missing()
        return found(self, call)

    def used(self, at: datetime) -> int:
        """The calls of the last 24 hours, by whole hours."""
        hour = _hour(at)
        return sum(count for then, count in self.calls.items() if hour - 24 < int(then) <= hour)

    def _counted(self, call: Call) -> Answer:
        """The answer, and how many of the day's calls are used up; 403 for one too many."""
        if 0 < self.options.daily_limit <= self.used(call.at):
            text = "TotalRequests Limit exceeded."
            answer = refuse("REQUEST_LIMIT_EXCEEDED", text, status=403).answer
        else:
            hour = str(_hour(call.at))
            self.calls = {h: n for h, n in self.calls.items() if int(h) > int(hour) - 24}
            self.calls[hour] = self.calls.get(hour, 0) + 1
            answer = self.attempt(call)
        limit = self.options.daily_limit or UNLIMITED
        usage = {"Sforce-Limit-Info": f"api-usage={self.used(call.at)}/{limit}"}
        return Answer(answer.status, answer.body, {**answer.headers, **usage})

    def _as_person(self, call: Call) -> Call:
        staff = {u.id: u for u in self.store.all("User") if u.get("IsActive")}
        staff.pop(defaults.INTEGRATION, None)
        named = [u for u in staff.values() if u.get("Email") == call.person]
        if call.person and not named:
            raise refuse("INVALID_SESSION_ID", f"No active user {call.person}", status=401)
        who = named[0] if named else staff.get(defaults.EDITOR) or next(iter(staff.values()))
        return call.by(Actor(PERSON_SOURCE, who.id, who.id))

    def _actor(self, call: Call) -> Actor:
        """Who calls; 401 for a session that is unknown or over."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        session = self.sessions.get(token) if scheme.lower() in ("bearer", "oauth") else None
        at = call.at.timestamp()
        if session is None or at - session["used"] > self.options.session_seconds:
            self.sessions.pop(token, None)
            raise refuse("INVALID_SESSION_ID", "Session expired or invalid", status=401)
        session["used"] = at
        return Actor("api", session["user"], session["user"], token=token)

    def read_json(self, call: Call) -> Json:
        """The body as an object; 400 or 415 if it is not one."""
        kind = call.headers.get("content-type", "application/json")
        if call.body and "json" not in kind:
            text = f"Content-Type header specified in HTTP request is not supported: {kind}"
            raise refuse("UNSUPPORTED_MEDIA_TYPE", text, status=415)
        try:
            body = call.json()
        except ValueError as error:
            raise refuse("JSON_PARSER_ERROR", str(error)) from None
        if not isinstance(body, dict):
            raise refuse("JSON_PARSER_ERROR", "An object was expected")
        return body

    # -- state that several files share --

    def next_id(self, type: str) -> str:
        number = self.next_ids.get(type, 1)
        self.next_ids[type] = number + 1
        found = self.schema.get(type)
        return numbered(found.prefix if found else type, number)

    def sobject(self, name: str, call: Call) -> SObject:
        """An object as who calls sees it; 404 for one that does not exist."""
        found = self.schema.get(name, person=call.actor.is_person)
        if found is None:
            raise missing()
        return found

    def find(self, type: str, id: str) -> Record | None:
        """A record by either form of its id, live or in the recycle bin."""
        return self.store.find(type, whole(id)) if is_id(id) else None

    def of_any_type(self, id: str) -> Record | None:
        found = self.schema.of_id(id)
        return self.find(found.name, id) if found else None

    def by_value(self, type: str, field: Field, value: object) -> list[Record]:
        """The live records with this value of an external or unique field."""
        ids = self.unique.get((type, field.name), {}).get(_key(value), ())
        return [record for id in ids if (record := self.store.get(type, id))]

    def index(self, record: Record) -> None:
        for key, value in self._keys(record):
            ids = self.unique.setdefault(key, {}).setdefault(value, [])
            if record.id not in ids:
                ids.append(record.id)

    def unindex(self, record: Record) -> None:
        for key, value in self._keys(record):
            ids = self.unique.get(key, {}).get(value, [])
            if record.id in ids:
                ids.remove(record.id)

    def _keys(self, record: Record) -> Iterable[tuple[tuple[str, str], str]]:
        for field in self.schema.objects[record.type].fields.values():
            if (field.external or field.unique) and (value := record.get(field.name)) is not None:
                yield (record.type, field.name), _key(value)

    def told(self, transaction: Transaction) -> None:
        """Let the world and the automations hear of what was committed."""
        from sandbox.salesforce import automation, bus, callouts, outbound, setup

        bus.capture(self, transaction)
        callouts.announce(self, transaction)
        outbound.announce(self, transaction)
        setup.grant(self, transaction)
        automation.follow(self, transaction)

    # -- what the front asks --

    def drain(self) -> list[tuple[str, str]]:
        return self.store.drain()

    def history(self, type: str, id: str) -> Json | None:
        """A record's history; the object may be named in any case."""
        found = self.schema.get(type)
        record = self.find(found.name, id) if found else None
        return history(record) if record else None

    def tables(self, most: int | None) -> dict[str, Table]:
        from sandbox.salesforce.tables import tables

        return tables(self, most)

    def staff(self, person: Json, *, active: bool) -> Json:
        """Let a person, known by e-mail address, join or leave."""
        known = next((u for u in self.store.all("User") if u.get("Email") == person["email"]), None)
        first = person.get("first_name", known.get("FirstName") if known else "") or ""
        last = person.get("last_name", known.get("LastName") if known else "") or ""
        id = known.id if known else self.next_id("User")
        row = defaults.user(id, person["email"], first, last, active=active)
        row.pop("Id")
        by = Actor("SETUP")
        if known:
            self.store.update(known, row, at=now(), by=by)
        else:
            self.store.create("User", id, row, at=now(), by=by)
        self.store.drain()
        return {"id": id, **row}

    def seed(self, wanted: Json) -> Json:
        from sandbox.salesforce.seeds import seed

        return seed(self, wanted)

    def post(self, target: str, events: list[Json], attempt: int) -> Post | None:
        from sandbox.salesforce.callouts import post

        return post(self, events)

    def post_outbound(self, target: str, events: list[Json], attempt: int) -> Post | None:
        from sandbox.salesforce.outbound import post

        return post(self, target, events)

    def dump(self) -> Json:
        return {
            "store": self.store.dump(),
            **{name: getattr(self, name) for name in _KEPT},
            "custom_fields": self.custom_fields,
            "custom_objects": self.custom_objects,
            "bus": self.bus.dump(),
            "options": asdict(self.options),
        }

    def load(self, kept: Json) -> None:
        self.store.load(kept["store"])
        for name in _KEPT:
            setattr(self, name, kept.get(name, getattr(self, name)))
        self.options.set(kept.get("options", {}))
        self.custom_fields.clear()
        for row in kept["custom_objects"]:
            self.add_object(**row)
        for row in kept["custom_fields"]:
            self.add_field(**row)
        self.bus.load(kept["bus"])
        self.unique = {}
        for type in self.schema.objects:
            for record in self.store.live(type):
                self.index(record)


EXTERNAL = "string 255 unique external"
UNLIMITED = 5_000_000
_KEPT = ("next_ids", "deleted_with", "sessions", "refresh_tokens", "calls")


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // 3600


def _heard(act: Callable[[Call], Answer], call: Call) -> Answer:
    try:
        return act(call)
    except RefusedError as refusal:
        return refusal.answer
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Every check comes before the first write, so nothing has happened yet.
        return refuse("JSON_PARSER_ERROR", f"Unexpected input: {error!r}").answer


def _key(value: object) -> str:
    return str(value).casefold()


def _find(table: Routes, call: Call) -> Callable[..., Answer] | None:
    """What answers a call, with the values of its path; 405 for a method the path has not."""
    try:
        route, values = table.find(call.method, call.path.rstrip("/") or "/")
    except LookupError:
        return None
    if route is None:
        text = f"HTTP Method '{call.method}' not allowed."
        raise refuse("METHOD_NOT_ALLOWED", text, status=405)

    def act(org: Salesforce, known: Call = call) -> Answer:
        return route.handler(org, known, **values)

    return act
