"""Where a scenario takes place: a database that writes to disk, the sandbox, the programs."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

from app.db import embedded, migrations
from app.sync.refusal import PROBE
from tests.full import harness
from tests.full.harness import PersonAtClose, PersonAtHubSpot, Program, World, until

#: Seconds in which all must be done after the trouble, on a machine that is busy with other things.
PATIENCE = 900.0
#: People who work in the CRMs at the same time.
TOGETHER = 8
#: See prctl(2): whoever loses its parent becomes our child.
_SUBREAPER = 36

T = TypeVar("T")


@dataclass
class Ground:
    """A world, the home of its database, and people who keep their connections."""

    world: World
    home: Path
    data: Path
    close: PersonAtClose
    hubspot: PersonAtHubSpot
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """A line for whoever waits."""
        print(f"  {time.monotonic() - self.began:4.0f} s  {what}", flush=True)

    async def sql(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return await self.world.syncline.sql(query, *arguments)

    async def kill_database(self) -> None:
        """End PostgreSQL as a power cut would."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(_bury, pid)

    async def start_database(self) -> None:
        await asyncio.to_thread(embedded.start, self.home)

    async def idle(self, *, within: float = PATIENCE) -> float:
        """Return once nothing is under way anywhere; the seconds that it took."""
        began = time.monotonic()
        await self.world.quiet(within=within, calm=1, pause=0.25)
        return time.monotonic() - began - 1

    async def settled(self, *directions: str) -> None:
        """Return once nothing waits in any lane of the service, or in those of these directions."""

        async def nothing() -> bool:
            return not await self.world.syncline.pending(*directions)

        await until(nothing, why=self.world.syncline.explain, within=PATIENCE, pause=0.25)

    async def age(self, seconds: float) -> None:
        """Let so much time have passed: whatever waits, rests or was agreed on was longer ago.

        A CRM that is away was asked as often as in that time, and somebody was at work in it.
        """
        columns = await self.sql(
            "select c.table_name, string_agg(format('%1$I = %1$I - $1', c.column_name), ', ') sets"
            " from information_schema.columns c join pg_class on relname = c.table_name"
            " where c.table_schema = 'public' and c.data_type = 'timestamp with time zone'"
            " and relkind = 'r' and not relispartition"
            " and c.table_name not in ('workers', 'quotas', 'pulse')"
            " group by c.table_name"
        )
        connection = await asyncpg.connect(self.world.syncline.database_url)
        try:
            async with connection.transaction():
                probes = round(seconds / PROBE.total_seconds())
                await connection.execute(
                    "update accounts set probes = probes + $1 where probes > 0", probes
                )
                for table in columns:
                    statement = f"update {table['table_name']} set {table['sets']}"
                    await connection.execute(statement.replace("$1", f"interval '{seconds:.0f} s'"))
        finally:
            await connection.close()


#: Salesforce beside Close and HubSpot; it and Close keep our ids.
THIRD: dict[str, Any] = {
    "accounts": {
        "salesforce": {"external_id": "Syncline_Id__c"},
        "close": {"external_id": harness.CLOSE_STAMP},
    },
    "prepare": lambda crms: crms.close.keep_ids(),
    "config": {"sync": {"deal": {"stages": harness.THREE_STAGES}}},
}


def _adopt_orphans(yes: bool) -> None:
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(_SUBREAPER, int(yes))


def _bury(pid: int) -> None:
    """Take our dead child out of the table of processes: until then it seems to hold its data."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


@contextlib.asynccontextmanager
async def ground(
    folder: Path, *, workers: int, sandbox: Sequence[str] = ()
) -> AsyncIterator[Ground]:
    """All of it with three CRMs, started; stopped at the end."""
    _adopt_orphans(True)
    folder.mkdir(exist_ok=True)
    home = folder / "database"
    server = await asyncio.to_thread(embedded.start, home)
    url = server.url
    try:
        await migrations.upgraded(url)
        async with (
            harness.world(folder, url, workers=workers, sandbox=sandbox, **THIRD) as world,
            httpx.AsyncClient(base_url=world.crms.url, timeout=120, trust_env=False) as http,
        ):
            yield Ground(world, home, server.data, PersonAtClose(http), PersonAtHubSpot(http))
    finally:
        _adopt_orphans(False)  # whoever comes after us in this process buries no dead
        with contextlib.suppress(embedded.EmbeddedPostgresError):
            await asyncio.to_thread(embedded.stop, home)
        shutil.rmtree(server.data, ignore_errors=True)  # root's data lie elsewhere than its home


async def kept_running(program: Program, is_up: Callable[[], Any], *, within: float) -> int:
    """Start it again whenever it ends, as an orchestrator does, until it is up; how often."""
    deadline = time.monotonic() + within
    starts = 0
    while True:
        if program.process is None or program.process.returncode is not None:
            await program.start()
            starts += 1
        with contextlib.suppress(httpx.HTTPError):
            if await is_up():
                return starts
        if time.monotonic() > deadline:
            raise AssertionError(f"{program.name} did not come back\n{program.said()}")
        await asyncio.sleep(0.05)


async def at_once(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """All of these, a few at a time; their answers in their order."""
    gate = asyncio.Semaphore(TOGETHER)

    async def one(job: Awaitable[T]) -> T:
        async with gate:
            return await job

    return await asyncio.gather(*map(one, jobs))
