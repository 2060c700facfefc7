"""Merges with chains, deletes, restores and erasure in both CRMs."""

from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Receiver
from tests.sandbox.test_hubspot import OBJECTS, _create, _events, _subscribe

CONTACTS = f"{OBJECTS}/contacts"
MERGED = {"properties": "email,hs_merged_object_ids,hs_additional_emails"}


async def _merge(hubspot: httpx.AsyncClient, winner: str, loser: str) -> str:
    body = {"primaryObjectId": winner, "objectIdToMerge": loser}
    answer = await hubspot.post(f"{CONTACTS}/merge", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("new_id", [False, True])
async def test_every_id_of_a_chain_of_merges_leads_to_the_survivor(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, new_id: bool
) -> None:
    await control.post("/options", json={"hubspot": {"merge_new_id": new_id}})
    a, b, c = [await _create(hubspot, "contacts", email=f"{n}@x.example") for n in "abc"]
    first = await _merge(hubspot, a, b)
    last = await _merge(hubspot, c, first)
    assert (first == a, last == c) == (not new_id, not new_id)
    former = {a, b, c, first, last} - {last}
    for id in (a, b, c, first, last):
        read = await hubspot.get(f"{CONTACTS}/{id}", params=MERGED)
        assert (read.status_code, read.json()["id"]) == (200, last)
    properties = read.json()["properties"]
    assert set(properties["hs_merged_object_ids"].split(";")) == former
    assert set(properties["hs_additional_emails"].split(";")) == {"a@x.example", "b@x.example"}
    body = {"properties": {"firstname": "Still"}}
    assert (await hubspot.patch(f"{CONTACTS}/{b}", json=body)).json()["id"] == last
    row = {"inputs": [{"id": b, **body}]}
    assert (await hubspot.post(f"{CONTACTS}/batch/update", json=row)).status_code == 207
    listed = (await hubspot.get(CONTACTS)).json()["results"]
    assert [contact["id"] for contact in listed] == [last]
    assert not (await hubspot.get(CONTACTS, params={"archived": "true"})).json()["results"]
    again = await hubspot.post(CONTACTS, json={"properties": {"email": "b@x.example"}})
    assert again.json()["message"] == f"Contact already exists. Existing ID: {last}"


async def test_a_merge_announces_the_third_id_and_may_announce_deletions(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    options = {"merge_new_id": True, "merge_deletes": True}
    await control.post("/options", json={"hubspot": options})
    a, b = [await _create(hubspot, "contacts", email=f"{n}@x.example") for n in "ab"]
    await _subscribe(hubspot, receiver.url, "contact.merge", "contact.deletion")
    survivor = await _merge(hubspot, a, b)
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 3))
    merge = events[0]
    assert (merge["primaryObjectId"], merge["mergedObjectIds"]) == (int(a), [int(b)])
    assert merge["newObjectId"] == merge["objectId"] == int(survivor)
    assert {event["objectId"] for event in events[1:]} == {int(a), int(b)}


@pytest.mark.parametrize("new_id", [False, True])
async def test_the_survivor_of_a_merge_remembers_both_pasts(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, new_id: bool
) -> None:
    await control.post("/options", json={"hubspot": {"merge_new_id": new_id}})
    winner = await _create(hubspot, "contacts", email="a@x.example", firstname="Ada")
    loser = await _create(hubspot, "contacts", email="b@x.example", firstname="Eve", city="Oslo")
    query = {"propertiesWithHistory": "firstname,city"}
    before = (await hubspot.get(f"{CONTACTS}/{loser}", params=query)).json()
    survivor = await _merge(hubspot, winner, loser)
    after = (await hubspot.get(f"{CONTACTS}/{survivor}", params=query)).json()
    past = after["propertiesWithHistory"]
    assert past["city"] == before["propertiesWithHistory"]["city"]
    assert [version["value"] for version in past["firstname"]] == ["Ada", "Eve", "Ada"]
    assert past["firstname"][0]["sourceType"] == "MERGE_OBJECTS"


async def test_merged_companies_keep_their_people(hubspot: httpx.AsyncClient) -> None:
    person = await _create(hubspot, "contacts", email="ada@x.example")
    one, two = [await _create(hubspot, "companies", name=name) for name in "AB"]
    primary = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    path = f"/crm/v4/objects/contacts/{person}/associations/companies"
    await hubspot.put(f"{path}/{two}", json=primary)
    await hubspot.put(f"/crm/v4/objects/contacts/{person}/associations/default/companies/{one}")
    body = {"primaryObjectId": one, "objectIdToMerge": two}
    await hubspot.post(f"{OBJECTS}/companies/merge", json=body)
    (row,) = (await hubspot.get(path)).json()["results"]
    assert row["toObjectId"] == int(one)
    assert {type["typeId"] for type in row["associationTypes"]} == {1, 279}


