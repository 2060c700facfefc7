"""Programs die at random, one by SIGKILL after the other, while webhooks come in."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ground import PATIENCE, Ground, ground, kept_running
from tests.chaos.posts import Post, Senders, told_by_hubspot
from tests.chaos.result import Result
from tests.full.harness import Company, Json, Program

WORKERS = 2
CONNECTIONS = 12
#: How often each company is edited; every edit is an event of its own.
EDITS = 4
#: Of so many companies one is made in HubSpot, the others in Close.
HUBSPOT_EVERY = 4
#: Events in one webhook of HubSpot, at most.
BATCH = 100


@dataclass
class Firms:
    """The companies of a scenario, and the webhooks that tell of them."""

    at_close: list[Company] = field(default_factory=list)
    at_hubspot: list[Company] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)

    @classmethod
    async def founded(cls, place: Ground, count: int) -> "Firms":
        """Made and edited in the CRMs, which have not told anybody yet."""
        firms = cls()
        told: list[Json] = []
        for n in range(count):
            company = Company.new("Chaos")
            if n % HUBSPOT_EVERY == 0:
                firms.at_hubspot.append(company)
                id = await place.hubspot.create(
                    "companies", name=company.name, domain=company.domain
                )
                told.append(told_by_hubspot("company.creation", id))
                for edit in range(1, EDITS + 1):
                    text = f"edit {edit}"
                    await place.hubspot.edit("companies", id, description=text)
                    told.append(
                        told_by_hubspot(
                            "company.propertyChange",
                            id,
                            propertyName="description",
                            propertyValue=text,
                        )
                    )
                continue
            firms.at_close.append(company)
            lead = await place.close.create(
                "lead", name=company.name, url=f"https://{company.domain}"
            )
            for edit in range(1, EDITS + 1):
                await place.close.edit("lead", lead["id"], description=f"edit {edit}")
            firms.events += await place.close.log(lead["id"])
        firms.posts = [Post.of_close(event) for event in firms.events]
        firms.posts += [
            Post.of_hubspot(told[start : start + BATCH]) for start in range(0, len(told), BATCH)
        ]
        return firms

    def storm(self, posts: int, seed: int) -> list[Post]:
        """So many webhooks in any order: each once, others repeated as vendors do, every third
        repeat as an event of its own.
        """
        storm, dice = list(self.posts), random.Random(seed)
        while len(storm) < posts:
            if len(storm) % 3:
                storm.append(dice.choice(self.posts))
            else:
                event = dice.choice(self.events)
                storm.append(Post.of_close({**event, "id": f"ev_again{len(storm)}"}))
        dice.shuffle(storm)
        return storm[: max(posts, len(self.posts))]

    async def judge(self, place: Ground, result: Result) -> None:
        """Each stands in both CRMs once, with what its last edit said."""
        there = await place.hubspot.all("companies")
        home = await place.close.all("lead")
        copies = Counter(row["domain"] for row in there)
        leads = Counter(row["name"] for row in home)
        said = {row["domain"]: row["description"] for row in there}
        told = {row["name"]: row["description"] for row in home}
        last = f"edit {EDITS}"
        for company in (*self.at_close, *self.at_hubspot):
            counts = copies[company.domain], leads[company.name]
            result.doubled += sum(max(0, count - 1) for count in counts)
            values = said.get(company.domain), told.get(company.name)
            result.lost += 0 in counts or values != (last, last)


@dataclass
class Killer:
    """Kills one kind of program at random moments, so many times."""

    place: Ground
    senders: Senders
    result: Result
    dice: random.Random
    portion: float
    kills_done: int = 0

    async def run(self, name: str, kills: int, kill: Callable[[], Awaitable[int]]) -> None:
        """Each time the next portion of webhooks is on its way; ``kill`` returns when it is back,
        with the number of starts that took.
        """
        for _ in range(kills):
            self.kills_done += 1
            self.senders.release(round(self.portion * self.kills_done))
            await asyncio.sleep(self.dice.uniform(0, 0.5))
            began = time.monotonic()
            self.result.kills[name] += 1
            self.result.restarts[name] += await kill()
            self.result.back.setdefault(name, []).append(time.monotonic() - began)

    async def api(self) -> int:
        service = self.place.world.syncline
        await service.api.kill()

        async def is_up() -> bool:
            return (await service.http.get("/health/ready")).is_success

        return await kept_running(service.api, is_up, within=PATIENCE)

    async def worker(self) -> int:
        worker = self.dice.choice(self.place.world.syncline.workers)
        await worker.kill()
        before = worker.log.stat().st_size
        return await kept_running(worker, lambda: _has_begun(worker, before), within=PATIENCE)

    async def database(self) -> int:
        await self.place.kill_database()
        await self.place.start_database()
        return 1


async def _has_begun(worker: Program, before: int) -> bool:
    with worker.log.open("rb") as log:
        log.seek(before)
        return b"worker.started" in log.read()


async def kills(folder: Path, *, posts: int, kills: int, firms: int, seed: int) -> Result:
    """So many webhooks, so many kills of API, workers and database, all at the same time."""
    result, dice = Result("kill -9 amid webhooks"), random.Random(seed)
    async with ground(folder, workers=WORKERS, sandbox=["--no-quota"]) as place:
        # What the sandbox would tell is told by us, so that we know what was accepted.
        await place.world.crms.weather(lose=True)
        made = await Firms.founded(place, firms)
        storm = made.storm(posts, seed)
        senders = Senders(place.world.syncline.port, storm)
        killer = Killer(place, senders, result, dice, len(storm) / max(kills, 1))
        if not kills:
            senders.release(len(storm))
        ways = {"api": killer.api, "worker": killer.worker, "database": killer.database}
        shares = {name: len(range(n, kills, len(ways))) for n, name in enumerate(ways)}
        await asyncio.gather(
            senders.run(CONNECTIONS),
            *(killer.run(name, shares[name], way) for name, way in ways.items()),
        )
        result.recovered = await place.idle()
        result.accepted = senders.taken
        result.notes.append(
            f"{senders.refused:,} posts refused or cut off, and repeated;"
            f" {len(senders.accepted):,} different webhooks"
        )
        await judge_inbox(place, senders.accepted, result)
        await made.judge(place, result)
    result.judge()
    return result


async def judge_inbox(place: Ground, accepted: Collection[bytes], result: Result) -> None:
    """Every webhook that was answered 200 is there, and was dealt with."""
    found = await place.sql(
        "select count(distinct (account, key)) from deliveries"
        " where key = any($1::bytea[]) and state = 'done'",
        sorted(accepted),
    )
    result.lost += len(accepted) - found[0]["count"]
    left = await place.sql("select count(*) from events where state <> 'done'")
    result.demand(not left[0]["count"], f"{left[0]['count']} events not done")
    lanes = await place.world.syncline.get("/health/lanes")
    dead = sum(lanes.get("dead_letters", {}).values())
    result.demand(not dead, f"{dead} dead letters")
