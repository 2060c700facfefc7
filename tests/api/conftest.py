"""A whole service on a database of its own, spoken to over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.db import migrations
from app.db.engine import Database
from tests import postgres
from tests.api.service import KEY, TOKEN, Service, config, settings


@pytest.fixture(scope="session")
async def template() -> str:
    return await postgres.make_template(postgres.server(), migrations.upgraded)


@pytest.fixture
async def database_url(template: str) -> AsyncIterator[str]:
    async with postgres.clone(postgres.server(), template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def service(database_url: str, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    """Ours, up and ready, with a Close and a HubSpot account that nobody answers for."""
    async with Service.running(settings(database_url, tmp_path), config(), database) as service:
        yield service


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture
async def api(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


__all__ = ["KEY", "api", "database", "database_url", "service", "template", "web"]
