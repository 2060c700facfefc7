"""Outbound Messages at the door: a secret in the path, an organisation, and an Ack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog

from app.api.webhooks import Doors
from app.db.engine import Database
from app.domain.values import Delivery, Ref
from app.errors import ReadinessError
from app.sdk.connector import Account
from app.sdk.registry import Registry
from tests.api.service import TOKEN, Service, config, settings
from tests.connectors.test_salesforce_soap import ORG, message, notification
from tests.full.harness import crms, free_port, until

SECRET = "8JxkP0aVQm3nT6bYwZrC"
ACCOUNTS = f"""
accounts:
  salesforce:
    connector: salesforce
    credentials: {{client_id: nobody, client_secret: nobody}}
    login_url: http://127.0.0.1:9
    organization_id: {ORG[:15]}
    outbound_token: {SECRET}
    webhook_secret: sf-apex-shared-secret-xyz
  other:
    connector: salesforce
    credentials: {{client_id: nobody, client_secret: nobody}}
    login_url: http://127.0.0.1:9
    outbound_token: {SECRET}other
  close: {{connector: close, credentials: {{api_key: nobody}}, webhook_secret: aa}}
"""
PATH = f"/webhooks/salesforce/{SECRET}"
SOAP = {"content-type": "text/xml; charset=UTF-8", "soapaction": '""'}


@pytest.fixture
async def service(database_url: str, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    given = settings(database_url, tmp_path)
    async with Service.running(given, config(ACCOUNTS), database) as service:
        yield service


async def post(web: httpx.AsyncClient, path: str = PATH, body: bytes | None = None) -> Any:
    return await web.post(path, content=body or message(notification()), headers=SOAP)


async def stored(database: Database) -> list[Any]:
    async with database.transaction() as db:
        return list(await db.execute(sa.text("select * from deliveries order by id")))


async def test_what_is_durable_is_acknowledged(web: httpx.AsyncClient, database: Database):
    answer = await post(web)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert "<Ack>true</Ack>" in answer.text
    (row,) = await stored(database)
    assert (row.account, row.body, row.state) == (
        "salesforce",
        message(notification()),
        "pending",
    )


async def test_the_same_message_again_is_acknowledged_and_known(
    web: httpx.AsyncClient, database: Database
):
    answers = [await post(web) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert len(await stored(database)) == 1


async def test_the_secret_is_nowhere_afterwards(
    web: httpx.AsyncClient, api: httpx.AsyncClient, database: Database
):
    with structlog.testing.capture_logs() as lines:
        await post(web)
        await post(web, PATH + "x")
        await post(web, f"/webhooks/nobody/{SECRET}")
    (row,) = await stored(database)
    assert row.target == "/webhooks/salesforce/*"
    shown = await api.get(f"/api/deliveries/{row.id}")
    listed = await api.get("/api/accounts/salesforce/secrets")
    for text in (shown.text, listed.text, repr(lines), repr(row._mapping)):
        assert SECRET not in text


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/salesforce",
        "/webhooks/salesforce/*",
        f"{PATH}x",
        PATH[:-1],
        f"{PATH}/",
        f"/webhooks/salesforce/path_{SECRET}",
        f"/webhooks/salesforce/{SECRET}other",
        "/webhooks/salesforce/sf-apex-shared-secret-xyz",
        f"/webhooks/other/{SECRET}other",  # it has no organization_id
    ],
)
async def test_another_path_is_refused(path: str, web: httpx.AsyncClient, database: Database):
    answer = await post(web, path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert await stored(database) == []


@pytest.mark.parametrize(
    "body",
    [message(notification(), org="00D000000000002EAA"), b"{}", b"<a/>", message()[:200]],
    ids=["another", "json", "xml", "cut"],
)
async def test_what_is_of_no_or_another_organisation_is_refused(
    body: bytes, web: httpx.AsyncClient, database: Database
):
    assert (await post(web, body=body)).status_code == 401
    assert await stored(database) == []


async def test_systems_that_sign_have_no_such_path(web: httpx.AsyncClient):
    assert (await post(web, f"/webhooks/close/{SECRET}")).status_code == 404
    assert (await post(web, f"/webhooks/nobody/{SECRET}")).status_code == 404
    assert (await web.get(PATH)).status_code == 200
    assert (await web.put(PATH)).status_code == 405


async def test_what_cannot_be_stored_is_sent_again(
    web: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
):
    doors = service.front._doors
    assert isinstance(doors, Doors)

    async def full(*_: object) -> bool:
        raise ReadinessError("the database cannot be reached")

    monkeypatch.setattr(doors.inbox, "accept", full)
    answer = await post(web)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Ack" not in answer.text
    assert SECRET not in answer.text


async def test_a_url_is_made_shown_and_rotated(api: httpx.AsyncClient, web: httpx.AsyncClient):
    async def path(**wanted: Any) -> Any:
        answer = await api.post("/api/accounts/salesforce/secrets/path", json=wanted)
        assert answer.status_code == 200, answer.text
        return answer.json()

    first = await path()
    assert (first["path"], first["made"]) == (PATH, False)
    assert first["url"] == f"https://hooks.example.com{PATH}"
    made = await path(new=True)
    assert made["made"]
    assert made["path"] != PATH
    assert await path() == {**made, "made": False}
    for known in (PATH, made["path"]):
        assert (await post(web, known, message(notification(2)))).status_code == 200
    secrets = (await api.get("/api/accounts/salesforce/secrets")).json()["items"]
    assert [(one["source"], one["stands"]) for one in secrets] == [
        ("configured", "in signatures"),
        ("configured", "in the path"),
        ("kept", "in the path"),
    ]
    assert [one["used_at"] is not None for one in secrets] == [False, True, True]
    forgotten = await api.delete(f"/api/accounts/salesforce/secrets/{secrets[2]['id']}")
    assert forgotten.status_code == 204
    assert (await post(web, made["path"])).status_code == 401


async def test_a_system_that_signs_all_it_sends_has_no_such_url(api: httpx.AsyncClient):
    answer = await api.post("/api/accounts/close/secrets/path", json={})
    assert answer.status_code == 409
    assert "Close signs" in answer.json()["detail"]


async def test_only_who_may_do_everything_sees_a_url(web: httpx.AsyncClient):
    answer = await web.post("/api/accounts/salesforce/secrets/path", json={})
    assert answer.status_code == 401
    assert TOKEN not in answer.text


async def test_what_the_local_salesforce_sends_is_taken_read_and_not_sent_again(
    database_url: str, database: Database, tmp_path: Path
):
    """The other side is the sandbox's: its SOAP, its organisation, its wait for the Ack."""
    text = ACCOUNTS.replace(ORG[:15], "00DSb0000000001MAA")
    given = settings(database_url, tmp_path)
    async with (
        Service.running(given, config(text), database) as service,
        crms(tmp_path, free_port(), "--salesforce-outbound", service.url + PATH) as found,
    ):
        await found.control("POST", "options", {"salesforce": {"callouts": False}})
        id = await found.salesforce.create("Account", Name="Acmé & Söhne", Website="acme.example")

        async def arrived() -> list[Any]:
            return await stored(database)

        (row,) = await until(arrived)

        async def settled() -> bool:
            return not await found.undelivered()

        await until(settled)
    kind = Registry.load().connector("salesforce")
    delivery = Delivery("salesforce", "POST", row.target, {}, row.body, row.received_at)
    (event,) = kind.parse(delivery, Account("salesforce", "salesforce", "", {}))
    assert (event.type, event.ref) == ("Account.update", Ref("salesforce", "Account", id))
    assert event.data["Name"] == "Acmé & Söhne"
    assert len(await stored(database)) == 1
