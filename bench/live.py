"""From an edit in Close to its value in HubSpot: how long it takes, and how many calls.

python -m bench.live --rate 20 --seconds 15 --backlog 20000

Both times are the sandbox's own, read from the histories of the two records, so no poll blurs
them. Close tells of an edit at once here (it really gathers for some seconds), HubSpot tells us
of our own writes as it does. Three weathers: nothing else to do, a burst of edits of all contacts,
and a back-fill of so many contacts more under way.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bench import http, machine, report
from bench.resync import FAMILY, PEOPLE
from bench.service import Service, gained, running
from tests.full.harness import until

CONTACTS = 600
BACKLOG = 20_000
RATE = 20.0
SECONDS = 15.0
#: Seconds in which the last of the edits must have arrived.
PATIENCE = 300.0


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Each contact is edited once in a weather, so that its history tells which edit arrived."""
    async with running(
        sync=PEOPLE, webhooks=True, sandbox=("--close-consolidation", "0")
    ) as service:
        contacts = max(given.contacts, int(given.rate * given.seconds))
        await _seeded(service, contacts)
        await service.world.syncline.post("/api/resyncs", {"account": "close", "entity": "person"})
        await _at_rest(service)
        pairs = await _pairs(service)
        found: dict[str, Any] = {}
        report.step(f"{given.rate:g} edits a second, nothing else to do")
        found["idle"] = await _edited(service, pairs, given, "Idle", at_rest=True)
        report.step(f"a burst: all {len(pairs):,} contacts edited")
        found["burst"] = await _burst(service, pairs)
        if given.backlog:
            report.step(f"the same edits while {given.backlog:,} contacts are back-filled")
            await _seeded(service, given.backlog)
            await service.world.syncline.post(
                "/api/resyncs", {"account": "close", "entity": "person"}
            )
            found["backfill"] = await _edited(service, pairs, given, "Busy", at_rest=False)
            found["backfill"]["still_open"] = await service.db.fetchval(
                "select exists (select from outbox where scan)"
                " or exists (select from resyncs where state = 'running')"
            )
    return {
        "bench": "live",
        "rate": given.rate,
        "seconds": given.seconds,
        "backlog": given.backlog,
        **found,
        **machine.about(),
    }


async def _seeded(service: Service, contacts: int) -> None:
    await service.world.crms.seed(close={"leads": contacts // FAMILY, "contacts_per_lead": FAMILY})


async def _at_rest(service: Service) -> None:
    """Return once the service has nothing to do, nor the CRMs anything to tell."""
    await service.idle()
    await service.world.quiet(within=PATIENCE, pause=0.2)


async def _pairs(service: Service) -> dict[str, str]:
    """The ids in HubSpot by those in Close."""
    rows = await service.db.fetch(
        "select c.remote_id, h.remote_id from links c join links h using (record_id)"
        " where c.account = 'close' and h.account = 'hubspot' and c.entity = 'person'"
    )
    return {row[0]: row[1] for row in rows}


async def _edited(
    service: Service,
    pairs: Mapping[str, str],
    given: argparse.Namespace,
    title: str,
    *,
    at_rest: bool,
) -> dict[str, Any]:
    """So many edits a second, each of another contact: how long each took to arrive."""
    before = await service.calls()
    ids = list(pairs)[: int(given.rate * given.seconds)]
    began = time.monotonic()
    under_way = []
    for number, id in enumerate(ids):
        await asyncio.sleep(max(0.0, began + number / given.rate - time.monotonic()))
        edit = service.world.close.edit("contact", id, title=f"{title} {number}")
        under_way.append(asyncio.create_task(edit))
    await asyncio.gather(*under_way)
    if at_rest:
        await _at_rest(service)
    calls = gained(before, await service.calls())
    took = await _arrivals(service, {id: pairs[id] for id in ids}, title)
    return {"changes": len(ids), **_spread(took), **_per_change(calls, len(ids))}


async def _burst(service: Service, pairs: Mapping[str, str]) -> dict[str, Any]:
    """All contacts edited as fast as Close takes it: calls for each, once all is at rest."""
    path = f"{service.world.close.path}/contact"
    edits = [http.request("PUT", f"{path}/{id}/", {"title": f"Burst {id}"}) for id in pairs]
    before = await service.calls()
    await http.send(service.world.crms.url, edits)
    await _at_rest(service)
    calls = gained(before, await service.calls())
    took = await _arrivals(service, pairs, "Burst")
    return {"changes": len(pairs), **_spread(took), **_per_change(calls, len(pairs))}


async def _arrivals(service: Service, pairs: Mapping[str, str], title: str) -> list[float]:
    """Seconds from each edit in Close to its value in HubSpot."""
    return [await _arrival(service, id, there, title) for id, there in pairs.items()]


async def _arrival(service: Service, id: str, there: str, title: str) -> float:
    async def value(vendor: str, type: str, key: str, name: str) -> dict[str, str]:
        found = await service.world.crms.control("GET", f"history/{vendor}/{type}/{key}")
        past = found["fields"].get(name, [])
        return next((v for v in past if str(v["value"]).startswith(title)), {})

    edited = await value("close", "contact", id, "title")
    arrived = await until(
        lambda: value("hubspot", "contact", there, "jobtitle"),
        why=service.world.syncline.explain,
        within=PATIENCE,
        pause=0.5,
    )
    between = datetime.fromisoformat(arrived["at"]) - datetime.fromisoformat(edited["at"])
    return between.total_seconds()


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    found = sorted(seconds)
    places = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    return {
        name: round(found[min(int(len(found) * place), len(found) - 1)] * 1000)
        for name, place in places.items()
    }


def _per_change(calls: Mapping[str, Mapping[str, int]], changes: int) -> dict[str, Any]:
    return {
        "calls_per_change": {
            name: round(kinds.get("calls", 0) / changes, 3) for name, kinds in calls.items()
        },
        "unchanged_writes": sum(kinds.get("unchanged", 0) for kinds in calls.values()),
        "calls": calls,
    }


def show(found: dict[str, Any]) -> None:
    titles = {
        "idle": f"{found['rate']:g}/s, nothing else to do",
        "burst": "all at once",
        "backfill": f"{found['rate']:g}/s, {found['backlog']:,} contacts back-filled",
    }
    rows = []
    for name, title in titles.items():
        if name not in found:
            continue
        one = found[name]
        times = (f"{one[what]:,.0f}" for what in ("p50_ms", "p95_ms", "max_ms"))
        # While a back-fill is under way its calls cannot be told from the others.
        each = one["calls_per_change"] if name != "backfill" else {}
        counted = (f"{each[n]:.2f}" if n in each else "–" for n in ("hubspot", "close"))
        rows.append((title, f"{one['changes']:,}", *times, *counted, str(one["unchanged_writes"])))
    report.table(
        "an edit in Close until it stands in HubSpot",
        (
            *("", "edits", "p50 ms", "p95 ms", "most ms"),
            *("HubSpot calls each", "Close calls each", "writes of no change"),
        ),
        rows,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("live", __doc__)
    parser.add_argument("--rate", type=float, default=RATE, help="edits a second")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--contacts", type=int, default=CONTACTS, help="known before it begins")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="contacts; 0: no back-fill")
    given = parser.parse_args(arguments)
    found = asyncio.run(measure(given))
    show(found)
    report.write(found, given.json)


if __name__ == "__main__":
    main()
