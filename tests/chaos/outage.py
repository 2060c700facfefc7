"""A CRM is away: for a day while everything changes, or for an hour of refusals."""

import asyncio
import math
import time
from datetime import datetime, timedelta
from pathlib import Path

from tests.chaos.ground import PATIENCE, Ground, at_once, ground
from tests.chaos.posts import Post, Senders
from tests.chaos.result import Result
from tests.full.harness import Company, Json, until

DAY, HOUR = 86_400.0, 3_600.0
CONNECTIONS = 16
#: Changes of one company that come one right after the other, as people and programs make them.
BURST = 10
#: What the CRM takes in one call; what a write needs: a look before it, and itself; and what it
#: takes to learn what has changed there: fields, owners, pipelines, labels.
ROWS, CALLS, LEARNED = 100, 2, 10
#: How much longer than the quota allows it may take, and how soon work must go on.
SLACK, SOON = 1.2, 10.0
#: The call that asks whether a CRM is back, the shortest time between two of them, and how soon
#: nothing but that is called.
PROBE, APART, MET = "/account-info/v3/details", 4.5, 15.0


async def day(folder: Path, *, changes: int, companies: int, limit: int) -> Result:
    """HubSpot is away for a day in which so many changes come in; then it allows so many calls
    in ten seconds.
    """
    result = Result("a day's outage")
    state = folder / "sandbox.json"
    options = ["--state", str(state)]
    async with ground(folder, workers=1, sandbox=["--no-quota", *options]) as place:
        leads = await _known(place, companies)
        place.say(f"{companies:,} companies in both CRMs")
        await _allow(place, limit)
        await place.world.crms.weather(lose=True, vendor="close")  # we tell what happens there
        await place.world.crms.fault("hubspot", "outage")
        posts, last = await _edits(place, leads, changes)
        place.say(f"{len(posts):,} posts to send")
        senders = Senders(place.world.syncline.port, posts)
        senders.release(len(posts))
        await senders.run(CONNECTIONS)
        result.accepted = senders.taken
        place.say("all accepted; waiting until they are taken in")
        await _taken_in(place)
        place.say("HubSpot comes back")
        await place.age(DAY)
        began = time.time()
        await place.world.crms.clear_faults()
        result.recovered = await _drained(place)
        calls = await _calls(place, since=began)
        counted = [call for call in calls if not call["path"].endswith("/search")]
        least = LEARNED + CALLS * math.ceil(companies / ROWS)
        allowed = least / limit * 10
        result.notes.append(
            f"{companies:,} companies behind: at least {least} calls, {allowed:.0f} s at"
            f" {limit} in 10 s; {len(counted)} made beside searches, {result.recovered:.0f} s,"
            f" {result.recovered / allowed:.2f} times what the quota allows"
        )
        refused = sum(call["status"] == 429 for call in calls)
        result.notes.append(f"{refused} calls were answered 429")
        result.demand(result.recovered <= SLACK * allowed, "drained later than the quota allows")
        result.lost += await _differences(place, leads, last)
    result.judge()
    return result


async def refusals(folder: Path, *, companies: int) -> Result:
    """HubSpot answers 503 to everything for an hour, of which less than a minute is waited for;
    Salesforce is served meanwhile.
    """
    result = Result("an hour of 5xx")
    async with ground(folder, workers=1, sandbox=["--no-quota"]) as place:
        leads = await _known(place, companies)
        began = time.time()
        await place.world.crms.fault("hubspot", "status", status=503)
        for lead in leads:
            await place.close.edit("lead", lead, description="edited meanwhile")
        await _taken_in(place)
        served = time.monotonic()
        await until(
            lambda: _is_told(place, "edited meanwhile", companies),
            why=place.world.syncline.explain,
            within=PATIENCE,
            pause=0.5,
        )
        told = f"Salesforce had all of it {time.monotonic() - served:.0f} s after it was taken in"
        result.notes.append(told)
        place.say(f"{told}; counting probes")
        await asyncio.sleep(MET)
        met = time.time()
        await asyncio.sleep(15)
        await place.age(HOUR)
        await asyncio.sleep(15)
        calls = await _calls(place, since=began)
        result.accepted = len(leads)
        _judge_probes(result, calls, met=met, until=time.time())
        await place.world.crms.clear_faults()
        result.recovered = await _drained(place)
        result.demand(result.recovered <= SOON, f"drained only after {result.recovered:.0f} s")
        result.lost += await _differences(place, leads, dict.fromkeys(leads, "edited meanwhile"))
    result.judge()
    return result


