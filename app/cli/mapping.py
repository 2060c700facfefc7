"""`mapping`: the rows between a CRM and us, at work on one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.accounts import AccountArgument
from app.cli.rest import part
from app.cli.screen import Column, Screen, cell, screen

mapping = typer.Typer(help="How fields are mapped.", no_args_is_help=True)

_STEPS: Sequence[Column] = (
    ("row", "row"),
    ("direction", "direction"),
    ("given", lambda step: _lines(step["given"])),
    ("steps", lambda step: "\n".join(f"{m['step']}: {cell(m['value'])}" for m in step["through"])),
    ("read as", lambda step: step["note"] or _lines(step["fields"] or {})),
)


def add(app: typer.Typer) -> None:
    app.add_typer(mapping, name="mapping")


@mapping.command("try")
def try_out(
    ctx: typer.Context,
    account: AccountArgument,
    ref: Annotated[str, typer.Argument(help="Its id there, or TYPE/ID.", show_default=False)],
) -> None:
    """Show one record on its way through the mapping, and what would be sent. Writes nothing."""
    found = screen(ctx)
    kind, slash, remote_id = ref.rpartition("/")
    with found.errors.status(f"Asking {account} …"):
        answer = found.rest.get(
            f"/api/accounts/{part(account)}/mapping/try",
            id=remote_id if slash else ref,
            type=kind or None,
        )
    if found.json:
        found.data(answer)
        return
    name = f"{answer['account']} {answer['type']} {answer['id']}"
    found.table(answer["steps"], _STEPS, empty="", title=f"{name}: row by row")
    found.pairs(answer["fields"].items(), title=f"As a {answer['entity']} of ours")
    verdict = answer["result"] + (f": {answer['reason']}" if answer["reason"] else "")
    found.say(f"It would be {verdict}.")
    found.say("")
    for told in answer["accounts"]:
        _show(found, told)


def _show(found: Screen, told: Mapping[str, Any]) -> None:
    """What one account would be told, and which of it now."""
    there = f" {told['remote_id']}" if told["remote_id"] else ""
    rows = [
        {"path": path, "value": value, "now": "sent" if path in told["sent"] else None}
        for path, value in {**told["says"], **told["sent"]}.items()
    ]
    columns: Sequence[Column] = (("field", "path"), ("would hold", "value"), ("now", "now"))
    title = f"{told['account']}: {told['op']}{there}"
    found.table(rows, columns, empty=title, title=title)
    if told["note"]:
        found.say(f"  {told['note']}")
    for name, reason in told["held"].items():
        found.say(f"  {name} is held: {reason}")


def _lines(values: Mapping[str, Any]) -> str | None:
    return "\n".join(f"{name}: {cell(value)}" for name, value in values.items()) or None
