"""Everything a verb needs, gathered once at the start and passed along as one argument."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files

import orjson
import structlog
import yaml

from app.clock import now
from app.config import STAGED, AccountConfig, Config, EntitySync
from app.db import accounts, lanes, outbox
from app.db.accounts import Box
from app.db.engine import Database
from app.db.quotas import Ledger
from app.domain import stages
from app.domain.codecs import Context
from app.domain.manifest import Manifest
from app.domain.mapping import EntityMapping, compile_mapping, overlay
from app.domain.picklists import limited, options_of
from app.domain.proof import prove
from app.domain.state import State
from app.domain.values import Directory, Observation, RemoteObject
from app.errors import AccountError, ConfigError, RejectedError
from app.sdk.connector import Account, Connector
from app.sdk.quota import Allowance
from app.sdk.registry import Registry, nearest
from app.sync.respell import respell
from app.sync.unread import read_anew

log = structlog.get_logger()

#: Pipelines, stages and owners change rarely; an unknown id makes us look sooner.
DIRECTORY_AGE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Member:
    """One account at work: its settings, its connector and its compiled mappings."""

    name: str
    config: AccountConfig
    connector: Connector
    mappings: Mapping[str, EntityMapping]
    #: Options that were added to its picklists, by path and value.
    offered: set[tuple[str, str]] = field(default_factory=set)

    def type_of(self, entity: str) -> str:
        """The vendor's own word for an entity."""
        return self.connector.manifest.entities[entity].type

    def entity_of(self, remote_type: str) -> str | None:
        return self.connector.manifest.entity_of(remote_type)


