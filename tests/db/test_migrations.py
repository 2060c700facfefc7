"""The migrations and the tables say the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app.db import migrations, partitions
from app.db.engine import Database
from app.db.tables import metadata
from tests.postgres import clone, server


def _differences(connection: sa.Connection) -> list[object]:
    opts = {"compare_server_default": True, "include_name": _is_no_part}
    context = MigrationContext.configure(connection, opts=opts)
    return list(compare_metadata(context, metadata))


def _is_no_part(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or not partitions.is_part(name)


async def test_models_and_schema_agree(database: Database) -> None:
    async with database.engine.connect() as db:
        assert await db.run_sync(_differences) == []


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    await migrations.upgraded(database.url)
    async with database.engine.connect() as db:
        found = await db.execute(sa.text("select version_num from alembic_version"))
        assert found.scalars().all() == [migrations.head()]


async def test_two_processes_may_migrate_at_once() -> None:
    import asyncio

    async with clone(server()) as url:
        await asyncio.gather(migrations.upgraded(url), migrations.upgraded(url))
        fresh = Database(url)
        async with fresh.engine.connect() as db:
            assert await db.run_sync(_differences) == []
        await fresh.close()


async def test_a_schema_that_a_newer_program_has_expanded_is_left_as_it_is(
    database: Database,
) -> None:
    async with database.transaction() as db:
        await db.execute(sa.text("alter table accounts add column flavour text"))
        await db.execute(sa.text("update alembic_version set version_num = 'of tomorrow'"))
    await migrations.upgraded(database.url)
    async with database.transaction() as db:
        found = await db.execute(sa.text("select version_num from alembic_version"))
        assert found.scalars().all() == ["of tomorrow"]
