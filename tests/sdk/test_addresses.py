"""Our calls end where they were meant to."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import httpx
import pytest

from app.errors import AccountError, TransientError, UnknownOutcomeError
from app.sdk.addresses import is_public
from app.sdk.client import Wire


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on this machine that greets whoever comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """From now on every name has these addresses; who was asked for."""
    asked = []

    async def getaddrinfo(_loop: Any, host: Any, port: Any, **_: Any) -> list[Any]:
        asked.append(str(host))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


async def get(wire: Wire) -> int:
    try:
        return (await wire.send("GET", f"{wire.base_url}/")).status
    finally:
        await wire.aclose()


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["93.184.216.34", "192.168.1.1"], ["::1"]],
    ids=lambda found: found[-1],
)
async def test_a_name_that_leads_into_a_private_network_is_refused(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch, port: int
):
    names(monkeypatch, *addresses)
    with pytest.raises(AccountError, match=r"private network.*private_hosts"):
        await get(Wire(f"http://crm.example:{port}"))


async def test_a_name_may_where_the_configuration_says_so(port: int):
    assert await get(Wire(f"http://localhost:{port}", private_hosts=["localhost"])) == 200
    assert await get(Wire(f"http://localhost:{port}")) == 200
    assert await get(Wire(f"http://127.0.0.1:{port}")) == 200


async def test_what_was_looked_at_is_what_is_called(monkeypatch: pytest.MonkeyPatch):
    """A second look-up could be answered otherwise: there is none."""
    asked = names(monkeypatch, "192.0.2.1")
    monkeypatch.setattr("app.sdk.addresses.is_public", lambda _: True)
    called = []

    async def connect_tcp(_self: Any, host: str, *_: Any, **__: Any) -> Any:
        called.append(host)
        raise httpcore.ConnectError("nobody is there")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect_tcp)
    with pytest.raises(TransientError):
        await get(Wire("http://crm.example"))
    assert (asked, called) == (["crm.example"], ["192.0.2.1"])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 - looked at, not bound
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
    ],
)
def test_public_is_what_anybody_would_reach(address: str, public: bool):
    assert is_public(address) is public


# ------------------------------------------------------------------------ what is unpacked


def answering(body: bytes, encoding: str) -> Wire:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": encoding}, content=stream())

    return Wire("http://crm.example", httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("", bytes)]
)
async def test_a_packed_answer_is_unpacked(encoding: str, pack: Any):
    body = b'{"a": 1}' * 9000
    wire = answering(pack(body), encoding)
    assert (await wire.send("GET", "http://crm.example/")).body == body
    await wire.aclose()


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
async def test_a_bomb_is_given_up_before_it_has_unfolded(
    encoding: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.sdk.client.LARGEST_ANSWER", 100_000)
    wire = answering(gzip.compress(b"0" * 50_000_000), encoding)
    with pytest.raises(UnknownOutcomeError):
        await wire.send("GET", "http://crm.example/")
    await wire.aclose()
