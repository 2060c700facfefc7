"""Tokens: one refresh however many callers, and what rotated is kept before it is used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import SecretStr

from app.errors import AccountError, TransientError
from app.sdk.client import OAuthRefresh, Wire

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Tokens:
    def __init__(self, store: "Store") -> None:
        self.store = store
        self.access_token, self.refresh_token = store.access, store.refresh
        self.expires_at = store.expires_at

    def save(self, *, access_token: str, refresh_token: str, expires_at: datetime | None) -> None:
        self.store.pending = (access_token, refresh_token, expires_at)


class Store:
    """One row with a lock; what is saved is there once the block has ended."""

    def __init__(self) -> None:
        self.access: str | None = None
        self.refresh: str | None = None
        self.expires_at: datetime | None = None
        self.pending: tuple[str, str, datetime | None] | None = None
        self.lock = asyncio.Lock()
        self.fails = False

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Tokens]:
        async with self.lock:
            yield Tokens(self)
            pending, self.pending = self.pending, None
            if pending:
                if self.fails:
                    raise OSError("the database is away")
                self.access, self.refresh, self.expires_at = pending


class Vendor:
    """Rotates: each refresh token works once."""

    def __init__(self) -> None:
        self.good, self.count, self.status = "seed", 0, 200
        self.forms: list[dict[str, list[str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        self.forms.append(form)
        if self.status != 200:
            return httpx.Response(self.status, json={"error": "busy"})
        if form["refresh_token"] != [self.good]:
            return httpx.Response(400, json={"error": "invalid_grant"})
        self.count += 1
        self.good = f"refresh-{self.count}"
        body = {"access_token": f"access-{self.count}", "expires_in": 3600}
        return httpx.Response(200, json=body | {"refresh_token": self.good})


def source(vendor: Vendor, store: Store, *, seed="seed", now=NOON) -> OAuthRefresh:
    return OAuthRefresh(
        "https://crm.example/oauth/token",
        SecretStr("id"),
        SecretStr("a&b=c"),
        refresh_token=SecretStr(seed),
        store=store,
        wire=Wire("https://crm.example/api", httpx.MockTransport(vendor)),
        now=lambda: now,
    )


async def test_the_first_call_refreshes_and_keeps_what_rotated():
    vendor, store = Vendor(), Store()
    header = await source(vendor, store).header()
    assert header == {"authorization": "Bearer access-1"}
    assert (store.access, store.refresh) == ("access-1", "refresh-1")
    assert store.expires_at == NOON + timedelta(hours=1)
    assert vendor.forms[0]["client_secret"] == ["a&b=c"]
    assert vendor.forms[0]["grant_type"] == ["refresh_token"]


async def test_one_refresh_serves_many_callers_in_several_processes():
    vendor, store = Vendor(), Store()
    workers = [source(vendor, store) for _ in range(4)]
    first = [await worker.header() for worker in workers]
    assert vendor.count == 1
    await asyncio.gather(*(w.refresh(h) for w, h in zip(workers, first, strict=True) for _ in "ab"))
    assert vendor.count == 2
    assert [await w.header() for w in workers] == [{"authorization": "Bearer access-2"}] * 4


async def test_a_token_is_renewed_before_it_ends():
    vendor, store = Vendor(), Store()
    await source(vendor, store).header()
    await source(vendor, store, now=NOON + timedelta(minutes=58)).header()
    assert vendor.count == 1
    await source(vendor, store, now=NOON + timedelta(minutes=59, seconds=30)).header()
    assert vendor.count == 2


async def test_a_token_that_could_not_be_kept_is_not_used():
    vendor, store = Vendor(), Store()
    store.fails = True
    made = source(vendor, store)
    with pytest.raises(OSError, match="away"):
        await made.header()
    assert made._access is None


async def test_a_refused_refresh_token_needs_a_person():
    vendor, store = Vendor(), Store()
    with pytest.raises(AccountError) as caught:
        await source(vendor, store, seed="other").header()
    assert "invalid_grant" in str(caught.value)
    assert "other" not in str(caught.value)


async def test_a_newly_configured_token_is_tried_where_the_kept_one_is_refused():
    vendor, store = Vendor(), Store()
    store.refresh = "long-revoked"
    assert (await source(vendor, store).header())["authorization"] == "Bearer access-1"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_at_the_token_endpoint_passes(status):
    vendor, store = Vendor(), Store()
    vendor.status = status
    with pytest.raises(TransientError):
        await source(vendor, store).header()
