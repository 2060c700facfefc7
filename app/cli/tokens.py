"""`tokens` and `audit`: who may ask the service for what, and who did."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.rest import part
from app.cli.screen import Column, screen
from app.cli.work import LimitOption

NameArgument = Annotated[str, typer.Argument(help="The token's name.", show_default=False)]

_TOKENS: Sequence[Column] = (
    ("token", "name"),
    ("scope", "scope"),
    ("made", "created_at"),
    ("last used", "used_at"),
)
_ACTS: Sequence[Column] = (
    ("when", "at"),
    ("who", "who"),
    ("what", lambda row: f"{row['what'].partition(' ')[0]} {row['target']}"),
    ("asked for", lambda row: row["detail"] or None),
    ("answer", "status"),
)

tokens = typer.Typer(help="The tokens of the API.", no_args_is_help=True)


class Scope(StrEnum):
    """What a token may do; each may do what those before it may."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


def add(app: typer.Typer) -> None:
    app.add_typer(tokens, name="tokens")
    app.command()(audit)


@tokens.command("list")
def show(ctx: typer.Context) -> None:
    """Every token, what it may do and when it was last used."""
    found = screen(ctx)
    empty = "There is no token but that of SYNCLINE_API_TOKEN."
    found.table(found.rest.get("/api/tokens"), _TOKENS, empty=empty)


@tokens.command()
def create(
    ctx: typer.Context,
    name: NameArgument,
    scope: Annotated[
        Scope, typer.Option(help="read: look; operate: also act on records; admin: everything.")
    ] = Scope.READ,
) -> None:
    """Make a token and print it, this once."""
    found = screen(ctx)
    answer = found.rest.post("/api/tokens", {"name": name, "scope": scope.value})
    found.answer(answer, answer["token"])


@tokens.command()
def revoke(ctx: typer.Context, name: NameArgument) -> None:
    """Take a token back, at once."""
    found = screen(ctx)
    found.rest.delete(f"/api/tokens/{part(name)}")
    found.answer({"revoked": name}, f"✓ {name} is revoked")


def audit(
    ctx: typer.Context,
    who: Annotated[str | None, typer.Option(help="Only of this token.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Not before this moment, such as 2026-11-22T00:00:00Z.")
    ] = None,
    limit: LimitOption = 50,
) -> None:
    """What people did, the newest first."""
    found = screen(ctx)
    answer = found.rest.list("/api/audit", limit=limit, who=who, since=since)
    found.table(answer, _ACTS, empty="Nobody did anything yet.")
