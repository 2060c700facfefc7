"""make prove-full N=10000: random histories through the whole service and the sandbox.

Close and two portals of HubSpot, over HTTP; many companies live at once, in weather that doubles,
shuffles and delays webhooks, with workers killed in between. What happened is read from the CRMs'
own histories and told to the same oracle that judges the pure core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from app.db import migrations
from tests.full import harness
from tests.full.harness import HUBSPOT_SECRET, PORTAL, Json, PersonAtHubSpot, World
from tests.postgres import clone, make_template, server
from tests.prove.oracle import BrokenError, Witness, lost_values

EUROPE, EUROPES_TOKEN = PORTAL + 1, "pat-eu1-prove-0001"
ACCOUNTS = ("close", "hubspot", "europe")
#: Our name for a field, each CRM's own, its canonical name, and the policy of its conflicts.
HERE = {
    "name": {"close": "name", "hubspot": "name", "europe": "name"},
    "title": {"close": "description", "hubspot": "description", "europe": "description"},
    "phone": {"hubspot": "phone", "europe": "phone"},
}
CANONICAL = {"name": "name", "title": "description", "phone": "phone"}
POLICY = {"name": "close", "title": "latest", "phone": "review"}
SYNC = {
    "company": {
        "fields": {CANONICAL[path]: {"conflict": policy} for path, policy in POLICY.items()}
    }
}
#: So many companies are judged together: the waits after a kill are shared.
CROWD = 250
#: So many begin in a second.
PACE = 3
#: So many live in one world before another takes its place.
ERA = 1000
#: Seconds after which a crowd that has not come to rest never will, however busy the machine.
LONGEST = 900
#: Seconds between a look of ours and the write that follows it, on a busy machine.
INSTANT = 5


@contextlib.asynccontextmanager
async def service(folder: Path) -> AsyncIterator[World]:
    """Close and two portals; a worker beside the API."""
    url = server()
    template = await make_template(url, migrations.upgraded)
    europe = {
        "connector": "hubspot",
        "portal_id": EUROPE,
        "credentials": {"access_token": EUROPES_TOKEN},
        "webhook_secret": HUBSPOT_SECRET,
        "base_url": harness.SAME_SANDBOX,
    }
    async with (
        clone(url, template) as own,
        harness.world(
            folder,
            own,
            accounts={"europe": europe},
            sandbox=[f"--hubspot-portal={EUROPES_TOKEN}={EUROPE}"],
            config={"sync": SYNC},
            workers=1,
        ) as found,
    ):
        yield found


@dataclass
class Company:
    """One history: a company, what its people do, and how it looks in each CRM."""

    seed: int
    world: World
    random: Random = field(init=False)
    ids: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    deeds: list[str] = field(default_factory=list)
    tokens: int = 0
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def domain(self) -> str:
        return f"d{self.seed}.example"

    async def live(self, within: float) -> None:
        """1 to 12 deeds of people, now and then with time to breathe between them."""
        await asyncio.sleep(self.random.random() * within)
        await self.create(self.random.choice(ACCOUNTS))
        for _ in range(min(11, int(self.random.expovariate(0.35)))):
            await asyncio.sleep(self.random.choice((0, 0, 0.01, 0.1, 0.5, 2)))
            await self.deed()

    async def create(self, account: str) -> None:
        name = self.token("v")
        if account == "close":
            made = await self.world.close.create("lead", name=name, url=f"https://{self.domain}")
            self.ids[account] = made["id"]
        else:
            portal = self.portal(account)
            self.ids[account] = await portal.create("companies", name=name, domain=self.domain)
        self.deeds.append(f"create in {account}")

    async def deed(self) -> None:
        await self.look_around()
        # Close has no recycle bin.
        if self.gone - {"close"} and self.random.random() < 0.3:
            await self.restore(self.random.choice(sorted(self.gone - {"close"})))
            return
        here = [account for account in self.ids if account not in self.gone]
        if not here:
            return
        account = self.random.choice(here)
        if self.random.random() < 0.05:
            self.deeds.append(f"delete in {account}")
            self.gone.add(account)
            if account == "close":
                await self.world.close.delete("lead", self.ids[account])
            else:
                await self.portal(account).delete("companies", self.ids[account])
            return
        path = self.random.choice([p for p in HERE if account in HERE[p]])
        await self.edit(account, path, clear=path != "name" and self.random.random() < 0.2)

    async def restore(self, account: str) -> None:
        self.deeds.append(f"restore in {account}")
        self.gone.discard(account)
        path = f"/crm/v3/objects/companies/{self.ids[account]}/restore"
        await self.portal(account).call("POST", path)

    async def edit(self, account: str, path: str, *, clear: bool = False) -> None:
        value = "" if clear else self.token("+49302000" if path == "phone" else "v")
        self.deeds.append(f"{path} in {account}: {value!r}")
        name = HERE[path][account]
        if account == "close":
            await self.world.close.edit("lead", self.ids[account], **{name: value or None})
        else:
            await self.portal(account).edit("companies", self.ids[account], **{name: value})

    def portal(self, account: str) -> PersonAtHubSpot:
        return self.world.hubspot if account == "hubspot" else europe(self.world)

    def token(self, prefix: str) -> str:
        self.tokens += 1
        return f"{prefix}{self.tokens:05}"

    async def look_around(self) -> None:
        """Find the counterparts that the service has made meanwhile."""
        record = await _ours(self.world, self.ids)
        for link in record["links"] if record else ():
            self.ids.setdefault(link["account"], link["remote_id"])

    # --- afterwards

    def judge(self, scene: Scene) -> None:
        """Tell the witness what the CRMs remember, and let it judge what they show."""
        record = scene.record_of(self.ids)
        for link in record["links"] if record else ():
            self.ids.setdefault(link["account"], link["remote_id"])
        self._no_doubles(scene)
        typed: dict[tuple[str, str], int] = {}
        for account, id, path, old, new, at, person in self._past(scene):
            if not person and old is None and path == "name":
                self.witness.living.setdefault((account, 1), set()).add(id)
            if person:
                typed[account, path] = at
                self.witness.edited(account, id, 1, path, old, new, at)
            else:
                # Typed after we looked: our write hides it, and it may be put back.
                if at - typed.get((account, path), -INSTANT) < INSTANT:
                    self.witness.looked(account, id)
                    self.witness.touched[account, id, path] = self.witness.numbers
                else:
                    self.witness.glances.pop((account, id), None)
                self.witness.wrote(account, id, 1, path, old, new)
        for account in self.gone:
            self.witness.left.add((account, self.ids[account]))
        shown = {
            (account, id): _read(account, scene.alive[account][id])
            for account, id in self.ids.items()
            if account not in self.gone
        }
        absent = {"phone": {"close"}} if ("close", self.ids.get("close")) in shown else {}
        held, lost = _remembered(record)
        self.witness.judge(1, shown, held=held, journal=lost, policy=POLICY, skip=absent)

    def _no_doubles(self, scene: Scene) -> None:
        for account in ACCOUNTS:
            rows = scene.alive[account].values()
            found = [row for row in rows if _domain(account, row) == self.domain]
            wanted = 0 if account in self.gone else 1
            lives = any(other not in self.gone for other in self.ids)
            if len(found) > wanted or (lives and len(found) < wanted and not self.gone):
                raise BrokenError(f"{account} has {len(found)} of it, not {wanted}")

    def _past(self, scene: Scene) -> list[tuple[str, str, str, Any, Any, int, bool]]:
        """Every change in every CRM, in the order of the one clock that they share."""
        found = []
        for account, id in self.ids.items():
            for path, names in HERE.items():
                if account not in names:
                    continue
                old: Any = None
                for value, at, person in scene.versions(account, id, names[account]):
                    found.append((at, account, id, path, old, value or None, person))
                    old = value or None
        found.sort(key=lambda change: change[0])
        return [(a, i, p, o, n, int(at.timestamp()), by) for at, a, i, p, o, n, by in found]


@dataclass
class Scene:
    """All that the CRMs and the service have to tell about a crowd, read at rest."""

    #: By account and id: what is there now, and what each field ever showed.
    alive: dict[str, dict[str, Json]]
    pasts: dict[tuple[str, str], Json] = field(default_factory=dict)
    #: Our records by one of their refs.
    records: dict[tuple[str, str], Json] = field(default_factory=dict)

    @classmethod
    async def read(cls, world: World, companies: Sequence[Company]) -> Scene:
        leads = await world.close.all("lead")
        scene = cls({"close": {row["id"]: row for row in leads}})
        for account, portal in (("hubspot", world.hubspot), ("europe", europe(world))):
            scene.alive[account] = {row["id"]: row for row in await portal.all("companies")}
        few = asyncio.Semaphore(4)

        async def look(company: Company) -> None:
            async with few:
                await scene._look(world, company)

        await asyncio.gather(*map(look, companies))
        return scene

    async def _look(self, world: World, company: Company) -> None:
        refs = set(company.ids.items())
        record = await _ours(world, company.ids)
        if record is not None:
            refs |= {(link["account"], link["remote_id"]) for link in record["links"]}
            self.records |= dict.fromkeys(refs, record)
        for ref in refs:
            self.pasts[ref] = await _history(world, *ref, gone=ref[0] in company.gone)

    def record_of(self, ids: Mapping[str, str]) -> Json | None:
        """Ours; None if it came and went before anybody met it."""
        return next((self.records[ref] for ref in ids.items() if ref in self.records), None)

    def versions(self, account: str, id: str, name: str) -> list[tuple[Any, datetime, bool]]:
        """The values of a field, the oldest first; when, and whether a person gave it."""
        past = self.pasts[account, id].get(name, [])
        if account == "close":
            return [(v["value"], _time(v["at"]), v["source"] == "CRM_UI") for v in past]
        return [
            (v["value"], _time(v["timestamp"]), v["sourceType"] == "CRM_UI") for v in reversed(past)
        ]


async def _ours(world: World, ids: Mapping[str, str]) -> Json | None:
    """Our record of what has these ids; None if nobody has met it."""
    for account, id in ids.items():
        query = {"account": account, "remote_id": id, "entity": "company"}
        for row in await world.syncline.rows("/api/records", **query):
            return await world.syncline.get(f"/api/records/{row['id']}")
    return None


async def _history(world: World, account: str, id: str, *, gone: bool) -> Json:
    if account == "close":
        kept = await world.crms.control("GET", f"history/close/lead/{id}")
        return dict(kept["fields"])
    portal = world.hubspot if account == "hubspot" else europe(world)
    names = ",".join(names[account] for names in HERE.values())
    path = f"/crm/v3/objects/companies/{id}?propertiesWithHistory={names}"
    answer = await portal.call("GET", path + ("&archived=true" if gone else ""))
    return dict(answer["propertiesWithHistory"])


def _read(account: str, row: Json) -> Json:
    """What a row of a CRM shows, by our names."""
    shown = {path: row.get(names[account]) for path, names in HERE.items() if account in names}
    return {"phone": None, **shown}


def _domain(account: str, row: Json) -> str:
    if account == "close":
        return (row["url"] or "").removeprefix("https://")
    return row["domain"] or ""


def _remembered(record: Json | None) -> tuple[set[tuple[str, str]], dict[str, set[Any]]]:
    """The fields that wait for a person, and the values that lost."""
    if record is None:
        return set(), {}
    paths = {name: path for path, name in CANONICAL.items()}
    held = {(c["account"], paths[c["field"]]) for c in record["conflicts"] if c["field"] in paths}
    lost = [
        (paths[row["field"]], row["lost"])
        for row in record["journal"]
        if row["field"] in paths and row["lost"] is not None
    ]
    return held, lost_values(lost)


def europe(world: World) -> PersonAtHubSpot:
    return PersonAtHubSpot(world.crms.http, EUROPE)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def crowd(
    world: World, seeds: Sequence[int], *, kill: bool = True, pause: float = 1
) -> Counter[str]:
    """Let these histories happen at the same time, and judge each. Raises BrokenError.

    ``kill`` is how a worker may end amid it all; otherwise it is asked to. ``pause`` lies between
    two looks whether all is quiet.
    """
    random = Random(seeds[0])
    companies = [Company(seed, world) for seed in seeds]
    await world.crms.weather(
        duplicate=random.choice((0, 0, 1)),
        shuffle=random.random() < 0.5,
        delay=random.choice((0, 0, 0.2, 1)),
    )
    span = max(len(seeds) / PACE, 1.5)
    lives = asyncio.gather(*(company.live(span) for company in companies))
    if random.random() < 0.5 or not kill:
        await asyncio.sleep(random.random() * span)
        ended = world.syncline.workers.pop()
        await (ended.kill() if kill else ended.stop())
        await world.syncline.add_workers(1)
    await lives
    await world.crms.fair_weather()
    await world.quiet(within=LONGEST, pause=pause)
    scene = await Scene.read(world, companies)
    for company in companies:
        try:
            company.judge(scene)
        except BrokenError as broken:
            raise BrokenError(await _told(world, scene, company, broken)) from None
    await _nothing_waits_for_a_person(world)
    counts = Counter(histories=len(companies), deeds=sum(len(c.deeds) for c in companies))
    return counts + await _one_edit_each(world, companies, pause=pause)


async def _told(world: World, scene: Scene, company: Company, broken: BrokenError) -> str:
    """What broke, what people did, what every field showed when, and how things stand."""
    deeds = "\n  ".join(company.deeds)
    past = "\n  ".join(
        f"{at:%H:%M:%S.%f} {account} {path}: {value!r} by {'a person' if person else 'us'}"
        for at, account, path, value, person in sorted(
            (at, account, path, value, person)
            for account, id in company.ids.items()
            for path, names in HERE.items()
            for value, at, person in scene.versions(account, id, names.get(account, ""))
        )
    )
    journal = (scene.record_of(company.ids) or {}).get("journal")
    state = await world.syncline.explain()
    return (
        f"seed {company.seed}: {broken}\n  {deeds}\nwhat was shown:\n  {past}\n"
        f"journal: {journal}\n{state}"
    )


async def _nothing_waits_for_a_person(world: World) -> None:
    """But the fields under review: no dead letter, no riddle who is who."""
    dead = await world.syncline.dead_letters()
    cards = await world.syncline.rows("/api/conflicts", state="open")
    riddles = [card for card in cards if card["kind"] not in ("field", "delete")]
    if dead or riddles:
        state = await world.syncline.explain()
        raise BrokenError(f"dead letters: {dead}\ncards: {riddles}\n{state}")


async def _one_edit_each(
    world: World, companies: Sequence[Company], *, pause: float
) -> Counter[str]:
    """At rest, one edit of each company is one write in each other CRM that has it."""
    wanted = 0
    async with world.counting(within=LONGEST, pause=pause) as writes:
        for company in companies:
            here = [account for account in company.ids if account not in company.gone]
            if len(here) > 1:
                await company.edit(here[0], "title")
                wanted += len(here) - 1
    if writes.total() != wanted:
        raise BrokenError(f"single edits made {writes.total()} writes, not {wanted}: {writes}")
    return Counter(single_edits=sum(1 for _ in companies), writes_for_them=wanted)


async def prove(count: int, start: int, *, worlds: int) -> int:
    """So many histories, in worlds beside each other: while one waits another has work."""
    began, totals = time.monotonic(), Counter[str]()
    eras = [range(at, min(at + ERA, start + count)) for at in range(start, start + count, ERA)]

    async def live() -> None:
        while eras:
            era = eras.pop(0)
            with tempfile.TemporaryDirectory(prefix="syncline-prove-") as folder:
                async with service(Path(folder)) as world:
                    for at in range(0, len(era), CROWD):
                        totals.update(await crowd(world, era[at : at + CROWD]))
                        rate = totals["histories"] / (time.monotonic() - began)
                        print(f"  {dict(totals)} · {rate:.1f}/s", flush=True)

    tasks = [asyncio.create_task(live()) for _ in range(worlds)]
    try:
        await asyncio.gather(*tasks)
    except AssertionError as broken:
        print(f"✗ {broken}\n  so many went well before: {dict(totals)}")
        return 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    seconds = time.monotonic() - began
    print(f"✓ {dict(totals)} in {seconds:.0f} s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="prove-full", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=200, help="how many histories")
    parser.add_argument("--start", type=int, default=int(time.time()), help="the first seed")
    parser.add_argument("--worlds", type=int, default=2, help="how many beside each other")
    asked = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    return asyncio.run(prove(asked.count, asked.start, worlds=asked.worlds))


if __name__ == "__main__":
    sys.exit(main())