def _judge_probes(result: Result, calls: list[Json], *, met: float, until: float) -> None:
    """Once every lane has met that all is refused, one kind of call is made, now and then."""
    at = [datetime.fromisoformat(call["at"]).timestamp() for call in calls]
    later = [n for n, moment in enumerate(at) if moment > met]
    others = sum(calls[n]["path"] != PROBE for n in later)
    gaps = [at[n] - at[n - 1] for n in later[1:]]
    hasty = sum(gap < APART for gap in gaps)
    result.notes.append(
        f"{len(calls) - len(later)} calls until all had met it, then {len(later) - others} probes"
        f" and {others} other calls in {until - met:.0f} s"
    )
    result.demand(bool(later), "nobody asked whether it is back")
    result.demand(not others, f"{others} calls beside probes while all was refused")
    # One comes early: it was due in the hour that was let pass.
    result.demand(hasty <= 1, f"{hasty} probes came too soon after another")


async def _known(place: Ground, count: int) -> list[str]:
    """So many leads that stand in HubSpot as well."""

    async def made() -> str:
        company = Company.new("Outage")
        lead = await place.close.create("lead", name=company.name, url=f"https://{company.domain}")
        return str(lead["id"])

    leads = await at_once(made() for _ in range(count))
    await place.idle()
    return leads


async def _allow(place: Ground, limit: int) -> None:
    """From now on HubSpot allows so many calls in ten seconds; its records stay."""
    program = place.world.crms.program
    await program.stop()
    kept = [argument for argument in program.arguments if argument != "--no-quota"]
    program.arguments = [*kept, "--hubspot-limit", str(limit), "--close-limit", "0"]
    await program.start()
    await program.listens(int(place.world.crms.url.rsplit(":", 1)[1]))


async def _edits(
    place: Ground, leads: list[str], changes: int
) -> tuple[list[Post], dict[str, str]]:
    """Webhooks of so many edits, in bursts, and what each lead says in the end."""
    rounds = math.ceil(changes / len(leads))
    last = f"change {rounds}"

    async def edited(lead: str) -> Json:
        await place.close.edit("lead", lead, description=last)
        return await place.close.event(lead)

    events = await at_once(map(edited, leads))
    posts = []
    for start in range(0, rounds, BURST):
        for event in events:
            for n in range(start + 1, min(start + BURST, rounds) + 1):
                posts.append(_edited(event, n, before=rounds - n))
    return posts, dict.fromkeys(leads, last)


def _edited(event: Json, number: int, *, before: int) -> Post:
    """The webhook of the last edit, or of one so many before it."""
    if not before:
        return Post.of_close(event)
    last = datetime.fromisoformat(event["data"]["date_updated"])
    when = (last - timedelta(milliseconds=before)).isoformat()
    data = {**event["data"], "description": f"change {number}", "date_updated": when}
    told = {**event, "id": f"{event['id']}_{number}", "data": data}
    return Post.of_close({**told, "date_created": when, "date_updated": when})


async def _is_told(place: Ground, text: str, count: int) -> bool:
    """Whether so many accounts of Salesforce say this."""
    rows = await place.world.salesforce.query("SELECT Name, Description FROM Account")
    return len([row for row in rows if row["Description"] == text]) == count


async def _taken_in(place: Ground) -> None:
    """Return once all that came in was looked at; what goes out waits."""

    async def read() -> bool:
        lanes = (await place.world.syncline.get("/health/lanes"))["lanes"]
        return not any(
            lane["pending"] or lane["owner"]
            for lane in lanes
            if (lane["account"], lane["direction"]) == ("close", "in")
        )

    await until(read, why=place.world.syncline.explain, within=PATIENCE, pause=0.5)


async def _drained(place: Ground) -> float:
    """Seconds until all is taken in and carried; what scans look at again is no part of that."""
    began = time.monotonic()
    await place.settled("in", "out")
    return time.monotonic() - began


async def _calls(place: Ground, *, since: float) -> list[Json]:
    return await place.world.crms.calls("hubspot", since=since)


async def _differences(place: Ground, leads: list[str], said: dict[str, str]) -> int:
    """How many leads differ from their companies and accounts, or from what was said last."""
    there = {row["name"]: row["description"] for row in await place.hubspot.all("companies")}
    rows = await place.world.salesforce.query("SELECT Name, Description FROM Account")
    third = {row["Name"]: row["Description"] for row in rows}
    home = {row["id"]: row for row in await place.close.all("lead")}

    def shown(lead: str) -> set[str | None]:
        name = home[lead]["name"]
        return {there.get(name), third.get(name), home[lead]["description"]}

    return sum(shown(lead) != {said[lead]} for lead in leads)