@dataclass(frozen=True, slots=True)
class House:
    """The whole company: database, configuration, registry and members."""

    database: Database
    config: Config
    registry: Registry
    box: Box
    members: Mapping[str, Member]
    #: What the purged are hashed with, once somebody was.
    peppers: list[bytes] = field(default_factory=list)
    _directories: dict[str, tuple[Directory, datetime]] = field(default_factory=dict)
    _contexts: dict[tuple[str, str], Context] = field(default_factory=dict)
    #: (account, path, id) of stages and owners that were asked about.
    _strangers: set[tuple[str, str, str]] = field(default_factory=set)
    #: The accounts whose held marks were released under what we know now.
    _released: set[str] = field(default_factory=set)
    #: The accounts that were told anew under what we know now.
    _told_anew: set[str] = field(default_factory=set)

    def sync_of(self, entity: str, account: str) -> EntitySync | None:
        """How an entity travels, if this account takes part."""
        sync = self.config.entity(entity)
        return sync if sync is not None and account in sync.accounts else None

    def listeners(self) -> list[str]:
        """The accounts whose event bus is listened to."""
        return [name for name, m in self.members.items() if m.config.push == "pubsub"]

    def entities_of(self, account: str) -> list[str]:
        """The entities in which an account takes part."""
        return [entity for entity, how in self.config.sync.items() if account in how.accounts]

    def key_rules(self, entity: str) -> tuple[str, ...]:
        """By what records of an entity are recognised, strongest first."""
        sync = self.config.entity(entity)
        return (sync.keys if sync else None) or ()

    async def learn(self, account: str, *, age: timedelta = DIRECTORY_AGE) -> Directory:
        """Have the directories at hand; this account's, which is the answer, not older than that.

        What was held for want of a stage or a value there, or was refused, is due again where
        that may have changed: in the configuration, in a directory, or in the account's fields.
        """
        async with self.database.transaction() as db:
            self._keep(await accounts.directories(db, set(self.members)))
        known, at = self._directories.get(account, (None, datetime.min.replace(tzinfo=UTC)))
        if now() - at >= age:
            try:
                directory = await self._look_up(self.members[account])
            except (RejectedError, AccountError) as refusal:
                # Nothing is learned, so nothing is lost; an empty directory would hold every deal.
                log.warning("directory.refused", account=account, reason=str(refusal))
                if known is None:
                    raise
                directory = known
            async with self.database.transaction() as db:
                await accounts.keep_directory(db, account, directory)
            self._keep({account: (directory, now())})
        await self._release(account)
        return self._directories[account][0]

    async def recall(self) -> None:
        """Have the directories at hand as anybody last learned them; no CRM is asked."""
        async with self.database.transaction() as db:
            self._keep(await accounts.directories(db, set(self.members)))

    def directory(self, account: str) -> Directory:
        """What is known of an account; nothing, before it was learned."""
        return self._directories.get(account, (Directory(), now()))[0]

    def stamp_on(self, seen: Observation) -> str | None:
        """The id of ours that a remote record carries."""
        name = seen.ref.account
        stamps = self.directory(name).stamps
        path = stamps.get(seen.ref.type, self.members[name].config.external_id)
        return (seen.raw or {}).get(path) if path else None

    async def _look_up(self, member: Member) -> Directory:
        """What the account says of itself, with the options of the fields that we write."""
        options: dict[str, dict[str, list[str]]] = {}
        defined: list[str] = []
        for entity, mapping in sorted(member.mappings.items()):
            paths = limited(mapping)
            if self.sync_of(entity, member.name) is None:
                continue
            try:
                known = await member.connector.fields(entity) or {}
            except (RejectedError, AccountError) as refusal:
                # Nothing is held for want of an option that we may not see.
                log.info("options.refused", account=member.name, reason=str(refusal))
                continue
            defined += [f"{entity} {known[path]!r}" for path in sorted(known)]
            if paths:
                options[entity] = options_of(known, paths)
        schema = hashlib.sha256("\n".join(defined).encode()).hexdigest()
        return replace(await member.connector.directory(), options=options, schema=schema)

    async def ask_about(self, account: str, strange: Collection[tuple[str, str]]) -> None:
        """Look at the directory again for ids it did not know, once for each of them."""
        fresh = {(account, *one) for one in strange} - self._strangers
        if fresh:
            await self.learn(account, age=timedelta())
            self._strangers.update(fresh)

    def _keep(self, found: Mapping[str, tuple[Directory, datetime]]) -> None:
        before = {name: directory for name, (directory, _) in self._directories.items()}
        self._directories.update(found)
        if before != {name: directory for name, (directory, _) in self._directories.items()}:
            self._contexts.clear()
            self._released.clear()
            self._told_anew.clear()

    async def _release(self, account: str) -> None:
        """Make due again what was held under another configuration or other directories."""
        if account in self._released:
            return
        # Fields decide what is refused, not how a value is told.
        known = f"{self._digest(account)} {self._directories[account][0].schema}"
        async with self.database.transaction() as db:
            if await accounts.mapped_as(db, account, known):
                count = await outbox.release_held(db, account)
                await lanes.wake(db, account, "out")
                await read_anew(db, account, self.members[account].mappings)
                if count:
                    log.info("push.released", account=account, marks=count)
        self._released.add(account)

    async def tell_anew(self, account: str) -> None:
        """Mark what this account was told in words that we would not use today.

        Whoever asks holds its out-lane: no write that was worked out with the old words is on
        its way.
        """
        if account in self._told_anew:
            return
        states = [
            State(entity, mapping, sync, self.context(entity, account))
            for entity, mapping in self.members[account].mappings.items()
            if (sync := self.sync_of(entity, account)) is not None
        ]
        async with self.database.transaction() as db:
            if await accounts.told_as(db, account, self._digest(account)):
                count = await respell(db, account, states)
                if count:
                    log.info("push.told_anew", account=account, marks=count)
        self._told_anew.add(account)

    def _digest(self, account: str) -> str:
        """What decides, beside the record, how a value is told there."""
        known = [self._directories[name][0] for name in sorted(self._directories)]
        here = self._directories[account][0]
        said = [
            self.config.digest,
            [[repr(d.pipelines), repr(d.tickets), d.options, dict(d.labels)] for d in known],
            [dict(here.owners), sorted(here.retired)],
        ]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def context(self, entity: str, account: str) -> Context:
        """What the codecs of an account may look at."""
        if (entity, account) not in self._contexts:
            self._contexts[entity, account] = self._context(entity, account)
        return self._contexts[entity, account]

    def _context(self, entity: str, account: str) -> Context:
        known = {n: self._directories[n][0] for n in self.members if n in self._directories}
        directory = known.get(account, Directory())
        owners = self.members[account].config.owners
        sync = self.config.entity(entity)
        names = {mail: name for d in known.values() for mail, name in d.names.items()}
        if entity not in STAGED or sync is None:
            return Context(
                directory=directory, owners=owners, names=names, accounts=frozenset(self.members)
            )
        known = {n: stages.completed(stages.seen_by(entity, d), sync, n) for n, d in known.items()}
        directory = known.get(account, directory)
        return Context(
            entity=entity,
            directory=directory,
            stages=stages.stages_in(sync, account),
            pipelines=stages.pipelines_in(sync, account),
            kinds=stages.kinds_of(known, sync),
            words=stages.words_of(sync, known),
            own_words=stages.words_of(sync, {account: directory}),
            owners=owners,
            names=names,
            accounts=frozenset(self.members),
        )


