"""A running service per module, shared by its tests; each test brings its own companies."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.db import migrations
from tests.full import harness
from tests.full.harness import World
from tests.postgres import clone, make_template, server


@pytest_asyncio.fixture(scope="module")
async def own_database() -> AsyncIterator[str]:
    """A migrated database of the module's own."""
    url = server()
    async with clone(url, await make_template(url, migrations.upgraded)) as own:
        yield own


@pytest_asyncio.fixture(scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory, own_database: str
) -> AsyncIterator[World]:
    """`syncline serve` beside the sandbox."""
    async with harness.world(tmp_path_factory.mktemp("world"), own_database) as found:
        yield found
