"""The subscriptions of a HubSpot app: all that travels, each once, whatever happened to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.connectors.hubspot.connector import HubSpot
from app.connectors.hubspot.hooks import wanted
from app.errors import NotFoundError, RejectedError
from app.sdk.quota import Quota
from tests.connectors.conftest import HUBSPOT, REGISTRY, Control

URL = "https://sync.example.com/webhooks/hubspot"
APP = "/hubspot/webhooks/v3/54321"
KEY = {"hapikey": "developer-key"}


def connect(base: str, *, app_id: int = 54321, **more: Any) -> HubSpot:
    account = replace(
        HUBSPOT.account(base),
        credentials={**HUBSPOT.credentials, "developer_key": SecretStr(KEY["hapikey"])},
        options={"portal_id": 62515, "app_id": app_id},
    )
    found = REGISTRY.connect(account, properties=HUBSPOT.properties(), **more)
    found.client.quota = Quota({})
    assert isinstance(found, HubSpot)
    return found


@pytest.fixture
async def app(control: Control) -> AsyncIterator[HubSpot]:
    found = connect(control.base)
    yield found
    await found.aclose()


async def there(control: Control) -> list[dict[str, Any]]:
    rows = (await control.call("GET", f"{APP}/subscriptions", params=KEY))["results"]
    return list(rows)


async def test_an_app_is_told_to_call_us_with_all_that_travels(app: HubSpot, control: Control):
    assert await app.subscriptions() == []
    made, key = await app.subscribe(URL)
    assert (made.id, made.url, made.active, key) == ("54321", URL, True, None)
    assert set(app.wanted_events()) == set(made.events)
    assert "contact.propertyChange:email" in made.events
    assert "object.creation@0-46" in made.events
    rows = await there(control)
    assert all(row["active"] for row in rows)
    assert await app.subscriptions() == [made]
    # Once more: nothing is made twice, and nothing is written.
    before = len(await control.calls("hubspot"))
    await app.subscribe(URL)
    assert [row["id"] for row in await there(control)] == [row["id"] for row in rows]
    later = (await control.calls("hubspot"))[before:]
    assert {call["method"] for call in later} == {"GET"}


async def test_what_was_paused_or_removed_is_mended_and_what_others_made_is_left(
    app: HubSpot, control: Control
):
    await control.call("PUT", f"{APP}/settings", params=KEY, json={"targetUrl": URL})
    foreign = {"eventType": "line_item.creation", "active": False}
    await control.call("POST", f"{APP}/subscriptions", params=KEY, json=foreign)
    await app.subscribe(URL)
    first, second, *_ = [row for row in await there(control) if row["active"]]
    await control.call("DELETE", f"{APP}/subscriptions/{first['id']}", params=KEY)
    asleep = {"active": False}
    await control.call("PATCH", f"{APP}/subscriptions/{second['id']}", params=KEY, json=asleep)
    (shown,) = await app.subscriptions()
    assert not set(app.wanted_events()) <= set(shown.events)
    await app.subscribe(URL)
    (shown,) = await app.subscriptions()
    assert set(shown.events) == set(app.wanted_events())
    other = next(row for row in await there(control) if row["eventType"] == "line_item.creation")
    assert not other["active"]

    await app.unsubscribe("54321")
    assert await app.subscriptions() == []
    assert [row["eventType"] for row in await there(control)] == ["line_item.creation"]
    with pytest.raises(NotFoundError):
        await app.unsubscribe("7")


async def test_an_app_that_calls_somebody_else_is_not_taken_from_them(
    app: HubSpot, control: Control
):
    other = {"targetUrl": "https://other.example/hooks"}
    await control.call("PUT", f"{APP}/settings", params=KEY, json=other)
    with pytest.raises(RejectedError, match=r"calls https://other\.example/hooks"):
        await app.subscribe(URL)
    assert await there(control) == []


async def test_a_check_says_what_the_app_does_not_tell(app: HubSpot, control: Control):
    async def said() -> tuple[bool, str]:
        found = next(one for one in await app.check() if one.check == "webhooks")
        return found.ok, found.detail

    assert await said() == (False, "app 54321 calls nobody")
    await control.call("PUT", f"{APP}/settings", params=KEY, json={"targetUrl": URL})
    ok, text = await said()
    assert not ok
    assert "does not tell" in text
    assert "more" in text
    await app.subscribe(URL)
    assert await said() == (True, f"app 54321 calls {URL}")


async def test_the_token_of_a_portal_is_not_sent_with_the_developers_key():
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(404, json={})

    alone = connect("https://crm.example", transport=httpx.MockTransport(answer))
    assert await alone.subscriptions() == []
    (request,) = sent
    assert "authorization" not in request.headers
    assert request.url.params["hapikey"] == KEY["hapikey"]


async def test_the_developers_key_is_in_no_error(control: Control):
    stranger = connect(control.base, app_id=7)
    with pytest.raises(NotFoundError) as caught:
        await stranger.subscribe(URL)
    assert KEY["hapikey"] not in str(caught.value)
    await stranger.aclose()


async def test_a_portal_without_an_app_is_told_what_to_do_by_hand(control: Control):
    portal = HUBSPOT.connect(control.base)
    assert await portal.subscriptions() == []
    with pytest.raises(RejectedError, match="developer_key"):
        await portal.subscribe(URL)
    await portal.aclose()


def test_what_nobody_can_subscribe_to_is_not_wanted() -> None:
    properties = {"contacts": ("email", "lastmodifieddate"), "emails": ("hs_email_html",)}
    events = ("contact.propertyChange", "email.propertyChange", "email.creation")
    assert wanted(events, properties) == ["contact.propertyChange:email", "object.creation@0-49"]
