"""SOQL in the local Salesforce: what it finds, and what it refuses."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.salesforce.soql import characters, decoded, parse
from sandbox.wire import RefusedError
from tests.sandbox.test_salesforce_records import make


async def ask(salesforce: httpx.AsyncClient, text: str, *, all: bool = False) -> Any:
    path = "/queryAll" if all else "/query"
    answer = await salesforce.get(path, params={"q": text})
    return answer.json()


async def names(salesforce: httpx.AsyncClient, where: str) -> list[str]:
    """The names of the contacts that meet a condition, in the order they were made."""
    found = await ask(salesforce, f"SELECT Name FROM Contact WHERE {where}")
    assert isinstance(found, dict), found
    return [row["Name"] for row in found["records"]]


@pytest.fixture
async def staff(salesforce: httpx.AsyncClient) -> str:
    """Three contacts, two of them of one account, whose id is given."""
    company = await make(salesforce, "Account", Name="O'Neil & Söhne", AnnualRevenue=10)
    rows: list[dict[str, Any]] = [
        {"LastName": "Ada", "Email": "ada@one.example", "AccountId": company, "DoNotCall": True},
        {"LastName": "Bob_1", "Email": "bob@two.example", "AccountId": company},
        {"LastName": "100%", "Birthdate": "1990-05-01"},
    ]
    for row in rows:
        await make(salesforce, "Contact", **row)
    return company


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("LastName = 'ADA'", ["Ada"]),
        ("LastName != 'ada'", ["Bob_1", "100%"]),
        ("Email != 'ada@one.example'", ["Bob_1", "100%"]),
        ("Email = null", ["100%"]),
        ("Email != null AND (LastName = 'Ada' OR LastName = 'x')", ["Ada"]),
        ("NOT LastName IN ('Ada', 'Bob_1')", ["100%"]),
        ("LastName NOT IN ('Ada', 'Bob_1')", ["100%"]),
        ("LastName LIKE 'b%'", ["Bob_1"]),
        ("LastName LIKE '%\\\\_1'", ["Bob_1"]),
        ("LastName LIKE '1__\\\\%'", ["100%"]),
        ("LastName LIKE 'A_A'", ["Ada"]),
        ("Account.Name = 'o\\'neil & söhne'", ["Ada", "Bob_1"]),
        ("Account.Owner.Name LIKE 'Syncline%'", ["Ada", "Bob_1"]),
        ("DoNotCall = true", ["Ada"]),
        ("Birthdate = 1990-05-01", ["100%"]),
        ("Birthdate < 2000-01-01 AND Birthdate > 1980-01-01", ["100%"]),
        ("CreatedDate > 2020-01-01T00:00:00Z", ["Ada", "Bob_1", "100%"]),
        ("CreatedDate > 2020-01-01T00:00:00.000+02:00", ["Ada", "Bob_1", "100%"]),
        ("CreatedDate = TODAY", ["Ada", "Bob_1", "100%"]),
        ("CreatedDate < LAST_N_DAYS:3", []),
        ("Account.AnnualRevenue >= 10.0", ["Ada", "Bob_1"]),
        ("AccountId IN (SELECT Id FROM Account WHERE Name LIKE 'O%')", ["Ada", "Bob_1"]),
        ("LastName = 'Ada\\u0020'", []),
    ],
)
async def test_conditions_find_what_they_mean(salesforce, staff, where, found):
    assert await names(salesforce, where.replace("\\\\", "\\")) == found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT Id FROM Contact WHERE LastName = 'a\\q'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE LastName = 'a\\%'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE LastName = 'a", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE LastName = 'O'Neil'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE A = 'a' AND B = 'b' OR C = 'c'", "MALFORMED_QUERY"),
        ("SELECT Id Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact LIMIT many", "MALFORMED_QUERY"),
        ("SELECT Emial FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE LastName = 5", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE CreatedDate > '2020-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact ORDER BY Description", "INVALID_FIELD"),
        ("SELECT Boss.Name FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Person", "INVALID_TYPE"),
        ("SELECT Id, (SELECT Id FROM Children) FROM Account", "INVALID_TYPE"),
        ("SELECT Id FROM Contact WHERE Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE CreatedDate LIKE '2020%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM ContentDocumentLink", "MALFORMED_QUERY"),
        ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY"),
    ],
)
async def test_what_makes_no_sense_is_refused(salesforce, text, code):
    (problem,) = await ask(salesforce, text)
    assert problem["errorCode"] == code


def test_literals_are_read_as_the_vendor_says():
    assert decoded(r"'it\'s \\ \"quoted\" \n \u00e9'") == 'it\'s \\ "quoted" \n é'
    assert characters(r"'a%\%'", like=True) == [("a", False), ("%", True), ("%", False)]
    with pytest.raises(RefusedError):
        decoded(r"'\x'")
    assert parse("SELECT Id FROM Account WHERE Name = 'x'' ' ".replace("''", "\\'")).where
    with pytest.raises(RefusedError):
        parse("SELECT Id FROM Account WHERE Name = '" + "x" * 100_000 + "'")


@given(st.text())
def test_a_quoted_text_is_read_as_it_was(text: str):
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert decoded(quoted) == text
    where: Any = parse(f"SELECT Id FROM Account WHERE Name = {quoted}").where
    assert where.value.value == text


async def test_parents_and_children_come_nested(salesforce, staff):
    text = "SELECT Name, Account.Name, Account.Owner.Email FROM Contact ORDER BY LastName DESC"
    rows = (await ask(salesforce, text))["records"]
    assert [row["Name"] for row in rows] == ["Bob_1", "Ada", "100%"]
    assert rows[0]["Account"]["Owner"]["Email"] == "integration@syncline.example"
    assert rows[2]["Account"] is None
    children = "(SELECT Name FROM Contacts ORDER BY Name LIMIT 1), (SELECT Id FROM Cases)"
    text = f"SELECT Id, {children} FROM Account"
    (row,) = (await ask(salesforce, text))["records"]
    assert [child["Name"] for child in row["Contacts"]["records"]] == ["Ada"]
    assert row["Cases"] is None


async def test_whom_a_task_is_with_may_be_of_several_kinds(salesforce, staff):
    lead = await make(salesforce, "Lead", LastName="Turing", Company="Bombe")
    await make(salesforce, "Task", Subject="1", WhoId=lead)
    await make(salesforce, "Task", Subject="2", WhatId=staff)
    text = "SELECT Who.Name, Who.Type, What.Name, Owner.Name FROM Task ORDER BY Subject"
    one, two = (await ask(salesforce, text))["records"]
    assert (one["Who"]["Name"], one["Who"]["Type"], one["What"]) == ("Turing", "Lead", None)
    assert (two["Who"], two["What"]["Name"]) == (None, "O'Neil & Söhne")


async def test_counts_and_groups(salesforce, staff):
    assert (await ask(salesforce, "SELECT COUNT() FROM Contact"))["totalSize"] == 3
    text = "SELECT AccountId, COUNT(Id) n FROM Contact GROUP BY AccountId"
    rows = (await ask(salesforce, text))["records"]
    assert {(row["AccountId"], row["n"]) for row in rows} == {(staff, 2), (None, 1)}
    text = "SELECT MIN(LastName), MAX(CreatedDate) latest FROM Contact"
    (row,) = (await ask(salesforce, text))["records"]
    assert row["expr0"] == "100%"
    assert row["latest"].endswith("+0000")


async def test_pages_follow_by_key_without_gaps(salesforce):
    for number in range(7):
        await make(salesforce, "Account", Name=f"A{number}")
    seen: list[str] = []
    where = "SystemModstamp > 2020-01-01T00:00:00Z"
    while True:
        text = (
            f"SELECT Id, SystemModstamp FROM Account WHERE {where} "
            "ORDER BY SystemModstamp, Id LIMIT 3"
        )
        rows = (await ask(salesforce, text))["records"]
        if not rows:
            break
        seen += [row["Id"] for row in rows]
        at, id = rows[-1]["SystemModstamp"].replace("+0000", "Z"), rows[-1]["Id"]
        where = f"(SystemModstamp = {at} AND Id > '{id}') OR SystemModstamp > {at}"
    assert len(seen) == len(set(seen)) == 7


async def test_pages_may_be_smaller_and_end(salesforce):
    rows = [{"attributes": {"type": "Account"}, "Name": f"A{n}"} for n in range(200)]
    for _ in range(2):
        await salesforce.post("/composite/sobjects", json={"records": rows})
    small = {"Sforce-Query-Options": "batchSize=200"}
    query = {"q": "SELECT Id FROM Account OFFSET 50"}
    page = (await salesforce.get("/query", params=query, headers=small)).json()
    assert (len(page["records"]), page["totalSize"], page["done"]) == (200, 350, False)
    home = str(salesforce.base_url).partition("/services")[0]
    rest = (await salesforce.get(home + page["nextRecordsUrl"])).json()
    assert (len(rest["records"]), rest["done"]) == (150, True)
    assert (await salesforce.get("/query/01gNothing-200")).json()[0]["errorCode"] == (
        "INVALID_QUERY_LOCATOR"
    )


async def test_deleted_records_are_found_only_if_asked_for(salesforce, staff):
    await salesforce.delete(f"/sobjects/Account/{staff}")
    text = "SELECT Id, IsDeleted FROM Account WHERE IsDeleted = true"
    assert (await ask(salesforce, text))["records"] == []
    (row,) = (await ask(salesforce, text, all=True))["records"]
    assert (row["Id"], row["IsDeleted"]) == (staff, True)


async def test_an_address_that_is_too_long_is_refused(salesforce):
    text = "SELECT Id FROM Account WHERE Name = '" + "x" * 17_000 + "'"
    assert (await salesforce.get("/query", params={"q": text})).status_code == 414


async def test_the_history_of_fields_can_be_asked_for(salesforce):
    deal = {"Name": "D", "StageName": "Prospecting", "CloseDate": "2030-01-01"}
    id = await make(salesforce, "Opportunity", **deal)
    await salesforce.patch(f"/sobjects/Opportunity/{id}", json={"Amount": 5, "Description": "x"})
    text = (
        "SELECT Field, OldValue, NewValue, CreatedById FROM OpportunityFieldHistory "
        f"WHERE OpportunityId = '{id}' ORDER BY CreatedDate"
    )
    rows = (await ask(salesforce, text))["records"]
    assert [(row["Field"], row["OldValue"], row["NewValue"]) for row in rows] == [
        ("created", None, None),
        ("Amount", None, 5.0),
    ]
    assert all(row["CreatedById"].startswith("005") for row in rows)


async def test_setup_is_asked_for_like_anything_else(salesforce):
    text = "SELECT ApiName, IsWon FROM OpportunityStage WHERE IsClosed = true ORDER BY SortOrder"
    stages = (await ask(salesforce, text))["records"]
    assert [(row["ApiName"], row["IsWon"]) for row in stages] == [
        ("Closed Won", True),
        ("Closed Lost", False),
    ]
    text = "SELECT Queue.Name FROM QueueSobject WHERE SobjectType = 'Case'"
    assert (await ask(salesforce, text))["records"][0]["Queue"]["Name"] == "Support"
    (queue,) = (await ask(salesforce, "SELECT Id FROM Group WHERE Type = 'Queue'"))["records"]
    case = await make(salesforce, "Case", Subject="Help", OwnerId=queue["Id"])
    text = f"SELECT Owner.Name, Owner.Type FROM Case WHERE Id = '{case}'"
    (row,) = (await ask(salesforce, text))["records"]
    assert (row["Owner"]["Name"], row["Owner"]["Type"]) == ("Support", "Queue")
