"""What tutorials teach: FastAPI with an SQLAlchemy session for each request.

Where BENCH_PROPAGATE names another system, the change is carried there before the answer: it is
searched by e-mail address and written, as tutorials that connect two CRMs do it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy import DateTime, Identity, LargeBinary, Text, UniqueConstraint, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.genuine import is_genuine

OTHER = os.environ.get("BENCH_PROPAGATE")
URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1)
engine = create_async_engine(URL, pool_size=16, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Delivery(Base):
    __tablename__ = "peer_deliveries"
    __table_args__ = (UniqueConstraint("account", "key"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    key: Mapped[bytes] = mapped_column(LargeBinary)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=lambda: datetime.now(UTC)
    )


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as opened:
        yield opened


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(timeout=60) as client:
        app.state.client = client
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/{account}")
async def receive(
    account: str, request: Request, db: Annotated[AsyncSession, Depends(session)]
) -> dict[str, object]:
    body = await request.body()
    if not is_genuine(account, request.headers, body, str(request.url)):
        raise HTTPException(401)
    key = hashlib.sha256(body).digest()
    known = select(Delivery.id).where(Delivery.account == account, Delivery.key == key)
    if await db.scalar(known):
        return {"status": "ok", "duplicate": True}
    db.add(Delivery(account=account, key=key, body=body))
    if OTHER:
        await propagate(request.app.state.client, OTHER, body)
    await db.commit()
    return {"status": "ok", "duplicate": False}


async def propagate(client: httpx.AsyncClient, other: str, body: bytes) -> None:
    """Look whether the other system has it, and write it there."""
    content = json.loads(body)
    await client.post(f"{other}/search", json={"filters": [{"propertyName": "email"}]})
    await client.post(f"{other}/contacts", json={"properties": content})
