"""How alembic reaches the database: the caller's connection, else DATABASE_URL."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from app.db.tables import metadata
from app.settings import settings


def _run(connection: sa.Connection) -> None:
    # A migration that waits for a lock makes everybody behind it wait: give up early instead.
    connection.execute(sa.text("set local lock_timeout = '5s'"))
    connection.execute(sa.text("set local statement_timeout = '15min'"))
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


async def _connect() -> None:
    url = settings().database_url
    if url is None:
        raise SystemExit("set DATABASE_URL, or use `syncline migrate`")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.begin() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


if (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    asyncio.run(_connect())
