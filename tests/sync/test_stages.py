"""Stages that nothing maps wait with a reason, and go by themselves once something does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.config import parse
from app.db import accounts, lanes, links
from app.db.accounts import Box
from app.db.engine import Database
from app.db.links import Link
from app.db.tables import outbox
from app.domain.values import Directory, Observation, Pipeline, Ref, Stage
from app.sdk.registry import Registry
from app.sync.house import House, build
from app.sync.push import push
from tests.sync.conftest import Company

ACCOUNTS = {
    "close": {"connector": "close", "credentials": {"api_key": "k"}},
    "hubspot": {"connector": "hubspot", "credentials": {"access_token": "t"}},
}
STAGES = {
    "New": {"close": "New", "hubspot": "start"},
    "Qualified": {"close": "Qualified", "hubspot": "qualified"},
}
DEAL, THERE = Ref("close", "opportunity", "oppo_1"), Ref("hubspot", "deals", "1")


def directory(prefix: str, *names: str) -> Directory:
    stages = tuple(Stage(f"{prefix}{n.lower()}", n, "open") for n in names)
    return Directory((Pipeline(f"{prefix}pipe", "Sales", stages),))


CLOSE = directory("stat_", "New", "Qualified", "Paperwork")
HUBSPOT = directory("", "Start", "Qualified", "Contract")


@pytest.fixture
async def registry() -> Registry:
    return Registry.load()


class Office:
    """The same database under one configuration after another."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self.database, self.registry = database, registry
        self.box = Box([SecretStr(Fernet.generate_key().decode())])
        self.houses: list[House] = []

    async def opens(self, stages: dict[str, Any], **close: Any) -> Company:
        """As after a (re)start with these stages, and more settings of Close."""
        config = parse(
            {
                "accounts": {**ACCOUNTS, "close": {**ACCOUNTS["close"], **close}},
                "sync": {"deal": {"stages": stages}},
            },
            lambda name: self.registry.connector(name).manifest.entities,
        )
        house = build(self.database, config, self.registry, self.box)
        async with self.database.transaction() as db:
            await accounts.register(db, {n: m.config.connector for n, m in house.members.items()})
        self.houses.append(house)
        return Company(house)

    async def shows(self, account: str, there: Directory) -> None:
        async with self.database.transaction() as db:
            await accounts.keep_directory(db, account, there)


@pytest.fixture
async def office(database: Database, registry: Registry) -> AsyncIterator[Office]:
    found = Office(database, registry)
    async with database.transaction() as db:
        await accounts.register(db, dict.fromkeys(ACCOUNTS, "close") | {"hubspot": "hubspot"})
    await found.shows("close", CLOSE)
    await found.shows("hubspot", HUBSPOT)
    yield found
    for house in found.houses:
        for member in house.members.values():
            await member.connector.aclose()


def deal(stage: str, **more: Any) -> Observation:
    """An opportunity of Close in this stage."""
    return Observation(DEAL, {"status_id": f"stat_{stage.lower()}", "value": 100, **more})


async def linked(company: Company) -> None:
    """A deal that stands in New in both."""
    await company.house.learn("close")
    await company.house.learn("hubspot")
    await company.see(deal("New"))
    record = await company.record_of(DEAL)
    base = {**record.fields, "pipeline": "Sales"}
    async with company.db.transaction() as db:
        await links.add(db, [Link.new(record.id, "deal", THERE, base, {}, None)])
    await company.clear()


async def pushed(company: Company, account: str) -> list[tuple[str, str | None]]:
    """One turn of the out-lane; the (state, reason) of each mark that is left."""
    async with company.db.transaction() as db:
        await lanes.wake(db, account, "out")
    async with company.db.transaction() as db:
        (lane,) = [
            lane
            for lane in await lanes.claim(db, "test", accounts=[account], limit=9, lease=30)
            if lane.direction == "out"
        ]
    await push(company.house, lane)
    async with company.db.transaction() as db:
        await lanes.release(db, lane, "test")
    return await marks(company)


async def marks(company: Company) -> list[tuple[str, str | None]]:
    query = sa.select(outbox.c.state, outbox.c.error["reason"].astext)
    async with company.db.transaction() as db:
        return [(state, reason) for state, reason in await db.execute(query)]


HELD = ("dead", "no stage there matches 'Paperwork'; map it under sync.deal.stages")


async def test_a_stage_that_nothing_maps_is_held_until_the_configuration_maps_it(office: Office):
    company = await office.opens(STAGES)
    await linked(company)
    await company.see(deal("Paperwork"))
    assert await pushed(company, "hubspot") == [HELD]

    again = await office.opens(STAGES)
    await again.house.learn("hubspot")
    assert await marks(again) == [HELD]  # nothing has changed

    wiser = await office.opens({**STAGES, "Legal": {"close": "Paperwork", "hubspot": "contract"}})
    await wiser.house.learn("hubspot")
    assert await marks(wiser) == [("pending", None)]


async def test_a_held_stage_goes_once_it_exists_there(office: Office):
    company = await office.opens(STAGES)
    await linked(company)
    await company.see(deal("Paperwork"))
    assert await pushed(company, "hubspot") == [HELD]

    await office.shows("hubspot", directory("", "Start", "Qualified", "Contract", "Paperwork"))
    await company.house.learn("hubspot")
    assert await marks(company) == [("pending", None)]


async def test_to_map_a_stage_is_no_edit_of_the_deals_that_stand_in_it(office: Office):
    company = await office.opens(STAGES)
    await linked(company)
    await company.see(deal("Paperwork"))
    await company.clear()
    wiser = await office.opens({**STAGES, "Legal": {"close": "Paperwork", "hubspot": "contract"}})
    await wiser.house.learn("close")
    (answer,) = await wiser.see(deal("Paperwork", value=100))
    assert getattr(answer, "result", answer) == "unchanged"
    assert await wiser.marks() == {}


async def test_a_value_that_is_no_option_there_is_held_until_it_is_one(office: Office):
    mapping = {"company": {"industry": "custom.cf_industry"}}
    company = await office.opens({}, mapping=mapping)
    await office.shows("hubspot", replace(HUBSPOT, options={"company": {"industry": ["RETAIL"]}}))
    await company.house.learn("hubspot")
    lead = Observation(Ref("close", "lead", "lead_1"), {"name": "Acme"})
    await company.see(lead)
    record = await company.record_of(lead.ref)
    there = Ref("hubspot", "companies", "1")
    async with company.db.transaction() as db:
        await links.add(db, [Link.new(record.id, "company", there, record.fields, {}, None)])
    await company.clear()
    assert lead.raw is not None
    await company.see(replace(lead, raw={**lead.raw, "custom.cf_industry": "Shops"}))
    ((state, reason),) = await pushed(company, "hubspot")
    assert state == "dead"
    assert "'Shops' is no option of industry there" in str(reason)

    wider = {"company": {"industry": ["RETAIL", "Shops"]}}
    await office.shows("hubspot", replace(HUBSPOT, options=wider))
    await company.house.learn("hubspot")
    assert await marks(company) == [("pending", None)]


async def test_all_that_is_held_is_named_with_its_reason(office: Office):
    company = await office.opens(STAGES)
    await office.shows("hubspot", replace(HUBSPOT, options={"deal": {"description": ["New"]}}))
    await linked(company)
    await company.see(deal("Paperwork", note="Anything"))
    assert await pushed(company, "hubspot") == [
        (
            "dead",
            "stage: no stage there matches 'Paperwork'; map it under sync.deal.stages; "
            "description: 'Anything' is no option of description there; name it under `values` "
            "of its row, or add the option",
        )
    ]
