"""A create whose answer was lost, among records that look like what it may have made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from app.db import links, records
from app.db.engine import Database
from app.db.tables import outbox as marks
from app.domain.values import Outcome, Ref, Write
from app.sync.trouble import LanePaused
from tests.connectors.conftest import Control, control, sandbox
from tests.full.harness import until
from tests.sync.town import Town, founded, town

__all__ = ["control", "sandbox", "town"]


async def acme(town: Town, domain: str) -> Ref:
    """A lead of Close whose name many have, heard of."""
    lead = await town.close("POST", "/lead/", name="Acme", url=f"https://{domain}")
    await town.hear_close("lead", "created", lead["id"])
    return Ref("close", "lead", lead["id"])


async def lose_the_next_create(town: Town) -> None:
    """The connection breaks before HubSpot has seen it; then the search has caught up."""
    match = {"method": "POST", "path": "/crm/v3/objects/companies/batch/create"}
    await town.control.fault(vendor="hubspot", fault="drop_before", match=match, times=1)
    with pytest.raises(LanePaused):
        await town.work("hubspot")
    async with town.db.transaction() as db:
        ago = sa.text("intent_at - interval '1 minute'")
        lost = await db.execute(
            sa.update(marks).where(marks.c.intent.is_not(None)).values(intent_at=ago)
        )
        assert lost.rowcount == 1


async def companies(town: Town) -> list[str]:
    found = await town.hubspot("GET", "/crm/v3/objects/companies?properties=domain")
    return sorted(row["properties"]["domain"] for row in found["results"])


async def test_a_namesake_is_not_taken_for_what_a_lost_create_made(town: Town):
    await acme(town, "one.example")
    await town.work()
    await acme(town, "two.example")
    await lose_the_next_create(town)
    await town.work()
    assert await companies(town) == ["one.example", "two.example"]
    assert await town.scalar("select count(*) from outbox") == 0


async def test_a_namesake_that_nobody_has_met_is_not_linked_in_its_place(town: Town):
    await town.hubspot(
        "POST",
        "/crm/v3/objects/companies",
        properties={"name": "Acme", "domain": "one.example"},
    )
    lead = await acme(town, "two.example")
    await lose_the_next_create(town)
    await town.work()
    assert await companies(town) == ["one.example", "two.example"]
    record = await town.record_of(lead)
    assert record.fields["domain"] == "two.example"


async def stamping(town: Town) -> int:
    """Close keeps our ids; a company of HubSpot that it has as well."""
    await town.house.members["close"].connector.prepare()
    await town.house.learn("close")
    named = {"name": "Acme", "domain": "acme.example"}
    made = await town.hubspot("POST", "/crm/v3/objects/companies", properties=named)
    await town.hear_hubspot("company.creation", made["id"])
    await town.work()
    return int(made["id"])


async def deal_of(town: Town, company: int) -> Ref:
    """One of several deals that are all alike, heard of."""
    deal = {"dealname": "Engines", "amount": "100", "dealstage": "appointmentscheduled"}
    id = (await town.hubspot("POST", "/crm/v3/objects/deals", properties=deal))["id"]
    ends = f"/crm/v4/objects/deals/{id}/associations/default/companies"
    await town.hubspot("PUT", f"{ends}/{company}")
    await town.hear_hubspot("deal.creation", id)
    return Ref("hubspot", "deals", id)


async def lose_creates_of_deals(town: Town, times: int) -> None:
    lost = {"method": "POST", "path": "/opportunity/$"}
    await town.control.fault(vendor="close", fault="drop_after_commit", match=lost, times=times)
    begun = "select count(*) from outbox where intent is not null"
    for _ in range(9):
        with contextlib.suppress(LanePaused):
            await town.hurry("close")
        if await town.scalar(begun) == times:
            return
    raise AssertionError("the creates were never begun")


async def test_of_two_equal_deals_each_finds_the_one_that_was_made_for_it(
    database: Database, control: Control
):
    async with founded(database, control, close="external_id: Syncline id") as town:
        company = await stamping(town)
        deals = [await deal_of(town, company) for _ in range(2)]
        await lose_creates_of_deals(town, 2)
        await town.go_on()
        stamp = (await town.house.learn("close")).stamps["opportunity"]
        there = (await town.close("GET", "/opportunity/"))["data"]
        records = [await town.record_of(deal) for deal in deals]
        assert sorted(row[stamp] for row in there) == sorted(str(one.id) for one in records)
        for row in there:
            assert (
                str((await town.record_of(Ref("close", "opportunity", row["id"]))).id) == row[stamp]
            )
        assert await town.scalar("select count(*) from outbox") == 0
        assert await town.scalar("select count(*) from conflicts") == 0


async def test_what_was_made_for_a_record_that_is_merged_away_is_the_survivors(
    database: Database, control: Control
):
    """Its stamp names the one that is no more."""
    async with founded(database, control, close="external_id: Syncline id") as town:
        company = await stamping(town)
        lost = await deal_of(town, company)
        await lose_creates_of_deals(town, 1)
        kept = await deal_of(town, company)
        discarded = sa.delete(marks).where(marks.c.record_id == (await town.record_of(kept)).id)
        async with town.db.transaction() as db:  # a person has said that Close need not have it
            await db.execute(discarded)
        body = {"primaryObjectId": kept.id, "objectIdToMerge": lost.id}
        await town.hubspot("POST", "/crm/v3/objects/deals/merge", **body)
        told = {
            "primaryObjectId": int(kept.id),
            "mergedObjectIds": [int(lost.id)],
            "newObjectId": int(kept.id),
        }
        await town.hear_hubspot("deal.merge", kept.id, numberOfPropertiesMoved=0, **told)
        await town.go_on()
        (row,) = (await town.close("GET", "/opportunity/"))["data"]
        ref = Ref("close", "opportunity", row["id"])
        assert (await town.record_of(ref)).id == (await town.record_of(kept)).id
        assert await town.scalar("select count(*) from outbox") == 0


async def test_what_is_deleted_while_its_copy_is_made_elsewhere_does_not_return(town: Town):
    properties = {"name": "Acme", "domain": "acme.example"}
    companies = "/crm/v3/objects/companies"
    id = (await town.hubspot("POST", companies, properties=properties))["id"]
    await town.hear_hubspot("company.creation", id)
    lead = {"method": "POST", "path": "/lead/"}
    await town.control.fault(vendor="close", fault="drop_after_commit", match=lead, times=1)
    with pytest.raises(LanePaused):
        await town.work("close")
    assert await town.scalar("select count(*) from outbox where intent is not null") == 1
    await town.hubspot("DELETE", f"{companies}/{id}")
    await town.hear_hubspot("company.deletion", id)
    (made,) = (await town.close("GET", "/lead/"))["data"]
    await town.hear_close("lead", "created", made["id"])
    await town.work()
    assert await town.wrote("hubspot") == []
    assert await town.wrote("close") == ["create lead"]
    assert await town.state_of(Ref("close", "lead", made["id"])) == "live"


async def test_what_is_merged_into_what_an_unanswered_create_has_made_is_one_with_it(town: Town):
    first = await acme(town, "one.example")
    await town.work()
    second = await acme(town, "two.example")
    match = {"method": "POST", "path": "/crm/v3/objects/companies/batch/create"}
    fault = {"vendor": "hubspot", "fault": "drop_after_commit"}
    await town.control.fault(**fault, match=match, times=1)
    with pytest.raises(LanePaused):
        await town.work("hubspot")
    query = "/crm/v3/objects/companies?properties=domain"
    listed = (await town.hubspot("GET", query))["results"]
    ids = {row["properties"]["domain"]: int(row["id"]) for row in listed}
    lost, kept = ids["one.example"], ids["two.example"]
    body = {"primaryObjectId": str(kept), "objectIdToMerge": str(lost)}
    await town.hubspot("POST", "/crm/v3/objects/companies/merge", **body)
    told = {"primaryObjectId": kept, "mergedObjectIds": [lost], "newObjectId": kept}
    await town.hear_hubspot("company.merge", kept, numberOfPropertiesMoved=0, **told)
    await town.go_on()
    assert (await town.record_of(first)).id == (await town.record_of(second)).id
    assert await town.scalar("select count(*) from outbox") == 0
    assert await town.scalar("select count(*) from conflicts where kind <> 'merge'") == 0


async def test_an_answer_is_kept_though_another_worker_stands_in_the_way(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    ada, hers = await town.ada()
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    await town.hear_close("contact", "updated", ada.id)
    record = await town.record_of(ada)
    connector = town.house.members["hubspot"].connector
    write, locked = connector.write, asyncio.Event()

    async def cross() -> None:
        """The same locks the other way round: one of the two transactions is given up."""
        async with town.db.transaction() as db:
            await records.get(db, [record.id], lock=True)
            locked.set()
            await until(town.anybody_waits)
            await links.by_ref(db, [hers], lock=True)

    async def cross_the_answer(batch: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = await write(batch)
        crossing.append(asyncio.create_task(cross()))
        await locked.wait()
        return outcomes

    crossing: list[asyncio.Task[None]] = []
    with monkeypatch.context() as patch:
        patch.setattr(connector, "write", cross_the_answer)
        await town.work("hubspot")
    await asyncio.gather(*crossing)
    link = await town.link_of(hers)
    assert (link.base["title"], link.writing) == ("Countess", False)
    assert await town.marks() == {}
