"""`pending` and `guard`: what an account would be told, and how much of it in an hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.accounts import AccountArgument
from app.cli.rest import part
from app.cli.screen import Column, Screen, fields, screen
from app.cli.work import LimitOption
from app.errors import ConfigError

_GUARDS: Sequence[Column] = (
    ("writes", lambda row: f"{row['op']}s"),
    ("an hour", lambda row: "no limit" if row["limit"] is None else row["limit"]),
    ("used", "used"),
    ("held", lambda row: row["held"] or None),
    ("since", "since"),
    ("open until", "open_until"),
)
_SAMPLES: Sequence[Column] = (
    ("entity", "entity"),
    ("name", "name"),
    ("record", "record_id"),
    ("since", "since"),
)
_PENDING: Sequence[Column] = (
    ("op", "op"),
    ("entity", "entity"),
    ("name", "name"),
    ("record", "record_id"),
    ("remote id", "remote_id"),
    ("changes", lambda row: fields(row["fields"]) or None),
    ("why", "reason"),
    ("state", lambda row: None if row["state"] == "pending" else row["state"]),
    ("since", "marked_at"),
)
_OPS = ("create", "update", "delete")

guard = typer.Typer(help="How many writes an hour an account takes.", no_args_is_help=True)

OpOption = Annotated[
    str | None, typer.Option("--op", help="Only create, update or delete. Default: all.")
]


def add(app: typer.Typer) -> None:
    app.command()(pending)
    app.add_typer(guard, name="guard")


def pending(ctx: typer.Context, account: AccountArgument, limit: LimitOption = 50) -> None:
    """What an account would be told now: created, changed, linked, held; writes nothing."""
    found = screen(ctx)
    answer = found.rest.list(f"/api/accounts/{part(account)}/pending", limit=limit)
    found.table(answer, _PENDING, empty=f"{account} has everything.")


@guard.command("show")
def show(ctx: typer.Context, account: AccountArgument) -> None:
    """The limits, what was used of them, and what waits for you."""
    found = screen(ctx)
    _print(found, account, found.rest.get(f"/api/accounts/{part(account)}/guard")["items"])


@guard.command("approve")
def approve(
    ctx: typer.Context,
    account: AccountArgument,
    op: OpOption = None,
    for_an_hour: Annotated[
        bool, typer.Option("--for-an-hour", help="What comes within the next hour too.")
    ] = False,
) -> None:
    """Make the writes that wait, and count anew."""
    found = screen(ctx)
    asked = {"op": _op(op), "for_an_hour": for_an_hour}
    answer = found.rest.post(f"/api/accounts/{part(account)}/guard/approve", asked)
    found.answer(answer, f"✓ {answer['released']} writes to {account} will be made now")


@guard.command("discard")
def discard(ctx: typer.Context, account: AccountArgument, op: OpOption = None) -> None:
    """Do not make the writes that wait; records and links stay as they are."""
    found = screen(ctx)
    answer = found.rest.post(f"/api/accounts/{part(account)}/guard/discard", {"op": _op(op)})
    found.answer(answer, f"✓ {answer['discarded']} writes to {account} are dropped")


def _op(op: str | None) -> str | None:
    if op is not None and op not in _OPS:
        raise ConfigError(f"--op: {op!r} is none of {', '.join(_OPS)}")
    return op


def _print(found: Screen, account: str, guards: list[dict[str, Any]]) -> None:
    found.table(guards, _GUARDS, empty="")
    for one in guards if not found.json else ():
        if one["held"]:
            title = f"{one['held']} {one['op']}s wait for you, such as"
            found.table(one["samples"], _SAMPLES, empty="", title=title)
            found.say(
                f"`syncline guard approve {account} --op {one['op']}` makes them, "
                f"`syncline guard discard {account} --op {one['op']}` drops them."
            )
