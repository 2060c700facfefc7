"""Entities of one's own: an object of one org is another object of another org."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, PersonAtSalesforce, World

TOOLING = "/tooling/sobjects/CustomField"


async def a_field(org: PersonAtSalesforce, name: str, type: str, **metadata: Any) -> None:
    body = {"FullName": name, "Metadata": {"type": type, "label": name, **metadata}}
    await org.call("POST", f"{org.data}{TOOLING}", body)


async def our_id(org: PersonAtSalesforce, type: str) -> None:
    await a_field(org, f"{type}.Syncline_Id__c", "Text", length=36, unique=True, externalId=True)


async def projects(org: PersonAtSalesforce, type: str, names: Sequence[str]) -> None:
    """An object of the org's own, its fields by their names there, with a field for our id."""
    code, budget, due, status, customer = names
    await org.call("POST", "/custom-objects", {"name": type})
    await a_field(org, f"{type}.{code}__c", "Text", length=20)
    await a_field(org, f"{type}.{budget}__c", "Currency", precision=12, scale=2)
    await a_field(org, f"{type}.{due}__c", "Date")
    await a_field(org, f"{type}.{status}__c", "Text", length=40)
    await a_field(
        org,
        f"{type}.{customer}__c",
        "Lookup",
        referenceTo="Account",
        relationshipName=f"{customer}s",
    )
    await our_id(org, type)


def second_org(url: str) -> Json:
    return {**harness.salesforce_settings(url), "external_id": "Syncline_Id__c"}


OBJECTS: Json = {
    "salesforce": {
        "objects": {"custom.project": {"type": "Project__c", "company": "Customer__c"}},
        "mapping": {
            "custom.project": {
                "name": "Name",
                "code": "Code__c",
                "budget": {"path": "Budget__c", "as": "json_decimal"},
                "due": {"path": "Due__c", "as": "date"},
                "status": {
                    "path": "Status__c",
                    "values": {"running": "In Progress", "ended": "Closed"},
                },
            }
        },
    },
    "second": {
        "objects": {"custom.project": {"type": "Vorhaben__c", "company": "Kunde__c"}},
        "mapping": {
            "custom.project": {
                "name": "Name",
                "code": "Nummer__c",
                "budget": {"path": "Etat__c", "as": "json_decimal"},
                "due": {"path": "Ende__c", "as": "date"},
                "status": {"path": "Stand__c", "values": {"running": "läuft", "ended": "fertig"}},
            }
        },
    },
}


@pytest_asyncio.fixture
async def orgs(
    tmp_path: Path, databases: Databases
) -> AsyncIterator[tuple[World, PersonAtSalesforce]]:
    """A world whose two Salesforce orgs keep projects, and the people of the second."""
    (tmp_path / "second").mkdir()
    signed = ("--salesforce-client-id", harness.SALESFORCE_CLIENT)
    async with (
        databases() as own,
        harness.crms(tmp_path / "second", harness.free_port(), *signed) as second,
    ):

        async def prepare(first: harness.Crms) -> None:
            english = ("Code", "Budget", "Due", "Status", "Customer")
            german = ("Nummer", "Etat", "Ende", "Stand", "Kunde")
            await projects(first.salesforce, "Project__c", english)
            await projects(second.salesforce, "Vorhaben__c", german)

        async with harness.world(
            tmp_path,
            own,
            accounts={
                "salesforce": {**OBJECTS["salesforce"], "external_id": "Syncline_Id__c"},
                "second": {
                    **second_org(second.url),
                    **OBJECTS["second"],
                    "catch_up": {"every": 1},
                },
            },
            config={"sync": {"custom.project": {"keys": ["code"]}}},
            prepare=prepare,
        ) as found:
            yield found, second.salesforce


async def test_an_object_of_ones_own_travels_both_ways_with_its_company(
    orgs: tuple[World, PersonAtSalesforce], company: Company
) -> None:
    world, there = orgs
    here = world.salesforce
    for account in ("salesforce", "second"):
        await world.syncline.resync(account=account)
    customer = await here.create("Account", Name=company.name, Website=f"https://{company.domain}")
    project = await here.create(
        "Project__c",
        Name="Roof",
        Code__c="P-1",
        Budget__c=1250.5,
        Due__c="2027-03-31",
        Status__c="In Progress",
        Customer__c=customer,
    )
    await world.quiet()
    (found,) = await there.all("Vorhaben__c")
    assert {n: found[n] for n in ("Name", "Nummer__c", "Etat__c", "Ende__c", "Stand__c")} == {
        "Name": "Roof",
        "Nummer__c": "P-1",
        "Etat__c": 1250.5,
        "Ende__c": "2027-03-31",
        "Stand__c": "läuft",
    }
    (twin,) = await there.find("Account", Name=company.name)
    assert found["Kunde__c"] == twin["Id"]

    # … and back: the second org tells nothing by itself, its catch-up finds it.
    await there.edit("Vorhaben__c", found["Id"], Stand__c="fertig", Etat__c=None)

    async def came_back() -> bool:
        row = await here.read("Project__c", project)
        return row["Status__c"] == "Closed" and row["Budget__c"] is None

    await harness.until(came_back, why=world.syncline.explain)
    await there.delete("Vorhaben__c", found["Id"])

    async def told() -> bool:
        record = await world.syncline.record("salesforce", project, "custom.project")
        links = {link["account"]: link["state"] for link in record["links"]}
        return links == {"salesforce": "live", "second": "gone"}

    await harness.until(told, why=world.syncline.explain)
    assert (await here.read("Project__c", project))["Name"] == "Roof"
    assert await world.syncline.dead_letters() == []
    rows = await world.syncline.sql("select entity_type, salesforce_id from crm_sync_records")
    assert {"entity_type": "custom.project", "salesforce_id": project} in rows


async def test_projects_that_both_orgs_have_are_linked_by_their_key(
    orgs: tuple[World, PersonAtSalesforce],
) -> None:
    world, there = orgs
    await world.crms.weather(paused=True)
    await world.salesforce.create("Project__c", Name="Roof", Code__c="P-1")
    await there.create("Vorhaben__c", Name="Roof", Nummer__c="P-1", Stand__c="läuft")
    for account in ("salesforce", "second"):
        await world.syncline.resync(account=account, entity="custom.project")
    await world.worked()
    (project,) = await world.salesforce.all("Project__c")
    assert project["Status__c"] == "In Progress"
    assert len(await there.all("Vorhaben__c")) == 1
