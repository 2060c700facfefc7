"""A credential that is refused: all of the account waits, and resumes by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import accounts, catchups, lanes, refusals
from app.errors import AccountError
from app.sync import refusal
from app.worker.loop import Worker
from tests.connectors.conftest import control, sandbox
from tests.sync.town import Town, town

__all__ = ["control", "sandbox", "town"]

REVOKED = {"vendor": "hubspot", "fault": "status", "status": 401, "body": {"message": "Revoked."}}
#: One object alone is not ours to see; the credential itself works.
FORBIDDEN = {
    "vendor": "hubspot",
    "fault": "status",
    "status": 403,
    "match": {"path": "/crm/v3/objects/deals"},
}


async def claimable(town: Town) -> set[tuple[str, str]]:
    """The lanes that a worker would take now, though all have work."""
    async with town.db.transaction() as db:
        await db.execute(sa.text("update lanes set due_at = now(), owner = null"))
        found = await lanes.claim(db, "w", accounts=["close", "hubspot"], limit=9, lease=30)
        await db.execute(sa.text("update lanes set owner = null, lease_until = null"))
    return {(lane.account, lane.direction) for lane in found}


async def refused(town: Town) -> dict[str, refusals.Refusal]:
    async with town.db.transaction() as db:
        return await refusals.all_of(db)


async def probes_due(town: Town, *names: str) -> dict[str, int]:
    """Whom a worker would ask, if the time had come."""
    async with town.db.transaction() as db:
        await db.execute(sa.text("update accounts set probe_at = now() where probe_at is not null"))
        return await refusals.take(db, names or ("close", "hubspot"))


EVERY = {(a, d) for a in ("close", "hubspot") for d in ("in", "out", "scan")}
CLOSE = {(a, d) for a, d in EVERY if a == "close"}


async def test_a_refused_credential_stops_every_lane_of_the_account_and_no_other(town):
    await town.control.fault(**REVOKED)
    assert await refusal.is_refused(town.house, "hubspot", AccountError("401"))
    assert await claimable(town) == CLOSE
    (one,) = (await refused(town)).values()
    assert "Revoked." in one.reason
    await town.control.http.delete("/_sandbox/faults")
    for name, probes in (await probes_due(town)).items():
        await refusal.ask(town.house, name, probes=probes)
    assert await refused(town) == {}
    assert await claimable(town) == EVERY


async def test_what_one_kind_of_call_is_refused_for_does_not_stop_the_account(town):
    await town.control.fault(**FORBIDDEN)
    assert not await refusal.is_refused(town.house, "hubspot", AccountError("403"))
    assert await refused(town) == {}


async def test_the_pauses_between_two_questions_grow(town):
    await town.control.fault(**REVOKED)
    await refusal.is_refused(town.house, "hubspot", AccountError("401"))
    pauses = []
    since = (await refused(town))["hubspot"].since
    for _ in range(12):
        for name, probes in (await probes_due(town)).items():
            await refusal.ask(town.house, name, probes=probes)
        asked_at = await town.scalar("select probe_at - now() from accounts where probes > 0")
        pauses.append(asked_at)
    assert all(one < other for one, other in pairwise(pauses[:9]))
    assert pauses[0] < timedelta(seconds=5)
    assert refusal.LONGEST / 2 < pauses[-1] <= refusal.LONGEST
    assert (await refused(town))["hubspot"].since == since
    # A changed configuration means a new start: then it is asked at once.
    async with town.db.transaction() as db:
        await refusals.hurry(db, ["hubspot", "close"])
    async with town.db.transaction() as db:
        assert await refusals.take(db, ["hubspot", "close"]) == {"hubspot": 0}


async def test_an_account_that_a_person_paused_is_never_asked_nor_resumed(town):
    await town.control.fault(**REVOKED)
    await refusal.is_refused(town.house, "hubspot", AccountError("401"))
    async with town.db.transaction() as db:
        await accounts.pause(db, "hubspot", reason="moving")
    await town.control.http.delete("/_sandbox/faults")
    assert await probes_due(town) == {}
    # Even where it is let in, what a person stopped stays so.
    await refusal.admit(town.house, "hubspot")
    assert await claimable(town) == CLOSE
    async with town.db.transaction() as db:
        assert await accounts.paused(db) == {"hubspot": "moving"}


async def test_who_asks_asks_alone_and_an_outage_is_no_answer(town):
    await town.control.fault(**REVOKED)
    await refusal.is_refused(town.house, "hubspot", AccountError("401"))
    assert list(await probes_due(town)) == ["hubspot"]
    async with town.db.transaction() as db:
        assert await refusals.take(db, ["hubspot"]) == {}
    before = await town.scalar("select probes from accounts where name = 'hubspot'")
    await town.control.http.delete("/_sandbox/faults")
    away = {"vendor": "hubspot", "fault": "status", "status": 503}
    await town.control.fault(**away)
    await refusal.ask(town.house, "hubspot", probes=5)
    assert list(await refused(town)) == ["hubspot"]
    assert await town.scalar("select probes from accounts where name = 'hubspot'") == before
    # And an outage alone refuses nobody.
    await town.control.fault(**away | {"vendor": "close"})
    assert not await refusal.is_refused(town.house, "close", AccountError("401"))


async def test_a_worker_lets_the_account_wait_and_goes_on_when_the_key_works_again(town):
    """The whole way: a turn fails, the account rests, nothing dies, all goes through."""
    contact, there = await town.ada()
    await town.control.fault(**REVOKED)
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    async with town.db.transaction() as db:
        await db.execute(sa.text("update lanes set owner = null, lease_until = null"))
    stop = asyncio.Event()
    work = asyncio.create_task(Worker(town.house).work(stop))

    async def until(ask: Any) -> None:
        for _ in range(600):
            if await ask():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it does not come")

    try:

        async def rests() -> bool:
            return "hubspot" in await refused(town)

        await until(rests)
        assert await town.scalar("select count(*) from outbox where state = 'pending'") == 1
        await town.control.http.delete("/_sandbox/faults")

        async def done() -> bool:
            return not await town.scalar("select count(*) from outbox")

        await until(done)
        assert await refused(town) == {}
        assert await town.scalar("select count(*) from outbox where state = 'dead'") == 0
    finally:
        stop.set()
        await work
    path = f"/_sandbox/as-person/hubspot/crm/v3/objects/contacts/{there.id}?properties=jobtitle"
    shown = (await town.control.http.get(path)).json()
    assert shown["properties"]["jobtitle"] == "Countess"


AWAY = {"vendor": "hubspot", "fault": "status", "status": 503}


async def _met(town: Town, *directions: str) -> None:
    """These lanes of HubSpot have failed."""
    async with town.db.transaction() as db:
        await db.execute(
            sa.text(
                "update lanes set failures = failures + 1"
                " where account = 'hubspot' and direction = any(:directions)"
            ),
            {"directions": list(directions)},
        )


async def test_while_a_crm_is_away_what_calls_it_waits_until_one_call_is_answered(town):
    await town.control.fault(**AWAY)
    await _met(town, "out")
    assert await refusal.is_silent(town.house, "hubspot")
    # What came in may bring all that is needed, until it has met that as well.
    assert await claimable(town) == {*CLOSE, ("hubspot", "in")}
    await _met(town, "in")
    assert await claimable(town) == CLOSE
    await town.control.http.delete("/_sandbox/faults")
    assert await claimable(town) == CLOSE
    for name, probes in (await probes_due(town)).items():
        await refusal.ask(town.house, name, probes=probes)
    assert await claimable(town) == EVERY
    assert await town.scalar("select max(failures) from lanes") == 0


async def test_a_crm_that_is_away_is_asked_by_one_call_after_1_2_4_and_then_5_seconds(town):
    await town.control.fault(**AWAY)
    assert await refusal.is_silent(town.house, "hubspot")
    pauses = []
    for _ in range(5):
        asked = await town.scalar("select probe_at - now() from accounts where probes > 0")
        pauses.append(round(asked.total_seconds()))
        for name, probes in (await probes_due(town)).items():
            await refusal.ask(town.house, name, probes=probes)
    assert pauses == [1, 2, 4, 5, 5]
    calls = (await town.control.http.get("/_sandbox/calls?vendor=hubspot")).json()["calls"]
    assert sum(call["status"] == 503 for call in calls) == 6


async def test_one_kind_of_call_that_is_not_answered_stops_no_other(town):
    await town.control.fault(**AWAY, match={"path": "/crm/v3/objects/deals"})
    await _met(town, "out")
    assert not await refusal.is_silent(town.house, "hubspot")
    assert await claimable(town) == EVERY


@pytest.mark.parametrize(("minutes", "why"), [(0, "schedule"), (5, "outage")])
async def test_after_an_outage_that_may_have_cost_webhooks_the_log_is_read(town, minutes, why):
    async with town.db.transaction() as db:
        await catchups.register(db, "hubspot", ["person"], every=None)
    await town.control.fault(**AWAY)
    assert await refusal.is_silent(town.house, "hubspot")
    async with town.db.transaction() as db:
        earlier = "update accounts set away_at = away_at - make_interval(mins => :minutes)"
        await db.execute(sa.text(earlier), {"minutes": minutes})
    await town.control.http.delete("/_sandbox/faults")
    await refusal.ask(town.house, "hubspot", probes=1)
    assert await town.scalar("select reason from catchups") == why
