"""People in the local Salesforce, and what it tells the outside of what they do."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest_asyncio

from sandbox.salesforce.callouts import sign
from tests.sandbox.conftest import QUICK, SALESFORCE, Receiver, running
from tests.sandbox.test_salesforce_queries import ask
from tests.sandbox.test_salesforce_records import make, read

PERSON = "/as-person/salesforce"
DATA = f"{PERSON}/services/data/v66.0"


async def act(control: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await control.post(f"{PERSON}/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


async def test_a_merge_leaves_its_master_and_moves_the_children(salesforce, control):
    one = await make(salesforce, "Account", Name="Acme", Syncline_Id__c="1")
    two = await make(salesforce, "Account", Name="ACME Inc", Phone="5", Syncline_Id__c="2")
    contact = await make(salesforce, "Contact", LastName="L", AccountId=two)
    await act(control, "merge", master=one, others=[two], fields={"Phone": "5"})
    assert (await read(salesforce, "Contact", contact))["AccountId"] == one
    assert (await read(salesforce, "Account", one))["Phone"] == "5"
    text = f"SELECT MasterRecordId, IsDeleted FROM Account WHERE Id = '{two}'"
    (lost,) = (await ask(salesforce, text, all=True))["records"]
    assert (lost["MasterRecordId"], lost["IsDeleted"]) == (one, True)
    gone = await salesforce.patch(f"/sobjects/Account/{two}", json={"Phone": "6"})
    assert gone.json()[0]["errorCode"] == "ENTITY_IS_DELETED"
    refused = await control.post(f"{PERSON}/merge", json={"master": one, "others": [contact]})
    assert refused.status_code == 400


async def test_the_api_has_no_merge(salesforce):
    home = str(salesforce.base_url).partition("/services")[0]
    assert (await salesforce.post(f"{home}/merge", json={})).status_code == 404


async def test_a_lead_becomes_a_contact_an_account_and_a_deal(salesforce, control):
    fields = {"FirstName": "Alan", "LastName": "Turing", "Email": "alan@bombe.example"}
    lead = await make(salesforce, "Lead", Company="Bombe", **fields)
    task = await make(salesforce, "Task", Subject="Call", WhoId=lead)
    found = await act(control, "convert", lead=lead)
    contact = await read(salesforce, "Contact", found["contactId"])
    assert (contact["Email"], contact["AccountId"]) == ("alan@bombe.example", found["accountId"])
    assert (await read(salesforce, "Account", found["accountId"]))["Name"] == "Bombe"
    assert (await read(salesforce, "Opportunity", found["opportunityId"]))["Name"] == "Bombe-"
    assert (await read(salesforce, "Task", task))["WhoId"] == found["contactId"]
    body = await read(salesforce, "Lead", lead)
    assert (body["IsConverted"], body["ConvertedContactId"]) == (True, found["contactId"])
    fixed = await salesforce.patch(f"/sobjects/Lead/{lead}", json={"Title": "x"})
    assert fixed.json()[0]["errorCode"] == "CANNOT_UPDATE_CONVERTED_LEAD"
    other = await make(salesforce, "Lead", LastName="Clarke", Company="Bombe")
    known = {"account": found["accountId"], "opportunity": None}
    again = await act(control, "convert", lead=other, **known)
    assert (again["accountId"], again["opportunityId"]) == (found["accountId"], None)


async def test_who_edits_is_kept(salesforce, control):
    grace = {"x-sandbox-person": "grace@syncline.example"}
    made = await control.post(f"{DATA}/sobjects/Account", json={"Name": "A"}, headers=grace)
    id = made.json()["id"]
    await control.patch(f"{DATA}/sobjects/Account/{id}", json={"Phone": "1"})
    text = "SELECT CreatedBy.Name, LastModifiedBy.Name, Owner.Name FROM Account"
    (row,) = (await ask(salesforce, text))["records"]
    who = [row[name]["Name"] for name in ("CreatedBy", "LastModifiedBy", "Owner")]
    assert who == ["Grace Hopper", "Alan Turing", "Grace Hopper"]
    past = (await control.get(f"/history/salesforce/account/{id}")).json()["fields"]
    assert [version["value"] for version in past["Phone"]] == ["1"]
    assert (await control.get("/counts")).json()["salesforce"]["rows"] == {}


async def test_a_user_who_left_owns_nothing_new(salesforce, control):
    person = {"email": "linus@syncline.example", "first_name": "Linus", "vendor": "salesforce"}
    id = (await control.post("/users", json=person)).json()["salesforce"]["id"]
    company = await make(salesforce, "Account", Name="A", OwnerId=id)
    await control.post("/users", json={**person, "active": False})
    await salesforce.patch(f"/sobjects/Account/{company}", json={"Phone": "1"})
    refused = await salesforce.post("/sobjects/Account", json={"Name": "B", "OwnerId": id})
    assert refused.json()[0]["errorCode"] == "INACTIVE_OWNER_OR_USER"


async def test_the_bin_can_be_emptied(salesforce, control):
    id = await make(salesforce, "Account", Name="A")
    await salesforce.delete(f"/sobjects/Account/{id}")
    await act(control, "empty-recycle-bin")
    assert (await salesforce.get(f"/sobjects/Account/{id}")).json()[0]["errorCode"] == "NOT_FOUND"
    assert (await ask(salesforce, "SELECT Id FROM Account", all=True))["records"] == []


async def test_seeds_and_the_page_show_the_third_crm(control, base):
    seed = {"accounts": 2, "contacts_per_account": 2, "opportunities_per_account": 1, "leads": 1}
    made = (await control.post("/seed", json={"salesforce": seed})).json()["salesforce"]
    assert made == {"Account": 2, "Contact": 4, "Opportunity": 2, "Lead": 1}
    shown = (await control.get("/records")).json()["salesforce"]
    assert len(shown["people"]) == 4
    assert shown["deals"][0]["company"] == shown["companies"][0]["name"]
    async with httpx.AsyncClient() as client:
        assert "Salesforce" in (await client.get(base)).text


async def test_a_flow_answers_the_api_with_a_change_of_its_own(salesforce, control):
    flow = {"type": "Account", "field": "Name", "case": "upper", "delay": 0.01, "times": 1}
    await control.post("/options", json={"salesforce": {"workflows": [flow]}})
    id = await make(salesforce, "Account", Name="Acme")
    while (await control.get("/options")).json()["salesforce"]["pending"]:
        pass
    assert (await read(salesforce, "Account", id))["Name"] == "ACME"


def test_call_outs_are_signed_after_standard_webhooks():
    body = (
        '{"events":[{"object":"Account","id":"001000000000001AAA","change":"update",'
        '"at":"2026-01-01T00:00:00Z","user":"005000000000001AAA","fields":{"Name":"Acmé"}}]}'
    ).encode()
    told = ("msg_2b7f0c4e1a", "1700000000", body)
    plain = sign("sf-apex-shared-secret-xyz", *told)
    assert plain == "v1,fz/s0WijLuXr4nTzn2gRe8VdsY8ZnQnIKGArCEpMYng="
    coded = sign("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", *told)
    assert coded == "v1,Nxpba3UXV8fvE+91nn8KJb2W8g8zWxK+Cwwp3yu08gc="


@pytest_asyncio.fixture(scope="module")
async def calling() -> Any:
    """A sandbox that calls a receiver."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with (
        running(*QUICK, "--salesforce-webhook", receiver.url) as url,
        httpx.AsyncClient(base_url=f"{url}/_sandbox") as control,
    ):
        yield control, receiver
    server.close()


