"""Tokens: one refresh however many callers, and what rotated is kept before it is used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import SecretStr

from app.errors import AccountError, RejectedError, TransientError
from app.sdk.client import Wire
from app.sdk.oauth import OAuthRefresh, Session, Tokens

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Locked:
    def __init__(self, store: "Store") -> None:
        self.store = store
        self.tokens, self.issued_for = store.tokens, store.issued_for

    def save(self, tokens: Tokens, *, issued_for: str | None) -> None:
        self.store.pending = (tokens, issued_for)


class Store:
    """One row with a lock; what is saved is there once the block has ended."""

    def __init__(self) -> None:
        self.tokens: Tokens | None = None
        self.issued_for: str | None = None
        self.pending: tuple[Tokens, str | None] | None = None
        self.lock = asyncio.Lock()
        self.fails = False

    @property
    def access(self) -> str | None:
        return self.tokens.access_token if self.tokens else None

    @property
    def refresh(self) -> str | None:
        return self.tokens.refresh_token if self.tokens else None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Locked]:
        async with self.lock:
            yield Locked(self)
            pending, self.pending = self.pending, None
            if pending:
                if self.fails:
                    raise OSError("the database is away")
                self.tokens, self.issued_for = pending


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
    assert store.tokens is not None
    assert store.tokens.expires_at == NOON + timedelta(hours=1)
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
    assert store.tokens is None
    assert made.base_url is None


async def test_a_refused_refresh_token_needs_a_person():
    vendor, store = Vendor(), Store()
    with pytest.raises(AccountError) as caught:
        await source(vendor, store, seed="other").header()
    assert "invalid_grant" in str(caught.value)
    assert "other" not in str(caught.value)


async def test_a_newly_configured_token_is_tried_where_the_kept_one_is_refused():
    vendor, store = Vendor(), Store()
    store.tokens = Tokens("over", "long-revoked", NOON)
    assert (await source(vendor, store).header())["authorization"] == "Bearer access-1"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_at_the_token_endpoint_passes(status):
    vendor, store = Vendor(), Store()
    vendor.status = status
    with pytest.raises(TransientError):
        await source(vendor, store).header()


class Moved(Session):
    """A vendor that says where calls go."""

    async def ask(self, kept: str | None) -> Tokens:
        return Tokens("access", base_url="https://eu7.crm.example")


def moved(store: Store, *, issued_for: str) -> Moved:
    wire = Wire("https://crm.example/api", httpx.MockTransport(lambda _: httpx.Response(204)))
    return Moved(store, wire=wire, issued_for=issued_for)


async def test_calls_go_where_the_session_says_and_nowhere_else():
    store = Store()
    for source in (moved(store, issued_for="ada"), moved(store, issued_for="ada")):
        with pytest.raises(RejectedError, match="outside"):
            await source.wire.send("GET", "https://eu7.crm.example/x")
        await source.header()
        assert source.base_url == "https://eu7.crm.example"
        assert (await source.wire.send("GET", f"{source.base_url}/x")).status == 204
        with pytest.raises(RejectedError, match="outside"):
            await source.wire.send("GET", "https://eu7.crm.example.evil.example/x")


async def test_a_session_of_somebody_else_is_not_used():
    store = Store()
    await moved(store, issued_for="ada").header()
    store.tokens = Tokens("access of ada", base_url="https://eu7.crm.example")
    assert await moved(store, issued_for="ada").header() == {
        "authorization": "Bearer access of ada"
    }
    assert await moved(store, issued_for="bob").header() == {"authorization": "Bearer access"}
    assert store.issued_for == "bob"
