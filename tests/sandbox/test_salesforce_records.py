"""Records in the local Salesforce: what is taken, what is refused, and how it is told."""

from typing import Any

import httpx
import pytest

from sandbox.salesforce.ids import is_id, numbered, whole


async def make(salesforce: httpx.AsyncClient, type: str, **fields: Any) -> str:
    answer = await salesforce.post(f"/sobjects/{type}/", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def read(salesforce: httpx.AsyncClient, type: str, id: str) -> dict[str, Any]:
    return dict((await salesforce.get(f"/sobjects/{type}/{id}")).json())


def test_ids_carry_their_checksum():
    assert whole("0014000001dVbVl") == "0014000001dVbVlAAK"
    assert whole("0014000001DVBVLAAK") == "0014000001dVbVlAAK"
    assert numbered("001", 0)[:3] == "001"
    assert len({numbered("003", n) for n in range(4000)}) == 4000
    assert len({numbered("003", n).lower() for n in range(4000)}) == 4000
    assert not is_id("001")
    assert not is_id("0014000001dVbVlAA!")


async def test_an_answer_to_a_change_says_nothing(salesforce):
    id = await make(salesforce, "Account", Name="  Acme ", Website="", AnnualRevenue="1000")
    answer = await salesforce.patch(f"/sobjects/account/{id[:15]}", json={"industry": "Banking"})
    assert (answer.status_code, answer.content) == (204, b"")
    found = await read(salesforce, "Account", id)
    assert found["attributes"]["url"] == f"/services/data/v66.0/sobjects/Account/{id}"
    assert (found["Name"], found["Website"], found["AnnualRevenue"]) == ("Acme", None, 1000.0)
    assert (found["Id"], found["Industry"], found["IsDeleted"]) == (id, "Banking", False)
    assert found["SystemModstamp"].endswith(".000+0000")
    some = await salesforce.get(f"/sobjects/Account/{id}", params={"fields": "Name,Phone"})
    assert some.json().keys() == {"attributes", "Name", "Phone", "Id"}


@pytest.mark.parametrize(
    ("type", "fields", "code", "named"),
    [
        ("Contact", {"FirstName": "Ada"}, "REQUIRED_FIELD_MISSING", ["LastName"]),
        ("Account", {"Name": "  "}, "REQUIRED_FIELD_MISSING", ["Name"]),
        ("Account", {"Name": "x" * 256}, "STRING_TOO_LONG", ["Name"]),
        ("Contact", {"LastName": "L", "Email": "ada"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
        ("Account", {"Name": "A", "Emial": "x"}, "INVALID_FIELD", None),
        ("Account", {"Name": "A", "Id": "x"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["Id"]),
        (
            "Contact",
            {"LastName": "L", "Name": "N"},
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            ["Name"],
        ),
        (
            "Opportunity",
            {"Name": "D", "StageName": "Nowhere", "CloseDate": "2030-01-01"},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            ["StageName"],
        ),
        (
            "Opportunity",
            {"Name": "D", "StageName": "Closed Won", "CloseDate": "01/02/2030"},
            "JSON_PARSER_ERROR",
            None,
        ),
        ("Account", {"Name": "A", "AnnualRevenue": "much"}, "JSON_PARSER_ERROR", None),
        ("Account", {"Name": "A", "ParentId": "003"}, "MALFORMED_ID", ["ParentId"]),
        (
            "Contact",
            {"LastName": "L", "AccountId": "001000000000001AAA"},
            "INVALID_CROSS_REFERENCE_KEY",
            ["AccountId"],
        ),
        (
            "Contact",
            {"LastName": "L", "DoNotCall": None},
            "INVALID_TYPE_ON_FIELD_IN_RECORD",
            ["DoNotCall"],
        ),
        (
            "Event",
            {"Subject": "S"},
            "REQUIRED_FIELD_MISSING",
            ["DurationInMinutes", "ActivityDateTime"],
        ),
        (
            "Contact",
            {"LastName": "L", "Account": {"Syncline_Id__c": "none"}},
            "INVALID_FIELD",
            [],
        ),
    ],
)
async def test_what_cannot_be_saved_is_refused(salesforce, type, fields, code, named):
    answer = await salesforce.post(f"/sobjects/{type}", json=fields)
    assert answer.status_code == 400
    (problem,) = answer.json()
    assert problem["errorCode"] == code
    assert problem.get("fields") == named


async def test_what_is_not_there_is_told_apart(salesforce):
    id = await make(salesforce, "Account", Name="Acme")
    assert (await salesforce.delete(f"/sobjects/Account/{id}")).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        gone = await salesforce.request(method, f"/sobjects/Account/{id}", json={"Name": "B"})
        assert (gone.status_code, gone.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")
    never = await salesforce.get("/sobjects/Account/001000000000001AAA")
    assert (never.status_code, never.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    assert (await salesforce.get("/sobjects/Nothing/1")).status_code == 404
    assert (await salesforce.put(f"/sobjects/Account/{id}", json={})).status_code == 405


async def test_an_external_id_is_unique_whatever_its_case(salesforce):
    path = "/sobjects/Account/Syncline_Id__c/K-1"
    made = await salesforce.patch(path, json={"Name": "Acme"})
    assert (made.status_code, made.json()["created"]) == (201, True)
    again = await salesforce.patch(path.lower().replace("account", "Account"), json={"Phone": "1"})
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["id"] == made.json()["id"]
    taken = await salesforce.post("/sobjects/Account", json={"Name": "B", "Syncline_Id__c": "k-1"})
    assert taken.json()[0]["errorCode"] == "DUPLICATE_VALUE"
    assert made.json()["id"] in taken.json()[0]["message"]
    own = await salesforce.patch(path, json={"Syncline_Id__c": "K-1"})
    assert own.json()[0]["errorCode"] == "INVALID_FIELD"
    assert (await salesforce.get(path)).json()["Name"] == "Acme"
    assert (await salesforce.patch("/sobjects/Account/Phone/1", json={})).status_code == 404
    contact = await make(salesforce, "Contact", LastName="L", Account={"Syncline_Id__c": "K-1"})
    assert (await read(salesforce, "Contact", contact))["AccountId"] == made.json()["id"]
    lacking = await salesforce.patch(f"{path}9?updateOnly=true", json={"Name": "N"})
    assert lacking.status_code == 404


async def test_a_change_of_nothing_is_a_modification(salesforce, control):
    await control.post("/options", json={"salesforce": {"stamp_lag": 60}})
    id = await make(salesforce, "Account", Name="Acme")
    before = (await read(salesforce, "Account", id))["SystemModstamp"]
    await control.post("/options", json={"salesforce": {"stamp_lag": 0}})
    await salesforce.patch(f"/sobjects/Account/{id}", json={"Name": "Acme"})
    assert (await read(salesforce, "Account", id))["SystemModstamp"] > before


async def test_a_stale_change_is_refused_if_asked(salesforce):
    id = await make(salesforce, "Account", Name="Acme")
    old = {"if-unmodified-since": "Thu, 01 Jan 2015 00:00:00 GMT"}
    answer = await salesforce.patch(f"/sobjects/Account/{id}", json={"Name": "B"}, headers=old)
    assert answer.status_code == 412


async def test_what_follows_from_a_value_is_worked_out(salesforce):
    company = await make(salesforce, "Account", Name="Acme")
    ada = await make(salesforce, "Contact", FirstName="Ada", LastName="L", AccountId=company)
    deal = await make(
        salesforce,
        "Opportunity",
        Name="D",
        StageName="Proposal/Price Quote",
        CloseDate="2030-01-01",
        Amount=200,
        AccountId=company,
    )
    found = await read(salesforce, "Opportunity", deal)
    assert (found["Probability"], found["ExpectedRevenue"], found["IsClosed"]) == (75, 150, False)
    await salesforce.patch(f"/sobjects/Opportunity/{deal}", json={"StageName": "Closed Won"})
    found = await read(salesforce, "Opportunity", deal)
    assert (found["Probability"], found["IsWon"]) == (100, True)
    case = await make(salesforce, "Case", Subject="Help", ContactId=ada)
    found = await read(salesforce, "Case", case)
    assert (found["AccountId"], found["Status"], found["CaseNumber"]) == (
        company,
        "New",
        "00001000",
    )
    await salesforce.patch(f"/sobjects/Case/{case}", json={"Status": "Closed"})
    assert (await read(salesforce, "Case", case))["ClosedDate"]
    task = await make(salesforce, "Task", Subject="Call", WhoId=ada, Status="Completed")
    found = await read(salesforce, "Task", task)
    assert (found["AccountId"], found["IsClosed"], found["Priority"]) == (company, True, "Normal")
    start = {"StartDateTime": "2030-01-01T10:00:00+02:00", "DurationInMinutes": 45}
    event = await make(salesforce, "Event", Subject="Meet", WhatId=deal, **start)
    found = await read(salesforce, "Event", event)
    assert found["EndDateTime"] == "2030-01-01T08:45:00.000+0000"
    lead = await make(salesforce, "Lead", LastName="Turing", Company="Bombe")
    body = {"Subject": "x", "WhoId": lead, "WhatId": deal}
    both = await salesforce.post("/sobjects/Task", json=body)
    assert both.json()[0]["errorCode"] == "FIELD_INTEGRITY_EXCEPTION"


async def test_only_one_contact_of_a_deal_is_primary(salesforce):
    deal = {"Name": "D", "StageName": "Prospecting", "CloseDate": "2030-01-01"}
    deal_id = await make(salesforce, "Opportunity", **deal)
    for name in ("One", "Two"):
        contact = await make(salesforce, "Contact", LastName=name)
        ends = {"OpportunityId": deal_id, "ContactId": contact}
        await make(salesforce, "OpportunityContactRole", IsPrimary=True, **ends)
    text = "SELECT Contact.Name FROM OpportunityContactRole WHERE IsPrimary = true"
    found = (await salesforce.get("/query", params={"q": text})).json()["records"]
    assert [row["Contact"]["Name"] for row in found] == ["Two"]


async def test_a_delete_takes_the_children_with_it(salesforce, control):
    company = await make(salesforce, "Account", Name="Acme")
    contact = await make(salesforce, "Contact", LastName="L", AccountId=company)
    await salesforce.delete(f"/sobjects/Account/{company}")
    assert (await salesforce.get(f"/sobjects/Contact/{contact}")).status_code == 404
    answer = await control.post("/as-person/salesforce/undelete", json={"ids": [company]})
    assert answer.is_success
    assert (await read(salesforce, "Contact", contact))["AccountId"] == company
    await make(salesforce, "Case", Subject="Open", AccountId=company)
    kept = await salesforce.delete(f"/sobjects/Account/{company}")
    assert kept.json()[0]["errorCode"] == "DELETE_FAILED"


async def test_rows_of_a_collection_have_fates_of_their_own(salesforce):
    rows = [
        {"attributes": {"type": "Account"}, "Name": "Acme", "Syncline_Id__c": "1"},
        {"attributes": {"type": "Account"}},
        {"attributes": {"type": "Account"}, "Name": "Other", "Syncline_Id__c": "1"},
        {"attributes": {"type": "Contact"}, "LastName": "L"},
    ]
    made = await salesforce.post("/composite/sobjects", json={"records": rows})
    assert made.status_code == 200
    fates = made.json()
    assert [fate["success"] for fate in fates] == [True, False, False, True]
    assert fates[1]["errors"][0] == {
        "statusCode": "REQUIRED_FIELD_MISSING",
        "message": "Required fields are missing: [Name]",
        "fields": ["Name"],
    }
    assert fates[2]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"
    changes = [
        {"attributes": {"type": "Account"}, "id": fates[0]["id"], "Phone": "1"},
        {"attributes": {"type": "Account"}, "id": "001000000000001AAA", "Phone": "1"},
    ]
    changed = await salesforce.patch("/composite/sobjects", json={"records": changes})
    assert [fate["success"] for fate in changed.json()] == [True, False]
    assert changed.json()[1]["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"
    ids = [fates[0]["id"], "001000000000001AAA"]
    asked = {"ids": ids, "fields": ["Name", "Phone"]}
    read_back = (await salesforce.post("/composite/sobjects/Account", json=asked)).json()
    assert (read_back[0]["Phone"], read_back[1]) == ("1", None)
    gone = await salesforce.delete("/composite/sobjects", params={"ids": ",".join(ids)})
    assert [fate["success"] for fate in gone.json()] == [True, False]


async def test_all_or_none_undoes_everything(salesforce, control):
    rows = [
        {"attributes": {"type": "Account"}, "Name": "Acme", "Syncline_Id__c": "1"},
        {"attributes": {"type": "Account"}},
    ]
    body = {"records": rows, "allOrNone": True}
    fates = (await salesforce.post("/composite/sobjects", json=body)).json()
    codes = [fate["errors"][0]["statusCode"] for fate in fates]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    found = (await salesforce.get("/query", params={"q": "SELECT COUNT() FROM Account"})).json()
    assert found["totalSize"] == 0
    assert (await control.get("/counts")).json()["salesforce"]["rows"] == {}
    again = await salesforce.post("/composite/sobjects", json={"records": rows[:1]})
    assert again.json()[0]["success"]


async def test_collections_have_their_limits(salesforce):
    many = [{"attributes": {"type": "Account"}, "Name": "A"}] * 201
    answer = await salesforce.post("/composite/sobjects", json={"records": many})
    assert answer.json()[0]["errorCode"] == "EXCEEDED_ID_LIMIT"
    mixed = [
        {"attributes": {"type": type}, "Name": "A", "LastName": "A"}
        for _ in range(6)
        for type in ("Account", "Contact")
    ]
    answer = await salesforce.post("/composite/sobjects", json={"records": mixed})
    assert answer.status_code == 400


async def test_a_collection_upserts_by_external_id(salesforce):
    path = "/composite/sobjects/Contact/Syncline_Id__c"
    rows = [
        {"attributes": {"type": "Contact"}, "Syncline_Id__c": str(n), "LastName": "L"}
        for n in range(3)
    ]
    first = (await salesforce.patch(path, json={"records": rows[:2]})).json()
    assert [row["created"] for row in first] == [True, True]
    rows[0].pop("Syncline_Id__c")
    second = (await salesforce.patch(path, json={"records": rows})).json()
    assert [row.get("created") for row in second] == [None, False, True]


async def test_a_locked_row_and_a_duplicate_are_refused_on_request(salesforce, control):
    await control.post("/options", json={"salesforce": {"lock_rows": 1}})
    body = {"LastName": "L", "Email": "ada@acme.example"}
    locked = await salesforce.post("/sobjects/Contact", json=body)
    assert locked.json()[0]["errorCode"] == "UNABLE_TO_LOCK_ROW"
    first = await make(salesforce, "Contact", **body)
    await control.post("/options", json={"salesforce": {"duplicate_rule": "alert"}})
    alike = await salesforce.post("/sobjects/Contact", json=body)
    (problem,) = alike.json()
    assert (alike.status_code, problem["errorCode"]) == (400, "DUPLICATES_DETECTED")
    matched = problem["duplicateResult"]["matchResults"][0]["matchRecords"]
    assert [row["record"]["Id"] for row in matched] == [first]
    many = {"records": [{"attributes": {"type": "Contact"}, **body}]}
    (fate,) = (await salesforce.post("/composite/sobjects", json=many)).json()
    assert fate["errors"][0].keys() == {"statusCode", "message", "fields"}
    anyway = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    assert (await salesforce.post("/sobjects/Contact", json=body, headers=anyway)).is_success
    await control.post("/options", json={"salesforce": {"duplicate_rule": "block"}})
    blocked = await salesforce.post("/sobjects/Contact", json=body, headers=anyway)
    assert blocked.json()[0]["duplicateResult"]["allowSave"] is False


async def test_fields_may_be_hidden_from_the_api_or_read_only(salesforce, control):
    wanted = {"hidden": ["Account.Website"], "read_only": ["Account.Phone"]}
    await control.post("/options", json={"salesforce": wanted})
    described = (await salesforce.get("/sobjects/Account/describe")).json()["fields"]
    fields = {field["name"]: field for field in described}
    assert "Website" not in fields
    assert fields["Phone"]["updateable"] is False
    unknown = await salesforce.post("/sobjects/Account", json={"Name": "A", "Website": "a.example"})
    assert unknown.json()[0]["errorCode"] == "INVALID_FIELD"
    fixed = await salesforce.post("/sobjects/Account", json={"Name": "A", "Phone": "1"})
    assert fixed.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    person = await control.post(
        "/as-person/salesforce/services/data/v66.0/sobjects/Account",
        json={"Name": "A", "Website": "a.example", "Phone": "1"},
    )
    assert person.status_code == 201


async def test_notes_carry_their_text_apart(salesforce):
    note = await make(salesforce, "ContentNote", Title="Call", Content="PGI+SGk8L2I+")
    company = await make(salesforce, "Account", Name="Acme")
    ends = {"ContentDocumentId": note, "LinkedEntityId": company, "ShareType": "V"}
    await make(salesforce, "ContentDocumentLink", **ends)
    found = await read(salesforce, "ContentNote", note)
    assert found["Content"] == f"/services/data/v66.0/sobjects/ContentNote/{note}/Content"
    raw = await salesforce.get(f"/sobjects/ContentNote/{note}/Content")
    assert raw.text == "<b>Hi</b>"


async def test_a_describe_that_did_not_change_is_not_sent_again(salesforce):
    first = await salesforce.get("/sobjects/Account/describe")
    since = {"if-modified-since": first.headers["last-modified"]}
    assert (await salesforce.get("/sobjects/Account/describe", headers=since)).status_code == 304


async def test_updated_and_deleted_tell_ids_between_two_times(salesforce):
    ids = [await make(salesforce, "Account", Name=name) for name in ("A", "B")]
    await salesforce.delete(f"/sobjects/Account/{ids[0]}")
    text = "SELECT SystemModstamp FROM Account"
    row = (await salesforce.get("/query", params={"q": text})).json()["records"][0]
    day = row["SystemModstamp"][:10]
    span = {"start": f"{day}T00:00:00Z", "end": f"{day}T23:59:59+00:00"}
    updated = (await salesforce.get("/sobjects/Account/updated/", params=span)).json()
    assert updated["ids"] == ids[1:]
    assert updated["latestDateCovered"].endswith("+0000")
    deleted = (await salesforce.get("/sobjects/Account/deleted/", params=span)).json()
    assert [row["id"] for row in deleted["deletedRecords"]] == ids[:1]
    assert "earliestDateAvailable" in deleted
    old = {"start": "2020-01-01T00:00:00Z", "end": f"{day}T00:00:00Z"}
    refused = await salesforce.get("/sobjects/Account/updated/", params=old)
    assert refused.json()[0]["errorCode"] == "INVALID_REPLICATION_DATE"


async def test_features_of_an_org_may_be_on(salesforce, control):
    wanted = {"multi_currency": True, "person_accounts": True}
    await control.post("/options", json={"salesforce": wanted})
    person = await make(salesforce, "Account", FirstName="Ada", LastName="Lovelace")
    found = await read(salesforce, "Account", person)
    assert (found["Name"], found["IsPersonAccount"]) == ("Ada Lovelace", True)
    company = await make(salesforce, "Account", Name="Acme", CurrencyIsoCode="EUR")
    found = await read(salesforce, "Account", company)
    assert (found["IsPersonAccount"], found["CurrencyIsoCode"]) == (False, "EUR")
    body = {"Name": "B", "CurrencyIsoCode": "XXX"}
    refused = await salesforce.post("/sobjects/Account", json=body)
    assert refused.json()[0]["errorCode"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    await control.post("/options", json={"salesforce": {"multi_currency": False}})
    assert "CurrencyIsoCode" not in await read(salesforce, "Account", company)


async def test_a_commit_may_carry_an_older_time(salesforce, control):
    first = await make(salesforce, "Account", Name="A")
    await control.post("/options", json={"salesforce": {"stamp_lag": 60}})
    late = await make(salesforce, "Account", Name="B")
    stamps = [(await read(salesforce, "Account", id))["SystemModstamp"] for id in (first, late)]
    assert stamps[1] < stamps[0]


async def test_amounts_may_be_rounded(salesforce, control):
    await control.post("/options", json={"salesforce": {"amounts": 10, "trim": True}})
    deal = {"Name": "A   B", "StageName": "Prospecting", "CloseDate": "2030-01-01"}
    found = await read(
        salesforce, "Opportunity", await make(salesforce, "Opportunity", Amount=1234.56, **deal)
    )
    assert (found["Amount"], found["Name"]) == (1230.0, "A B")
