"""`records`, `why`, `conflicts`: our merged copy, and how each value came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from app.cli.rest import NotFoundError, RefusedError, Rest, part
from app.cli.screen import Column, Screen, cell, screen
from app.cli.work import LimitOption
from app.domain.entities import title_of
from app.errors import ConfigError

_RECORDS: Sequence[Column] = (
    ("id", "id"),
    ("entity", "entity"),
    ("name", lambda row: title_of(row["fields"])),
    ("linked to", lambda row: ", ".join(_link(link) for link in row["links"]) or None),
    ("version", "version"),
    ("changed", "changed_at"),
)
_CONFLICTS: Sequence[Column] = (
    ("id", "id"),
    ("kind", "kind"),
    ("entity", "entity"),
    ("record", "record_id"),
    ("account", "account"),
    ("field", "field"),
    ("ours", "ours"),
    ("theirs", "theirs"),
    ("about", lambda row: row["detail"] or None),
    ("since", "opened_at"),
)
_WAITING: Sequence[Column] = (
    ("account", "account"),
    ("state", "state"),
    ("attempts", "attempts"),
    ("due", "due_at"),
    ("why", lambda row: (row["error"] or {}).get("reason")),
)
_JOURNAL: Sequence[Column] = (
    ("at", "at"),
    ("field", "field"),
    ("from", "old"),
    ("to", "new"),
    ("account", "account"),
    ("cause", "cause"),
    ("rule", "rule"),
)
_STANDINGS: Sequence[Column] = (
    ("account", "account"),
    ("id", "remote_id"),
    ("shows", "value"),
    ("is", lambda row: row["state"].replace("_", " ")),
    ("why", "sentence"),
)
_STEPS: Sequence[Column] = (("at", "at"), ("from", "old"), ("to", "new"), ("why", "sentence"))

RecordArgument = Annotated[
    str,
    typer.Argument(
        help="Its id, an e-mail address, a domain, or ACCOUNT/REMOTE_ID.", show_default=False
    ),
]
conflicts = typer.Typer(
    help="Fields where both sides moved and a person decides.", no_args_is_help=True
)


def add(app: typer.Typer) -> None:
    app.command()(records)
    app.command()(why)
    app.add_typer(conflicts, name="conflicts")


def records(
    ctx: typer.Context,
    record: Annotated[
        str | None,
        typer.Argument(
            help="One record in full: its id, an e-mail address, a domain, or ACCOUNT/REMOTE_ID.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[str | None, typer.Option(help="Part of a name or an address.")] = None,
    entity: Annotated[str | None, typer.Option(help="company, person or deal.")] = None,
    email: Annotated[str | None, typer.Option(help="With this e-mail address.")] = None,
    domain: Annotated[str | None, typer.Option(help="With this domain.")] = None,
    account: Annotated[str | None, typer.Option(help="Linked to this account.")] = None,
    remote_id: Annotated[str | None, typer.Option(help="With this id there.")] = None,
    limit: LimitOption = 50,
) -> None:
    """Our records, or one of them in full."""
    found = screen(ctx)
    if record:
        _show(found, found.rest.get(f"/api/records/{part(find(found.rest, record))}"))
        return
    answer = found.rest.list(
        "/api/records",
        limit=limit,
        q=search,
        entity=entity,
        email=email,
        domain=domain,
        account=account,
        remote_id=remote_id,
    )
    found.table(answer, _RECORDS, empty="No such record.")


def why(
    ctx: typer.Context,
    record: RecordArgument,
    field: Annotated[str, typer.Option(help="The field to explain.", show_default=False)],
) -> None:
    """Explain a value: where it came from, why it won, and what it was before."""
    found = screen(ctx)
    name = find(found.rest, record)
    answer = found.rest.get(f"/api/records/{part(name)}/why", field=field)
    if found.json:
        found.data(answer)
        return
    found.console.print(Text.assemble((field, "bold"), ": ", cell(answer["value"])))
    found.say(answer["sentence"])
    found.table(answer["accounts"], _STANDINGS, empty="", title="In the accounts")
    found.table(answer["journal"], _STEPS, empty="It never changed.", title="Its history")


@conflicts.command("list")
def list_conflicts(ctx: typer.Context, limit: LimitOption = 50) -> None:
    """What waits for a person."""
    found = screen(ctx)
    found.table(found.rest.list("/api/conflicts", limit=limit), _CONFLICTS, empty="No conflict.")


@conflicts.command()
def resolve(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The id of the conflict.", show_default=False)],
    account: Annotated[str | None, typer.Option(help="Take this account's value.")] = None,
    value: Annotated[str | None, typer.Option(help="Take this value.")] = None,
) -> None:
    """Decide a conflict; the value then goes everywhere."""
    if (account is None) == (value is None):
        raise ConfigError("say which value: --account or --value")
    found = screen(ctx)
    content = {"account": account} if account is not None else {"value": value}
    answer = found.rest.post(f"/api/conflicts/{part(id)}/resolve", content)
    found.answer(answer, f"✓ {id} is decided")


def find(rest: Rest, text: str) -> str:
    """The id of the record a person means. Raises NotFoundError, RefusedError for several."""
    try:
        return str(UUID(text))
    except ValueError:
        pass
    if "/" in text:
        account, _, remote = text.partition("/")
        query = {"account": account, "remote_id": remote.rpartition("/")[2]}
    elif "@" in text:
        query = {"email": text}
    else:
        query = {"domain": text}
    items = rest.list("/api/records", limit=5, **query)["items"]
    if not items:
        raise NotFoundError(f"there is no record {text!r}")
    if len(items) > 1:
        ids = ", ".join(f"{row['id']} ({row['entity']})" for row in items)
        raise RefusedError(f"{text!r} are several: {ids}; name one by its id")
    return str(items[0]["id"])


def _show(found: Screen, record: Mapping[str, Any]) -> None:
    if found.json:
        found.data(record)
        return
    shown = [(name, value) for name, value in record["fields"].items() if value is not None]
    found.pairs(shown, title=f"{record['entity']} {record['id']}")
    for name, columns in _PARTS.items():
        if record[name]:
            found.table(record[name], columns, empty="", title=name.capitalize())


_PARTS: Mapping[str, Sequence[Column]] = {
    "links": (("account", "account"), ("id", "remote_id"), ("state", "state"), ("at", "synced_at")),
    "waiting": _WAITING,
    "conflicts": _CONFLICTS,
    "journal": _JOURNAL,
}


def _link(link: Mapping[str, Any]) -> str:
    return f"{link['account']}/{link['remote_id']}"
