"""What storing costs at least: a bare ASGI application with group commit that checks nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import asyncpg

from bench.peers.noop import BODY, START

MOST = 200
STORE = (
    "insert into peer_deliveries (account, key, body)"
    " select 'close', k, b from unnest($1::bytea[], $2::bytea[]) as d (k, b) on conflict do nothing"
)


class Inbox:
    """Whoever arrives while a flush is under way shares the next one."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self.arrived = asyncio.Event()

    async def flush_forever(self) -> None:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        while True:
            await self.arrived.wait()
            batch, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
            if not self.waiting:
                self.arrived.clear()
            bodies = [body for body, _ in batch]
            await connection.execute(STORE, [hashlib.sha256(b).digest() for b in bodies], bodies)
            for _, stored in batch:
                stored.set_result(None)


inbox = Inbox()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        flusher = asyncio.create_task(inbox.flush_forever())
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        flusher.cancel()
        await send({"type": "lifespan.shutdown.complete"})
        return
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    if scope["method"] == "POST":
        stored = asyncio.get_running_loop().create_future()
        inbox.waiting.append((body, stored))
        inbox.arrived.set()
        await stored
    await send(START)
    await send({"type": "http.response.body", "body": BODY})
