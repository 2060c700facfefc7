"""What the CRMs do of their own accord when they are told to."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Hook, Receiver
from tests.sandbox.test_hubspot import OBJECTS, _create, _events, _subscribe


def _as_many_as(number: int) -> Callable[[list[Hook]], bool]:
    return lambda hooks: len(_events(hooks)) == number


async def test_options_are_off_until_asked_for_and_after_a_reset(
    control: httpx.AsyncClient,
) -> None:
    first = (await control.get("/options")).json()
    assert not first["hubspot"]["auto_company"]
    changed = await control.post("/options", json={"hubspot": {"auto_company": True}})
    assert changed.json()["hubspot"]["auto_company"]
    await control.post("/reset")
    assert (await control.get("/options")).json() == first


@pytest.mark.parametrize(
    "wanted",
    [
        {"zoho": {}},
        {"close": {"auto_company": True}},
        {"hubspot": {"auto_company": "yes"}},
        {"hubspot": {"workflows": [{"field": "jobtitle"}]}},
        {"hubspot": {"workflows": [{"type": "contact", "field": "x", "case": "camel"}]}},
    ],
)
async def test_options_that_make_no_sense_are_refused(
    control: httpx.AsyncClient, wanted: dict[str, Any]
) -> None:
    assert (await control.post("/options", json=wanted)).status_code == 400


async def test_hubspot_makes_a_company_of_an_email_domain(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await control.post("/options", json={"hubspot": {"auto_company": True}})
    await _subscribe(hubspot, receiver.url, "company.creation", "contact.associationChange")
    await _create(hubspot, "contacts", email="free@gmail.com")
    ada = await _create(hubspot, "contacts", email="ada@analytical.example")
    await receiver.until(lambda hooks: len(_events(hooks)) == 3)
    bob = await _create(hubspot, "contacts", email="bob@analytical.example")
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 5))
    created = [e for e in events if e["subscriptionType"] == "company.creation"]
    assert len(created) == 1
    assert created[0]["changeSource"] != "INTEGRATION"
    linked = {e["fromObjectId"] for e in events if "fromObjectId" in e}
    assert linked == {int(ada), int(bob)}
    companies = (await hubspot.get(f"{OBJECTS}/companies")).json()["results"]
    assert [c["properties"]["domain"] for c in companies] == ["analytical.example"]
    path = f"/crm/v4/objects/contacts/{bob}/associations/companies"
    (row,) = (await hubspot.get(path)).json()["results"]
    assert {type["typeId"] for type in row["associationTypes"]} == {1, 279}
    counts = (await control.get("/counts")).json()["hubspot"]["rows"]
    assert "company" not in counts


async def test_a_workflow_of_hubspot_fights_the_api_and_leaves_people_alone(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    workflow = {"type": "contact", "field": "jobtitle", "case": "upper", "times": 2, "delay": 0}
    await control.post("/options", json={"hubspot": {"workflows": [workflow]}})
    id = await _create(hubspot, "contacts", email="ada@a.example")
    await _subscribe(hubspot, receiver.url, "contact.propertyChange:jobtitle")
    path = f"{OBJECTS}/contacts/{id}"

    async def write(title: str, *, person: bool = False) -> None:
        body = {"properties": {"jobtitle": title}}
        if person:
            await control.patch(f"/as-person/hubspot{path}", json=body)
        else:
            await hubspot.patch(path, json=body)

    for round, title in enumerate(("Engineer", "Analyst"), 1):
        await write(title)
        await receiver.until(_as_many_as(2 * round))
    await write("Person", person=True)
    await write("Unopposed")
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 6))
    assert [(e["propertyValue"], e["changeSource"]) for e in events] == [
        ("Engineer", "INTEGRATION"),
        ("ENGINEER", "AUTOMATION_PLATFORM"),
        ("Analyst", "INTEGRATION"),
        ("ANALYST", "AUTOMATION_PLATFORM"),
        ("Person", "CRM_UI"),
        ("Unopposed", "INTEGRATION"),
    ]


async def test_a_workflow_of_close_acts_as_a_user(
    close: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    workflow = {"type": "lead", "field": "description", "value": "Mine", "delay": 0}
    await control.post("/options", json={"close": {"workflows": [workflow]}})
    event = {"object_type": "lead", "action": "updated"}
    await close.post("/webhook/", json={"url": receiver.url, "events": [event]})
    lead = (await close.post("/lead/", json={"name": "A", "description": "Yours"})).json()
    (hook,) = await receiver.until(bool)
    sent = httpx.Response(200, content=hook.body).json()["event"]
    assert (sent["data"]["description"], sent["previous_data"]) == (
        "Mine",
        {"description": "Yours"},
    )
    assert (sent["api_key_id"], sent["oauth_client_id"]) == (None, None)
    assert sent["user_id"] != lead["created_by"]
    counts = (await control.get("/counts")).json()["close"]["rows"]["lead"]
    assert counts == {"created": 1}


async def test_values_are_kept_as_the_crm_likes_them(
    hubspot: httpx.AsyncClient, close: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    options = {
        "hubspot": {"trim": True, "phones": True, "amounts": 0.01, "rich_texts": True},
        "close": {"trim": True, "amounts": 100},
    }
    assert (await control.post("/options", json=options)).status_code == 200
    body = {"properties": {"lastname": "  de   la Cruz ", "phone": "+14155550100"}}
    made = (await hubspot.post(f"{OBJECTS}/contacts", json=body)).json()["properties"]
    assert (made["lastname"], made["phone"]) == ("de la Cruz", "(415) 555-0100")
    body = {"properties": {"dealname": "D", "dealstage": "closedwon", "amount": "1500.4951"}}
    made = (await hubspot.post(f"{OBJECTS}/deals", json=body)).json()["properties"]
    assert made["amount"] == "1500.5"
    body = {"properties": {"hs_timestamp": "2026-01-01T00:00:00Z", "hs_note_body": "<p>Hi</p>"}}
    note = (await hubspot.post(f"{OBJECTS}/notes", json=body)).json()["properties"]
    wrapped = '<div style="" dir="auto" data-top-level="true"><p>Hi</p></div>'
    assert note["hs_note_body"] == wrapped
    lead = (await close.post("/lead/", json={"name": " A   B "})).json()
    deal = (
        await close.post("/opportunity/", json={"lead_id": lead["id"], "value": 150_049})
    ).json()
    assert (lead["name"], deal["value"]) == ("A B", 150_000)
