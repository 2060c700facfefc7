"""A resync: so many contacts from Close to HubSpot, then again with nothing new, then all edited.

python -m bench.resync --contacts 20000

The sandbox has no quota here and sends no webhooks. What it costs is told apart from what API,
worker and database cost: it stands for machines that are not ours.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from bench import http, machine, report
from bench.processes import spending
from bench.service import PATIENCE, Service, gained, running, told
from bench.serving import Peer, serving, uvicorn
from tests.full.harness import CLOSE_KEY, HUBSPOT_TOKEN, clean_environment

CONTACTS = 20_000
#: A peer does one at a time: fewer tell as much.
PEER_CONTACTS = 1_000
#: Contacts in each lead.
FAMILY = 4
#: Only people travel: what is measured is one kind of record, as its peers do it.
PEOPLE: dict[str, Any] = {"company": {"accounts": []}, "deal": {"accounts": []}}
OURS = ("worker", "api", "database")


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Three runs over the same contacts: all new, nothing new, each edited; then the peers."""
    contacts, webhooks, rows = given.contacts, given.webhooks, given.rows
    async with running(sync=PEOPLE, webhooks=webhooks) as service:
        await _fresh(service, contacts)
        report.step(f"{contacts:,} contacts: created")
        found = {"created": await _run(service, contacts, rows=rows)}
        report.step("unchanged")
        found["unchanged"] = await _run(service, contacts, rows=rows)
        await edit_all(service)
        report.step("updated")
        found["updated"] = await _run(service, contacts, rows=rows)
        for name, written in (("created", contacts), ("unchanged", 0), ("updated", contacts)):
            there = found[name]["calls"].get("hubspot", {}).get("rows", 0)
            if there != written:
                raise RuntimeError(f"{name}: HubSpot took {there} rows, not {written}")
        return {
            "bench": "resync",
            "contacts": contacts,
            "webhooks": webhooks,
            "ours": found,
            "peer_contacts": given.peer_contacts,
            "peers": await _peers(service, given.peer_contacts) if given.peer_contacts else {},
            **machine.about(),
        }


async def _peers(service: Service, contacts: int) -> dict[str, Any]:
    """The same contacts, all new, then all known, by a program that keeps nothing but ids; and
    what reading and writing in batches takes where nothing is remembered at all.
    """
    crms = service.world.crms
    environment = clean_environment(
        DATABASE_URL=service.world.syncline.database_url,
        BENCH_CLOSE=f"{crms.url}/close/api/v1",
        BENCH_CLOSE_KEY=CLOSE_KEY,
        BENCH_HUBSPOT=f"{crms.url}/hubspot",
        BENCH_HUBSPOT_TOKEN=HUBSPOT_TOKEN,
    )
    found: dict[str, Any] = {}
    for name, runs in (("each", ("created", "updated")), ("bare", ("created",))):
        await _fresh(service, contacts)
        with serving(Peer(name, uvicorn(f"resync_{name}")), environment) as peer:
            for run in runs:
                report.step(f"{name}: {run}")
                found[f"{name}, {run}"] = await _peer_run(service, peer, contacts)
    return found


async def _peer_run(service: Service, peer: Peer, contacts: int) -> dict[str, Any]:
    shared = {name: service.processes[name] for name in ("database", "sandbox")}
    before = await service.calls()
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        with spending({"peer": peer.pid, **shared}) as spent:
            answer = await client.post(f"{peer.url}/resync")
    done = answer.raise_for_status().json()["done"]
    if done != contacts:
        raise RuntimeError(f"{peer.name} did {done} of {contacts} contacts")
    calls = gained(before, await service.calls())["hubspot"]
    return {
        "per_second": round(contacts / spent.seconds),
        "per_core_second": {"ours": round(contacts / (spent.cpu["peer"] + spent.cpu["database"]))},
        "hubspot_calls_per_record": round(calls["calls"] / contacts, 4),
        **told(spent),
    }


async def _fresh(service: Service, contacts: int) -> None:
    """CRMs with nothing but so many contacts in Close."""
    crms = service.world.crms
    await crms.control("POST", "reset")
    await crms.seed(close={"leads": contacts // FAMILY, "contacts_per_lead": FAMILY})


async def _run(service: Service, contacts: int, *, rows: bool) -> dict[str, Any]:
    async def resync() -> None:
        await service.world.syncline.post("/api/resyncs", {"account": "close", "entity": "person"})

    found = await service.measured(resync, rows=rows)
    own = sum(found["cpu"][name] for name in OURS)
    hubspot = found["calls"].get("hubspot", {})
    return {
        "per_second": round(contacts / found["seconds"]),
        "per_core_second": {
            "worker": round(contacts / found["cpu"]["worker"]),
            "ours": round(contacts / own),
        },
        "hubspot_calls_per_record": round(hubspot.get("calls", 0) / contacts, 4),
        **found,
    }


async def edit_all(service: Service) -> None:
    """Give every contact in Close another title, as a person would."""
    world = service.world
    records = await world.crms.control("GET", "records")
    path = f"{world.close.path}/contact"
    edits = [
        http.request("PUT", f"{path}/{row['id']}/", {"title": "Countess"})
        for row in records["close"]["people"]
    ]
    await http.send(world.crms.url, edits)


def show(found: dict[str, Any]) -> None:
    headings = (
        *("", "records/s", "s", "worker CPU s", "API", "database", "sandbox"),
        *("/s of worker CPU", "/s of our CPU", "worker MiB", "API MiB", "HubSpot calls each"),
    )
    rows = [_row(name, run) for name, run in found["ours"].items()]
    report.table(f"{found['contacts']:,} contacts, Close → HubSpot", headings, rows)
    if found["peers"]:
        peers = [_row(name, run) for name, run in found["peers"].items()]
        title = (
            f"{found['peer_contacts']:,} contacts: record by record, and with nothing remembered"
        )
        report.table(title, [name.replace("worker", "peer") for name in headings], peers)


def _row(name: str, run: dict[str, Any]) -> tuple[str, ...]:
    cpu, peak, pace = run["cpu"], run["peak_mib"], run["per_core_second"]
    main = "worker" if "worker" in cpu else "peer"
    return (
        name,
        f"{run['per_second']:,}",
        f"{run['seconds']:.1f}",
        *(f"{cpu[part]:.1f}" if part in cpu else "–" for part in (main, *OURS[1:], "sandbox")),
        f"{pace['worker']:,}" if "worker" in pace else "–",
        f"{pace['ours']:,}",
        f"{peak[main]:.0f}",
        f"{peak['api']:.0f}" if "api" in peak else "–",
        f"{run['hubspot_calls_per_record']:.3f}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("resync", __doc__)
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument(
        "--peer-contacts", type=int, default=PEER_CONTACTS, help="of each peer; 0: no peers"
    )
    parser.add_argument(
        "--webhooks", action="store_true", help="HubSpot tells us of what we write, as it does"
    )
    parser.add_argument(
        "--rows", action="store_true", help="also tell the rows written in each of our tables"
    )
    given = parser.parse_args(arguments)
    found = asyncio.run(measure(given))
    show(found)
    report.write(found, given.json)


if __name__ == "__main__":
    main()
