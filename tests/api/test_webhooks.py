"""What comes in at the door: verified, stored, then answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.db.engine import Database
from tests.api.service import SIMPLE, Service, config, event, settings, signed

HUBSPOT_SECRET = "hs-test-client-secret-0001"


async def stored(database: Database) -> int:
    async with database.transaction() as db:
        found = await db.execute(sa.text("select count(*) from deliveries"))
        return int(found.scalar_one())


def hubspot(
    body: bytes, *, at: float | None = None, secret: str = HUBSPOT_SECRET
) -> dict[str, str]:
    """HubSpot's v3 headers for a post to our public URL."""
    stamp = str(int((time.time() if at is None else at) * 1000))
    text = b"POSThttps://hooks.example.com/webhooks/hubspot" + body + stamp.encode()
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return {
        "x-hubspot-request-timestamp": stamp,
        "x-hubspot-signature-v3": base64.b64encode(digest).decode(),
    }


async def test_a_signed_delivery_is_stored_before_it_is_answered(
    web: httpx.AsyncClient, database: Database
):
    body = event(1)
    headers = signed(body)
    answer = await web.post("/webhooks/close", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "duplicate": False})
    async with database.transaction() as db:
        row = (await db.execute(sa.text("select * from deliveries"))).one()
    assert (row.account, row.body, row.state) == ("close", body, "pending")
    assert row.headers["close-sig-timestamp"] == headers["close-sig-timestamp"]


async def test_the_same_delivery_again_is_known(web: httpx.AsyncClient, database: Database):
    body = event(1)
    for duplicate in (False, True, True):
        answer = await web.post("/webhooks/close", content=body, headers=signed(body))
        assert answer.json() == {"status": "ok", "duplicate": duplicate}
    assert await stored(database) == 1


async def test_the_simple_scheme_is_accepted_too(web: httpx.AsyncClient, database: Database):
    body = event(1)
    digest = hmac.new(SIMPLE.encode(), body, hashlib.sha256).hexdigest()
    answer = await web.post("/webhooks/close", content=body, headers={"Close-Sig": digest})
    assert answer.status_code == 200
    assert await stored(database) == 1


async def test_hubspots_v3_signature_covers_the_public_url(
    web: httpx.AsyncClient, database: Database
):
    body = json.dumps([{"eventId": 1, "portalId": 62515}]).encode()
    answer = await web.post("/webhooks/hubspot", content=body, headers=hubspot(body))
    assert answer.status_code == 200
    assert await stored(database) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body, headers: (body + b" ", headers),
        lambda body, headers: (body, {**headers, "close-sig-hash": "00" * 32}),
        lambda body, headers: (body, {**headers, "close-sig-hash": "é"}),
        lambda body, headers: (body, {**headers, "close-sig-timestamp": "soon"}),
        lambda body, headers: (body, {"content-type": "application/json"}),
        lambda body, _: (body, signed(body, at=int(time.time()) - 80 * 3600)),
        lambda body, _: (body, signed(body, key="11" * 32)),
    ],
    ids=["body", "hash", "no hex", "timestamp", "none", "old", "another key"],
)
async def test_what_is_not_authentic_is_refused_and_not_stored(
    spoil, web: httpx.AsyncClient, database: Database
):
    body, headers = spoil(event(1), dict(signed(event(1))))
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await web.post("/webhooks/close", content=body, headers=raw)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert await stored(database) == 0


async def test_an_old_hubspot_timestamp_is_refused(web: httpx.AsyncClient, database: Database):
    body = b"[]"
    headers = hubspot(body, at=time.time() - 301)
    assert (await web.post("/webhooks/hubspot", content=body, headers=headers)).status_code == 401


async def test_an_account_without_a_secret_refuses_everything(
    web: httpx.AsyncClient, database: Database
):
    body = event(1)
    digest = hmac.new(b"", body, hashlib.sha256).hexdigest()
    answer = await web.post("/webhooks/second", content=body, headers={"close-sig": digest})
    assert answer.status_code == 401
    assert await stored(database) == 0


@pytest.mark.parametrize("path", ["/webhooks/nobody", "/webhooks/", "/webhooks/close/extra"])
async def test_an_unknown_account_is_a_404(path: str, web: httpx.AsyncClient):
    answer = await web.post(path, content=b"{}")
    assert answer.status_code == 404
    assert answer.json()["status"] == 404


