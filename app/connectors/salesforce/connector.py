"""Salesforce: accounts, contacts and opportunities of one org.

https://developer.salesforce.com/docs/platform/api-rest/guide/
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import SecretStr

from app.connectors.salesforce import (
    activities,
    bulk,
    capture,
    changes,
    events,
    history,
    leads,
    notes,
    people,
    setup,
    soap,
    soql,
)
from app.connectors.salesforce.auth import PRODUCTION, SalesforceSession, grant_of, login_url
from app.connectors.salesforce.dialect import (
    SalesforceDialect,
    code_of,
    problems,
    row_error,
)
from app.connectors.salesforce.directory import directory, stages, tickets
from app.connectors.salesforce.kinds import NOTE, SUBTYPES, narrowed, object_of, told_of
from app.connectors.salesforce.org import (
    BATCH,
    VERSION,
    WRITING,
    Org,
    as_fields,
    fate_error,
    withheld,
)
from app.connectors.salesforce.shapes import (
    ALWAYS,
    CASE,
    CONTACT,
    LEAD,
    NAMES,
    OPPORTUNITY,
    SYSTEM,
    body_of,
    chunked,
    http_date,
    is_anothers,
    is_person,
    keys_of,
    named,
    observed,
    time_of,
    without_leads,
)
from app.sdk import (
    BUS,
    NOTHING,
    Account,
    Client,
    ConfigError,
    Connector,
    Delivery,
    Dialect,
    Directory,
    Edit,
    Event,
    ExistsError,
    Finding,
    Heard,
    Key,
    Load,
    NotFoundError,
    Observation,
    Op,
    Outcome,
    OwnStore,
    Page,
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
    TransientError,
    UnknownOutcomeError,
    Wire,
    Write,
    background,
    each,
    now,
    path_token,
)

#: What a condition takes of a URL beside its value: `(Website LIKE '%…%') OR `, quoted.
LIKE = 60
#: Rows that another transaction held are sent again after these seconds.
LOCKED = (0.3, 1.0)
#: How far the clock of the org may be from ours.
SKEW = timedelta(seconds=60)
#: The recycle bin keeps what was deleted so long.
BIN = timedelta(days=15)
#: Merges of the merged, of the merged: a chain is this long at most.
MERGES = 10
#: Where a sales process begins in every new org.
FIRST_STAGE = "Prospecting"
#: Records whose time of change is remembered for the write that follows.
REMEMBERED = 1_000


class Salesforce(Connector):
    """One org of Salesforce."""

    dialect: ClassVar[Dialect] = SalesforceDialect()
    receipt: ClassVar[tuple[str, str]] = soap.RECEIPT

    def __init__(
        self, account: Account, client: Client, properties: Mapping[str, Sequence[str]] = {}
    ) -> None:
        super().__init__(account, client, properties)
        self.org = Org(client, str(account.options.get("api_version") or VERSION))
        #: When what was read last had been changed: what is written alone is written on that.
        self._read_as_of: dict[Ref, str] = {}
        self._words: Mapping[str, str] | None = None
        #: The lookups of objects of the org's own.
        self._lookups = {object.type: object.lookups for object in account.objects.values()}

    @classmethod
    def home(cls, account: Account) -> str:
        return login_url(account, PRODUCTION)

    @classmethod
    def sign_in(cls, account: Account, wire: Wire, store: TokenStore | None) -> TokenSource:
        """https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flows.htm"""
        if store is None and grant_of(account, wire.base_url).name == "refresh_token":
            # Refresh tokens may rotate: to spend one without keeping its successor locks us out.
            raise ConfigError(f"{account.name}: OAuth needs a place to keep rotated tokens")
        return SalesforceSession(account, url=wire.base_url, store=store or OwnStore(), wire=wire)

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
        super().verify(delivery, account, secrets, public_url=public_url, now=now)
        if path_token(delivery.target):
            soap.check_organization(delivery.body, account.options.get("organization_id"))

    @classmethod
    def parse(cls, delivery: Delivery, account: Account) -> list[Event]:
        body, name = delivery.body, account.name
        if delivery.method == BUS:
            found = capture.parse(body, name)
        elif path_token(delivery.target):
            found = soap.parse(body, name, received_at=delivery.received_at)
        else:
            found = events.parse(body, name, message=delivery.headers.get("webhook-id"))
        travel = leads.travel(account)
        return [one for e in found for one in told_of(leads.told_of(e, travel=travel))]

    def may_listen(self) -> None:
        try:
            importlib.import_module("app.connectors.salesforce.pubsub")
        except ImportError as error:
            raise ConfigError(
                f"the Pub/Sub API needs packages that are not here ({error.name}): "
                "pip install 'syncline[salesforce]'"
            ) from error

    async def listen(self, position: str | None) -> AsyncGenerator[Heard, None]:
        from app.connectors.salesforce import pubsub  # its packages are an extra

        async def sign_in(refused: Mapping[str, str] | None) -> Mapping[str, str]:
            bearer = refused and {"authorization": f"Bearer {refused['accesstoken']}"}
            url, header = await self.client.sign_in(bearer)
            token = header["authorization"].removeprefix("Bearer ")
            # A session begins with the id of its org.
            org = events.long_id(token.partition("!")[0], "session")
            return {"accesstoken": token, "instanceurl": url, "tenantid": org}

        url = str(self.account.options.get("pubsub_url") or pubsub.URL)
        wanted = {
            object_of(promise.type): entity
            for entity, promise in self.manifest.entities.items()
            if promise.type in self.properties
        }
        if CONTACT in wanted and leads.travel(self.account):
            wanted[LEAD] = wanted[CONTACT]
        for object, (through, _) in events.READ_THROUGH.items():
            if through in wanted:
                wanted[object] = wanted[through]
        hear = pubsub.listen(url, wanted, position, sign_in, self.client.look_up)
        async with aclosing(hear) as told:
            async for heard in told:
                yield heard

    async def subscribe(self, url: str) -> tuple[Subscription, SecretStr | None]:
        raise RejectedError(
            "Salesforce has no call for this: an administrator installs what calls us, once, as "
            f"docs/salesforce.md says; it posts to {url}"
        )

    # -------------------------------------------------------------------------- reading

    async def _asked(self, type: str) -> list[str]:
        """What is read of an object: the mapped fields that our user may see."""
        own = [self.account.external_id] if self.account.external_id else []
        described = await self.org.describe(type)
        own += self._lookups.get(type, NOTHING).values()
        always = activities.ASKED.get(type) or ALWAYS.get(type, SYSTEM)
        mapped = self.properties.get(CONTACT if type == LEAD else type, ())
        return described.sees([*always, *mapped, *own])

    async def read(self, refs: Sequence[Ref]) -> list[Observation]:
        found: list[Observation] = []
        for some in chunked(list(dict.fromkeys(refs)), BATCH):
            for type, ids in leads.sorted_out(some):
                if type == LEAD and not leads.travel(self.account):
                    found += [Observation(ref, None) for ref in some if ref.id in ids]
                    continue
                seen = await self._seen(type, ids)
                found += [seen[id] for id in ids if id in seen]
                found += await self._missing(type, [id for id in ids if id not in seen])
        return found

    async def _seen(self, type: str, ids: Sequence[str]) -> dict[str, Observation]:
        """The records of these ids that are shown."""
        rows = await self.org.retrieve(type, ids, await self._asked(type))
        if type == LEAD and (into := leads.converted(rows)):
            living = await self._seen(CONTACT, sorted(set(filter(None, into.values()))))
            rest = await self._observe(type, [row for row in rows if row["Id"] not in into])
            return {one.ref.id: one for one in rest} | {
                id: replace(living[contact], asked=Ref(self.account.name, CONTACT, id))
                for id, contact in into.items()
                if contact in living
            }
        return {one.ref.id: one for one in await self._observe(type, rows)}

    async def _observe(self, type: str, rows: Sequence[Raw]) -> list[Observation]:
        """Rows with their relations; person accounts are not what we can keep in step."""
        if type in activities.ASKED:
            happened = await activities.seen(
                self.org, self.account.name, type, rows, leads=leads.travel(self.account)
            )
            self._remember(happened)
            return happened
        rows = [row for row in rows if not is_person(row)]
        named_by: Mapping[str, list[people.Role]] = {}
        if type == OPPORTUNITY:
            named_by = await people.roles(self.org, [row["Id"] for row in rows])
        seen = [
            observed(
                self.account.name,
                type,
                row,
                people.contacts(named_by[row["Id"]]) if type == OPPORTUNITY else None,
                self._lookups.get(type),
            )
            for row in rows
        ]
        self._remember(seen)
        return seen

    def _remember(self, seen: Sequence[Observation]) -> None:
        for one in seen:
            if at := time_of((one.raw or {}).get("LastModifiedDate")):
                self._read_as_of.pop(one.ref, None)
                self._read_as_of[one.ref] = http_date(at)
        while len(self._read_as_of) > REMEMBERED:
            del self._read_as_of[next(iter(self._read_as_of))]

    async def _missing(self, type: str, ids: Sequence[str]) -> list[Observation]:
        """Records that are not shown: merged away, deleted, or out of our sight.

        The recycle bin is the second source; what was emptied out of it, the log of deletes.
        """
        if not ids:
            return []
        survivors, gone = await self._left(type, ids)
        rest = [id for id in ids if id not in gone and id not in survivors]
        if rest:
            gone |= await self._logged(type) & set(rest)
        living = await self._seen(type, sorted(set(survivors.values())))
        own = CONTACT if type == LEAD else type
        return [
            replace(living[survivors[id]], asked=Ref(self.account.name, own, id))
            if survivors.get(id) in living
            else Observation(Ref(self.account.name, own, id), None, gone=id in gone)
            for id in ids
        ]

    async def _left(self, type: str, ids: Sequence[str]) -> tuple[dict[str, str], set[str]]:
        """Into what these were merged, at the end of all merges; and which were deleted."""
        merges = "MasterRecordId" in (await self.org.describe(type)).fields
        fields = ["Id", "IsDeleted", *(["MasterRecordId"] if merges else [])]
        into: dict[str, str] = {}
        gone: set[str] = set()
        asking = list(ids)
        for _ in range(MERGES):
            rows = await self.org.by_ids(fields, type, asking) if asking else []
            deleted = [row for row in rows if row.get("IsDeleted")]
            gone |= {row["Id"] for row in deleted}
            fresh = {row["Id"]: master for row in deleted if (master := row.get("MasterRecordId"))}
            into |= fresh
            asking = [master for master in set(fresh.values()) if master not in into]
        ends = {id: _end(into, id) for id in ids if id in into}
        return {id: end for id, end in ends.items() if end not in gone}, gone

    async def _logged(self, type: str) -> set[str]:
        """What was deleted of late, also for good; nothing where the log cannot be read.

        https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getdeleted.html
        """
        end = now() - timedelta(minutes=1)
        params = {"start": _param(end - BIN + SKEW), "end": _param(end)}
        answer = await self.client.call(
            "GET",
            f"{self.org.root}/sobjects/{object_of(type)}/deleted/",
            params=params,
            accept=(400, 403, 404),
        )
        rows = answer.data.get("deletedRecords") if answer.status == 200 else ()
        return {str(row["id"]) for row in rows or ()}

    async def edits(
        self, refs: Sequence[Ref], paths: Collection[str]
    ) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
        refs = [ref for ref in refs if leads.kind_of(ref) != LEAD]
        return await history.edits(self.org, refs, paths) if refs else {}

    async def find(self, entity: str, keys: Sequence[Key]) -> dict[Key, list[Observation]]:
        found: dict[Key, list[Observation]] = {key: [] for key in keys}
        type = self.manifest.entities[entity].type
        for one in await self._found(type, keys):
            for kind, value in keys_of(one.raw or {}, self.account.external_id):
                if (key := Key(kind, value)) in found:
                    found[key].append(one)
        return found

    async def _found(self, type: str, keys: Sequence[Key]) -> list[Observation]:
        """Who may have these keys, of contacts the leads too."""
        asked = await self._asked(type)
        external = self.account.external_id
        external = external if external in asked else None
        rows: dict[str, Raw] = {}
        for kind, path in (("email", "Email"), ("domain", "Website"), ("external_id", external)):
            values = [key.value for key in keys if key.kind == kind]
            if path is None or not values:
                continue
            if path not in asked:
                raise RejectedError(f"our user may not see {path} of {type}", field=path)
            for some in soql.chunks(values, beside=LIKE):
                # A website is an address: what has the domain in it is looked at.
                where = (
                    soql.some(*(soql.contains(path, value) for value in some))
                    if kind == "domain"
                    else soql.within(path, some)
                )
                rows |= {row["Id"]: row for row in await self._query(type, asked, where)}
        found = await self._observe(type, list(rows.values()))
        if type == CONTACT and leads.travel(self.account):
            found += await self._found(LEAD, keys)
        return found

    async def _query(
        self, type: str, fields: Sequence[str], where: soql.Condition, *, deleted: bool = False
    ) -> list[Raw]:
        where = narrowed(type, where) or where
        text = soql.select(fields, object_of(type), where, order=("CreatedDate", "Id"))
        return await self.org.query(text, deleted=deleted)

    async def probe(self, write: Write, since: datetime) -> list[Observation]:
        if write.type in activities.ASKED:
            made = soql.since("CreatedDate", since - SKEW)
            rows = await self._query(write.type, await self._asked(write.type), made)
            found = await self._observe(write.type, rows)
            return [one for one in found if activities.is_it(write, one.raw or {})]
        body = self._body(write)
        described = await self.org.describe(write.type)
        names = NAMES.get(write.type) or sorted(body.keys() & described.texts)
        conditions = [soql.equals(name, str(body[name])) for name in names if body.get(name)]
        conditions.append(soql.since("CreatedDate", since - SKEW))
        where = soql.every(*conditions)
        rows = await self._query(write.type, await self._asked(write.type), where)
        return await self._observe(write.type, rows)

    async def recall(
        self, entity: str, since: datetime, departed: Sequence[Ref]
    ) -> list[Observation]:
        """The recycle bin keeps what was deleted, as it was."""
        type = self.manifest.entities[entity].type
        fields = await self._asked(type)
        made = soql.every(soql.equals("IsDeleted", True), soql.since("CreatedDate", since))
        rows = await self._query(type, fields, made, deleted=True)
        fresh = {row["Id"] for row in rows}
        others = [ref.id for ref in departed if ref.id not in fresh]
        older = await self.org.by_ids(("Id", "CreatedDate"), type, others)
        return [
            *(
                observed(self.account.name, type, row, None, self._lookups.get(type))
                for row in rows
            ),
            *(Observation(self.ref(entity, str(row["Id"])), None) for row in older),
        ]

    async def scan(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        type, at = self.manifest.entities[entity].type, changes.Cursor.read(cursor, since)
        with background():
            kind = LEAD if at.part == changes.LEADS else type
            rows, following = await changes.page(self.org, kind, await self._asked(kind), at)
            if following is None and kind == CONTACT and leads.travel(self.account):
                first = changes.Cursor.read(None, since)
                following = replace(first, part=changes.LEADS).write()
            return Page(tuple(await self._observe(kind, rows)), following)

    async def catch_up(
        self, entity: str, cursor: str | None, since: datetime, *, deep: bool
    ) -> Trail:
        type, at = self.manifest.entities[entity].type, changes.Cursor.read(cursor, since)
        with background():
            of_leads = type == CONTACT and leads.travel(self.account)
            return await changes.trail(self.org, type, at, since, leads=of_leads)

    async def directory(self) -> Directory:
        found = await directory(self.org)
        return replace(found, tickets=await tickets(self.org)) if CASE in self.properties else found

    async def fields(self, entity: str) -> Mapping[str, RemoteField] | None:
        described = await self.org.describe(self.manifest.entities[entity].type, anew=True)
        return as_fields(described) if described.told else None

    async def create_option(self, entity: str, path: str, value: str) -> None:
        raise RejectedError(
            f"the values of {path} are part of the org's metadata: add {value!r} in Salesforce "
            "under Setup, Object Manager, Fields & Relationships",
            field=path,
        )

    # -------------------------------------------------------------------------- writing

    async def write(self, batch: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for some in chunked(batch, BATCH):
            told = [one for own in leads.as_leads(some) for one in await self._write_some(own)]
            outcomes += leads.in_order(some, told)
        return outcomes

    async def _write_some(self, batch: Sequence[Write]) -> list[Outcome]:
        do = {Op.CREATE: self._create, Op.UPDATE: self._update, Op.DELETE: self._delete}
        try:
            return await do[batch[0].op](batch)
        except (RejectedError, StaleError) as error:
            if len(batch) == 1:
                return [Outcome(batch[0], error=error)]
            # Refused as a whole: send the rows one by one, so that a bad one fails alone.
            alone = await each(batch, lambda write: self._write_some([write]))
            return [outcome for outcomes in alone for outcome in outcomes]
        except SyncError as error:
            return [Outcome(write, error=error) for write in batch]

    async def _create(self, batch: Sequence[Write]) -> list[Outcome]:
        type = batch[0].type
        stamped = await self._stamped(type)
        records: list[dict[str, Any]] = []
        held: dict[str, Mapping[str, str]] = {}
        for write, (body, lacks) in zip(batch, await self._new(batch, stamped), strict=True):
            held[write.trace] = lacks
            records.append({"attributes": {"type": object_of(type)}, **body})
        if len(batch) == 1 and stamped and not held[batch[0].trace]:
            whole = await self._with_people(batch[0], records[0])
            if whole is not None:
                return [whole]
        # With our id in it, a create whose answer was lost is found again, and never doubled.
        # What can only be set at first refuses that: there the unique field names who is there.
        upserting = stamped and type not in SUBTYPES and all(write.external_id for write in batch)

        async def send(some: Sequence[Raw]) -> list[Raw]:
            method, path = ("PATCH", f"/{object_of(type)}/{stamped}") if upserting else ("POST", "")
            return await self.org.send(method, path, some, creates=True)

        fates = await self._persistently(send, records)
        outcomes = await each(
            list(zip(batch, fates, records, strict=True)), lambda row: self._created(*row)
        )
        return await self._finished(outcomes, held)

    async def _stamped(self, type: str) -> str | None:
        """The field of this object that takes our ids, and gives each to one record."""
        external, described = self.account.external_id, await self.org.describe(type)
        return external if external and described.is_external_id(external) else None

    async def _new(
        self, batch: Sequence[Write], stamped: str | None
    ) -> list[tuple[dict[str, Any], dict[str, str]]]:
        """What each of these creates says, and what our user may not say."""
        type = batch[0].type
        described, words = await self.org.describe(type), await self._task_words(type)
        made = []
        for write in batch:
            body = self._body(write, words=words)
            if type == OPPORTUNITY and not body.get("StageName"):
                body["StageName"] = await self._entry_stage()
            held = withheld(described, body, creating=True)
            if stamped and write.external_id:
                body[stamped] = write.external_id
            made.append((body, held))
        return made

    async def open_load(self, batch: Sequence[Write]) -> Load | None:
        """What needs rows of another object (the people of a deal), or is not told in full, goes by
        collections.
        """
        type = batch[0].type
        stamped = await self._stamped(type)
        if stamped is None or type in activities.ASKED:
            return None
        plain = [w for w in batch if type != OPPORTUNITY or "people" not in w.relations]
        made = zip(plain, await self._new(plain, stamped), strict=True) if plain else ()
        rows = [(w, body) for w, (body, held) in made if not held and bulk.is_plain(body)]
        rows = rows[: bulk.fitting([body for _, body in rows])]
        job = await bulk.announced(self.org, object_of(type), stamped) if rows else None
        return Load(job, tuple(write for write, _ in rows)) if job else None

    async def send_load(self, load: Load) -> None:
        stamped = await self._stamped(load.writes[0].type)
        made = await self._new(load.writes, stamped)
        await bulk.sent(self.org, load.id, bulk.written([body for body, _ in made]))

    async def read_load(self, id: str, batch: Sequence[Write]) -> list[Outcome] | None:
        try:
            job = await bulk.shown(self.org, id)
        except NotFoundError as error:
            unknown = UnknownOutcomeError(f"the job is not there any more: {error.reason}")
            return [Outcome(write, error=unknown) for write in batch]
        if job["state"] == "Open":
            return [] if await bulk.called_off(self.org, id) else None
        if job["state"] not in ("JobComplete", "Failed", "Aborted"):
            return None
        why = str(job.get("errorMessage") or f"the job ended as {job['state']}")
        fates = await bulk.fates(self.org, id, str(self.account.external_id), why=why)
        outcomes: list[Outcome] = []
        for write in batch:
            fate = fates.get(str(write.external_id))
            if isinstance(fate, str):
                outcomes.append(Outcome(write, ref=self.ref(write.entity, fate)))
            else:
                untold = UnknownOutcomeError(f"it is not told what became of the row: {why}")
                outcomes.append(Outcome(write, error=fate or untold))
        return [one for some in chunked(outcomes, BATCH) for one in await self._finished(some, {})]

    async def _with_people(self, write: Write, record: Raw) -> Outcome | None:
        """A deal that is made with its people in one call; None where that cannot be.

        It is no upsert: our id, which is there once, refuses a second one, roles and all.
        """
        edit = without_leads(write).relations.get("people")
        if write.type != OPPORTUNITY or edit is None or not edit.wanted:
            return None
        body = {name: value for name, value in record.items() if name != "attributes"}
        fields = await self._asked(OPPORTUNITY)
        contacts = [ref.id for ref in edit.wanted]
        made = await people.made_with(self.org, body, contacts, fields)
        if made is None:
            return None
        stored = observed(self.account.name, OPPORTUNITY, *made)
        self._remember([stored])
        return Outcome(write, ref=stored.ref, stored=stored)

    def _body(
        self, write: Write, current: Raw = NOTHING, words: Mapping[str, str] = NOTHING
    ) -> dict[str, Any]:
        if write.type not in activities.ASKED:
            return body_of(write, self._lookups.get(write.type))
        body = activities.body_of(write, current, words)
        return {n: notes.encoded(v) if n == notes.CONTENT else v for n, v in body.items()}

    async def _task_words(self, type: str) -> Mapping[str, str]:
        """What the org calls a task that is done, and one that is not."""
        if type not in SUBTYPES:
            return NOTHING
        if self._words is None:
            self._words = await activities.statuses(self.org)
        return self._words

    async def _created(self, write: Write, fate: Raw, record: Raw) -> Outcome:
        outcome = self._outcome(write, fate)
        codes = {code_of(problem) for problem in fate.get("errors") or ()}
        if "DUPLICATES_DETECTED" not in codes or isinstance(outcome.error, ExistsError):
            return outcome
        return Outcome(write, error=await self._duplicate(write, record) or outcome.error)

    async def _duplicate(self, write: Write, record: Raw) -> SyncError | None:
        """Sent alone, a duplicate names the records that are there already.

        https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_duplicaterules.htm
        """
        body = {name: value for name, value in record.items() if name != "attributes"}
        answer = await self.client.call(
            "POST",
            f"{self.org.root}/sobjects/{object_of(write.type)}/",
            json=body,
            creates=True,
            accept=(400,),
            headers=WRITING,
        )
        if answer.status == 400:
            return row_error(problems(answer.data), write.type)
        # The rule was lifted in between, and now it is there.
        return ExistsError("it was made after all", remote_id=str(answer.data["id"]))

    async def _entry_stage(self) -> str:
        """Where an opportunity begins; a placeholder until our record has a stage."""
        known = await stages(self.org)
        if not known:  # they are not shown to us, or by a stand-in for an org
            return FIRST_STAGE
        first = next((stage for stage in known if stage.kind == "open"), None)
        if first is None:
            raise RejectedError("the org has no open stage to begin with", field="StageName")
        return first.id

    async def _update(self, batch: Sequence[Write]) -> list[Outcome]:
        type = batch[0].type
        described = await self.org.describe(type)
        held: dict[str, Mapping[str, str]] = {}
        bodies: dict[str, dict[str, Any]] = {}
        words, ends = await self._task_words(type), await activities.ends(self.org, batch)
        for write in batch:
            body = self._body(write, ends.get(named(write).id, NOTHING), words)
            held[write.trace] = withheld(described, body, creating=False)
            if body:
                bodies[write.trace] = body
        changing = [write for write in batch if write.trace in bodies]
        fates: dict[str, Outcome] = {w.trace: Outcome(w, ref=named(w)) for w in batch}
        if len(changing) == 1 and (as_of := self._read_as_of.pop(named(changing[0]), None)):
            await self._update_alone(changing[0], bodies[changing[0].trace], as_of)
        elif changing:
            records = [
                {"attributes": {"type": object_of(type)}, "id": named(w).id, **bodies[w.trace]}
                for w in changing
            ]
            told = await self._persistently(lambda some: self.org.send("PATCH", "", some), records)
            fates |= {w.trace: self._outcome(w, t) for w, t in zip(changing, told, strict=True)}
        return await self._finished([fates[write.trace] for write in batch], held)

    async def _update_alone(self, write: Write, body: Raw, as_of: str) -> None:
        """Only if nobody has changed it since it was read; collections have no such condition.

        https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/intro_rest_conditional_requests.htm
        """
        for wait in (*LOCKED, None):
            try:
                await self.client.call(
                    "PATCH",
                    f"{self.org.root}/sobjects/{object_of(write.type)}/{{id}}",
                    at={"id": named(write).id},
                    json=body,
                    headers={**WRITING, "if-unmodified-since": as_of},
                )
                return
            except TransientError as error:
                if wait is None or "UNABLE_TO_LOCK_ROW" not in error.reason:
                    raise
                await asyncio.sleep(wait)

    async def _persistently(self, send: Any, records: Sequence[Raw]) -> list[Raw]:
        """The fates of these rows; those that somebody else held are sent again.

        https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
        """
        fates: list[Raw] = await send(records)
        for wait in LOCKED:
            locked = [n for n, fate in enumerate(fates) if _is_locked(fate)]
            if not locked:
                break
            await asyncio.sleep(wait)
            again = await send([records[n] for n in locked])
            for n, fate in zip(locked, again, strict=True):
                fates[n] = fate
        return fates

    async def _finished(
        self, outcomes: Sequence[Outcome], held: Mapping[str, Mapping[str, str]]
    ) -> list[Outcome]:
        """Relate the people, and read what was stored: no answer of a write tells it."""
        done = {o.write.trace: o for o in outcomes if o.error is None and o.ref is not None}
        ids = {trace: o.ref.id for trace, o in done.items() if o.ref is not None}
        type = outcomes[0].write.type
        failed: dict[str, SyncError] = {}
        if type == OPPORTUNITY:
            failed = await people.relate(self.org, [o.write for o in done.values()], ids)
        elif type == NOTE:
            failed = await notes.relate(self.org, [o.write for o in done.values()], ids)
        try:
            stored = await self._seen(type, list(ids.values())) if ids else {}
            me = await self.org.user()
            # What somebody has edited since is none of our words: its own news will tell.
            stored = {id: one for id, one in stored.items() if not is_anothers(one.raw, me)}
        except SyncError:
            stored = {}  # it is written, and will be read when its own news arrive
        return [
            self._settled(o, stored, held.get(o.write.trace, {}), failed.get(o.write.trace))
            for o in outcomes
        ]

    def _settled(
        self,
        outcome: Outcome,
        stored: Mapping[str, Observation],
        held: Mapping[str, str],
        failed: SyncError | None,
    ) -> Outcome:
        if outcome.error is not None or outcome.ref is None:
            return outcome
        write, seen = outcome.write, stored.get(outcome.ref.id)
        if write.op is Op.UPDATE:
            if failed is not None:
                return Outcome(write, error=failed)
            if held and not write.relations and held.keys() >= write.fields.keys():
                path, reason = next(iter(held.items()))
                return Outcome(write, error=RejectedError(reason, field=path))
        elif failed is not None:
            # It is made without its people: it is linked as it is, and told them anew.
            return Outcome(write, error=ExistsError(str(failed), remote_id=outcome.ref.id))
        return replace(outcome, stored=seen, held=held)

    def _outcome(self, write: Write, fate: Raw) -> Outcome:
        if not fate.get("success"):
            made = write.type if write.op is Op.CREATE else None
            return Outcome(write, error=fate_error(fate, made))
        return Outcome(write, ref=write.ref or self.ref(write.entity, str(fate["id"])))

    async def _delete(self, batch: Sequence[Write]) -> list[Outcome]:
        fates = await self.org.delete(batch[0].type, [named(write).id for write in batch])
        return [self._outcome(write, fate) for write, fate in zip(batch, fates, strict=True)]

    # ------------------------------------------------------------------ checking, preparing

    async def check(self) -> list[Finding]:
        return await setup.check(self.org, self.account, self.properties)

    async def prepare(self) -> list[Finding]:
        return await setup.prepare(self.org, self.account, self.properties)


def _is_locked(fate: Raw) -> bool:
    return any(code_of(one) == "UNABLE_TO_LOCK_ROW" for one in fate.get("errors") or ())


def _end(into: Mapping[str, str], id: str) -> str:
    for _ in range(MERGES):
        id = into.get(id, id)
    return id


def _param(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat()
