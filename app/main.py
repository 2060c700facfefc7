"""create_app(): the whole HTTP side, put together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.requests import Request
from starlette.responses import RedirectResponse

import app
from app import config as configuration
from app import logs
from app.api import (
    access,
    accounts,
    alerts,
    catchups,
    conflicts,
    dead_letters,
    deletes,
    drifts,
    events,
    guards,
    health,
    identity,
    intake,
    mapping,
    matches,
    pending,
    problems,
    records,
    resyncs,
    signing,
    tokens,
    webhooks,
    why,
)
from app.api.access import Acts
from app.api.bodies import Bodies
from app.api.deps import Desk
from app.api.problems import Problem
from app.api.requests import RequestLog
from app.api.secrets import Secrets
from app.api.webhooks import Doors, WebhookFront
from app.config import Config
from app.db import migrations
from app.db.accounts import Box, register
from app.db.engine import Database, is_away
from app.db.inbox import Inbox
from app.errors import ConfigError
from app.sdk.registry import Registry
from app.settings import Settings
from app.settings import settings as read_settings
from app.sync.alerts import keep_watch
from app.sync.house import build

log = logs.get()

DESCRIPTION = """
Syncline keeps the CRMs of one company telling the same story. A webhook is a *hint* that
something changed; the CRM's record is the *truth*; what follows from it is carried to every
other account, and every change can be explained.

Everything under `/api` needs `Authorization: Bearer …`, with a token of the scope that the call
names: `read`, `operate` or `admin`, each of which may do what those before it may. Lists are
`{"items": […], "next_cursor": …}`; give `next_cursor` back as `?cursor=`. Every error is an
RFC 9457 problem document (`application/problem+json`), and `503` comes with `Retry-After`.
"""

TAGS = [
    {"name": "webhooks", "description": "What CRMs call."},
    {"name": "accounts", "description": "The connected CRMs: test, pause, resume, subscribe."},
    {"name": "records", "description": "Our merged copies, and why each field is what it is."},
    {"name": "matches", "description": "Several accounts compared before anything is written."},
    {"name": "deletes", "description": "What was deleted where, and how it comes back."},
    {"name": "resyncs", "description": "Scans of an account, real or as a dry run."},
    {
        "name": "drifts",
        "description": "Whether an account shows what we hold, and why not.",
    },
    {"name": "events", "description": "What came in, and what became of it."},
    {"name": "conflicts", "description": "What only a person can decide."},
    {"name": "dead letters", "description": "What needs a person, by cause; and the way back."},
    {"name": "alerts", "description": "What is wrong, and who is told."},
    {"name": "access", "description": "Who may ask for what, and who did what."},
    {"name": "health", "description": "For orchestrators, dashboards and Prometheus."},
]


def create_app(
    settings: Settings | None = None,
    config: Config | None = None,
    database: Database | None = None,
) -> WebhookFront:
    """The ASGI application; what is not given is read from the environment.

    A database that is away does not keep it from starting: it is live, not ready, and asks
    senders to come back. Raises ConfigError for what only an operator can mend.
    """
    settings = settings or read_settings()
    logs.configure(settings)
    registry = Registry.load()
    config = config or configuration.load(
        settings, lambda name: registry.connector(name).manifest.entities
    )
    own = database is None
    if database is None:
        if settings.database_url is None:
            raise ConfigError("DATABASE_URL is not set: `syncline serve` brings its own database")
        database = Database(settings.database_url)
    box = Box(settings.secret_keys)
    house = build(database, config, registry, box)
    desk = Desk(
        settings=settings,
        config=config,
        database=database,
        house=house,
        connectors={name: member.connector for name, member in house.members.items()},
        box=box,
        secrets=Secrets(config, database, box),
        inbox=Inbox(database),
        schema=migrations.head(),
    )

    @asynccontextmanager
    async def lifespan(inner: FastAPI) -> AsyncIterator[None]:
        await _register(desk)
        await desk.secrets.open()
        await desk.inbox.open()
        front.open(
            Doors(
                desk.connectors,
                desk.secrets,
                desk.inbox,
                body_limit=config.body_limit,
                public_url=settings.public_url,
            )
        )
        # What has been made by now lives as long as we do: never look at it again. Together
        # with rarer collections this cut the p99 of ingest by four.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        watch = asyncio.create_task(keep_watch(database, config))
        log.info("api.started", accounts=sorted(config.accounts))
        yield
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await front.close()
        await desk.inbox.close()
        await desk.secrets.close()
        if own:
            await desk.database.close()
        log.info("api.stopped")

    front = WebhookFront(RequestLog(Bodies(Acts(_inner(desk, lifespan), database))))
    return front


async def _register(desk: Desk) -> None:
    """Give every account its row and its lanes, if the database is there to do it."""
    known = {name: account.connector for name, account in desk.config.accounts.items()}
    try:
        async with desk.database.transaction() as db:
            await register(db, known, listeners=desk.house.listeners())
    except Exception as error:
        if not is_away(error):
            raise
        log.warning("api.started_without_database", error=logs.words(error))


def _inner(desk: Desk, lifespan: Any) -> FastAPI:
    """Everything but the webhooks."""
    inner = FastAPIOffline(
        title="Syncline",
        version=app.__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        responses={
            422: {"description": problems.INVALID.title, "content": {problems.MEDIA_TYPE: {}}}
        },
    )
    inner.state.desk = desk
    problems.install(inner)
    api = APIRouter(
        prefix="/api",
        responses=problems.responses(
            problems.BAD_REQUEST,
            problems.UNAUTHORIZED,
            problems.FORBIDDEN,
            problems.UNAVAILABLE,
        ),
    )
    for part in (
        accounts,
        signing,
        catchups,
        mapping,
        guards,
        pending,
        records,
        identity,
        intake,
        why,
        deletes,
        resyncs,
        matches,
        drifts,
        events,
        conflicts,
        dead_letters,
        alerts,
        tokens,
    ):
        access.check(part.router.routes)
        api.include_router(part.router)
    inner.add_route("/", _to_the_docs, include_in_schema=False)
    inner.include_router(webhooks.router)
    inner.include_router(api)
    inner.include_router(health.router)
    _document_problems(inner)
    return inner


async def _to_the_docs(_: Request) -> RedirectResponse:
    """Who opens the bare address wants to know what is here."""
    return RedirectResponse("/docs")


def _document_problems(inner: FastAPI) -> None:
    """Every answer that is no success has the shape of a problem; say so in OpenAPI."""
    make = inner.openapi

    def openapi() -> dict[str, Any]:
        if inner.openapi_schema is None:
            schema = make()
            shapes = schema["components"]["schemas"]
            shapes["Problem"] = Problem.model_json_schema()
            for unused in ("HTTPValidationError", "ValidationError"):
                shapes.pop(unused, None)
        return inner.openapi_schema or make()

    inner.openapi = openapi  # type: ignore[method-assign]
