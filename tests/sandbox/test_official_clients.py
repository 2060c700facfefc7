"""The vendors' own Python clients must work against the sandbox."""

from collections.abc import Iterator
from typing import Any

import closeio_api
import pytest
from hubspot import HubSpot
from hubspot.crm import associations, contacts, deals, properties, tickets
from hubspot.crm.associations.v4 import models as v4

from tests.sandbox.conftest import CLOSE, HUBSPOT

# The clients leave their connection pools to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def api(base: str) -> Iterator[Any]:
    client = closeio_api.API(f"{base}/close/api/v1/", CLOSE.api_key, max_retries=1)
    yield client
    client.session.close()


@pytest.fixture
def hub(base: str) -> Any:
    return HubSpot(access_token=HUBSPOT.token, host=f"{base}/hubspot", retry=0)


def test_closeio_creates_reads_changes_and_deletes(api: Any, ada: dict[str, Any]) -> None:
    lead = api.post("lead", ada)
    assert lead["contacts"][0]["emails"][0]["email"] == "ada@analytical.example"
    assert api.put(f"lead/{lead['id']}", {"url": "https://a.example"})["name"] == "Analytical"
    deal = api.post("opportunity", {"lead_id": lead["id"], "value": 100_000})
    assert deal["value_formatted"] == "$1,000"
    assert api.get("contact", {"lead_id": lead["id"]})["data"][0]["name"] == "Ada Lovelace"
    assert api.delete(f"opportunity/{deal['id']}") == {}
    with pytest.raises(closeio_api.APIError):
        api.get(f"opportunity/{deal['id']}")


def test_closeio_reads_validation_errors(api: Any) -> None:
    with pytest.raises(closeio_api.ValidationError) as refused:
        api.post("opportunity", {"value": 10.5})
    assert refused.value.field_errors == {"value": "Expected an integer."}


def test_closeio_pages_events_and_webhooks(api: Any) -> None:
    for number in range(3):
        api.post("lead", {"name": f"Lead {number}"})
    page = api.get("lead", {"_limit": 2})
    assert (len(page["data"]), page["has_more"]) == (2, True)
    assert [e["data"]["name"] for e in api.get("event", {"_limit": 2})["data"]] == [
        "Lead 2",
        "Lead 1",
    ]
    wanted = {
        "url": "http://127.0.0.1:9/",
        "events": [{"object_type": "lead", "action": "updated"}],
    }
    made = api.post("webhook", wanted)
    assert len(bytes.fromhex(made["signature_key"])) == 32
    assert api.delete(f"webhook/{made['id']}") == ""


def test_hubspot_client_handles_contacts(hub: Any) -> None:
    basic = hub.crm.contacts.basic_api
    wanted = contacts.SimplePublicObjectInputForCreate(properties={"email": "ada@a.example"})
    made = basic.create(wanted)
    change = contacts.SimplePublicObjectInput(properties={"firstname": "Ada"})
    basic.update(made.id, change)
    found = basic.get_by_id("ada@a.example", id_property="email", properties=["firstname", "phone"])
    assert (found.id, found.properties["firstname"]) == (made.id, "Ada")
    assert found.properties["phone"] is None
    basic.archive(made.id)
    assert [c.id for c in basic.get_page(archived=True).results] == [made.id]


def test_hubspot_client_searches_and_batches(hub: Any) -> None:
    rows = [
        contacts.SimplePublicObjectBatchInputForCreate(properties={"email": f"p{n}@a.example"})
        for n in range(3)
    ]
    batch = hub.crm.contacts.batch_api
    made = batch.create(contacts.BatchInputSimplePublicObjectBatchInputForCreate(inputs=rows))
    assert len(made.results) == 3
    upsert = contacts.SimplePublicObjectBatchInputUpsert(
        id="p1@a.example", id_property="email", properties={"lastname": "One"}
    )
    again = batch.upsert(contacts.BatchInputSimplePublicObjectBatchInputUpsert(inputs=[upsert]))
    assert [row.new for row in again.results] == [False]
    group = {"filters": [{"propertyName": "lastname", "operator": "EQ", "value": "ONE"}]}
    search = contacts.PublicObjectSearchRequest(filter_groups=[group], limit=10)
    found = hub.crm.contacts.search_api.do_search(search)
    assert [row.properties["email"] for row in found.results] == ["p1@a.example"]
    wanted = contacts.BatchReadInputSimplePublicObjectId(
        inputs=[{"id": found.results[0].id}], properties=["email"], properties_with_history=[]
    )
    assert len(batch.read(wanted).results) == 1


