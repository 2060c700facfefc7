"""Owners and users, those who left included."""

import httpx

from tests.sandbox.conftest import CLOSE
from tests.sandbox.test_hubspot import OBJECTS, _create

OWNERS = "/crm/v3/owners"


async def test_archived_owners_are_shown_on_request(hubspot: httpx.AsyncClient) -> None:
    active = (await hubspot.get(OWNERS)).json()["results"]
    assert [owner["firstName"] for owner in active] == ["Grace", "Alan"]
    (barbara,) = (await hubspot.get(OWNERS, params={"archived": "true"})).json()["results"]
    assert (barbara["userId"], barbara["userIdIncludingInactive"]) == (None, 903)
    path = f"{OWNERS}/{barbara['id']}"
    assert (await hubspot.get(path)).status_code == 404
    assert (await hubspot.get(path, params={"archived": "true"})).json()["archived"]
    by_user = {"idProperty": "userId", "archived": "true"}
    assert (await hubspot.get(f"{OWNERS}/903", params=by_user)).json()["id"] == barbara["id"]
    assert (await hubspot.get(OWNERS, params={"limit": 501})).status_code == 400


async def test_an_owner_who_left_keeps_what_he_has_and_gets_nothing_new(
    hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    alan = (await hubspot.get(OWNERS, params={"email": "alan@syncline.example"})).json()
    id = alan["results"][0]["id"]
    mine = await _create(hubspot, "companies", name="A", hubspot_owner_id=id)
    other = await _create(hubspot, "companies", name="B")
    leaves = {"vendor": "hubspot", "email": "alan@syncline.example", "active": False}
    assert (await control.post("/users", json=leaves)).status_code == 200
    body = {"properties": {"hubspot_owner_id": id, "city": "Oslo"}}
    assert (await hubspot.patch(f"{OBJECTS}/companies/{mine}", json=body)).status_code == 200
    refused = await hubspot.patch(f"{OBJECTS}/companies/{other}", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "INVALID_OWNER_ID")


async def test_close_shows_who_left_apart(
    close: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    users = (await close.get("/user/")).json()["data"]
    assert [user["first_name"] for user in users] == ["Grace", "Alan"]
    path = f"/organization/{(await close.get('/me/')).json()['organizations'][0]['id']}/"
    expand = {"_expand": "memberships__user,inactive_memberships__user"}
    shown = (await close.get(path, params=expand)).json()
    (left,) = shown["inactive_memberships"]
    assert left["user"]["email"] == "barbara@syncline.example"
    assert "user" not in (await close.get(path)).json()["memberships"][0]
    assert (await close.get(f"/user/{left['user_id']}/")).json()["first_name"] == "Barbara"
    deal = await close.post("/opportunity/", json={"user_id": left["user_id"]})
    assert "user_id" in deal.json()["field-errors"]
    body = {"email": "edsger@syncline.example", "first_name": "Edsger", "last_name": "Dijkstra"}
    joined = (await control.post("/users", json=body)).json()["close"]
    deal = await close.post("/opportunity/", json={"user_id": joined["id"]})
    assert deal.json()["user_name"] == "Edsger Dijkstra"
    await control.post("/users", json={"email": body["email"], "active": False})
    path = f"/opportunity/{deal.json()['id']}/"
    kept = (await close.put(path, json={"value": 1, "user_id": joined["id"]})).json()
    assert kept["user_name"] == "Edsger Dijkstra"
    assert (await close.put(path, json={"user_id": CLOSE.user_id})).status_code == 200
    assert (await close.put(path, json={"user_id": joined["id"]})).status_code == 400


async def test_a_person_can_be_named(
    close: httpx.AsyncClient, hubspot: httpx.AsyncClient, control: httpx.AsyncClient
) -> None:
    grace = {"x-sandbox-person": "Grace@syncline.example"}
    path = "/as-person/close/api/v1/lead/"
    lead = (await control.post(path, json={"name": "A"}, headers=grace)).json()
    assert lead["created_by_name"] == "Grace Hopper"
    assert (await control.post(path, json={"name": "A"})).json()["created_by_name"] == "Alan Turing"
    id = await _create(hubspot, "companies", name="A")
    path = f"{OBJECTS}/companies/{id}"
    body = {"properties": {"city": "Oslo"}}
    await control.patch(f"/as-person/hubspot{path}", json=body, headers=grace)
    read = await hubspot.get(path, params={"propertiesWithHistory": "city"})
    assert read.json()["propertiesWithHistory"]["city"][0]["updatedByUserId"] == 901
    left = {"x-sandbox-person": "barbara@syncline.example"}
    for way in ("hubspot/crm/v3/owners", "close/api/v1/me/"):
        assert (await control.get(f"/as-person/{way}", headers=left)).status_code == 401


async def test_people_that_make_no_sense_are_refused(control: httpx.AsyncClient) -> None:
    for body in (
        {},
        {"email": 1},
        {"email": "a@b.example", "active": "no"},
        {"email": "a", "x": 1},
    ):
        assert (await control.post("/users", json=body)).status_code == 400
