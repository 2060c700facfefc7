"""A database that may be older than the CRMs is noticed, and nothing is written meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import accounts, catchups, lanes, rereads
from app.db.engine import Database
from app.db.rereads import Why

NAMES = ("close", "hubspot")
#: What the row of the pulse says where one of us has written it.
OURS = ", xid = pg_current_xact_id()::xid::text"


@pytest.fixture
async def house(database: Database) -> Database:
    """Two accounts whose logs were read a moment ago, and somebody at work."""
    async with database.transaction() as db:
        await accounts.register(db, {name: name for name in NAMES})
        for name in NAMES:
            await catchups.register(db, name, ["person"], every=900)
    await feel(database)
    return database


async def feel(house: Database, *, seen: datetime | None = None) -> Why | None:
    async with house.transaction() as db:
        why, _ = await rereads.feel(db, seen=seen)
        return why


async def do(house: Database, *statements: str) -> None:
    async with house.transaction() as db:
        for one in statements:
            await db.execute(sa.text(one))


async def hold(house: Database, why: Why = Why.MOVED) -> None:
    async with house.transaction() as db:
        await rereads.begin(db, NAMES, why)


async def settled(house: Database) -> list[str]:
    async with house.transaction() as db:
        return sorted(await rereads.settle(db, NAMES))


async def writers(house: Database, *workable: str) -> set[str]:
    """The accounts whose out-lane would be claimed now; the others are as they were."""
    async with house.engine.connect() as db:
        await db.execute(sa.text("update lanes set due_at = now()"))
        who = workable or NAMES
        found = await lanes.claim(db, "w", accounts=who, limit=9, lease=30)
        await db.rollback()
    assert {lane.account for lane in found if lane.direction == "in"} == set(who)
    return {lane.account for lane in found if lane.direction == "out"}


async def read(house: Database, *names: str) -> None:
    """Their logs are read to the present."""
    for name in names:
        await do(house, f"update catchups set through = clock_timestamp() where account = '{name}'")


async def test_the_first_who_is_ever_at_work_has_nothing_to_fear(database: Database):
    assert await feel(database) is None
    assert await feel(database) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update pulse set at = at - interval '2 minutes'", Why.SILENCE),
        ("update pulse set place = '7/00000002/5'", Why.MOVED),
        # As pg_restore does: the rows are written anew, by another transaction.
        (
            "with p as (delete from pulse returning *) select p.* into kept from p;"
            "insert into pulse select * from kept; drop table kept",
            Why.LOADED,
        ),
    ],
    ids=[Why.SILENCE, Why.MOVED, Why.LOADED],
)
async def test_what_an_older_copy_of_the_database_is_known_by(
    house: Database, change: str, why: Why
):
    assert await feel(house) is None
    for one in change.split(";"):
        await do(house, one + (OURS if one.startswith("update") else ""))
    assert await feel(house) is why
    # Whoever comes next finds somebody at work.
    assert await feel(house) is None


async def test_a_process_knows_what_it_had_committed(house: Database):
    async with house.transaction() as db:
        _, moment = await rereads.feel(db, seen=None)
    assert await feel(house, seen=moment) is None
    await do(house, "update pulse set at = at - interval '1 second'" + OURS)
    assert await feel(house, seen=moment) is Why.LOST


async def test_nothing_is_written_to_anybody_until_every_log_is_read_and_taken_in(house: Database):
    assert await writers(house) == set(NAMES)
    await hold(house)
    async with house.transaction() as db:
        assert set(await rereads.all_of(db)) == set(NAMES)
    assert await writers(house) == set()
    assert await settled(house) == []
    await read(house, "close")
    assert await settled(house) == ["close"]
    assert await writers(house) == set()
    await read(house, "hubspot")
    await do(
        house,
        "insert into deliveries (account, key, method, target, body) values"
        " ('hubspot', 'k', 'LOG', '/', '')",
    )
    assert await settled(house) == []
    await do(house, "update deliveries set state = 'done'")
    assert await settled(house) == ["hubspot"]
    assert await writers(house) == set(NAMES)


async def test_what_came_in_later_or_failed_before_is_not_waited_for(house: Database):
    await hold(house)
    await read(house, *NAMES)
    come = (
        "insert into deliveries (account, key, method, target, body, received_at, attempts) values"
        " ('hubspot', '{0}', 'LOG', '/', '', now() + interval '{1}', {2})"
    )
    await do(house, come.format("late", "1 hour", 0), come.format("poison", "-1 hour", 3))
    assert await settled(house) == list(NAMES)


async def test_a_log_that_ends_too_early_is_waited_for_by_its_scan(house: Database):
    await hold(house)
    await read(house, *NAMES)
    await do(
        house,
        "insert into resyncs (id, account, entities, since) values"
        " (gen_random_uuid(), 'close', '{person}', now() - interval '1 day')",
    )
    assert await settled(house) == ["hubspot"]
    await do(house, "update resyncs set state = 'done'")
    assert await settled(house) == ["close"]


async def test_an_account_that_nobody_works_on_is_not_waited_for(house: Database):
    await hold(house)
    await read(house, "hubspot")
    assert await settled(house) == ["hubspot"]
    assert await writers(house) == set()
    await do(house, "update accounts set paused = true where name = 'close'")
    assert await writers(house, "hubspot") == {"hubspot"}
    # Once it is resumed it is waited for again.
    await do(house, "update accounts set paused = false")
    assert await writers(house) == set()
    async with house.transaction() as db:
        assert await rereads.forgo(db, "close")
        assert not await rereads.forgo(db, "close")
    assert await writers(house) == set(NAMES)


async def test_a_log_that_cannot_be_read_is_tried_once_and_then_not_waited_for(house: Database):
    await do(house, "update catchups set error = '{}', due_at = now() + interval '1 hour'")
    await hold(house)
    assert await settled(house) == []
    await do(house, "update catchups set due_at = now() + interval '5 minutes'")
    assert await settled(house) == list(NAMES)


@pytest.mark.parametrize(("why", "passes"), [(Why.SILENCE, True), (Why.LOADED, False)])
async def test_a_crm_that_is_away_is_waited_for_without_end_only_after_a_restore(
    house: Database, why: Why, passes: bool
):
    await hold(house, why)
    await read(house, "close")
    await settled(house)
    away = "update lanes set failures = 3 where account = 'hubspot' and direction = 'scan'"
    await do(house, away)
    assert await settled(house) == []
    await do(house, "update accounts set reread_since = reread_since - interval '11 minutes'")
    await do(house, "update catchups set through = now() - interval '1 hour'")
    assert await settled(house) == (["hubspot"] if passes else [])


def test_every_reason_is_said_in_words() -> None:
    said: Any = {rereads.Reread(datetime.min, why).sentence for why in Why}
    assert len(said) == len(Why)
    assert timedelta(minutes=5) > rereads.SILENCE
