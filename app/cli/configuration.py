"""`config` and `keys`: what the operator writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from app.cli import house
from app.cli.screen import screen
from app.config import schema
from app.settings import settings

config = typer.Typer(help="The configuration file.", no_args_is_help=True)
keys = typer.Typer(help="The keys that encrypt stored secrets.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(config, name="config")
    app.add_typer(keys, name="keys")


@config.command()
def check(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Default: SYNCLINE_CONFIG, or ./syncline.yaml.")
    ] = None,
) -> None:
    """Read the configuration as the service would, and say what it means."""
    found = screen(ctx)
    now = settings().model_copy(update={"config": file}) if file else settings()
    read = house.read_config(now)
    house.check(read)
    if found.json:
        found.data(read.model_dump(mode="json", by_alias=True))
        return
    if not read.accounts:
        found.say("No account is configured: `syncline serve` would start the sandbox.")
        return
    rows = [
        {
            "name": name,
            "connector": account.connector,
            "mode": account.mode,
            "secrets": len(account.webhook_secrets) or None,
            "at": account.base_url,
        }
        for name, account in read.accounts.items()
    ]
    columns = [("account", "name"), ("system", "connector"), ("mode", "mode")]
    columns += [("webhook secrets", "secrets"), ("address", "at")]
    found.table(rows, columns, empty="", title="Accounts")
    entities = [
        {
            "entity": entity,
            "accounts": ", ".join(sync.accounts),
            "conflict": sync.conflict,
            "fields": ", ".join(
                f"{name}: {special.direction}"
                + (f", {special.conflict}" if special.conflict else "")
                for name, special in sync.fields.items()
            )
            or None,
        }
        for entity, sync in read.sync.items()
    ]
    columns = [("entity", "entity"), ("accounts", "accounts"), ("who wins", "conflict")]
    found.table(entities, [*columns, ("differing fields", "fields")], empty="", title="Sync")
    found.say("✓ the configuration is good")


@config.command("schema")
def print_schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of the configuration file, for editors and checks."""
    screen(ctx).data(schema())


@keys.command()
def new(ctx: typer.Context) -> None:
    """Make a key for SYNCLINE_SECRET_KEYS."""
    key = house.new_key()
    screen(ctx).answer({"key": key}, key)


@keys.command()
def rotate(ctx: typer.Context) -> None:
    """Encrypt every stored secret anew with the first of SYNCLINE_SECRET_KEYS.

    Put the new key in front, restart, run this; the old keys can then be taken away.
    """
    found = settings()
    keys = house.secret_keys(found)
    with house.database(found, house.data_home(found)) as url, house.answering(url):
        count = asyncio.run(_reseal(url, keys))
    screen(ctx).answer({"accounts": count}, f"✓ {count} accounts are encrypted with the first key")


async def _reseal(url: str, keys: Sequence[SecretStr]) -> int:
    from app.db import accounts, audit, purges
    from app.db.engine import Database

    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as db:
            act = await audit.begin(
                db, who="command line", what="keys rotate", target="stored secrets", detail={}
            )
            await audit.end(db, act, 200)
            await purges.reseal(db, accounts.Box(keys))
            return await accounts.reseal(db, accounts.Box(keys))
    finally:
        await database.close()
