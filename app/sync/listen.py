"""An account's event bus -> the inbox: what it tells goes the way of webhooks."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import replace

import structlog

from app import metrics
from app.clock import now
from app.db import catchups, deliveries, lanes
from app.db.lanes import Lane
from app.domain.values import BUS, Delivery, Heard
from app.errors import AccountError, RateLimitedError, TransientError
from app.sync.house import House
from app.sync.trouble import LanePaused

log = structlog.get_logger()


async def listen(house: House, lane: Lane) -> None:
    """Store what the bus tells, and up to where, for as long as the lane is ours."""
    async with house.database.transaction() as db:
        position = await lanes.position(db, lane)
    connector = house.members[lane.account].connector
    log.info("bus.opened", account=lane.account, again=position is not None)
    try:
        async with aclosing(connector.listen(position)) as told:
            async for heard in told:
                if position is None:
                    heard = replace(heard, lost="it was not listened to before")
                if not await _take_in(house, lane, heard):
                    return
                position = heard.position
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error


async def _take_in(house: House, lane: Lane, heard: Heard) -> bool:
    """Events and position in one transaction; False where another has taken the lane over."""
    moment = now()
    target = f"bus/{lane.account}"
    arrivals = [
        (Delivery(lane.account, BUS, target, {}, body, moment), hashlib.sha256(body).digest())
        for body in heard.bodies
    ]
    async with house.database.transaction() as db:
        if not await lanes.move(db, lane, heard.position):
            return False
        new = await deliveries.add(db, arrivals)
        for entity, since in sorted(heard.unnamed.items()):
            await catchups.request(db, lane.account, "bus", since=since, entity=entity)
        if heard.lost is not None:
            await catchups.request(db, lane.account, "bus")
    if heard.lost is not None:
        log.warning("bus.lost", account=lane.account, reason=heard.lost)
    for entity in heard.unnamed:
        log.warning("bus.unnamed", account=lane.account, entity=entity)
    if arrivals:
        metrics.DELIVERIES.labels(lane.account, "accepted", "").inc(new)
        metrics.DELIVERIES.labels(lane.account, "duplicate", "").inc(len(arrivals) - new)
        log.info("bus.heard", account=lane.account, events=len(arrivals), new=new)
    return True
