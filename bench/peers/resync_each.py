"""What tutorials teach: a FastAPI endpoint that searches and writes record by record.

Each contact of Close is looked for in HubSpot by e-mail address, created or updated there, and
remembered in a row of its own through an SQLAlchemy session.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Text, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.contacts import contacts, fields, hubspot

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1)
engine = create_async_engine(URL)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Contact(Base):
    __tablename__ = "peer_contacts"

    close_id: Mapped[str] = mapped_column(Text, primary_key=True)
    hubspot_id: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text, index=True)
    name: Mapped[str] = mapped_column(Text)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/resync")
async def resync() -> dict[str, int]:
    done = 0
    async with hubspot() as client:
        async for page in contacts():
            for contact in page:
                async with sessions() as session:
                    await carry(client, session, contact)
                    await session.commit()
                done += 1
    return {"done": done}


async def carry(client: httpx.AsyncClient, session: AsyncSession, contact: dict[str, Any]) -> None:
    """Search it, write it, remember it."""
    known = await session.scalar(select(Contact).where(Contact.close_id == contact["id"]))
    if known is None:
        known = Contact(close_id=contact["id"])
        session.add(known)
    properties = fields(contact)
    known.email, known.name = properties["email"], contact["name"]
    same = {"propertyName": "email", "operator": "EQ", "value": properties["email"]}
    found = await client.post(
        "/crm/v3/objects/contacts/search",
        json={"filterGroups": [{"filters": [same]}], "properties": ["email"], "limit": 1},
    )
    results = found.raise_for_status().json()["results"]
    if results:
        known.hubspot_id = results[0]["id"]
        path, method = f"/crm/v3/objects/contacts/{known.hubspot_id}", "PATCH"
    else:
        path, method = "/crm/v3/objects/contacts", "POST"
    written = await client.request(method, path, json={"properties": properties})
    known.hubspot_id = written.raise_for_status().json()["id"]
