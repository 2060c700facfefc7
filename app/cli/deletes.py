"""`deletes`, `recreate`, `purge`, `readmit`: what is gone, for how long, and how it comes back."""

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
    app.command("decide-delete")(decide)
    app.command()(purge)
    app.command()(readmit)


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


def purge(
    ctx: typer.Context,
    record: RecordArgument,
    propagate: Annotated[
        bool | None,
        typer.Option(
            "--propagate/--no-propagate",
            help="Erase them in the CRMs too. Default: as `privacy` is configured.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a person for good: every value we keep. They do not come back by themselves."""
    found = screen(ctx)
    name = find(found.rest, record)
    if not yes and not found.json:
        typer.confirm(f"Forget {record} for good?", abort=True)
    wish = {} if propagate is None else {"propagate": propagate}
    answer = found.rest.post(f"/api/records/{part(name)}/purge", wish)
    found.answer(answer, f"✓ {name} is forgotten")


def readmit(
    ctx: typer.Context,
    who: Annotated[str, typer.Argument(help="An e-mail address or a domain.", show_default=False)],
) -> None:
    """Let somebody in again who was purged, as after a new consent."""
    found = screen(ctx)
    kind = "email" if "@" in who else "domain"
    answer = found.rest.post("/api/readmissions", {kind: who})
    found.answer(answer, f"✓ {answer['removed']} entries removed; the next look takes them in")


def decide(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The id of the conflict.", show_default=False)],
    delete: Annotated[
        bool, typer.Option("--delete/--keep", help="Delete it wherever it is, or let it live.")
    ],
) -> None:
    """Say what becomes of a record whose delete was not carried over."""
    found = screen(ctx)
    answer = found.rest.post(f"/api/conflicts/{part(id)}/delete", {"delete": delete})
    found.answer(answer, f"✓ {id} is decided")
