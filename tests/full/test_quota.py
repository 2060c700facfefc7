"""What a vendor sees when there is more to do than it allows."""

import asyncio
from pathlib import Path

import pytest

from bench.quota import READS, SEARCHES, call, judge
from tests.full.conftest import Databases
from tests.full.harness import crms, free_port

ALLOWED_READS, ALLOWED_SEARCHES = 60, 5
DEMAND, WORKERS = 1.3, 3


@pytest.mark.heavy
async def test_more_demand_than_allowance_meets_no_refusal(
    tmp_path: Path, databases: Databases
) -> None:
    """130 %, from three workers that share nothing but the database."""
    limits = ("--hubspot-limit", str(ALLOWED_READS))
    each = DEMAND / WORKERS
    pace = {READS: ALLOWED_READS / 10 * each, SEARCHES: ALLOWED_SEARCHES * each}
    async with databases() as own, crms(tmp_path, free_port(), *limits) as found:
        callers = [call(found.url, own, "acme", 11, pace) for _ in range(WORKERS)]
        refused = sum(await asyncio.gather(*callers))
        seen = await judge(found.url, ALLOWED_READS, ALLOWED_SEARCHES)
    assert (refused, seen["refused"]) == (0, 0)
    assert seen["reads"]["busiest"] <= ALLOWED_READS
    assert seen["searches"]["busiest"] <= ALLOWED_SEARCHES
    # … and the allowance is used, not only kept.
    assert seen["reads"]["busiest"] > 0.8 * ALLOWED_READS
