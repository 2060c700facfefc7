"""What came in, what needs a person, and how the service is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.rest import UnreachableError, part
from app.cli.resyncs import moment
from app.cli.screen import Column, screen
from app.errors import ConfigError

LimitOption = Annotated[int, typer.Option(help="How many rows at most.", min=1)]

_EVENTS: Sequence[Column] = (
    ("at", "at"),
    ("account", "account"),
    ("type", "type"),
    ("record", lambda row: row["ref"] and "{account}/{type}/{id}".format(**row["ref"])),
    ("answer", "answer"),
    ("state", "state"),
    ("delivery", "delivery_id"),
    ("why", lambda row: (row["error"] or {}).get("reason")),
)
_CAUSES: Sequence[Column] = (
    ("cause", "cause"),
    ("letters", "count"),
    ("accounts", lambda row: ", ".join(row["accounts"])),
    ("since", "oldest"),
    ("next step", "next_step"),
)
_LETTERS: Sequence[Column] = (
    ("id", "id"),
    ("cause", "cause"),
    ("record", "record"),
    ("field", "field"),
    ("value", "value"),
    ("reason", "reason"),
)
_LANES: Sequence[Column] = (
    ("account", "account"),
    ("direction", "direction"),
    ("waiting", "pending"),
    ("held", lambda row: row.get("held") or None),
    ("lag", lambda row: f"{row['lag_seconds']:.1f} s"),
    ("failures", lambda row: row["failures"] or None),
    ("paused until", "paused_until"),
    ("why", "pause_reason"),
)
_QUOTAS: Sequence[Column] = (
    ("account", "account"),
    ("window", "window"),
    ("used", "used"),
    ("of", "calls"),
    ("per", lambda row: f"{row['per']:g} s" if row["per"] else "day"),
    ("left", lambda row: None if row["left"] is None else int(row["left"])),
    ("paused until", "paused_until"),
    ("will end", lambda row: row["ends_at"] or (row["resets_at"] and "not today")),
)
_WORKERS: Sequence[Column] = (("worker", "id"), ("last seen", "seen_at"), ("alive", "alive"))

replay = typer.Typer(help="Work on something again.", no_args_is_help=True)
deliveries = typer.Typer(help="Webhooks as they were received.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.command()(health)
    app.command()(events)
    app.add_typer(deliveries, name="deliveries")
    app.command("dead-letters")(dead_letters)
    app.add_typer(replay, name="replay")


def health(ctx: typer.Context) -> None:
    """Whether the service can work, and how its lanes are. Ends with 3 if it cannot."""
    found = screen(ctx)
    status, ready = found.rest.ask("GET", "/health/ready")
    if status != 200:
        said = ready.get("detail") or ready.get("title") if isinstance(ready, Mapping) else None
        raise UnreachableError(f"{found.rest.url} is not ready: {said or f'HTTP {status}'}")
    lanes = found.rest.get("/health/lanes")
    if found.json:
        found.data({"ready": ready, "lanes": lanes})
        return
    found.say(f"✓ {found.rest.url} is ready")
    found.table(lanes["lanes"], _LANES, empty="There are no lanes: no account is configured.")
    if called := [w for w in lanes["quotas"] if w["used"] or w["paused_until"]]:
        found.table(called, _QUOTAS, empty="", title="Calls")
    if lanes["status"] == "ok":
        found.table(lanes["workers"], _WORKERS, empty="")
    else:
        found.say("No worker is alive: nothing will move. `syncline worker` starts one.")


def events(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    limit: LimitOption = 50,
) -> None:
    """What CRMs told us, and what became of it; the newest first."""
    found = screen(ctx)
    answer = found.rest.list("/api/events", limit=limit, account=account)
    found.table(answer, _EVENTS, empty="No event yet.")


@deliveries.command("show")
def delivery(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The id of the delivery.", show_default=False)],
) -> None:
    """One webhook: its headers, its body and its events."""
    found = screen(ctx)
    answer = found.rest.get(f"/api/deliveries/{part(id)}")
    if found.json:
        found.data(answer)
    else:
        found.pairs(answer.items(), title=f"Delivery {id}")


def dead_letters(
    ctx: typer.Context,
    cause: Annotated[str | None, typer.Option(help="Only of this cause.")] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    limit: LimitOption = 50,
) -> None:
    """What needs a person, grouped by cause, with the next step."""
    found = screen(ctx)
    answer = found.rest.list("/api/dead-letters", limit=limit, cause=cause, account=account)
    if answer["items"] and not found.json:
        found.table(answer["causes"], _CAUSES, empty="", title="Causes")
    found.table(answer, _LETTERS, empty="Nothing needs you.", title="Letters")


@replay.command("deliveries")
def replay_deliveries(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="Ids of deliveries.", show_default=False)],
) -> None:
    """Read webhooks again, as if they had just come."""
    found = screen(ctx)
    rest = found.rest
    answers = [rest.post(f"/api/deliveries/{part(one)}/replay") for one in ids]
    found.answer({"items": answers}, f"✓ {len(answers)} will be read again")


@replay.command("dead-letters")
def replay_dead_letters(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of dead letters.", show_default=False)
    ] = None,
    cause: Annotated[str | None, typer.Option(help="All of this cause.")] = None,
    account: Annotated[str | None, typer.Option(help="All of this account.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="All that died then or later.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="… and before this.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
) -> None:
    """Try dead letters again, at today's mapping, once their cause is mended."""
    span = {"since": since, "until": until}
    times = {name: moment(at, f"--{name}").isoformat() for name, at in span.items() if at}
    named = {"cause": cause, "account": account}
    meant = times | {name: value for name, value in named.items() if value}
    if bool(ids) + bool(meant) + all != 1:
        raise ConfigError("say which: ids; --cause, --account, --since, --until; or --all")
    content: dict[str, Any] = {"ids": ids} if ids else meant or {"all": True}
    found = screen(ctx)
    answer = found.rest.post("/api/dead-letters/replay", content)
    found.answer(answer, f"✓ {answer['replayed']} will be tried again")
    if answer["not_found"]:
        found.errors.print(f"✗ not dead (any more): {', '.join(answer['not_found'])}")
        raise typer.Exit(1)
