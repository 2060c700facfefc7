"""What HubSpot does, and what it refuses."""

import json
from typing import Any

import httpx
import pytest
from hubspot.utils.signature import Signature

from sandbox.hubspot.events import sign_v1, sign_v3
from tests.sandbox.conftest import HUBSPOT, QUICK, Hook, Receiver, running

OBJECTS = "/crm/v3/objects"


def test_the_signatures_equal_the_published_algorithm() -> None:
    secret = "hs-test-client-secret-0001"
    url = "https://hooks.example.com/webhooks/hubspot"
    body = (
        '[{"eventId":1001,"subscriptionId":55,"portalId":62515,"appId":54321,"occurredAt":'
        '1700000000000,"subscriptionType":"contact.propertyChange","attemptNumber":0,'
        '"objectId":123,"propertyName":"firstname","propertyValue":"Zoë","changeSource":'
        '"INTEGRATION","sourceId":"54321"}]'
    ).encode()
    v1 = "9860cecd17e499c76e9ec1fbe14ecb7a62c4c9ea1e6390672012952797d24dce"
    assert sign_v1(secret, body) == v1
    v3 = "29qUbDqRB+0ldtmrn3x6iZ+m62iOtyY9voX2lxt4+pw="
    assert sign_v3(secret, "POST", url, body, "1700000000123") == v3
    query = f"{url}?tenant=acme%3Aeu%2F1&note=a%20b%26c"
    v3 = "OaitKvE9wVaId4WjiW2Vh/XlhtHHvWpcbiamDPQjO+c="
    assert sign_v3(secret, "POST", query, body, "1700000000123") == v3


async def _create(hubspot: httpx.AsyncClient, type: str, **properties: Any) -> str:
    answer = await hubspot.post(f"{OBJECTS}/{type}", json={"properties": properties})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _events(hooks: list[Hook]) -> list[dict[str, Any]]:
    return [event for hook in hooks for event in json.loads(hook.body)]


async def _subscribe(hubspot: httpx.AsyncClient, url: str, *events: str) -> None:
    app, key = f"/webhooks/v3/{HUBSPOT.app_id}", {"hapikey": "developer"}
    await hubspot.put(f"{app}/settings", json={"targetUrl": url}, params=key)
    for event in events:
        kind, _, name = event.partition(":")
        wanted = {"eventType": kind, "active": True} | ({"propertyName": name} if name else {})
        answer = await hubspot.post(f"{app}/subscriptions", json=wanted, params=key)
        assert answer.status_code == 201


async def test_webhooks_arrive_in_batches_signed_and_are_tried_again(
    hubspot: httpx.AsyncClient, receiver: Receiver
) -> None:
    await _subscribe(hubspot, receiver.url, "contact.creation", "contact.propertyChange:email")
    receiver.answers = [500]
    id = await _create(hubspot, "contacts", email="ada@a.example", firstname="Ada")
    first, second = await receiver.until(lambda hooks: len(hooks) == 2)
    assert [event["attemptNumber"] for event in _events([first, second])] == [0, 0, 1, 1]
    created, changed = _events([second])
    assert (created["subscriptionType"], created["objectId"]) == ("contact.creation", int(id))
    assert (changed["propertyName"], changed["propertyValue"]) == ("email", "ada@a.example")
    assert (changed["changeSource"], changed["sourceId"]) == ("INTEGRATION", str(HUBSPOT.app_id))
    # The official client's own check accepts it.
    assert Signature.is_valid(
        signature=second.headers["x-hubspot-signature-v3"],
        client_secret=HUBSPOT.client_secret,
        request_body=second.body.decode(),
        http_uri=receiver.url,
        signature_version="v3",
        timestamp=second.headers["x-hubspot-request-timestamp"],
    )
    assert second.headers["x-hubspot-signature"] == sign_v1(HUBSPOT.client_secret, second.body)