def mappings_of(
    manifest: Manifest, account: AccountConfig, *, where: Callable[[str, str], str]
) -> dict[str, EntityMapping]:
    """The built-in mapping of a connector with the account's own rows laid over it.

    ``where`` is the place of a row, by entity and key. Raises ConfigError, also for a row that
    does not bring back what it writes.
    """
    text = (files("app.connectors") / manifest.name / "mapping.yaml").read_text(encoding="utf-8")
    builtin = yaml.load(text, Loader=yaml.CSafeLoader)
    rows = {
        entity: {left: row.model_dump(by_alias=True) for left, row in own.items()}
        for entity, own in account.mapping.items()
    }
    builtin |= {entity: {} for entity in account.objects}
    settings = account.options
    found: dict[str, EntityMapping] = {}
    for entity, source in builtin.items():
        place = partial(where, entity)
        mapping = compile_mapping(entity, overlay(source, rows.get(entity, {})), where=place)
        prove(mapping, as_text=manifest.values == "text", where=place)
        promise = manifest.entities[entity]
        clears = {
            p for p, option in promise.clears_first.items() if settings.get(option) == "clear"
        }
        found[entity] = replace(
            mapping,
            relations=promise.relations,
            fixed=promise.fixed,
            clears_first=frozenset(clears),
        )
    return found


def build(database: Database, config: Config, registry: Registry, box: Box) -> House:
    """A house with one member per configured account. Raises ConfigError."""
    members = {}
    for name, settings in config.accounts.items():
        manifest = registry.connector(settings.connector).manifest
        known = manifest.credential_names
        for key in sorted(settings.credentials.keys() - known):
            raise ConfigError(
                f"{config.where('accounts', name, 'credentials', key)}: {manifest.title} has no "
                f"such credential{nearest(key, known) or '; it takes ' + ', '.join(sorted(known))}"
            )
        for key in sorted(settings.chosen - set(manifest.options)):
            raise ConfigError(
                f"{config.where('accounts', name, key)}: {manifest.title} has no such option; take "
                "it out"
            )
        objects = {n: RemoteObject(o.type, o.lookups) for n, o in settings.objects.items()}
        try:
            manifest = manifest.with_objects(objects)
        except ConfigError as error:
            where = config.where("accounts", name, "objects")
            raise ConfigError(f"{where}: {error}") from None
        place = partial(config.where, "accounts", name, "mapping")
        mappings = mappings_of(manifest, settings, where=place)
        account = Account(
            name=name,
            connector=settings.connector,
            base_url=settings.base_url or manifest.base_url,
            credentials=settings.credentials,
            external_id=settings.external_id,
            tolerance=settings.webhook_tolerance,
            options=settings.options,
            private_hosts=config.private_hosts,
            objects=objects,
        )
        connector = registry.connect(
            account,
            accounts.TokenStore(database, box, name),
            properties={
                manifest.entities[entity].type: mapping.paths
                for entity, mapping in mappings.items()
                if (sync := config.entity(entity)) is not None and name in sync.accounts
            },
            ledger=Ledger(database, name),
            allowance=Allowance(**settings.quota.model_dump()),
        )
        if settings.push == "pubsub":
            try:
                connector.may_listen()
            except ConfigError as error:
                where = config.where("accounts", name, "push")
                raise ConfigError(f"{where}: {error}") from None
        members[name] = Member(name, settings, connector, mappings)
    return House(database, config, registry, box, members)
