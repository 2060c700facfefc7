"""What an event bus tells: stored with its position, once, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from app.db import accounts, catchups, lanes
from app.db.lanes import Lane
from app.domain.values import Heard
from app.errors import AccountError, TransientError
from app.sync.ingest import ingest
from app.sync.listen import listen
from app.sync.trouble import LanePaused
from app.worker.loop import Worker
from tests.sync.conftest import Company

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KNOWN = {"close": "close", "hubspot": "hubspot"}


def body(number: int) -> bytes:
    """An event in the body of Close's webhooks: the bus of a connector speaks as it does."""
    event = {
        "id": f"ev_{number}",
        "object_type": "lead",
        "action": "updated",
        "object_id": f"lead_{number}",
        "date_updated": "2026-01-01T12:00:00",
    }
    return orjson.dumps({"event": event})


class Bus:
    """An event bus of Close's, told what to tell."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.script: list[Heard | Exception | Callable[[], Any]] = []
        self.asked: list[str | None] = []
        connector = company.house.members["close"].connector
        connector.listen = self._listen  # type: ignore[method-assign]

    async def _listen(self, position: str | None) -> AsyncGenerator[Heard, None]:
        self.asked.append(position)
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Heard):
                yield step
            else:
                await step()
        raise TransientError("the bus is quiet")

    async def claim(self) -> Lane:
        async with self.company.db.transaction() as db:
            await db.execute(
                sa.text(
                    "update lanes set due_at = now(), lease_until = now() - interval '1 s'"
                    " where direction = 'listen'"
                )
            )
            (lane,) = await lanes.claim(
                db, "me", accounts=["close"], limit=9, lease=60, listening=True
            )
        return lane

    async def turn(self, *script: Heard | Exception | Callable[[], Any]) -> None:
        """One turn of the lane, which a bus only ends by an error."""
        self.script = list(script)
        lane = await self.claim()
        with pytest.raises(LanePaused):
            await listen(self.company.house, lane)

    async def lane(self) -> Any:
        async with self.company.db.transaction() as db:
            return (
                await db.execute(sa.text("select * from lanes where direction = 'listen'"))
            ).one()

    async def stored(self) -> int:
        return int(await self.company.scalar("select count(*) from deliveries"))


@pytest.fixture
async def bus(company: Company) -> Bus:
    async with company.db.transaction() as db:
        await accounts.register(db, KNOWN, listeners=["close"])
        await catchups.register(db, "close", ["company", "person"], every=900)
        await db.execute(sa.text("update lanes set due_at = null"))
    return Bus(company)


async def reasons(company: Company) -> dict[str, str]:
    async with company.db.transaction() as db:
        return {row["entity"]: row["reason"] for row in await catchups.listed(db)}


async def test_events_and_position_are_stored_together_and_the_inbox_is_woken(bus: Bus):
    await bus.turn(Heard("07", (body(1), body(2))), Heard("09", (body(3),)))
    assert (await bus.lane()).position == "09"
    assert await bus.stored() == 3
    row = "select method || ' ' || target || ' ' || state from deliveries limit 1"
    assert await bus.company.scalar(row) == "BUS bus/close pending"
    due = "select due_at <= now() from lanes where account = 'close' and direction = 'in'"
    assert await bus.company.scalar(due)


async def test_they_go_the_way_of_webhooks(bus: Bus):
    await bus.turn(Heard("07", (body(1),)))
    async with bus.company.db.transaction() as db:
        (lane,) = await lanes.claim(db, "me", accounts=["close"], limit=1, lease=60)
    with pytest.raises(LanePaused):  # nobody answers for Close here: it comes as far as reading
        await ingest(bus.company.house, lane)
    assert await bus.company.scalar("select type from events") == "lead.updated"
    assert await bus.company.scalar("select state from deliveries") == "done"


async def test_it_goes_on_where_it_was_and_what_is_told_again_is_known(bus: Bus):
    await bus.turn(Heard("07", (body(1),)), TransientError("gone"))
    await bus.turn(Heard("07", (body(1),)), Heard("08", (body(1), body(2))))
    assert bus.asked == [None, "07"]
    assert await bus.stored() == 2


async def test_a_quiet_bus_moves_the_position_and_wakes_nobody(bus: Bus):
    await bus.turn(Heard("07"))
    async with bus.company.db.transaction() as db:
        await db.execute(sa.text("update lanes set due_at = null"))
    await bus.turn(Heard("08"))
    assert (await bus.lane()).position == "08"
    query = "select count(*) from lanes where direction <> 'listen' and due_at is not null"
    assert await bus.company.scalar(query) == 0


async def test_who_has_lost_the_lane_stores_nothing(bus: Bus):
    async def somebody_else_takes_over() -> None:
        await bus.claim()

    bus.script = [Heard("07", (body(1),)), somebody_else_takes_over, Heard("08", (body(2),))]
    await listen(bus.company.house, await bus.claim())
    assert (await bus.lane()).position == "07"
    assert await bus.stored() == 1


async def test_before_it_was_listened_to_the_log_tells(bus: Bus):
    assert await reasons(bus.company) == {"company": "schedule", "person": "schedule"}
    await bus.turn(Heard("07"))
    assert await reasons(bus.company) == {"company": "bus", "person": "bus"}


async def test_what_the_bus_has_lost_the_log_tells(bus: Bus):
    await bus.turn(Heard("07"))
    async with bus.company.db.transaction() as db:
        await db.execute(sa.text("update catchups set reason = 'schedule'"))
    await bus.turn(Heard("0b", (), lost="the position is older than three days"))
    assert await reasons(bus.company) == {"company": "bus", "person": "bus"}


async def test_what_it_does_not_name_is_looked_for_since_then(bus: Bus):
    await bus.turn(Heard("07"))
    async with bus.company.db.transaction() as db:
        await db.execute(sa.text("update catchups set reason = 'schedule', due_at = null"))
    await bus.turn(Heard("08", (), {"person": NOON}))
    async with bus.company.db.transaction() as db:
        found = {row["entity"]: row for row in await catchups.listed(db)}
    assert found["person"]["reason"] == "bus"
    assert found["person"]["through"] == NOON
    assert found["person"]["due_at"] is not None
    assert found["company"]["reason"] == "schedule"
    assert found["company"]["due_at"] is None


async def test_a_bus_that_answers_has_no_trouble_any_more(bus: Bus):
    async with bus.company.db.transaction() as db:
        await db.execute(
            sa.text(
                "update lanes set failures = 9, pause_reason = 'x',"
                " paused_until = now() - interval '1 s' where direction = 'listen'"
            )
        )
    await bus.turn(Heard("07"))
    lane = await bus.lane()
    assert (lane.failures, lane.pause_reason, lane.paused_until) == (0, None, None)


async def test_what_a_person_must_mend_pauses_the_lane(bus: Bus):
    bus.script = [AccountError("Change Data Capture is off")]
    with pytest.raises(LanePaused, match="Change Data Capture is off"):
        await listen(bus.company.house, await bus.claim())


async def test_a_paused_account_is_heard_all_the_same(bus: Bus):
    async with bus.company.db.transaction() as db:
        await accounts.pause(db, "close", reason="a break")
        await db.execute(sa.text("update lanes set due_at = now()"))
        assert await lanes.claim(db, "me", accounts=["close"], limit=9, lease=60) == []
    assert (await bus.claim()).direction == "listen"


async def test_a_lane_to_listen_is_there_for_those_who_listen_alone(bus: Bus):
    async with bus.company.db.transaction() as db:
        await accounts.register(db, KNOWN, listeners=["hubspot"])
        found = await db.execute(sa.text("select account from lanes where direction = 'listen'"))
        assert found.scalars().all() == ["hubspot"]
        await accounts.register(db, KNOWN)
        found = await db.execute(sa.text("select count(*) from lanes where direction = 'listen'"))
        assert found.scalar_one() == 0


async def test_there_is_always_more_to_hear(bus: Bus):
    lane = await bus.claim()
    async with bus.company.db.transaction() as db:
        await lanes.release(db, lane, "me", failed=True, paused_until=NOON + timedelta(days=9999))
        await lanes.sweep(db)
    assert (await bus.lane()).due_at is not None
    async with bus.company.db.transaction() as db:
        await db.execute(sa.text("update lanes set due_at = null where direction <> 'listen'"))
        assert await lanes.next_due(db, ["close"], ["close"]) is None
        assert await lanes.next_due(db, ["close"], ["close"], ["close"]) is not None


# ------------------------------------------------------------------------------ the worker


class Open:
    """A bus that stays open; what is told to one account is told to whoever listens."""

    def __init__(self, company: Company) -> None:
        self.listeners = 0
        self.most = 0
        self.heard: asyncio.Queue[Heard] = asyncio.Queue()
        self.somebody = asyncio.Event()
        member = company.house.members["close"]
        member.connector.listen = self._listen  # type: ignore[method-assign]
        config = member.config.model_copy(update={"push": "pubsub", "mode": "paused"})
        members: Any = company.house.members
        members["close"] = replace(member, config=config)
        members["hubspot"] = replace(
            members["hubspot"],
            config=members["hubspot"].config.model_copy(update={"mode": "paused"}),
        )

    async def _listen(self, position: str | None) -> AsyncGenerator[Heard, None]:
        self.listeners += 1
        self.most = max(self.most, self.listeners)
        self.somebody.set()
        try:
            while True:
                yield await self.heard.get()
        finally:
            self.listeners -= 1
            self.somebody.clear()


async def test_one_worker_listens_and_another_takes_over_at_once_when_it_stops(company: Company):
    bus = Open(company)
    stops = [asyncio.Event(), asyncio.Event()]
    workers = [Worker(company.house) for _ in stops]
    tasks = [asyncio.create_task(w.work(s)) for w, s in zip(workers, stops, strict=True)]

    async def told(position: str, number: int) -> str:
        """Say something; who held the lane when it was stored."""
        await bus.somebody.wait()
        await bus.heard.put(Heard(position, (body(number),)))
        while True:
            async with company.db.transaction() as db:
                query = sa.text("select position, owner from lanes where direction = 'listen'")
                row = (await db.execute(query)).one()
            if row.position == position:
                return str(row.owner)
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60):
        first = await told("01", 1)
        (leaving,) = (n for n, worker in enumerate(workers) if worker.id == first)
        stops[leaving].set()
        await tasks[leaving]
        second = await told("02", 2)
        assert {first, second} == {worker.id for worker in workers}
        stops[1 - leaving].set()
        await tasks[1 - leaving]
    assert bus.most == 1
    assert await company.scalar("select count(*) from deliveries") == 2
    lane = "select owner is null and due_at <= now() from lanes where direction = 'listen'"
    assert await company.scalar(lane)