async def test_a_persons_edit_names_the_crm_as_its_source(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    id = await _create(hubspot, "contacts", email="ada@a.example")
    await _subscribe(hubspot, receiver.url, "contact.propertyChange:firstname")
    path = f"/as-person/hubspot{OBJECTS}/contacts/{id}"
    await control.patch(path, json={"properties": {"firstname": "Ada"}})
    (event,) = _events(await receiver.until(bool))
    assert event["changeSource"] == "CRM_UI"
    counts = (await control.get("/counts")).json()["hubspot"]["rows"]["contact"]
    assert counts == {"created": 1}


@pytest.mark.parametrize(
    ("type", "properties", "code"),
    [
        ("contacts", {"email": "a@b.example", "nope": "x"}, "PROPERTY_DOESNT_EXIST"),
        ("contacts", {"email": "nobody"}, "INVALID_EMAIL"),
        ("contacts", {"email": "a@b.example", "lifecyclestage": "Lead"}, "INVALID_OPTION"),
        ("contacts", {"email": "a@b.example", "hubspot_owner_id": "901"}, "INVALID_OWNER_ID"),
        ("contacts", {"email": "a@b.example", "hs_object_id": "1"}, "READ_ONLY_VALUE"),
        ("contacts", {"phone": "1"}, "REQUIRED_FIELD"),
        ("companies", {"name": "A", "numberofemployees": "many"}, "INVALID_INTEGER"),
        ("deals", {"dealname": "D", "dealstage": "Closed Won"}, "INVALID_OPTION"),
        ("deals", {"dealname": "D"}, "REQUIRED_FIELD"),
        (
            "deals",
            {"dealname": "D", "dealstage": "closedwon", "closedate": "soon"},
            "INVALID_DATE",
        ),
    ],
)
async def test_hubspot_names_the_property_it_refuses(
    hubspot: httpx.AsyncClient, type: str, properties: dict[str, str], code: str
) -> None:
    answer = await hubspot.post(f"{OBJECTS}/{type}", json={"properties": properties})
    assert answer.status_code == 400
    body = answer.json()
    assert (body["category"], body["errors"][0]["code"]) == ("VALIDATION_ERROR", code)


async def test_an_email_is_unique_without_regard_to_case(hubspot: httpx.AsyncClient) -> None:
    id = await _create(hubspot, "contacts", email="Ada@A.example")
    again = await hubspot.post(
        f"{OBJECTS}/contacts", json={"properties": {"email": "ADA@a.example"}}
    )
    assert again.status_code == 409
    assert again.json()["message"] == f"Contact already exists. Existing ID: {id}"


async def test_a_lifecycle_stage_only_moves_forward(hubspot: httpx.AsyncClient) -> None:
    id = await _create(hubspot, "contacts", email="a@b.example", lifecyclestage="customer")
    path = f"{OBJECTS}/contacts/{id}"
    back = await hubspot.patch(path, json={"properties": {"lifecyclestage": "lead"}})
    assert (back.status_code, back.json()["properties"]["lifecyclestage"]) == (200, "customer")
    await hubspot.patch(path, json={"properties": {"lifecyclestage": ""}})
    again = await hubspot.patch(path, json={"properties": {"lifecyclestage": "lead"}})
    assert again.json()["properties"]["lifecyclestage"] == "lead"


async def test_values_are_text_and_only_what_was_asked_for_is_shown(
    hubspot: httpx.AsyncClient,
) -> None:
    id = await _create(
        hubspot,
        "deals",
        dealname="D",
        dealstage="closedwon",
        amount=1500.5,
        closedate=1767225600000,
    )
    query = {"properties": "amount,closedate,hs_is_closed_won,dealtype,nonsense"}
    shown = (await hubspot.get(f"{OBJECTS}/0-3/{id}", params=query)).json()["properties"]
    assert shown["amount"] == "1500.5"
    assert shown["closedate"] == "2026-01-01T00:00:00.000Z"
    assert (shown["hs_is_closed_won"], shown["dealtype"]) == ("true", None)
    assert "nonsense" not in shown
    assert "dealname" not in shown


async def test_a_batch_creates_all_or_nothing_unless_rows_are_traced(
    hubspot: httpx.AsyncClient,
) -> None:
    path = f"{OBJECTS}/contacts/batch/create"
    rows: list[dict[str, Any]] = [
        {"properties": {"email": "a@b.example"}},
        {"properties": {"email": "nobody"}},
    ]
    assert (await hubspot.post(path, json={"inputs": rows})).status_code == 400
    assert not (await hubspot.get(f"{OBJECTS}/contacts")).json()["results"]
    for number, row in enumerate(rows):
        row["objectWriteTraceId"] = f"t{number}"
    answer = await hubspot.post(path, json={"inputs": rows})
    body = answer.json()
    assert (answer.status_code, len(body["results"]), body["numErrors"]) == (207, 1, 1)
    assert body["errors"][0]["context"]["objectWriteTraceId"] == ["t1"]


async def test_a_batch_takes_a_hundred_rows_and_names_missing_ids(
    hubspot: httpx.AsyncClient,
) -> None:
    path = f"{OBJECTS}/contacts/batch/read"
    many = [{"id": str(n)} for n in range(101)]
    assert (await hubspot.post(path, json={"inputs": many})).status_code == 400
    answer = await hubspot.post(path, json={"inputs": [{"id": "5"}], "properties": []})
    assert answer.status_code == 207
    error = answer.json()["errors"][0]
    assert (error["category"], error["context"]["ids"]) == ("OBJECT_NOT_FOUND", ["5"])


async def test_links_refuse_the_wrong_direction(hubspot: httpx.AsyncClient) -> None:
    deal = await _create(hubspot, "deals", dealname="D", dealstage="closedwon")
    company = await _create(hubspot, "companies", name="A")
    path = f"/crm/v4/objects/deals/{deal}/associations/companies/{company}"
    wrong = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 6}]
    assert (await hubspot.put(path, json=wrong)).status_code == 400
    right = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 5}]
    assert (await hubspot.put(path, json=right)).status_code == 201


