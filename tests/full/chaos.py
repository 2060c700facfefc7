"""`make chaos`: programs die at random while webhooks come in; then all is counted.

API, workers and PostgreSQL are killed with SIGKILL, as a power cut would, and started again. A
sender posts genuine webhooks of Close, each of a lead of its own, and repeats what was not taken.
At the end every lead whose webhook was accepted has to be in HubSpot exactly once.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from app.db import embedded, migrations
from tests.full import harness
from tests.full.harness import Company, Json, World, close_body, close_headers, until

POSTERS = 4
WORKERS = 2
#: Seconds in which all must be done after the last kill: leases, probes and repeats take theirs.
PATIENCE = 300


@dataclass
class Tally:
    """What was done to the service, and what became of what it accepted."""

    kills: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    recovered: dict[str, list[float]] = field(default_factory=dict)
    posts: int = 0
    refused: int = 0
    accepted: set[str] = field(default_factory=set)
    lost: int = 0
    doubled: int = 0
    settled_in: float = 0.0

    def __str__(self) -> str:
        rows = [("", "kills", "restarts", "back in (median)", "(worst)")]
        for name, seconds in sorted(self.recovered.items()):
            middle, worst = statistics.median(seconds), max(seconds)
            counts = str(self.kills[name]), str(self.restarts[name])
            rows.append((name, *counts, f"{middle:.1f} s", f"{worst:.1f} s"))
        table = "\n".join("  ".join(f"{cell:>16}" for cell in row) for row in rows)
        return (
            f"{table}\n\nposts {self.posts} · refused or cut off {self.refused}"
            f" · accepted {len(self.accepted)} · lost {self.lost} · doubled {self.doubled}"
            f" · all done {self.settled_in:.0f} s after the last kill"
        )


@dataclass
class Chaos:
    """A world, the place of its database, and the dice."""

    world: World
    home: Path
    dice: random.Random
    tally: Tally = field(default_factory=Tally)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, leads: dict[str, Json], kills: int) -> None:
        """Post all of them while so many programs die, one after the other."""
        waiting = list(leads.items())
        killing = asyncio.create_task(self._kill(kills, len(waiting)))
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            await asyncio.gather(*(self._post(http, waiting) for _ in range(POSTERS)), killing)

    async def _post(self, http: httpx.AsyncClient, waiting: list[tuple[str, Json]]) -> None:
        url = f"{self.world.syncline.url}/webhooks/close"
        while waiting:
            lead, event = waiting.pop(self.dice.randrange(len(waiting)))
            body = close_body(event)
            self.tally.posts += 1
            try:
                answer = await http.post(url, content=body, headers=close_headers(body))
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.is_success:
                self.tally.accepted.add(lead)
                continue
            assert answer is None or answer.status_code == 503, answer.text
            self.tally.refused += 1
            waiting.append((lead, event))
            await asyncio.sleep(0.05)

    async def _kill(self, kills: int, posts: int) -> None:
        """Kill when the next part of the posts was accepted: they and the work go on meanwhile."""
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "api": self._kill_api,
            "worker": self._kill_worker,
            "database": self._kill_database,
        }
        order = [list(ways)[n % len(ways)] for n in range(kills)]
        self.dice.shuffle(order)
        for n, name in enumerate(order):
            due = posts * n // kills
            await until(partial(self._accepted, due), within=PATIENCE)
            await asyncio.sleep(self.dice.random() / 2)
            began = time.monotonic()
            await ways[name]()
            self.tally.restarts[name] += 1
            self.tally.recovered.setdefault(name, []).append(time.monotonic() - began)

    async def _accepted(self, count: int) -> bool:
        return len(self.tally.accepted) >= count

    async def _kill_api(self) -> None:
        api = self.world.syncline.api
        await api.kill()
        self.tally.kills["api"] += 1
        await api.start()
        await self.world.syncline.ready()

    async def _kill_worker(self) -> None:
        worker = self.dice.choice(self.world.syncline.workers)
        await worker.kill()
        self.tally.kills["worker"] += 1
        before = len(worker.said(10**9).split("worker.started"))
        await worker.start()

        async def at_work() -> bool:
            return len(worker.said(10**9).split("worker.started")) > before

        await until(at_work, why=self.world.syncline.explain)

    async def _kill_database(self) -> None:
        lock = Path((await asyncio.to_thread(embedded.start, self.home)).data) / "postmaster.pid"
        os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
        self.tally.kills["database"] += 1
        await asyncio.to_thread(embedded.start, self.home)
        await self.world.syncline.ready()

    async def count(self, companies: dict[str, Company]) -> None:
        """Wait until all is done, and compare the CRMs."""
        began = time.monotonic()
        # Close sends what it could not, and all it has sent before once more.
        await self.world.crms.weather(resume=True)
        await self.world.quiet(within=PATIENCE, calm=1)
        self.tally.settled_in = time.monotonic() - began
        there = Counter(row["domain"] for row in await self.world.hubspot.all("companies"))
        home = Counter(row["name"] for row in await self.world.close.all("lead"))
        for lead, company in companies.items():
            if lead in self.tally.accepted and not there[company.domain]:
                self.tally.lost += 1
            for copies in (there[company.domain], home[company.name]):
                self.tally.doubled += max(0, copies - 1)


async def chaos(folder: Path, *, posts: int, kills: int, seed: int) -> Tally:
    """So many posts, so many kills; what became of it."""
    home = folder / "database"
    url = (await asyncio.to_thread(embedded.start, home)).url
    try:
        await migrations.upgraded(url)
        async with harness.world(folder, url, workers=WORKERS) as world:
            await world.crms.weather(pause=True)
            companies: dict[str, Company] = {}
            events: dict[str, Json] = {}
            for _ in range(posts):
                company = Company.new("Chaos")
                made = await world.close.create(
                    "lead", name=company.name, url=f"https://{company.domain}"
                )
                companies[made["id"]] = company
                events[made["id"]] = await world.close.event(made["id"])
            found = Chaos(world, home, random.Random(seed))
            await found.run(events, kills)
            await found.count(companies)
            return found.tally
    finally:
        with contextlib.suppress(embedded.EmbeddedPostgresError):
            await asyncio.to_thread(embedded.stop, home)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--posts", type=int, default=2000, help="how many webhooks (2000)")
    parser.add_argument("--kills", type=int, default=45, help="how many kills (45)")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with tempfile.TemporaryDirectory(prefix="syncline-chaos-") as folder:
        began = time.monotonic()
        tally = asyncio.run(
            chaos(Path(folder), posts=asked.posts, kills=asked.kills, seed=asked.seed)
        )
    fine = not tally.lost and not tally.doubled and len(tally.accepted) == asked.posts
    print(f"{tally}\n{'✓' if fine else '✗'} seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