@pytest_asyncio.fixture
async def told(calling: Any) -> Any:
    control, receiver = calling
    await control.post("/reset")
    while (await control.get("/counts")).json()["salesforce"]["pending"]:
        pass  # what was on its way
    receiver.hooks = []
    return calling


def events(hooks: list[Any]) -> list[dict[str, Any]]:
    return [event for hook in hooks for event in json.loads(hook.body)["events"]]


async def test_each_change_is_told_and_signed(told: Any):
    control, receiver = told
    made = await control.post(f"{DATA}/sobjects/Account", json={"Name": "Acme"})
    id = made.json()["id"]
    await control.patch(f"{DATA}/sobjects/Account/{id}", json={"Phone": "1"})
    await control.delete(f"{DATA}/sobjects/Account/{id}")
    await control.post(f"{PERSON}/undelete", json={"ids": [id]})
    hooks = await receiver.until(lambda hooks: len(events(hooks)) >= 4)
    assert [event["change"] for event in events(hooks)] == [
        "create",
        "update",
        "delete",
        "undelete",
    ]
    create, update = events(hooks)[:2]
    assert (create["object"], create["id"], create["fields"]["Name"]) == ("Account", id, "Acme")
    assert update["fields"] == {"Phone": "1"}
    assert update["user"].startswith("005")
    for hook in hooks:
        signed = f"{hook.headers['webhook-id']}.{hook.headers['webhook-timestamp']}.".encode()
        key = SALESFORCE.webhook_secret.encode()
        digest = hmac.new(key, signed + hook.body, hashlib.sha256).digest()
        assert hook.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


async def test_a_merge_is_told_with_its_master(told: Any):
    control, receiver = told
    ids = []
    for name in ("A", "B"):
        made = await control.post(f"{DATA}/sobjects/Account", json={"Name": name})
        ids.append(made.json()["id"])
    await control.post(f"{PERSON}/merge", json={"master": ids[0], "others": ids[1:]})
    hooks = await receiver.until(lambda hooks: len(events(hooks)) >= 4)
    merge = next(event for event in events(hooks) if event["change"] == "merge")
    assert (merge["id"], merge["fields"]) == (ids[1], {"MasterRecordId": ids[0]})


async def test_a_call_out_that_fails_is_not_sent_again(told: Any):
    control, receiver = told
    receiver.answers = [503]
    await control.post(f"{DATA}/sobjects/Account", json={"Name": "A"})
    await receiver.until(lambda hooks: len(hooks) == 1)
    while (await control.get("/counts")).json()["salesforce"]["pending"]:
        pass
    assert len(receiver.hooks) == 1
    status = (await control.get("/webhooks")).json()["salesforce"]
    assert (status["failed"], status["dropped"]) == (1, 1)
    await control.post("/options", json={"salesforce": {"callouts": False}})
    await control.post(f"{DATA}/sobjects/Account", json={"Name": "B"})
    assert (await control.get("/webhooks")).json()["salesforce"]["pending"] == 0


async def test_all_is_kept_over_a_restart(tmp_path: Any):
    state = ("--state", str(tmp_path / "state.json"))
    async with running(*QUICK, *state) as url, httpx.AsyncClient(base_url=url) as client:
        path = f"/_sandbox{DATA}/sobjects/Account"
        made = await client.post(path, json={"Name": "A", "Syncline_Id__c": "k"})
        id = made.json()["id"]
    async with running(*QUICK, *state) as url, httpx.AsyncClient(base_url=url) as client:
        path = f"/_sandbox{DATA}/sobjects/Account"
        assert (await client.get(f"{path}/Syncline_Id__c/k")).json()["Id"] == id
        assert (await client.post(path, json={"Name": "B"})).json()["id"] != id
        assert (await client.post("/_sandbox/reset")).is_success
        assert (await client.get(f"{path}/{id}")).status_code == 404
