"""What a turn of an out-lane writes, whatever the in-lane does beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.db import lanes, links, outbox
from app.domain.values import Directory, Key, Observation, Op, Outcome, Ref, Write
from app.sync.push import push
from app.sync.relink import relink
from tests.sync.conftest import NOON, Company, contact, hub_contact

THERE = hub_contact().ref
SOMEBODY_NEW = contact(2, name="Ben", email="ben@x.example")


async def nothing() -> None:
    """Nobody is at work beside us."""


class Portal:
    """HubSpot with one contact; ``meanwhile`` happens while a create looks for what is there,
    after all was planned and before anything is written.
    """

    def __init__(self, company: Company, **properties: str | None) -> None:
        self.company = company
        self.properties: dict[str, Any] = {"email": "ada@x.example", **properties}
        self.meanwhile: Callable[[], Awaitable[object]] = nothing
        self.written: list[dict[str, object]] = []
        connector = company.house.members["hubspot"].connector
        connector.read = self.read  # type: ignore[method-assign]
        connector.read_fields = self.read  # type: ignore[method-assign]
        connector.find = self.find  # type: ignore[method-assign]
        connector.write = self.write  # type: ignore[method-assign]
        connector.directory = self.directory  # type: ignore[method-assign]
        connector.fields = self.fields  # type: ignore[method-assign]

    def shown(self) -> Observation:
        return replace(hub_contact(**self.properties), version=NOON)

    async def directory(self) -> Directory:
        return Directory()

    async def fields(self, entity: str) -> None:
        return None

    async def read(self, refs: Sequence[Ref]) -> list[Observation]:
        return [self.shown()]

    async def find(self, entity: str, keys: Sequence[Key]) -> dict[Key, list[Observation]]:
        meanwhile, self.meanwhile = self.meanwhile, nothing
        await meanwhile()
        return {key: [self.shown()] for key in keys if key.value == self.properties["email"]}

    async def write(self, batch: Sequence[Write]) -> list[Outcome]:
        if batch[0].op is Op.CREATE:
            return [Outcome(write, hub_contact(2).ref) for write in batch]
        self.written += [dict(write.fields) for write in batch]
        for write in batch:
            self.properties |= write.fields
        return [Outcome(write, THERE, self.shown()) for write in batch]

    async def push(self) -> None:
        """One turn of its out-lane."""
        async with self.company.db.transaction() as db:
            await lanes.wake(db, "hubspot", "out")
        async with self.company.db.transaction() as db:
            await db.exec_driver_sql("update lanes set owner = null where direction = 'out'")
        async with self.company.db.transaction() as db:
            found = await lanes.claim(db, "tests", accounts=["hubspot"], limit=9, lease=60)
        (lane,) = (lane for lane in found if lane.direction == "out")
        await push(self.company.house, lane)


async def in_step(company: Company, title: str) -> Portal:
    """Ada in both CRMs, with the same title."""
    await company.see(contact(title=title, name="Ada"))
    await company.see(hub_contact(email="ada@x.example", jobtitle=title, firstname="Ada"))
    await company.clear()
    return Portal(company, jobtitle=title, firstname="Ada")


async def test_what_the_out_lane_writes_the_other_crm_then_shows(company: Company):
    portal = await in_step(company, "old")
    await company.see(contact(title="new", name="Ada"))
    await portal.push()
    assert portal.written == [{"jobtitle": "new"}]
    assert await company.marks() == {}


async def test_a_write_whose_worker_died_does_not_hold_up_its_record(company: Company):
    portal = await in_step(company, "old")
    await company.see(contact(title="new", name="Ada"))
    async with company.db.transaction() as db:
        await links.begin_writes(db, {THERE: {"title": "new"}})
    await portal.push()
    assert portal.written == [{"jobtitle": "new"}]


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_an_edit_taken_in_while_a_write_was_prepared_is_not_overwritten(company: Company):
    portal = await in_step(company, "old")
    await company.see(contact(title="from close", name="Ada"), SOMEBODY_NEW)

    async def edit() -> None:
        portal.properties["jobtitle"] = "from hubspot"
        await company.see(portal.shown())

    portal.meanwhile = edit
    await portal.push()
    assert portal.written == []
    assert (await company.record_of(THERE)).fields["title"] == "from hubspot"
    await portal.push()
    assert portal.written == []
    assert await company.marks() == {("close", "person"): 1}


@pytest.mark.parametrize("policy", ["review"])
async def test_a_field_held_while_a_write_was_prepared_is_not_written(company: Company):
    portal = await in_step(company, "old")
    await company.see(contact(title="from close", name="Ada"), SOMEBODY_NEW)

    async def edit() -> None:
        portal.properties["jobtitle"] = "from hubspot"
        await company.see(portal.shown())

    portal.meanwhile = edit
    await portal.push()
    await portal.push()
    assert portal.written == []
    assert await company.scalar("select count(*) from conflicts where state = 'open'") == 1


async def test_a_record_linked_while_its_create_was_prepared_is_no_riddle(company: Company):
    await company.see(contact(title="CEO", name="Ada"))
    portal = Portal(company, jobtitle="CEO", firstname="Ada")
    portal.meanwhile = lambda: company.see(portal.shown())
    await portal.push()
    assert await company.scalar("select count(*) from conflicts") == 0
    assert await company.scalar("select count(*) from outbox where state = 'dead'") == 0
    assert await company.scalar("select count(*) from records") == 1
    assert portal.written == []


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_our_own_write_is_no_edit_of_theirs_though_its_worker_died(company: Company):
    """The write arrived, its answer was never kept, and meanwhile Close moved on."""
    portal = await in_step(company, "old")
    await company.see(contact(title="new", name="Ada"))
    async with company.db.transaction() as db:
        await links.begin_writes(db, {THERE: {"title": "new"}})
    portal.properties["jobtitle"] = "new"
    await company.see(contact(title="newer still", name="Ada"))
    await portal.push()
    await portal.push()
    assert portal.written == [{"jobtitle": "newer still"}]
    assert (await company.record_of(THERE)).fields["title"] == "newer still"


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_what_our_own_create_left_behind_wins_no_conflict(company: Company):
    """… nor is what a create brought there an edit, though nobody kept its answer."""
    await company.see(contact(title="old", name="Ada"))
    record = await company.record_of(contact().ref)
    async with company.db.transaction() as db:
        (mark,) = await outbox.take(db, "hubspot", limit=9)
        await outbox.intend(db, [(mark, "trace", record.fields)])
    await company.see(contact(title="newer", name="Ada"))
    portal = Portal(company, jobtitle="old", firstname="Ada")
    await portal.push()
    await portal.push()
    assert portal.written == [{"jobtitle": "newer"}]
    assert (await company.record_of(contact().ref)).fields["title"] == "newer"


async def test_what_is_edited_in_our_own_create_before_its_answer_is_no_conflict(company: Company):
    """Its webhook, and the edit that it tells of, may come before the answer: close wins, and yet
    nobody in Close has said anything since.
    """
    await company.see(contact(2, name="Ben", email="ben@x.example", title="CEO"))
    portal = Portal(company)
    edited = hub_contact(2, email="ben@x.example", firstname="Ben", jobtitle="typed there")

    async def write(batch: Sequence[Write]) -> list[Outcome]:
        await company.see(edited)
        answer = hub_contact(2, email="ben@x.example", firstname="Ben", jobtitle="CEO")
        return [Outcome(one, edited.ref, answer) for one in batch]

    company.house.members["hubspot"].connector.write = write  # type: ignore[method-assign]
    await portal.push()
    await company.see(edited)
    assert (await company.link_of(edited.ref)).base["title"] == "typed there"
    assert (await company.record_of(edited.ref)).fields["title"] == "typed there"


async def test_what_somebody_merges_away_before_its_create_is_answered_is_the_survivors(
    company: Company,
):
    portal = await in_step(company, "CEO")
    await company.see(SOMEBODY_NEW)
    answer = hub_contact(2, email="ben@x.example", firstname="Ben")

    async def write(batch: Sequence[Write]) -> list[Outcome]:
        async with company.db.transaction() as db:
            await relink(db, answer.ref, THERE)
        return [Outcome(one, answer.ref, answer) for one in batch]

    company.house.members["hubspot"].connector.write = write  # type: ignore[method-assign]
    await portal.push()
    assert (await company.link_of(answer.ref)).state == "gone"
    ada, ben = await company.record_of(THERE), await company.record_of(SOMEBODY_NEW.ref)
    assert ada.id == ben.id
    assert await company.scalar("select count(*) from records where state = 'live'") == 1
