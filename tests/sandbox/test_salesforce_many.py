"""Many things in one call to the local Salesforce: composite, tree, and bulk jobs."""

import asyncio
import csv
import io
from typing import Any

import httpx

from tests.sandbox.conftest import SALESFORCE
from tests.sandbox.test_salesforce_client import signed_in
from tests.sandbox.test_salesforce_queries import ask
from tests.sandbox.test_salesforce_records import make, read

BASE = "/services/data/v66.0"


def step(method: str, path: str, name: str, **body: Any) -> dict[str, Any]:
    found = {"method": method, "url": f"{BASE}{path}", "referenceId": name}
    return {**found, "body": body} if body else found


async def test_a_parent_and_its_child_are_made_in_one_call(salesforce, control):
    steps = [
        step("POST", "/sobjects/Account", "parent", Name="Acme"),
        step("POST", "/sobjects/Contact", "child", LastName="L", AccountId="@{parent.id}"),
        step("GET", "/sobjects/Contact/@{child.id}?fields=Name,AccountId", "seen"),
        step("GET", "/query?q=SELECT+Id+FROM+Contact+WHERE+AccountId='@{parent.id}'", "found"),
        step("PATCH", "/sobjects/Contact/@{found.records[0].Id}", "changed", Title="T"),
    ]
    answer = await salesforce.post("/composite", json={"compositeRequest": steps})
    rows = {row["referenceId"]: row for row in answer.json()["compositeResponse"]}
    assert [row["httpStatusCode"] for row in rows.values()] == [201, 201, 200, 200, 204]
    assert rows["seen"]["body"]["AccountId"] == rows["parent"]["body"]["id"]
    assert rows["parent"]["httpHeaders"]["Location"].startswith(f"{BASE}/sobjects/Account/")
    assert answer.headers["sforce-limit-info"].startswith("api-usage=1/")
    counted = (await control.get("/counts")).json()["salesforce"]
    assert counted["rows"]["Contact"] == {"created": 1, "updated": 1}


async def test_all_or_none_halts_the_rest(salesforce):
    steps = [
        step("POST", "/sobjects/Account", "one", Name="Acme"),
        step("POST", "/sobjects/Contact", "two", FirstName="L"),
    ]
    body = {"compositeRequest": steps, "allOrNone": True}
    rows = (await salesforce.post("/composite", json=body)).json()["compositeResponse"]
    codes = [row["body"][0]["errorCode"] for row in rows]
    assert codes == ["PROCESSING_HALTED", "REQUIRED_FIELD_MISSING"]
    assert (await ask(salesforce, "SELECT COUNT() FROM Account"))["totalSize"] == 0
    del body["allOrNone"]
    rows = (await salesforce.post("/composite", json=body)).json()["compositeResponse"]
    assert [row["httpStatusCode"] for row in rows] == [201, 400]


async def test_what_a_failed_step_was_to_give_is_missed(salesforce):
    steps = [
        step("POST", "/sobjects/Account", "one", Phone="1"),
        step("POST", "/sobjects/Contact", "two", LastName="L", AccountId="@{one.id}"),
    ]
    rows = (await salesforce.post("/composite", json={"compositeRequest": steps})).json()
    assert rows["compositeResponse"][1]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    many = [step("GET", "/limits", f"r{n}") for n in range(26)]
    assert (await salesforce.post("/composite", json={"compositeRequest": many})).is_error


async def test_graphs_succeed_or_fail_one_by_one(salesforce):
    graphs = [
        {"graphId": "1", "compositeRequest": [step("POST", "/sobjects/Account", "a", Name="A")]},
        {"graphId": "2", "compositeRequest": [step("POST", "/sobjects/Account", "a", Phone="1")]},
    ]
    answer = await salesforce.post("/composite/graph", json={"graphs": graphs})
    assert [graph["isSuccessful"] for graph in answer.json()["graphs"]] == [True, False]


async def test_a_batch_answers_each_on_its_own(salesforce):
    rows = [
        {"method": "GET", "url": "v66.0/limits"},
        {"method": "POST", "url": "v66.0/sobjects/Account", "richInput": {"Phone": "1"}},
    ]
    body = (await salesforce.post("/composite/batch", json={"batchRequests": rows})).json()
    assert [row["statusCode"] for row in body["results"]] == [200, 400]
    assert body["hasErrors"]


async def test_a_tree_grows_whole_or_not_at_all(salesforce):
    def leaf(name: str, **fields: Any) -> dict[str, Any]:
        return {"attributes": {"type": "Contact", "referenceId": name}, **fields}

    root = {"attributes": {"type": "Account", "referenceId": "a"}, "Name": "Acme"}
    grown = {**root, "Contacts": {"records": [leaf("b", LastName="B"), leaf("c", LastName="C")]}}
    made = await salesforce.post("/composite/tree/Account/", json={"records": [grown]})
    assert made.status_code == 201
    assert [row["referenceId"] for row in made.json()["results"]] == ["a", "b", "c"]
    wrong = {**root, "Contacts": {"records": [leaf("b", FirstName="B")]}}
    failed = await salesforce.post("/composite/tree/Account/", json={"records": [wrong]})
    assert failed.status_code == 400
    assert failed.json()["results"][0]["referenceId"] == "b"
    assert (await ask(salesforce, "SELECT COUNT() FROM Account"))["totalSize"] == 1


# -- bulk


