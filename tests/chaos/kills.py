"""Programs die at random, one by SIGKILL after the other, while webhooks come in."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ground import PATIENCE, Ground, at_once, ground, kept_running
from tests.chaos.posts import Post, Senders, told_by_hubspot
from tests.chaos.result import Result
from tests.full.harness import Company, Json, Program

WORKERS = 2
CONNECTIONS = 12
#: How often each company is edited; every edit is an event of its own.
EDITS = 4
#: So the sandbox's Close tells of each of them apart.
EVENTFUL = ("--close-consolidation", "0")
#: Of so many companies one is made in HubSpot, the others in Close.
HUBSPOT_EVERY = 4
#: How many repeats come much later than what they repeat.
LATE = 0.1
#: Kills between two lines for whoever waits.
TOLD = 25
#: Events in one webhook of HubSpot, at most.
BATCH = 100


@dataclass
class Firms:
    """The companies of a scenario, and the webhooks that tell of them."""

    at_close: list[Company] = field(default_factory=list)
    at_hubspot: list[Company] = field(default_factory=list)
    #: The events of Close by how many came before them.
    by_age: dict[int, list[Json]] = field(default_factory=dict)
    #: What HubSpot tells; it says which record changed, and not how.
    at_any_time: list[Post] = field(default_factory=list)

    @classmethod
    async def founded(cls, place: Ground, count: int) -> "Firms":
        """Made and edited in the CRMs, which have not told anybody yet."""
        companies = [Company.new("Chaos") for _ in range(count)]
        firms = cls(
            [c for n, c in enumerate(companies) if n % HUBSPOT_EVERY],
            [c for n, c in enumerate(companies) if not n % HUBSPOT_EVERY],
        )
        logs = await at_once(_at_close(place, company) for company in firms.at_close)
        for log in logs:
            for age, event in enumerate(reversed(log)):
                firms.by_age.setdefault(age, []).append(event)
        heard = await at_once(_at_hubspot(place, company) for company in firms.at_hubspot)
        told = [event for events in heard for event in events]
        firms.at_any_time = [
            Post.of_hubspot(told[start : start + BATCH]) for start in range(0, len(told), BATCH)
        ]
        return firms

    def storm(self, posts: int, seed: int) -> list[Post]:
        """So many webhooks, each once and others repeated, every third time as an event of its own.

        They come about in the order of what they tell, as vendors send them, and some of those that
        are repeated as events of their own much later: they tell of what is over.
        """
        dice = random.Random(seed)
        ages = len(self.by_age)
        storm: list[tuple[float, Post]] = [(dice.random(), post) for post in self.at_any_time]
        for age, events in self.by_age.items():
            storm += [((age + dice.random()) / ages, Post.of_close(event)) for event in events]
        while len(storm) < posts:
            age = dice.randrange(ages)
            event = dice.choice(self.by_age[age])
            late = False
            if len(storm) % 3 == 0:
                event, late = {**event, "id": f"ev_again{len(storm)}"}, dice.random() < LATE
            at = dice.uniform(age / ages, 1) if late else (age + dice.random()) / ages
            storm.append((at, Post.of_close(event)))
        return [post for _, post in sorted(storm, key=lambda one: one[0])]

    async def judge(self, place: Ground, result: Result) -> None:
        """Each stands in every CRM once, with what its last edit said."""
        there = await place.hubspot.all("companies")
        home = await place.close.all("lead")
        third = await place.world.salesforce.query("SELECT Id, Name, Description FROM Account")
        shown = {
            "HubSpot": [(row["name"], row["description"], row["id"]) for row in there],
            "Close": [(row["name"], row["description"], row["id"]) for row in home],
            "Salesforce": [(row["Name"], row["Description"], row["Id"]) for row in third],
        }
        last = f"edit {EDITS}"
        for crm, rows in shown.items():
            found: dict[str, list[tuple[str, str]]] = {}
            for name, said, id in rows:
                found.setdefault(name, []).append((said, id))
            for company in (*self.at_close, *self.at_hubspot):
                copies = found.get(company.name, [])
                result.lost += not copies or any(said != last for said, _ in copies)
                result.doubled += max(0, len(copies) - 1)
                if len(copies) > 1:
                    ids = ", ".join(id for _, id in copies)
                    result.notes.append(
                        f"{company.name} stands {len(copies)} times in {crm}: {ids}"
                    )


async def _at_close(place: Ground, company: Company) -> list[Json]:
    """A lead that was made and edited; the events of its log."""
    lead = await place.close.create("lead", name=company.name, url=f"https://{company.domain}")
    for edit in range(1, EDITS + 1):
        await place.close.edit("lead", lead["id"], description=f"edit {edit}")
    return await place.close.log(lead["id"])


async def _at_hubspot(place: Ground, company: Company) -> list[Json]:
    """A company that was made and edited; what HubSpot would tell of it."""
    id = await place.hubspot.create("companies", name=company.name, domain=company.domain)
    told = [told_by_hubspot("company.creation", id)]
    for edit in range(1, EDITS + 1):
        text = f"edit {edit}"
        await place.hubspot.edit("companies", id, description=text)
        changed = {"propertyName": "description", "propertyValue": text}
        told.append(told_by_hubspot("company.propertyChange", id, **changed))
    return told


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
            if self.kills_done % TOLD == 0:
                self.place.say(f"{self.kills_done} kills, {self.senders.taken:,} posts accepted")

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
    async with ground(folder, workers=WORKERS, sandbox=["--no-quota", *EVENTFUL]) as place:
        # What the sandbox would tell is told by us, so that we know what was accepted.
        await place.world.crms.weather(lose=True)
        made = await Firms.founded(place, firms)
        storm = made.storm(posts, seed)
        place.say(f"{firms:,} companies, {len(storm):,} posts")
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
        place.say(f"all accepted amid {kills} kills; waiting until all is done")
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
