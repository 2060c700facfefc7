"""Labels of associations, and the primary company."""

from typing import Any

import httpx

from tests.sandbox.conftest import Receiver
from tests.sandbox.test_hubspot import _create, _events, _subscribe

LABELS = "/crm/v4/associations/contacts/companies/labels"


async def _types(hubspot: httpx.AsyncClient, path: str) -> dict[str, list[int]]:
    """The type ids of each linked record; those of own labels, another number range, negative."""
    rows = (await hubspot.get(path)).json()["results"]
    return {
        str(row["toObjectId"]): sorted(
            -type["typeId"] if type["category"] == "USER_DEFINED" else type["typeId"]
            for type in row["associationTypes"]
        )
        for row in rows
    }


async def _label(hubspot: httpx.AsyncClient, **more: str) -> list[dict[str, Any]]:
    body = {"label": "Advisor", "name": "advisor", **more}
    answer = await hubspot.post(LABELS, json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


async def test_a_label_reads_differently_from_each_end(hubspot: httpx.AsyncClient) -> None:
    there, back = await _label(hubspot, inverseLabel="Advised by")
    assert (there["category"], there["label"], back["label"]) == (
        "USER_DEFINED",
        "Advisor",
        "Advised by",
    )
    again = {"label": "Advisor", "name": "advisor"}
    assert (await hubspot.post(LABELS, json=again)).status_code == 409
    assert (await hubspot.post(LABELS, json={"label": "Nameless"})).status_code == 400
    person = await _create(hubspot, "contacts", email="ada@a.example")
    company = await _create(hubspot, "companies", name="A")
    path = f"/crm/v4/objects/contacts/{person}/associations/companies"
    spec = [{"associationCategory": "USER_DEFINED", "associationTypeId": there["typeId"]}]
    made = await hubspot.put(f"{path}/{company}", json=spec)
    assert (made.status_code, made.json()["labels"]) == (201, ["Advisor"])
    assert await _types(hubspot, path) == {company: [-there["typeId"], 279]}
    back_path = f"/crm/v4/objects/companies/{company}/associations/contacts"
    assert await _types(hubspot, back_path) == {person: [-back["typeId"], 280]}
    renamed = {"associationTypeId": there["typeId"], "label": "Mentor"}
    assert (await hubspot.put(LABELS, json=renamed)).status_code == 204
    rows = (await hubspot.get(LABELS)).json()["results"]
    shown = {(row["category"], row["typeId"]): row["label"] for row in rows}
    assert shown["USER_DEFINED", there["typeId"]] == "Mentor"
    assert (shown["HUBSPOT_DEFINED", 1], shown["HUBSPOT_DEFINED", 279]) == ("Primary", None)
    assert (await hubspot.delete(f"{LABELS}/{there['typeId']}")).status_code == 204
    assert (await hubspot.delete(f"{LABELS}/279")).status_code == 400
    assert await _types(hubspot, path) == {company: [279]}


async def test_labels_replace_add_and_go_one_by_one(hubspot: httpx.AsyncClient) -> None:
    label = (await _label(hubspot))[0]["typeId"]
    person = await _create(hubspot, "contacts", email="ada@a.example")
    company = await _create(hubspot, "companies", name="A")
    path = f"/crm/v4/objects/contacts/{person}/associations/companies"
    primary = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}
    own = {"associationCategory": "USER_DEFINED", "associationTypeId": label}
    await hubspot.put(f"{path}/{company}", json=[primary])
    batch = "/crm/v4/associations/contacts/companies/batch"
    row = {"from": {"id": person}, "to": {"id": company}, "types": [own]}
    await hubspot.post(f"{batch}/create", json={"inputs": [row]})
    assert set((await _types(hubspot, path))[company]) == {-label, 1, 279}
    await hubspot.put(f"{path}/{company}", json=[own])
    assert set((await _types(hubspot, path))[company]) == {-label, 279}
    await hubspot.post(f"{batch}/labels/archive", json={"inputs": [row]})
    assert await _types(hubspot, path) == {company: [279]}
    gone = {"inputs": [{"from": {"id": person}, "to": [{"id": company}]}]}
    assert (await hubspot.post(f"{batch}/archive", json=gone)).status_code == 204
    assert await _types(hubspot, path) == {}


async def test_associations_keep_their_limits(hubspot: httpx.AsyncClient) -> None:
    batch = "/crm/v4/associations/contacts/companies/batch"
    rows: list[dict[str, Any]] = [{"id": str(number)} for number in range(1001)]
    assert (await hubspot.post(f"{batch}/read", json={"inputs": rows})).status_code == 400
    rows = [{"from": {"id": "1"}, "to": {"id": "1"}, "types": []}] * 2001
    assert (await hubspot.post(f"{batch}/create", json={"inputs": rows})).status_code == 400
    rows = [{"from": {"id": "1"}, "to": [{"id": "1"}]}] * 2001
    assert (await hubspot.post(f"{batch}/archive", json={"inputs": rows})).status_code == 400


async def test_the_change_of_a_primary_company_is_announced_in_full(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await control.post("/options", json={"hubspot": {"first_primary": True}})
    person = await _create(hubspot, "contacts", email="ada@a.example")
    one, two = [await _create(hubspot, "companies", name=name) for name in "AB"]
    path = f"/crm/v4/objects/contacts/{person}/associations"
    for company in (one, two):
        await hubspot.put(f"{path}/default/companies/{company}")
    assert await _types(hubspot, f"{path}/companies") == {one: [1, 279], two: [279]}
    await _subscribe(hubspot, receiver.url, "contact.associationChange")
    primary = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    await hubspot.put(f"{path}/companies/{two}", json=primary)
    await hubspot.delete(f"{path}/companies/{one}")
    events = _events(await receiver.until(lambda hooks: len(_events(hooks)) == 3))
    assert {event["associationType"] for event in events} == {"CONTACT_TO_COMPANY"}
    assert [
        (str(e["toObjectId"]), e["associationRemoved"], e["isPrimaryAssociation"]) for e in events
    ] == [(one, True, True), (two, False, True), (one, True, False)]
