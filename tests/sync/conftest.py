"""A house with a Close and a HubSpot, no network, and observations made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.config import parse
from app.db import accounts, links, records
from app.db.accounts import Box
from app.db.engine import Database
from app.db.journal import Cause
from app.db.tables import outbox
from app.domain.state import RecordState
from app.domain.values import Edit, Observation, Ref
from app.sdk.registry import Registry
from app.sync.house import House, build
from app.sync.reconcile import Reconciled, known, reconcile
from app.sync.world import Seen

CONFIG = """
accounts:
  close: {connector: close, credentials: {api_key: k}}
  hubspot: {connector: hubspot, credentials: {access_token: t}}
sync:
  person: {conflict: %s}
"""


class Company:
    """The house under test and short words for what the tests do to it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.db = house.database
        #: What the vendors remember of edits: ref -> path -> (value, time), newest first.
        self.edits: dict[Ref, dict[str, tuple[Edit, ...]]] = {}
        self.asked: list[Ref] = []
        for member in house.members.values():
            member.connector.edits = self._edits  # type: ignore[method-assign]

    async def _edits(
        self, refs: Sequence[Ref], paths: Collection[str]
    ) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
        self.asked += refs
        return {ref: self.edits[ref] for ref in refs if ref in self.edits}

    async def see(
        self, *observations: Observation, fresh: bool = True, at: datetime | None = None
    ) -> list[Reconciled]:
        """Reconcile observations as if they had just been read (or came as snapshots)."""
        _, moment = await known(self.house, [])
        at = at or moment
        cause = Cause("event", "1")
        seen = [Seen(o, cause, at, at if fresh else None) for o in observations]
        return await reconcile(self.house, seen)

    async def record_of(self, ref: Ref) -> RecordState:
        async with self.db.transaction() as db:
            link = (await links.by_ref(db, [ref]))[ref]
            return (await records.get(db, [link.record_id]))[link.record_id]

    async def link_of(self, ref: Ref) -> links.Link:
        async with self.db.transaction() as db:
            return (await links.by_ref(db, [ref]))[ref]

    async def marks(self) -> dict[tuple[str, str], int]:
        """Who is behind: (account, entity) -> how many records."""
        query = sa.select(outbox.c.account, outbox.c.entity, sa.func.count()).group_by(
            outbox.c.account, outbox.c.entity
        )
        async with self.db.transaction() as db:
            return {(a, e): n for a, e, n in await db.execute(query)}

    async def clear(self) -> None:
        """As if everything had been pushed."""
        async with self.db.transaction() as db:
            await db.execute(sa.delete(outbox))

    async def scalar(self, query: str, **values: Any) -> Any:
        async with self.db.transaction() as db:
            return (await db.execute(sa.text(query), values)).scalar_one()


@pytest.fixture
def policy() -> str:
    """Who wins conflicts about people."""
    return "close"


@pytest.fixture
def more_sync() -> str:
    """Further lines below `sync:`."""
    return ""


@pytest.fixture
async def company(database: Database, policy: str, more_sync: str) -> AsyncIterator[Company]:
    registry = Registry.load()
    text = CONFIG % policy + more_sync
    config = parse(text, lambda name: registry.connector(name).manifest.entities)
    house = build(database, config, registry, Box([SecretStr(Fernet.generate_key().decode())]))
    async with database.transaction() as db:
        await accounts.register(db, {n: m.config.connector for n, m in house.members.items()})
    yield Company(house)
    for member in house.members.values():
        await member.connector.aclose()


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def contact(
    number: int = 1,
    *,
    name: str = "Ada Lovelace",
    email: str | None = "ada@x.example",
    title: str | None = None,
    lead: str | None = None,
    minute: int = 0,
    **more: Any,
) -> Observation:
    """A Close contact as Close shows it."""
    emails = [{"email": email, "type": "office"}] if email else []
    raw = {"name": name, "title": title, "emails": emails, "phones": [], **more}
    relations: Mapping[str, tuple[Ref, ...]] = (
        {"company": (Ref("close", "lead", lead),)} if lead else {}
    )
    return Observation(
        Ref("close", "contact", f"cont_{number}"),
        raw,
        version=NOON + timedelta(minutes=minute),
        relations=relations,
    )


def lead(number: int = 1, *, name: str = "Acme", url: str | None = None) -> Observation:
    """A Close lead."""
    return Observation(Ref("close", "lead", f"lead_{number}"), {"name": name, "url": url})


def hub_contact(number: int = 1, **properties: Any) -> Observation:
    """A HubSpot contact with these properties."""
    return Observation(Ref("hubspot", "contacts", str(number)), properties)
