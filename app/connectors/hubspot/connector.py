"""HubSpot: objects with properties, linked by typed associations.

https://developers.hubspot.com/docs/api-reference/latest/overview
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

import orjson
from pydantic import SecretStr

from app.connectors.hubspot import activities, calls, events, hooks, lifecycle, tickets
from app.connectors.hubspot.calls import Calls
from app.connectors.hubspot.dialect import HubSpotDialect, as_exists, row_error
from app.connectors.hubspot.fields import as_fields, with_option
from app.connectors.hubspot.labels import Labels
from app.connectors.hubspot.relating import relate
from app.connectors.hubspot.search import (
    BATCH,
    HISTORY_BATCH,
    LAG,
    SEARCH_BODY,
    Cursor,
    filter_of,
    in_domain,
    modified_since,
    moment_after,
)
from app.connectors.hubspot.shapes import (
    ALWAYS,
    COMPANIES,
    CONTACTS,
    DEALS,
    LINKS,
    NAMES,
    TICKETS,
    Type,
    Types,
    as_associations,
    as_pipeline,
    as_properties,
    by_age,
    chosen,
    edits_of,
    ends_of,
    fates_of,
    full_name,
    links_listed,
    millis,
    modified_property,
    named,
    ordered,
    several,
    stamp,
    time_of,
    words_of,
)
from app.sdk import (
    NO_SUCH_CALL,
    NOTHING,
    Absences,
    Account,
    Bearer,
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
    Raw,
    Ref,
    RejectedError,
    RemoteField,
    StaleError,
    Subscription,
    SyncError,
    TokenSource,
    TokenStore,
    Trail,
    Wire,
    Write,
    background,
    each,
    normalise,
    now,
    verify,
)

#: Property groups that every portal has: https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
GROUPS: Mapping[str, str] = {
    CONTACTS: "contactinformation",
    COMPANIES: "companyinformation",
    DEALS: "dealinformation",
    TICKETS: "ticketinformation",
}


#: What a token may not see, or an address does not have.
UNSEEN = (403, *NO_SUCH_CALL)
#: How often an option is added anew because somebody else has changed the list meanwhile.
OPTION_TRIES = 4


class HubSpot(Connector):
    """One portal of HubSpot."""

    dialect: ClassVar[Dialect] = HubSpotDialect()

    @cached_property
    def calls(self) -> Calls:
        return Calls(self.client)

    @cached_property
    def _labels(self) -> Labels:
        return Labels(self.client)

    @classmethod
    def sign_in(cls, account: Account, wire: Wire, store: TokenStore | None) -> TokenSource:
        """https://developers.hubspot.com/docs/api-reference/legacy/authentication/manage-oauth-tokens"""
        have = account.credentials
        if "access_token" in have:
            return Bearer(have["access_token"])
        if missing := {"client_id", "client_secret", "refresh_token"} - set(have):
            raise ConfigError(
                f"{account.name}: credentials need access_token, or also "
                f"{', '.join(sorted(missing))}"
            )
        if store is None:
            raise ConfigError(f"{account.name}: OAuth needs a place to keep tokens")
        return OAuthRefresh(
            f"{wire.base_url}/oauth/v3/token",
            have["client_id"],
            have["client_secret"],
            refresh_token=have["refresh_token"],
            store=store,
            wire=wire,
        )

    # ------------------------------------------------------------------------- webhooks

    @classmethod
    def verify(
        cls,
        delivery: Delivery,
        account: Account,
        secrets: Sequence[SecretStr],
        *,
        public_url: str,
        now: datetime,
    ) -> None:
        schemes = [*cls.manifest.signature]
        if account.options.get("legacy_signatures") is True:
            schemes += ["hubspot-v2", "hubspot-v1"]
        tolerance = account.tolerance
        verify(
            schemes,
            delivery,
            secrets,
            public_url=public_url,
            tolerance=cls.manifest.webhook.tolerance if tolerance is None else tolerance,
            now=now,
        )

    @classmethod
    def parse(cls, delivery: Delivery, account: Account) -> list[Event]:
        return events.parse(delivery.body, account.name)

    def wanted_events(self) -> list[str]:
        events = super().wanted_events()
        return hooks.wanted(events, self.properties) if self._app() else events

    def _app(self) -> hooks.App | None:
        """The app whose subscriptions we may look after, where we have its developer's key."""
        id, key = self.account.options.get("app_id"), self.account.credentials.get("developer_key")
        return hooks.App(self.client, str(id), key) if id and key else None

    async def subscriptions(self) -> list[Subscription]:
        app = self._app()
        found = await app.shown() if app else None
        return [found] if found else []

    async def subscribe(self, url: str) -> tuple[Subscription, SecretStr | None]:
        if (app := self._app()) is not None:
            return await app.mend(url, self.wanted_events()), None
        wanted = ", ".join(self.wanted_events())
        raise RejectedError(
            "HubSpot has no call for this that a portal's token may make. There open Settings, "
            "Integrations, Private apps (or your app's project), Webhooks; set the target URL to "
            f"{url} and subscribe to {wanted}; propertyChange once for each mapped property. Those "
            "of activities and tasks are generic there: object.creation of notes, and so on. Then "
            "put the app's client secret into webhook_secret. A legacy public app needs none of "
            "that: name its app_id, and the developer_key among the credentials."
        )

    async def unsubscribe(self, subscription_id: str) -> None:
        app = self._app()
        if app is None or app.id != subscription_id:
            raise NotFoundError(f"no app {subscription_id} is looked after here")
        await app.remove(self.wanted_events())

    # -------------------------------------------------------------------------- reading

    def _asked(self, type: str) -> list[str]:
        own = [self.account.external_id] if self.account.external_id else []
        return list(dict.fromkeys([*self.properties.get(type, ()), *ALWAYS[type], *own]))

    async def read(self, refs: Sequence[Ref]) -> list[Observation]:
        return await self._shown(refs, linked=True)

    async def read_fields(self, refs: Sequence[Ref]) -> list[Observation]:
        return await self._shown(refs, linked=False)

    async def _shown(self, refs: Sequence[Ref], *, linked: bool) -> list[Observation]:
        found: list[Observation] = []
        for some in _chunks(list(dict.fromkeys(refs)), BATCH):
            type = some[0].type
            rows = await self._batch_read(type, [ref.id for ref in some])
            if linked:
                seen = await self._observe(type, rows)
            else:
                seen = [self._observed(type, row, NOTHING) for row in rows]
            found += seen
            shown = {one.ref for one in seen}
            found += await each([ref for ref in some if ref not in shown], self._missing)
        return found

    async def _batch_read(
        self, type: str, ids: Sequence[str], *, by: str | None = None
    ) -> list[dict[str, Any]]:
        """The records of these ids, or values of a unique property, that are shown."""
        data = await self.calls.read(type, ids, self._asked(type), by=by)
        for error in data.get("errors") or ():
            # Ids that do not exist are our answer; anything else is trouble.
            if error.get("category") != "OBJECT_NOT_FOUND":
                raise row_error(error)
        return list(data.get("results") or ())

    async def _missing(self, ref: Ref) -> Observation:
        """A record the batch did not show: merged away, deleted, or out of our sight."""
        path, at = f"/crm/v3/objects/{ref.type}/{{id}}", {"id": ref.id}
        params: dict[str, Any] = {"properties": ",".join(self._asked(ref.type))}
        answer = await self.client.call("GET", path, at=at, params=params, accept=(404,))
        if answer.status == 200:
            # An id that was merged away answers with the survivor.
            (seen,) = await self._observe(ref.type, [answer.data])
            return seen if seen.ref == ref else replace(seen, asked=ref)
        # Only its own entry in the recycle bin proves that it was deleted.
        return Observation(ref, None, gone=await self._archived(ref) is not None)

    async def _archived(self, ref: Ref) -> Raw | None:
        """The entry of this very record in the recycle bin."""
        path, at = f"/crm/v3/objects/{ref.type}/{{id}}", {"id": ref.id}
        params = {"properties": ",".join(self._asked(ref.type)), "archived": "true"}
        answer = await self.client.call("GET", path, at=at, params=params, accept=(404,))
        own = (
            answer.status == 200
            and answer.data.get("archived") is True
            and str(answer.data.get("id")) == ref.id
        )
        return answer.data if own else None

    async def _observe(
        self, type: str, rows: Sequence[Raw], *, listed: bool = False
    ) -> list[Observation]:
        """Records with their relations, which come by calls of their own."""
        rows = [{**row, "id": str(row["id"])} for row in rows]
        relations: dict[str, dict[str, tuple[Ref, ...]]] = {row["id"]: {} for row in rows}
        labels: dict[str, dict[Ref, tuple[str, ...]]] = {row["id"]: {} for row in rows}
        unlabelled: set[str] = set()
        for to, links in ends_of(type).items():
            known = links_listed(rows, type, to, links) if listed else {}
            ask = [id for id in relations if id not in known]
            known.update(await self._linked(type, to, ask))
            for id, ends in known.items():
                for link in links:
                    refs = (Ref(self.account.name, to, end) for end in chosen(ends, link))
                    relations[id][link.relation] = tuple(refs)
                for end, types in ends.items():
                    labels[id][Ref(self.account.name, to, end)] = words_of(types, links)
            told = {id for id, ends in known.items() if all(ends.values())}
            unlabelled |= relations.keys() - told
        return [
            self._observed(
                type,
                row,
                relations[row["id"]],
                labels=None if row["id"] in unlabelled else labels[row["id"]],
            )
            for row in rows
        ]

    def _observed(
        self,
        type: str,
        row: Raw,
        relations: Mapping[str, tuple[Ref, ...]],
        *,
        labels: Mapping[Ref, tuple[str, ...]] | None = None,
        partial: bool = False,
    ) -> Observation:
        raw = row.get("properties") or {}
        return Observation(
            Ref(self.account.name, type, str(row["id"])),
            raw,
            version=time_of(raw.get(modified_property(type)) or row.get("updatedAt")),
            relations=relations,
            labels=labels if type in GROUPS else None,
            mentions=tuple(dict.fromkeys(ref for refs in relations.values() for ref in refs)),
            absorbed=tuple(
                Ref(self.account.name, type, id) for id in several(raw, "hs_merged_object_ids")
            ),
            partial=partial,
        )

    async def _linked(self, type: str, to: str, ids: Sequence[str]) -> dict[str, dict[str, Types]]:
        """What each of these is linked to, with the types of each link; who is not there tells
        nothing of it.
        """
        found: dict[str, dict[str, dict[Type, str | None]]] = {}
        inputs = [{"id": id} for id in ids]
        while inputs:
            data = await self.calls.linked(type, to, inputs)
            for error in data.get("errors") or ():
                # "Nothing is associated" is told as an error.
                if error.get("category") != "OBJECT_NOT_FOUND":
                    raise row_error(error)
            if not data.get(calls.SILENT):
                found = {**{id: {} for id in ids}, **found}
            inputs = []
            for row in data.get("results") or ():
                id = str(row["from"]["id"])
                found.setdefault(id, {})
                for end in row["to"]:
                    types = {
                        (t["category"], t["typeId"]): t.get("label")
                        for t in end.get("associationTypes") or ()
                    }
                    found.setdefault(id, {}).setdefault(str(end["toObjectId"]), {}).update(types)
                after = ((row.get("paging") or {}).get("next") or {}).get("after")
                if after:
                    inputs.append({"id": id, "after": after})
        return {id: dict(ends) for id, ends in found.items()}

    async def edits(
        self, refs: Sequence[Ref], paths: Collection[str]
    ) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
        found: dict[Ref, dict[str, tuple[Edit, ...]]] = {}
        for some in _chunks(list(refs), HISTORY_BATCH):
            ids = [ref.id for ref in some]
            data = await self.calls.read(some[0].type, ids, (), histories=paths)
            for row in data.get("results") or ():
                ref = Ref(self.account.name, some[0].type, str(row["id"]))
                found[ref] = edits_of(row)
        return found

    async def find(self, entity: str, keys: Sequence[Key]) -> dict[Key, list[Observation]]:
        found: dict[Key, list[Observation]] = {key: [] for key in keys}
        type = self.manifest.entities[entity].type
        seen: list[Observation] = []
        emails = [key.value for key in keys if key.kind == "email"]
        if type == CONTACTS and emails:
            seen += await self._by(type, "email", emails)
        domains = [key.value for key in keys if key.kind == "domain"]
        if type == COMPANIES and domains:
            seen += await self._by_domain(domains)
        ours = [key.value for key in keys if key.kind == "external_id"]
        if ours and (name := await self._external_id(type)):
            seen += await self._by(type, name, ours)
        for one in {one.ref: one for one in seen}.values():
            for key in self._keys_of(one):
                if key in found:
                    found[key].append(one)
        return found

    async def _by(self, type: str, name: str, values: Sequence[str]) -> list[Observation]:
        seen: list[Observation] = []
        for some in _chunks(values, BATCH):
            seen += await self._observe(type, await self._batch_read(type, some, by=name))
        return seen

    async def _by_domain(self, domains: Sequence[str]) -> list[Observation]:
        ids: list[str] = []
        waiting = [name for domain in domains for name in (domain, f"www.{domain}")]
        while waiting:
            some = waiting[:BATCH]
            while len(orjson.dumps(body := in_domain(some))) > SEARCH_BODY:
                some = some[: len(some) // 2]
            ids += [str(row["id"]) for row in await self.calls.search(COMPANIES, body)]
            waiting = waiting[len(some) :]
        # The index lags; what it proposes is read where it is true.
        refs = [Ref(self.account.name, COMPANIES, id) for id in dict.fromkeys(ids)]
        return [seen for seen in await self.read(refs) if seen.raw is not None]

    def _keys_of(self, seen: Observation) -> set[Key]:
        """The identity keys that a record really carries."""
        raw = seen.raw or {}
        said = {
            "email": several(raw, "email", "hs_additional_emails"),
            "domain": several(raw, "domain", "hs_additional_domains"),
            "external_id": several(raw, self.account.external_id or ""),
        }
        return {
            Key(kind, value)
            for kind, texts in said.items()
            for text in texts
            if (value := normalise(kind, text)) is not None
        }

    async def probe(self, write: Write, since: datetime) -> list[Observation]:
        happened, after = write.type in activities.TYPES, since - LAG
        made = activities.CREATED if happened else "createdate"
        names = [name for name in NAMES.get(write.type, ()) if write.fields.get(name)]
        if not names and not happened:
            return []
        filters = [filter_of(name, "EQ", str(write.fields[name])) for name in names]
        filters.append(filter_of(made, "GTE", millis(after)))
        body = {"filterGroups": [{"filters": filters}], "properties": [made], "limit": 100}
        ids = [str(row["id"]) for row in await self.calls.search(write.type, body)]
        # The index lags, associations do not: a new deal is among its company's deals.
        for link in LINKS[write.type]:
            edit = write.relations.get(link.relation)
            ends = [ref.id for ref in edit.wanted[:1]] if edit else []
            for linked in (await self._linked(link.to, write.type, ends)).values():
                ids += sorted(linked, key=by_age)[-BATCH:]
        seen = await self.read(
            [Ref(self.account.name, write.type, id) for id in dict.fromkeys(ids)]
        )
        return [
            one
            for one in seen
            if one.raw is not None
            and all(one.raw.get(name) == str(write.fields[name]) for name in names)
            and (not happened or activities.is_it(write, one.raw))
            and (time_of(one.raw.get(made)) or after) >= after
        ]

    async def recall(
        self, entity: str, since: datetime, departed: Sequence[Ref]
    ) -> list[Observation]:
        kept: list[Observation] = []
        for ref, row in zip(departed, await each(departed, self._archived), strict=True):
            if row is not None:
                fresh = (time_of(row.get("createdAt")) or since) >= since
                kept.append(self._observed(ref.type, row, {}) if fresh else Observation(ref, None))
        return kept

    async def scan(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        with background():
            return await self._page(entity, cursor, since)

    async def _page(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        type = self.manifest.entities[entity].type
        at = Cursor.read(cursor, since)
        if at.since is not None and (found := await self._modified(type, at)) is not None:
            return await self._since(type, *found)
        return await self._listed_page(type, at if at.since is None else Cursor())

    async def _listed_page(self, type: str, at: Cursor) -> Page:
        params = {
            "limit": BATCH,
            "after": at.after,
            "properties": ",".join(self._asked(type)),
            "associations": ",".join(ends_of(type)) or None,
            "archived": "false",
        }
        answer = await self.client.call("GET", f"/crm/v3/objects/{type}", params=params)
        rows = answer.data["results"]
        after = ((answer.data.get("paging") or {}).get("next") or {}).get("after")
        cursor = Cursor(after=str(after)).write() if after else None
        return Page(tuple(await self._observe(type, rows, listed=True)), cursor)

    async def _since(self, type: str, rows: Sequence[Raw], following: Cursor | None) -> Page:
        seen = await self.read([Ref(self.account.name, type, str(row["id"])) for row in rows])
        return Page(tuple(seen), following.write() if following else None)

    async def _modified(self, type: str, at: Cursor) -> tuple[list[Raw], Cursor | None] | None:
        """What was modified since, by value and not by offset: records move while we look. None
        where there is no search.
        """
        name = modified_property(type)
        low, within = at.since or 0, at.after is not None
        body = moment_after(name, low, at.after or "0") if within else modified_since(name, low)
        page = await self.calls.search_page(type, body)
        if page is None:
            return None
        rows = page["results"]
        times = [stamp(row["properties"].get(name)) for row in rows]
        full = len(rows) == BATCH
        if within:  # one moment, by id
            return rows, Cursor(low, rows[-1]["id"]) if full else Cursor(low + 1)
        if not full:
            return rows, None
        # Else more than a page changed in this very millisecond.
        return rows, Cursor(times[-1]) if times[-1] > low else Cursor(low, "0")

    async def catch_up(
        self, entity: str, cursor: str | None, since: datetime, *, deep: bool
    ) -> Trail:
        """What was modified since, in the order of time; if ``deep``, also all that is archived.

        There is no replay of webhooks, and the search knows nothing of deletes:
        https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
        """
        type = self.manifest.entities[entity].type
        at = Cursor.read(cursor, since)
        with background():
            if at.since is None:
                return await self._deleted(type, at)
            found = await self._modified(type, at)
        if found is None:
            return Trail(gap="there is no search, so only a scan finds what changed")
        rows, following = found
        if following is None and deep:
            following = Cursor()
        name = modified_property(type)
        bodies = tuple(
            self._as_webhook(type, row, "propertyChange", stamp(text), name, text)
            for row in rows
            if (text := row["properties"].get(name))
        )
        return Trail(bodies, following.write() if following else None, states=True)

    async def _deleted(self, type: str, at: Cursor) -> Trail:
        """A page of what was deleted; it is listed by id, whenever it was."""
        params = {"limit": BATCH, "after": at.after, "archived": "true"}
        answer = await self.client.call("GET", f"/crm/v3/objects/{type}", params=params)
        after = ((answer.data.get("paging") or {}).get("next") or {}).get("after")
        bodies = tuple(
            self._as_webhook(type, row, "deletion", stamp(row.get("archivedAt")))
            for row in answer.data["results"]
        )
        cursor = Cursor(after=str(after)).write() if after else None
        return Trail(bodies, cursor, states=True)

    def _as_webhook(self, type: str, row: Raw, kind: str, at: int, *changed: str) -> bytes:
        """What a webhook would have told of this row, had it come."""
        portal = self.account.options.get("portal_id") or 0
        return events.as_webhook(type, str(row["id"]), kind, at, portal, *changed)

    async def directory(self) -> Directory:
        details = await self.client.call("GET", "/account-info/v3/details", accept=UNSEEN)
        retired, active = await self._owners(archived=True), await self._owners(archived=False)
        owners = [*retired, *active]
        return Directory(
            pipelines=await self._pipelines(DEALS),
            tickets=await self._pipelines(TICKETS) if TICKETS in self.properties else (),
            owners={str(row["id"]): str(row["email"]).lower() for row in owners},
            names={str(row["email"]).lower(): name for row in owners if (name := full_name(row))},
            currency=details.data.get("companyCurrency") if details.status == 200 else None,
            retired=frozenset(str(row["id"]) for row in retired),
            zone=details.data.get("timeZone") if details.status == 200 else None,
            labels={
                entity: await self.labels(entity)
                for entity, promise in self.manifest.entities.items()
                if promise.type in GROUPS and promise.type in self.properties
            },
        )

    async def labels(self, entity: str) -> Mapping[str, Sequence[str]]:
        type = self.manifest.entities[entity].type
        return {
            links[-1].relation: sorted(await self._labels.of(type, to, fresh=True))
            for to, links in ends_of(type).items()
        }

    async def create_label(self, entity: str, relation: str, word: str) -> None:
        type = self.manifest.entities[entity].type
        (to,) = {link.to for link in LINKS[type] if link.relation == relation}
        await self._labels.create(type, to, word)

    async def _pipelines(self, type: str) -> tuple[Pipeline, ...]:
        answer = await self.client.call("GET", f"/crm/v3/pipelines/{type}", accept=UNSEEN)
        rows = answer.data["results"] if answer.status == 200 else ()
        return tuple(as_pipeline(row) for row in ordered(rows))

    async def _owners(self, *, archived: bool) -> list[Raw]:
        """The owners that have an address.

        https://developers.hubspot.com/docs/api-reference/legacy/crm/owners/guide
        """
        owners: list[Raw] = []
        after: str | None = None
        while True:
            params = {"limit": 100, "after": after, "archived": str(archived).lower()}
            answer = await self.client.call("GET", "/crm/v3/owners", params=params, accept=UNSEEN)
            if answer.status != 200:
                return owners
            owners += [row for row in answer.data["results"] if row.get("email")]
            after = ((answer.data.get("paging") or {}).get("next") or {}).get("after")
            if not after:
                return owners

    # -------------------------------------------------------------------------- writing

    async def write(self, batch: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for some in _chunks(batch, BATCH):
            outcomes += await self._write_some(some)
        return outcomes

    async def _write_some(self, batch: Sequence[Write]) -> list[Outcome]:
        do = {Op.CREATE: self._create, Op.UPDATE: self._update, Op.DELETE: self._delete}
        try:
            return await do[batch[0].op](batch)
        except (RejectedError, StaleError) as error:
            if len(batch) == 1:
                return [Outcome(batch[0], error=as_exists(error))]
            # Refused as a whole: send the rows one by one, so that a bad one fails alone.
            alone = await each(batch, lambda write: self._write_some([write]))
            return [outcome for outcomes in alone for outcome in outcomes]
        except SyncError as error:
            return [Outcome(write, error=error) for write in batch]

    async def _create(self, batch: Sequence[Write]) -> list[Outcome]:
        type = batch[0].type
        name = await self._external_id(type)
        words = await self._words(batch)
        inputs = []
        for write in batch:
            properties = activities.completed(type, as_properties(write.fields), now())
            if type == TICKETS:
                properties = tickets.completed(properties)
            if name and write.external_id:
                properties[name] = write.external_id
            inputs.append(
                {
                    "properties": properties,
                    "associations": as_associations(write, words),
                    # Only with a trace on each row does HubSpot tell each row's fate.
                    "objectWriteTraceId": write.trace,
                }
            )
        fates = fates_of(await self.calls.create(type, inputs), batch)
        return [self._outcome(write, fates[write.trace]) for write in batch]

    async def _words(self, batch: Sequence[Write]) -> dict[tuple[str, str], Type]:
        """The types of the labels that these writes name, by other end and word."""
        asked = {
            (link.to, word)
            for write in batch
            for link in LINKS[write.type]
            if (edit := write.relations.get(link.relation)) is not None
            for _, word in edit.label
        }
        return {(to, word): await self._labels.find(batch[0].type, to, word) for to, word in asked}

    async def _update(self, batch: Sequence[Write]) -> list[Outcome]:
        backward = await self._backward(batch)
        if not backward:
            return await self._updated(batch)
        if self.account.options.get("lifecycle") == "clear":
            return await self._updated_after_clearing(batch, backward)
        sent = [lifecycle.without(w) if w.trace in backward else w for w in batch]
        outcomes = await self._updated([w for w in sent if w.fields or w.relations])
        by_trace = {outcome.write.trace: outcome for outcome in outcomes}
        return [
            lifecycle.held(
                by_trace.get(w.trace, Outcome(w, ref=named(w))),
                w,
                lifecycle.refusal(w.fields[lifecycle.LIFECYCLE], backward[w.trace]),
            )
            if w.trace in backward
            else by_trace[w.trace]
            for w in batch
        ]

    async def _updated_after_clearing(
        self, batch: Sequence[Write], backward: Mapping[str, str]
    ) -> list[Outcome]:
        """In two steps; what fails gets its stage back, so that it does not look like an edit."""
        type, failed = batch[0].type, dict(backward)
        ids = {write.trace: named(write).id for write in batch}
        await self._set_lifecycle(type, {ids[trace]: "" for trace in backward})
        try:
            outcomes = await self._updated(batch)
            failed = {o.write.trace: "" for o in outcomes if o.error and o.write.trace in backward}
        finally:
            if failed:
                await self._set_lifecycle(type, {ids[trace]: backward[trace] for trace in failed})
        return outcomes

    async def _backward(self, batch: Sequence[Write]) -> dict[str, str]:
        """The writes that would take a lifecycle stage back, each with its present one."""
        writes, type = lifecycle.setting(batch), batch[0].type
        if not writes:
            return {}
        rows = await self._batch_read(type, [named(write).id for write in writes])
        now_at = {str(row["id"]): row["properties"].get(lifecycle.LIFECYCLE) for row in rows}
        order = lifecycle.order_of(await self._property(type, lifecycle.LIFECYCLE))
        return {
            write.trace: current
            for write in writes
            if (current := now_at.get(named(write).id))
            and lifecycle.is_backward(str(write.fields[lifecycle.LIFECYCLE]), current, order)
        }

    async def _set_lifecycle(self, type: str, values: Mapping[str, str]) -> None:
        inputs = [{"id": id, "properties": {lifecycle.LIFECYCLE: v}} for id, v in values.items()]
        await self.calls.update(type, inputs)

    async def _updated(self, batch: Sequence[Write]) -> list[Outcome]:
        if not batch:
            return []
        type = batch[0].type
        outcomes: dict[str, Outcome] = {w.trace: Outcome(w, ref=named(w)) for w in batch}
        changing = [write for write in batch if write.fields]
        if changing:
            inputs = [
                {
                    "id": named(write).id,
                    "properties": as_properties(write.fields),
                    "objectWriteTraceId": write.trace,
                }
                for write in changing
            ]
            fates = fates_of(await self.calls.update(type, inputs), changing)
            outcomes |= {
                w.trace: lifecycle.kept(self._outcome(w, fates[w.trace])) for w in changing
            }
        moving = [w for w in batch if w.relations and outcomes[w.trace].error is None]
        if moving:
            words = await self._words(moving)
            outcomes |= await relate(self.calls, self._linked, words, moving, outcomes)
        return list(outcomes.values())

    def _outcome(self, write: Write, fate: Raw | Exception) -> Outcome:
        if isinstance(fate, Exception):
            return Outcome(write, error=fate)
        relations = {}
        if write.op is Op.CREATE:
            relations = {name: edit.wanted for name, edit in write.relations.items()}
        else:
            # An answer need not show what is empty: a property we cleared and it leaves out is.
            cleared = {name: None for name, value in write.fields.items() if value in (None, "")}
            fate = {**fate, "properties": {**cleared, **(fate.get("properties") or {})}}
        stored = self._observed(write.type, fate, relations, partial=True)
        return Outcome(write, ref=stored.ref, stored=stored)

    async def _delete(self, batch: Sequence[Write]) -> list[Outcome]:
        erasing = [write for write in batch if write.erase and write.type == CONTACTS]
        await each(erasing, self._erase)
        archiving = [write for write in batch if write not in erasing]
        return [*(Outcome(w, ref=w.ref) for w in erasing), *await self._archive(archiving)]

    async def _erase(self, write: Write) -> None:
        """https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/contacts/guide"""
        body = {"objectId": named(write).id}
        await self.client.call(
            "POST", "/crm/v3/objects/contacts/gdpr-delete", json=body, accept=(404,)
        )

    async def _archive(self, batch: Sequence[Write]) -> list[Outcome]:
        if not batch:
            return []
        await self.calls.archive(batch[0].type, [named(write).id for write in batch])
        return [Outcome(write, ref=write.ref) for write in batch]

    async def merge(self, survivor: Ref, loser: Ref) -> Ref:
        """https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis"""
        body = {"primaryObjectId": survivor.id, "objectIdToMerge": loser.id}
        answer = await self.client.call("POST", f"/crm/v3/objects/{survivor.type}/merge", json=body)
        # The merged record may have an id of its own.
        return Ref(survivor.account, survivor.type, str(answer.data["id"]))

    # ------------------------------------------------------------------ checking, preparing

    async def _external_id(self, type: str) -> str | None:
        """The unique property for our ids, if the account names one and it is there."""
        if not (name := self.account.external_id) or type in self._unstamped:
            return None
        if type not in self._stamped:
            found = await self._property(type, name)
            if not found or not found.get("hasUniqueValue"):
                self._unstamped.add(type)
                return None
            self._stamped.add(type)
        return name

    @cached_property
    def _stamped(self) -> set[str]:
        return set()

    @cached_property
    def _unstamped(self) -> Absences:
        return Absences()

    async def _property(self, type: str, name: str) -> Raw | None:
        answer = await self.client.call(
            "GET", f"/crm/v3/properties/{type}/{{name}}", at={"name": name}, accept=NO_SUCH_CALL
        )
        return dict(answer.data) if answer.status == 200 else None

    async def check(self) -> list[Finding]:
        try:
            answer = await self.client.call("GET", self.manifest.whoami, accept=UNSEEN)
        except SyncError as error:
            remedy = "Copy the access token of the private app again, or connect the app anew."
            return [Finding("sign-in", False, error.reason, remedy)]
        portal = str(answer.data.get("portalId")) if answer.status == 200 else None
        found = [Finding("sign-in", True, f"signed in to portal {portal or '(not shown)'}")]
        wanted = self.account.options.get("portal_id")
        if portal and wanted and str(wanted) != portal:
            remedy = f"Set portal_id to {portal}, or use a token of portal {wanted}."
            detail = f"the token belongs to {portal}, not to {wanted}"
            found.append(Finding("portal_id", False, detail, remedy))
        for type in (COMPANIES, CONTACTS, DEALS, *self._used()):
            found += await self._check_type(type)
        found.append(await self._check_hooks())
        return found

    async def _check_hooks(self) -> Finding:
        if (app := self._app()) is None:
            unseen = "HubSpot does not show subscriptions to a token: see the app's Webhooks page"
            return Finding("webhooks", True, unseen)
        try:
            there = await app.shown()
        except SyncError as error:
            remedy = "Copy the developer's API key again, and the app's id."
            return Finding("webhooks", False, error.reason, remedy)
        remedy = f"Run `syncline webhooks subscribe {self.account.name}`."
        if there is None:
            return Finding("webhooks", False, f"app {app.id} calls nobody", remedy)
        missing = [name for name in self.wanted_events() if name not in there.events]
        if missing:
            named = f"{', '.join(missing[:3])} and {len(missing) - 3} more" if missing[3:] else None
            text = f"app {app.id} does not tell {named or ', '.join(missing)}"
            return Finding("webhooks", False, text, remedy)
        return Finding("webhooks", True, f"app {app.id} calls {there.url}")

    def _used(self) -> list[str]:
        """The tickets, activities and tasks that travel."""
        types = (TICKETS, *activities.OBJECTS.values())
        return [type for type in types if type in self.properties]

    async def _check_type(self, type: str) -> list[Finding]:
        name = self.account.external_id
        try:
            await self.client.call("GET", f"/crm/v3/objects/{type}", params={"limit": 1})
            unique = await self._property(type, name) if name else None
        except SyncError as error:
            # Activities ride on the scopes of contacts; the text of e-mails has one of its own.
            scope = CONTACTS if type in activities.TYPES else type
            remedy = (
                f"Give the app the scopes crm.objects.{scope}.read and .write, and "
                f"crm.schemas.{scope}.read."
            )
            if type == TICKETS:
                remedy = f"Give the app the scope {tickets.SCOPE}."
            if type == activities.EMAILS:
                remedy += " The text of e-mails needs sales-email-read."
            return [Finding(f"read {type}", False, error.reason, remedy)]
        found = [Finding(f"read {type}", True, "can be listed")]
        if name and type not in activities.TYPES:
            found.append(_check_external(type, name, unique))
        return [*found, *await self._check_links(type)]

    async def _check_links(self, type: str) -> list[Finding]:
        """What an administrator allows: nobody is linked to more than that."""
        found: list[Finding] = []
        for to in ends_of(type):
            path = f"/crm/v4/associations/definitions/configurations/{type}/{to}"
            try:
                answer = await self.client.call("GET", path, accept=UNSEEN)
            except SyncError:
                continue  # whoever may not see it will meet it
            rows = answer.data.get("results") or () if answer.status == 200 else ()
            allowed = [most for row in rows if (most := row.get("userEnforcedMaxToObjectIds"))]
            if allowed:
                text = f"each of the {type} may be linked to {min(allowed)} {to} at most"
                remedy = (
                    "What exceeds that is refused: raise the limit in HubSpot, or live with it."
                )
                found.append(Finding(f"link {type}", True, text, remedy))
        return found

    async def fields(self, entity: str) -> Mapping[str, RemoteField] | None:
        type = self.manifest.entities[entity].type
        answer = await self.client.call("GET", f"/crm/v3/properties/{type}", accept=NO_SUCH_CALL)
        return as_fields(answer.data["results"]) if answer.status == 200 else None

    async def create_option(self, entity: str, path: str, value: str) -> None:
        """https://developers.hubspot.com/docs/api-reference/crm-properties-v3

        Options are replaced as a whole. They are read in the moment before and again after it:
        whoever else adds one at the same time may have written over ours.
        """
        type = self.manifest.entities[entity].type
        for _ in range(OPTION_TRIES):
            there = await self._property(type, path)
            if there is None or there.get("type") != "enumeration":
                raise RejectedError(f"{path} of {type} has no options", field=path)
            if any(option["value"] == value for option in there.get("options") or ()):
                return
            await self.client.call(
                "PATCH",
                f"/crm/v3/properties/{type}/{{name}}",
                at={"name": path},
                json=with_option(there, value),
            )
        raise StaleError(f"the options of {path} keep changing while one is added")

    async def prepare(self) -> list[Finding]:
        name = self.account.external_id
        if not name:
            remedy = "Set external_id in the configuration, for example to syncline_id."
            return [Finding("external_id", False, "the account names no property", remedy)]
        return [
            await self._prepare(type, name) for type in (CONTACTS, COMPANIES, DEALS, *self._used())
        ]

    async def _prepare(self, type: str, name: str) -> Finding:
        body = {
            "name": name,
            "label": "Syncline id",
            "description": "The id of this record in Syncline. Do not change it.",
            "type": "string",
            "fieldType": "text",
            "hasUniqueValue": True,
        }
        try:
            there = await self._property(type, name)
            if there is None:
                body["groupName"] = GROUPS.get(type) or await self._group(type)
                await self.client.call("POST", f"/crm/v3/properties/{type}", json=body)
                self.__dict__.pop("_unstamped", None)
                return Finding(f"{type}.{name}", True, "created")
        except SyncError as error:
            # Activities ride on the schema of contacts.
            scope = CONTACTS if type in activities.TYPES else type
            needed = tickets.SCOPE if type == TICKETS else f"crm.schemas.{scope}.write"
            remedy = f"Give the app the scope {needed}."
            return Finding(f"{type}.{name}", False, error.reason, remedy)
        return _check_external(type, name, there)

    async def _group(self, type: str) -> str:
        """A group of properties that this portal has."""
        answer = await self.client.call("GET", f"/crm/v3/properties/{type}/groups")
        groups = [row["name"] for row in answer.data.get("results") or ()]
        if not groups:
            raise RejectedError(f"{type} have no group of properties here")
        return str(groups[0])


def _check_external(type: str, name: str, found: Raw | None) -> Finding:
    if found is None:
        remedy = "Run `syncline accounts prepare`."
        return Finding(f"{type}.{name}", False, "the property does not exist", remedy)
    if not found.get("hasUniqueValue"):
        remedy = "Name another property: this cannot be changed later."
        return Finding(f"{type}.{name}", False, "the property is not unique", remedy)
    return Finding(f"{type}.{name}", True, "exists and is unique")


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
