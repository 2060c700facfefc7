"""Fields and objects that are made in the local Salesforce, by its API or by people."""

from typing import Any

import httpx

from tests.sandbox.conftest import QUICK, running, signed_in
from tests.sandbox.test_salesforce_queries import ask
from tests.sandbox.test_salesforce_records import make, read

FIELD = "/tooling/sobjects/CustomField/"
PERSON = "/as-person/salesforce"


def field(name: str, type: str = "Text", **more: Any) -> dict[str, Any]:
    size = {"length": 40} if type == "Text" else {}
    return {"FullName": name, "Metadata": {"type": type, "label": "L", **size, **more}}


async def test_a_field_of_the_api_is_hidden_until_it_is_granted(salesforce):
    key = field("Account.Key__c", externalId=True, unique=True)
    assert (await salesforce.post(FIELD, json=key)).status_code == 201
    unknown = await salesforce.post("/sobjects/Account", json={"Name": "A", "Key__c": "k"})
    assert unknown.json()[0]["errorCode"] == "INVALID_FIELD"
    set_id = await make(salesforce, "PermissionSet", Name="Ours", Label="Ours")
    rights = {"PermissionsRead": True, "PermissionsEdit": True}
    row = {"ParentId": set_id, "SobjectType": "Account", "Field": "Account.Key__c", **rights}
    await make(salesforce, "FieldPermissions", **row)
    assert (await salesforce.post("/sobjects/Account", json={"Name": "A", "Key__c": "k"})).is_error
    user = (await ask(salesforce, "SELECT Id FROM User LIMIT 1"))["records"][0]["Id"]
    await make(salesforce, "PermissionSetAssignment", PermissionSetId=set_id, AssigneeId=user)
    made = await salesforce.patch("/sobjects/Account/Key__c/k", json={"Name": "A"})
    assert made.status_code == 201
    described = (await salesforce.get("/sobjects/Account/describe")).json()["fields"]
    (found,) = [each for each in described if each["name"] == "Key__c"]
    assert (found["externalId"], found["unique"], found["custom"]) == (True, True, True)


async def test_a_field_cannot_be_made_twice_nor_nowhere(salesforce):
    again = await salesforce.post(FIELD, json=field("Account.Syncline_Id__c"))
    assert again.json()[0]["errorCode"] == "DUPLICATE_DEVELOPER_NAME"
    for name in ("Nothing.Key__c", "Account.Key"):
        assert (await salesforce.post(FIELD, json=field(name))).status_code == 400


async def test_a_person_makes_fields_of_every_type(salesforce, control):
    data = f"{PERSON}/services/data/v66.0{FIELD}"
    values = {"value": [{"fullName": "A"}, {"fullName": "B", "default": True}]}
    tiers = {"restricted": True, "valueSetDefinition": values}
    fields = [
        field(
            "Account.Tier__c",
            "Picklist",
            valueSet=tiers,
        ),
        field("Account.Score__c", "Number", precision=5, scale=1),
        field("Account.Since__c", "Date"),
        field("Account.Partner__c", "Lookup", referenceTo="Account", relationshipName="Partner"),
    ]
    for each in fields:
        answer = await control.post(data, json=each)
        assert answer.status_code == 201, answer.text
    one = await make(salesforce, "Account", Name="One", Score__c="3.14159", Since__c="2026-01-01")
    found = await read(salesforce, "Account", one)
    assert (found["Tier__c"], found["Score__c"]) == ("B", 3.1)
    bad = await salesforce.post("/sobjects/Account", json={"Name": "A", "Tier__c": "C"})
    assert bad.json()[0]["errorCode"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    await make(salesforce, "Account", Name="Two", Partner__c=one)
    text = "SELECT Partner__r.Name FROM Account WHERE Partner__c != null"
    assert (await ask(salesforce, text))["records"][0]["Partner__r"]["Name"] == "One"


async def test_custom_objects_are_records_like_others(salesforce, control):
    await control.post(f"{PERSON}/custom-objects", json={"name": "Thing__c"})
    data = f"{PERSON}/services/data/v66.0{FIELD}"
    await control.post(data, json=field("Thing__c.Key__c", externalId=True, unique=True))
    made = await salesforce.patch("/sobjects/Thing__c/Key__c/1", json={"Name": "T"})
    assert made.json()["id"].startswith("a00")
    assert (await ask(salesforce, "SELECT Name FROM Thing__c"))["totalSize"] == 1
    names = {o["name"] for o in (await salesforce.get("/sobjects")).json()["sobjects"]}
    assert "Thing__c" in names


async def test_stages_come_change_and_go(salesforce, control):
    stage = {"ApiName": "Demo", "MasterLabel": "Demo", "IsActive": True, "DefaultProbability": 30.0}
    made = await control.post(f"{PERSON}/setup/OpportunityStage", json=stage)
    id = made.json()["id"]
    deal = {"Name": "D", "StageName": "Demo", "CloseDate": "2030-01-01"}
    found = await read(salesforce, "Opportunity", await make(salesforce, "Opportunity", **deal))
    assert (found["StageName"], found["Probability"]) == ("Demo", 30)
    await control.patch(f"{PERSON}/setup/OpportunityStage/{id}", json={"IsActive": False})
    refused = await salesforce.post("/sobjects/Opportunity", json=deal)
    assert refused.json()[0]["errorCode"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    await control.delete(f"{PERSON}/setup/OpportunityStage/{id}")
    text = "SELECT Id FROM OpportunityStage WHERE ApiName = 'Demo'"
    assert (await ask(salesforce, text))["records"] == []
    assert (await control.post(f"{PERSON}/setup/Account", json={"Name": "A"})).status_code == 404


async def test_what_was_made_is_kept_over_a_restart(tmp_path: Any):
    state = ("--state", str(tmp_path / "state.json"))
    async with running(*QUICK, *state) as url, httpx.AsyncClient(base_url=url) as client:
        await client.post(f"/_sandbox{PERSON}/custom-objects", json={"name": "Thing__c"})
        path = f"/_sandbox{PERSON}/services/data/v66.0"
        await client.post(f"{path}{FIELD}", json=field("Thing__c.Key__c"))
        await client.post(f"{path}/sobjects/Thing__c", json={"Name": "T", "Key__c": "k"})
    async with running(*QUICK, *state) as url, signed_in(f"{url}/salesforce") as api:
        found = await ask(api, "SELECT Name FROM Thing__c WHERE Key__c = 'K'")
        assert [row["Name"] for row in found["records"]] == ["T"]
