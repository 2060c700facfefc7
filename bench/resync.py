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

from bench import http, machine, report
from bench.service import Service, running

CONTACTS = 20_000
#: Contacts in each lead.
FAMILY = 4
#: Only people travel: what is measured is one kind of record, as its peers do it.
PEOPLE: dict[str, Any] = {"company": {"accounts": []}, "deal": {"accounts": []}}
OURS = ("worker", "api", "database")


async def ours(contacts: int, *, webhooks: bool = False, rows: bool = False) -> dict[str, Any]:
    """Three runs over the same contacts: all new, nothing new, each edited."""
    async with running(sync=PEOPLE, webhooks=webhooks) as service:
        await service.world.crms.seed(
            close={"leads": contacts // FAMILY, "contacts_per_lead": FAMILY}
        )
        found = {"created": await _run(service, contacts, rows=rows)}
        found["unchanged"] = await _run(service, contacts, rows=rows)
        await edit_all(service)
        found["updated"] = await _run(service, contacts, rows=rows)
        for name, written in (("created", contacts), ("unchanged", 0), ("updated", contacts)):
            there = found[name]["calls"].get("hubspot", {}).get("rows", 0)
            if there != written:
                raise RuntimeError(f"{name}: HubSpot took {there} rows, not {written}")
        return found


async def _run(service: Service, contacts: int, *, rows: bool) -> dict[str, Any]:
    async def resync() -> None:
        await service.world.syncline.post("/api/resyncs", {"account": "close", "entity": "person"})

    found = await service.measured(resync, account="hubspot", rows=rows)
    own = sum(found["cpu"][name] for name in OURS)
    hubspot = found["calls"].get("hubspot", {})
    return {
        "per_second": round(contacts / found["seconds"]),
        "per_core_second": {
            "worker": round(contacts / found["cpu"]["worker"]),
            "ours": round(contacts / own),
        },
        "hubspot_calls_per_record": round(
            (hubspot.get("reads", 0) + hubspot.get("writes", 0)) / contacts, 4
        ),
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
    rows = [
        (
            name,
            f"{run['per_second']:,}",
            f"{run['seconds']:.1f}",
            *(f"{run['cpu'][part]:.1f}" for part in (*OURS, "sandbox")),
            f"{run['per_core_second']['worker']:,}",
            f"{run['per_core_second']['ours']:,}",
            f"{run['peak_mib']['worker']:.0f}",
            f"{run['peak_mib']['api']:.0f}",
            f"{run['hubspot_calls_per_record']:.3f}",
        )
        for name, run in found["ours"].items()
    ]
    headings = (
        *("", "records/s", "s", "worker CPU s", "API", "database", "sandbox"),
        *("/s of worker CPU", "/s of our CPU", "worker MiB", "API MiB"),
        "HubSpot calls each",
    )
    report.table(f"{found['contacts']:,} contacts, Close → HubSpot", headings, rows)


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    found = await ours(given.contacts, webhooks=given.webhooks, rows=given.rows)
    return {
        "bench": "resync",
        "contacts": given.contacts,
        "webhooks": given.webhooks,
        "ours": found,
        **machine.about(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("resync", __doc__)
    parser.add_argument("--contacts", type=int, default=CONTACTS)
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
