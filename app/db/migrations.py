"""Bring the schema to what the code expects; one process at a time."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from app.clock import now
from app.db import partitions

log = structlog.get_logger()

#: Any number that nobody else uses: "sync" in ASCII.
LOCK = 0x73796E63
_ROOT = Path(__file__).resolve().parents[2]


def _config() -> Config:
    config = Config(_ROOT / "alembic.ini")
    config.set_main_option("script_location", str(_ROOT / "alembic"))
    return config


def head() -> str | None:
    """The revision that this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head()


@cache
def known() -> frozenset[str]:
    """The revisions that this code has heard of; any other was made by a newer program."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return frozenset(script.revision for script in scripts)


def upgrade(url: str) -> bool:
    """Run the missing migrations under an advisory lock; a second caller waits and finds none.

    Says whether there were any.

    What a newer program has made of the schema is left as it is: each release only adds to what
    the one before it uses, so that both can work beside each other while one replaces the other.
    ``url`` is ``postgresql://…``.
    """
    return asyncio.run(upgraded(url))


async def upgraded(url: str) -> bool:
    """The same for a caller that has a loop."""
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool
    )
    try:
        async with engine.begin() as db:
            await db.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
            changed = await db.run_sync(_upgrade)
            for cut in partitions.CUTS:
                await partitions.make(db, cut, now())
            return changed
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection) -> bool:
    at = MigrationContext.configure(connection).get_current_revision()
    if at is not None and at not in known():
        log.warning("schema.newer", at=at, known=head())
        return False
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return at != head()
