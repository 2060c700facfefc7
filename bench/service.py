"""The whole service and its CRMs: each program a process of its own, the database with fsync on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from app.db import embedded, migrations
from app.db.embedded import Server
from bench.processes import Spent, spending
from tests.full import harness
from tests.full.harness import World, until

PATIENCE = 3600.0
#: After so many seconds an idle backend has told of all the rows that it wrote.
FLUSHED = 11
#: As many writes as come, and nothing that begins by itself.
_ACCOUNT = {
    "guard": {"creates": "off", "updates": "off"},
    "catch_up": {"every": "off"},
    "drift": {"every": "off"},
}
#: The CRMs say so with every answer: who hears nothing keeps to the smallest plan's limits.
NO_QUOTA = [
    part
    for limit in ("close", "hubspot", "hubspot-search", "hubspot-daily", "salesforce-daily")
    for part in (f"--{limit}-limit", "1000000")
]
#: Tables that change whether or not there is work.
_HOUSEKEEPING = ("lanes", "workers", "quotas", "refusals", "resyncs", "catchups", "alerts")


@dataclass
class Service:
    """Everything that runs, and a connection of ours to its database."""

    world: World
    db: asyncpg.Connection
    database: int

    @property
    def processes(self) -> dict[str, int]:
        """The process of each part."""
        own, crms = self.world.syncline, self.world.crms
        workers = {"worker": own.workers[0].pid} if own.workers else {}
        return {
            **workers,
            "api": own.api.pid,
            "database": self.database,
            "sandbox": crms.program.pid,
        }

    async def idle(self, *, within: float = PATIENCE) -> None:
        """Return once no resync is open, nothing waits, and no lane is at work."""

        async def over() -> bool:
            return bool(
                await self.db.fetchval(
                    "select not exists (select from resyncs where state in ('queued', 'running'))"
                    " and not exists (select from outbox where state <> 'dead')"
                    " and not exists (select from deliveries where state = 'pending')"
                    " and not exists (select from events where state = 'pending')"
                    " and not exists (select from lanes where owner is not null"
                    " and direction <> 'listen')"
                )
            )

        await until(over, why=self.world.syncline.explain, within=within, pause=0.1)

    async def rows(self) -> dict[str, int]:
        """Rows inserted, updated and deleted so far, by table, beside the housekeeping."""
        found = await self.db.fetch(
            "select relname, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables"
        )
        return {name: n for name, n in found if n and name not in _HOUSEKEEPING}

    async def calls(self) -> dict[str, dict[str, int]]:
        """Calls so far that each CRM has answered, the rows they wrote, and those that were so
        already."""
        found = {}
        for name, counted in (await self.world.crms.counts()).items():
            verbs: Counter[str] = Counter()
            for by_verb in counted["rows"].values():
                verbs.update(by_verb)
            kinds = {kind: counted[kind] for kind in ("reads", "writes", "failed", "limited")}
            kinds["calls"] = kinds["reads"] + kinds["writes"]
            found[name] = {**kinds, "rows": verbs.total(), "unchanged": verbs["unchanged"]}
        return found

    async def measured(
        self, work: Callable[[], Awaitable[object]], *, rows: bool = False
    ) -> dict[str, Any]:
        """Do this, wait until nothing is left to do, and tell what all of it took.

        ``rows``: also how many of each table were written, which takes ten seconds more.
        """
        calls, before = await self.calls(), await self.rows() if rows else {}
        with spending(self.processes) as spent:
            await work()
            await self.idle()
        found = {**told(spent), "calls": gained(calls, await self.calls())}
        if rows:
            await asyncio.sleep(FLUSHED)
            after = await self.rows()
            more = {name: n - before.get(name, 0) for name, n in after.items()}
            found["database_rows"] = {name: n for name, n in more.items() if n}
        return found


def told(spent: Spent) -> dict[str, Any]:
    return {"seconds": spent.seconds, "cpu": spent.cpu, "peak_mib": spent.peak}


def gained(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    return {
        name: {kind: n - before.get(name, {}).get(kind, 0) for kind, n in kinds.items()}
        for name, kinds in after.items()
        if dict(kinds) != dict(before.get(name, {}))
    }


@contextlib.asynccontextmanager
async def running(
    *accounts: str,
    sync: Mapping[str, Any] | None = None,
    sandbox: Sequence[str] = (),
    webhooks: bool = False,
    workers: int = 1,
) -> AsyncIterator[Service]:
    """API, a worker, the sandbox without quotas and PostgreSQL; all of it is gone at the end.

    ``accounts`` join close and hubspot. ``webhooks`` says whether the CRMs call us.
    """
    with contextlib.ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="syncline-bench-")))
        server = await asyncio.to_thread(_database, folder)
        # As root the data lie elsewhere than their home.
        closing.callback(shutil.rmtree, server.data, ignore_errors=True)
        closing.callback(embedded.stop, folder / "database")
        await migrations.upgraded(server.url)
        names = ("close", "hubspot", *accounts)
        stages = harness.THREE_STAGES if "salesforce" in names else harness.STAGES
        config = {"sync": {"deal": {"stages": stages}, **(sync or {})}}
        async with harness.world(
            folder,
            server.url,
            accounts=dict.fromkeys(names, _ACCOUNT),
            config=config,
            sandbox=(*NO_QUOTA, "--search-lag", "0.1", *sandbox),
            subscribed=webhooks,
            targeted=webhooks,
            workers=workers,
        ) as world:
            connection = await asyncpg.connect(server.url)
            try:
                yield Service(world, connection, _postmaster(server))
            finally:
                await connection.close()


def _database(folder: Path) -> Server:
    folder.chmod(0o711)  # as root the server is another user
    return embedded.start(folder / "database")


def _postmaster(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])
