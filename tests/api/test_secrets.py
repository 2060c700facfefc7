"""Webhook secrets: several live at once, each with its age and its last use."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.db.engine import Database
from tests.api.service import KEY, SIMPLE, event, signed

NEW = "bb" * 32


async def secrets(api: httpx.AsyncClient, account: str = "close") -> list[dict[str, Any]]:
    answer = await api.get(f"/api/accounts/{account}/secrets")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def post(web: httpx.AsyncClient, number: int, key: str) -> int:
    body = event(number)
    answer = await web.post("/webhooks/close", content=body, headers=signed(body, key=key))
    return answer.status_code


async def test_a_secret_is_rotated_and_no_delivery_is_refused_meanwhile(
    api: httpx.AsyncClient, web: httpx.AsyncClient
):
    assert await post(web, 1, NEW) == 401
    added = await api.post("/api/accounts/close/secrets", json={"secret": NEW})
    assert added.status_code == 201
    assert [one["source"] for one in added.json()["items"]] == ["configured", "configured", "kept"]
    assert [await post(web, n, key) for n, key in enumerate((NEW, KEY, NEW, KEY))] == [200] * 4

    first, simple, new = await secrets(api)
    assert first["used_at"] is not None
    assert new["used_at"] is not None
    assert simple["used_at"] is None

    path = f"/api/accounts/close/secrets/{new['id']}"
    assert (await api.delete(path)).status_code == 204
    assert await post(web, 9, NEW) == 401
    assert await post(web, 9, KEY) == 200
    assert (await api.delete(path)).status_code == 404


async def test_a_secret_of_the_configuration_is_forgotten_there(api: httpx.AsyncClient):
    first, _ = await secrets(api)
    answer = await api.delete(f"/api/accounts/close/secrets/{first['id']}")
    assert answer.status_code == 409
    assert len(await secrets(api)) == 2


async def test_an_account_may_have_none(api: httpx.AsyncClient):
    assert await secrets(api, "second") == []


@pytest.mark.parametrize("secret", ["short", 7, None])
async def test_what_is_no_secret_is_refused_and_not_repeated(secret: Any, api: httpx.AsyncClient):
    answer = await api.post("/api/accounts/close/secrets", json={"secret": secret})
    assert answer.status_code == 422
    assert "short" not in answer.text


async def test_no_secret_lies_readable_anywhere_in_the_database(
    api: httpx.AsyncClient, web: httpx.AsyncClient, database: Database
):
    await api.post("/api/accounts/close/secrets", json={"secret": NEW})
    await post(web, 1, NEW)
    await secrets(api)
    async with database.transaction() as db:
        names = (
            await db.execute(
                sa.text(
                    "select table_name from information_schema.tables where table_schema = 'public'"
                )
            )
        ).scalars()
        everything = ""
        for name in names.all():
            rows = await db.execute(sa.text(f'select t::text from "{name}" t'))
            everything += "\n".join(map(str, rows.scalars()))
    assert "/webhooks/close" in everything
    for secret in (NEW, KEY, SIMPLE):
        assert secret not in everything
