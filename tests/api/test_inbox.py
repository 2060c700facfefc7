"""Group commit: what fails, fails alone; what cannot be stored is never called stored."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
import sqlalchemy as sa

from app import clock
from app.db import deliveries, embedded, inbox, migrations
from app.db.engine import Database
from app.db.inbox import Inbox
from app.domain.values import Delivery
from app.errors import ReadinessError
from tests.api.service import TOKEN, Service, config, event, settings, signed

CLOSE_IN = "account = 'close' and direction = 'in'"


def delivery(number: int, **headers: str) -> tuple[Delivery, bytes]:
    body = event(number)
    found = Delivery("close", "POST", "/webhooks/close", headers, body, clock.now())
    return found, hashlib.sha256(body).digest()


@contextlib.asynccontextmanager
async def opened(database: Database, *, most: int = 100) -> AsyncIterator[Inbox]:
    found = Inbox(database, most=most)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


@contextlib.asynccontextmanager
async def holding(database: Database, statement: str) -> AsyncIterator[None]:
    """What the statement locks stays locked."""
    async with database.engine.connect() as db:
        await db.execute(sa.text(statement))
        yield
        await db.rollback()


async def count(database: Database) -> int:
    async with database.transaction() as db:
        found: int = (await db.execute(sa.text("select count(*) from deliveries"))).scalar_one()
        return found


async def is_due(database: Database) -> bool:
    async with database.transaction() as db:
        due = await db.execute(sa.text(f"select due_at from lanes where {CLOSE_IN}"))
        return due.scalar_one() is not None


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait, at most half a minute, until this is so."""
    async with asyncio.timeout(30):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def lanes(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(sa.text("insert into lanes (account, direction) values ('close', 'in')"))


async def test_a_row_that_the_database_refuses_fails_alone(database: Database):
    arrivals = [delivery(n) for n in range(20)]
    arrivals[7] = delivery(7, odd="a\x00b")  # no jsonb holds a NUL
    async with opened(database) as found:
        answers = await asyncio.gather(
            *(found.accept(*a) for a in arrivals), return_exceptions=True
        )
        assert isinstance(answers.pop(7), ReadinessError)
        assert answers == [True] * 19
    assert await count(database) == 19


async def test_equal_ones_in_one_flush_are_one_delivery(database: Database):
    async with opened(database) as found:
        answers = await asyncio.gather(*(found.accept(*delivery(1)) for _ in range(10)))
        assert sorted(answers) == [False] * 9 + [True]
        assert await found.accept(*delivery(1)) is False
    assert await count(database) == 1


async def test_a_full_queue_refuses_and_recovers(database: Database):
    async with opened(database, most=3) as found:
        async with holding(database, "lock table deliveries in access exclusive mode"):
            waiting = [asyncio.create_task(found.accept(*delivery(n))) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(ReadinessError, match="too many"):
                await found.accept(*delivery(9))
            assert found.trouble is not None
        assert await asyncio.gather(*waiting) == [True] * 3
        await until(lambda: found.trouble is None)
        assert await found.accept(*delivery(9)) is True


async def test_a_database_that_does_not_answer_in_time_is_our_trouble(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inbox, "PATIENCE", 0.3)
    async with opened(database) as found:
        async with holding(database, "lock table deliveries in access exclusive mode"):
            with pytest.raises(ReadinessError):
                await found.accept(*delivery(1))
        await until(lambda: not found.trouble)
        assert await found.accept(*delivery(1)) is True


async def test_a_driver_that_loses_its_head_amid_a_flush_does_not_end_the_inbox(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    """As asyncpg does where the server dies in the middle of a message."""

    async def confused(*_: object) -> None:
        raise asyncpg.InternalClientError("got result for unknown protocol state 3")

    async with opened(database) as found:
        with monkeypatch.context() as broken:
            broken.setattr(deliveries, "store", confused)
            for number in (1, 2):  # as many as there are flushers
                with pytest.raises(ReadinessError):
                    await found.accept(*delivery(number))
        await until(lambda: found.trouble is None)
        assert await found.accept(*delivery(3))
    assert await count(database) == 1


async def test_no_sender_waits_for_a_worker_that_holds_its_lane(database: Database, lanes: None):
    async with opened(database) as found:
        async with holding(database, f"select 1 from lanes where {CLOSE_IN} for update"):
            async with asyncio.timeout(3):
                assert await found.accept(*delivery(1)) is True
            assert await count(database) == 1
        # The wake-up came too late for the flush; it is not lost.
        await until(lambda: is_due(database))


async def test_what_waits_when_the_service_stops_is_stored_first(database: Database):
    async with opened(database) as found:
        waiting = [asyncio.create_task(found.accept(*delivery(n))) for n in range(50)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [True] * 50
    assert await count(database) == 50


async def test_a_database_that_goes_and_comes_back_takes_the_service_along(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o711)
    server = await asyncio.to_thread(embedded.start, home)
    await migrations.upgraded(server.url)
    try:
        async with (
            Service.running(settings(server.url, tmp_path), config()) as service,
            httpx.AsyncClient(base_url=service.url, timeout=20) as web,
        ):

            async def post(number: int) -> httpx.Response:
                body = event(number)
                return await web.post("/webhooks/close", content=body, headers=signed(body))

            async def is_ready() -> bool:
                return (await web.get("/health/ready")).status_code == 200

            assert (await post(1)).status_code == 200
            await asyncio.to_thread(embedded.stop, home)

            answer = await post(2)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            unready = await web.get("/health/ready")
            assert unready.status_code == 503
            assert unready.json()["checks"]["database"] != "ok"
            assert (await web.get("/health/live")).status_code == 200
            assert (await web.get("/metrics")).status_code == 200
            token = {"authorization": f"Bearer {TOKEN}"}
            for path in ("/api/records", "/api/accounts", "/api/resyncs", "/health/lanes"):
                refused = await web.get(path, headers=token)
                assert refused.status_code == 503, path
                assert int(refused.headers["retry-after"]) > 0
                assert refused.headers["content-type"] == "application/problem+json"

            again = await asyncio.to_thread(embedded.start, home)
            assert again.url == server.url
            await until(is_ready)
            assert (await post(2)).json() == {"status": "ok", "duplicate": False}
            assert (await post(1)).json() == {"status": "ok", "duplicate": True}
    finally:
        await asyncio.to_thread(embedded.stop, home)
