"""Pipelines, stages and statuses: added, renamed, and deleted once nothing is in them."""

from typing import Any

import httpx
import pytest

from tests.sandbox.test_hubspot import OBJECTS, _create

PIPELINES = "/crm/v3/pipelines/deals"


async def test_a_stage_is_added_renamed_and_deleted(hubspot: httpx.AsyncClient) -> None:
    path = f"{PIPELINES}/default/stages"
    wanted = {"label": "Pilot", "displayOrder": 3, "metadata": {"probability": "0.5"}}
    made = await hubspot.post(path, json=wanted)
    assert (made.status_code, made.json()["metadata"]["isClosed"]) == (201, "false")
    stage = made.json()["id"]
    deal = await _create(hubspot, "deals", dealname="D", dealstage=stage)
    assert (await hubspot.delete(f"{path}/{stage}")).status_code == 400
    won = {"label": "Paid", "metadata": {"probability": "1.0"}}
    changed = (await hubspot.patch(f"{path}/{stage}", json=won)).json()
    assert (changed["id"], changed["label"], changed["displayOrder"]) == (stage, "Paid", 3)
    query = {"properties": "hs_is_closed_won,pipeline"}
    shown = (await hubspot.get(f"{OBJECTS}/deals/{deal}", params=query)).json()["properties"]
    assert (shown["hs_is_closed_won"], shown["pipeline"]) == ("true", "default")
    await hubspot.delete(f"{OBJECTS}/deals/{deal}")
    assert (await hubspot.delete(f"{path}/{stage}")).status_code == 204
    body = {"properties": {"dealname": "D", "dealstage": stage}}
    assert (await hubspot.post(f"{OBJECTS}/deals", json=body)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"label": "Sales Pipeline", "stages": [{"label": "A", "metadata": {"probability": "0.1"}}]},
        {"label": "P", "stages": []},
        {"label": "P", "stages": [{"label": "A", "metadata": {}}]},
        {"label": "P", "stages": [{"label": "A", "metadata": {"probability": "2"}}]},
        {"stages": [{"label": "A", "metadata": {"probability": "0.1"}}]},
    ],
)
async def test_hubspot_refuses_pipelines_that_make_no_sense(
    hubspot: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await hubspot.post(PIPELINES, json=body)).status_code == 400


async def test_a_pipeline_goes_when_it_is_empty(hubspot: httpx.AsyncClient) -> None:
    stages = [{"label": "A", "metadata": {"probability": "0.1"}}]
    made = (await hubspot.post(PIPELINES, json={"label": "Renewals", "stages": stages})).json()
    path = f"{PIPELINES}/{made['id']}"
    deal = await _create(hubspot, "deals", dealname="D", dealstage=made["stages"][0]["id"])
    assert (await hubspot.delete(path)).status_code == 400
    renamed = await hubspot.patch(path, json={"label": "Second year"})
    assert renamed.json()["label"] == "Second year"
    await hubspot.delete(f"{OBJECTS}/deals/{deal}")
    assert (await hubspot.delete(path)).status_code == 204
    assert (await hubspot.delete(f"{PIPELINES}/default")).status_code == 400


async def test_a_status_of_close_keeps_its_id_when_it_is_renamed(close: httpx.AsyncClient) -> None:
    wanted = {"label": "Pilot", "status_type": "active"}
    status = (await close.post("/status/opportunity/", json=wanted)).json()["id"]
    deal = (await close.post("/opportunity/", json={"status_id": status})).json()
    path = f"/status/opportunity/{status}/"
    assert (await close.delete(path)).status_code == 400
    assert (await close.put(path, json={"label": "Trial"})).json()["id"] == status
    shown = (await close.get(f"/opportunity/{deal['id']}/")).json()
    assert shown["status_label"] == "Trial"
    await close.delete(f"/opportunity/{deal['id']}/")
    assert (await close.delete(path)).status_code == 200
    assert (
        "status_id"
        in (await close.post("/opportunity/", json={"status_id": status})).json()["field-errors"]
    )
    lead = (await close.post("/status/lead/", json={"label": "New"})).json()["id"]
    assert (await close.put(f"/status/lead/{lead}/", json={"label": "Fresh"})).status_code == 200
    assert (await close.delete(f"/status/lead/{lead}/")).status_code == 200


async def test_statuses_move_between_the_pipelines_of_close(close: httpx.AsyncClient) -> None:
    (sales,) = (await close.get("/pipeline/")).json()["data"]
    second = (await close.post("/pipeline/", json={"name": "Renewals"})).json()
    moved = [{"id": sales["statuses"][0]["id"]}]
    path = f"/pipeline/{second['id']}/"
    changed = (await close.put(path, json={"name": "Again", "statuses": moved})).json()
    assert (changed["name"], [s["label"] for s in changed["statuses"]]) == ("Again", ["New"])
    assert (await close.put(path, json={"statuses": []})).status_code == 400
    assert (await close.delete(path)).status_code == 400
    await close.put(
        f"/pipeline/{sales['id']}/", json={"statuses": [*moved, *sales["statuses"][1:]]}
    )
    assert (await close.delete(path)).status_code == 200
