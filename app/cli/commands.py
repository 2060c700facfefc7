"""The root of the command: what every subcommand shares."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import __version__
from app.cli import (
    accounts,
    alerts,
    configuration,
    deletes,
    drifts,
    guard,
    intake,
    mapping,
    matches,
    records,
    resyncs,
    serve,
    tokens,
    work,
)
from app.cli.rest import RefusedError, UnreachableError
from app.cli.screen import Screen, screen
from app.errors import ConfigError, ReadinessError, SynclineError

FAILED = 1
MISUSED = 2
AWAY = 3
INTERRUPTED = 130


class Root(TyperGroup):
    """Takes --json and --url anywhere on the line, and turns our errors into one paragraph."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _first(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SynclineError as error:
            _complain(ctx, str(error))
            raise typer.Exit(_code(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Root,
    name="syncline",
    help="Keeps the CRMs of one company telling the same story.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, "
    "3 the service is away.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncline {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON; may stand anywhere on the line.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option("--url", help="The service to talk to; may stand anywhere on the line."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keeps the CRMs of one company telling the same story."""
    ctx.obj = Screen(json=json, url=url)


_PARTS = (
    serve,
    accounts,
    guard,
    matches,
    resyncs,
    drifts,
    work,
    records,
    intake,
    deletes,
    configuration,
    mapping,
    alerts,
    tokens,
)

for module in _PARTS:
    module.add(app)


def main() -> None:
    """Run the command; the entry point of `syncline`."""
    app()


def _first(args: list[str]) -> list[str]:
    """The same arguments with the options of the root in front."""
    ours: list[str] = []
    rest: list[str] = []
    given = iter(args)
    for arg in given:
        if arg == "--":
            rest += [arg, *given]
        elif arg == "--json" or arg.startswith("--url="):
            ours.append(arg)
        elif arg == "--url" and (value := next(given, None)) is not None:
            ours += [arg, value]
        else:
            rest.append(arg)
    return ours + rest


def _complain(ctx: typer.Context, text: str) -> None:
    shown = screen(ctx)
    if shown.json:
        typer.echo(shown.document({"error": text}), err=True)
    else:
        shown.errors.print(f"✗ {text}", style="red", soft_wrap=True)


def _code(error: SynclineError) -> int:
    match error:
        case ConfigError():
            return MISUSED
        case UnreachableError() | ReadinessError():
            return AWAY
        case RefusedError():
            return FAILED
    return FAILED
