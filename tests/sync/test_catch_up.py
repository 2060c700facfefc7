"""How far a log is read, what moves that, and what a reading counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from app.db import catchups, lanes, resyncs
from app.db.lanes import Lane
from app.db.tables import catchups as rows
from app.db.tables import links
from app.domain.values import Trail
from app.errors import RejectedError, TransientError
from app.sync.catchup import catch_up
from app.sync.trouble import LanePaused
from tests.sync.conftest import Company, lead


def logged(number: int, at: datetime, action: str = "updated") -> bytes:
    """One event of Close's log about a lead."""
    event = {
        "id": f"ev_{number}",
        "object_type": "lead",
        "action": action,
        "object_id": f"lead_{number}",
        "date_updated": at.replace(tzinfo=None).isoformat(),
    }
    return orjson.dumps({"event": event})


class Log:
    """What Close answers, page by page, and what it was asked."""

    def __init__(self, company: Company, *answers: Trail | Exception) -> None:
        self.company = company
        self.answers: list[Trail | Exception] = list(answers)
        self.asked: list[tuple[str, str | None, datetime, bool]] = []
        member = company.house.members["close"]
        member.connector.catch_up = self._answer  # type: ignore[method-assign]

    async def _answer(
        self, entity: str, cursor: str | None, since: datetime, *, deep: bool
    ) -> Trail:
        self.asked.append((entity, cursor, since, deep))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def turn(self, *, holding: bool = True) -> bool:
        """One turn of the lane."""
        async with self.company.db.transaction() as db:
            fence = await db.execute(
                sa.text(
                    "update lanes set owner = 'me', lease_until = now() + interval '1 hour'"
                    " where account = 'close' and direction = 'scan' returning fence"
                )
            )
            number = fence.scalar_one()
        lane = Lane("close", "scan", number if holding else number - 1)
        return await catch_up(self.company.house, lane)

    async def state(self) -> Any:
        async with self.company.db.transaction() as db:
            found = await db.execute(sa.select(rows).where(rows.c.account == "close"))
            return found.one()

    async def known(self) -> int:
        return int(await self.company.scalar("select count(*) from events"))


@pytest.fixture
async def since(company: Company) -> datetime:
    """Until when the log of Close's leads was read: an hour ago, which is why it is due."""
    async with company.db.transaction() as db:
        await catchups.register(db, "close", ["company"], every=900)
        moment = await catchups.clock(db) - timedelta(hours=1)
        await db.execute(sa.update(rows).values(through=moment, deep_through=moment))
        await catchups.register(db, "close", ["company"], every=900)
    return moment


async def _see(log: Log, turns: Sequence[Any]) -> None:
    for _ in turns:
        assert await log.turn()


async def test_what_is_new_is_read_from_now_on(company: Company):
    log = Log(company)
    async with company.db.transaction() as db:
        await catchups.register(db, "close", ["company"], every=900)
    assert not await log.turn()
    state = await log.state()
    assert state.due_at - state.through == timedelta(seconds=900)


async def test_after_downtime_a_reading_goes_back_to_where_the_last_one_began(
    company: Company, since: datetime
):
    log = Log(company, Trail((logged(1, since + timedelta(minutes=1)),)))
    assert await log.turn()
    assert log.asked == [("company", None, since, True)]
    assert not await log.turn()
    state = await log.state()
    assert state.last["reason"] == "start"
    assert state.through == datetime.fromisoformat(state.last["began"])
    assert (state.listed, state.missed) == (1, 1)


async def test_a_reading_goes_on_where_it_was_and_ends_where_it_began(
    company: Company, since: datetime
):
    soon = since + timedelta(minutes=1)
    log = Log(
        company,
        Trail((logged(1, soon),), "next"),
        TransientError("Close is away"),
        Trail((logged(2, soon), logged(1, soon))),
    )
    assert await log.turn()
    began = (await log.state()).run["began"]
    with pytest.raises(LanePaused):
        await log.turn()
    assert (await log.state()).through == since
    assert await log.turn()
    assert [cursor for _, cursor, _, _ in log.asked] == [None, "next", "next"]
    state = await log.state()
    assert state.through == datetime.fromisoformat(began)
    assert await log.known() == 2
    assert state.missed == 2


async def test_the_cursor_moves_only_with_what_was_taken_in(company: Company, since: datetime):
    page = Trail((logged(1, since + timedelta(minutes=1)),))
    log = Log(company, page, page)
    await log.turn(holding=False)  # a worker past its lease
    assert await log.known() == 0
    assert (await log.state()).through == since
    await log.turn()
    assert await log.known() == 1
    assert (await log.state()).through > since


async def test_a_cursor_that_is_refused_is_forgotten(company: Company, since: datetime):
    log = Log(company, Trail((), "next"), RejectedError("the cursor has expired"), Trail())
    await _see(log, "12")
    state = await log.state()
    assert state.error["reason"] == "the cursor has expired"
    assert state.run is None
    assert not await log.turn()  # not at once
    async with company.db.transaction() as db:
        await catchups.request(db, "close", "person")
    assert await log.turn()
    assert log.asked[-1][1:3] == (None, since)
    assert (await log.state()).error is None


