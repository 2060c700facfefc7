"""Faults, counts, history, seeds, the page, and state that survives a restart."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import CLOSE, HUBSPOT, QUICK, Receiver, running


async def test_a_commit_whose_answer_is_lost_stays_committed(
    close: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    fault = {
        "vendor": "close",
        "match": {"method": "POST", "path": "/lead/"},
        "fault": "drop_after_commit",
        "times": 1,
    }
    assert (await control.post("/faults", json=fault)).status_code == 201
    with pytest.raises(httpx.RemoteProtocolError):
        await close.post("/lead/", json={"name": "A"})
    assert len((await close.get("/lead/")).json()["data"]) == 1
    assert (await close.post("/lead/", json={"name": "B"})).status_code == 200


async def test_an_outage_ends_when_it_is_cleared(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    await control.post("/faults", json={"vendor": "hubspot", "fault": "outage"})
    with pytest.raises(httpx.RemoteProtocolError):
        await hubspot.get("/crm/v3/owners")
    await control.delete("/faults")
    assert (await hubspot.get("/crm/v3/owners")).status_code == 200


async def test_answers_can_be_replaced(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    await control.post("/faults", json={"fault": "status", "status": 503, "times": 1})
    await control.post("/faults", json={"fault": "retry_after", "seconds": 2, "times": 1})
    first, second, third = [await hubspot.get("/crm/v3/owners") for _ in range(3)]
    assert (first.status_code, second.status_code, third.status_code) == (503, 429, 200)
    assert second.headers["retry-after"] == "2"
    assert (await control.post("/faults", json={"fault": "nonsense"})).status_code == 400


async def test_calls_rows_and_values_are_remembered(
    close: httpx.AsyncClient, control: httpx.AsyncClient, ada: dict[str, Any]
) -> None:
    lead = (await close.post("/lead/", json=ada)).json()
    await close.put(f"/lead/{lead['id']}/", json={"name": "B"})
    await close.put(f"/lead/{lead['id']}/", json={"name": "B"})
    await control.put(f"/as-person/close/api/v1/lead/{lead['id']}/", json={"name": "C"})
    counts = (await control.get("/counts")).json()["close"]
    assert counts["rows"]["lead"] == {"created": 1, "updated": 1, "unchanged": 1}
    assert (counts["reads"], counts["writes"]) == (0, 3)
    calls = (await control.get("/calls", params={"vendor": "close"})).json()["calls"]
    assert [(c["method"], c["rows"], c["person"]) for c in calls] == [
        ("POST", 2, False),
        ("PUT", 1, False),
        ("PUT", 1, False),
        ("PUT", 1, True),
    ]
    past = (await control.get(f"/history/close/lead/{lead['id']}")).json()["fields"]["name"]
    assert [version["value"] for version in past] == ["Analytical", "B", "C"]
    assert [version["source"] for version in past] == ["api_key", "api_key", "CRM_UI"]


async def test_webhooks_can_be_held_back_and_doubled(
    close: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    event = {"object_type": "lead", "action": "created"}
    await close.post("/webhook/", json={"url": receiver.url, "events": [event]})
    weather = {"vendor": "close", "pause": True, "duplicate": 1, "shuffle": True}
    await control.post("/webhooks", json=weather)
    await close.post("/lead/", json={"name": "A"})
    status = (await control.get("/webhooks")).json()["close"]
    assert (status["pending"], status["paused"], receiver.hooks) == (2, True, [])
    assert (await control.get("/counts")).json()["close"]["pending"] == 2
    await control.post("/webhooks", json={"resume": True})
    one, two = await receiver.until(lambda hooks: len(hooks) == 2)
    assert one.body == two.body


async def test_seeds_and_the_page(base: str, control: httpx.AsyncClient) -> None:
    wanted = {
        "close": {"leads": 20, "contacts_per_lead": 2, "opportunities_per_lead": 1},
        "hubspot": {"companies": 5, "contacts_per_company": 1, "deals_per_company": 1},
    }
    made = (await control.post("/seed", json=wanted)).json()
    assert made["close"] == {"lead": 20, "contact": 40, "opportunity": 20}
    assert made["hubspot"] == {"company": 5, "contact": 5, "deal": 5}
    assert (await control.get("/counts")).json()["close"]["rows"] == {}
    async with httpx.AsyncClient() as client:
        page = await client.get(base)
    assert page.headers["content-type"].startswith("text/html")
    assert "Ember Engines 19" in page.text


async def test_the_state_survives_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    options = (
        *(*QUICK, "--state", str(tmp_path / "state.json")),
        *("--close-webhook", receiver.url, "--close-signature-key", CLOSE.signature_key),
        *("--hubspot-target", receiver.url),
    )
    auth, headers = (CLOSE.api_key, ""), {"authorization": f"Bearer {HUBSPOT.token}"}
    async with running(*options) as url, httpx.AsyncClient(base_url=url) as client:
        lead = (await client.post("/close/api/v1/lead/", json={"name": "A"}, auth=auth)).json()
        body = {"properties": {"email": "a@b.example"}}
        path = "/hubspot/crm/v3/objects/contacts"
        contact = (await client.post(path, json=body, headers=headers)).json()
        hooks = await receiver.until(lambda hooks: len(hooks) >= 2)
    kinds = {type(json.loads(hook.body)) for hook in hooks}
    assert kinds == {dict, list}
    async with running(*options) as url, httpx.AsyncClient(base_url=url) as client:
        found = await client.get(f"/close/api/v1/lead/{lead['id']}/", auth=auth)
        assert found.json()["name"] == "A"
        found = await client.get(f"{path}/{contact['id']}", headers=headers)
        assert found.json()["properties"] == contact["properties"] | {
            "firstname": None,
            "lastname": None,
        }
        again = await client.post(path, json=body, headers=headers)
        assert again.status_code == 409
        assert len((await client.get("/close/api/v1/event/", auth=auth)).json()["data"]) == 1
        assert len((await client.get("/close/api/v1/webhook/", auth=auth)).json()["data"]) == 1
