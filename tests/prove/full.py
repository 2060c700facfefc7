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
from collections.abc import AsyncIterator, Sequence
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
#: So many companies live at the same time.
CROWD = 40
#: Seconds between a look of ours and the write that follows it, on a busy machine.
INSTANT = 3


@contextlib.asynccontextmanager
async def service(folder: Path) -> AsyncIterator[World]:
    """Close and two portals; two workers beside the API."""
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

    async def live(self) -> None:
        """1 to 12 deeds of people, now and then with time to breathe between them."""
        await asyncio.sleep(self.random.random() * 1.5)
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
        account, id = next(iter(self.ids.items()))
        query = {"account": account, "remote_id": id, "entity": "company"}
        for row in await self.world.syncline.rows("/api/records", **query):
            for link in row["links"]:
                if link["account"] not in self.ids:
                    self.ids[link["account"]] = link["remote_id"]

    # --- afterwards

    async def judge(self, alive: dict[str, dict[str, str]]) -> None:
        """Tell the witness what the CRMs remember, and let it judge what they show."""
        await self.look_around()
        self._no_doubles(alive)
        typed: dict[tuple[str, str], int] = {}
        for account, id, path, old, new, at, person in await self._past():
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
            (account, id): await self._shown(account)
            for account, id in self.ids.items()
            if account not in self.gone
        }
        absent = {"phone": {"close"}} if ("close", self.ids.get("close")) in shown else {}
        held, journal = await self._remembered()
        self.witness.judge(1, shown, held=held, journal=journal, policy=POLICY, skip=absent)

    def _no_doubles(self, alive: dict[str, dict[str, str]]) -> None:
        for account in ACCOUNTS:
            found = [id for id, domain in alive[account].items() if domain == self.domain]
            wanted = 0 if account in self.gone else 1
            lives = any(other not in self.gone for other in self.ids)
            if len(found) > wanted or (lives and len(found) < wanted and not self.gone):
                raise BrokenError(f"{account} has {len(found)} of it, not {wanted}")

    async def _past(self) -> list[tuple[str, str, str, Any, Any, int, bool]]:
        """Every change in every CRM, in the order of the one clock that they share."""
        found = []
        for account, id in self.ids.items():
            for path, names in HERE.items():
                if account not in names:
                    continue
                old: Any = None
                for value, at, person in await self._versions(account, id, names[account]):
                    found.append((at, account, id, path, old, value or None, person))
                    old = value or None
        found.sort(key=lambda change: change[0])
        return [(a, i, p, o, n, int(at.timestamp()), by) for at, a, i, p, o, n, by in found]

    async def _versions(self, account: str, id: str, name: str) -> list[tuple[Any, datetime, bool]]:
        if account == "close":
            kept = await self.world.crms.control("GET", f"history/close/lead/{id}")
            every = kept["fields"].get(name, [])
            return [(v["value"], _time(v["at"]), v["source"] == "CRM_UI") for v in every]
        path = f"/crm/v3/objects/companies/{id}?propertiesWithHistory={name}"
        if account in self.gone:
            path += "&archived=true"
        answer = await self.portal(account).call("GET", path)
        kept = reversed(answer["propertiesWithHistory"].get(name, []))
        return [(v["value"], _time(v["timestamp"]), v["sourceType"] == "CRM_UI") for v in kept]

    async def _shown(self, account: str) -> dict[str, Any]:
        if account == "close":
            row = await self.world.close.read("lead", self.ids[account])
        else:
            row = await self.portal(account).read("companies", self.ids[account])
        return {
            path: row.get(names[account]) for path, names in HERE.items() if account in names
        } | ({"phone": None} if account == "close" else {})

    async def _record(self) -> Json | None:
        for account, id in self.ids.items():
            query = {"account": account, "remote_id": id, "entity": "company"}
            for row in await self.world.syncline.rows("/api/records", **query):
                return await self.world.syncline.get(f"/api/records/{row['id']}")
        return None

    async def _remembered(self) -> tuple[set[tuple[str, str]], dict[str, set[Any]]]:
        """The fields that wait for a person, and the values that lost."""
        record = await self._record()
        if record is None:
            return set(), {}  # it came and went before anybody met it
        paths = {name: path for path, name in CANONICAL.items()}
        held = {
            (c["account"], paths[c["field"]]) for c in record["conflicts"] if c["field"] in paths
        }
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


async def crowd(world: World, seeds: Sequence[int]) -> Counter[str]:
    """Let these histories happen at the same time, and judge each. Raises BrokenError."""
    random = Random(seeds[0])
    companies = [Company(seed, world) for seed in seeds]
    await world.crms.weather(
        duplicate=random.choice((0, 0, 1)),
        shuffle=random.random() < 0.5,
        delay=random.choice((0, 0, 0.2, 1)),
    )
    lives = asyncio.gather(*(company.live() for company in companies))
    if random.random() < 0.5:
        await asyncio.sleep(random.random() * 3)
        killed = world.syncline.workers.pop()
        await killed.kill()
        await world.syncline.add_workers(1)
    await lives
    await world.crms.fair_weather()
    await world.quiet(within=240)
    alive = await _alive(world)
    for company in companies:
        try:
            await company.judge(alive)
        except BrokenError as broken:
            deeds = "\n  ".join(company.deeds)
            state = await world.syncline.explain()
            raise BrokenError(f"seed {company.seed}: {broken}\n  {deeds}\n{state}") from None
    counts = Counter(histories=len(companies), deeds=sum(len(c.deeds) for c in companies))
    return counts + await _one_edit_each(world, companies)


async def _alive(world: World) -> dict[str, dict[str, str]]:
    """Every company in every CRM: account, id, domain."""
    leads = await world.close.all("lead")
    found = {"close": {row["id"]: (row["url"] or "").removeprefix("https://") for row in leads}}
    for account, portal in (("hubspot", world.hubspot), ("europe", europe(world))):
        found[account] = {row["id"]: row["domain"] for row in await portal.all("companies")}
    return found


async def _one_edit_each(world: World, companies: Sequence[Company]) -> Counter[str]:
    """At rest, one edit of each company is one write in each other CRM that has it."""
    wanted = 0
    async with world.counting() as writes:
        for company in companies:
            here = [account for account in company.ids if account not in company.gone]
            if len(here) > 1:
                await company.edit(here[0], "title")
                wanted += len(here) - 1
    if writes.total() != wanted:
        raise BrokenError(f"single edits made {writes.total()} writes, not {wanted}: {writes}")
    return Counter(single_edits=sum(1 for _ in companies), writes_for_them=wanted)


async def prove(count: int, start: int) -> int:
    began, totals = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="syncline-prove-") as folder:
        async with service(Path(folder)) as world:
            for at in range(start, start + count, CROWD):
                try:
                    totals += await crowd(world, range(at, min(at + CROWD, start + count)))
                except AssertionError as broken:
                    print(f"✗ {broken}\n  so many went well before: {dict(totals)}")
                    return 1
                seconds = time.monotonic() - began
                rate = totals["histories"] / seconds
                print(f"  {dict(totals)} · {rate:.1f}/s", flush=True)
    seconds = time.monotonic() - began
    print(f"✓ {dict(totals)} in {seconds:.0f} s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="prove-full", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=200, help="how many histories")
    parser.add_argument("--start", type=int, default=int(time.time()), help="the first seed")
    asked = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    return asyncio.run(prove(asked.count, asked.start))


if __name__ == "__main__":
    sys.exit(main())
