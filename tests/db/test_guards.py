"""Guards: so many writes an hour and not one more, whoever counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import sqlalchemy as sa
import uuid_utils.compat as uuid

from app.db import guards, outbox, records
from app.db.engine import Database
from app.db.outbox import Mark
from app.domain.state import RecordState
from app.domain.values import Op

WHY = {"class": "Guarded", "cause": "guard: create", "reason": "too many"}


async def admit(database: Database, wanted: int, *, limit: int | None, op: Op = Op.CREATE) -> int:
    async with database.transaction() as db:
        return await guards.admit(db, "hubspot", op, wanted=wanted, limit=limit)


async def marked(database: Database, count: int) -> list[Mark]:
    """So many people who are to be made in HubSpot, taken to be pushed."""
    made = [
        RecordState(uuid.uuid7(), "person", {"first_name": f"Ada {n}"}, version=1)
        for n in range(count)
    ]
    async with database.transaction() as db:
        await records.add(db, made, source="close")
        await outbox.mark(db, {("hubspot", record.id): record for record in made})
        return await outbox.take(db, "hubspot", limit=count)


async def held(database: Database, count: int) -> list[Mark]:
    marks = await marked(database, count)
    async with database.transaction() as db:
        await guards.hold(db, marks, Op.CREATE, WHY)
    return marks


async def due(database: Database) -> list[Mark]:
    async with database.transaction() as db:
        return await outbox.take(db, "hubspot", limit=100)


async def state(database: Database) -> dict[str, object]:
    async with database.transaction() as db:
        return dict((await guards.states(db)).get(("hubspot", "create"), {}))


async def test_what_exceeds_the_limit_is_not_admitted(database: Database):
    assert [await admit(database, 4, limit=10) for _ in range(4)] == [4, 4, 2, 0]
    assert await admit(database, 1, limit=10, op=Op.UPDATE) == 1


async def test_a_guard_of_nothing_admits_nothing_and_one_that_is_off_everything(
    database: Database,
):
    assert await admit(database, 3, limit=0) == 0
    assert await admit(database, 10**6, limit=None) == 10**6


async def test_workers_that_count_at_once_admit_no_more_than_one_alone(database: Database):
    admitted = await asyncio.gather(*(admit(database, 3, limit=20) for _ in range(12)))
    assert sum(admitted) == 20


async def test_an_hour_later_the_same_number_may_go_again(database: Database):
    assert await admit(database, 10, limit=10) == 10
    async with database.transaction() as db:
        await db.execute(sa.text("update tallies set minute = minute - interval '59 minutes'"))
    assert await admit(database, 1, limit=10) == 0
    async with database.transaction() as db:
        await db.execute(sa.text("update tallies set minute = minute - interval '2 minutes'"))
    assert await admit(database, 11, limit=10) == 10


async def test_what_was_not_sent_does_not_count(database: Database):
    assert await admit(database, 10, limit=10) == 10
    async with database.transaction() as db:
        await guards.give_back(db, "hubspot", Op.CREATE, 4)
    assert await admit(database, 10, limit=10) == 4


async def test_nothing_overtakes_what_waits_for_a_person(database: Database):
    await held(database, 2)
    assert await admit(database, 1, limit=100) == 0
    assert await admit(database, 1, limit=100, op=Op.UPDATE) == 1
    assert await due(database) == []
    assert (await state(database))["held"] == 2


async def test_approving_lets_the_held_through_and_counts_anew(database: Database):
    await admit(database, 5, limit=5)
    await held(database, 2)
    async with database.transaction() as db:
        assert await guards.approve(db, "hubspot", [Op.CREATE], for_an_hour=False) == 2
    assert [mark.guard for mark in await due(database)] == ["create", "create"]
    assert (await state(database)).get("held", 0) == 0
    assert await admit(database, 9, limit=5) == 5


async def test_approving_for_an_hour_opens_the_guard_for_what_comes(database: Database):
    await held(database, 1)
    async with database.transaction() as db:
        await guards.approve(db, "hubspot", [Op.CREATE], for_an_hour=True)
    assert await admit(database, 1000, limit=5) == 1000
    async with database.transaction() as db:
        await db.execute(sa.text("update guards set open_until = now() - interval '1 second'"))
    assert await admit(database, 1000, limit=5) == 5


async def test_discarding_drops_the_marks_and_says_so_in_the_history(database: Database):
    await held(database, 3)
    (other,) = await marked(database, 1)
    async with database.transaction() as db:
        dropped = await guards.discard(
            db, "hubspot", [Op.CREATE], types={"person": "contacts"}, reason="a person said so"
        )
        tried = await db.execute(sa.text("select outcome, op, ref_type from attempts"))
        assert [tuple(row) for row in tried] == [("discarded", "create", "contacts")] * 3
        assert (await db.execute(sa.text("select count(*) from records"))).scalar_one() == 4
    assert dropped == 3
    assert [mark.record_id for mark in await due(database)] == [other.record_id]


async def test_what_changes_while_it_is_held_is_weighed_anew(database: Database):
    (mark,) = await held(database, 1)
    async with database.transaction() as db:
        (record,) = (await records.get(db, [mark.record_id])).values()
        await outbox.mark(db, {("hubspot", record.id): replace(record, version=2)})
    (again,) = await due(database)
    assert (again.wanted, again.guard) == (2, None)


async def test_a_word_for_one_write_is_no_word_for_the_next(database: Database):
    (mark,) = await held(database, 1)
    async with database.transaction() as db:
        await guards.approve(db, "hubspot", [Op.CREATE], for_an_hour=False)
        (record,) = (await records.get(db, [mark.record_id])).values()
        await outbox.mark(db, {("hubspot", record.id): replace(record, version=2)})
        await outbox.clear(db, [mark])
    (left,) = await due(database)
    assert left.guard is None
