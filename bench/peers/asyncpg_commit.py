"""The plain way, done well: FastAPI, an asyncpg pool, one commit for each request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException, Request

from bench.peers.genuine import is_genuine


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=16, max_size=16) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/{account}")
async def receive(account: str, request: Request) -> dict[str, object]:
    body = await request.body()
    if not is_genuine(account, request.headers, body, str(request.url)):
        raise HTTPException(401)
    status = await request.app.state.pool.execute(
        "insert into peer_deliveries (account, key, body) values ($1, $2, $3)"
        " on conflict do nothing",
        account,
        hashlib.sha256(body).digest(),
        body,
    )
    return {"status": "ok", "duplicate": status.endswith("0")}
