"""The mapping as a person looks at it: tested against the CRM, and tried on one record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.engine import Database
from tests.api.service import TOKEN, Service, config, settings
from tests.connectors.conftest import Control, sandbox

__all__ = ["sandbox"]

CLOSE, HUBSPOT = "/close/api/v1", "/hubspot"


@pytest.fixture
async def control(sandbox: str) -> AsyncIterator[Control]:
    made = Control(sandbox)
    await made.call("POST", "/_sandbox/reset")
    yield made
    await made.http.aclose()


@pytest.fixture
async def api(
    control: Control, database_url: str, database: Database, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose accounts are those of the sandbox, with rows of its own."""
    text = f"""
accounts:
  close:
    connector: close
    credentials: {{api_key: api_SandboxCloseKey0000000.local}}
    base_url: {control.base}{CLOSE}
    mapping:
      person:
        custom.greeting:
          template: "Dear {{{{name|first|upper}}}}"
          direction: from
  hubspot:
    connector: hubspot
    portal_id: 62515
    credentials: {{access_token: pat-na1-sandbox}}
    base_url: {control.base}{HUBSPOT}
    mapping:
      person:
        custom.greeting: {{path: greetings}}
        custom.id: hs_object_id
        custom.initials:
          path: salutation
          template: "{{{{first_name|truncate:1}}}}{{{{last_name|truncate:1}}}}"
        lead_status:
          path: hs_lead_status
          values: {{New: NEW}}
"""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        Service.running(settings(database_url, tmp_path), config(text), database) as service,
        httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as client,
    ):
        yield client


async def lead(control: Control) -> dict[str, Any]:
    person = {"name": "Ada Lovelace", "emails": [{"email": "ada@x.example", "type": "office"}]}
    body = {"name": "Engines", "url": "https://x.example", "contacts": [person]}
    made: dict[str, Any] = await control.person("POST", f"{CLOSE}/lead/", json=body)
    return made


async def test_an_account_is_told_which_rows_cannot_work(api: httpx.AsyncClient):
    answer = (await api.post("/api/accounts/hubspot/test")).json()
    wrong = {f["detail"]: f["remedy"] for f in answer["findings"] if not f["ok"]}
    assert not answer["ok"]
    assert set(wrong) == {
        "`custom.greeting`: HubSpot has no field 'greetings'",
        "`custom.id`: 'hs_object_id' is read-only in HubSpot",
    }
    fine = (await api.post("/api/accounts/close/test")).json()
    assert [f for f in fine["findings"] if f["check"].startswith("map ") and not f["ok"]] == []


async def test_a_record_is_tried_row_by_row_and_nothing_is_written(
    api: httpx.AsyncClient, control: Control
):
    made = await lead(control)
    contact = made["contacts"][0]["id"]
    answer = (await api.get("/api/accounts/close/mapping/try", params={"id": contact})).json()
    assert (answer["entity"], answer["type"], answer["result"]) == ("person", "contact", "created")
    assert answer["record_id"] is None
    assert answer["source"]["name"] == "Ada Lovelace"
    assert answer["fields"]["first_name"] == "Ada"
    assert answer["fields"]["custom.greeting"] == "Dear ADA"
    (greeting,) = [step for step in answer["steps"] if step["row"] == "custom.greeting"]
    assert greeting["given"] == {"name": "Ada Lovelace"}
    assert greeting["through"] == [
        {"step": "name | first", "value": "Ada"},
        {"step": "name | upper", "value": "ADA"},
        {"step": "template", "value": "Dear ADA"},
    ]
    (told,) = answer["accounts"]
    assert (told["account"], told["op"]) == ("hubspot", "create")
    assert told["sent"]["firstname"] == "Ada"
    assert told["sent"]["salutation"] == "AL"
    counts = await control.call("GET", "/_sandbox/counts")
    assert [vendor["writes"] for vendor in counts.values()] == [0] * len(counts)
    assert (await api.get("/api/records")).json()["items"] == []


async def test_a_record_that_is_there_already_would_be_linked(
    api: httpx.AsyncClient, control: Control
):
    contact = (await lead(control))["contacts"][0]["id"]
    there = await control.person(
        "POST",
        f"{HUBSPOT}/crm/v3/objects/contacts",
        json={"properties": {"email": "ada@x.example", "firstname": "A."}},
    )
    params = {"id": contact, "type": "person"}
    answer = (await api.get("/api/accounts/close/mapping/try", params=params)).json()
    (told,) = answer["accounts"]
    assert (told["op"], told["remote_id"]) == ("link", there["id"])
    assert told["sent"] == {}


async def test_a_value_without_a_word_there_is_shown_as_held(
    api: httpx.AsyncClient, control: Control
):
    made = await control.person(
        "POST",
        f"{HUBSPOT}/crm/v3/objects/contacts",
        json={"properties": {"firstname": "Ada", "hs_lead_status": "OPEN"}},
    )
    params = {"id": made["id"], "type": "contacts"}
    answer = (await api.get("/api/accounts/hubspot/mapping/try", params=params)).json()
    (step,) = [step for step in answer["steps"] if step["row"] == "lead_status"]
    assert step["given"] == {"hs_lead_status": "OPEN"}
    assert step["note"] == "has no value of ours: not read"


@pytest.mark.parametrize(
    ("params", "status", "detail"),
    [
        ({"id": "cont_nobody"}, 404, "close shows no record 'cont_nobody'."),
        ({"id": "x", "type": "ticket"}, 422, "'ticket' is no type of close that travels"),
        ({}, 422, "id"),
    ],
)
async def test_what_cannot_be_tried_is_said(api: httpx.AsyncClient, params, status, detail):
    answer = await api.get("/api/accounts/close/mapping/try", params=params)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]
