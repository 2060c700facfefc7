"""What a stranger may cost us: bounded in bytes and seconds, and honest senders do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.api.sources import ENOUGH, MINUTE, Sources, network
from app.db.engine import Database
from tests.api.service import TOKEN, Service, config, event, settings, signed

HEAD = b"POST /webhooks/close HTTP/1.1\r\nhost: x\r\n"


@contextlib.asynccontextmanager
async def socket(
    service: Service,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    """The status of the answer, once the connection is closed by the other side."""
    answer = await asyncio.wait_for(reader.read(), 30)
    return int(answer.split(b" ", 2)[1])


def raw(body: bytes, path: str = "/webhooks/close") -> bytes:
    """A genuine delivery as it goes over the wire."""
    headers = "".join(f"{n}: {v}\r\n" for n, v in signed(body).items())
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def test_a_head_that_never_ends_is_cut_off_by_its_size(service: Service):
    async with socket(service) as (reader, writer):
        writer.write(HEAD + b"x-filler: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"x" * 1024)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert await status(reader) == 431


@pytest.mark.parametrize(
    "sent", [b"", b"POST /webh", HEAD + b"x-slow: "], ids=["none", "line", "head"]
)
async def test_a_head_that_does_not_come_is_cut_off_by_its_time(
    sent: bytes, service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.connections.HEAD_PATIENCE", 0.2)
    async with socket(service) as (reader, writer):
        writer.write(sent)
        assert await status(reader) == 408


async def test_a_second_request_of_a_connection_has_the_same_limits(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.connections.HEAD_PATIENCE", 0.2)
    async with socket(service) as (reader, writer):
        writer.write(raw(event(1)))
        assert await asyncio.wait_for(reader.readuntil(b"}"), 30)
        writer.write(b"POST /webh")
        assert await status(reader) == 408


async def test_an_honest_head_in_many_small_pieces_is_taken(service: Service):
    async with socket(service) as (reader, writer):
        for byte in raw(event(1)):
            writer.write(bytes([byte]))
            await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/api/resyncs", "/api/tokens", "/nowhere"])
async def test_a_call_has_a_largest_body_announced_or_not(path: str, service: Service):
    token = f"authorization: Bearer {TOKEN}\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n".encode() + token
    async with socket(service) as (reader, writer):
        writer.write(head + b"content-length: 99999999\r\n\r\n")
        assert await status(reader) == 413
    async with socket(service) as (reader, writer):
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert await status(reader) == 413


async def test_a_call_whose_body_does_not_come_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.bodies.PATIENCE", 0.2)
    async with socket(service) as (reader, writer):
        writer.write(b"POST /api/resyncs HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        assert await status(reader) == 408


async def test_too_many_large_bodies_at_once_are_asked_to_come_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.webhooks.MOST_READING", 200_000)
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(8):
            reader, writer = await stack.enter_async_context(socket(service))
            writer.write(
                HEAD + b"content-length: 1000000\r\nconnection: close\r\n\r\n" + b"x" * 60_000
            )
            readers.append(reader)
        answers = [asyncio.create_task(reader.read(200)) for reader in readers]
        done, waiting = await asyncio.wait(answers, timeout=30, return_when="FIRST_COMPLETED")
        for task in waiting:
            task.cancel()
        answer = done.pop().result()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after" in answer


async def test_a_bomb_is_kept_as_small_as_it_came(web: httpx.AsyncClient, database: Database):
    """Nothing that comes in is ever unpacked: signatures are over the bytes as sent."""
    bomb = gzip.compress(b"0" * 50_000_000)
    headers = {**signed(bomb), "content-encoding": "gzip"}
    assert (await web.post("/webhooks/close", content=bomb, headers=headers)).status_code == 200
    async with database.transaction() as db:
        kept = (await db.execute(sa.text("select body from deliveries"))).scalar_one()
    assert bytes(kept) == bomb
    api = {"authorization": f"Bearer {TOKEN}", "content-encoding": "gzip"}
    assert (await web.post("/api/resyncs", content=bomb, headers=api)).status_code in (400, 422)


async def test_a_source_of_forgeries_is_told_to_wait_and_whoever_signs_is_let_in(
    database_url: str, database: Database, tmp_path: Path
):
    async with (
        Service.running(settings(database_url, tmp_path), config(), database) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as web,
    ):
        service.front.sources = Sources(enough=5)
        forged = {**signed(b"another"), "content-type": "application/json"}
        answers = []
        for number in range(10):
            answers.append(await web.post("/webhooks/close", content=event(number), headers=forged))
            good = await web.post(
                "/webhooks/close", content=event(number), headers=signed(event(number))
            )
            assert good.status_code == 200
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 5
    assert all(0 < int(a.headers["retry-after"]) <= MINUTE for a in answers[5:])
    assert json.loads(answers[-1].content)["type"].endswith("too-many")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), max_size=400))
def test_a_source_is_limited_by_what_it_sent_itself_and_only_for_a_minute(
    sent: list[tuple[str, int]],
):
    at = 0.0
    found = Sources(enough=3, now=lambda: at)
    own = {name: Sources(enough=3, now=lambda: at) for name in "ab"}
    for name, pause in sent:
        at += pause
        wait = found.refused(name)
        assert wait == own[name].refused(name)
        assert 0 <= wait <= MINUTE


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_source_is_its_network(address: str, source: str):
    assert network(address) == source
    assert ENOUGH > 100