async def test_there_is_one_primary_company(hubspot: httpx.AsyncClient, receiver: Receiver) -> None:
    person = await _create(hubspot, "contacts", email="a@b.example")
    first = await _create(hubspot, "companies", name="A")
    second = await _create(hubspot, "companies", name="B")
    await _subscribe(hubspot, receiver.url, "contact.associationChange")
    primary = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    links = f"/crm/v4/objects/contacts/{person}/associations/companies"
    await hubspot.put(f"{links}/{first}", json=primary)
    await hubspot.put(f"{links}/{second}", json=primary)
    rows = (await hubspot.get(links)).json()["results"]
    types = {row["toObjectId"]: [t["typeId"] for t in row["associationTypes"]] for row in rows}
    assert types == {int(first): [279], int(second): [1, 279]}
    hooks = await receiver.until(lambda hooks: len(_events(hooks)) == 5)
    changes = {
        (e["toObjectId"], e["isPrimaryAssociation"], e["associationRemoved"])
        for e in _events(hooks)
    }
    assert (int(first), True, True) in changes
    assert (int(second), False, False) in changes


async def test_merging_leaves_one_record_that_answers_to_both_ids(
    hubspot: httpx.AsyncClient, receiver: Receiver
) -> None:
    one = await _create(hubspot, "contacts", email="a@b.example", firstname="Ada")
    two = await _create(hubspot, "contacts", email="c@d.example", lastname="Lovelace")
    await _subscribe(hubspot, receiver.url, "contact.merge")
    both = {"primaryObjectId": one, "objectIdToMerge": two}
    await hubspot.post(f"{OBJECTS}/contacts/merge", json=both)
    query = {"properties": "firstname,lastname,email,hs_merged_object_ids"}
    shown = (await hubspot.get(f"{OBJECTS}/contacts/{two}", params=query)).json()
    assert shown["id"] == one
    assert shown["properties"]["lastname"] == "Lovelace"
    assert shown["properties"]["hs_merged_object_ids"] == two
    batch = {"inputs": [{"id": two, "properties": {"firstname": "X"}}]}
    answer = await hubspot.post(f"{OBJECTS}/contacts/batch/update", json=batch)
    assert answer.status_code == 207
    query = {"idProperty": "email"}
    assert (await hubspot.get(f"{OBJECTS}/contacts/c@d.example", params=query)).json()["id"] == one
    (event,) = _events(await receiver.until(bool))
    assert (event["newObjectId"], event["mergedObjectIds"]) == (int(one), [int(two)])


async def test_a_merge_may_give_the_survivor_a_new_id() -> None:
    headers = {"authorization": f"Bearer {HUBSPOT.token}"}
    async with (
        running("--hubspot-merge-new-id", *QUICK) as url,
        httpx.AsyncClient(base_url=f"{url}/hubspot", headers=headers) as hubspot,
    ):
        one = await _create(hubspot, "contacts", email="a@b.example")
        two = await _create(hubspot, "contacts", email="c@d.example")
        both = {"primaryObjectId": one, "objectIdToMerge": two}
        made = (await hubspot.post(f"{OBJECTS}/contacts/merge", json=both)).json()
        assert made["id"] not in (one, two)
        path = f"{OBJECTS}/contacts/{one}"
        assert (await hubspot.get(path)).json()["id"] == made["id"]


