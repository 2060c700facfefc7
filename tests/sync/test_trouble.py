"""What trouble does to the work of an out-lane: it waits, for as long as it must and no longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from app.clock import now
from app.db import outbox
from app.domain.values import Outcome, Ref, RemoteField, Write
from app.errors import RateLimitedError, RejectedError, TransientError
from app.sdk.quota import is_background
from app.sync.trouble import LanePaused, describe
from tests.sync.conftest import Company, contact, hub_contact
from tests.sync.test_push import Portal

NAMES = ("Ben", "Cy", "Dot", "Eve")


async def people(company: Company) -> Portal:
    """Four people of Close that HubSpot does not have yet."""
    await company.see(
        *(contact(n, name=name, email=f"{name}@x.example") for n, name in enumerate(NAMES, 2))
    )
    return Portal(company)


def answers(portal: Portal, fate: Callable[[Write], Exception | None]) -> list[str]:
    """Let writes end like that; the names of those that were tried."""
    tried: list[str] = []

    async def write(batch: Sequence[Write]) -> list[Outcome]:
        found = []
        for one in batch:
            name = str(one.fields["firstname"])
            tried.append(name)
            error = fate(one)
            ref = None if error else Ref("hubspot", "contacts", str(100 + NAMES.index(name)))
            found.append(Outcome(one, ref, hub_contact(int(ref.id)) if ref else None, error=error))
        return found

    portal.company.house.members["hubspot"].connector.write = write  # type: ignore[method-assign]
    return tried


async def waiting(company: Company) -> list[tuple[int, bool]]:
    """Of what waits for HubSpot: how often it was tried, and whether it is due."""
    async with company.db.transaction() as db:
        rows = await db.exec_driver_sql(
            "select attempts, due_at <= now() as due from outbox where account = 'hubspot'"
            " and state = 'pending' order by attempts"
        )
        return [(row.attempts, row.due) for row in rows]


async def failing(company: Company, *, failures: int = 1) -> None:
    """As the worker leaves a lane that had trouble."""
    async with company.db.transaction() as db:
        await db.exec_driver_sql(f"update lanes set failures = {failures}")


async def test_a_system_that_is_down_is_asked_with_one_row_and_nothing_is_put_off(company):
    portal = await people(company)
    tried = answers(portal, lambda _: TransientError("503"))
    with pytest.raises(LanePaused):
        await portal.push()
    assert len(tried) == 4
    assert await waiting(company) == [(1, True)] * 4
    await failing(company)
    with pytest.raises(LanePaused):
        await portal.push()
    assert len(tried) == 5
    answers(portal, lambda _: None)
    await portal.push()
    assert await waiting(company) == []


async def test_a_row_that_always_fails_does_not_stand_for_its_neighbours(company):
    portal = await people(company)
    async with company.db.transaction() as db:
        await db.exec_driver_sql(
            "update outbox set attempts = 5, due_at = now() - interval '1 hour'"
            " where record_id = (select record_id from keys where value = 'ben@x.example')"
        )
    await failing(company)
    tried = answers(
        portal, lambda write: TransientError("500") if write.fields["firstname"] == "Ben" else None
    )
    await portal.push()
    assert sorted(tried) == sorted(NAMES)
    assert await waiting(company) == [(6, False)]


async def test_when_a_system_answers_again_what_was_put_off_is_due(company):
    portal = await people(company)
    await failing(company)
    async with company.db.transaction() as db:
        await db.exec_driver_sql(
            "update outbox set attempts = 3, due_at = now() + interval '1 hour'"
            " where record_id <> (select record_id from keys where value = 'ben@x.example')"
        )
    answers(portal, lambda _: None)
    await portal.push()
    assert await waiting(company) == [(3, True)] * 3


async def test_a_refused_row_is_no_sign_of_an_outage(company):
    portal = await people(company)
    tried = answers(
        portal, lambda write: RejectedError("no") if write.fields["firstname"] == "Cy" else None
    )
    await portal.push()
    assert len(tried) == 4
    assert await waiting(company) == []
    assert await company.scalar("select count(*) from outbox where state = 'dead'") == 1


async def test_scans_that_have_used_their_share_wait_and_live_work_goes_on(company):
    portal = await people(company)
    async with company.db.transaction() as db:
        await db.exec_driver_sql(
            "update outbox set scan = true"
            " where record_id <> (select record_id from keys where value = 'ben@x.example')"
        )
    until = now() + timedelta(hours=1)
    tried: list[object] = []

    async def write(batch: Sequence[Write]) -> list[Outcome]:
        if is_background():
            raise RateLimitedError(until, "the quota is used up")
        tried.extend(one.fields["firstname"] for one in batch)
        return [Outcome(one, Ref("hubspot", "contacts", "100"), hub_contact(100)) for one in batch]

    company.house.members["hubspot"].connector.write = write
    await portal.push()
    assert tried == ["Ben"]
    assert await waiting(company) == [(0, False)] * 3
    async with company.db.transaction() as db:
        assert await outbox.take(db, "hubspot", limit=9) == []


async def test_what_was_refused_wakes_when_the_fields_there_have_changed(company):
    portal = await people(company)
    member = company.house.members["hubspot"]
    there = {"jobtitle": RemoteField("jobtitle")}

    async def fields(entity: str) -> dict[str, RemoteField]:
        return there

    member.connector.fields = fields
    answers(portal, lambda _: RejectedError("there is no such field", field="firstname"))
    await portal.push()
    dead = "select count(*) from outbox where state = 'dead'"
    assert await company.scalar(dead) == 4
    await company.house.learn("hubspot", age=timedelta())
    assert await company.scalar(dead) == 4
    there["firstname"] = RemoteField("firstname")
    await company.house.learn("hubspot", age=timedelta())
    assert await company.scalar(dead) == 0
    assert await waiting(company) == [(0, True)] * 4


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "PATCH /crm/v3/objects/contacts/4711 answered 400: Property values were not valid",
            "RejectedError: 400: Property values were not valid",
        ),
        ('"ada@@x" is no address of contact 12', "RejectedError: … is no address of contact …"),
    ],
)
def test_letters_that_differ_only_in_ids_and_values_have_one_cause(said, cause):
    shown = describe(RejectedError(said))
    assert (shown["cause"], shown["reason"]) == (cause, said)
    assert describe(RejectedError(said, field="email"))["cause"] == "RejectedError: email"
