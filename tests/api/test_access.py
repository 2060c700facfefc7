"""Who may ask for what, and what is written down of who did what."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from app.api import access
from app.api.access import READ, Caller
from app.db.engine import Database
from app.db.tokens import PREFIX, SCOPES
from tests.api.service import Service

#: One call of each scope.
CALLS = {
    "read": ("GET", "/api/accounts"),
    "operate": ("POST", "/api/accounts/close/pause"),
    "admin": ("GET", "/api/tokens"),
}


async def made(api: httpx.AsyncClient, name: str, scope: str) -> str:
    answer = await api.post("/api/tokens", json={"name": name, "scope": scope})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def acts(api: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/api/audit", params=query)).json()["items"]
    return found


def schema(service: Service) -> dict[str, Any]:
    inner: Any = service.front
    while not isinstance(inner, FastAPI):
        inner = inner.inner
    found: dict[str, Any] = inner.openapi()
    return found


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_token_may_do_what_its_scope_and_those_before_it_allow(
    scope: str, api: httpx.AsyncClient, web: httpx.AsyncClient
):
    token = await made(api, "ada", scope)
    for needed, (method, path) in CALLS.items():
        answer = await web.request(method, path, headers=bearer(token))
        if SCOPES.index(scope) >= SCOPES.index(needed):
            assert answer.status_code == 200, needed
        else:
            assert answer.status_code == 403, needed
            assert answer.json()["type"] == "urn:syncline:problem:forbidden"
            assert f'scope="{needed}"' in answer.headers["www-authenticate"]


async def test_a_revoked_token_opens_nothing_from_that_moment(
    api: httpx.AsyncClient, web: httpx.AsyncClient
):
    token = await made(api, "ada", "read")
    assert (await web.get("/api/accounts", headers=bearer(token))).status_code == 200
    assert (await api.delete("/api/tokens/ada")).status_code == 204
    assert (await web.get("/api/accounts", headers=bearer(token))).status_code == 401
    assert (await api.delete("/api/tokens/ada")).status_code == 404


@pytest.mark.parametrize("token", ["nonsense", f"{PREFIX}nonsense", "é"])
async def test_what_is_no_token_opens_nothing(token: str, web: httpx.AsyncClient):
    given = {b"authorization": f"Bearer {token}".encode("latin-1")}
    answer = await web.get("/api/accounts", headers=given)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


async def test_a_name_is_given_once(api: httpx.AsyncClient):
    await made(api, "ada", "read")
    answer = await api.post("/api/tokens", json={"name": "ada", "scope": "admin"})
    assert answer.status_code == 409


async def test_no_token_can_pass_for_the_one_of_the_environment(api: httpx.AsyncClient):
    wanted = {"name": access.ENVIRONMENT, "scope": "read"}
    assert (await api.post("/api/tokens", json=wanted)).status_code == 422


async def test_a_token_is_shown_once_and_kept_as_a_hash(api: httpx.AsyncClient, database: Database):
    token = await made(api, "ada", "read")
    answer = await api.get("/api/tokens", headers=bearer(token))
    assert answer.status_code == 403
    (shown,) = (await api.get("/api/tokens")).json()["items"]
    assert (shown["name"], shown["scope"]) == ("ada", "read")
    assert shown["used_at"] is not None
    async with database.transaction() as db:
        kept = str((await db.execute(sa.text("select t::text from tokens t"))).scalars().all())
        kept += str((await db.execute(sa.text("select a::text from audit a"))).scalars().all())
    assert token not in kept
    assert token.removeprefix(PREFIX) not in kept


async def test_an_act_is_written_down_with_who_what_and_on_what(
    api: httpx.AsyncClient, web: httpx.AsyncClient
):
    token = await made(api, "ada", "operate")
    answer = await web.post(
        "/api/accounts/close/pause",
        json={"reason": "Ada Lovelace asked"},
        headers={**bearer(token), "x-request-id": "r-1"},
    )
    assert answer.status_code == 200
    (act,) = await acts(api, who="ada")
    assert act["what"] == "POST /api/accounts/{name}/pause"
    assert act["target"] == "/api/accounts/close/pause"
    assert act["detail"] == {"reason": "…"}
    assert (act["status"], act["request_id"]) == (200, "r-1")


async def test_what_was_refused_is_written_down_too_and_looking_is_not(
    api: httpx.AsyncClient, web: httpx.AsyncClient
):
    token = await made(api, "ada", "operate")
    await web.get("/api/accounts", headers=bearer(token))
    for path, content in (
        ("/api/accounts/nobody/pause", {}),
        ("/api/resyncs", {"account": "close", "ids": 7}),
    ):
        await web.post(path, json=content, headers=bearer(token))
    assert [act["status"] for act in await acts(api, who="ada")] == [422, 404]


async def test_nobody_acts_while_it_cannot_be_written_down(
    api: httpx.AsyncClient, database: Database
):
    async with database.transaction() as db:
        await db.execute(sa.text("alter table audit add constraint full_up check (false)"))
    assert (await api.post("/api/accounts/close/pause")).status_code >= 500
    assert not (await api.get("/api/accounts/close")).json()["paused"]


async def test_a_purge_leaves_no_address_in_the_audit(api: httpx.AsyncClient):
    await api.post("/api/readmissions", json={"email": "ada@analytical.example"})
    (act,) = await acts(api)
    assert act["detail"] == {"email": "…"}


async def test_a_path_with_an_address_leaves_none_in_the_audit(api: httpx.AsyncClient):
    await api.post("/api/records/ada@analytical.example/split", json={})
    (act,) = await acts(api)
    assert act["target"] == "/api/records/a…@analytical.example/split"


@given(st.sampled_from(SCOPES), st.sampled_from(SCOPES))
def test_scopes_are_one_inside_the_other(one: str, other: str):
    assert Caller("x", one).may(other) or Caller("x", other).may(one)


def test_every_call_below_api_names_its_scope(service: Service):
    for path, operations in schema(service)["paths"].items():
        for method, operation in operations.items():
            needs = [scopes for one in operation.get("security", ()) for scopes in one.values()]
            wanted = path.startswith("/api")
            assert bool(needs and needs[0]) == wanted, f"{method} {path}"


async def test_every_call_that_changes_something_is_written_down_once(
    api: httpx.AsyncClient, service: Service
):
    calls = [
        f"{method.upper()} {path}"
        for path, operations in schema(service)["paths"].items()
        for method in operations
        if path.startswith("/api/") and method != "get"
    ]
    assert len(calls) > 20
    for call in calls:
        method, path = call.split()
        # Mostly of something that is not there: refused, and written down all the same.
        await api.request(method, re.sub(r"{\w+}", "1", path), json={})
    assert [act["what"] for act in reversed(await acts(api, limit="200"))] == calls


def test_a_route_without_a_scope_stops_the_start():
    router = APIRouter()

    @router.get("/open")
    async def forgotten() -> None: ...

    @router.get("/closed", dependencies=[READ])
    async def declared() -> None: ...

    with pytest.raises(AssertionError, match="/open declares no scope"):
        access.check(router.routes)
