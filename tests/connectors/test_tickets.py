"""What is peculiar to the tickets of each system."""

from dataclasses import replace

from app.domain.values import Op, Ref, RelationEdit
from app.sdk.connector import Connector
from tests.connectors.conftest import Control, good, make, write


def edit(*wanted: Ref, add: tuple[Ref, ...] = (), remove: tuple[Ref, ...] = ()) -> RelationEdit:
    return RelationEdit(wanted, add, remove)


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
    assert seen.relations == {
        "company": (company,),
        "companies": (company,),
        "people": tuple(people),
    }
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


async def test_a_case_is_about_an_account_and_one_contact(salesforce: Connector):
    account = await make(salesforce, "company", {"Name": "A"})
    ada, bob = [
        await make(salesforce, "person", {"LastName": name}, company=[account])
        for name in ("Ada", "Bob")
    ]
    wanted = write(salesforce, "ticket", {"Subject": "It stalls"}, company=[account])
    wanted = replace(
        wanted, relations={**wanted.relations, "people": edit(ada, bob, add=(ada, bob))}
    )
    stored = good((await salesforce.write([wanted]))[0]).stored
    assert stored is not None
    assert stored.relations == {"company": (account,), "people": (ada,)}
    assert stored.raw is not None
    assert stored.raw["Status"] == "New"
    case = stored.ref

    async def people(change: RelationEdit) -> tuple[Ref, ...]:
        told = replace(write(salesforce, "ticket", {}, ref=case), relations={"people": change})
        good((await salesforce.write([told]))[0])
        (seen,) = await salesforce.read([case])
        return seen.relations["people"]

    assert await people(edit(bob, ada, add=(bob,))) == (ada,)  # who joins changes nothing
    assert await people(edit(bob, remove=(ada,))) == (bob,)
    assert await people(edit(remove=(bob,))) == ()


async def test_a_case_of_a_queue_says_nothing_of_an_owner(salesforce: Connector, control: Control):
    case = await make(salesforce, "ticket", {"Subject": "It stalls"})
    path = "/salesforce/services/data/v66.0"
    query = {"q": "SELECT Id FROM Group WHERE Type = 'Queue'"}
    (queue,) = (await control.person("GET", f"{path}/query", params=query))["records"]
    body = {"OwnerId": queue["Id"]}
    await control.person("PATCH", f"{path}/sobjects/Case/{case.id}", json=body)
    (seen,) = await salesforce.read([case])
    assert seen.raw is not None
    assert "OwnerId" not in seen.raw


async def test_statuses_of_cases_are_stages_that_are_open_or_closed(salesforce: Connector):
    (cases,) = (await salesforce.directory()).tickets
    assert [(stage.name, stage.kind) for stage in cases.stages] == [
        ("New", "open"),
        ("Working", "open"),
        ("Escalated", "open"),
        ("Closed", "closed"),
    ]
    salesforce.properties = {"Account": ()}
    assert (await salesforce.directory()).tickets == ()


async def test_cases_are_looked_over_where_they_travel(salesforce: Connector):
    findings = {one.check: one.ok for one in await salesforce.check()}
    assert findings["read Case"]
    salesforce.properties = {"Account": ("Name",)}
    assert "read Case" not in {one.check for one in await salesforce.check()}


async def test_a_case_that_was_merged_is_the_one_that_is_left(
    salesforce: Connector, control: Control
):
    one, two = [await make(salesforce, "ticket", {"Subject": name}) for name in ("One", "Two")]
    body = {"master": one.id, "others": [two.id]}
    await control.person("POST", "/salesforce/merge", json=body)
    (seen,) = await salesforce.read([two])
    assert (seen.ref, seen.asked) == (one, two)
