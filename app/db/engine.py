"""The connection pool and the one way to open a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine


def as_json(value: Any) -> str:
    """As the database keeps it."""
    return orjson.dumps(value, default=dict).decode()  # dict: any other mapping


class Database:
    """One pool of connections to our PostgreSQL.

    ``url`` is ``postgresql://user:password@host:port/name``.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=pool_size,
            max_overflow=5,
            pool_timeout=10,
            json_serializer=as_json,
            json_deserializer=orjson.loads,
            hide_parameters=True,  # they are people's data, and errors go to the log
            connect_args={"timeout": 5, "command_timeout": 60},
        )
        # A connection that the server closed under us must not reach a caller.
        event.listen(self.engine.sync_engine, "handle_error", _forget_dead_connections)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back on any error."""
        async with self.engine.begin() as connection:
            yield connection

    async def close(self) -> None:
        await self.engine.dispose()


def is_away(error: BaseException) -> bool:
    """The database is away, restarting, full or not migrated; not: we wrote wrong SQL."""
    match error:
        case exc.ProgrammingError():
            # 42P01, 42703: no such table or column, the schema is behind.
            return getattr(error.orig, "sqlstate", None) in ("42P01", "42703")
        case exc.DataError() | exc.IntegrityError():
            return False
        case exc.DBAPIError() | exc.TimeoutError():
            return True
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | OSError() | TimeoutError():
            return True
        case asyncpg.InternalClientError():
            return True  # the server died in the middle of a message
    return False


def _forget_dead_connections(context: Any) -> None:
    """After one lost connection the whole pool is stale: the server was restarted."""
    if context.is_disconnect:
        context.invalidate_pool_on_disconnect = True
