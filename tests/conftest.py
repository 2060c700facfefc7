"""Fixtures for all: a migrated database of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from app.db import migrations
from app.db.engine import Database
from tests.postgres import clone, make_template, server

# How long one example takes says how busy the machine is, and nothing of us.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture
async def database_url() -> AsyncIterator[str]:
    """The URL of a fresh, migrated database."""
    url = server()
    async with clone(url, await make_template(url, migrations.upgraded)) as own:
        yield own


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on a fresh, migrated database."""
    found = Database(database_url)
    yield found
    await found.close()
