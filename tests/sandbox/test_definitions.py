"""Properties and custom fields: what they are, what they may hold, what they held."""

import json
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.sandbox.conftest import HUBSPOT
from tests.sandbox.test_hubspot import OBJECTS, _create

CONTACTS = "/crm/v3/properties/contacts"
SIZE = {
    "name": "size",
    "label": "Size",
    "type": "enumeration",
    "fieldType": "select",
    "groupName": "contactinformation",
    "options": [{"label": label, "value": label.lower()} for label in ("Small", "Large")],
}


async def test_a_definition_says_what_can_be_written(hubspot: httpx.AsyncClient) -> None:
    async def read(path: str) -> dict[str, Any]:
        return dict((await hubspot.get(f"/crm/v3/properties/{path}")).json())

    closed = await read("deals/hs_is_closed")
    assert (closed["calculated"], closed["modificationMetadata"]["readOnlyValue"]) == (True, True)
    stage = await read("deals/dealstage")
    assert (stage["externalOptions"], stage["options"]) == (True, [])
    assert stage["modificationMetadata"]["readOnlyOptions"]
    status = await read("contacts/hs_lead_status")
    assert status["modificationMetadata"] == {
        "archivable": False,
        "readOnlyDefinition": True,
        "readOnlyOptions": False,
        "readOnlyValue": False,
    }
    assert [option["value"] for option in status["options"]][:2] == ["NEW", "OPEN"]
    assert (await read("contacts/email"))["hasUniqueValue"]


