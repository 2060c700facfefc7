"""`make chaos`: whatever dies or refuses, nothing accepted is lost and nothing is done twice."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.chaos.kills import kills
from tests.chaos.result import Result, table

Scenario = Callable[[Path], Awaitable[Result]]


def scenarios(asked: argparse.Namespace) -> dict[str, Scenario]:
    """By name, in the order in which they run."""
    return {
        "kills": partial(
            kills, posts=asked.posts, kills=asked.kills, firms=asked.firms, seed=asked.seed
        ),
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    add = parser.add_argument
    add("scenario", nargs="*", help="kills; all if none is named")
    add("--posts", type=int, default=100_000, help="webhooks while programs die")
    add("--kills", type=int, default=200, help="how many die")
    add("--firms", type=int, default=2_000, help="the companies that those webhooks are about")
    add("--seed", type=int, default=int(time.time()))
    return parser


def main() -> int:
    parser = arguments()
    asked = parser.parse_args()
    known = scenarios(asked)
    if unknown := set(asked.scenario) - known.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    results: list[Result] = []
    began = time.monotonic()
    for name in asked.scenario or known:
        print(f"· {name} …", flush=True)
        with tempfile.TemporaryDirectory(prefix="syncline-chaos-") as folder:
            started = time.monotonic()
            result = asyncio.run(known[name](Path(folder)))
        result.took = time.monotonic() - started
        results.append(result)
    fine = not any(result.broken for result in results)
    mark = "✓" if fine else "✗"
    print(f"\n{table(results)}\n\n{mark} seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
