"""What is deleted and restored before anybody has met it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db.engine import Database
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control) as found:
        yield found


async def hear_at_once(town: Town, id: str, *said: str) -> None:
    """One delivery with all of these events of a company."""
    about = {"portalId": 62515, "subscriptionId": 1, "objectId": int(id)}
    events = [
        {**about, "subscriptionType": f"company.{what}", "eventId": number, "occurredAt": number}
        for number, what in enumerate(said, start=1_770_000_000_000)
    ]
    await town.tell("hubspot", events)


async def made(town: Town) -> str:
    properties = {"name": "Acme", "domain": "acme.example"}
    path = "/crm/v3/objects/companies"
    return str((await town.hubspot("POST", path, properties=properties))["id"])


async def test_what_was_restored_before_we_heard_of_it_is_met_all_the_same(town: Town):
    id = await made(town)
    await hear_at_once(town, id, "creation", "deletion", "restore")
    await town.work()
    record = await town.record_of(Ref("hubspot", "companies", id))
    assert record.fields["name"] == "Acme"
    assert await town.wrote("close") == ["create lead"]


async def test_what_came_and_went_before_we_heard_of_it_is_nobodys_business(town: Town):
    id = await made(town)
    await town.hubspot("DELETE", f"/crm/v3/objects/companies/{id}")
    await hear_at_once(town, id, "creation", "deletion")
    await town.work()
    assert await town.wrote("close") == []
    assert await town.scalar("select count(*) from records") == 0
