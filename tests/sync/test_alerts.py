"""Somebody is told: once, in order, signed, and again when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app import clock
from app.config import AlertsConfig, Config
from app.config.model import AccountConfig, AlertWebhook
from app.db import accounts, lanes
from app.db.engine import Database
from app.domain.values import Delivery
from app.errors import ConfigError
from app.sdk.signature import verify
from app.sync.alerts import channels, look, tell

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Listener:
    """Somebody's server, which answers with this status and keeps what it was sent."""

    port: int = 0
    status: int = 200
    heard: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.heard]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {
            n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.heard.append((headers, body))
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n" % self.status)
        writer.write(b"location: http://127.0.0.1:9/elsewhere\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    found = Listener()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def config(port: int, *names: str, **more: Any) -> Config:
    url = SecretStr(f"http://127.0.0.1:{port}/alerts")
    found: dict[str, Any] = {}
    if "webhook" in names:
        found["webhook"] = AlertWebhook(url=url, secret=SecretStr(SECRET))
    if "slack" in names:
        found["slack"] = url
    return Config(
        accounts={"close": AccountConfig(connector="close")}, alerts=AlertsConfig(**found, **more)
    )


@pytest.fixture
async def house(database: Database) -> Database:
    """One account, and a worker at work."""
    async with database.transaction() as db:
        await accounts.register(db, {"close": "close"})
        await lanes.beat(db, "w1")
    return database


async def do(database: Database, statement: str) -> None:
    async with database.transaction() as db:
        await db.execute(sa.text(statement))


async def bury(database: Database, cause: str, *, many: int = 1) -> None:
    for _ in range(many):
        error = json.dumps({"cause": cause})
        await do(
            database,
            "insert into deliveries (account, key, method, target, body, state, error) values"
            f" ('close', gen_random_uuid()::text::bytea, 'POST', '/', '', 'dead', '{error}')",
        )


async def turn(database: Database, found: Config) -> None:
    await look(database, found)
    await tell(database, channels(found.alerts))


async def test_trouble_is_told_once_summed_up_later_and_recovers(
    house: Database, listener: Listener
):
    found = config(listener.port, "webhook")
    await bury(house, "BadPayloadError", many=3)
    for _ in range(3):
        await turn(house, found)
    assert listener.words == ["alert.raised"]
    assert json.loads(listener.heard[0][1])["data"]["count"] == 3

    await bury(house, "BadPayloadError")
    await turn(house, found)
    assert listener.words == ["alert.raised"]
    await do(house, "update alerts set told_at = told_at - interval '2 hours'")
    for _ in range(2):
        await turn(house, found)
    assert listener.words == ["alert.raised", "alert.changed"]
    assert json.loads(listener.heard[1][1])["data"]["count"] == 4

    await do(house, "update deliveries set state = 'done'")
    for _ in range(2):
        await turn(house, found)
    assert listener.words == ["alert.raised", "alert.changed", "alert.recovered"]


async def test_each_message_is_signed_by_standard_webhooks(house: Database, listener: Listener):
    await bury(house, "BadPayloadError")
    await turn(house, config(listener.port, "webhook"))
    ((headers, body),) = listener.heard
    delivery = Delivery("x", "POST", "/", headers, body, clock.now())
    verify(
        ("standard-webhooks",),
        delivery,
        [SecretStr(SECRET)],
        public_url="http://x",
        tolerance=300,
        now=clock.now(),
    )


async def test_slack_gets_a_text_that_names_it_and_no_markup_of_strangers(
    house: Database, listener: Listener
):
    await bury(house, "RejectedError: <!channel> & more")
    await turn(house, config(listener.port, "slack"))
    ((_, body),) = listener.heard
    text = json.loads(body)["text"]
    assert "close has dead letters: RejectedError: &lt;!channel&gt; &amp; more" in text


async def test_a_channel_that_is_away_is_told_later_in_order_under_the_same_id(
    house: Database, listener: Listener
):
    found = config(listener.port, "webhook")
    listener.status = 503
    await bury(house, "BadPayloadError")
    await turn(house, found)
    await do(house, "update deliveries set state = 'done'")
    await turn(house, found)
    assert listener.words == ["alert.raised"]

    listener.status = 204
    await do(house, "update messages set due_at = now()")
    await turn(house, found)
    assert listener.words == ["alert.raised", "alert.raised", "alert.recovered"]
    ids = [headers["webhook-id"] for headers, _ in listener.heard]
    assert ids[0] == ids[1] != ids[2]


async def test_a_message_that_was_taken_by_one_who_died_is_carried_by_another(
    house: Database, listener: Listener
):
    found = config(listener.port, "webhook")
    await bury(house, "BadPayloadError")
    await look(house, found)
    sender = asyncio.create_task(tell(house, {"webhook": _Dying()}))
    with pytest.raises(asyncio.CancelledError):
        await sender
    await tell(house, channels(found.alerts))
    assert listener.words == []  # nobody knows yet that the first one is dead
    await do(house, "update messages set due_at = now()")
    await tell(house, channels(found.alerts))
    assert listener.words == ["alert.raised"]


class _Dying:
    async def tell(self, id: int, content: Mapping[str, Any]) -> None:
        raise asyncio.CancelledError


async def test_many_who_look_and_tell_at_once_say_it_once(house: Database, listener: Listener):
    found = config(listener.port, "webhook")
    await bury(house, "BadPayloadError")
    await asyncio.gather(*(turn(house, found) for _ in range(6)))
    await turn(house, found)
    assert listener.words == ["alert.raised"]


async def test_a_redirect_of_a_channel_is_not_followed(house: Database, listener: Listener):
    listener.status = 302
    await bury(house, "BadPayloadError")
    await turn(house, config(listener.port, "webhook"))
    assert len(listener.heard) == 1
    async with house.transaction() as db:
        said = (
            await db.execute(sa.text("select error from messages where channel = 'webhook'"))
        ).scalar_one()
    assert "answered 302" in said


TROUBLES = {
    "account paused": "update accounts set paused = true, pause_reason = 'cleaning'",
    "lane paused": "update lanes set failures = 2, pause_reason = 'GET /me/ answered 401'"
    " where direction <> 'scan'",
    "lag": "insert into deliveries (account, key, method, target, body, due_at) values"
    " ('close', 'k', 'POST', '/', '', now() - interval '1 hour')",
    "no worker": "delete from workers",
    "guard held": "with made as (insert into records (id, entity, hash, source) values"
    " (gen_random_uuid(), 'person', 'h', 'close') returning id)"
    " insert into outbox (account, record_id, entity, wanted, state, guard)"
    " select 'close', id, 'person', 1, 'held', 'create' from made",
    "fight": "insert into conflicts (kind, entity, account, ref_type, ref_id, field, detail) values"
    " ('field', 'person', 'close', 'contact', 'c1', 'phone',"
    """ '{"reason": "it was set back 3 times within minutes of our writes"}')""",
    "writes held": "update accounts set reread_since = now(), reread_why = 'loaded'",
    "account refused": "update accounts set refused_at = now(), refused_reason = 'answered 401',"
    " probe_at = now()",
    "drift": "insert into drifts (id, account, entities, state, finished_at, causes) values"
    " (gen_random_uuid(), 'close', '{person}', 'done', now(), '{\"missed_webhook\": 3}')",
    "dead letters": "insert into deliveries (account, key, method, target, body, state, error)"
    " values ('close', 'k', 'POST', '/', '', 'dead', '{}')",
}


@pytest.mark.parametrize("kind", TROUBLES)
async def test_every_kind_of_trouble_raises_one_alert(kind: str, house: Database):
    found = config(9)
    await do(house, TROUBLES[kind])
    await look(house, found)
    await do(house, "update alerts set since = since - interval '2 minutes'")
    await look(house, found)
    async with house.transaction() as db:
        rows = (
            await db.execute(sa.text("select kind from alerts where raised_at is not null"))
        ).all()
        messages = (await db.execute(sa.text("select count(*) from messages"))).scalar_one()
    assert [row.kind for row in rows] == [kind]
    assert messages == 1


async def test_nobodys_address_leaves_the_house(house: Database, listener: Listener):
    await do(
        house,
        "update lanes set failures = 1, pause_reason = 'no seat for ada.lovelace@example.com'",
    )
    found = config(listener.port, "webhook", after=1)
    await look(house, found)
    await do(house, "update alerts set since = since - interval '2 minutes'")
    await turn(house, found)
    ((_, body),) = listener.heard
    assert b"ada.lovelace@" not in body
    assert b"no seat for" in body


async def test_trouble_of_an_account_that_is_no_longer_configured_is_nobodys(house: Database):
    await bury(house, "BadPayloadError")
    await look(house, Config())
    async with house.transaction() as db:
        assert (await db.execute(sa.text("select count(*) from alerts"))).scalar_one() == 0


def test_a_secret_that_cannot_sign_is_a_matter_of_configuration():
    bad = AlertWebhook(url=SecretStr("http://x/y"), secret=SecretStr("whsec_%%%"))
    with pytest.raises(ConfigError, match=r"alerts\.webhook\.secret"):
        channels(AlertsConfig(webhook=bad))
