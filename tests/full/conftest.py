"""One running service for whatever can share it; each test brings companies of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest
import pytest_asyncio

from app.db import migrations
from tests.full import harness
from tests.full.harness import Company, World
from tests.postgres import clone, make_template, server

Databases: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]


@pytest_asyncio.fixture(scope="session")
async def databases() -> Databases:
    """Makes a migrated database of one's own."""
    url = server()
    template = await make_template(url, migrations.upgraded)
    return lambda: clone(url, template)


@pytest_asyncio.fixture(scope="session")
async def shared_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """`syncline serve` beside the sandbox."""
    folder = tmp_path_factory.mktemp("world")
    async with databases() as own, harness.world(folder, own) as found:
        yield found


@pytest_asyncio.fixture
async def world(shared_world: World) -> AsyncIterator[World]:
    """The shared one, at rest before and after."""
    await shared_world.quiet()
    yield shared_world
    await shared_world.crms.fair_weather()
    await shared_world.quiet()


@pytest.fixture
def company() -> Company:
    """A company that nobody else has."""
    return Company.new("Analytical Engines")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "heavy: many records; leave out with -m 'not heavy'")
