"""`drift`: whether an account shows what our records say, and what differs and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.rest import part
from app.cli.resyncs import watch
from app.cli.screen import Column, Screen, screen
from app.config import FIELDS

_MOST = 10_000  # differences that are asked for
_LINES = 50  # of them shown

_DIFFERENCES: Sequence[Column] = (
    ("entity", "entity"),
    ("record", "record_id"),
    ("remote id", "remote_id"),
    ("field", "field"),
    ("ours", "ours"),
    ("theirs", "theirs"),
    ("likely cause", "reason"),
)

drifts = typer.Typer(help="Comparisons that were started before.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="The id of the comparison.", show_default=False)]


def add(app: typer.Typer) -> None:
    app.command()(drift)
    app.add_typer(drifts, name="drifts")


def drift(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="The account to compare.", show_default=False)],
    entity: Annotated[
        str | None, typer.Option(help=f"Only this: {', '.join(FIELDS)}. Default: all.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take in what differs, as a webhook would.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")] = False,
) -> None:
    """Compare all linked records of an account with ours; the code is 1 if anything differs.

    The service does the work: this command only watches, and may be interrupted.
    """
    found = screen(ctx)
    asked = {"account": account, "repair": repair, **({"entity": entity} if entity else {})}
    started = found.rest.post("/api/drifts", asked)
    name = started["id"]
    if no_wait:
        found.answer(started, f"It has begun; `syncline drifts show {name}` watches it")
        return
    _finish(found, name)


@drifts.command("show")
def show(ctx: typer.Context, id: IdArgument) -> None:
    """Watch a comparison to its end, and print what differs."""
    _finish(screen(ctx), id)


@drifts.command()
def cancel(ctx: typer.Context, id: IdArgument) -> None:
    """Stop a comparison after the page in hand."""
    found = screen(ctx)
    answer = found.rest.delete(f"/api/drifts/{part(id)}")
    found.answer(answer, f"✓ {id} is cancelled")


def _finish(found: Screen, name: str) -> None:
    """Watch, report, and end with 1 if anything differs or it did not end well."""
    path = f"/api/drifts/{part(name)}"
    try:
        last = watch(found, path, seen="records")
    except KeyboardInterrupt:
        found.errors.print(
            f"It goes on in the service: `syncline drifts show {name}` watches it, "
            f"`syncline drifts cancel {name}` stops it.",
            soft_wrap=True,
        )
        raise
    differing = found.rest.list(f"{path}/differences", limit=_MOST)["items"]
    if found.json:
        found.data({**last, "differences": differing})
    else:
        _report(found, last, differing)
    if last["state"] != "done" or not last["equal"]:
        raise typer.Exit(1)


def _report(found: Screen, last: Mapping[str, Any], differing: Sequence[Mapping[str, Any]]) -> None:
    found.table(differing[:_LINES], _DIFFERENCES, empty="Nothing differs.")
    if len(differing) > _LINES:
        found.say(f"… and {len(differing) - _LINES} more: --json shows them")
    if last["causes"]:
        found.pairs(last["causes"].items(), title="Causes")
    found.pairs(last["counts"].items(), title=f"{last['account']}: {last['state']}")
    if last["equal"]:
        found.say(f"✓ {last['account']} shows what we hold; digest {last['ours']}")
    for error in last["errors"]:
        found.say(f"✗ {error['reason'] or error['cause']}")
