"""Notes, calls, e-mails, meetings and tasks as HubSpot keeps them."""

import json
from typing import Any

import httpx
import pytest
from hubspot import HubSpot
from hubspot.crm.objects import notes

from tests.sandbox.conftest import HUBSPOT, Receiver
from tests.sandbox.test_hubspot import OBJECTS, _create, _events, _subscribe

AT = "2026-01-02T03:04:05.000Z"


async def test_a_note_is_made_linked_read_and_found(hubspot: httpx.AsyncClient) -> None:
    person = await _create(hubspot, "contacts", email="ada@a.example")
    link = {
        "to": {"id": person},
        "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}],
    }
    properties = {"hs_timestamp": 1767323045000, "hs_note_body": "<p>Dear&nbsp;<b>Ada</b></p>"}
    body = {"properties": {**properties, "hubspot_owner_id": "81001"}, "associations": [link]}
    made = await hubspot.post(f"{OBJECTS}/notes", json=body)
    assert made.status_code == 201
    id = made.json()["id"]
    query = {"properties": "hs_timestamp,hs_body_preview", "associations": "contacts"}
    note = (await hubspot.get(f"{OBJECTS}/0-46/{id}", params=query)).json()
    assert note["properties"]["hs_timestamp"] == AT
    assert note["properties"]["hs_body_preview"] == "Dear Ada"
    assert note["associations"]["contacts"]["results"] == [
        {"id": person, "type": "note_to_contact"}
    ]
    filter = {"propertyName": "associations.contact", "operator": "EQ", "value": person}
    search = {"filterGroups": [{"filters": [filter]}]}
    found = (await hubspot.post(f"{OBJECTS}/notes/search", json=search)).json()
    assert [row["id"] for row in found["results"]] == [id]
    assert set(found["results"][0]["properties"]) == {
        *("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
    }


@pytest.mark.parametrize(
    ("type", "properties", "code"),
    [
        ("notes", {"hs_note_body": "x"}, "REQUIRED_FIELD"),
        ("notes", {"hs_timestamp": AT, "hs_note_body": "x" * 65_537}, "PROPERTY_VALUE_TOO_LONG"),
        ("notes", {"hs_timestamp": AT, "hs_body_preview": "x"}, "READ_ONLY_VALUE"),
        ("calls", {"hs_timestamp": "soon"}, "INVALID_DATE"),
        ("calls", {"hs_timestamp": AT, "hs_call_direction": "in"}, "INVALID_OPTION"),
        ("calls", {"hs_timestamp": AT, "hs_call_disposition": "Busy"}, "INVALID_OPTION"),
        ("emails", {"hs_timestamp": AT}, "REQUIRED_FIELD"),
        (
            "emails",
            {"hs_timestamp": AT, "hs_email_direction": "EMAIL", "hs_email_headers": "From: me"},
            "INVALID_JSON",
        ),
        ("meetings", {"hs_meeting_title": "x"}, "REQUIRED_FIELD"),
        ("tasks", {"hs_timestamp": AT, "hs_task_status": "DONE"}, "INVALID_OPTION"),
        ("tasks", {"hs_timestamp": AT, "hubspot_owner_id": "7"}, "INVALID_OWNER_ID"),
    ],
)
async def test_hubspot_refuses_what_an_activity_cannot_be(
    hubspot: httpx.AsyncClient, type: str, properties: dict[str, str], code: str
) -> None:
    answer = await hubspot.post(f"{OBJECTS}/{type}", json={"properties": properties})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == code


async def test_hubspot_fills_what_follows(hubspot: httpx.AsyncClient) -> None:
    meeting = await _create(hubspot, "meetings", hs_meeting_start_time=AT)
    names = "hs_timestamp,hs_meeting_start_time"
    read = await hubspot.get(f"{OBJECTS}/meetings/{meeting}", params={"properties": names})
    assert read.json()["properties"]["hs_timestamp"] == AT
    task = await _create(hubspot, "tasks", hs_timestamp=AT, hs_task_subject="Call")
    path = f"{OBJECTS}/tasks/{task}"
    names = "hs_task_status,hs_task_type,hs_task_is_completed,hs_task_completion_date"
    shown = (await hubspot.get(path, params={"properties": names})).json()["properties"]
    assert (shown["hs_task_status"], shown["hs_task_completion_date"]) == ("NOT_STARTED", None)
    await hubspot.patch(path, json={"properties": {"hs_task_status": "COMPLETED"}})
    shown = (await hubspot.get(path, params={"properties": names})).json()["properties"]
    assert shown["hs_task_completion_date"] is not None
    people = {"from": {"email": "a@a.example"}, "to": [{"email": "b@a.example"}]}
    properties = {"hs_timestamp": AT, "hs_email_direction": "EMAIL"}
    email = await _create(hubspot, "emails", **properties, hs_email_headers=json.dumps(people))
    names = "hs_email_from_email,hs_email_to_email"
    read = await hubspot.get(f"{OBJECTS}/emails/{email}", params={"properties": names})
    assert read.json()["properties"]["hs_email_from_email"] == "a@a.example"
    assert read.json()["properties"]["hs_email_to_email"] == "b@a.example"


async def test_activities_go_through_batches(hubspot: httpx.AsyncClient) -> None:
    path = f"{OBJECTS}/calls/batch"
    rows = [{"properties": {"hs_timestamp": AT, "hs_call_duration": str(n)}} for n in (1000, 2000)]
    made = (await hubspot.post(f"{path}/create", json={"inputs": rows})).json()["results"]
    ids = [{"id": row["id"]} for row in made]
    change = [{**id, "properties": {"hs_call_title": "T"}} for id in ids]
    assert (await hubspot.post(f"{path}/update", json={"inputs": change})).status_code == 200
    body = {"inputs": ids, "properties": ["hs_call_title", "hs_call_duration"]}
    read = (await hubspot.post(f"{path}/read", json=body)).json()["results"]
    assert [row["properties"]["hs_call_duration"] for row in read] == ["1000", "2000"]
    assert (await hubspot.post(f"{path}/archive", json={"inputs": ids})).status_code == 204
    assert not (await hubspot.get(f"{OBJECTS}/calls")).json()["results"]
    assert len((await hubspot.get(f"{OBJECTS}/calls?archived=true")).json()["results"]) == 2


async def test_activities_are_announced_in_the_generic_form(
    hubspot: httpx.AsyncClient, receiver: Receiver
) -> None:
    person = await _create(hubspot, "contacts", email="ada@a.example")
    await _subscribe(hubspot, receiver.url, "contact.associationChange")
    app, key = f"/webhooks/v3/{HUBSPOT.app_id}/subscriptions", {"hapikey": "developer"}

    async def subscribe(**wanted: Any) -> int:
        answer = await hubspot.post(app, json={"active": True, **wanted}, params=key)
        return answer.status_code

    assert await subscribe(eventType="object.creation") == 400
    assert await subscribe(eventType="object.creation", objectTypeId="0-46") == 201
    assert await subscribe(eventType="object.creation", objectTypeId="0-46") == 409
    assert await subscribe(eventType="object.associationChange", objectTypeId="0-46") == 201
    body = {"eventType": "object.propertyChange", "objectTypeId": "0-46"}
    assert await subscribe(**body) == 400
    assert await subscribe(**body, propertyName="hs_note_body") == 201
    body = {"eventType": "object.propertyChange", "objectTypeId": "0-49"}
    assert await subscribe(**body, propertyName="hs_email_html") == 400
    note = await _create(hubspot, "notes", hs_timestamp=AT, hs_note_body="Hi")
    path = f"/crm/v4/objects/notes/{note}/associations/default/contacts/{person}"
    assert (await hubspot.put(path)).status_code == 200
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 3))
    assert [event["subscriptionType"] for event in events] == [
        "object.creation",
        "object.propertyChange",
        "object.associationChange",
    ]
    assert {event["objectTypeId"] for event in events} == {"0-46"}
    link = events[-1]
    assert (link["fromObjectId"], link["toObjectTypeId"], link["associationTypeId"]) == (
        int(note),
        "0-1",
        202,
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_hubspot_client_handles_notes(base: str) -> None:
    hub = HubSpot(access_token=HUBSPOT.token, host=f"{base}/hubspot", retry=0)
    api = hub.crm.objects.notes.basic_api
    properties = {"hs_timestamp": AT, "hs_note_body": "Hello"}
    made = api.create(notes.SimplePublicObjectInputForCreate(properties=properties))
    change = notes.SimplePublicObjectInput(properties={"hs_note_body": "Bye"})
    api.update(made.id, change)
    found = api.get_by_id(
        made.id, properties=["hs_note_body"], properties_with_history=["hs_note_body"]
    )
    past = found.properties_with_history["hs_note_body"]
    assert [version.value for version in past] == ["Bye", "Hello"]
    assert (past[0].source_type, past[0].source_id) == ("INTEGRATION", str(HUBSPOT.app_id))
    api.archive(made.id)
    assert not api.get_page().results