def test_hubspot_client_associates(hub: Any) -> None:
    company = hub.crm.companies.basic_api.create({"properties": {"name": "Analytical"}})
    link = {
        "to": {"id": company.id},
        "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 5}],
    }
    wanted = deals.SimplePublicObjectInputForCreate(
        properties={"dealname": "Engine", "dealstage": "appointmentscheduled"}, associations=[link]
    )
    deal = hub.crm.deals.basic_api.create(wanted)
    api = hub.crm.associations.v4.basic_api
    ends = api.get_page("deals", deal.id, "companies").results
    assert sorted(t.type_id for t in ends[0].association_types) == [5, 341]
    person = hub.crm.contacts.basic_api.create({"properties": {"email": "ada@a.example"}})
    api.create_default("contacts", person.id, "companies", company.id)
    labelled = [v4.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=1)]
    api.create("contacts", person.id, "companies", company.id, labelled)
    asked = v4.BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": person.id}])
    read = hub.crm.associations.v4.batch_api.get_page("contacts", "companies", asked)
    assert sorted(t.type_id for t in read.results[0].to[0].association_types) == [1, 279]
    old = associations.BatchInputPublicObjectId(inputs=[{"id": person.id}])
    rows = hub.crm.associations.batch_api.read("contacts", "companies", old).results
    assert {row.type for row in rows[0].to} == {
        "contact_to_company",
        "contact_to_company_unlabeled",
    }
    api.archive("contacts", person.id, "companies", company.id)
    assert not api.get_page("contacts", person.id, "companies").results


def test_hubspot_client_handles_tickets(hub: Any) -> None:
    (pipeline,) = hub.crm.pipelines.pipelines_api.get_all("tickets").results
    states = [(stage.label, stage.metadata["ticketState"]) for stage in pipeline.stages]
    assert (pipeline.id, states[0], states[-1]) == ("0", ("New", "OPEN"), ("Closed", "CLOSED"))
    company = hub.crm.companies.basic_api.create({"properties": {"name": "Analytical"}})
    link = {
        "to": {"id": company.id},
        "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 26}],
    }
    wanted = tickets.SimplePublicObjectInputForCreate(
        properties={"subject": "It stalls", "hs_pipeline": "0", "hs_pipeline_stage": "1"},
        associations=[link],
    )
    made = hub.crm.tickets.basic_api.create(wanted)
    change = tickets.SimplePublicObjectInput(properties={"hs_ticket_priority": "URGENT"})
    assert hub.crm.tickets.basic_api.update(made.id, change).properties["subject"] == "It stalls"
    ends = hub.crm.associations.v4.basic_api.get_page("tickets", made.id, "companies").results
    assert sorted(t.type_id for t in ends[0].association_types) == [26, 339]
    with pytest.raises(tickets.exceptions.ApiException) as refused:
        hub.crm.tickets.basic_api.create(
            tickets.SimplePublicObjectInputForCreate(properties={"subject": "x"}, associations=[])
        )
    assert refused.value.status == 400
    group = {"filters": [{"propertyName": "subject", "operator": "EQ", "value": "it stalls"}]}
    search = tickets.PublicObjectSearchRequest(filter_groups=[group], limit=10)
    assert hub.crm.tickets.search_api.do_search(search).total == 1
    hub.crm.tickets.basic_api.archive(made.id)


def test_hubspot_client_reads_pipelines_owners_and_properties(hub: Any) -> None:
    (pipeline,) = hub.crm.pipelines.pipelines_api.get_all("deals").results
    assert (pipeline.id, pipeline.stages[-2].metadata["probability"]) == ("default", "1.0")
    (owner,) = hub.crm.owners.owners_api.get_page(email="grace@syncline.example").results
    assert owner.first_name == "Grace"
    wanted = properties.PropertyCreate(
        name="syncline_id",
        label="Syncline id",
        type="string",
        field_type="text",
        group_name="contactinformation",
        has_unique_value=True,
    )
    hub.crm.properties.core_api.create("contacts", wanted)
    assert hub.crm.properties.core_api.get_by_name("contacts", "syncline_id").has_unique_value
    hub.crm.contacts.basic_api.create({"properties": {"lastname": "X", "syncline_id": "s1"}})
    found = hub.crm.contacts.basic_api.get_by_id("s1", id_property="syncline_id")
    assert found.properties["lastname"] == "X"
