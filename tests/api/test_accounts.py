"""Accounts: subscriptions, learned signing keys, and what a CRM's trouble looks like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.api.deps import Desk
from app.db import accounts
from app.db.accounts import Box
from app.db.engine import Database
from app.domain.values import Subscription
from app.errors import AccountError, RejectedError, TransientError
from tests.api.service import FERNET, Service, event, signed

LEARNED = "aa" * 32


def desk(service: Service) -> Desk:
    inner: Any = service.front
    while not hasattr(inner, "state"):
        inner = inner.inner
    found: Desk = inner.state.desk
    return found


class Subscribable:
    """The part of a connector that these routes call."""

    def __init__(self, like: Any) -> None:
        self.manifest, self.account, self.verify = like.manifest, like.account, like.verify
        self.known: list[Subscription] = []
        self.trouble: Exception | None = None

    def wanted_events(self) -> list[str]:
        return ["lead.updated"]

    async def subscriptions(self) -> list[Subscription]:
        if self.trouble:
            raise self.trouble
        return self.known

    async def subscribe(self, url: str) -> tuple[Subscription, SecretStr | None]:
        self.known.append(Subscription("whsub_1", url, active=True, events=("lead.updated",)))
        return self.known[-1], SecretStr(LEARNED)

    async def unsubscribe(self, subscription_id: str) -> None:
        self.known = [one for one in self.known if one.id != subscription_id]


@pytest.fixture
def second(service: Service) -> Subscribable:
    """The account without a webhook secret, with a CRM that answers."""
    connectors: Any = desk(service).connectors
    members: Any = desk(service).house.members
    found = Subscribable(connectors["second"])
    connectors["second"] = found
    members["second"] = replace(members["second"], connector=found)
    return found


async def test_a_subscription_brings_its_own_signing_key(
    api: httpx.AsyncClient, web: httpx.AsyncClient, second: Subscribable
):
    body = event(1)
    headers = signed(body, key=LEARNED)
    assert (await web.post("/webhooks/second", content=body, headers=headers)).status_code == 401

    made = await api.post("/api/accounts/second/webhooks")
    assert made.status_code == 201
    assert made.json() == {
        "id": "whsub_1",
        "url": "https://hooks.example.com/webhooks/second",
        "active": True,
        "events": ["lead.updated"],
        "ours": True,
        "key_kept": True,
    }
    assert LEARNED not in made.text
    assert (await web.post("/webhooks/second", content=body, headers=headers)).status_code == 200
    shown = (await api.get("/api/accounts/second")).json()
    assert shown["secrets"]["webhook_learned"] == 1

    (listed,) = (await api.get("/api/accounts/second/webhooks")).json()["items"]
    assert listed["ours"]
    assert (await api.delete("/api/accounts/second/webhooks/whsub_1")).status_code == 204
    assert (await api.get("/api/accounts/second/webhooks")).json()["items"] == []
    assert (await web.post("/webhooks/second", content=body, headers=headers)).status_code == 401


async def test_a_key_that_another_process_learned_counts_at_once(
    web: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.api.secrets.FRESH", 0.0)
    box = Box([SecretStr(FERNET)])
    async with database.transaction() as db:
        await accounts.keep_webhook_secret(db, box, "second", "whsub_9", SecretStr(LEARNED))
    body = event(1)
    answer = await web.post("/webhooks/second", content=body, headers=signed(body, key=LEARNED))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (RejectedError("no such feature on this plan"), 422),
        (AccountError("the key was revoked"), 502),
        (TransientError("connection refused"), 502),
    ],
)
async def test_the_crms_trouble_is_told_in_its_words(
    trouble: Exception, status: int, api: httpx.AsyncClient, second: Subscribable
):
    second.trouble = trouble
    answer = await api.get("/api/accounts/second/webhooks")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == str(trouble)


async def test_every_request_has_an_id(api: httpx.AsyncClient):
    given = await api.get("/api/accounts", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    for bad in ("", "a b", "x" * 200):
        answer = await api.get("/api/accounts", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] not in ("", bad)


async def test_a_bug_is_a_problem_too(
    api: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.api.accounts._url", broken)
    answer = await api.get("/api/accounts")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:syncline:problem:internal"
    assert "ZeroDivision" not in answer.text
    assert answer.headers["x-request-id"]