async def test_what_was_archived_comes_back_with_its_links(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    person = await _create(hubspot, "contacts", email="ada@x.example")
    company = await _create(hubspot, "companies", name="A")
    path = f"/crm/v4/objects/contacts/{person}/associations"
    await hubspot.put(f"{path}/default/companies/{company}")
    await _subscribe(hubspot, receiver.url, "contact.restore", "contact.deletion")
    await hubspot.delete(f"{CONTACTS}/{person}")
    (row,) = (await hubspot.get(CONTACTS, params={"archived": "true"})).json()["results"]
    assert row["archivedAt"] is not None
    other = await _create(hubspot, "contacts", email="ada@x.example")
    restore = f"/as-person/hubspot{CONTACTS}/{person}/restore"
    assert (await control.post(restore)).status_code == 409
    await hubspot.delete(f"{CONTACTS}/{other}")
    assert (await control.post(restore)).status_code == 200
    assert (await control.post(restore)).status_code == 404
    assert len((await hubspot.get(f"{path}/companies")).json()["results"]) == 1
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 3))
    kinds = [event["subscriptionType"] for event in events]
    assert kinds == ["contact.deletion", "contact.deletion", "contact.restore"]
    assert events[-1]["changeSource"] == "CRM_UI"


async def test_an_erased_contact_is_gone_and_cannot_come_back(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    events = ("contact.privacyDeletion", "contact.deletion")
    await _subscribe(hubspot, receiver.url, *events)
    loser = await _create(hubspot, "contacts", email="old@x.example", lastname="Secret")
    id = await _create(hubspot, "contacts", email="ada@x.example", phone="1")
    await _merge(hubspot, id, loser)
    erase = f"{CONTACTS}/gdpr-delete"
    assert (await hubspot.post(erase, json={"objectId": "999"})).status_code == 404
    body = {"objectId": "ada@x.example", "idProperty": "email"}
    assert (await hubspot.post(erase, json=body)).status_code == 204
    hooks = await receiver.until(lambda hooks: len(_events(hooks)) == 2)
    assert {event["subscriptionType"] for event in _events(hooks)} == set(events)
    for gone in (id, loser):
        for archived in ("true", "false"):
            read = await hubspot.get(f"{CONTACTS}/{gone}", params={"archived": archived})
            assert read.status_code == 404
        past = (await control.get(f"/history/hubspot/contact/{gone}")).json()
        assert past["fields"] == {}
    assert (await control.post(f"/as-person/hubspot{CONTACTS}/{id}/restore")).status_code == 404
    for email in ("ada@x.example", "OLD@x.example"):
        again = await hubspot.post(CONTACTS, json={"properties": {"email": email}})
        assert (again.status_code, again.json()["errors"][0]["code"]) == (400, "INVALID_EMAIL")
    unknown = {"objectId": "nobody@x.example", "idProperty": "email"}
    assert (await hubspot.post(erase, json=unknown)).status_code == 204
    other = await _create(hubspot, "contacts", email="new@x.example")
    change = {"properties": {"email": "nobody@x.example"}}
    assert (await hubspot.patch(f"{CONTACTS}/{other}", json=change)).status_code == 400


async def test_an_erased_address_may_come_back_where_the_option_says_so(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    await control.post("/options", json={"hubspot": {"block_erased": False}})
    id = await _create(hubspot, "contacts", email="ada@x.example")
    await hubspot.post(f"{CONTACTS}/gdpr-delete", json={"objectId": id})
    assert await _create(hubspot, "contacts", email="ada@x.example") != id


async def _lead(close: httpx.AsyncClient, name: str) -> dict[str, Any]:
    contacts = [{"name": name, "emails": [{"email": f"{name}@x.example"}]}]
    return dict((await close.post("/lead/", json={"name": name, "contacts": contacts})).json())


async def test_a_chain_of_lead_merges_moves_everyone(close: httpx.AsyncClient) -> None:
    a, b, c = [await _lead(close, name) for name in "abc"]
    for source, target in ((a, b), (b, c)):
        both = {"source": source["id"], "destination": target["id"]}
        assert (await close.post("/lead/merge/", json=both)).status_code == 200
    ids = (await close.get(f"/lead/{c['id']}/")).json()["contact_ids"]
    assert set(ids) == {lead["contact_ids"][0] for lead in (a, b, c)}
    assert (await close.get(f"/lead/{b['id']}/")).status_code == 404
    both = {"source": b["id"], "destination": c["id"]}
    assert (await close.post("/lead/merge/", json=both)).status_code == 400
    merges = (await close.get("/activity/lead_merge/")).json()["data"]
    assert [(m["source_lead_id"], m["status"]) for m in merges] == [
        (b["id"], "completed"),
        (a["id"], "completed"),
    ]
    wanted = {"object_type": "lead_merge", "object_id": merges[0]["id"]}
    events = (await close.get("/event/", params=wanted)).json()["data"]
    assert [event["action"] for event in events] == ["updated", "created"]


async def test_a_slow_merge_is_answered_before_it_is_done(
    close: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    options = {"merge_delay": 0.05, "merge_names_source": True}
    await control.post("/options", json={"close": options})
    a, b = [await _lead(close, name) for name in "ab"]
    event = {"object_type": "lead", "action": "merged"}
    await close.post("/webhook/", json={"url": receiver.url, "events": [event]})
    await close.post("/lead/merge/", json={"source": a["id"], "destination": b["id"]})
    (merge,) = (await close.get("/activity/lead_merge/")).json()["data"]
    assert merge["status"] == "in-progress"
    assert (await control.get("/options")).json()["close"]["pending"] == 1
    (hook,) = await receiver.until(bool)
    sent = httpx.Response(200, content=hook.body).json()["event"]
    assert (sent["object_id"], sent["meta"]["merge_destination_lead_id"]) == (a["id"], b["id"])
    assert (await close.get(f"/lead/{a['id']}/")).status_code == 404
