"""What is linked to a deal alone lies with the company of that deal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from app.db.engine import Database
from app.db.tables import outbox
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]

AT = "2026-01-13T09:30:00.000Z"


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control, more="  note: {}") as found:
        yield found


async def made(town: Town, type: str, *linked: tuple[str, str, int], **properties: str) -> str:
    """A record that somebody makes in HubSpot, linked to others by (type, id, type of link)."""
    body = {
        "properties": properties,
        "associations": [
            {
                "to": {"id": id},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": number}],
            }
            for _, id, number in linked
        ],
    }
    return str((await town.hubspot("POST", f"/crm/v3/objects/{type}", **body))["id"])


async def notes_of(town: Town, lead: str) -> list[Any]:
    found = await town.close("GET", f"/activity/note/?lead_id={lead}")
    return [row["note"] for row in found["data"]]


async def test_a_note_on_a_deal_alone_stands_on_the_lead_of_the_deal(town: Town):
    company = await made(town, "companies", name="Acme", domain="acme.example")
    deal = await made(town, "deals", ("companies", company, 5), dealname="Big", dealstage=STAGE)
    note = await made(town, "notes", ("deals", deal, 214), hs_note_body="Hi", hs_timestamp=AT)
    for said, id in (("company", company), ("deal", deal), ("note", note)):
        await told(town, said, id)
    await town.work()
    lead = await lead_of(town, company)
    assert await notes_of(town, lead) == ["Hi"]
    written = len(await town.wrote("hubspot"))
    await told(town, "note", note)
    await town.work()
    assert len(await town.wrote("hubspot")) == written  # it stays with its deal alone


async def test_a_note_on_a_deal_without_a_company_waits_and_says_why(town: Town):
    deal = await made(town, "deals", dealname="Big", dealstage=STAGE)
    note = await made(town, "notes", ("deals", deal, 214), hs_note_body="Hi", hs_timestamp=AT)
    await told(town, "deal", deal)
    await told(town, "note", note)
    await town.work()
    why = "a note needs a company in close, and neither it nor what it belongs to has one there"
    reason = outbox.c.error["reason"].astext
    async with town.db.transaction() as db:
        query = sa.select(outbox.c.state, reason).where(outbox.c.entity == "note")
        ((state, said),) = (await db.execute(query)).all()
    assert state == "pending"
    assert why in said

    company = await made(town, "companies", name="Acme", domain="acme.example")
    await town.hubspot(
        "PUT", f"/crm/v4/objects/deals/{deal}/associations/default/companies/{company}"
    )
    await told(town, "company", company)
    await town.hear_hubspot(
        "deal.associationChange",
        deal,
        associationType="DEAL_TO_COMPANY",
        fromObjectId=int(deal),
        toObjectId=int(company),
        associationRemoved=False,
        isPrimaryAssociation=True,
    )
    await town.work()
    assert await notes_of(town, await lead_of(town, company)) == ["Hi"]


STAGE = "appointmentscheduled"


async def told(town: Town, said: str, id: str) -> None:
    """The webhook of something that was made or linked."""
    if said == "note":
        body = {"objectTypeId": "0-46", "subscriptionType": "object.creation"}
        await town.hear_hubspot(body["subscriptionType"], id, objectTypeId=body["objectTypeId"])
    else:
        await town.hear_hubspot(f"{said}.creation", id)


async def lead_of(town: Town, company: str) -> str:
    record = await town.record_of(Ref("hubspot", "companies", company))
    query = sa.text("select remote_id from links where record_id = :id and account = 'close'")
    async with town.db.transaction() as db:
        return str((await db.execute(query, {"id": record.id})).scalar_one())
