"""Bulk API 2.0, as the engine uses it: announced, kept, sent, and asked about."""

import csv
import io
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from app.connectors.salesforce import bulk
from app.errors import (
    RejectedError,
    StaleError,
    UnknownOutcomeError,
)
from app.sdk.connector import Connector
from tests.connectors.conftest import SALESFORCE, Control, write

API = "/salesforce/services/data/v62.0"


@pytest.fixture
async def keyed(control: Control):
    """An account that keeps our ids in a field of its own."""
    connector = SALESFORCE.connect(control.base)
    connector.account = replace(SALESFORCE.account(control.base), external_id="Syncline_Id__c")
    yield connector
    await connector.aclose()


def people(connector: Connector, *names: str, **more: Any) -> list[Any]:
    ids = [str(uuid4()) for _ in names]
    return [
        write(
            connector,
            "person",
            {"LastName": name, "Email": f"{id}@x.example", **more},
            external_id=id,
        )
        for id, name in zip(ids, names, strict=True)
    ]


async def state(control: Control, job: str) -> str:
    return str((await control.person("GET", f"{API}/jobs/ingest/{job}"))["state"])


async def break_off(control: Control, **options: Any) -> None:
    await control.call("POST", "/_sandbox/options", json={"salesforce": options})


async def test_each_row_has_its_own_fate(keyed, control):
    await break_off(control, job_seconds=0)
    batch = people(keyed, "Ada", "x" * 100, 'Bob, or "Robert"\nBob')
    load = await keyed.open_load(batch)
    assert load.writes == tuple(batch)
    await keyed.send_load(load)
    fates = {one.write.trace: one for one in await keyed.read_load(load.id, batch)}
    ada, long, bob = (fates[one.trace] for one in batch)
    assert (ada.error, bob.error) == (None, None)
    assert ada.stored.raw["LastName"] == "Ada"
    assert bob.stored.raw["LastName"] == 'Bob, or "Robert"\nBob'
    assert isinstance(long.error, RejectedError)
    assert long.error.field == "LastName"


async def test_a_job_under_way_tells_nothing_yet(keyed, control):
    await break_off(control, job_seconds=60)
    batch = people(keyed, "Ada")
    load = await keyed.open_load(batch)
    await keyed.send_load(load)
    assert await keyed.read_load(load.id, batch) is None


async def test_what_was_announced_and_never_sent_is_called_off_and_cannot_be_sent_any_more(
    keyed, control
):
    batch = people(keyed, "Ada")
    load = await keyed.open_load(batch)
    assert await keyed.read_load(load.id, batch) == []
    assert await state(control, load.id) == "Aborted"
    with pytest.raises(RejectedError):
        await keyed.send_load(load)
    assert await keyed.find("person", []) == {}


async def test_what_a_failed_job_did_not_come_to_is_to_go_by_itself(keyed, control):
    await break_off(control, job_seconds=0, break_jobs=1)
    batch = people(keyed, "Ada", "Bob")
    load = await keyed.open_load(batch)
    await keyed.send_load(load)
    fates = [one.error for one in await keyed.read_load(load.id, batch)]
    assert sorted(map(type, fates), key=str) == sorted([type(None), StaleError], key=str)
    (stale,) = filter(None, fates)
    assert "given up after ten tries" in str(stale)


async def test_of_a_row_that_no_list_names_nothing_is_known(keyed, control):
    """Somebody aborted the job before its file came."""
    batch = people(keyed, "Ada")
    load = await keyed.open_load(batch)
    await control.person("PATCH", f"{API}/jobs/ingest/{load.id}", json={"state": "Aborted"})
    (fate,) = await keyed.read_load(load.id, batch)
    assert isinstance(fate.error, UnknownOutcomeError)
    assert "ended as Aborted" in str(fate.error)


async def test_of_a_job_that_is_forgotten_nothing_is_known(keyed):
    batch = people(keyed, "Ada")
    (fate,) = await keyed.read_load("750Sb00000999zzIAA", batch)
    assert isinstance(fate.error, UnknownOutcomeError)


async def test_a_repeated_file_makes_nobody_twice(keyed, control):
    await break_off(control, job_seconds=0)
    batch = people(keyed, "Ada")
    for _ in range(2):
        load = await keyed.open_load(batch)
        await keyed.send_load(load)
        (fate,) = await keyed.read_load(load.id, batch)
        assert fate.error is None
    answer = await control.person("GET", f"{API}/query", params={"q": "SELECT Id FROM Contact"})
    assert answer["totalSize"] == 1


async def test_what_cannot_be_told_in_a_row_goes_otherwise(keyed, control):
    (ada,) = people(keyed, "Ada")
    (cleared,) = people(keyed, "Bob", Title="#N/A")
    assert (await keyed.open_load([ada, cleared])).writes == (ada,)
    note = write(keyed, "note", {"Title": "n"}, external_id=str(uuid4()))
    assert await keyed.open_load([note]) is None
    who = keyed.ref("person", "003000000000001AAA")
    deal = write(keyed, "deal", {"Name": "d"}, external_id=str(uuid4()), people=[who])
    assert await keyed.open_load([deal]) is None
    # Without a field that gives each of our ids to one record nothing goes as a file.
    keyed.account = replace(keyed.account, external_id="Email")
    assert await keyed.open_load([ada]) is None


def test_a_file_is_cut_before_it_is_too_large(monkeypatch):
    monkeypatch.setattr(bulk, "LARGEST", 100)
    assert bulk.fitting([{"Name": "x" * 40}] * 5) == 2


def test_children_of_one_parent_stand_together_and_cells_are_quoted():
    rows: list[dict[str, Any]] = [
        {"LastName": "A", "AccountId": "2"},
        {"LastName": 'say "B"', "AccountId": "1", "Active__c": True},
        {"LastName": "C\nD", "AccountId": "2", "Size__c": 1.5},
    ]
    table = list(csv.reader(io.StringIO(bulk.written(rows).decode(), newline="")))
    assert table == [
        ["AccountId", "Active__c", "LastName", "Size__c"],
        ["1", "true", 'say "B"', ""],
        ["2", "", "A", ""],
        ["2", "", "C\nD", "1.5"],
    ]


@pytest.mark.parametrize(
    ("text", "kind", "field"),
    [
        (
            "REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --",
            RejectedError,
            "LastName",
        ),
        ("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access: 001:--", StaleError, None),
        ("DUPLICATES_DETECTED:Use one of these records?:--", StaleError, None),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION:a: b: c:--", RejectedError, None),
        ("something else", RejectedError, None),
    ],
)
def test_a_refusal_of_a_row_is_sorted_like_that_of_a_call(text, kind, field):
    error = bulk.refusal(text)
    assert type(error) is kind
    assert error.field == field
