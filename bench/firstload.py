"""The first load: all of Close with its relations into HubSpot and Salesforce.

python -m bench.firstload --size 1          100,000 contacts, 30,000 companies, 20,000 deals
python -m bench.firstload --size 0.1 --kill 3

``--kill`` ends the worker so many times as a power cut would, with another started in its place,
and counts the pages of Close that were read again.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

from bench import machine, report
from bench.service import Service, running

#: At size 1: companies, each with 3 or 4 contacts, two of three with a deal.
COMPANIES = 30_000
#: What each CRM calls them.
TYPES = {
    "hubspot": ("company", "contact", "deal"),
    "salesforce": ("Account", "Contact", "Opportunity"),
}
#: A list of Close's, page by page.
LISTS = ("/api/v1/lead/", "/api/v1/contact/", "/api/v1/opportunity/", "/api/v1/data/search/")


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Load it, killed or not; fails unless each record was made once in both CRMs."""
    companies = int(COMPANIES * given.size)
    with_deal = companies * 2 // 3
    async with running("salesforce") as service:
        crms = service.world.crms
        few = {"leads": with_deal, "contacts_per_lead": 3, "opportunities_per_lead": 1}
        await crms.seed(close=few)
        await crms.seed(close={"leads": companies - with_deal, "contacts_per_lead": 4})
        wanted = {
            "companies": companies,
            "contacts": 3 * with_deal + 4 * (companies - with_deal),
            "deals": with_deal,
        }
        report.step(", ".join(f"{n:,} {name}" for name, n in wanted.items()))

        async def load() -> None:
            await service.world.syncline.post("/api/resyncs", {"account": "close"})
            if given.kill:
                await _kill(service, given.kill, every=given.every)

        found = await service.measured(load)
        made = await _made(service)
        for name, counted in made.items():
            if counted != wanted:
                raise RuntimeError(f"{name} has made {counted}, not {wanted}")
        found["repeated_pages"] = await _repeated(service) if given.kill else None
    if given.kill:  # the dead took what they had spent with them
        found["cpu"]["worker"] = found["peak_mib"]["worker"] = None
    records = sum(wanted.values())
    return {
        "bench": "firstload",
        **wanted,
        "kills": given.kill,
        "per_second": round(records / found["seconds"], 1),
        "writes_per_second": round(2 * records / found["seconds"], 1),
        "calls_per_record": {
            name: round(found["calls"][name]["calls"] / records, 4) for name in TYPES
        },
        "peak_mib_together": None
        if given.kill
        else found["peak_mib"]["worker"] + found["peak_mib"]["api"],
        **found,
        **machine.about(),
    }


async def _kill(service: Service, times: int, *, every: float) -> None:
    own = service.world.syncline
    for _ in range(times):
        await asyncio.sleep(every)
        await own.workers.pop().kill()
        # Under another name: each keeps its own log.
        name = len(list(own.folder.glob("worker-*.log"))) + 1
        own.workers.append(await own.worker(name).start())


async def _made(service: Service) -> dict[str, dict[str, int]]:
    """What was created in each CRM."""
    counts = await service.world.crms.counts()
    return {
        vendor: {
            name: counts[vendor]["rows"].get(type, {}).get("created", 0)
            for name, type in zip(("companies", "contacts", "deals"), types, strict=True)
        }
        for vendor, types in TYPES.items()
    }


async def _repeated(service: Service) -> int:
    """Pages of Close that were read, beside those that were taken in."""
    calls = await service.world.crms.calls("close")
    read: int = sum(call["path"] in LISTS and call["status"] == 200 for call in calls)
    logs = service.world.syncline.folder.glob("worker-*.log")
    taken = sum(log.read_text().count('"resync.paged"') for log in logs)
    return read - taken


def show(found: dict[str, Any]) -> None:
    parts = ("worker", "api", "database", "sandbox")
    title = ", ".join(f"{found[name]:,} {name}" for name in ("contacts", "companies", "deals"))
    rows = [
        (
            f"killed {found['kills']} times" if found["kills"] else "undisturbed",
            f"{found['seconds'] / 60:.1f}",
            f"{found['per_second']:,.0f}",
            *(_whole(found["cpu"][part]) for part in parts),
            _whole(found["peak_mib_together"]),
            " / ".join(f"{n:.3f}" for n in found["calls_per_record"].values()),
            _whole(found["repeated_pages"]),
        )
    ]
    headings = (
        *("", "minutes", "records/s", "worker CPU s", "API", "database", "sandbox"),
        *("MiB of API + worker", "calls each, HubSpot / Salesforce", "pages read again"),
    )
    report.table(f"{title}: Close → HubSpot and Salesforce", headings, rows)


def _whole(number: float | None) -> str:
    return "–" if number is None else f"{number:.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("firstload", __doc__)
    parser.add_argument("--size", type=float, default=0.02, help="1 is all of it")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between kills")
    given = parser.parse_args(arguments)
    found = asyncio.run(measure(given))
    show(found)
    report.write(found, given.json)


if __name__ == "__main__":
    main()
