"""`resync`: visit every record of an account, or plan it, with its progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

from app.cli import matches
from app.cli.rest import part
from app.cli.screen import Column, Screen, fields, screen
from app.config import FIELDS
from app.errors import ConfigError

_PAUSE = 0.5  # seconds between two looks
_OVER = ("done", "failed", "cancelled")
_MOST = 10_000
_ERRORS = 20  # lines of them

_PLAN: Sequence[Column] = (
    ("op", "op"),
    ("account", "account"),
    ("entity", "entity"),
    ("record", "record_id"),
    ("remote id", "remote_id"),
    ("changes", lambda row: fields(row.get("fields") or {}) or None),
)

resyncs = typer.Typer(help="Resyncs that were started before.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="The id of the resync.", show_default=False)]


def add(app: typer.Typer) -> None:
    app.command()(resync)
    app.add_typer(resyncs, name="resyncs")


def resync(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="The account to visit.", show_default=False)],
    entity: Annotated[
        str | None, typer.Option(help=f"Only this: {', '.join(FIELDS)}. Default: all.")
    ] = None,
    id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this remote id; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only what changed since: 2026-01-31, or with a time and zone."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; print what would change.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="With --dry-run: who would be recognised as whom.")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(help="With --dry-run: write every row of the matching report here."),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")] = False,
) -> None:
    """Visit the records of an account and bring everybody in step.

    The service does the work: this command only watches, and may be interrupted.
    """
    if id and not entity:
        raise ConfigError("--id needs --entity: say what they are ids of")
    if (report or csv) and not dry_run:
        raise ConfigError("--report and --csv tell what would be: add --dry-run")
    found = screen(ctx)
    asked = {
        "account": account,
        "entity": entity,
        "ids": id or None,
        "since": moment(since).isoformat() if since else None,
        "dry_run": dry_run,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    started = found.rest.post("/api/resyncs", given)
    name = started["id"]
    if no_wait:
        found.answer(started, f"Resync {name} has begun; `syncline resyncs show {name}` watches it")
        return
    _finish(found, name, report=report, csv=csv)


@resyncs.command("show")
def show(ctx: typer.Context, id: IdArgument) -> None:
    """Watch a resync to its end, and print what it did."""
    _finish(screen(ctx), id)


@resyncs.command()
def cancel(ctx: typer.Context, id: IdArgument) -> None:
    """Stop a resync after the page in hand."""
    found = screen(ctx)
    answer = found.rest.delete(f"/api/resyncs/{part(id)}")
    found.answer(answer or {"cancelled": id}, f"✓ resync {id} is cancelled")


def _finish(found: Screen, name: str, *, report: bool = False, csv: Path | None = None) -> None:
    """Watch, report, and end with 1 if not everything went well."""
    rest = found.rest
    try:
        last = watch(found, f"/api/resyncs/{part(name)}", seen="seen")
    except KeyboardInterrupt:
        found.errors.print(
            f"Resync {name} goes on in the service: `syncline resyncs show {name}` watches it, "
            f"`syncline resyncs cancel {name}` stops it.",
            soft_wrap=True,
        )
        raise
    if csv is not None:
        matches.save(rest, f"/api/resyncs/{part(name)}/report.csv", csv)
    if report:
        matching = rest.get(f"/api/resyncs/{part(name)}/report")
        if found.json:
            found.data({**last, "report": matching})
        else:
            matches.show(found, matching)
            found.pairs(last["counts"].items(), title=f"Dry run {last['state']}")
        if last["state"] != "done" or last["counts"]["failed"]:
            raise typer.Exit(1)
        return
    plan = rest.list(f"/api/resyncs/{part(name)}/plan", limit=_MOST) if last["dry_run"] else None
    if found.json:
        found.data(last if plan is None else {**last, "plan": plan["items"]})
    else:
        _report(found, last, plan)
    if last["state"] != "done" or last["counts"]["failed"]:
        raise typer.Exit(1)


def watch(found: Screen, path: str, *, seen: str) -> Mapping[str, Any]:
    """Show how far a scan is until it is over; its last state. ``seen`` counts its records."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        Remaining(),
    )
    with Progress(*columns, console=found.errors, transient=True, disable=found.json) as progress:
        task = progress.add_task("queued", total=None, counts="")
        while True:
            now: Mapping[str, Any] = found.rest.get(path)
            counts = now["counts"]
            progress.update(
                task,
                description=f"{now['account']} {now['state']}",
                completed=counts[seen],
                total=now["total"],
                counts=", ".join(f"{n} {k}" for k, n in counts.items() if n and k != seen),
            )
            if now["state"] in _OVER:
                return now
            time.sleep(_PAUSE)


def _report(found: Screen, last: Mapping[str, Any], plan: Mapping[str, Any] | None) -> None:
    if plan is not None:
        found.table(plan, _PLAN, empty="Nothing would change.", title="What would change")
    found.pairs(last["counts"].items(), title=f"Resync {last['state']}")
    for error in last["errors"][:_ERRORS]:
        found.say(f"✗ {error['record'] or ''} {error['reason'] or error['cause']}")
    if len(last["errors"]) > _ERRORS:
        found.say(f"… and {len(last['errors']) - _ERRORS} more: --json shows them")


def moment(text: str, option: str = "--since") -> datetime:
    """A time with a zone; without one it is UTC. Raises ConfigError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no date; write 2026-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
