"""What was told in words of a CRM is told anew once there are better words: a user, a stage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.db import links
from app.db.engine import Database
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]

ALAN, GRACE, MARY = "alan@syncline.example", "grace@syncline.example", "mary@syncline.example"
STAND_IN = pytest.mark.parametrize("owners", [f"{{default: {GRACE}}}"])


@pytest.fixture
def owners() -> str:
    """Who stands in for whom in HubSpot."""
    return "{}"


@pytest.fixture
async def town(database: Database, control: Control, owners: str) -> AsyncIterator[Town]:
    async with founded(database, control, hubspot=f"owners: {owners}") as found:
        yield found


async def joins(town: Town, vendor: str, email: str) -> None:
    """Somebody gets a user in a CRM, and the next look at its people finds that."""
    await town.control.call("POST", "/_sandbox/users", json={"vendor": vendor, "email": email})
    await town.house.learn(vendor, age=timedelta())
    await town.wait()


async def user(town: Town, email: str) -> str:
    found = (await town.close("GET", "/user/"))["data"]
    return next(str(one["id"]) for one in found if one["email"] == email)


async def owner(town: Town, email: str) -> str:
    found = (await town.hubspot("GET", "/crm/v3/owners"))["results"]
    return next(str(one["id"]) for one in found if one["email"] == email)


async def marys_deal(town: Town) -> tuple[Ref, Ref]:
    """A deal of Mary, who has a user in Close alone, and its counterpart in HubSpot."""
    await joins(town, "close", MARY)
    lead = await town.close("POST", "/lead/", name="Acme", url="https://acme.example")
    deal = await town.close(
        "POST", "/opportunity/", lead_id=lead["id"], user_id=await user(town, MARY), value=100
    )
    ref = Ref("close", "opportunity", deal["id"])
    await town.hear_close("lead", "updated", lead["id"])
    await town.hear_close("opportunity", "updated", ref.id)
    await town.work()
    return ref, await counterpart(town, ref)


async def counterpart(town: Town, ref: Ref) -> Ref:
    """The same record in HubSpot."""
    record = await town.record_of(ref)
    async with town.db.transaction() as db:
        there = {k.ref.account: k.ref for k in await links.by_record(db, [record.id])}
    return there["hubspot"]


async def named_status(town: Town, name: str) -> str:
    """The status of that name, made if there is none."""
    known = (await town.close("GET", "/status/opportunity/"))["data"]
    found = next((one for one in known if one["label"] == name), None)
    if found is None:
        found = await town.close("POST", "/status/opportunity/", label=name, type="active")
    return str(found["id"])


async def owner_of(town: Town, deal: Ref) -> Any:
    path = f"/crm/v3/objects/deals/{deal.id}?properties=hubspot_owner_id"
    return (await town.hubspot("GET", path))["properties"]["hubspot_owner_id"] or None


@STAND_IN
async def test_who_gets_a_user_there_takes_over_from_who_stood_in(town: Town):
    _, there = await marys_deal(town)
    assert await owner_of(town, there) == await owner(town, GRACE)
    written = len(await town.wrote("hubspot"))
    await joins(town, "hubspot", MARY)
    await town.work()
    assert await owner_of(town, there) == await owner(town, MARY)
    assert (await town.wrote("hubspot"))[written:] == ["update deals"]


async def test_who_gets_a_user_there_becomes_the_owner_of_what_had_none(town: Town):
    deal, there = await marys_deal(town)
    assert await owner_of(town, there) is None
    await town.hear_hubspot("deal.propertyChange", there.id, propertyName="amount")
    await town.work()
    assert (await town.record_of(deal)).fields["owner"] == MARY  # nobody there is no edit
    await joins(town, "hubspot", MARY)
    await town.work()
    assert await owner_of(town, there) == await owner(town, MARY)


@STAND_IN
async def test_what_somebody_was_given_meanwhile_stays_theirs(town: Town):
    deal, there = await marys_deal(town)
    alan = await owner(town, ALAN)
    path = f"/crm/v3/objects/deals/{there.id}"
    await town.hubspot("PATCH", path, properties={"hubspot_owner_id": alan})
    await town.hear_hubspot("deal.propertyChange", there.id, propertyName="hubspot_owner_id")
    await joins(town, "hubspot", MARY)
    await town.work()
    assert await owner_of(town, there) == alan
    assert (await town.close("GET", f"/opportunity/{deal.id}/"))["user_id"] == await user(
        town, ALAN
    )


@STAND_IN
async def test_an_edit_that_no_webhook_told_yet_is_not_overwritten_either(town: Town):
    _, there = await marys_deal(town)
    alan = await owner(town, ALAN)
    path = f"/crm/v3/objects/deals/{there.id}"
    await town.hubspot("PATCH", path, properties={"hubspot_owner_id": alan})
    await joins(town, "hubspot", MARY)
    await town.work()
    assert await owner_of(town, there) == alan


# --- stages ------------------------------------------------------------------------------------

STAGES = "{Legal: {close: Proposal Sent, hubspot: contractsent}}"


async def stage_of(town: Town, deal: Ref) -> Any:
    return (await town.hubspot("GET", f"/crm/v3/objects/deals/{deal.id}"))["properties"][
        "dealstage"
    ]


async def test_a_deal_met_by_class_moves_once_its_stage_is_mapped(
    town: Town, database: Database, control: Control
):
    lead = await town.close("POST", "/lead/", name="Acme", url="https://acme.example")
    status = await named_status(town, "Proposal Sent")
    deal = await town.close("POST", "/opportunity/", lead_id=lead["id"], status_id=status)
    await town.hear_close("lead", "updated", lead["id"])
    await town.hear_close("opportunity", "updated", deal["id"])
    await town.work()
    there = await counterpart(town, Ref("close", "opportunity", deal["id"]))
    assert await stage_of(town, there) == "appointmentscheduled"  # an open one, like any other

    async with founded(database, control, stages=STAGES) as wiser:
        await wiser.wait()
        await wiser.work()
        assert await stage_of(wiser, there) == "contractsent"
        assert await wiser.marks() == {}