async def test_a_body_over_the_limit_is_refused(
    database_url: str, database: Database, tmp_path: Path
):
    small = config(body_limit=1000)
    async with (
        Service.running(settings(database_url, tmp_path), small, database) as service,
        httpx.AsyncClient(base_url=service.url) as web,
    ):
        body = event(1, padding="x" * 2000)
        answer = await web.post("/webhooks/close", content=body, headers=signed(body))
        assert answer.status_code == 413

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 100):
                yield body[start : start + 100]

        answer = await web.post("/webhooks/close", content=pieces(), headers=signed(body))
        assert answer.status_code == 413
    assert await stored(database) == 0


async def test_crms_that_look_whether_somebody_is_here_are_answered(web: httpx.AsyncClient):
    assert (await web.get("/webhooks/close")).status_code == 200
    refused = await web.put("/webhooks/close")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_many_at_once_are_all_stored_and_each_answered_once(
    web: httpx.AsyncClient, database: Database
):
    async def post(number: int) -> bool:
        body = event(number)
        answer = await web.post("/webhooks/close", content=body, headers=signed(body))
        assert answer.status_code == 200
        return bool(answer.json()["duplicate"])

    answers = await asyncio.gather(*(post(n % 150) for n in range(300)))
    assert answers.count(False) == 150
    assert await stored(database) == 150


async def test_a_delivery_wakes_the_lane_of_its_account(web: httpx.AsyncClient, database: Database):
    async with database.transaction() as db:
        await db.execute(sa.text("update lanes set due_at = null"))
    body = event(1)
    await web.post("/webhooks/close", content=body, headers=signed(body))
    async with database.transaction() as db:
        due = await db.execute(
            sa.text("select account, direction from lanes where due_at <= now()")
        )
        assert [tuple(row) for row in due] == [("close", "in")]


async def test_a_paused_account_goes_on_storing(
    web: httpx.AsyncClient, api: httpx.AsyncClient, database: Database
):
    assert (await api.post("/api/accounts/close/pause")).status_code == 200
    body = event(1)
    answer = await web.post("/webhooks/close", content=body, headers=signed(body))
    assert answer.status_code == 200
    assert await stored(database) == 1


async def test_our_own_trouble_is_a_503_with_a_time_to_return(tmp_path: Path):
    nowhere = "postgresql://nobody:nothing@127.0.0.1:9/none"
    async with (
        Service.running(settings(nowhere, tmp_path), config()) as service,
        httpx.AsyncClient(base_url=service.url, timeout=20) as web,
    ):
        body = event(1)
        answer = await web.post("/webhooks/close", content=body, headers=signed(body))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert (await web.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/readyz"):
            assert (await web.get(path)).status_code == 503


async def test_a_body_that_never_ends_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.webhooks.READ_PATIENCE", 0.2)
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /webhooks/close HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408")
    writer.close()


async def test_without_the_database_nobody_is_called_a_forger(tmp_path: Path):
    """The key may have been learned a moment ago, by a process that we cannot hear of now."""
    nowhere = "postgresql://nobody:nothing@127.0.0.1:9/none"
    async with (
        Service.running(settings(nowhere, tmp_path), config()) as service,
        httpx.AsyncClient(base_url=service.url, timeout=20) as web,
    ):
        body = event(1)
        answer = await web.post("/webhooks/close", content=body, headers=signed(b"another"))
        assert answer.status_code == 503


async def test_what_is_stored_has_the_bytes_but_no_credentials(
    web: httpx.AsyncClient, database: Database
):
    body = event(1)
    headers = {**signed(body), "Authorization": "Bearer x", "Cookie": "a=b", "X-Odd": "1"}
    answer = await web.post("/webhooks/close?a=%2F", content=body, headers=headers)
    assert answer.status_code == 200
    async with database.transaction() as db:
        row = (await db.execute(sa.text("select target, headers, body from deliveries"))).one()
    assert row.target == "/webhooks/close?a=%2F"
    assert bytes(row.body) == body
    assert row.headers["x-odd"] == "1"
    assert not {"authorization", "cookie"} & set(row.headers)
