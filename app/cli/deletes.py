"""`deletes`, `recreate`: what was deleted where, and how it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.records import RecordArgument, find
from app.cli.rest import part
from app.cli.screen import Column, screen
from app.cli.work import LimitOption

_DELETES: Sequence[Column] = (
    ("at", "ended_at"),
    ("entity", "entity"),
    ("record", "record_id"),
    ("account", "account"),
    ("id", "remote_id"),
    ("because", "ended"),
    ("left in", lambda row: ", ".join(row["left"]) or None),
)


def add(app: typer.Typer) -> None:
    app.command()(deletes)
    app.command()(recreate)


def deletes(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Option(help="Deleted in this account.")] = None,
    entity: Annotated[str | None, typer.Option(help="company, person, deal …")] = None,
    limit: LimitOption = 50,
) -> None:
    """What was deleted or merged away in an account, and who still has it."""
    found = screen(ctx)
    answer = found.rest.list("/api/deletes", limit=limit, account=account, entity=entity)
    found.table(answer, _DELETES, empty="Nothing was deleted.")


def recreate(
    ctx: typer.Context,
    record: RecordArgument,
    account: Annotated[str, typer.Argument(help="Where it is wanted again.", show_default=False)],
) -> None:
    """Make a record anew in an account where it was deleted."""
    found = screen(ctx)
    name = find(found.rest, record)
    answer = found.rest.post(f"/api/records/{part(name)}/recreate", {"account": account})
    found.answer(answer, f"✓ {name} is made anew in {account}")
