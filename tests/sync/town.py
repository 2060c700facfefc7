"""A house between the local Close and HubSpot, whose lanes the test turns itself."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.config import parse
from app.db import accounts, links
from app.db.accounts import Box
from app.db.engine import Database
from app.db.lanes import Lane
from app.db.tables import deliveries
from app.db.tables import outbox as marks
from app.domain.values import Ref
from app.sdk.registry import Registry
from app.sync.house import build
from app.sync.ingest import ingest
from app.sync.push import push
from app.sync.scan import scan
from tests.connectors.conftest import Control
from tests.sync.conftest import Company

CONFIG = """
accounts:
  close:
    connector: close
    credentials: {api_key: api_SandboxCloseKey0000000.local}
    base_url: %(base)s/close/api/v1
    %(close)s
  hubspot:
    connector: hubspot
    portal_id: 62515
    credentials: {access_token: pat-na1-sandbox}
    base_url: %(base)s/hubspot
    %(hubspot)s
sync:
  company: {deletes: %(deletes)s}
  person: {deletes: %(deletes)s}
  deal: {deletes: %(deletes)s, stages: %(stages)s}
%(more)s
"""
#: More turns than this and the lanes chase each other.
TURNS = 20


@dataclass
class Town(Company):
    """The house, the CRMs' screens, and their webhooks as the test wants to send them."""

    house: Any
    control: Control
    numbers: Any = field(default_factory=lambda: itertools.count(1000))
    #: Whether what the CRMs tell is only stored, until the lanes are turned.
    only_store: bool = False

    def __post_init__(self) -> None:
        self.db = self.house.database

    # --- what people do in the CRMs

    async def close(self, method: str, path: str, **body: Any) -> Any:
        return await self.control.person(method, f"/close/api/v1{path}", json=body or None)

    async def hubspot(self, method: str, path: str, **body: Any) -> Any:
        return await self.control.person(method, f"/hubspot{path}", json=body or None)

    async def ada(self) -> tuple[Ref, Ref]:
        """A contact in a lead of Close and her counterpart in HubSpot, linked and in step."""
        lead = await self.close(
            "POST",
            "/lead/",
            name="Acme",
            contacts=[
                {"name": "Ada King", "emails": [{"email": "ada@x.example", "type": "office"}]}
            ],
        )
        contact = Ref("close", "contact", lead["contacts"][0]["id"])
        await self.hear_close("contact", "updated", contact.id)
        await self.work()
        record = await self.record_of(contact)
        async with self.db.transaction() as db:
            there = {k.ref.account: k.ref for k in await links.by_record(db, [record.id])}
        return contact, there["hubspot"]

    # --- what the CRMs tell

    async def hear_close(self, type: str, action: str, id: str, **more: Any) -> None:
        """A thin event of Close, read and dealt with."""
        n = next(self.numbers)
        at = datetime.now(UTC).replace(tzinfo=None).isoformat()
        event = {"id": f"ev_{n}", "object_type": type, "action": action, "object_id": id}
        await self.tell("close", {"event": {**event, "date_updated": at, **more}})

    async def hear_hubspot(self, said: str, id: str | int | None, **more: Any) -> None:
        """One event of HubSpot, read and dealt with."""
        n = next(self.numbers)
        at = int(datetime.now(UTC).timestamp() * 1000)
        event = {"subscriptionType": said, "portalId": 62515, "eventId": n, "subscriptionId": 1}
        named = {} if id is None else {"objectId": int(id)}
        await self.tell("hubspot", [{**event, "occurredAt": at, **named, **more}])

    async def tell(self, account: str, body: Any) -> int:
        """A delivery as it came in, and everything that follows from it in the in-lane."""
        number = await self.receive(account, body)
        if not self.only_store:
            await self.listen(account)
        return number

    async def receive(self, account: str, body: Any) -> int:
        """A delivery as it came in."""
        raw = json.dumps(body).encode()
        async with self.db.transaction() as db:
            row = sa.insert(deliveries).values(
                account=account,
                key=hashlib.sha256(raw).digest(),
                method="POST",
                target=f"/webhooks/{account}",
                headers={"x-sender": "ada@x.example"},
                body=raw,
            )
            number = (await db.execute(row.returning(deliveries.c.id))).scalar_one()
        return int(number)

    # --- the lanes

    async def _turn(self, account: str, direction: str, verb: Any) -> None:
        async with self.db.transaction() as db:
            await db.execute(
                sa.text(
                    "update lanes set owner = 'test', fence = fence + 1, paused_until = null,"
                    " lease_until = now() + interval '1 hour'"
                    " where account = :account and direction = :direction"
                ),
                {"account": account, "direction": direction},
            )
            query = sa.text("select fence from lanes where account = :a and direction = :d")
            fence = (await db.execute(query, {"a": account, "d": direction})).scalar_one()
        await verb(self.house, Lane(account, direction, fence))

    async def listen(self, account: str) -> None:
        """Turn the in-lane once; what is put off stays put off."""
        await self._turn(account, "in", ingest)

    async def scan(self, account: str) -> None:
        """Turn the scan-lane once: what is queued to be looked at is."""
        await self._turn(account, "scan", scan)

    async def work(self, *accounts: str) -> None:
        """Turn the out-lanes until nothing is due, as if time had passed meanwhile."""
        for _ in range(TURNS):
            if not sum([await self.hurry(one) for one in accounts or ("close", "hubspot")]):
                return

    async def go_on(self) -> None:
        """Turn all lanes until nothing is due, as if time had passed meanwhile."""
        later = "update %s set due_at = now() where state = 'pending' and account = :account"
        for _ in range(TURNS):
            async with self.db.transaction() as db:
                # What a create left behind is looked for as long as a vendor's search may lag.
                ago = "intent_at - interval '1 minute'"
                await db.execute(sa.text(f"update outbox set intent_at = {ago}"))
            await self.work()
            waiting = 0
            for account in ("close", "hubspot"):
                async with self.db.transaction() as db:
                    due = [
                        (await db.execute(sa.text(later % table), {"account": account})).rowcount
                        for table in ("deliveries", "events")
                    ]
                if any(due):
                    waiting += sum(due)
                    await self.listen(account)
            if not waiting:
                return

    async def hurry(self, account: str) -> int:
        """Turn an out-lane once, as if a minute had passed; how many marks were due."""
        async with self.db.transaction() as db:
            passed = (
                sa.update(marks)
                .where(marks.c.account == account, marks.c.state == "pending")
                .values(
                    due_at=sa.func.now(),
                    marked_at=sa.text("marked_at - interval '1 minute'"),
                )
            )
            due = len((await db.execute(passed.returning(marks.c.record_id))).all())
        if due:
            await self._turn(account, "out", push)
        return due

    async def wait(self) -> None:
        """The out-lanes as they are, without the passing of time."""
        for account in ("close", "hubspot"):
            await self._turn(account, "out", push)

    async def anybody_waits(self) -> bool:
        """Whether a transaction waits for another one."""
        here = "datname = current_database() and wait_event_type = 'Lock'"
        return bool(await self.scalar(f"select count(*) from pg_stat_activity where {here}"))

    # --- what is there now

    async def there(self, ref: Ref) -> bool:
        """Whether the CRM still shows it to people."""
        path = {
            "close": f"/close/api/v1/{ref.type}/{ref.id}/",
            "hubspot": f"/hubspot/crm/v3/objects/{ref.type}/{ref.id}",
        }[ref.account]
        answer = await self.control.http.get(f"/_sandbox/as-person{path}")
        return answer.status_code == 200

    async def wrote(self, account: str) -> list[str]:
        """What was written to an account, in order."""
        query = sa.text("select op || ' ' || ref_type from attempts where account = :a order by id")
        async with self.db.transaction() as db:
            return list((await db.execute(query, {"a": account})).scalars())

    async def state_of(self, ref: Ref) -> str:
        link = await self.link_of(ref)
        return f"{link.state} {link.ended or ''}".strip()


@contextlib.asynccontextmanager
async def founded(
    database: Database,
    control: Control,
    *,
    deletes: str = "unlink",
    more: str = "",
    close: str = "",
    hubspot: str = "",
    stages: str = "{}",
    registry: Registry | None = None,
) -> AsyncIterator[Town]:
    """A town: what a delete does, further lines of its configuration, one of each account."""
    registry = registry or Registry.load()
    own = {"close": close, "hubspot": hubspot}
    values = {"deletes": deletes, "more": more, "stages": stages, **own}
    text = CONFIG % {"base": control.base, **values}
    config = parse(text, lambda name: registry.connector(name).manifest.entities)
    house = build(database, config, registry, Box([SecretStr(Fernet.generate_key().decode())]))
    async with database.transaction() as db:
        await accounts.register(db, {n: m.config.connector for n, m in house.members.items()})
    yield Town(house, control)
    for member in house.members.values():
        await member.connector.aclose()


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    """A town with nothing out of the ordinary."""
    async with founded(database, control) as found:
        yield found