async def test_archived_records_are_shown_on_request_and_can_come_back(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    id = await _create(hubspot, "contacts", email="a@b.example")
    path = f"{OBJECTS}/contacts/{id}"
    assert (await hubspot.delete(path)).status_code == 204
    assert (await hubspot.get(path)).status_code == 404
    assert (await hubspot.get(path, params={"archived": "true"})).json()["archived"]
    assert (await hubspot.post(f"{path}/restore")).status_code == 404
    await control.post(f"/as-person/hubspot{path}/restore")
    assert (await hubspot.get(path)).status_code == 200


async def test_erasing_a_contact_leaves_nothing(hubspot: httpx.AsyncClient) -> None:
    id = await _create(hubspot, "contacts", email="a@b.example")
    body = {"objectId": "a@b.example", "idProperty": "email"}
    assert (await hubspot.post(f"{OBJECTS}/contacts/gdpr-delete", json=body)).status_code == 204
    query = {"archived": "true"}
    assert (await hubspot.get(f"{OBJECTS}/contacts/{id}", params=query)).status_code == 404


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"propertyName": "name", "operator": "EQ", "value": "ALPHA works"}, ["Alpha Works"]),
        ({"propertyName": "name", "operator": "CONTAINS_TOKEN", "value": "bet*"}, ["Beta"]),
        ({"propertyName": "name", "operator": "IN", "values": ["beta"]}, ["Beta"]),
        ({"propertyName": "name", "operator": "IN", "values": ["Beta"]}, []),
        ({"propertyName": "numberofemployees", "operator": "GT", "value": "9"}, ["Beta"]),
        ({"propertyName": "numberofemployees", "operator": "NOT_HAS_PROPERTY"}, ["Alpha Works"]),
        ({"propertyName": "hs_lastmodifieddate", "operator": "LT", "value": "1000000"}, []),
    ],
)
async def test_search_filters(
    hubspot: httpx.AsyncClient, filter: dict[str, Any], found: list[str]
) -> None:
    await _create(hubspot, "companies", name="Alpha Works")
    await _create(hubspot, "companies", name="Beta", numberofemployees="10")
    body = {"filterGroups": [{"filters": [filter]}], "properties": ["name"]}
    results = (await hubspot.post(f"{OBJECTS}/companies/search", json=body)).json()["results"]
    assert [row["properties"]["name"] for row in results] == found


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"after": "9999", "limit": 10},
        {"filterGroups": [{"filters": []}] * 6},
        {"sorts": ["name", "domain"]},
        {"query": "x" * 3000},
        {"filterGroups": [{"filters": [{"propertyName": "name", "operator": "LIKE"}]}]},
    ],
)
async def test_search_keeps_its_limits(hubspot: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await hubspot.post(f"{OBJECTS}/companies/search", json=body)).status_code == 400


async def test_an_unknown_token_is_refused_and_a_refreshed_one_works(base: str) -> None:
    form = {
        "grant_type": "refresh_token",
        "client_id": HUBSPOT.client_id,
        "client_secret": HUBSPOT.client_secret,
        "refresh_token": HUBSPOT.refresh_token,
    }
    async with httpx.AsyncClient(base_url=f"{base}/hubspot") as client:
        answer = await client.get("/crm/v3/owners", headers={"authorization": "Bearer no"})
        assert answer.status_code == 401
        token = (await client.post("/oauth/v3/token", data=form)).json()
        assert (token["expires_in"], token["hub_id"]) == (1800, HUBSPOT.portal_id)
        headers = {"authorization": f"Bearer {token['access_token']}"}
        assert (await client.get("/crm/v3/owners", headers=headers)).status_code == 200
        form["refresh_token"] = "wrong"
        answer = await client.post("/oauth/v3/token", data=form)
        assert (answer.status_code, answer.json()["status"]) == (400, "BAD_REFRESH_TOKEN")


async def test_a_day_has_so_many_calls() -> None:
    async with (
        running("--hubspot-daily-limit", "2") as url,
        httpx.AsyncClient(base_url=f"{url}/hubspot") as client,
    ):
        client.headers["authorization"] = f"Bearer {HUBSPOT.token}"
        answers = [await client.get("/crm/v3/owners") for _ in range(3)]
        counts = (await client.get(f"{url}/_sandbox/counts")).json()
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-hubspot-ratelimit-daily-remaining"] == "1"
    assert answers[2].json()["policyName"] == "DAILY"
    assert counts["hubspot"]["limited"] == 1


async def test_quotas_portals_and_search_lag() -> None:
    options = ("--hubspot-portal", "pat-two=777", "--hubspot-limit", "4")
    async with running(*options) as url, httpx.AsyncClient(base_url=f"{url}/hubspot") as client:
        client.headers["authorization"] = "Bearer pat-two"
        id = await _create(client, "contacts", email="a@b.example")
        path = f"{OBJECTS}/contacts"
        found = (await client.post(f"{path}/search", json={})).json()
        assert found["total"] == 0
        answers = [await client.get(f"{path}/{id}") for _ in range(4)]
        searches = [await client.post(f"{path}/search", json={}) for _ in range(5)]
        client.headers["authorization"] = f"Bearer {HUBSPOT.token}"
        assert (await client.get(f"{path}/{id}")).status_code == 404
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-hubspot-ratelimit-max"] == "4"
    assert answers[3].json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert searches[-1].json()["policyName"] == "SECONDLY"
    assert "x-hubspot-ratelimit-max" not in searches[0].headers
