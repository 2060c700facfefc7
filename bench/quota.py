"""More demand than a vendor allows, from several processes at once: is it ever exceeded?

`python -m bench.quota --database URL --seconds 60` starts the sandbox and the callers, and prints
what the sandbox saw. The database must be migrated; each run uses an account of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from app.db.engine import Database
from app.db.quotas import Ledger
from app.errors import RateLimitedError
from app.sdk.client import Client
from app.sdk.connector import Account
from app.sdk.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "pat-na1-sandbox-0000-0000"
#: Path, and what it is counted under: how many in how many seconds.
READS, SEARCHES = "/crm/v3/owners", "/crm/v3/objects/contacts/search"


async def call(
    url: str, database: str, account: str, seconds: float, pace: dict[str, float]
) -> int:
    """One caller's demand: so many calls a second of each kind, whatever became of the others."""
    db = Database(database)
    kind = Account(account, "hubspot", f"{url}/hubspot", {"access_token": SecretStr(TOKEN)})
    connector = Registry.load().connect(kind, ledger=Ledger(db, account))
    ends, refused = time.monotonic() + seconds, 0

    async def one(path: str) -> None:
        nonlocal refused
        while True:
            try:
                await _ask(connector.client, path)
            except RateLimitedError as error:
                refused += "answered 429" in str(error)
                await asyncio.sleep(0.5)
            else:
                return

    async def many(path: str, each: float) -> None:
        under_way = set()
        while time.monotonic() < ends:
            under_way.add(asyncio.create_task(one(path)))
            await asyncio.sleep(1 / each)
        # What could not be served in time is given up: there is more demand than allowance.
        _, late = await asyncio.wait(under_way, timeout=1)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    await asyncio.gather(*(many(path, each) for path, each in pace.items()))
    await connector.aclose()
    await db.close()
    return refused


async def _ask(client: Client, path: str) -> None:
    if path == SEARCHES:
        await client.call("POST", path, json={"limit": 1}, group="search", reads=True)
    else:
        await client.call("GET", path)


def busiest(calls: Sequence[dict[str, Any]], per: float) -> int:
    """The most calls in any rolling window."""
    times = sorted(datetime.fromisoformat(call["at"]).timestamp() for call in calls)
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - per:
            first += 1
        most = max(most, last - first + 1)
    return most


async def judge(url: str, reads: int, searches: int) -> dict[str, Any]:
    """What the sandbox saw."""
    async with httpx.AsyncClient(base_url=f"{url}/_sandbox", timeout=60) as sandbox:
        calls = (await sandbox.get("/calls", params={"vendor": "hubspot"})).json()["calls"]
    found = [call for call in calls if call["path"] == SEARCHES]
    others = [call for call in calls if call["path"] != SEARCHES]
    return {
        "calls": len(calls),
        "refused": sum(call["status"] == 429 for call in calls),
        "reads": {"allowed": reads, "per": 10, "busiest": busiest(others, 10)},
        "searches": {"allowed": searches, "per": 1, "busiest": busiest(found, 1)},
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--database", required=True, metavar="URL")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--demand", type=float, default=1.3, help="times what is allowed")
    parser.add_argument("--reads", type=int, default=190, help="allowed in 10 s")
    parser.add_argument("--searches", type=int, default=5, help="allowed in 1 s")
    parser.add_argument("--port", type=int, default=8199)
    parser.add_argument("--caller", help=argparse.SUPPRESS)
    given = parser.parse_args()
    url = f"http://127.0.0.1:{given.port}"
    each = given.demand / given.workers
    pace = {READS: given.reads / 10 * each, SEARCHES: given.searches * each}
    if given.caller:
        await call(url, given.database, given.caller, given.seconds, pace)
        return
    limits = ("--hubspot-limit", str(given.reads), "--hubspot-search-limit", str(given.searches))
    python = sys.executable
    sandbox = await asyncio.create_subprocess_exec(
        python, "-m", "sandbox", "--port", str(given.port), *limits, cwd=ROOT
    )
    try:
        async with httpx.AsyncClient() as http:
            while True:
                try:
                    await http.get(f"{url}/_sandbox/counts")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        mine = ("-m", "bench.quota", *sys.argv[1:], "--caller", f"bench-{secrets.token_hex(3)}")
        callers = [
            await asyncio.create_subprocess_exec(python, *mine, cwd=ROOT)
            for _ in range(given.workers)
        ]
        await asyncio.gather(*(caller.wait() for caller in callers))
        print(json.dumps(await judge(url, given.reads, given.searches), indent=2))
    finally:
        sandbox.terminate()
        await sandbox.wait()


if __name__ == "__main__":
    asyncio.run(main())
