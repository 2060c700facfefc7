"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

import orjson
import typer
from rich import box
from rich.console import Console
from rich.control import strip_control_codes
from rich.table import Table
from rich.text import Text

from app.cli.rest import Rest
from app.settings import Settings, settings

#: A column: its title, and the key of its value or a function of the whole row.
Column: TypeAlias = tuple[str, str | Callable[[Mapping[str, Any]], Any]]

_WIDE = 200  # where nobody watches, nothing is cut


@dataclass(frozen=True, slots=True)
class Screen:
    """How this run of a command answers."""

    json: bool = False
    url: str | None = None

    @property
    def settings(self) -> Settings:
        return settings()

    @property
    def rest(self) -> Rest:
        """The running service."""
        return Rest.of(self.settings, self.url)

    @property
    def console(self) -> Console:
        width = None if sys.stdout.isatty() else _WIDE
        return Console(file=sys.stdout, width=width, highlight=False, emoji=False, markup=False)

    @property
    def errors(self) -> Console:
        width = None if sys.stderr.isatty() else _WIDE
        return Console(file=sys.stderr, width=width, highlight=False, emoji=False, markup=False)

    def data(self, content: Any) -> None:
        """Print this as JSON, one document."""
        sys.stdout.write(self.document(content) + "\n")

    def document(self, content: Any) -> str:
        """This as JSON for a program that reads our output."""
        return orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str).decode()

    def say(self, text: str) -> None:
        """A sentence for a person; programs do not get it."""
        if not self.json:
            self.console.print(text, soft_wrap=True)

    def step(self, text: str) -> None:
        """What we are about to do, for a person who waits."""
        if sys.stderr.isatty() and not self.json:
            self.errors.print(f"· {text}", style="dim")

    def answer(self, content: Any, sentence: str) -> None:
        """The JSON, or the sentence."""
        if self.json:
            self.data(content)
        else:
            self.say(sentence)

    def table(
        self,
        content: Any,
        columns: Sequence[Column],
        *,
        empty: str,
        title: str | None = None,
    ) -> None:
        """A list of rows, or a document whose ``items`` are the rows."""
        if self.json:
            self.data(content)
            return
        rows = content["items"] if isinstance(content, Mapping) else content
        if not rows:
            self.say(empty)
            return
        self._print(grid(rows, columns), title)
        if isinstance(content, Mapping) and content.get("next_cursor"):
            self.say("There are more: --limit shows them.")

    def pairs(self, rows: Iterable[tuple[str, Any]], *, title: str | None = None) -> None:
        """Names and values, one a line."""
        found = _table()
        found.show_header = False
        found.add_column(style="dim", no_wrap=True)
        found.add_column(overflow="fold")
        for name, value in rows:
            found.add_row(Text(name), cell(value))
        self._print(found, title)

    def _print(self, found: Table, title: str | None) -> None:
        if title:  # not the table's own: that is folded to the width of the rows
            self.console.print(Text(title, style="bold"))
        self.console.print(found)
        self.console.print()


def screen(ctx: typer.Context) -> Screen:
    """How this run answers."""
    return cast(Screen, ctx.find_root().obj or Screen())


def grid(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    """Rows as a table; a column that no row fills is left out."""
    given = [[_value(row, key) for _, key in columns] for row in rows]
    used = [n for n in range(len(columns)) if any(row[n] is not None for row in given)]
    found = _table()
    for number in used:
        found.add_column(columns[number][0], overflow="fold")
    for row in given:
        found.add_row(*(cell(row[number]) for number in used))
    return found


def cell(value: Any) -> Text:
    """A value as a person reads it; what a CRM says cannot reach the terminal's controls."""
    match value:
        case None:
            return Text("–", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case Mapping() | list():
            return Text(strip_control_codes(orjson.dumps(value, default=str).decode()))
        case str() if moment := _moment(value):
            return Text(f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
    return Text(strip_control_codes(str(value)))


def fields(changed: Mapping[str, Any]) -> str:
    """`phone: +1 → +2, title: – → CEO`."""
    return ", ".join(
        f"{name}: {cell(change.get('from'))} → {cell(change.get('to'))}"
        if isinstance(change, Mapping)
        else f"{name}: {cell(change)}"
        for name, change in changed.items()
    )


def _value(row: Mapping[str, Any], key: str | Callable[[Mapping[str, Any]], Any]) -> Any:
    return row.get(key) if isinstance(key, str) else key(row)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)


def _moment(text: str) -> datetime | None:
    if len(text) < 20 or text[10] != "T":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
