"""A worker that is told to stop leaves within its time, and nobody has to wait for it."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from app.db import lanes
from app.worker import loop
from app.worker.loop import Worker
from tests.connectors.conftest import control, sandbox
from tests.full.harness import until
from tests.sync.town import Town, town

__all__ = ["control", "sandbox", "town"]


async def test_work_that_does_not_end_is_cut_off_and_the_next_takes_it_up_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    contact, _ = await town.ada()
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    # HubSpot takes the write and does not answer for as long as anybody waits.
    match = {"path": "/batch/update"}
    await town.control.fault(vendor="hubspot", fault="latency", seconds=25, match=match, times=1)
    monkeypatch.setattr(loop, "DRAIN", 0.3)
    async with town.db.transaction() as db:
        await db.execute(sa.text("update lanes set owner = null, lease_until = null"))
    stop = asyncio.Event()
    worker = asyncio.create_task(Worker(town.house).work(stop))
    writing = "select count(*) from links where writing"
    await until(lambda: town.scalar(writing))
    stop.set()
    await asyncio.wait_for(worker, 15)
    assert await town.scalar("select count(*) from workers") == 0
    # Nobody has to wait for a lease to run out, and nothing was lost.
    assert await town.scalar("select count(*) from lanes where owner is not null") == 0
    assert await town.scalar("select count(*) from outbox where state = 'pending'") == 1
    async with town.db.transaction() as db:
        claimed = await lanes.claim(db, "next", accounts=["hubspot"], limit=9, lease=30)
    assert "out" in {lane.direction for lane in claimed}
