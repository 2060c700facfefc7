"""The plain way, done well: FastAPI, an asyncpg pool, one commit for each request."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException, Request

KEY = bytes.fromhex(os.environ["BENCH_KEY"])
TOLERANCE = 73 * 3600


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=16, max_size=16) as pool:
        await pool.execute(
            """
            create table if not exists peer_deliveries (
                id bigint generated always as identity primary key,
                account text not null,
                key bytea not null,
                body bytea not null,
                received_at timestamptz not null default now(),
                unique (account, key)
            )
            """
        )
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/{account}")
async def receive(account: str, request: Request) -> dict[str, object]:
    body = await request.body()
    stamp = request.headers.get("close-sig-timestamp", "")
    given = request.headers.get("close-sig-hash", "")
    wanted = hmac.new(KEY, stamp.encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted, given) or abs(time.time() - int(stamp)) > TOLERANCE:
        raise HTTPException(401)
    status = await request.app.state.pool.execute(
        "insert into peer_deliveries (account, key, body) values ($1, $2, $3)"
        " on conflict do nothing",
        account,
        hashlib.sha256(body).digest(),
        body,
    )
    return {"status": "ok", "duplicate": status.endswith("0")}
