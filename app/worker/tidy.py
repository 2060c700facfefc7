"""Keep the tables from growing without end: parts ahead of time, nothing beyond its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs
from app.clock import now
from app.config.model import Days, Retention
from app.db import alerts, audit, conflicts, intakes, partitions
from app.db.engine import Database
from app.db.partitions import ATTEMPTS, CUTS, DELIVERIES, EVENTS, JOURNAL, Cut

log = structlog.get_logger()

#: Deletes a batch of what is older; how many rows went.
Forget: TypeAlias = Callable[[AsyncConnection, datetime], Awaitable[int]]

#: Seconds between looks. Parts are made weeks ahead: it does not matter when.
HOURLY = 3600.0
#: Any number that nobody else uses: "tidy" in ASCII. One worker does it, whichever is first.
_LOCK = 0x74696479


async def tidy_forever(database: Database, retention: Retention) -> None:
    """Tidy now and every hour."""
    while True:
        try:
            await tidy(database, retention, now())
        except (DBAPIError, OSError) as error:
            log.warning("retention.waiting", reason=logs.words(error))
        await asyncio.sleep(HOURLY)


async def tidy(database: Database, retention: Retention, moment: datetime) -> None:
    """Make the parts that will be needed; drop and delete what has had its time."""
    async with database.engine.connect() as guard:
        if not await partitions.alone(guard, _LOCK):
            return
        for cut in CUTS:
            async with database.transaction() as db:
                if made := await partitions.make(db, cut, moment):
                    log.info("retention.made", parts=made)
        # What quotes the vendors' own words goes first.
        limits: tuple[tuple[Cut, Days], ...] = (
            (DELIVERIES, retention.deliveries),
            (EVENTS, retention.events),
            (ATTEMPTS, retention.attempts),
            (JOURNAL, retention.journal),
        )
        for cut, days in limits:
            if days != "forever":
                await _forget(database, cut, moment - timedelta(days=days))
        few: tuple[tuple[Forget, Days], ...] = (
            (conflicts.forget, retention.conflicts),
            (partitions.forget_plans, retention.plans),
            (intakes.forget, retention.deliveries),
            (audit.forget, retention.audit),
            (alerts.forget_over, retention.alerts),
        )
        for forget, days in few:
            if days != "forever":
                await _in_batches(database, forget, moment - timedelta(days=days))


async def _forget(database: Database, cut: Cut, before: datetime) -> None:
    async with database.transaction() as db:
        names = await partitions.expired(db, cut, before)
    for name in names:
        async with database.transaction() as db:
            dropped = await partitions.drop(db, cut, name)
        if dropped:
            log.info("retention.dropped", part=name)
        else:
            await _thin(database, cut, name, before)
    await _thin(database, cut, cut.rest, before)


async def _thin(database: Database, cut: Cut, name: str, before: datetime) -> None:
    """Of a part that cannot go as a whole, all that is dealt with goes."""
    rows = 0
    while True:
        async with database.transaction() as db:
            gone = await partitions.thin(db, cut, name, before)
        rows += gone
        if gone < partitions.BATCH:
            break
    if rows:
        log.info("retention.thinned", part=name, rows=rows)


async def _in_batches(database: Database, forget: Forget, before: datetime) -> None:
    """What is in no table that is cut by time goes row by row."""
    while True:
        async with database.transaction() as db:
            if not await forget(db, before):
                return