async def test_what_a_webhook_may_still_tell_is_not_missed_and_nothing_counts_twice(
    company: Company, since: datetime
):
    async with company.db.transaction() as db:
        moment = await catchups.clock(db)
    young, old = moment - timedelta(seconds=20), since + timedelta(minutes=1)
    log = Log(company, Trail((logged(1, young), logged(2, old))), Trail((logged(2, old),)))
    await log.turn()
    state = await log.state()
    assert (state.listed, state.missed) == (1, 1)
    async with company.db.transaction() as db:
        await catchups.request(db, "close", "person")
    await log.turn()  # the last minutes are read again
    state = await log.state()
    assert (state.listed, state.missed) == (1, 1)
    assert await log.known() == 2


async def test_asked_to_go_further_back_a_reading_begins_anew(company: Company, since: datetime):
    log = Log(company, Trail((), "next"), Trail((), "far"), Trail())
    await log.turn()
    earlier = since - timedelta(days=2)
    async with company.db.transaction() as db:
        await catchups.request(db, "close", "person", since=earlier)
    await _see(log, "12")
    assert [asked[1:3] for asked in log.asked] == [
        (None, since),
        (None, earlier),
        ("far", earlier),
    ]
    assert (await log.state()).last["reason"] == "person"


async def test_where_the_log_does_not_reach_what_changed_is_searched_for(
    company: Company, since: datetime
):
    log = Log(company, Trail(gap="the log keeps 30 days"))
    await log.turn()
    async with company.db.transaction() as db:
        job = await resyncs.current(db, "close")
    assert job is not None
    assert (job.entities, job.since, job.dry_run) == (["company"], since, False)


async def test_what_is_no_longer_synced_is_no_longer_read(company: Company, since: datetime):
    async with company.db.transaction() as db:
        await catchups.register(db, "close", ["person"], every=None)
        found = (await db.execute(sa.select(rows.c.entity, rows.c.due_at))).all()
    assert found == [("person", None)]


async def test_what_was_down_for_long_is_over_once(company: Company):
    async def turn(*, failed: bool) -> int:
        async with company.db.transaction() as db:
            await lanes.wake(db, "close", "out")
            await db.execute(sa.text("update lanes set paused_until = null"))
            claimed = await lanes.claim(db, "me", accounts=["close"], limit=9, lease=60)
            over = [await lanes.release(db, lane, "me", failed=failed) for lane in claimed]
        return max(over)

    assert [await turn(failed=failed) for failed in (True, True, True, False, False)] == [
        *(0, 0, 0),
        3,
        0,
    ]


async def test_a_pause_that_is_over_is_caught_up_with(company: Company, since: datetime):
    log = Log(company, Trail(), Trail())
    assert await log.turn()
    assert not await log.turn()
    async with company.db.transaction() as db:
        await catchups.request(db, "close", "resumed")
    assert await log.turn()
    assert (await log.state()).last["reason"] == "resumed"


async def test_a_second_that_is_not_over_is_listed_again_soon(company: Company, since: datetime):
    """Some vendors' moments are whole seconds: what is edited later in one is listed alike."""
    moment = datetime.now(UTC).replace(microsecond=0)
    log = Log(company, Trail((logged(1, moment),), states=True))
    await log.turn()
    assert await log.known() == 0
    state = await log.state()
    assert state.reason == "moment"
    assert state.due_at - datetime.now(UTC) < timedelta(seconds=4)


async def test_edits_in_every_second_do_not_have_the_log_read_without_end(
    company: Company, since: datetime
):
    def present() -> Trail:
        moment = datetime.now(UTC).replace(microsecond=0)
        return Trail((logged(1, moment),), states=True)

    log = Log(company, present())
    await log.turn()
    async with company.db.transaction() as db:
        await db.execute(sa.update(rows).values(due_at=sa.func.now()))
    log.answers.append(present())
    await log.turn()
    state = await log.state()
    assert state.reason == "schedule"
    assert state.due_at - datetime.now(UTC) > timedelta(minutes=5)


async def test_an_edit_in_the_second_of_our_own_write_is_looked_at_and_once(
    company: Company, since: datetime
):
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    await company.see(replace(lead(), version=moment))
    wrote = moment + timedelta(milliseconds=200)
    async with company.db.transaction() as db:
        await db.execute(sa.update(links).values(synced_at=wrote))
    log = Log(company, *[Trail((logged(1, moment),), states=True)] * 2)
    for _ in range(2):
        async with company.db.transaction() as db:
            await db.execute(sa.update(rows).values(due_at=sa.func.now()))
        await log.turn()
        assert await log.known() == 1
    assert (await log.state()).missed == 0
