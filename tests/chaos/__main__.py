"""`make chaos`: whatever dies or refuses, nothing accepted is lost and nothing is done twice."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.kills import kills
from tests.chaos.outage import day, refusals
from tests.chaos.result import Result, table
from tests.chaos.storms import storms
from tests.chaos.versions import versions

Scenario = Callable[[Path], Coroutine[Any, Any, Result]]


def scenarios(asked: argparse.Namespace) -> dict[str, Scenario]:
    """By name, in the order in which they run."""
    return {
        "kills": partial(
            kills, posts=asked.posts, kills=asked.kills, firms=asked.firms, seed=asked.seed
        ),
        "storms": partial(storms, creates=asked.creates, share=asked.share),
        "day": partial(day, changes=asked.changes, companies=asked.behind, limit=asked.limit),
        "refusals": partial(refusals, companies=asked.refused),
        "versions": partial(versions, posts=asked.upgraded, firms=asked.refused, seed=asked.seed),
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    add = parser.add_argument
    add("scenario", nargs="*", help="kills, storms, day, refusals, versions; all if none is named")
    add("--posts", type=int, default=100_000, help="webhooks while programs die")
    add("--kills", type=int, default=200, help="how many die")
    add("--firms", type=int, default=2_000, help="the companies that those webhooks are about")
    add("--creates", type=int, default=10_000, help="records that are made in one CRM and carried")
    add("--share", type=float, default=0.05, help="of the calls that make them lose their answers")
    add("--changes", type=int, default=200_000, help="while a CRM is away for a day")
    add("--behind", type=int, default=6_000, help="the companies that change in that day")
    add("--limit", type=int, default=20, help="calls in ten seconds that the CRM then allows")
    add("--refused", type=int, default=500, help="companies that change in an hour of refusals")
    add("--upgraded", type=int, default=10_000, help="webhooks during a rolling upgrade")
    add("--seed", type=int, default=int(time.time()))
    return parser


def main() -> int:
    parser = arguments()
    asked = parser.parse_args()
    known = scenarios(asked)
    if unknown := set(asked.scenario) - known.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    # Whoever is told to end stops what it has started first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    results: list[Result] = []
    began = time.monotonic()
    print(f"seed {asked.seed}", flush=True)
    for name in asked.scenario or known:
        print(f"· {name} …", flush=True)
        with tempfile.TemporaryDirectory(prefix="syncline-chaos-") as folder:
            started = time.monotonic()
            result = asyncio.run(known[name](Path(folder)))
        result.took = time.monotonic() - started
        results.append(result)
        print("\n".join([f"{result.name}: {result.took:.0f} s", *result.remarks()]), flush=True)
    fine = not any(result.broken for result in results)
    mark = "✓" if fine else "✗"
    print(f"\n{table(results)}\n\n{mark} seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
