"""`intake`: a company and its people from a file or a pipe, to every system."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from app.cli.rest import RefusedError
from app.cli.screen import Column, screen

_TAKEN: Sequence[Column] = (
    ("said", "place"),
    ("record", "record_id"),
    ("is", "result"),
    ("changes", lambda row: ", ".join(sorted(row["fields"])) or None),
    ("disagrees on", lambda row: ", ".join(one["field"] for one in row["conflicts"]) or None),
    ("no account holds", lambda row: ", ".join(row["untold"]) or None),
)
_WRITES: Sequence[Column] = (
    ("account", "account"),
    ("entity", "entity"),
    ("write", "op"),
    ("id", "remote_id"),
    ("fields", lambda row: ", ".join(sorted(row["fields"])) or None),
    ("why", "reason"),
)


def add(app: typer.Typer) -> None:
    app.command()(intake)


def intake(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help="JSON as POST /api/records takes it; - reads it from a pipe.", show_default=False
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(help="Names this intake; a digest of the file unless it is said."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would change.")
    ] = False,
) -> None:
    """Take in a company with its people, and bring every system into step."""
    found = screen(ctx)
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from None
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"{file} is not JSON: {error}") from None
    if not isinstance(said, Mapping):
        raise RefusedError(f"{file} is no JSON object")
    key = key or hashlib.sha256(body).hexdigest()
    content: dict[str, Any] = {**said, **({"dry_run": True} if dry_run else {})}
    answer = found.rest.post("/api/records", content, headers={"Idempotency-Key": key})
    if found.json:
        found.data(answer)
        return
    found.table(
        {"items": answer["records"], "next_cursor": None}, _TAKEN, empty="Nothing was said."
    )
    found.table(
        {"items": answer["writes"], "next_cursor": None}, _WRITES, empty="Nothing is to be written."
    )
