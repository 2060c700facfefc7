"""`serve`, `demo`, `worker`, `migrate`: the service itself."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app import logs
from app.cli import house, service
from app.cli.screen import screen
from app.cli.service import Wish
from app.errors import ConfigError
from app.settings import settings

HostOption = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.")]
PortOption = Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)]
NoWorkerOption = Annotated[
    bool, typer.Option("--no-worker", help="Only the API; workers run elsewhere.")
]
NoMigrateOption = Annotated[bool, typer.Option("--no-migrate", help="Take the schema as it is.")]
NoSandboxOption = Annotated[
    bool, typer.Option("--no-sandbox", help="Stay without accounts if none is configured.")
]


def add(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(demo)
    app.command()(worker)
    app.command()(migrate)


def serve(
    ctx: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    no_worker: NoWorkerOption = False,
    no_migrate: NoMigrateOption = False,
    no_sandbox: NoSandboxOption = False,
) -> None:
    """Serve: the API, a worker, and PostgreSQL if DATABASE_URL is unset.

    With no account configured, the sandbox is started and connected. Listening on this machine
    only, it makes the token and the keys it lacks and keeps them in SYNCLINE_HOME.
    """
    wish = Wish(host, port, worker=not no_worker, migrate=not no_migrate, sandbox=not no_sandbox)
    service.run(screen(ctx), wish)


def demo(
    ctx: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    no_worker: NoWorkerOption = False,
) -> None:
    """Serve with the sandbox, whatever is configured, on data of its own."""
    service.run(screen(ctx), Wish(host, port, worker=not no_worker, demo=True))


def worker(
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer Prometheus on this port.", min=1, max=65535)
    ] = None,
) -> None:
    """Work only: join a service that runs elsewhere. On SIGTERM, end the work in hand first."""
    import uvloop

    from app.worker import loop

    found = settings()
    logs.configure(found)
    if not found.database_url:
        raise ConfigError(
            "DATABASE_URL is not set: a worker joins the database of a running service "
            "(`syncline serve` starts a worker of its own)"
        )
    config = house.read_config(found)
    if metrics_port:
        from prometheus_client import start_http_server

        from app import metrics

        start_http_server(metrics_port, registry=metrics.REGISTRY)
    uvloop.run(loop.run(found, config))


def migrate(ctx: typer.Context) -> None:
    """Bring the database's schema up to date."""
    found = settings()
    logs.configure(found)
    with house.database(found, house.data_home(found)) as url:
        if house.migrate(url):
            asyncio.run(_note_migration(url))
    screen(ctx).answer({"migrated": True}, "✓ the schema is up to date")


async def _note_migration(url: str) -> None:
    """Write down what a person has done: the table is there only now."""
    from app.db import audit, migrations
    from app.db.engine import Database

    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as db:
            target = f"schema {migrations.head()}"
            act = await audit.begin(
                db, who="command line", what="migrate", target=target, detail={}
            )
            await audit.end(db, act, 200)
    finally:
        await database.close()
