"""Marks: many are one, and only what was pushed is cleared."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import uuid_utils.compat as uuid

from app.db import outbox, records
from app.db.engine import Database
from app.db.outbox import Mark
from app.domain.state import RecordState

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def record(database: Database) -> RecordState:
    made = RecordState(uuid.uuid7(), "person", {"title": "CEO"}, version=1)
    async with database.transaction() as db:
        await records.add(db, [made], source="close")
    return made


async def mark(
    database: Database, record: RecordState, version: int, *, scan: bool = False
) -> None:
    async with database.transaction() as db:
        ahead = {("hubspot", record.id): replace(record, version=version)}
        await outbox.mark(db, ahead, scan=scan)


async def take(database: Database) -> list[Mark]:
    async with database.transaction() as db:
        return await outbox.take(db, "hubspot", limit=10)


async def test_many_marks_are_one_and_the_newest_counts(database: Database, record: RecordState):
    for version in (1, 3, 2):
        await mark(database, record, version)
    (found,) = await take(database)
    assert (found.record_id, found.wanted) == (record.id, 3)


async def test_a_mark_made_during_a_push_is_not_lost(database: Database, record: RecordState):
    await mark(database, record, 1)
    (pushed,) = await take(database)
    await mark(database, record, 2)
    async with database.transaction() as db:
        assert await outbox.clear(db, [pushed]) == 1
    (left,) = await take(database)
    assert left.wanted == 2
    async with database.transaction() as db:
        assert await outbox.clear(db, [left]) == 0
    assert await take(database) == []


async def test_a_newer_version_revives_a_dead_letter_and_an_equal_one_does_not(
    database: Database, record: RecordState
):
    await mark(database, record, 1)
    (dead,) = await take(database)
    async with database.transaction() as db:
        await outbox.bury(db, dead, {"cause": "refused"})
    await mark(database, record, 1)
    assert await take(database) == []
    await mark(database, record, 2)
    (alive,) = await take(database)
    assert (alive.wanted, alive.attempts) == (2, 0)


async def test_a_record_that_moved_while_it_was_refused_tries_again(
    database: Database, record: RecordState
):
    await mark(database, record, 1)
    (pushed,) = await take(database)
    await mark(database, record, 2)
    async with database.transaction() as db:
        await outbox.bury(db, pushed, {"cause": "refused"})
    assert [found.wanted for found in await take(database)] == [2]


async def test_live_work_goes_before_scans_and_parents_before_children(database: Database):
    made = {
        "deal": RecordState(uuid.uuid7(), "deal", {}, version=1),
        "company": RecordState(uuid.uuid7(), "company", {}, version=1),
        "scan": RecordState(uuid.uuid7(), "company", {}, version=1),
    }
    async with database.transaction() as db:
        await records.add(db, list(made.values()), source="close")
    await mark(database, made["scan"], 1, scan=True)
    await mark(database, made["deal"], 1)
    await mark(database, made["company"], 1)
    order: list[UUID] = [found.record_id for found in await take(database)]
    assert order == [made["company"].id, made["deal"].id, made["scan"].id]


async def test_live_news_of_a_scanned_record_makes_it_live(database: Database, record: RecordState):
    await mark(database, record, 1, scan=True)
    await mark(database, record, 2)
    assert [found.scan for found in await take(database)] == [False]


async def test_a_begun_create_is_known_until_it_is_settled(database: Database, record: RecordState):
    await mark(database, record, 1)
    (found,) = await take(database)
    async with database.transaction() as db:
        assert await outbox.creating_since(db, "hubspot") is None
        await outbox.intend(db, [(found, "trace", {})])
    async with database.transaction() as db:
        since = await outbox.creating_since(db, "hubspot")
        assert since is not None
        error = {"cause": "no answer"}
        await outbox.postpone(db, found, until=PAST, error=error, keep_intent=True)
    (again,) = await take(database)
    assert (again.intent, again.intent_at, again.attempts) == ("trace", since, 1)
    async with database.transaction() as db:
        await outbox.clear(db, [again])
        assert await outbox.creating_since(db, "hubspot") is None


@pytest.mark.parametrize("unknown", [True, False])
async def test_what_a_create_said_is_remembered_while_it_may_have_made_something(
    database: Database, record: RecordState, unknown: bool
):
    await mark(database, record, 1)
    (found,) = await take(database)
    async with database.transaction() as db:
        await outbox.intend(db, [(found, "trace", {"title": "CEO"})])
        error = {"cause": "no answer" if unknown else "it exists"}
        await outbox.postpone(db, found, until=PAST, error=error, keep_intent=unknown)
        said = await outbox.intended(db, "hubspot", [record.id])
    assert said == ({record.id: {"title": "CEO"}} if unknown else {})


async def test_a_postponed_mark_rests_until_hurried(database: Database, record: RecordState):
    await mark(database, record, 1)
    (found,) = await take(database)
    async with database.transaction() as db:
        later = found.marked_at + timedelta(hours=1)
        await outbox.postpone(db, found, until=later)
    assert await take(database) == []
    async with database.transaction() as db:
        await outbox.hurry(db, "hubspot", [record.id])
    assert len(await take(database)) == 1
