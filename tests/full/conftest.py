"""One running service for whatever can share it; each test brings companies of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio

from app.db import migrations
from tests.full import harness
from tests.full.harness import Company, World
from tests.postgres import clone, make_template, server

#: The worlds of a whole run; the others live as long as a module or a test.
SHARED = {"shared_world", "workless_world"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs what shares a world, another what brings its own.

    So a world is started once, and no more than two services work at the same time.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and isinstance(item, pytest.Function):
            shares = not SHARED.isdisjoint(item.fixturenames)
            item.add_marker(pytest.mark.xdist_group("shared world" if shares else "own world"))


Databases: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]


@pytest_asyncio.fixture(scope="session")
async def databases() -> Databases:
    """Makes a migrated database of one's own."""
    url = server()
    template = await make_template(url, migrations.upgraded)
    return lambda: clone(url, template)


#: What a user of the shared world has taught it.
HANDLERS = '''
"""What two events mean to us."""

from app.sdk import Context, Event, on


@on("close", "lead.updated")
async def leave_tests_alone(event: Event, ctx: Context) -> None:
    """Leads that our own people make to try things do not travel."""
    if str(event.data["data"].get("name", "")).startswith("[test]"):
        ctx.skip("a test lead")


@on("close", "activity.note.created")
async def look_at_the_lead(event: Event, ctx: Context) -> None:
    """A new note usually means that somebody edited the lead as well."""
    ctx.mark(ctx.connector.ref("company", event.data["lead_id"]))
'''


@pytest_asyncio.fixture(scope="session")
async def shared_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """`syncline serve` beside the sandbox."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("world"),
            own,
            config={"handlers": ["our_handlers.py"]},
            files={"our_handlers.py": HANDLERS},
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture(scope="session")
async def workless_world(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """`syncline serve --no-worker`: whoever uses it starts workers of their own."""
    folder = tmp_path_factory.mktemp("workless")
    async with databases() as own, harness.world(folder, own, workers=0) as found:
        yield found


@pytest_asyncio.fixture
async def workless(workless_world: World) -> AsyncIterator[World]:
    """Without a worker again afterwards."""
    yield workless_world
    await workless_world.crms.fair_weather()
    await workless_world.syncline.dismiss()


@pytest_asyncio.fixture
async def world(shared_world: World) -> AsyncIterator[World]:
    """The shared one, at rest again afterwards."""
    yield shared_world
    await shared_world.crms.fair_weather()
    await shared_world.quiet(calm=0)


@pytest.fixture
def company() -> Company:
    """A company that nobody else has."""
    return Company.new("Analytical Engines")