def cells(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


async def ended(salesforce: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """A job, once it is no longer under way."""
    while True:
        job = (await salesforce.get(path)).json()
        if job["state"] not in ("UploadComplete", "InProgress"):
            return dict(job)
        await asyncio.sleep(0.02)


async def ingest(salesforce: httpx.AsyncClient, content: str, **job: Any) -> dict[str, Any]:
    """Run a job to its end, and show it."""
    made = (await salesforce.post("/jobs/ingest", json={"object": "Contact", **job})).json()
    assert made["state"] == "Open"
    path = f"/jobs/ingest/{made['id']}"
    sent = await salesforce.put(
        f"{path}/batches", content=content, headers={"content-type": "text/csv"}
    )
    assert sent.status_code == 201
    closed = await salesforce.patch(path, json={"state": "UploadComplete"})
    assert closed.json()["state"] == "UploadComplete"
    return await ended(salesforce, path)


async def test_a_job_writes_what_it_can_and_tells_the_rest(salesforce):
    company = await make(salesforce, "Account", Name="Acme", Syncline_Id__c="A")
    content = (
        "Syncline_Id__c,LastName,Email,Account.Syncline_Id__c\n"
        '1,"O\'Neil, Jr","",A\n2,Turing,not-an-address,\n3,Hopper,grace@acme.example,A\n'
    )
    wanted = {"operation": "upsert", "externalIdFieldName": "Syncline_Id__c"}
    job = await ingest(salesforce, content, **wanted)
    assert job["state"] == "JobComplete"
    assert (job["numberRecordsProcessed"], job["numberRecordsFailed"]) == (3, 1)
    path = f"/jobs/ingest/{job['id']}"
    good = cells(await salesforce.get(f"{path}/successfulResults/"))
    assert [(row["sf__Created"], row["LastName"]) for row in good] == [
        ("true", "O'Neil, Jr"),
        ("true", "Hopper"),
    ]
    assert (await read(salesforce, "Contact", good[0]["sf__Id"]))["AccountId"] == company
    (bad,) = cells(await salesforce.get(f"{path}/failedResults/"))
    assert bad["sf__Error"].startswith("INVALID_EMAIL_ADDRESS:")
    assert bad["Syncline_Id__c"] == "2"
    assert cells(await salesforce.get(f"{path}/unprocessedrecords/")) == []
    content = "Syncline_Id__c,Email\n3,#N/A\n"
    again = await ingest(salesforce, content, **wanted)
    (row,) = cells(await salesforce.get(f"/jobs/ingest/{again['id']}/successfulResults/"))
    assert row["sf__Created"] == "false"
    assert (await read(salesforce, "Contact", row["sf__Id"]))["Email"] is None
    assert (await salesforce.delete(path)).status_code == 204


async def test_a_job_with_an_unknown_column_fails_as_a_whole(salesforce):
    job = await ingest(salesforce, "LastName,Emial\nL,x\n", operation="insert")
    assert job["state"] == "Failed"
    assert job["errorMessage"] == "InvalidBatch : Field name not found : Emial"
    left = await salesforce.get(f"/jobs/ingest/{job['id']}/unprocessedrecords/")
    assert cells(left) == [{"LastName": "L", "Emial": "x"}]


async def test_a_job_can_be_aborted_and_takes_one_upload(salesforce):
    body = {"object": "Contact", "operation": "insert"}
    path = f"/jobs/ingest/{(await salesforce.post('/jobs/ingest', json=body)).json()['id']}"
    csv_type = {"content-type": "text/csv"}
    for status in (201, 400):
        sent = await salesforce.put(f"{path}/batches", content="LastName\nL\n", headers=csv_type)
        assert sent.status_code == status
    aborted = await salesforce.patch(path, json={"state": "Aborted"})
    assert aborted.json()["state"] == "Aborted"
    assert (await salesforce.patch(path, json={"state": "UploadComplete"})).status_code == 400


async def test_a_query_job_gives_its_rows_in_parts(salesforce):
    for number in range(5):
        await make(salesforce, "Account", Name=f"A{number}")
    body = {"operation": "query", "query": "SELECT Name, Owner.Name FROM Account ORDER BY Name"}
    job = (await salesforce.post("/jobs/query", json=body)).json()
    path = f"/jobs/query/{job['id']}"
    await ended(salesforce, path)
    names: list[str] = []
    locator = ""
    while locator != "null":
        query = {"maxRecords": "2", **({"locator": locator} if locator else {})}
        part = await salesforce.get(f"{path}/results", params=query)
        names += [row["Name"] for row in cells(part)]
        locator = part.headers["sforce-locator"]
    assert names == [f"A{number}" for number in range(5)]


async def test_simple_salesforce_runs_bulk_jobs(base: str):
    def work() -> None:
        client = signed_in(base, privatekey=SALESFORCE.key.read_text())
        rows = [{"LastName": f"L{n}", "Syncline_Id__c": str(n)} for n in range(30)]
        twice = [*rows, {"LastName": "L", "Syncline_Id__c": "0"}]
        results = client.bulk2.Contact.insert(records=twice, wait=0.1)
        assert results[0]["numberRecordsProcessed"] == 31
        assert results[0]["numberRecordsFailed"] == 1
        failed = client.bulk2.Contact.get_failed_records(results[0]["job_id"])
        assert "DUPLICATE_VALUE" in failed
        found = "".join(client.bulk2.Contact.query("SELECT LastName FROM Contact", wait=0.1))
        assert len(found.splitlines()) == 31
        again = {"external_id_field": "Syncline_Id__c", "wait": 0.1}
        upserted = client.bulk2.Contact.upsert(records=rows[:3], **again)
        assert upserted[0]["numberRecordsFailed"] == 0

    await asyncio.to_thread(work)
