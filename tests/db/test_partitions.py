"""Parts are there before they are needed; what has had its time goes, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.config.model import Retention
from app.db import deliveries, events, partitions
from app.db.engine import Database
from app.db.events import Answered
from app.db.partitions import CUTS, DELIVERIES, EVENTS, JOURNAL
from app.domain.values import Delivery, Event
from app.worker.tidy import tidy

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=200)
RETENTION = Retention()


async def _deliver(database: Database, body: bytes, *, at: datetime, state: str = "done") -> int:
    """A delivery that came then; its id."""
    async with database.transaction() as db:
        row = sa.text(
            "insert into deliveries (account, key, method, target, body, received_at, state)"
            " values ('close', sha256(:body), 'POST', '/', :body, :at, :state) returning id"
        )
        found = await db.execute(row, {"body": body, "at": at, "state": state})
        return int(found.scalar_one())


async def _event(database: Database, key: str, delivery: int, *, at: datetime, state: str) -> None:
    async with database.transaction() as db:
        row = sa.text(
            "insert into events (account, key, delivery_id, type, at, received_at, state)"
            " values ('close', :key, :delivery, 'x', :at, :at, :state)"
        )
        await db.execute(row, {"key": key, "delivery": delivery, "at": at, "state": state})


async def _bodies(database: Database) -> set[bytes]:
    async with database.transaction() as db:
        return set((await db.execute(sa.text("select body from deliveries"))).scalars())


async def _part_then(database: Database, cut: partitions.Cut, moment: datetime) -> None:
    async with database.transaction() as db:
        await partitions.make(db, cut, moment)


async def _names(database: Database) -> set[str]:
    async with database.transaction() as db:
        return {name for cut in CUTS for name in await partitions.parts(db, cut)}


@given(st.sampled_from(["week", "month", "quarter"]), st.datetimes(timezones=st.just(UTC)))
def test_every_moment_is_in_exactly_one_period(width: str, moment: datetime) -> None:
    if not 2 <= moment.year <= 9990:
        return
    start = partitions.begun(width, moment)
    end = partitions.after(width, start)
    assert start <= moment < end
    assert partitions.begun(width, end) == end
    assert partitions.begun(width, end - timedelta(microseconds=1)) == start


async def test_parts_are_made_ahead_and_once(database: Database) -> None:
    before = await _names(database)
    for cut in CUTS:
        start = partitions.begun(cut.width, NOW)
        assert {cut.rest, cut.part(start), cut.part(partitions.after(cut.width, start))} <= before
    await tidy(database, RETENTION, NOW)
    assert await _names(database) == before
    later = NOW + timedelta(days=100)
    await tidy(database, RETENTION, later)
    assert {cut.part(partitions.begun(cut.width, later)) for cut in CUTS} <= await _names(database)


async def test_what_no_part_was_made_for_is_kept_all_the_same(database: Database) -> None:
    later = NOW + timedelta(days=300)
    await _deliver(database, b"early", at=later)
    await tidy(database, RETENTION, later)
    assert b"early" in await _bodies(database)
    await _deliver(database, b"also", at=later)
    assert {b"early", b"also"} <= await _bodies(database)


async def test_what_has_had_its_time_goes_with_its_part(database: Database) -> None:
    for cut in (DELIVERIES, EVENTS, JOURNAL):
        await _part_then(database, cut, LONG_AGO)
    await _event(
        database, "ev_1", await _deliver(database, b"old", at=LONG_AGO), at=LONG_AGO, state="done"
    )
    await _deliver(database, b"new", at=NOW - timedelta(days=3))
    old = DELIVERIES.part(partitions.begun("week", LONG_AGO))
    assert old in await _names(database)
    await tidy(database, RETENTION, NOW)
    names = await _names(database)
    assert old not in names
    assert EVENTS.part(partitions.begun("month", LONG_AGO)) not in names
    assert JOURNAL.part(partitions.begun("quarter", LONG_AGO)) in names, "the journal stays"
    assert await _bodies(database) == {b"new"}


@pytest.mark.parametrize("in_rest", [False, True])
async def test_what_waits_for_somebody_outlives_its_time(database: Database, in_rest: bool) -> None:
    if not in_rest:
        await _part_then(database, DELIVERIES, LONG_AGO)
        await _part_then(database, EVENTS, LONG_AGO)
    await _deliver(database, b"dead", at=LONG_AGO, state="dead")
    asked = await _deliver(database, b"asked for by its event", at=LONG_AGO)
    await _event(database, "ev_1", asked, at=LONG_AGO, state="dead")
    done = await _deliver(database, b"done", at=LONG_AGO)
    await _event(database, "ev_2", done, at=LONG_AGO, state="done")
    await tidy(database, RETENTION, NOW)
    assert await _bodies(database) == {b"dead", b"asked for by its event"}
    async with database.transaction() as db:
        left = (await db.execute(sa.text("select key from events"))).scalars().all()
    assert left == ["ev_1"]


async def test_a_repeat_is_known_within_its_part(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        bodies = (b"hello", b"another", b"another")
        told = [Delivery("close", "POST", "/", {}, body, NOW) for body in bodies]
        arrivals = [(each, deliveries.key(each, named=False)) for each in told]
        assert len((await deliveries.store(connection, arrivals)).new) == 2
        assert not (await deliveries.store(connection, arrivals)).new
    finally:
        await connection.close()


async def _add(database: Database, answers: Collection[tuple[str, str]], at: datetime) -> None:
    delivery = Delivery("close", "POST", "/", {}, b"", at, id=7)
    read = [Answered("close", Event(type="x", key=key, at=at), answer) for key, answer in answers]
    async with database.transaction() as db:
        await events.add(db, [(delivery, read)])


async def test_an_event_is_known_in_whatever_part_and_gets_todays_answer(
    database: Database,
) -> None:
    await _part_then(database, EVENTS, LONG_AGO)
    await _add(database, [("a", "handled"), ("b", "unsupported"), ("b", "unsupported")], LONG_AGO)
    await _add(database, [("a", "unsupported"), ("b", "handled"), ("c", "ignored")], NOW)
    async with database.transaction() as db:
        rows: Any = await db.execute(
            sa.text("select key, answer, state, received_at from events order by key")
        )
        found = [tuple(row) for row in rows]
    assert found == [
        ("a", "handled", "pending", LONG_AGO),
        ("b", "handled", "pending", LONG_AGO),
        ("c", "ignored", "done", NOW),
    ]


async def test_plans_of_dry_runs_go_and_the_runs_stay(database: Database) -> None:
    async with database.transaction() as db:
        for days in (1, 60):
            await db.execute(
                sa.text(
                    "with r as (insert into resyncs (id, account, entities, state, finished_at)"
                    " values (gen_random_uuid(), 'close', '{person}', 'done', :at) returning id)"
                    " insert into plan_items (resync_id, n) select id, 1 from r"
                ),
                {"at": NOW - timedelta(days=days)},
            )
    await tidy(database, RETENTION, NOW)
    async with database.transaction() as db:
        query = "select (select count(*) from plan_items), (select count(*) from resyncs)"
        assert tuple((await db.execute(sa.text(query))).one()) == (1, 2)


async def test_what_drift_checks_found_goes_and_the_checks_stay(database: Database) -> None:
    async with database.transaction() as db:
        for days in (1, 60):
            await db.execute(
                sa.text(
                    "with r as (insert into drifts (id, account, entities, state, finished_at)"
                    " values (gen_random_uuid(), 'close', '{person}', 'done', :at) returning id)"
                    " insert into differences (drift_id, n, entity, record_id, remote_id, cause,"
                    " reason) select id, 1, 'person', id, '1', 'missed_webhook', '' from r"
                ),
                {"at": NOW - timedelta(days=days)},
            )
    await tidy(database, RETENTION, NOW)
    async with database.transaction() as db:
        query = "select (select count(*) from differences), (select count(*) from drifts)"
        assert tuple((await db.execute(sa.text(query))).one()) == (1, 2)


async def test_acts_and_alerts_go_when_their_time_is_over(database: Database) -> None:
    async with database.transaction() as db:
        for days in (1, 1000):
            at = {"at": NOW - timedelta(days=days)}
            act = "insert into audit (at, who, what, target) values (:at, 'ada', 'POST', '/')"
            await db.execute(sa.text(act), at)
            over = (
                "with a as (insert into alerts (key, kind, summary, count, since, ended_at)"
                " values ('k', 'lag', '', 1, :at, :at) returning id)"
                " insert into messages (alert_id, word, channel) select id, 'raised', 'log' from a"
            )
            await db.execute(sa.text(over), at)
        lasting = (
            "insert into alerts (key, kind, summary, count, since) values ('l', 'lag', '', 1, :at)"
        )
        await db.execute(sa.text(lasting), {"at": NOW - timedelta(days=1000)})
    await tidy(database, RETENTION, NOW)
    async with database.transaction() as db:
        query = (
            "select (select count(*) from audit), (select count(*) from alerts),"
            " (select count(*) from messages)"
        )
        assert tuple((await db.execute(sa.text(query))).one()) == (1, 2, 1)


async def test_cards_go_when_they_were_settled_long_ago_and_open_ones_never(
    database: Database,
) -> None:
    made = (
        "insert into conflicts (kind, entity, account, field, theirs, state, settled_at)"
        " values ('field', 'person', 'close', :field, '\"CEO\"', :state, :at)"
    )
    old, young = NOW - timedelta(days=1000), NOW - timedelta(days=1)
    async with database.transaction() as db:
        for field, state, at in (
            ("title", "open", None),
            ("phone", "settled", old),
            ("email", "settled", young),
        ):
            await db.execute(sa.text(made), {"field": field, "state": state, "at": at})
        await db.execute(sa.text("update conflicts set opened_at = :at"), {"at": old})
    await tidy(database, RETENTION, NOW)
    async with database.transaction() as db:
        left = await db.execute(sa.text("select field from conflicts order by field"))
        assert left.scalars().all() == ["email", "title"]


def test_events_are_kept_as_long_as_what_they_came_in() -> None:
    with pytest.raises(ValueError, match="shorter time than deliveries"):
        Retention(deliveries=60, events=30)
    with pytest.raises(ValueError, match="shorter time than deliveries"):
        Retention(deliveries="forever")
    with pytest.raises(ValueError, match="at least 4"):
        Retention(deliveries=3)
    assert Retention(deliveries="forever", events="forever").journal == "forever"
