"""make prove-full N=10000: random histories through the whole service and the sandbox.

Two worlds stand beside each other: Close, HubSpot and Salesforce, whose deletes stay where they
are; and the three with a second portal of HubSpot, whose deletes are carried over. Many companies
live at once, over HTTP, in weather that doubles, shuffles and delays webhooks, with workers
killed in between. What happened is read from the CRMs' own histories and told to the same oracle
that judges the pure core. Even seeds live in the first world, odd ones in the second.
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
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from app.db import migrations
from tests.full import harness
from tests.full.harness import HUBSPOT_SECRET, PORTAL, Json, World
from tests.postgres import clone, make_template, server
from tests.prove.desks import Desk, desk
from tests.prove.firms import History
from tests.prove.oracle import BrokenError
from tests.prove.telling import PATHS, POLICY, Scene, Told

PORTALS = {"hubspot": PORTAL, "europe": PORTAL + 1}
EUROPES_TOKEN = "pat-eu1-prove-0001"
#: So many companies of a world are judged together: the waits after a kill are shared.
CROWD = 250
#: So many begin in a second, in each world.
PACE = 3
#: So many live in one world before another takes its place.
ERA = 1000
#: Seconds after which a crowd that has not come to rest never will, however busy the machine.
LONGEST = 900
#: Guards are not what is proved here.
UNGUARDED: Json = {"guard": {"creates": "off", "updates": "off", "deletes": "off"}}


@dataclass(frozen=True, slots=True)
class Setting:
    """Which accounts are kept in step, and whether a delete in one is carried to the others."""

    accounts: tuple[str, ...]
    spreads: bool

    def config(self) -> Json:
        fields = {name: {"conflict": POLICY[path]} for name, path in PATHS.items()}
        deletes = "propagate" if self.spreads else "unlink"
        return {"company": {"fields": fields, "deletes": deletes, "follow_merges": "merge"}}


SETTINGS = (
    Setting(("close", "hubspot", "salesforce"), spreads=False),
    Setting(("close", "hubspot", "europe", "salesforce"), spreads=True),
)


@contextlib.asynccontextmanager
async def service(folder: Path, setting: Setting) -> AsyncIterator[World]:
    """The service between these accounts; a worker beside the API."""
    url = server()
    template = await make_template(url, migrations.upgraded)
    third: Mapping[str, Json] = {
        "salesforce": {"external_id": "Syncline_Id__c"},
        # One of the worlds has no ids of ours in Close.
        "close": {"external_id": harness.CLOSE_STAMP} if setting.spreads else {},
        "europe": {
            "connector": "hubspot",
            "portal_id": PORTALS["europe"],
            "credentials": {"access_token": EUROPES_TOKEN},
            "webhook_secret": HUBSPOT_SECRET,
            "base_url": harness.SAME_SANDBOX,
        },
    }
    async with (
        clone(url, template) as own,
        harness.world(
            folder,
            own,
            accounts={name: {**third.get(name, {}), **UNGUARDED} for name in setting.accounts},
            sandbox=[f"--hubspot-portal={EUROPES_TOKEN}={PORTALS['europe']}"],
            config={"sync": setting.config()},
            workers=1,
            prepare=lambda crms: crms.close.keep_ids(),
        ) as found,
    ):
        yield found


async def crowd(
    world: World, setting: Setting, seeds: Sequence[int], *, kill: bool = True, pause: float = 1
) -> Counter[str]:
    """Let these histories happen at the same time, and judge each. Raises BrokenError.

    ``kill`` is how a worker may end amid it all; otherwise it is asked to. ``pause`` lies between
    two looks whether all is quiet.
    """
    random = Random(seeds[0])
    desks = {account: desk(world, account, PORTALS) for account in setting.accounts}
    histories = [History(seed, world, desks, setting.spreads) for seed in seeds]
    await world.crms.weather(
        duplicate=random.choice((0, 0, 1)),
        shuffle=random.random() < 0.5,
        delay=random.choice((0, 0, 0.2, 1)),
    )
    span = max(len(seeds) / PACE, 1.5)
    lives = asyncio.gather(*(history.live(span) for history in histories))
    if random.random() < 0.5 or not kill:
        await asyncio.sleep(random.random() * span)
        ended = world.syncline.workers.pop()
        await (ended.kill() if kill else ended.stop())
        await world.syncline.add_workers(1)
    await lives
    await world.crms.fair_weather()
    await world.quiet(within=LONGEST, pause=pause)
    if await _merge_as_asked(world, desks, histories):
        await world.quiet(within=LONGEST, pause=pause)
    scene = await Scene.read(histories)
    standing: list[tuple[History, dict[str, str]]] = []
    for history in histories:
        try:
            standing += [(history, where) for where in Told(history, scene).judge()]
        except BrokenError as broken:
            raise BrokenError(await _report(scene, history, broken)) from None
    await _nothing_waits_for_a_person(world)
    counts = Counter(
        histories=len(histories),
        deeds=sum(len(history.deeds) for history in histories),
        merges=sum(deed.what == "merge" for history in histories for deed in history.deeds),
        deletes=sum(deed.what == "delete" for history in histories for deed in history.deeds),
    )
    return counts + await _one_edit_each(world, standing, pause=pause)


async def _merge_as_asked(
    world: World, desks: Mapping[str, Desk], histories: Sequence[History]
) -> bool:
    """A person merges where the service cannot, as the cards ask; whether there was any."""
    owners = {(deed.account, deed.id): h for h in histories for deed in h.deeds}
    cards = await world.syncline.rows("/api/conflicts", state="open", kind="merge")
    for card in cards:
        record = await world.syncline.get(f"/api/records/{card['record_id']}")
        links = record["links"]
        history = next(
            owners[ref] for link in links if (ref := (link["account"], link["remote_id"])) in owners
        )
        own = {k["state"]: k["remote_id"] for k in links if k["account"] == card["account"]}
        with history.in_time():
            await history.merge(card["account"], own["live"], own["parked"])
    return bool(cards)


async def _report(scene: Scene, history: History, broken: BrokenError) -> str:
    """What broke, what people did, what every field showed when, and how things stand."""
    refs = scene.refs(history)
    shown = sorted(
        f"{version.at:%H:%M:%S.%f} {account} {id} {path}: {version.value!r} by {version.source}"
        for account, id in refs
        for path, versions in scene.pasts[account, id].fields.items()
        for version in versions
    )
    gone = [f"{at} {id} was gone at {scene.pasts[at, id].gone}" for at, id in refs]
    links = [str({**scene.links[ref], "base": None, "sent": None}) for ref in refs & {*scene.links}]
    lines = [str(row) for record in scene.records(refs) for row in scene.journal[record]]
    cards = [str(card) for card in scene.open_cards(refs)]
    deeds = [str(deed) for deed in history.deeds]
    names = {id for _, id in refs} | {str(record) for record in scene.records(refs)}
    logs = [p.log.read_text() for p in history.world.syncline.workers if p.log.exists()]
    said = [line for log in logs for line in log.splitlines() if any(n in line for n in names)]
    parts = {"deeds": deeds, "shown": [*shown, *gone], "links": links, "cards": cards}
    parts["said"] = said[-200:]
    told = "\n".join(
        "\n  ".join([f"{title}:", *rows]) for title, rows in {**parts, "journal": lines}.items()
    )
    state = await history.world.syncline.explain()
    return f"seed {history.seed}: {broken}\n{told}\n{state}"


async def _nothing_waits_for_a_person(world: World) -> None:
    """But the fields under review, and deletes of what was edited meanwhile."""
    dead = await world.syncline.dead_letters()
    cards = await world.syncline.rows("/api/conflicts", state="open")
    riddles = [card for card in cards if card["kind"] not in ("field", "delete")]
    if dead or riddles:
        state = await world.syncline.explain()
        raise BrokenError(f"dead letters: {dead}\ncards: {riddles}\n{state}")


async def _one_edit_each(
    world: World, standing: Iterable[tuple[History, dict[str, str]]], *, pause: float
) -> Counter[str]:
    """At rest, one edit of each company is one write in each other CRM that has it."""
    wanted = edits = 0
    async with world.counting(within=LONGEST, pause=pause) as writes:
        for history, where in standing:
            if len(where) > 1:
                account = next(iter(where))
                await history.desks[account].edit(where[account], "title", history.token("v"))
                wanted, edits = wanted + len(where) - 1, edits + 1
    if writes.total() != wanted:
        raise BrokenError(f"single edits made {writes.total()} writes, not {wanted}: {writes}")
    return Counter(single_edits=edits, writes_for_them=wanted)


@dataclass(slots=True)
class Run:
    """So many histories from a seed on, in two worlds beside each other."""

    start: int
    end: int
    began: float
    totals: Counter[str]
    #: By setting, the seed up to which all its histories are judged.
    reached: list[int]

    async def live(self, number: int) -> None:
        """The histories of one setting: while one world waits the other has work."""
        setting, step = SETTINGS[number], len(SETTINGS)
        for era in range(self.start, self.end, ERA * step):
            with tempfile.TemporaryDirectory(prefix="syncline-prove-") as folder:
                async with service(Path(folder), setting) as world:
                    await self._era(world, number, range(era, min(era + ERA * step, self.end)))

    async def _era(self, world: World, number: int, era: range) -> None:
        step = CROWD * len(SETTINGS)
        for at in range(era.start, era.stop, step):
            end = min(at + step, era.stop)
            seeds = [seed for seed in range(at, end) if seed % len(SETTINGS) == number]
            if not seeds:
                continue
            try:
                self.totals.update(await crowd(world, SETTINGS[number], seeds))
            except AssertionError as broken:
                again = f"make prove-full N={end - at} ARGS='--start {at}'"
                raise BrokenError(f"{broken}\n  the same histories again: {again}") from broken
            self.reached[number] = end
            print(self.progress(), flush=True)

    def progress(self) -> str:
        seconds = time.monotonic() - self.began
        done = self.totals["histories"]
        left = (self.end - self.start - done) * seconds / done / 60 if done else 0
        return (
            f"  {dict(self.totals)} · {done / seconds:.1f}/s · {left:.0f} min left"
            f" · to go on from here: --start {min(self.reached)}"
        )


async def prove(count: int, start: int) -> int:
    run = Run(start, start + count, time.monotonic(), Counter(), [start] * len(SETTINGS))
    tasks = [asyncio.create_task(run.live(number)) for number in range(len(SETTINGS))]
    try:
        await asyncio.gather(*tasks)
    except AssertionError as broken:
        print(f"✗ {broken}\n  before that:\n{run.progress()}")
        return 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(f"✓ {dict(run.totals)} in {time.monotonic() - run.began:.0f} s")
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
