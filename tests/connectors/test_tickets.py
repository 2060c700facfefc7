"""What is peculiar to the tickets of each system."""

from app.domain.values import Op
from app.sdk.connector import Connector
from tests.connectors.conftest import Control, good, make, write


async def test_a_ticket_of_hubspot_belongs_to_its_primary_company_and_its_people(
    hubspot: Connector,
):
    company = await make(hubspot, "company", {"name": "A", "domain": "a.example"})
    other = await make(hubspot, "company", {"name": "B", "domain": "b.example"})
    people = [
        await make(hubspot, "person", {"firstname": name, "email": f"{name}@a.example"})
        for name in ("ada", "bob")
    ]
    fields = {"subject": "It stalls", "hs_pipeline_stage": "1"}
    ticket = await make(hubspot, "ticket", fields, company=[company], people=people)
    (seen,) = await hubspot.read([ticket])
    assert seen.relations == {"company": (company,), "people": tuple(people)}
    good((await hubspot.write([write(hubspot, "ticket", {}, ref=ticket, company=[other])]))[0])
    (seen,) = await hubspot.read([ticket])
    assert seen.relations["company"] == (other,)


async def test_a_ticket_without_a_subject_gets_one_that_hubspot_demands(hubspot: Connector):
    ticket = await make(hubspot, "ticket", {"subject": None, "hs_pipeline_stage": "1"})
    (seen,) = await hubspot.read([ticket])
    assert seen.raw is not None
    assert seen.raw["subject"] == "(no subject)"


async def test_of_tickets_only_what_travels_is_asked_for(hubspot: Connector):
    assert [stage.kind for stage in (await hubspot.directory()).tickets[0].stages] == [
        *("open", "open", "open"),
        "closed",
    ]
    hubspot.properties = {"contacts": ()}
    assert (await hubspot.directory()).tickets == ()
    assert not [event for event in hubspot.wanted_events() if event.startswith("ticket.")]


async def test_two_tickets_of_hubspot_are_made_one(hubspot: Connector, control: Control):
    one, two = [
        await make(hubspot, "ticket", {"subject": name, "hs_pipeline_stage": "1"})
        for name in ("One", "Two")
    ]
    assert await hubspot.merge(one, two) == one
    (seen,) = await hubspot.read([two])
    assert (seen.ref, seen.asked) == (one, two)
    good((await hubspot.write([write(hubspot, "ticket", {}, ref=one, op=Op.DELETE)]))[0])
