"""Everything a verb needs, gathered once at the start and passed along as one argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import structlog
import yaml

from app.clock import now
from app.config import AccountConfig, Config, EntitySync
from app.db import accounts
from app.db.accounts import Box
from app.db.engine import Database
from app.domain.codecs import Context
from app.domain.manifest import Manifest
from app.domain.mapping import EntityMapping, compile_mapping, overlay
from app.domain.stages import kinds_of
from app.domain.values import Directory
from app.errors import AccountError, RejectedError
from app.sdk.connector import Account, Connector
from app.sdk.registry import Registry

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
    #: Dry runs in progress in this process, by resync.
    previews: dict[UUID, Any] = field(default_factory=dict)
    _directories: dict[str, tuple[Directory, datetime]] = field(default_factory=dict)

    def sync_of(self, entity: str, account: str) -> EntitySync | None:
        """How an entity travels, if this account takes part."""
        sync = self.config.entity(entity)
        return sync if sync is not None and account in sync.accounts else None

    async def learn(self, account: str, *, fresh: bool = False) -> None:
        """Have the directories at hand; this account's not older than ten minutes."""
        async with self.database.transaction() as db:
            self._directories.update(await accounts.directories(db, set(self.members)))
        _, at = self._directories.get(account, (None, datetime.min.replace(tzinfo=UTC)))
        if not fresh and now() - at < DIRECTORY_AGE:
            return
        try:
            directory = await self.members[account].connector.directory()
        except (RejectedError, AccountError) as refusal:
            # Nothing is learned, so nothing is kept; an empty directory would hold every deal.
            log.warning("directory.refused", account=account, reason=str(refusal))
            if account not in self._directories:
                raise
            return
        async with self.database.transaction() as db:
            await accounts.keep_directory(db, account, directory)
        self._directories[account] = (directory, now())

    def context(self, entity: str, account: str) -> Context:
        """What the codecs of an account may look at."""
        known = {name: d for name, (d, _) in self._directories.items()}
        sync = self.config.entity(entity)
        stages = {
            canonical: own[account]
            for canonical, own in (sync.stages if sync else {}).items()
            if account in own
        }
        kinds = kinds_of([known[name] for name in self.members if name in known])
        for canonical, own in (sync.stages if sync else {}).items():
            for name, stage in own.items():
                kind = _kind_of(known.get(name, Directory()), stage)
                if kind is not None:
                    kinds.setdefault(" ".join(canonical.split()).casefold(), kind)
        return Context(
            directory=known.get(account, Directory()),
            stages=stages,
            kinds=kinds,
            names={mail: name for d in known.values() for mail, name in d.names.items()},
            accounts=frozenset(self.members),
        )


def _kind_of(directory: Directory, stage: str) -> str | None:
    folded = " ".join(stage.split()).casefold()
    for pipeline in directory.pipelines:
        for own in pipeline.stages:
            if own.id == stage or " ".join(own.name.split()).casefold() == folded:
                return own.kind
    return None


def mappings_of(
    manifest: Manifest, account: AccountConfig, *, where: str
) -> dict[str, EntityMapping]:
    """The built-in mapping of a connector with the account's own rows laid over it."""
    text = (files("app.connectors") / manifest.name / "mapping.yaml").read_text(encoding="utf-8")
    builtin = yaml.load(text, Loader=yaml.CSafeLoader)
    rows = {
        entity: {left: row.model_dump(by_alias=True) for left, row in own.items()}
        for entity, own in account.mapping.items()
    }
    return {
        entity: replace(
            compile_mapping(entity, overlay(source, rows.get(entity, {})), where=where),
            relations=manifest.entities[entity].relations,
            fixed=manifest.entities[entity].fixed,
        )
        for entity, source in builtin.items()
    }


def build(database: Database, config: Config, registry: Registry, box: Box) -> House:
    """A house with one member per configured account. Raises ConfigError."""
    members = {}
    for name, settings in config.accounts.items():
        where = config.where("accounts", name)
        manifest = registry.connector(settings.connector).manifest
        mappings = mappings_of(manifest, settings, where=where)
        account = Account(
            name=name,
            connector=settings.connector,
            base_url=settings.base_url or manifest.base_url,
            credentials=settings.credentials,
            external_id=settings.external_id,
            tolerance=settings.webhook_tolerance,
            options=settings.options,
        )
        connector = registry.connect(
            account,
            accounts.TokenStore(database, box, name),
            properties={
                manifest.entities[entity].type: mapping.paths
                for entity, mapping in mappings.items()
                if (sync := config.entity(entity)) is not None and name in sync.accounts
            },
        )
        members[name] = Member(name, settings, connector, mappings)
    return House(database, config, registry, box, members)
