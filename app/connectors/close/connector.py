"""Close: a lead is a company with its contacts and opportunities inside.

https://developer.close.com/api/overview
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.connectors.close import activities, events
from app.connectors.close.activities import CALL, LOG_KEPT, OBJECTS, LogCursor, ids_in
from app.connectors.close.dialect import CloseDialect
from app.connectors.close.events import merge_ends
from app.connectors.close.fields import custom_fields, own_fields
from app.connectors.close.log import REREAD, TrailCursor, logged_events
from app.connectors.close.search import (
    SKEW,
    Cursor,
    any_of,
    at_or_after,
    custom_is,
    domain_is,
    email_is,
    field_of,
    text_is,
)
from app.connectors.close.shapes import (
    COMPANY,
    DEAL,
    KINDS,
    PERSON,
    as_subscription,
    body_of,
    contacts,
    full_name,
    keys_of,
    kind_of,
    named,
    object_of,
    observed,
    time_in,
    time_of,
    title_of,
    wanted,
)
from app.connectors.close.stamps import Stamp, Stamps
from app.sdk import (
    NO_SUCH_CALL,
    Absences,
    Account,
    AccountError,
    Answer,
    Basic,
    ConfigError,
    Connector,
    Delivery,
    Dialect,
    Directory,
    Edit,
    Event,
    Finding,
    Key,
    NotFoundError,
    OAuthRefresh,
    Observation,
    Op,
    Outcome,
    Page,
    Pipeline,
    RateLimitedError,
    Raw,
    Ref,
    RejectedError,
    RemoteField,
    Stage,
    Subscription,
    SyncError,
    TokenSource,
    TokenStore,
    Trail,
    Wire,
    Write,
    background,
    each,
    now,
)

#: The largest page that every list and the search accept.
PAGE = 100
#: https://developer.close.com/api/resources/events/list: 50 is the most.
EVENT_PAGE, EVENT_PAGES = 50, 5
#: Keys asked for in one search.
KEYS = 40
#: How many pages of a list are looked through where there is no search.
SEARCHLESS = 10
#: What a key may not see, or an address does not have.
UNSEEN = (403, *NO_SUCH_CALL)


class NoSearchError(NotFoundError):
    """This address lists such records and cannot search them."""


class Close(Connector):
    """One organisation of Close."""

    dialect: ClassVar[Dialect] = CloseDialect()

    @classmethod
    def sign_in(cls, account: Account, wire: Wire, store: TokenStore | None) -> TokenSource:
        """https://developer.close.com/api/overview/oauth-authentication"""
        have = account.credentials
        if "api_key" in have:
            return Basic(have["api_key"])
        if missing := {"client_id", "client_secret", "refresh_token"} - set(have):
            raise ConfigError(
                f"{account.name}: credentials need api_key, or also {', '.join(sorted(missing))}"
            )
        if store is None:
            # Refresh tokens rotate: to spend one without keeping its successor locks us out.
            raise ConfigError(f"{account.name}: OAuth needs a place to keep rotated tokens")
        return OAuthRefresh(
            f"{wire.origin}{_prefix(wire.base_url)}/oauth2/token/",
            have["client_id"],
            have["client_secret"],
            refresh_token=have["refresh_token"],
            store=store,
            wire=wire,
        )

    @cached_property
    def _searchless(self) -> Absences:
        return Absences()

    @cached_property
    def _stamps(self) -> Stamps:
        return Stamps(self.client, self.account.external_id)

    # ------------------------------------------------------------------------- webhooks

    @classmethod
    def parse(cls, delivery: Delivery, account: Account) -> list[Event]:
        return [events.parse(delivery.body, account.name)]

    async def subscriptions(self) -> list[Subscription]:
        answer = await self.client.call("GET", "/webhook/")
        return [as_subscription(item) for item in answer.data["data"]]

    async def subscribe(self, url: str) -> tuple[Subscription, SecretStr | None]:
        wanted = [
            dict(zip(("object_type", "action"), event.rsplit(".", 1), strict=True))
            for event in self.wanted_events()
        ]
        ours = next((s for s in await self.subscriptions() if s.url == url), None)
        if ours is None:
            body = {"url": url, "verify_ssl": True, "events": wanted}
            answer = await self.client.call("POST", "/webhook/", json=body, creates=True)
        else:
            # An organisation may have 40 of them: mend ours instead of adding one.
            body = {"status": "active", "events": wanted}
            answer = await self.client.call("PUT", "/webhook/{id}/", at={"id": ours.id}, json=body)
        key = answer.data.get("signature_key")
        return as_subscription(answer.data), SecretStr(key) if key else None

    async def unsubscribe(self, subscription_id: str) -> None:
        await self.client.call("DELETE", "/webhook/{id}/", at={"id": subscription_id})

    def _keeps(self, type: str) -> bool:
        """Whether such records travel; unless told, all do."""
        return not self.properties or type in self.properties

    # -------------------------------------------------------------------------- reading

    async def read(self, refs: Sequence[Ref]) -> list[Observation]:
        return await each(refs, self._read_one)

    async def _read_one(self, ref: Ref, *, past: frozenset[str] = frozenset()) -> Observation:
        """``past`` are the leads that were merged into this one, on our way to it."""
        answer = await self.client.call(
            "GET", f"/{ref.type}/{{id}}/", at={"id": ref.id}, accept=(404,)
        )
        if answer.status != 404:
            return observed(ref.account, ref.type, answer.data)
        return await self._missing(ref, past=past | {ref.id})

    async def _missing(self, ref: Ref, *, past: frozenset[str] = frozenset()) -> Observation:
        """What the event log, our second source, says of a record that is not shown."""
        survivor = await self._merged_into(ref.id) if ref.type == COMPANY else None
        if survivor and survivor not in past:
            seen = await self._read_one(Ref(ref.account, COMPANY, survivor), past=past)
            return replace(seen, asked=ref)
        found = await self._logged({"object_id": ref.id, "action": "deleted"})
        gone = any(e.get("object_id") == ref.id and e["action"] == "deleted" for e in found or ())
        return Observation(ref, None, gone=gone)

    async def _merged_into(self, lead_id: str) -> str | None:
        # Which of the two leads is the object of the event is not documented: look at `meta`.
        for event in await self._logged({"object_type": COMPANY, "action": "merged"}) or ():
            source, survivor = merge_ends(event)
            if source == lead_id and survivor and survivor != lead_id:
                return survivor
        return None

    async def _logged(
        self, query: Mapping[str, str], *, since: datetime | None = None
    ) -> list[dict[str, Any]] | None:
        """Events of the last 30 days, newest first, as many as matter; None if we may not look.

        https://developer.close.com/api/resources/events/list
        """
        found: list[dict[str, Any]] = []
        cursor = None
        for _ in range(EVENT_PAGES):
            params = {**query, "_limit": EVENT_PAGE, "_cursor": cursor}
            answer = await self.client.call("GET", "/event/", params=params, accept=(400, *UNSEEN))
            if answer.status != 200:
                return None  # no second source: nothing is proved
            fresh = [
                event
                for event in answer.data["data"]
                if since is None or (time_of(event["date_updated"]) or since) >= since
            ]
            found += fresh
            cursor = answer.data.get("cursor_next")
            if not cursor or len(fresh) < len(answer.data["data"]):
                break
        return found

    async def edits(
        self, refs: Sequence[Ref], paths: Collection[str]
    ) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
        logs = await each(
            refs,
            lambda ref: self._logged({"object_type": object_of(ref.type), "object_id": ref.id}),
        )
        return {
            ref: events.edits(log, paths)
            for ref, log in zip(refs, logs, strict=True)
            if log is not None
        }

    async def find(self, entity: str, keys: Sequence[Key]) -> dict[Key, list[Observation]]:
        found: dict[Key, list[Observation]] = {key: [] for key in keys}
        type = self.manifest.entities[entity].type
        ask = {("person", "email"): email_is, ("company", "domain"): domain_is}
        stamp = None
        if any(key.kind == "external_id" for key in keys) and (
            stamp := await self._stamps.field(type)
        ):
            ask[entity, "external_id"] = partial(custom_is, stamp.id)
        wanted = [key for key in keys if (entity, key.kind) in ask]
        for start in range(0, len(wanted), KEYS):
            some = wanted[start : start + KEYS]
            queries = [ask[entity, key.kind](key.value) for key in some]
            for seen in await self._proposed(type, [any_of(queries)]):
                for key in keys_of(seen, stamp.path if stamp else None):
                    if key in found:
                        found[key].append(seen)
        return found

    async def _proposed(self, type: str, queries: Sequence[Raw]) -> list[Observation]:
        """What a search finds, as it is: the search matches words and lags behind. All there are
        where there is no search.
        """
        try:
            ids = [row["id"] async for row in self._search(type, queries)]
        except NoSearchError:
            return await self._few(type)
        return await self.read([Ref(self.account.name, type, id) for id in dict.fromkeys(ids)])

    async def _few(self, type: str) -> list[Observation]:
        """All records of a type, if they are not too many."""
        seen: list[Observation] = []
        at = Cursor()
        for _ in range(SEARCHLESS):
            page = await self._listed(type, at)
            if page is None:
                break
            seen += page.observations
            if page.cursor is None:
                return seen
            at = Cursor.read(page.cursor, None)
        raise RejectedError(f"there is no search of {type} here, and there are too many to list")

    async def probe(self, write: Write, since: datetime) -> list[Observation]:
        after = since - SKEW
        lead = await self._lead_of(write)
        stamp = await self._stamps.field(write.type) if write.external_id else None
        if stamp and (found := await self._stamped(write, stamp, lead, after)):
            return found
        if write.type == COMPANY or lead is None:
            name = write.fields.get("name")
            if write.type not in (COMPANY, PERSON) or not name:
                return []
            queries = [
                text_is(write.type, "name", name),
                at_or_after(write.type, "date_created", after),
            ]
            rows = await self._proposed(write.type, queries)
        else:
            rows = await self._inside(lead, write.type, after)
        if write.type in OBJECTS:
            return [row for row in rows if row.raw is not None and activities.is_it(write, row.raw)]
        same = ("value", "status_id") if write.type == DEAL else ("name",)
        return [
            row
            for row in rows
            if row.raw is not None
            and (time_of(row.raw.get("date_created")) or after) >= after
            and all(row.raw.get(f) == write.fields[f] for f in same if f in write.fields)
            # Another stamp may be that of a record which lives on in this one.
            and (stamp is None or row.raw.get(stamp.path) or after < stamp.since)
        ]

    async def _inside(self, lead: str, type: str, after: datetime) -> list[Observation]:
        """What of a type a lead holds that was made since; of contacts, all."""
        params = {"lead_id": lead, "_limit": PAGE}
        if type != PERSON:
            params["date_created__gte"] = after.isoformat()
        answer = await self.client.call("GET", f"/{type}/", params=params)
        return [observed(self.account.name, type, raw) for raw in answer.data["data"]]

    async def _stamped(
        self, write: Write, stamp: Stamp, lead: str | None, after: datetime
    ) -> list[Observation]:
        """What bears our id: in its lead, or among what the log says was made since.

        Neither lags behind as the search does. The ``request_id`` by which the log can be asked
        as well is told in no answer, least of all in one that was lost.
        """
        if write.type != COMPANY and lead is not None:
            inside = await self._inside(lead, write.type, after)
            return [one for one in inside if (one.raw or {}).get(stamp.path) == write.external_id]
        query = {"object_type": object_of(write.type), "action": "created"}
        made = [
            Ref(self.account.name, write.type, event["object_id"])
            for event in await self._logged(query, since=after) or ()
            if (event.get("data") or {}).get(stamp.path) == write.external_id
        ]
        return [one for one in await self.read(made) if one.raw is not None]

    async def recall(
        self, entity: str, since: datetime, departed: Sequence[Ref]
    ) -> list[Observation]:
        """The event log keeps what was deleted, as it was.

        https://developer.close.com/api/resources/events
        """
        type = self.manifest.entities[entity].type
        log = await self._logged({"object_type": object_of(type), "action": "deleted"}, since=since)
        return [
            observed(self.account.name, type, {**was, "id": event["object_id"]})
            if (time_of(was.get("date_created")) or since) >= since
            else Observation(Ref(self.account.name, type, event["object_id"]), None)
            for event in log or ()
            if (was := event.get("previous_data"))
        ]

    async def last_shown(self, ref: Ref) -> Observation | None:
        """The event log keeps each record as it was.

        https://developer.close.com/api/resources/events
        """
        log = await self._logged({"object_type": object_of(ref.type), "object_id": ref.id})
        for event in log or ():
            was = event.get("previous_data" if event["action"] == "deleted" else "data")
            if event.get("object_id") == ref.id and was and time_of(was.get("date_updated")):
                seen = observed(ref.account, ref.type, {**was, "id": ref.id})
                return replace(seen, relations={}, mentions=())
        return None

    async def scan(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        with background():
            return await self._page(entity, cursor, since)

    async def _page(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        type = self.manifest.entities[entity].type
        if since is not None and type in OBJECTS and (log := LogCursor.read(cursor)):
            page = await self._from_log(type, log, since)
            if page is not None:
                return page
            cursor, since = None, None  # all of them, then
        at = Cursor.read(cursor, since)
        if at.window is None:
            page = await self._listed(type, at)
            if page is not None:
                return page
            # Too deep for `_skip`: go through all of it again in windows of time.
            at = Cursor(window=datetime(2010, 1, 1, tzinfo=UTC))
        try:
            return await self._windowed(type, at)
        except NoSearchError:
            page = await self._listed(type, Cursor()) if at.updated else None
            if page is None:
                raise
            return page

    async def _from_log(self, type: str, at: LogCursor, since: datetime) -> Page | None:
        """What was made or changed since; None where the event log cannot say.

        Lists of activities have no filter for the time of a change.
        """
        if now() - since > LOG_KEPT:
            return None
        params = {**at.query(type, since - SKEW), "_limit": EVENT_PAGE}
        answer = await self.client.call("GET", "/event/", params=params, accept=(400, *UNSEEN))
        if answer.status != 200:
            return None
        ids = ids_in(answer.data["data"])
        seen = await self.read([Ref(self.account.name, type, id) for id in ids])
        following = at.after(answer.data.get("cursor_next"))
        return Page(_shown(seen), following.write() if following else None)

    async def _listed(self, type: str, at: Cursor) -> Page | None:
        """A page by offset; None where Close refuses to skip so far."""
        # One row of the page before is asked for again: where it has moved, records were
        # deleted meanwhile, and a step back keeps others from slipping through.
        skip = at.skip - 1 if at.last else at.skip
        params: dict[str, Any] = {"_limit": PAGE, "_skip": skip}
        if type == DEAL:
            params["_order_by"] = "date_created"
        answer = await self.client.call(
            "GET", f"/{type}/", params=params, accept=(400,) if skip else ()
        )
        if answer.status == 400:
            return None
        rows = answer.data["data"]
        if at.last and (not rows or rows[0]["id"] != at.last):
            return Page((), Cursor(skip=max(0, at.skip - PAGE)).write())
        cursor = None
        if rows and answer.data.get("has_more"):
            cursor = Cursor(skip=skip + len(rows), last=rows[-1]["id"]).write()
        total = answer.data.get("total_results")
        seen = _shown(observed(self.account.name, type, raw) for raw in rows)
        return Page(seen, cursor, total if isinstance(total, int) else None)

    async def _windowed(self, type: str, at: Cursor) -> Page:
        """A page by time; the same moment may hold many rows, so those seen are remembered."""
        if at.window is None:
            raise ValueError("a cursor without a window")
        field = "date_updated" if at.updated else "date_created"
        searched = type in (COMPANY, PERSON)
        rows = (self._since if searched else self._rows)(type, field, at.window)
        fresh: list[dict[str, Any]] = []
        more = False
        async for row in rows:
            if row["id"] in at.seen:
                continue
            if more := len(fresh) == PAGE:
                break
            fresh.append(row)
        cursor = None
        if more:
            end = time_in(fresh[-1], field).replace(microsecond=0)
            ids = {row["id"] for row in fresh if time_in(row, field) >= end}
            kept = at.seen if end == at.window else frozenset()
            cursor = replace(at, window=end, seen=kept | ids).write()
        name = self.account.name
        if not searched:
            return Page(_shown(observed(name, type, row) for row in fresh), cursor)
        refs = [Ref(name, type, row["id"]) for row in fresh]
        return Page(tuple(await self.read(refs)), cursor)

    async def catch_up(
        self, entity: str, cursor: str | None, since: datetime, *, deep: bool
    ) -> Trail:
        """The event log; what it keeps are the webhooks' own events.

        https://developer.close.com/api/resources/events/list
        """
        asked = logged_events(self.manifest, entity)
        at = TrailCursor.read(cursor)
        bound = max(since - REREAD, now() - LOG_KEPT)
        params = {**asked[at.number], **at.bound(bound), "_limit": EVENT_PAGE}
        with background():
            answer = await self.client.call("GET", "/event/", params=params, accept=UNSEEN)
        if answer.status != 200:
            return Trail(gap="the event log is shown to administrators only")
        following = at.after(answer.data.get("cursor_next"), len(asked))
        bodies = tuple(events.as_webhook(row) for row in answer.data["data"])
        if following is not None:
            return Trail(bodies, following.write())
        short = since < bound
        return Trail(bodies, gap="the event log keeps 30 days" if short else None)

    def _since(self, type: str, field: str, at: datetime) -> AsyncIterator[dict[str, Any]]:
        return self._search(type, [at_or_after(type, field, at)], sort=field)

    async def _rows(self, type: str, field: str, at: datetime) -> AsyncIterator[dict[str, Any]]:
        """What cannot be searched, but listed by time."""
        skip = 0
        while True:
            params = {
                f"{field}__gte": at.isoformat(),
                "_order_by": field,
                "_limit": PAGE,
                "_skip": skip,
            }
            answer = await self.client.call("GET", f"/{type}/", params=params)
            for row in answer.data["data"]:
                yield row
            skip += len(answer.data["data"])
            if not answer.data.get("has_more") or not answer.data["data"]:
                return

    async def _search(
        self, type: str, queries: Sequence[Raw], *, sort: str = "date_created"
    ) -> AsyncIterator[dict[str, Any]]:
        """Ids and times of leads or contacts that fit all of these, oldest first.

        https://developer.close.com/api/resources/advanced-filtering
        """
        body: dict[str, Any] = {
            "query": {
                "type": "and",
                "queries": [{"type": "object_type", "object_type": type}, *queries],
            },
            "_fields": {type: ["id", "date_created", "date_updated"]},
            "sort": [{"direction": "asc", "field": field_of(type, sort)}],
            "_limit": PAGE,
        }
        if type in self._searchless:
            raise NoSearchError(f"there is no search of {type} here")
        while True:
            answer = await self.client.call(
                "POST", "/data/search/", json=body, reads=True, accept=NO_SUCH_CALL
            )
            if answer.status in NO_SUCH_CALL:
                # Where nothing at all is shown, it is our sight that was lost.
                await self.client.call("GET", f"/{type}/", params={"_limit": 1})
                self._searchless.add(type)
                raise NoSearchError(f"there is no search of {type} here")
            for row in answer.data["data"]:
                yield row
            if not (cursor := answer.data.get("cursor")):
                return
            body["cursor"] = cursor

    async def directory(self) -> Directory:
        pipelines, statuses, users = await each(
            ("/pipeline/", "/status/opportunity/", "/user/"), self._all
        )
        kinds = {s["id"]: s.get("status_type") for s in statuses}
        active = {u["id"] for u in users}
        organization = await self._organization()
        left = (m.get("user") for m in organization.get("inactive_memberships") or ())
        everybody = [*(user for user in left if user), *users]
        owners = {u["id"]: str(u["email"]).lower() for u in everybody if u.get("email")}
        names = {str(u["email"]).lower(): full_name(u) for u in everybody if u.get("email")}
        return Directory(
            pipelines=tuple(
                Pipeline(
                    p["id"],
                    p["name"],
                    tuple(
                        Stage(s["id"], s["label"], KINDS.get(kind_of(s, kinds), "open"))
                        for s in p.get("statuses") or ()
                    ),
                )
                for p in pipelines
            ),
            owners=owners,
            names={mail: name for mail, name in names.items() if name},
            currency=organization.get("currency"),
            retired=frozenset(owners.keys() - active),
            stamps=await self._stamps.paths(),
        )

    async def _organization(self) -> dict[str, Any]:
        """Its currency, and who left and still owns what they had; nothing where it is not told.

        https://developer.close.com/api/resources/organizations
        """
        me = await self.client.call("GET", "/me/", accept=UNSEEN)
        if me.status != 200 or not (organizations := me.data.get("organizations")):
            return {}
        answer = await self.client.call(
            "GET",
            "/organization/{id}/",
            at={"id": organizations[0]["id"]},
            params={"_expand": "inactive_memberships__user"},
            accept=(400, *UNSEEN),
        )
        return dict(answer.data) if answer.status == 200 else {}

    async def _all(self, path: str) -> list[dict[str, Any]]:
        """Every row of a short list; nothing where this key may not see it."""
        rows: list[dict[str, Any]] = []
        while True:
            params = {"_limit": PAGE, "_skip": len(rows)} if path == "/user/" else None
            answer = await self.client.call("GET", path, params=params, accept=UNSEEN)
            if answer.status != 200:
                return rows
            rows += answer.data["data"]
            if not params or not answer.data.get("has_more") or not answer.data["data"]:
                return rows

    # -------------------------------------------------------------------------- writing

    async def write(self, batch: Sequence[Write]) -> list[Outcome]:
        halted: SyncError | None = None

        async def one(write: Write) -> Outcome:
            nonlocal halted
            if halted is not None:  # the others would only meet the same
                return Outcome(write, error=halted)
            try:
                return await self._write_one(write)
            except (AccountError, RateLimitedError) as error:
                halted = error
                return Outcome(write, error=error)
            except Exception as error:
                return Outcome(write, error=error)

        return await each(batch, one)

    async def _write_one(self, write: Write) -> Outcome:
        match write.op:
            case Op.CREATE if write.type == PERSON and not wanted(write, "company"):
                return await self._create_in_container(write)
            case Op.CREATE:
                return await self._create(write)
            case Op.UPDATE:
                return await self._update(write)
            case Op.DELETE:
                return await self._delete(write)

    async def _create(self, write: Write) -> Outcome:
        body = body_of(write.fields, {})
        if write.type != COMPANY:
            lead = await self._lead_of(write)
            # Without a lead, Close would make an "Untitled" one by itself.
            if lead is None:
                raise RejectedError(
                    f"a Close {object_of(write.type)} needs a lead: give the {write.entity} a "
                    "company",
                    field="company",
                )
            body["lead_id"] = lead
        body = activities.new(write.type, body) | await self._stamps.on(write)
        return await self._with_contact(
            write,
            body,
            lambda sent: self.client.call("POST", f"/{write.type}/", json=sent, creates=True),
        )

    async def _lead_of(self, write: Write) -> str | None:
        """The lead to write to; of an activity with people alone, that of the first of them."""
        for company in wanted(write, "company"):
            return company.id
        for person in wanted(write, "people") if write.type in OBJECTS else ():
            seen = await self._read_one(person)
            for company in seen.relations.get("company", ()):
                return company.id
        return None

    async def _with_contact(
        self,
        write: Write,
        body: dict[str, Any],
        send: Callable[[dict[str, Any]], Awaitable[Answer]],
    ) -> Outcome:
        """Send a record with the first wanted contact that its lead has, or with none.

        A lead takes only its own contacts.
        """
        for contact in [*contacts(write), None]:
            named = {"contact_id": contact} if contact or write.op is Op.UPDATE else {}
            try:
                answer = await send({**body, **named} if "people" in write.relations else body)
            except RejectedError as error:
                if contact and error.field == "contact_id":
                    continue
                raise
            return self._stored(write, answer.data)
        raise AssertionError("the last attempt returns or raises")

    async def _create_in_container(self, write: Write) -> Outcome:
        """A contact needs a lead: make one that is named after it, in the same call."""
        body = body_of(write.fields, {}) | await self._stamps.on(write)
        lead = {"name": title_of(body), "contacts": [body]}
        answer = await self.client.call("POST", "/lead/", json=lead, creates=True)
        contact = {"lead_id": answer.data["id"], **answer.data["contacts"][0]}
        return self._stored(write, contact)

    async def _update(self, write: Write) -> Outcome:
        ref = named(write)
        people = write.relations.get("people")
        if people is not None and not people.remove and len(people.add) < len(people.wanted):
            # It names one contact, and that one stays: others who join it change nothing here.
            relations = {n: edit for n, edit in write.relations.items() if n != "people"}
            write = replace(write, relations=relations)
            if not write.fields and not relations:
                return Outcome(write, ref=ref, stored=await self._read_one(ref))
        current: Raw = {}
        if any("[]" in path for path in write.fields):
            got = await self.client.call("GET", f"/{ref.type}/{{id}}/", at={"id": ref.id})
            current = got.data
        body = body_of(write.fields, current)
        if lead := wanted(write, "company"):
            body["lead_id"] = lead[0].id
        if write.type in OBJECTS:
            body = await self._changeable(ref, body)
            if not body and "people" not in write.relations:
                return Outcome(write, ref=ref, stored=await self._read_one(ref))
        if not body and "people" not in write.relations:
            raise RejectedError(
                f"a Close {ref.type} always belongs to a lead: it stays in the one it has",
                field="company",
            )
        return await self._with_contact(
            write,
            body,
            lambda sent: self.client.call(
                "PUT", f"/{ref.type}/{{id}}/", at={"id": ref.id}, json=sent
            ),
        )

    async def _changeable(self, ref: Ref, body: dict[str, Any]) -> dict[str, Any]:
        """What of this change Close can take; what it cannot, the answer will show."""
        source = None
        if ref.type == CALL and activities.MADE_IN_CLOSE & body.keys():
            answer = await self.client.call("GET", f"/{CALL}/{{id}}/", at={"id": ref.id})
            source = answer.data.get("source")
        return activities.changeable(ref.type, body, source=source)

    async def _delete(self, write: Write) -> Outcome:
        ref = named(write)
        answer = await self.client.call(
            "DELETE", f"/{ref.type}/{{id}}/", at={"id": ref.id}, accept=(404,)
        )
        if answer.status == 404 and not (await self._missing(ref)).gone:
            raise NotFoundError(f"Close does not show {ref.type} {ref.id}")
        return Outcome(write, ref=ref)

    def _stored(self, write: Write, raw: Raw) -> Outcome:
        seen = observed(self.account.name, write.type, raw)
        return Outcome(write, ref=seen.ref, stored=seen)

    async def merge(self, survivor: Ref, loser: Ref) -> Ref:
        """Only leads can be merged; contacts and opportunities go with them.

        https://developer.close.com/api/resources/leads
        """
        body = {"source": loser.id, "destination": survivor.id}
        await self.client.call("POST", "/lead/merge/", json=body)
        return survivor

    # ------------------------------------------------------------------------- checking

    async def fields(self, entity: str) -> Mapping[str, RemoteField] | None:
        type = self.manifest.entities[entity].type
        own = own_fields(type)
        if own is None:
            return None
        rows = await self._schema(type)
        return None if rows is None else {**own, **custom_fields(rows)}

    async def create_option(self, entity: str, path: str, value: str) -> None:
        """https://developer.close.com/api/resources/custom-fields"""
        type, id = self.manifest.entities[entity].type, path.removeprefix("custom.")
        field = next((row for row in await self._schema(type) or () if row["id"] == id), None)
        if field is None or field.get("type") != "choices":
            raise RejectedError(f"{path} of a Close {type} has no choices", field=path)
        kind = "shared" if field.get("is_shared") else type
        await self.client.call(
            "PUT",
            f"/custom_field/{kind}/{{id}}/",
            at={"id": id},
            json={"choices": [*(field.get("choices") or ()), value]},
        )

    async def _schema(self, type: str) -> list[Raw] | None:
        """The custom fields of a type, shared ones among them; None where they are not shown."""
        answer = await self.client.call("GET", f"/custom_field_schema/{type}/", accept=NO_SUCH_CALL)
        return list(answer.data["fields"]) if answer.status == 200 else None

    async def check(self) -> list[Finding]:
        try:
            me = (await self.client.call("GET", self.manifest.whoami)).data
        except SyncError as error:
            remedy = "Create a key in Close under Settings, Developer, API Keys."
            return [Finding("sign-in", False, error.reason, remedy)]
        names = ", ".join(str(o.get("name")) for o in me.get("organizations") or ())
        who = me.get("email") or me.get("id")
        found = [Finding("sign-in", True, f"signed in as {who} of {names or 'one organisation'}")]
        for type in (COMPANY, PERSON, DEAL, *filter(self._keeps, OBJECTS)):
            found.append(
                await self._finding(
                    f"read {object_of(type)}",
                    f"/{type}/",
                    lambda data: (True, "can be listed", None),
                    "Give the key's user a role that may see all leads.",
                )
            )
        found.append(
            await self._finding("pipelines", "/pipeline/", _found_pipelines, "Create a pipeline.")
        )
        found.append(
            await self._finding(
                "event log",
                "/event/",
                lambda data: (True, "can be read", None),
                "Use a key of an administrator: only deletions that the log shows are believed.",
            )
        )
        found.append(
            await self._finding(
                "webhooks",
                "/webhook/",
                _found_subscriptions,
                "Run `syncline webhooks subscribe`.",
            )
        )
        return [*found, *await self._stamps.check()]

    async def prepare(self) -> list[Finding]:
        return await self._stamps.prepare()

    async def _finding(
        self,
        check: str,
        path: str,
        judge: Callable[[Any], tuple[bool, str, str | None]],
        remedy: str,
    ) -> Finding:
        try:
            params = {"_limit": 1} if path not in ("/pipeline/", "/webhook/") else None
            data = (await self.client.call("GET", path, params=params)).data["data"]
        except SyncError as error:
            return Finding(check, False, error.reason, remedy)
        ok, detail, advice = judge(data)
        return Finding(check, ok, detail, None if ok else advice or remedy)


def _shown(seen: Iterable[Observation]) -> tuple[Observation, ...]:
    return tuple(one for one in seen if one.raw is not None)


def _found_pipelines(data: Any) -> tuple[bool, str, str | None]:
    names = ", ".join(str(p.get("name")) for p in data)
    return bool(data), names or "there is none", None


def _found_subscriptions(data: Any) -> tuple[bool, str, str | None]:
    if not data:
        return False, "nothing is subscribed, so changes are only found by scans", None
    still = [s.get("url") for s in data if s.get("status") != "active"]
    if still:
        return (
            False,
            f"Close has paused {', '.join(map(str, still))}",
            "Run `syncline webhooks subscribe` to activate it, then `syncline resync`.",
        )
    return True, f"{len(data)} active: {', '.join(str(s.get('url')) for s in data)}", None


def _prefix(base_url: str) -> str:
    """What stands before `/api/v1`: nothing at Close, perhaps something at a proxy."""
    return urlsplit(base_url).path.removesuffix("/api/v1")