async def test_options_are_added_by_replacing_all(hubspot: httpx.AsyncClient) -> None:
    made = await hubspot.post(CONTACTS, json=SIZE)
    assert (made.status_code, made.json()["options"][1]["displayOrder"]) == (201, 1)
    wrong = {"properties": {"lastname": "X", "size": "huge"}}
    refused = await hubspot.post(f"{OBJECTS}/contacts", json=wrong)
    assert refused.status_code == 400
    text = "huge was not one of the allowed options: [small, large]"
    body = refused.json()
    assert body["errors"][0] == {
        "message": text,
        "code": "INVALID_OPTION",
        "context": {"propertyName": ["size"]},
    }
    assert json.loads(body["message"].partition(": ")[2]) == [
        {
            "isValid": False,
            "message": text,
            "error": "INVALID_OPTION",
            "name": "size",
            "localizedErrorMessage": text,
            "portalId": HUBSPOT.portal_id,
        }
    ]
    options = [*made.json()["options"], {"label": "Huge", "value": "huge", "hidden": False}]
    changed = await hubspot.patch(f"{CONTACTS}/size", json={"options": options})
    assert [option["value"] for option in changed.json()["options"]] == ["small", "large", "huge"]
    assert (await hubspot.post(f"{OBJECTS}/contacts", json=wrong)).status_code == 201
    more = [{"label": "Cold", "value": "COLD"}]
    answer = await hubspot.patch(f"{CONTACTS}/hs_lead_status", json={"options": more})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"groupName": "nowhere"},
        {"options": []},
        {"options": [{"label": "A", "value": "a"}, {"label": "B", "value": "a"}]},
        {"options": [{"label": "A"}]},
        {"fieldType": "text"},
        {"type": "string", "fieldType": "text"},
        {"name": "Size"},
        {"fieldType": "calculation_equation"},
    ],
)
async def test_hubspot_refuses_definitions_that_make_no_sense(
    hubspot: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    assert (await hubspot.post(CONTACTS, json={**SIZE, **change})).status_code == 400


async def test_hubspots_own_definitions_stay(hubspot: httpx.AsyncClient) -> None:
    answer = await hubspot.patch(f"{CONTACTS}/email", json={"label": "Mail"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "READ_ONLY_DEFINITION")
    options = [{"label": "X", "value": "x"}]
    assert (
        await hubspot.patch("/crm/v3/properties/deals/dealstage", json={"options": options})
    ).status_code == 400
    assert (await hubspot.delete(f"{CONTACTS}/email")).status_code == 400
    group = {"name": "mine", "label": "Mine"}
    assert (await hubspot.post(f"{CONTACTS}/groups", json=group)).status_code == 201
    assert (await hubspot.post(f"{CONTACTS}/groups", json=group)).status_code == 409
    assert (await hubspot.get(f"{CONTACTS}/groups/mine")).json()["label"] == "Mine"


async def test_a_propertys_history_names_who_wrote_it(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    id = await _create(hubspot, "contacts", email="a@b.example", firstname="A")
    path = f"{OBJECTS}/contacts/{id}"
    await control.patch(f"/as-person/hubspot{path}", json={"properties": {"firstname": "B"}})
    await hubspot.patch(path, json={"properties": {"firstname": ""}})
    await hubspot.patch(path, json={"properties": {"firstname": ""}})
    body = {"propertiesWithHistory": ["firstname"], "properties": [], "inputs": [{"id": id}]}
    (row,) = (await hubspot.post(f"{OBJECTS}/contacts/batch/read", json=body)).json()["results"]
    past = row["propertiesWithHistory"]["firstname"]
    assert [version["value"] for version in past] == ["", "B", "A"]
    assert [version["sourceType"] for version in past] == ["INTEGRATION", "CRM_UI", "INTEGRATION"]
    assert (past[0]["sourceId"], past[1]["sourceId"]) == (str(HUBSPOT.app_id), "userId:902")
    assert past[1]["updatedByUserId"] == 902
    times = [version["timestamp"] for version in past]
    assert times == sorted(times, reverse=True)
    read = await hubspot.get(path, params={"propertiesWithHistory": "firstname"})
    assert read.json()["propertiesWithHistory"] == row["propertiesWithHistory"]
    body["inputs"] = [{"id": str(number)} for number in range(51)]
    assert (await hubspot.post(f"{OBJECTS}/contacts/batch/read", json=body)).status_code == 400
    query = {"propertiesWithHistory": "firstname", "limit": "51"}
    assert (await hubspot.get(f"{OBJECTS}/contacts", params=query)).status_code == 400


async def test_a_contact_keeps_forty_five_values(hubspot: httpx.AsyncClient) -> None:
    ids = {
        "contacts": await _create(hubspot, "contacts", email="a@b.example"),
        "companies": await _create(hubspot, "companies", name="A"),
    }
    counts = {}
    for type, id in ids.items():
        for number in range(46):
            body = {"properties": {"city": str(number)}}
            await hubspot.patch(f"{OBJECTS}/{type}/{id}", json=body)
        query = {"propertiesWithHistory": "city"}
        read = (await hubspot.get(f"{OBJECTS}/{type}/{id}", params=query)).json()
        counts[type] = len(read["propertiesWithHistory"]["city"])
    assert counts == {"contacts": 45, "companies": 20}


@pytest_asyncio.fixture
async def region(close: httpx.AsyncClient) -> str:
    wanted = {"name": "Region", "type": "choices", "choices": ["North", "South"]}
    return str((await close.post("/custom_field/lead/", json=wanted)).json()["id"])


async def test_a_custom_field_schema_shows_choices(close: httpx.AsyncClient, region: str) -> None:
    other = await close.post("/custom_field/lead/", json={"name": "Size", "type": "number"})
    schema = (await close.get("/custom_field_schema/lead/")).json()
    assert [field["name"] for field in schema["fields"]] == ["Region", "Size"]
    assert schema["fields"][0]["choices"] == ["North", "South"]
    assert (schema["fields"][1]["choices"], schema["object_type"]) == (None, "lead")
    order = {"fields": [{"id": other.json()["id"]}, {"id": region}]}
    arranged = (await close.put("/custom_field_schema/lead/", json=order)).json()
    assert [field["name"] for field in arranged["fields"]] == ["Size", "Region"]
    assert (await close.get("/custom_field_schema/nothing/")).status_code == 404


async def test_choices_can_be_added_and_taken_away(close: httpx.AsyncClient, region: str) -> None:
    key, path = f"custom.{region}", f"/custom_field/lead/{region}/"
    lead = (await close.post("/lead/", json={"name": "A", key: "North"})).json()
    changed = await close.put(path, json={"choices": ["South", "East"]})
    assert changed.json()["choices"] == ["South", "East"]
    one = f"/lead/{lead['id']}/"
    assert (await close.get(one)).json()[key] == "North"
    assert (await close.put(one, json={key: "North"})).status_code == 400
    assert (await close.put(one, json={key: "East"})).json()[key] == "East"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"choices": []}, "choices"),
        ({"choices": ["A", "A"]}, "choices"),
        ({"choices": [1]}, "choices"),
        ({"type": "text"}, "type"),
        ({"accepts_multiple_values": True}, "accepts_multiple_values"),
        ({"id": "cf_mine"}, "id"),
    ],
)
async def test_close_refuses_changes_of_a_custom_field(
    close: httpx.AsyncClient, region: str, body: dict[str, Any], field: str
) -> None:
    answer = await close.put(f"/custom_field/lead/{region}/", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["field-errors"]
