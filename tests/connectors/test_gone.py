"""What is not shown is not deleted: only a second source can prove that."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.values import Key, Observation, Op, Ref
from app.errors import AccountError, SyncError
from app.sdk.connector import Connector
from tests.connectors.conftest import CANDIDATES, Control, make, write

ENTITIES = ("company", "person", "deal")
#: Where the record itself is shown, per system, and where the second source is asked.
RECORD = {
    "close": r"/api/v1/(lead|contact|opportunity)/",
    "hubspot": r"/batch/read",
    "salesforce": r"/composite/sobjects/\w+$",
}
SECOND = {
    "close": r"/api/v1/event/",
    "hubspot": r"/crm/v3/objects/\w+/\d+",
    "salesforce": r"/(queryAll|sobjects/\w+/deleted)",
}
NOWHERE = {
    "close": "cont_0000000000",
    "hubspot": "999999999",
    "salesforce": "003Sb00000999zzIAA",
}
#: A list, a batch and a log without anything in them.
EMPTY: dict[str, Any] = {
    "close": {"data": [], "has_more": False},
    "hubspot": {"results": []},
    "salesforce": {"totalSize": 0, "done": True, "records": [], "deletedRecords": []},
}
#: The calls of a scan.
LISTED = {"close": "/", "hubspot": "/", "salesforce": "/query"}


@pytest.fixture(params=sorted(CANDIDATES))
async def system(request: pytest.FixtureRequest, control: Control):
    connector = CANDIDATES[request.param].connect(control.base)
    yield connector
    await connector.aclose()


async def somebody(connector: Connector, entity: str = "person") -> Ref:
    named = CANDIDATES[connector.manifest.name].named[entity]
    if entity == "deal":
        company = await somebody(connector, "company")
        return await make(connector, entity, named("Ada"), company=[company])
    return await make(connector, entity, named("Ada"))


async def read(connector: Connector, ref: Ref) -> Observation:
    (seen,) = await connector.read([ref])
    return seen


@pytest.mark.parametrize("entity", ENTITIES)
async def test_what_was_deleted_is_gone(system: Connector, control: Control, entity: str):
    ref = await somebody(system, entity)
    (outcome,) = await system.write([write(system, entity, {}, ref=ref, op=Op.DELETE)])
    assert outcome.error is None
    seen = await read(system, ref)
    assert (seen.raw, seen.gone) == (None, True)


async def test_what_never_was_is_not_gone(system: Connector):
    """As when the credential is of another tenant: every id is unknown there."""
    ref = Ref("acme", system.manifest.entities["person"].type, NOWHERE[system.manifest.name])
    seen = await read(system, ref)
    assert (seen.raw, seen.gone) == (None, False)


@pytest.mark.parametrize("entity", ENTITIES)
async def test_a_404_for_everything_is_not_a_delete(
    system: Connector, control: Control, entity: str
):
    ref = await somebody(system, entity)
    await control.fault(vendor=system.manifest.name, fault="status", status=404)
    try:
        seen = await read(system, ref)
    except SyncError:
        return  # trouble is told as trouble
    assert (seen.raw, seen.gone) == (None, False)


#: What an address may lack that shows, takes and lists records.
LACKING = {
    "close": r"/api/v1/(data/search|event|pipeline|status|user|custom_field_schema)/",
    "hubspot": r"/batch/|/search$|/crm/v3/(properties|pipelines|owners)|/account-info/",
    "salesforce": r"/describe$|/composite/|/ui-api/|/limits|/deleted/",
}


@pytest.mark.parametrize("system", sorted(LACKING), indirect=True)
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_what_an_address_does_not_offer_is_done_without(
    system: Connector, control: Control, status: int
):
    name = system.manifest.name
    match = {"path": LACKING[name]}
    await control.fault(vendor=name, fault="status", status=status, match=match)
    named = CANDIDATES[name].named["person"]
    company = await somebody(system, "company")
    ada = await make(system, "person", named("Ada"), company=[company])
    grace = await make(system, "person", named("Grace"), company=[company])
    for ref in (ada, grace):
        seen = await read(system, ref)
        assert (seen.ref, seen.relations.get("company")) == (ref, (company,))
    (changed,) = await system.write([write(system, "person", named("Augusta"), ref=ada)])
    assert changed.error is None
    stages = (await system.directory()).pipelines
    assert stages == () or name == "salesforce"  # they are records there, and can be listed
    page = await system.scan("person", None, None)
    assert {one.ref for one in page.observations} == {ada, grace}
    nobody = Key("email", "nobody@example.com")
    assert await system.find("person", [nobody]) == {nobody: []}
    (gone,) = await system.write([write(system, "person", {}, ref=grace, op=Op.DELETE)])
    assert gone.error is None


@pytest.mark.parametrize("status", [401, 403])
async def test_lost_permission_is_the_accounts_trouble_and_no_delete(
    system: Connector, control: Control, status: int
):
    ref = await somebody(system)
    await control.fault(vendor=system.manifest.name, fault="status", status=status)
    with pytest.raises(AccountError):
        await read(system, ref)


@pytest.mark.parametrize("fault", [{"fault": "status", "status": 500}, {"fault": "outage"}])
async def test_an_outage_is_no_delete(system: Connector, control: Control, fault: dict[str, Any]):
    ref = await somebody(system)
    await control.fault(vendor=system.manifest.name, **fault)
    with pytest.raises(SyncError):
        await read(system, ref)


@pytest.mark.parametrize("status", [403, 404])
async def test_without_a_second_source_a_deleted_record_is_only_missing(
    system: Connector, control: Control, status: int
):
    """Whether it was deleted or hidden from us: nobody can say."""
    ref = await somebody(system)
    await system.write([write(system, "person", {}, ref=ref, op=Op.DELETE)])
    name = system.manifest.name
    match = {"path": SECOND[name], "method": "GET"}
    await control.fault(vendor=name, fault="status", status=status, match=match)
    try:
        seen = await read(system, ref)
    except SyncError:
        return  # trouble is told as trouble
    assert (seen.raw, seen.gone) == (None, False)


async def test_an_empty_answer_is_not_a_delete(system: Connector, control: Control):
    ref = await somebody(system)
    name = system.manifest.name
    hidden = {"vendor": name, "fault": "status", "status": 404}
    nothing = {"vendor": name, "fault": "status", "status": 200}
    match name:
        case "close":  # the record is hidden, and the log of events is empty
            await control.fault(**hidden, match={"path": RECORD[name]})
            await control.fault(**nothing, body=EMPTY[name], match={"path": SECOND[name]})
        case "hubspot":  # the batch is empty, and single records are hidden
            await control.fault(**hidden, match={"path": SECOND[name], "method": "GET"})
            await control.fault(**nothing, body=EMPTY[name], match={"path": RECORD[name]})
        case "salesforce":  # the collection has a gap, and bin and log are empty
            await control.fault(**nothing, body=[None], match={"path": RECORD[name]})
            await control.fault(**nothing, body=EMPTY[name], match={"path": SECOND[name]})
    seen = await read(system, ref)
    assert (seen.raw, seen.gone) == (None, False)


@pytest.mark.parametrize("entity", ENTITIES)
async def test_an_empty_page_of_a_scan_says_nothing_about_anybody(
    system: Connector, control: Control, entity: str
):
    await somebody(system, entity)
    name = system.manifest.name
    match = {"path": LISTED[name]}
    await control.fault(vendor=name, fault="status", status=200, body=EMPTY[name], match=match)
    page = await system.scan(entity, None, None)
    if name == "salesforce" and entity == "person":  # who are leads comes after the contacts
        page = await system.scan(entity, page.cursor, None)
    assert (page.observations, page.cursor) == ((), None)


async def test_somebody_elses_entry_in_the_recycle_bin_proves_nothing(
    hubspot: Connector, control: Control
):
    ref = await somebody(hubspot)
    body = {"id": "1", "archived": True, "properties": {}}
    match = {"path": SECOND["hubspot"], "method": "GET"}
    hidden = {"vendor": "hubspot", "match": match, "fault": "status"}
    await control.fault(**hidden, status=404, times=1)
    await control.fault(**hidden, status=200, body=body)
    batch = {"path": "/batch/read"}
    await control.fault(
        vendor="hubspot", match=batch, fault="status", status=200, body={"results": []}
    )
    assert not (await read(hubspot, ref)).gone


async def test_leads_that_are_said_to_be_merged_into_each_other_do_not_lead_us_round(
    close: Connector, control: Control
):
    events = [
        {
            "object_type": "lead",
            "object_id": b,
            "action": "merged",
            "meta": {"merge_source_lead_id": a, "merge_destination_lead_id": b},
        }
        for a, b in (("lead_a", "lead_b"), ("lead_b", "lead_a"))
    ]
    log = {"data": events, "cursor_next": None}
    match = {"path": "/event/"}
    await control.fault(vendor="close", fault="status", status=200, body=log, match=match)
    seen = await read(close, Ref("acme", "lead", "lead_a"))
    assert (seen.raw, seen.gone) == (None, False)
