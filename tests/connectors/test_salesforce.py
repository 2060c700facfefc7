"""What is peculiar to Salesforce."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.clock import now
from app.connectors.salesforce import changes, shapes
from app.connectors.salesforce import connector as module
from app.connectors.salesforce.dialect import SalesforceDialect, whole
from app.domain.values import Change, Key, Op, Ref, RelationEdit, RemoteObject, Write
from app.errors import (
    AccountError,
    ConfigError,
    ExistsError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
    UnknownOutcomeError,
    UnsupportedEventError,
)
from app.sdk.client import Answer
from tests.connectors.conftest import CLOSE, NOON, REGISTRY, SALESFORCE, Control, good, make, write
from tests.connectors.test_catch_up import events, trails
from tests.full.harness import until

API = "/salesforce/services/data/v62.0"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "LOCKED", (0.0, 0.0))


@pytest.fixture
async def keyed(control: Control):
    """An account that keeps our ids in a field of its own."""
    account = replace(SALESFORCE.account(control.base), external_id="Syncline_Id__c")
    connector = SALESFORCE.connect(control.base)
    connector.account = account
    yield connector
    await connector.aclose()


async def options(control: Control, **changes: Any) -> None:
    await control.call("POST", "/_sandbox/options", json={"salesforce": changes})


async def shown(control: Control, ref: Ref) -> dict[str, Any]:
    return dict(await control.person("GET", f"{API}/sobjects/{ref.type}/{ref.id}"))


async def edit(control: Control, ref: Ref, **fields: Any) -> None:
    await control.person("PATCH", f"{API}/sobjects/{ref.type}/{ref.id}", json=fields)


async def merge(control: Control, master: Ref, *others: Ref) -> None:
    body = {"master": master.id, "others": [other.id for other in others]}
    await control.person("POST", "/salesforce/merge", json=body)


async def roles(control: Control, deal: Ref) -> list[tuple[str, bool]]:
    text = (
        f"SELECT ContactId, IsPrimary FROM OpportunityContactRole WHERE OpportunityId='{deal.id}'"
    )
    answer = await control.person("GET", f"{API}/query", params={"q": text})
    return sorted((row["ContactId"], row["IsPrimary"]) for row in answer["records"])


# --------------------------------------------------------------- what Salesforce demands


async def test_what_salesforce_demands_stands_in_and_is_never_read_as_data(salesforce, control):
    company = await make(salesforce, "company", {"Website": "https://a.example"})
    person = await make(salesforce, "person", {"FirstName": "Cher"})
    deal = await make(salesforce, "deal", {"Amount": 5})
    assert (await shown(control, company))["Name"] == "[not provided]"
    assert (await shown(control, person))["LastName"] == "[not provided]"
    there = await shown(control, deal)
    assert (there["Name"], there["CloseDate"]) == ("[not provided]", "2999-12-31")
    assert there["StageName"] == "Prospecting"
    seen = {
        one.ref: one.raw or {}
        for ref in (company, person, deal)
        for one in await salesforce.read([ref])
    }
    assert seen[company]["Name"] is None
    assert (seen[person]["LastName"], seen[person]["FirstName"]) == (None, "Cher")
    assert (seen[deal]["Name"], seen[deal]["CloseDate"]) == (None, None)


async def test_what_is_cleared_elsewhere_is_stood_in_for(salesforce, control):
    ref = await make(salesforce, "deal", SALESFORCE.named["deal"]("Deal"))
    outcome = good(
        (await salesforce.write([write(salesforce, "deal", {"CloseDate": None}, ref=ref)]))[0]
    )
    assert outcome.stored is not None
    assert (outcome.stored.raw or {})["CloseDate"] is None
    assert (await shown(control, ref))["CloseDate"] == "2999-12-31"


async def test_a_queue_is_nobody(salesforce):
    row = {"Id": "003000000000001AAA", "OwnerId": "00G000000000001AAA", "LastName": "X"}
    assert "OwnerId" not in shapes.shown("Contact", row)
    directory = await salesforce.directory()
    assert not any(id.startswith("00G") for id in directory.owners)
    assert directory.retired == {i for i, m in directory.owners.items() if "barbara" in m}


RENEWAL = "012000000000001AAA"


def an_org_with_record_types(request: httpx.Request) -> httpx.Response:
    path, text = request.url.path, request.url.params.get("q", "")
    if path.endswith("/describe"):
        master = {"recordTypeId": shapes.MASTER_TYPE, "name": "Master", "master": True}
        old = {"recordTypeId": "012000000000002AAA", "name": "Old", "active": False}
        theirs = {"recordTypeId": "012000000000003AAA", "name": "Theirs", "available": False}
        own = {"recordTypeId": RENEWAL, "name": "Renewal", "available": True}
        infos = [{"active": True, "master": False, **one} for one in (master, old, theirs, own)]
        return httpx.Response(200, json={"fields": [], "recordTypeInfos": infos})
    if "/ui-api/" in path:
        if RENEWAL not in path:
            return httpx.Response(404, json=[])
        return httpx.Response(200, json={"values": [{"value": "Won"}, {"value": "New"}]})
    rows = [
        {"ApiName": name, "MasterLabel": name, "IsClosed": won, "IsWon": won}
        for name, won in (("New", False), ("Demo", False), ("Won", True))
    ]
    found = rows if "FROM OpportunityStage" in text else []
    return httpx.Response(200, json={"done": True, "records": found})


async def test_record_types_are_pipelines_with_the_stages_of_their_sales_process():
    connector = SALESFORCE.connect(transport=SALESFORCE.transport(an_org_with_record_types))
    found = (await connector.directory()).pipelines
    assert [(p.name, [s.name for s in p.stages]) for p in found] == [
        ("Renewal", ["New", "Won"]),
        ("Theirs", ["New", "Demo", "Won"]),
    ]


async def test_the_master_record_type_is_none_that_could_be_written(salesforce, control):
    fields = {**SALESFORCE.named["deal"]("Deal"), "RecordTypeId": shapes.MASTER_TYPE}
    ref = await make(salesforce, "deal", fields)
    assert (await shown(control, ref))["RecordTypeId"] != shapes.MASTER_TYPE


# ----------------------------------------------------------------------------- relations


async def test_people_of_a_deal_are_contact_roles_and_the_first_is_the_primary_one(
    salesforce, control
):
    ana, bob, eve = [
        await make(salesforce, "person", {"LastName": n}) for n in ("Ana", "Bob", "Eve")
    ]
    deal = await make(salesforce, "deal", SALESFORCE.named["deal"]("Deal"), people=[ana, bob])
    assert await roles(control, deal) == sorted([(ana.id, True), (bob.id, False)])
    change = write(salesforce, "deal", {}, ref=deal)
    edit_ = RelationEdit(wanted=(bob, eve), add=(eve,), remove=(ana,))
    outcome = good((await salesforce.write([replace(change, relations={"people": edit_})]))[0])
    assert outcome.stored is not None
    assert set(outcome.stored.relations["people"]) == {bob, eve}
    assert await roles(control, deal) == sorted([(bob.id, False), (eve.id, True)])
    (seen,) = await salesforce.read([deal])
    assert seen.relations["people"][0] == eve


async def test_a_deal_is_made_with_its_people_and_read_back_by_one_call(keyed, control):
    ana, bob = [await make(keyed, "person", SALESFORCE.named["person"](n)) for n in ("Ana", "Bob")]
    await keyed.scan("deal", None, None)  # the objects are described by now
    create = write(
        keyed,
        "deal",
        SALESFORCE.named["deal"]("Deal"),
        people=[ana, bob],
        external_id=str(uuid4()),
    )
    before = len(await control.calls("salesforce"))
    outcome = good((await keyed.write([create]))[0])
    calls = (await control.calls("salesforce"))[before:]
    assert [(call["method"], call["path"].rpartition("/")[2]) for call in calls] == [
        ("POST", "composite")
    ]
    assert outcome.stored is not None
    assert outcome.ref is not None
    assert outcome.stored.relations["people"] == (ana, bob)
    assert (outcome.stored.raw or {})["Name"] == "Deal"
    assert await keyed.read([outcome.ref]) == [outcome.stored]
    assert await roles(control, outcome.ref) == [(ana.id, True), (bob.id, False)]
    # Repeated, as after an answer that was lost, it finds what it has made, roles and all.
    again = good((await keyed.write([create]))[0])
    assert again.ref == outcome.ref
    assert await roles(control, outcome.ref) == [(ana.id, True), (bob.id, False)]


async def test_where_one_of_its_people_is_refused_a_deal_is_made_without(keyed, control):
    nobody = Ref("acme", "Contact", "003Sb00000999zzIAA")
    fields = SALESFORCE.named["deal"]("Deal")
    create = write(keyed, "deal", fields, people=[nobody], external_id=str(uuid4()))
    (outcome,) = await keyed.write([create])
    assert isinstance(outcome.error, ExistsError)
    found = await control.person("GET", f"{API}/query", params={"q": "SELECT Id FROM Opportunity"})
    assert [row["Id"] for row in found["records"]] == [outcome.error.remote_id]


async def test_whom_people_made_primary_stays_so(salesforce, control):
    ana, bob = [await make(salesforce, "person", {"LastName": n}) for n in ("Ana", "Bob")]
    deal = await make(salesforce, "deal", SALESFORCE.named["deal"]("Deal"), people=[ana])
    change = replace(
        write(salesforce, "deal", {}, ref=deal),
        relations={"people": RelationEdit(wanted=(bob, ana), add=(bob,))},
    )
    good((await salesforce.write([change]))[0])
    assert await roles(control, deal) == sorted([(ana.id, True), (bob.id, False)])


async def test_a_contact_moves_to_another_account_or_to_none(salesforce):
    one, two = [await make(salesforce, "company", {"Name": n}) for n in ("One", "Two")]
    ref = await make(salesforce, "person", {"LastName": "Ana"}, company=[one])
    for wanted in ((two,), ()):
        change = replace(
            write(salesforce, "person", {}, ref=ref),
            relations={"company": RelationEdit(wanted=wanted, add=wanted, remove=(one,))},
        )
        good((await salesforce.write([change]))[0])
        (seen,) = await salesforce.read([ref])
        assert seen.relations["company"] == wanted


async def test_a_deal_whose_people_are_refused_is_made_and_adopted(salesforce):
    nobody = Ref("acme", "Contact", SALESFORCE.nobody("Contact"))
    wanted = write(salesforce, "deal", SALESFORCE.named["deal"]("Deal"), people=[nobody])
    (outcome,) = await salesforce.write([wanted])
    assert isinstance(outcome.error, ExistsError)
    (seen,) = await salesforce.read([Ref("acme", "Opportunity", str(outcome.error.remote_id))])
    assert seen.relations["people"] == ()


# ------------------------------------------------------------------------ merges, deletes


async def test_a_merged_record_answers_with_the_end_of_the_chain(salesforce, control):
    a, b, c = [await make(salesforce, "person", {"LastName": n}) for n in "ABC"]
    await merge(control, b, a)
    await merge(control, c, b)
    seen = await salesforce.read([a, b, c])
    assert {(one.asked or one.ref, one.ref) for one in seen} == {(a, c), (b, c), (c, c)}


async def test_a_survivor_that_was_deleted_later_is_gone(salesforce, control):
    a, b = [await make(salesforce, "company", {"Name": n}) for n in "AB"]
    await merge(control, b, a)
    await control.person("DELETE", f"{API}/sobjects/Account/{b.id}")
    assert {(one.ref, one.gone) for one in await salesforce.read([a, b])} == {(a, True), (b, True)}


async def test_what_was_taken_out_of_the_recycle_bin_is_there_again(salesforce, control):
    ref = await make(salesforce, "company", {"Name": "Back"})
    good((await salesforce.write([write(salesforce, "company", {}, ref=ref, op=Op.DELETE)]))[0])
    assert (await salesforce.read([ref]))[0].gone
    await control.person("POST", "/salesforce/undelete", json={"ids": [ref.id]})
    assert (await salesforce.read([ref]))[0].raw


async def test_what_was_deleted_while_a_create_was_lost_is_recalled(salesforce):
    since = now() - timedelta(seconds=5)
    made = await make(salesforce, "company", {"Name": "Short"})
    good((await salesforce.write([write(salesforce, "company", {}, ref=made, op=Op.DELETE)]))[0])
    found = await salesforce.recall("company", since, [made])
    assert [(one.ref, (one.raw or {}).get("Name")) for one in found] == [(made, "Short")]
    older = await salesforce.recall("company", now() + timedelta(hours=1), [made])
    assert [(one.ref, one.raw) for one in older] == [(made, None)]


# ----------------------------------------------------------------------- never a second copy


async def test_a_create_with_our_id_is_an_upsert_that_never_doubles(keyed, control: Control):
    id = str(uuid4())
    wanted = write(keyed, "person", {"LastName": "Once"}, external_id=id)
    match = {"method": "PATCH", "path": "/composite/sobjects/Contact/Syncline_Id__c"}
    await control.fault(vendor="salesforce", fault="drop_after_commit", times=1, match=match)
    (lost,) = await keyed.write([wanted])
    assert isinstance(lost.error, UnknownOutcomeError)
    (found,) = (await keyed.find("person", [Key("external_id", id)]))[Key("external_id", id)]
    again = good((await keyed.write([replace(wanted, trace="again")]))[0])
    assert again.ref == found.ref
    assert (found.raw or {})["Syncline_Id__c"] == id


async def test_what_somebody_edits_before_we_read_what_we_wrote_is_no_spelling_of_ours(
    salesforce, control: Control
):
    ref = await make(salesforce, "company", {"Name": "Acme"})
    slow = {"method": "POST", "path": r"/composite/sobjects/Account$"}
    await control.fault(vendor="salesforce", fault="latency", seconds=0.5, times=1, match=slow)
    update = write(salesforce, "company", {"Name": "Acme Inc"}, ref=ref)
    writing = asyncio.create_task(salesforce.write([update]))

    async def is_written() -> bool:
        return bool((await shown(control, ref))["Name"] == "Acme Inc")

    await until(is_written)
    await edit(control, ref, Name="Acme Ltd")
    (outcome,) = await writing
    assert (outcome.error, outcome.stored) == (None, None)


async def test_a_record_found_by_a_duplicate_rule_is_adopted(salesforce, control: Control):
    there = await make(salesforce, "person", {"LastName": "Ana", "Email": "ana@a.example"})
    await options(control, duplicate_rule="block")
    for rule in ("block", "alert"):
        await options(control, duplicate_rule=rule)
        twin = write(salesforce, "person", {"LastName": "A.", "Email": "ANA@a.example"})
        other = write(salesforce, "person", {"LastName": "Bob", "Email": f"{rule}@a.example"})
        outcomes = await salesforce.write([twin, other])
        error = outcomes[0].error
        assert isinstance(error, ExistsError), error
        assert error.remote_id == there.id
        assert outcomes[1].error is None


async def test_of_several_duplicates_and_of_a_lead_a_person_decides(salesforce, control: Control):
    for _ in "ab":
        await make(salesforce, "person", {"LastName": "Ana", "Email": "ana@a.example"})
    lead = {"LastName": "Eve", "Company": "E", "Email": "eve@a.example"}
    await control.person("POST", f"{API}/sobjects/Lead", json=lead)
    await options(control, duplicate_rule="block")
    for mail in ("ana@a.example", "eve@a.example"):
        (outcome,) = await salesforce.write(
            [write(salesforce, "person", {"LastName": "X", "Email": mail})]
        )
        assert type(outcome.error) is RejectedError
        assert "by hand" in str(outcome.error)


async def test_a_value_that_must_be_unique_names_the_record_that_has_it(keyed, control: Control):
    id = str(uuid4())
    (there,) = await keyed.write([write(keyed, "company", {"Name": "A"}, external_id=id)])
    assert there.ref is not None
    twin = write(keyed, "company", {"Name": "B", "Syncline_Id__c": id})
    (outcome,) = await keyed.write([twin])
    assert isinstance(outcome.error, ExistsError)
    assert outcome.error.remote_id == there.ref.id
    # A change that would make two records alike is no create of what is there.
    plain = await make(keyed, "company", {"Name": "B"})
    (refused,) = await keyed.write([write(keyed, "company", {"Syncline_Id__c": id}, ref=plain)])
    assert type(refused.error) is RejectedError


def test_an_id_of_fifteen_letters_is_told_as_the_api_tells_it():
    assert whole("001Sb0000000001") == whole(whole("001Sb0000000001"))
    assert whole("001A0000006Vm9r") == "001A0000006Vm9rIAC"


# ------------------------------------------------------------------------------- writing


async def test_a_locked_row_is_sent_again_and_the_others_are_not(salesforce, control: Control):
    await options(control, lock_rows=1)
    batch = [write(salesforce, "company", {"Name": n}) for n in ("One", "Two", "Three")]
    outcomes = await salesforce.write(batch)
    assert all(outcome.error is None for outcome in outcomes)
    assert len({outcome.ref for outcome in outcomes}) == 3
    text = "SELECT Id FROM Account WHERE Name IN ('One','Two','Three')"
    answer = await control.person("GET", f"{API}/query", params={"q": text})
    assert answer["totalSize"] == 3


async def test_a_row_that_stays_locked_waits(salesforce, control: Control):
    await options(control, lock_rows=50)
    (outcome,) = await salesforce.write([write(salesforce, "company", {"Name": "Locked"})])
    assert isinstance(outcome.error, TransientError)
    await options(control, lock_rows=0)


async def test_a_change_on_its_own_meets_no_edit_that_we_have_not_seen(salesforce, control):
    ref = await make(salesforce, "company", {"Name": "Old"})
    await salesforce.read([ref])
    salesforce._read_as_of[ref] = shapes.http_date(NOON)  # somebody has edited it since
    change = write(salesforce, "company", {"Phone": "1"}, ref=ref)
    (outcome,) = await salesforce.write([change])
    assert isinstance(outcome.error, StaleError)
    assert (await shown(control, ref))["Phone"] is None
    await salesforce.read([ref])
    good((await salesforce.write([change]))[0])
    assert (await shown(control, ref))["Phone"] == "1"


async def test_an_address_without_collections_takes_row_after_row(keyed, control: Control):
    match = {"path": "/composite/"}
    await control.fault(vendor="salesforce", fault="status", status=404, match=match)
    ids = [str(uuid4()) for _ in "abc"]
    batch = [
        write(keyed, "company", {"Name": name}, external_id=id)
        for name, id in zip(("One", "x" * 300, "Three"), ids, strict=True)
    ]
    outcomes = await keyed.write(batch)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, RejectedError)
    refs = [outcome.ref for outcome in outcomes if outcome.ref is not None]
    again = await keyed.write([batch[0], batch[2]])
    assert [outcome.ref for outcome in again] == refs
    changed = [write(keyed, "company", {"Phone": "1"}, ref=ref) for ref in refs]
    assert all(outcome.error is None for outcome in await keyed.write(changed))
    assert {(one.raw or {})["Phone"] for one in await keyed.read(refs)} == {"1"}
    gone = [write(keyed, "company", {}, ref=ref, op=Op.DELETE) for ref in refs]
    assert all(outcome.error is None for outcome in await keyed.write(gone))
    assert all(one.gone for one in await keyed.read(refs))


async def test_what_was_stored_is_read_back_in_one_call(salesforce, control: Control):
    batch = [
        write(salesforce, "company", {"Name": f"N{n}", "AnnualRevenue": 1.5}) for n in range(9)
    ]
    outcomes = [good(one) for one in await salesforce.write(batch)]
    stored = [one.stored.raw for one in outcomes if one.stored is not None and one.stored.raw]
    assert [raw["Name"] for raw in stored] == [f"N{n}" for n in range(9)]
    paths = [call["path"] for call in await control.calls("salesforce")]
    assert sum(path.endswith("/composite/sobjects/Account") for path in paths) == 1
    assert sum(path.endswith("/composite/sobjects") for path in paths) == 1


async def test_a_write_says_who_we_are_and_that_no_rule_of_assignment_is_meant(control: Control):
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.path.endswith("/describe"):
            fields = [{"name": n, "createable": True} for n in ("Id", "Name", "Website")]
            return httpx.Response(200, json={"fields": fields})
        return httpx.Response(200, json=[{"id": "1", "Id": "1", "success": True}])

    connector = SALESFORCE.connect(transport=SALESFORCE.transport(answer))
    await connector.write([write(connector, "company", {"Name": "A"})])
    (post,) = [r for r in sent if r.method == "POST" and r.url.path.endswith("/composite/sobjects")]
    assert post.headers["sforce-call-options"] == "client=syncline"
    assert post.headers["sforce-auto-assign"] == "FALSE"
    assert "includeRecordDetails=true" in post.headers["sforce-duplicate-rule-header"]


async def test_a_record_that_is_gone_is_told_as_such(salesforce):
    ref = await make(salesforce, "company", {"Name": "Gone"})
    good((await salesforce.write([write(salesforce, "company", {}, ref=ref, op=Op.DELETE)]))[0])
    for op, fields in ((Op.UPDATE, {"Name": "Back"}), (Op.DELETE, {})):
        (outcome,) = await salesforce.write([write(salesforce, "company", fields, ref=ref, op=op)])
        assert isinstance(outcome.error, NotFoundError)


# ------------------------------------------------------------------------- permissions


async def test_a_field_that_we_may_not_edit_does_not_sink_the_rest(control: Control):
    await options(control, read_only=["Account.Phone"], hidden=["Account.Industry"])
    connector = SALESFORCE.connect(control.base)
    fields = {"Name": "A", "Phone": "1", "Industry": "Banking"}
    outcome = good((await connector.write([write(connector, "company", fields)]))[0])
    assert outcome.held.keys() == {"Phone", "Industry"}
    assert "edit" in outcome.held["Phone"]
    assert outcome.ref is not None
    assert (await shown(control, outcome.ref))["Name"] == "A"
    alone = write(connector, "company", {"Phone": "2"}, ref=outcome.ref)
    (refused,) = await connector.write([alone])
    assert isinstance(refused.error, RejectedError)
    assert refused.error.field == "Phone"
    found = {f.check: f for f in await connector.check()}
    assert not found["fields of Account"].ok
    assert any("Industry" in f.detail for f in await connector.check())
    await connector.aclose()


async def test_person_accounts_are_left_alone_and_said_to_be(control: Control):
    await options(control, person_accounts=True)
    person = await control.person(
        "POST", f"{API}/sobjects/Account", json={"LastName": "Solo", "PersonEmail": "s@a.example"}
    )
    connector = SALESFORCE.connect(control.base)
    kept = await make(connector, "company", {"Name": "Acme"})
    page = await connector.scan("company", None, None)
    assert [one.ref for one in page.observations] == [kept]
    (seen,) = await connector.read([Ref("acme", "Account", person["id"])])
    assert (seen.raw, seen.gone) == (None, False)
    (found,) = [f for f in await connector.check() if f.check == "person accounts"]
    assert not found.ok
    assert found.remedy
    await connector.aclose()


async def test_an_account_that_is_in_order_is_told_so(keyed, control: Control):
    found = await keyed.check()
    assert all(one.ok for one in found), [one for one in found if not one.ok]
    assert {"calls", "Contact.Syncline_Id__c", "history of Opportunity"} <= {f.check for f in found}


async def test_the_field_for_our_ids_is_made_and_shown_to_us(control: Control):
    connector = SALESFORCE.connect(control.base)
    connector.account = replace(SALESFORCE.account(control.base), external_id="Made_Id__c")
    made = await connector.prepare()
    assert {(one.ok, one.detail) for one in made} == {(True, "created")}
    types = ("Account", "Contact", "Opportunity")
    assert {f"{type}.Made_Id__c" for type in types} <= {one.check for one in made}
    assert all(one.ok and one.detail != "created" for one in await connector.prepare())
    id = str(uuid4())
    wanted = write(connector, "company", {"Name": "A"}, external_id=id)
    outcome = good((await connector.write([wanted]))[0])
    key = Key("external_id", id)
    assert [one.ref for one in (await connector.find("company", [key]))[key]] == [outcome.ref]
    await connector.aclose()


async def test_what_we_may_not_make_is_explained(control: Control):
    refused = {"errorCode": "INSUFFICIENT_ACCESS", "message": "no"}
    await control.fault(
        vendor="salesforce", fault="status", status=403, body=[refused], match={"path": "/tooling/"}
    )
    connector = SALESFORCE.connect(control.base)
    connector.account = replace(SALESFORCE.account(control.base), external_id="Made_Id__c")
    for found in await connector.prepare():
        assert not found.ok
        assert "Object Manager" in str(found.remedy)
    await connector.aclose()


async def test_a_missing_field_for_our_ids_is_explained(control: Control):
    account = replace(SALESFORCE.account(control.base), external_id="Other_Id__c")
    connector = SALESFORCE.connect(control.base)
    connector.account = account
    (found,) = [f for f in await connector.check() if f.check == "Account.Other_Id__c"]
    assert not found.ok
    assert "External ID" in str(found.remedy)
    await connector.aclose()


# -------------------------------------------------------------------------- what changed


async def test_a_catch_up_tells_what_changed_what_was_deleted_and_into_what_it_was_merged(
    salesforce, control
):
    before = now()
    kept, left, loser = [
        await make(salesforce, "person", {"LastName": n}) for n in ("Kept", "Left", "Loser")
    ]
    await merge(control, kept, loser)
    good((await salesforce.write([write(salesforce, "person", {}, ref=left, op=Op.DELETE)]))[0])
    found = await events(salesforce, "person", before)
    assert {(e.ref, e.change, e.survivor) for e in found} == {
        (kept, Change.CHANGED, None),
        (left, Change.GONE, None),
        (loser, Change.MERGED, kept),
    }
    assert all(trail.states for trail in await trails(salesforce, "person", before))


async def test_a_change_of_people_alone_is_a_change_of_the_deal(salesforce, control):
    ana = await make(salesforce, "person", {"LastName": "Ana"})
    deal = await make(salesforce, "deal", SALESFORCE.named["deal"]("Deal"), people=[ana])
    later = now() + changes.OVERLAP + timedelta(seconds=1)
    row = {"OpportunityId": deal.id, "ContactId": ana.id, "Role": "Influencer"}
    await control.person("POST", f"{API}/sobjects/OpportunityContactRole", json=row)
    found = await events(salesforce, "deal", now())
    assert {e.ref for e in found} == {deal}
    assert await events(salesforce, "deal", later) == []


async def test_what_was_committed_late_with_an_early_stamp_is_seen(salesforce):
    ref = await make(salesforce, "company", {"Name": "Late"})
    found = await events(salesforce, "company", now() + timedelta(minutes=9))
    assert {e.ref for e in found} == {ref}


async def test_the_history_of_a_field_tells_when_it_was_edited(salesforce, control):
    ref = await make(salesforce, "deal", SALESFORCE.named["deal"]("Deal"))
    await edit(control, ref, StageName="Qualification")
    await edit(control, ref, Amount=12)
    known = await salesforce.edits([ref], ["StageName", "Amount"])
    assert [edit.value for edit in known[ref]["StageName"]] == ["Qualification"]
    assert known[ref]["StageName"][0].at <= known[ref]["Amount"][0].at
    # Nobody keeps the history of this one: that says nothing of when it was edited.
    assert await salesforce.edits([ref], ["StageName", "Description"]) == {}


async def test_many_rows_of_one_moment_are_scanned_once_each(salesforce, control, monkeypatch):
    monkeypatch.setattr(changes, "PAGE", 7)
    await control.call("POST", "/_sandbox/seed", json={"salesforce": {"accounts": 40}})
    seen: list[str] = []
    cursor = None
    while True:
        page = await salesforce.scan("company", cursor, None)
        seen += [one.ref.id for one in page.observations]
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 40


# -------------------------------------------------------------------------------- limits


def answer(status: int, data: Any, **headers: str) -> Answer:
    return Answer(status, headers, data)


def refusal(code: str, message: str = "…") -> list[dict[str, str]]:
    return [{"errorCode": code, "message": message}]


def test_the_days_calls_are_learned_from_every_answer():
    dialect = SalesforceDialect()
    rate = dialect.rate(answer(200, None, **{"sforce-limit-info": "api-usage=18/5000"}))
    assert (rate.daily, rate.daily_remaining) == (5000, 4982)
    told = "api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)"
    rate = dialect.rate(answer(200, None, **{"sforce-limit-info": told}))
    assert (rate.daily, rate.daily_remaining) == (250, 233)
    over = dialect.rate(answer(403, None, **{"sforce-limit-info": "api-usage=5100/5000"}))
    assert over.daily_remaining == 0
    assert dialect.rate(answer(200, None)).daily is None


def test_a_spent_day_waits_longer_than_too_many_at_once():
    dialect = SalesforceDialect()
    day = answer(403, refusal("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
    busy = answer(
        403,
        refusal(
            "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
        ),
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert dialect.retry_at(day, at) - at == timedelta(minutes=15)
    assert dialect.retry_at(busy, at) - at == timedelta(seconds=10)


async def test_a_spent_day_is_a_pause_and_no_trouble_of_the_account(salesforce, control: Control):
    await salesforce.read([Ref("acme", "Account", SALESFORCE.nobody("Account"))])
    await options(control, daily_limit=1)
    with pytest.raises(RateLimitedError) as caught:
        await salesforce.read([Ref("acme", "Account", SALESFORCE.nobody("Account"))])
    assert caught.value.retry_at > now() + timedelta(minutes=10)
    await options(control, daily_limit=0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "UNABLE_TO_LOCK_ROW", TransientError),
        (400, "QUERY_TIMEOUT", TransientError),
        (400, "ENTITY_IS_DELETED", NotFoundError),
        (400, "MALFORMED_QUERY", RejectedError),
        (403, "API_DISABLED_FOR_ORG", AccountError),
        (403, "INSUFFICIENT_ACCESS_OR_READONLY", RejectedError),
        (403, "REQUEST_LIMIT_EXCEEDED", RateLimitedError),
        (500, "UNKNOWN_EXCEPTION", TransientError),
    ],
)
async def test_a_code_says_more_than_its_status(status: int, code: str, kind: type[Exception]):
    transport = SALESFORCE.transport(lambda _: httpx.Response(status, json=refusal(code)))
    connector = SALESFORCE.connect(transport=transport)
    with pytest.raises(kind) as caught:
        await connector.client.call("POST", "/x")
    assert code in str(caught.value)


# --------------------------------------------------------------- objects of the org's own


@pytest.fixture
async def projects(control: Control):
    """An account whose org has made an object, which is about companies and people."""
    await control.person("POST", "/salesforce/custom-objects", json={"name": "Project__c"})
    for name, target in (("Customer", "Account"), ("Lead", "Contact")):
        metadata = {"type": "Lookup", "referenceTo": target, "relationshipName": f"{name}s"}
        body = {"FullName": f"Project__c.{name}__c", "Metadata": {**metadata, "label": name}}
        await control.person("POST", f"{API}/tooling/sobjects/CustomField", json=body)
    lookups = {"company": "Customer__c", "people": "Lead__c"}
    account = replace(
        SALESFORCE.account(control.base),
        objects={"custom.project": RemoteObject("Project__c", lookups)},
    )
    properties = {**SALESFORCE.properties(), "Project__c": ("Name",)}
    connector = REGISTRY.connect(account, properties=properties)
    yield connector
    await connector.aclose()


async def test_an_object_of_the_orgs_own_is_written_read_scanned_and_deleted(projects, control):
    company = await make(projects, "company", SALESFORCE.named["company"]("Acme"))
    ada = await make(projects, "person", SALESFORCE.named["person"]("Ada"))
    ben = await make(projects, "person", SALESFORCE.named["person"]("Ben"))
    ref = await make(
        projects, "custom.project", {"Name": "Roof"}, company=[company], people=[ada, ben]
    )
    (seen,) = await projects.read([ref])
    assert (seen.raw or {})["Name"] == "Roof"
    assert seen.relations == {"company": (company,), "people": (ada,)}
    page = await projects.scan("custom.project", None, None)
    assert [one.ref for one in page.observations] == [ref]
    told = await events(projects, "custom.project", now() - timedelta(minutes=1))
    assert [(one.type, one.ref) for one in told] == [("Project__c.update", ref)]
    assert "Name" in await projects.fields("custom.project")
    good((await projects.write([write(projects, "custom.project", {}, ref=ref, op=Op.DELETE)]))[0])
    (gone,) = await projects.read([ref])
    assert gone.gone


async def test_a_create_of_such_an_object_whose_answer_was_lost_is_known_by_its_texts(projects):
    ref = await make(projects, "custom.project", {"Name": "Roof"})
    lost = write(projects, "custom.project", {"Name": "Roof"})
    other = write(projects, "custom.project", {"Name": "Cellar"})
    since = now() - timedelta(minutes=1)
    assert [one.ref for one in await projects.probe(lost, since)] == [ref]
    assert await projects.probe(other, since) == []


def test_all_ways_of_push_name_such_an_object():
    objects = {"custom.project": RemoteObject("Project__c")}
    manifest = SALESFORCE.manifest.with_objects(objects)
    for change in ("create", "update", "delete", "undelete"):
        assert manifest.route(f"Project__c.{change}") == "custom.project"
    with pytest.raises(UnsupportedEventError):
        SALESFORCE.manifest.route("Project__c.update")
    with pytest.raises(ConfigError, match="Contact is the person of Salesforce already"):
        SALESFORCE.manifest.with_objects({"custom.x": RemoteObject("Contact")})
    with pytest.raises(ConfigError, match="not there yet for Close"):
        CLOSE.manifest.with_objects(objects)


def test_what_is_empty_is_null_in_salesforce():
    fields = {"Amount": "", "Probability": 0, "Description": "", "CloseDate": ""}
    body = shapes.body_of(Write(Op.CREATE, "deal", "Opportunity", uuid4(), "1", fields=fields))
    assert body["Amount"] is body["Description"] is None
    assert (body["Probability"], body["CloseDate"]) == (0, shapes.SOME_DAY)


async def test_where_no_stages_are_shown_a_deal_begins_where_all_do():
    made: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/sobjects/Opportunity/"):
            made.append(json.loads(request.content))
            row = {"id": "006000000000001AAA", "success": True, "errors": []}
            return httpx.Response(201, json=row)
        if request.url.path.endswith("/query"):
            refused = [{"errorCode": "INVALID_TYPE", "message": "sObject type is not supported"}]
            return httpx.Response(400, json=refused)
        return httpx.Response(404, json=[])

    connector = SALESFORCE.connect(transport=SALESFORCE.transport(answer))
    await connector.write([write(connector, "deal", {"Name": "Big"})])
    assert [one["StageName"] for one in made] == ["Prospecting"]
