"""What left a CRM since its directory was read is looked for once, then held or replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import links
from app.db.engine import Database
from app.db.tables import outbox
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]

OFF = "lead_status: {path: hs_lead_status, direction: off}"
ROWS = f"mapping: {{person: {{title: hs_lead_status, {OFF}}}}}"
GRACE = "grace@syncline.example"


def stages(there: str) -> str:
    """The deals' stages, Legal being this one in HubSpot."""
    return f"{{New: {{close: New, hubspot: appointmentscheduled}}, {_legal(there)}}}"


def _legal(there: str) -> str:
    return f"Legal: {{close: Paperwork, hubspot: {there}}}"


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control, hubspot=ROWS, stages=stages("contractsent")) as found:
        yield found


async def deal(town: Town, *, moves: bool = True) -> tuple[Ref, Ref]:
    """A deal in Close, which moves on to Paperwork unheard, and its counterpart in HubSpot."""
    status = await town.close("POST", "/status/opportunity/", label="Paperwork", type="active")
    lead = await town.close("POST", "/lead/", name="Acme", url="https://acme.example")
    made = await town.close("POST", "/opportunity/", lead_id=lead["id"], value=100)
    ref = Ref("close", "opportunity", made["id"])
    await town.hear_close("lead", "updated", lead["id"])
    await town.hear_close("opportunity", "updated", ref.id)
    await town.work()
    record = await town.record_of(ref)
    async with town.db.transaction() as db:
        there = {k.ref.account: k.ref for k in await links.by_record(db, [record.id])}
    if moves:
        await town.close("PUT", f"/opportunity/{ref.id}/", status_id=status["id"])
    return ref, there["hubspot"]


async def letters(town: Town) -> list[tuple[str, str, str]]:
    """(class, field, reason) of what waits for a person."""
    error = outbox.c.error
    query = sa.select(*(error[name].astext for name in ("class", "field", "reason")))
    async with town.db.transaction() as db:
        found = await db.execute(query.where(outbox.c.state == "dead"))
        return [(row[0], row[1], row[2]) for row in found]


async def shown(town: Town, there: Ref, name: str) -> Any:
    path = f"/crm/v3/objects/{there.type}/{there.id}?properties={name}"
    return (await town.hubspot("GET", path))["properties"][name]


async def test_a_stage_that_has_left_since_is_held_and_goes_once_it_is_mapped(
    town: Town, database: Database, control: Control
):
    ref, there = await deal(town)
    await town.hubspot("DELETE", "/crm/v3/pipelines/deals/default/stages/contractsent")
    await town.hear_close("opportunity", "updated", ref.id)
    await town.work()
    ((kind, field, reason),) = await letters(town)
    assert (kind, field) == ("HeldError", "stage")
    assert "'contractsent' does not exist there" in reason
    assert await shown(town, there, "dealstage") == "appointmentscheduled"

    async with founded(database, control, hubspot=ROWS, stages=stages("qualifiedtobuy")) as wiser:
        await wiser.wait()
        await wiser.work()
        assert await shown(wiser, there, "dealstage") == "qualifiedtobuy"
        assert await letters(wiser) == []


async def test_a_status_that_has_left_close_is_held_and_goes_once_it_is_there_again(town: Town):
    ref, there = await deal(town, moves=False)
    known = (await town.close("GET", "/status/opportunity/"))["data"]
    (paperwork,) = (one["id"] for one in known if one["label"] == "Paperwork")
    await town.close("DELETE", f"/status/opportunity/{paperwork}/")
    path = f"/crm/v3/objects/deals/{there.id}"
    await town.hubspot("PATCH", path, properties={"dealstage": "contractsent"})
    await town.hear_hubspot("deal.propertyChange", there.id, propertyName="dealstage")
    await town.work()
    ((kind, field, reason),) = await letters(town)
    assert (kind, field) == ("HeldError", "stage")
    assert "'Paperwork' does not exist there" in reason

    again = await town.close("POST", "/status/opportunity/", label="Paperwork", type="active")
    await town.house.learn("close", age=timedelta())
    await town.work()
    assert (await town.close("GET", f"/opportunity/{ref.id}/"))["status_id"] == again["id"]
    assert await letters(town) == []


async def test_an_option_that_has_left_since_is_held_and_goes_once_it_is_back(town: Town):
    contact, there = await town.ada()
    place = "/crm/v3/properties/contacts/hs_lead_status"
    options = (await town.hubspot("GET", place))["options"]
    await town.hubspot("PATCH", place, options=[o for o in options if o["value"] != "OPEN"])
    await town.close("PUT", f"/contact/{contact.id}/", title="OPEN")
    await town.hear_close("contact", "updated", contact.id)
    await town.work()
    ((kind, field, reason),) = await letters(town)
    assert (kind, field) == ("HeldError", "title")
    assert "'OPEN' is no option of hs_lead_status there" in reason

    await town.hubspot("PATCH", place, options=options)
    await town.house.ask_about("hubspot", {("hs_lead_status", "anything new")})
    await town.work()
    assert await shown(town, there, "hs_lead_status") == "OPEN"
    assert await letters(town) == []


async def test_an_owner_who_has_left_since_gets_nothing_and_it_is_no_trouble(town: Town):
    ref, there = await deal(town)
    users = (await town.close("GET", "/user/"))["data"]
    (grace,) = (one["id"] for one in users if one["email"] == GRACE)
    await works(town, active=False)
    await town.close("PUT", f"/opportunity/{ref.id}/", user_id=grace)
    await town.hear_close("opportunity", "updated", ref.id)
    await town.work()
    assert await letters(town) == []
    assert await shown(town, there, "dealstage") == "contractsent"  # the rest of it went
    assert (await town.record_of(ref)).fields["owner"] == GRACE

    await works(town, active=True)
    owners = (await town.hubspot("GET", "/crm/v3/owners"))["results"]
    (hers,) = (str(one["id"]) for one in owners if one["email"] == GRACE)
    assert await shown(town, there, "hubspot_owner_id") != hers
    await town.house.learn("hubspot", age=timedelta())
    await town.wait()
    await town.work()
    assert await shown(town, there, "hubspot_owner_id") == hers


async def works(town: Town, *, active: bool) -> None:
    """Grace joins HubSpot, or leaves it."""
    said = {"vendor": "hubspot", "email": GRACE, "active": active}
    await town.control.call("POST", "/_sandbox/users", json=said)


async def test_a_refusal_of_something_else_asks_for_no_directory(town: Town):
    contact, _ = await town.ada()
    await town.close("PUT", f"/contact/{contact.id}/", title="OPEN", name="Ada " + "x" * 70_000)
    before = await asked(town)
    await town.hear_close("contact", "updated", contact.id)
    await town.work()
    ((kind, _, _),) = await letters(town)
    assert kind == "RejectedError"
    assert await asked(town) == before


async def asked(town: Town) -> Any:
    query = "select directory_at from accounts where name = 'hubspot'"
    return await town.scalar(query)
