"""`alerts`: what is wrong, and whether somebody is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.screen import Column, screen
from app.cli.work import LimitOption

_ALERTS: Sequence[Column] = (
    ("what", "kind"),
    ("summary", "summary"),
    ("many", lambda row: row["count"] if row["count"] > 1 else None),
    ("since", "since"),
    ("over", "ended_at"),
)
_CHANNELS: Sequence[Column] = (("channel", "channel"), ("told", "ok"), ("why not", "reason"))

alerts = typer.Typer(help="What is wrong, and who is told.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(alerts, name="alerts")


@alerts.command("list")
def show(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: LimitOption = 50,
) -> None:
    """What is wrong now, the newest first."""
    found = screen(ctx)
    answer = found.rest.list("/api/alerts", limit=limit, open=None if all else "true")
    found.table(answer, _ALERTS, empty="Nothing is wrong.")


@alerts.command()
def test(ctx: typer.Context) -> None:
    """Send every channel a test. Ends with 1 if one did not take it."""
    found = screen(ctx)
    answer = found.rest.post("/api/alerts/test")
    found.table(answer, _CHANNELS, empty="")
    if not all(row["ok"] for row in answer["items"]):
        raise typer.Exit(1)
