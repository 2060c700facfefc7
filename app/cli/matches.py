"""`match`: all accounts compared before anything is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.rest import RefusedError, Rest, part
from app.cli.screen import Column, Screen, screen
from app.config import FIELDS

_PAUSE = 0.5  # seconds between two looks
_OVER = ("done", "failed", "cancelled")
_VERDICTS = {
    "matched": "recognised, would be linked",
    "new": "would be created",
    "unsure": "unsure: nothing would be written, you decide",
    "stays": "would not be created",
    "linked": "linked already",
}
_SHOWN = ("unsure", "new", "matched")  # with samples, in this order

_COUNTS: Sequence[Column] = (
    ("entity", "entity"),
    ("from", "account"),
    ("to", "other"),
    *((verdict, lambda row, v=verdict: row["counts"][v] or None) for verdict in _VERDICTS),
    ("by", lambda row: ", ".join(f"{n} {kind}" for kind, n in row["keys"].items()) or None),
)
_PAIRS: Sequence[Column] = (
    ("entity", "entity"),
    ("accounts", lambda row: " and ".join(row["accounts"])),
    ("pairs", "matched"),
    ("disputed", lambda row: row["disputed"] or None),
)
_SAMPLES: Sequence[Column] = (
    ("id", "remote_id"),
    ("name", "name"),
    ("there", lambda row: row["other_id"] or _could_be(row)),
    ("its name", "other_name"),
    ("agrees", "key"),
    ("because", "reason"),
)


def add(app: typer.Typer) -> None:
    app.command()(match)


def match(
    ctx: typer.Context,
    accounts: Annotated[
        list[str] | None, typer.Argument(help="Which accounts. Default: all.", show_default=False)
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help=f"Only this: {', '.join(FIELDS)}. Default: all.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every row of the report here.")] = None,
) -> None:
    """Compare accounts before the first sync: who is whom, who is new, who is unsure.

    A dry run of each account; nothing is written anywhere.
    """
    found = screen(ctx)
    rest = found.rest
    asked = {"accounts": accounts or None, "entity": entity}
    started = rest.post("/api/matches", {n: v for n, v in asked.items() if v is not None})
    path = f"/api/matches/{part(started['id'])}"
    with found.errors.status("Comparing …"):
        while (last := rest.get(path))["state"] not in _OVER:
            time.sleep(_PAUSE)
    if csv is not None:
        save(rest, f"{path}/report.csv", csv)
    if found.json:
        found.data(last)
    else:
        show(found, last)
    if last["state"] != "done":
        raise typer.Exit(1)


def save(rest: Rest, path: str, file: Path) -> None:
    """Every row of a report, in a file."""
    try:
        with file.open("wb") as written:
            rest.download(path, written)
    except OSError as error:
        raise RefusedError(f"{file}: {error.strerror}") from None


def show(found: Screen, report: Mapping[str, Any]) -> None:
    """A report as a person reads it: numbers first, then what needs a look."""
    empty = "There is nothing to compare."
    found.table(report["entities"], _COUNTS, empty=empty, title="Who is whom")
    for verdict in _SHOWN:
        for tally in report["entities"]:
            rows = tally["samples"].get(verdict)
            if rows:
                title = (
                    f"{tally['counts'][verdict]} × {tally['entity']} of {tally['account']}: "
                    f"{_VERDICTS[verdict]}" + (f" ({tally['other']})" if tally["other"] else "")
                )
                found.table(rows, _SAMPLES, empty="", title=title)
    if report["pairs"]:
        found.table(report["pairs"], _PAIRS, empty="", title="The same, and not linked yet")
    for one in report["creates"]:
        if one["limit"] is not None and one["new"] > one["limit"]:
            found.say(
                f"{one['account']} would get {one['new']} new records; its guard asks you after "
                f"{one['limit']} in an hour (`syncline guard approve {one['account']}`)."
            )


def _could_be(row: Mapping[str, Any]) -> str | None:
    named = [
        f"{one['account']}/{one['remote_id']}" + (f" {one['name']}" if one["name"] else "")
        for one in row["candidates"] or ()
        if one["remote_id"]
    ]
    return "; ".join(named) or None
