"""A sandbox as its own process, clients for it, and a receiver of its webhooks."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from sandbox.close.org import CloseSettings
from sandbox.hubspot.app import HubSpotSettings
from sandbox.salesforce.org import SalesforceSettings

ROOT = Path(__file__).parents[2]
QUICK = ("--search-lag", "0", "--close-consolidation", "0.1", "--retry-after", "0.05", "--no-quota")
CLOSE, HUBSPOT, SALESFORCE = CloseSettings(), HubSpotSettings(), SalesforceSettings()


@contextlib.asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[str]:
    """A sandbox on a free port, stopped with SIGTERM; must exit with 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--port", str(port), *arguments, cwd=ROOT, env=os.environ
    )
    try:
        async with asyncio.timeout(15):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 10)
    assert code == 0


@dataclass
class Hook:
    """A webhook as it arrived."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A tiny HTTP server that keeps what it is sent and answers as it is told."""

    url: str = ""
    hooks: list[Hook] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    def reply(self) -> bytes:
        """The body of the next answer."""
        return b""

    async def until(self, enough: Callable[[list[Hook]], bool]) -> list[Hook]:
        """The hooks so far, once there are enough."""
        async with asyncio.timeout(5), self._came:
            await self._came.wait_for(lambda: enough(self.hooks))
            return list(self.hooks)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                status = self.answers.pop(0) if self.answers else 200
                async with self._came:
                    self.hooks.append(Hook(headers, body))
                    self._came.notify_all()
                text = self.reply()
                head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n\r\n"
                writer.write(head.encode() + text)
                await writer.drain()
        writer.close()


@pytest_asyncio.fixture(scope="session")
async def base() -> AsyncIterator[str]:
    """The address of a sandbox without lag or quotas."""
    async with running(*QUICK) as url:
        yield url


@pytest_asyncio.fixture(autouse=True)
async def fresh(base: str) -> AsyncIterator[None]:
    """Every test begins with the built-in data."""
    async with httpx.AsyncClient(base_url=base) as client:
        await client.post("/_sandbox/reset")
    yield


@pytest_asyncio.fixture
async def control(base: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{base}/_sandbox") as client:
        yield client


@pytest_asyncio.fixture
async def close(base: str) -> AsyncIterator[httpx.AsyncClient]:
    """Close as its documentation describes it, by plain HTTP."""
    url = f"{base}/close/api/v1"
    async with httpx.AsyncClient(base_url=url, auth=(CLOSE.api_key, "")) as client:
        yield client


@pytest_asyncio.fixture
async def hubspot(base: str) -> AsyncIterator[httpx.AsyncClient]:
    """HubSpot as its documentation describes it, by plain HTTP."""
    headers = {"authorization": f"Bearer {HUBSPOT.token}"}
    async with httpx.AsyncClient(base_url=f"{base}/hubspot", headers=headers) as client:
        yield client


@pytest_asyncio.fixture
async def salesforce(base: str) -> AsyncIterator[httpx.AsyncClient]:
    """Salesforce's REST API as its documentation describes it, by plain HTTP."""
    async with signed_in(f"{base}/salesforce") as client:
        yield client


@contextlib.asynccontextmanager
async def signed_in(home: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a session of the built-in app."""
    form = {
        "grant_type": "client_credentials",
        "client_id": SALESFORCE.client_id,
        "client_secret": SALESFORCE.client_secret,
    }
    async with httpx.AsyncClient(base_url=f"{home}/services/data/v66.0") as client:
        answer = await client.post(f"{home}/services/oauth2/token", data=form)
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    yield receiver
    server.close()


@pytest.fixture
def ada() -> dict[str, object]:
    """A lead with one contact."""
    emails = [{"email": "ada@analytical.example", "type": "office"}]
    return {"name": "Analytical", "contacts": [{"name": "Ada Lovelace", "emails": emails}]}
