"""What came in, what needs a person, and how the service is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.rest import UnreachableError, part
from app.cli.screen import Column, screen
from app.errors import ConfigError

LimitOption = Annotated[int, typer.Option(help="How many rows at most.", min=1)]

_EVENTS: Sequence[Column] = (
    ("at", "at"),
    ("account", "account"),
    ("type", "type"),
    ("record", lambda row: row.get("ref") or row.get("remote_id")),
    ("answer", "answer"),
    ("delivery", "delivery_id"),
)
_DEAD: Sequence[Column] = (
    ("cause", "cause"),
    ("count", "count"),
    ("account", "account"),
    ("record", lambda row: row.get("record_id") or row.get("record")),
    ("field", "field"),
    ("value", "value"),
    ("reason", "reason"),
    ("next step", "next_step"),
    ("ids", lambda row: _short(row.get("ids") or row.get("id"))),
)
_LANES: Sequence[Column] = (
    ("account", "account"),
    ("direction", "direction"),
    ("waiting", lambda row: row.get("pending", row.get("depth"))),
    ("lag", lambda row: _seconds(row.get("lag_seconds"))),
    ("paused until", "paused_until"),
    ("why", "pause_reason"),
)
_WORKERS: Sequence[Column] = (("worker", "id"), ("last seen", "seen_at"))

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
    for key, columns in (("lanes", _LANES), ("workers", _WORKERS)):
        rows = lanes.get(key, lanes.get("items")) if isinstance(lanes, Mapping) else lanes
        if rows and all(isinstance(row, Mapping) for row in rows):
            found.table(rows, columns, empty="")
        elif key == "workers":
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


def dead_letters(ctx: typer.Context, limit: LimitOption = 50) -> None:
    """What needs a person, grouped by cause, with the next step."""
    found = screen(ctx)
    answer = found.rest.list("/api/dead-letters", limit=limit)
    found.table(answer, _DEAD, empty="Nothing needs you.")


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
    all: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
) -> None:
    """Try dead letters again, once their cause is mended."""
    if bool(ids) + bool(cause) + all != 1:
        raise ConfigError("say which: ids, --cause or --all")
    content: dict[str, Any] = {"ids": ids} if ids else {"cause": cause} if cause else {"all": True}
    found = screen(ctx)
    answer = found.rest.post("/api/dead-letters/replay", content)
    count = answer.get("replayed") if isinstance(answer, Mapping) else None
    found.answer(answer, f"✓ {'they' if count is None else count} will be tried again")


def _short(ids: Any) -> str | None:
    if isinstance(ids, list):
        return ", ".join(str(one) for one in ids[:3]) + (" …" if len(ids) > 3 else "")
    return None if ids is None else str(ids)


def _seconds(value: Any) -> str | None:
    return None if value is None else f"{float(value):.1f} s"
