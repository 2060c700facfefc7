"""How a measurement is told: a table for people on stderr, one JSON line for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

#: Wide enough for every table, also where nobody looks: a log.
WIDTH = 150
_console = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=WIDTH)


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """A parser with what every measurement takes."""
    made = argparse.ArgumentParser(
        prog=f"bench {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="add the JSON line to this file")
    return made


def step(text: str) -> None:
    """Say what is under way."""
    _console.print(f"· {text}", highlight=False)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column holds names."""
    shown = Table(title=title)
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*row)
    _console.print(shown)


def write(found: dict[str, Any], file: Path | None) -> None:
    """Print everything found as one line of JSON, and add it to the file."""
    line = json.dumps(found)
    print(line, flush=True)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as kept:
            kept.write(line + "\n")
