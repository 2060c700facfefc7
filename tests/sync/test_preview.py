"""A dry run says what a run does: also of words nobody reads, and of who is gone unannounced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
import uuid_utils.compat as uuid

from app.clock import now
from app.db import foreseen
from app.db import resyncs as resyncs_of
from app.db.engine import Database
from app.db.journal import Cause
from app.db.tables import plan_items, resyncs
from app.domain.values import Observation, Ref
from app.sync.preview import Preview
from app.sync.resync import resync
from app.sync.world import Seen
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.test_deletes import a_deal_of_ada
from tests.sync.test_unread import mapped
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control, hubspot=mapped()) as found:
        yield found


async def rehearse(town: Town, account: str, *entities: str, ids: list[str] | None = None) -> Any:
    """What a dry run plans: (op, account, entity) with fields and reason."""
    name = uuid.uuid7()
    async with town.db.transaction() as db:
        row = {"account": account, "entities": list(entities), "ids": ids, "dry_run": True}
        await db.execute(sa.insert(resyncs).values(id=name, **row))
    for _ in range(len(entities) * 3):
        await town._turn(account, "scan", resync)
        if await town.scalar(f"select state = 'done' from resyncs where id = '{name}'"):
            break
    async with town.db.transaction() as db:
        found = await db.execute(
            sa.select(plan_items.c.item)
            .where(plan_items.c.resync_id == name)
            .order_by(plan_items.c.n)
        )
        return list(found.scalars())


async def test_a_dry_run_lists_the_options_that_nothing_names(town: Town):
    _, there = await town.ada()
    path = f"/crm/v3/objects/contacts/{there.id}"
    await town.hubspot("PATCH", path, properties={"hs_lead_status": "UNQUALIFIED"})
    (item,) = await rehearse(town, "hubspot", "person")
    assert (item["op"], item["account"], item["remote_id"]) == ("hold", "hubspot", there.id)
    assert item["fields"]["title"]["from"] == "UNQUALIFIED"
    assert "no value map names 'UNQUALIFIED'" in item["reason"]
    assert await town.scalar("select count(*) from conflicts") == 0


async def test_a_dry_run_asks_whether_whom_a_deal_lost_is_gone(town: Town):
    ada, _, here, there = await a_deal_of_ada(town)
    await town.close("DELETE", f"/contact/{ada.id}/")
    await town.close("PUT", f"/opportunity/{here.id}/", contact_id=None)
    assert await rehearse(town, "close", "deal", ids=[here.id]) == []
    assert (await town.link_of(ada)).state == "live"
    await town.close("PUT", f"/opportunity/{here.id}/", note="Engines")
    (item,) = await rehearse(town, "close", "deal", ids=[here.id])
    assert (item["remote_id"], item["fields"].keys()) == (there.id, {"description"})


async def test_a_dry_run_tells_of_whom_somebody_took_from_a_deal(town: Town):
    _, _, here, there = await a_deal_of_ada(town)
    await town.close("PUT", f"/opportunity/{here.id}/", contact_id=None)
    (item,) = await rehearse(town, "close", "deal", ids=[here.id])
    assert (item["remote_id"], item["fields"].keys()) == (there.id, {"people"})


async def test_who_is_merely_not_shown_is_taken_from_no_deal(town: Town, control: Control):
    ada, _, here, _ = await a_deal_of_ada(town)
    await town.close("PUT", f"/opportunity/{here.id}/", contact_id=None)
    hidden = {"vendor": "close", "fault": "status", "status": 404}
    await control.fault(**hidden, match={"path": f"/contact/{ada.id}/"})
    assert await rehearse(town, "close", "deal", ids=[here.id]) == []


async def test_a_page_knows_what_the_pages_before_would_make_whoever_works_on_it(town: Town):
    """As if each page were in the hands of another worker; nothing is remembered in between."""
    name, house = uuid.uuid7(), town.house
    async with town.db.transaction() as db:
        row = {"id": name, "account": "hubspot", "entities": ["company"], "dry_run": True}
        await db.execute(sa.insert(resyncs).values(**row))

    async def page(type: str, id: str, *companies: str, **raw: Any) -> tuple[str, Preview]:
        refs = tuple(Ref("hubspot", "companies", one) for one in companies)
        relations = {"company": refs[:1], "companies": refs} if type == "contacts" else {}
        shown = Observation(Ref("hubspot", type, id), raw, relations=relations)
        preview, moment = Preview(name), now()
        (said,) = await preview.see(house, [Seen(shown, Cause("resync", "1"), moment, moment)])
        async with town.db.transaction() as db:
            await foreseen.keep(db, name, preview.news())
        return said, preview

    said, first = await page("companies", "1", name="Acme", domain="acme.example")
    assert said == "created"
    said, _ = await page("companies", "1", name="Acme", domain="acme.example")
    assert said == "unchanged"
    said, second = await page("companies", "2", name="Other", domain="acme.example")
    assert said == "held"
    assert set(second.sights[0].candidates.values()) == first.made.keys()
    said, child = await page("contacts", "3", "1", email="ada@acme.example")
    assert said == "created"
    record = child.sights[0].record
    assert record is not None
    assert record.fields["company"] == str(next(iter(first.made)))
    async with town.db.transaction() as db:
        job = await resyncs_of.current(db, "hubspot")
        assert job is not None
        await resyncs_of.finish(db, job, "done")
    assert await town.scalar("select count(*) from foreseen") == 0
