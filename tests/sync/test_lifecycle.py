"""A stage that is cleared before it is set, by a worker that dies between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from app.db import outbox, records
from app.db.engine import Database
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]


class Killed(BaseException):
    """The worker is no more."""


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control, hubspot="lifecycle: clear") as found:
        yield found


async def test_a_restart_finishes_what_a_worker_died_over(town: Town):
    _, ada = await town.ada()
    path = f"/crm/v3/objects/contacts/{ada.id}"
    await town.hubspot("PATCH", path, properties={"lifecyclestage": "customer"})
    await town.hear_hubspot("contact.propertyChange", ada.id, propertyName="lifecyclestage")
    hubspot = town.house.members["hubspot"].connector
    call = hubspot.client.call
    written: list[str] = []

    async def dies(method: str, target: str, **more: object) -> object:
        if written:
            raise Killed
        answer = await call(method, target, **more)
        written.extend([target] if target.endswith("/batch/update") else [])
        return answer

    hubspot.client.call = dies
    await in_our_record(town, ada, "lead")
    with pytest.raises(Killed):
        await town.work("hubspot")
    hubspot.client.call = call
    assert await stage(town, ada) == ""

    await town.hear_hubspot("contact.propertyChange", ada.id, propertyName="lifecyclestage")
    await town.work()
    assert await stage(town, ada) == "lead"
    assert (await town.record_of(ada)).fields["lifecycle_stage"] == "lead"


async def stage(town: Town, who: Ref) -> str:
    path = f"/crm/v3/objects/contacts/{who.id}?properties=lifecyclestage"
    return str((await town.hubspot("GET", path))["properties"]["lifecyclestage"] or "")


async def in_our_record(town: Town, who: Ref, value: str) -> None:
    """As if a third account had moved it."""
    record = await town.record_of(who)
    async with town.db.transaction() as db:
        await db.execute(
            sa.text(
                "update records set version = version + 1,"
                " fields = fields || jsonb_build_object('lifecycle_stage', cast(:v as text))"
                " where id = :id"
            ),
            {"id": record.id, "v": value},
        )
        fresh = (await records.get(db, [record.id]))[record.id]
        await outbox.mark(db, {("hubspot", record.id): fresh})
