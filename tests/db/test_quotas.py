"""Windows that all workers share: exact together, and kept."""

import asyncio

import pytest

from app.db import quotas
from app.db.engine import Database
from app.db.quotas import Ledger
from app.domain.manifest import Limit
from app.domain.windows import Rate
from app.errors import RateLimitedError, TransientError
from app.sdk.quota import Allowance, Quota

LIMITS = {"default": Limit(calls=8, per=0.5)}


async def test_workers_that_ask_at_once_stay_within_one_window_together(database: Database):
    """Three times what there is, from four workers; the database's clock judges."""
    landed: list[float] = []

    async def work(quota: Quota) -> None:
        for _ in range(6):
            taken = await quota.take()
            await asyncio.sleep(0.01)
            landed.append(taken)
            quota.landed(taken)
            await quota.tell()

    workers = [Quota(LIMITS, ledger=Ledger(database, "close")) for _ in range(4)]
    await asyncio.gather(*(work(quota) for quota in workers))
    assert len(landed) == 24
    times = sorted(landed)
    assert all(later - times[n] > 0.5 for n, later in enumerate(times[8:]))


async def test_what_one_worker_learns_holds_for_the_others(database: Database):
    one, other = (Quota(LIMITS, ledger=Ledger(database, "close"), patience=0) for _ in range(2))
    one.landed(await one.take(), rate=Rate(limit=100, per=10, daily=1000, daily_remaining=1))
    await one.tell()
    await other.take()
    with pytest.raises(RateLimitedError):
        await other.take()
    third = Quota(LIMITS, ledger=Ledger(database, "hubspot"), patience=0)
    await third.take()  # another account


async def test_a_pause_holds_for_the_others(database: Database):
    one, other = (Quota(LIMITS, ledger=Ledger(database, "close"), patience=0) for _ in range(2))
    one.pause(60)
    await one.tell()
    with pytest.raises(RateLimitedError):
        await other.take()


async def test_a_restart_forgets_no_call(database: Database):
    allowance = Allowance(daily=3)
    for _ in range(3):
        quota = Quota(LIMITS, ledger=Ledger(database, "close"), allowance=allowance, patience=0)
        await quota.take()
    quota = Quota(LIMITS, ledger=Ledger(database, "close"), allowance=allowance, patience=0)
    with pytest.raises(RateLimitedError):
        await quota.take()
    async with database.transaction() as db:
        stand = {shown.window: shown for _, shown in await quotas.stand(db)}
    assert (stand["day"].used, stand["day"].left, stand["day"].calls) == (3, 0, 3)
    assert stand["default"].used == 3  # nobody has heard of them again


async def test_without_the_database_nobody_calls_on_a_guess():
    away = Database("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(TransientError):
        await Quota(LIMITS, ledger=Ledger(away, "close")).take()
    await away.close()
