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
    ("row", "id"),
    ("at", "at"),
    ("field", "field"),
    ("from", "old"),
    ("to", "new"),
    ("account", "account"),
    ("cause", "cause"),
    ("rule", "rule"),
)
_CHANGES: Sequence[Column] = (
    ("record", "record"),
    ("what", "what"),
    ("from", "from"),
    ("to", "to"),
)
_BEHIND: Sequence[Column] = (("account", "account"), ("record", "record_id"), ("write", "op"))
_STANDINGS: Sequence[Column] = (
    ("account", "account"),
    ("id", "remote_id"),
    ("shows", "value"),
    ("is", lambda row: row["state"].replace("_", " ")),
    ("why", "sentence"),
)
_STEPS: Sequence[Column] = (
    ("row", "id"),
    ("at", "at"),
    ("from", "old"),
    ("to", "new"),
    ("why", "sentence"),
)

RecordArgument = Annotated[
    str,
    typer.Argument(
        help="Its id, an e-mail address, a domain, or ACCOUNT/REMOTE_ID.", show_default=False
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")]
conflicts = typer.Typer(help="What only a person can decide.", no_args_is_help=True)
record = typer.Typer(
    help="Who is who, by your word: link, unlink, split, merge.", no_args_is_help=True
)


def add(app: typer.Typer) -> None:
    app.command()(records)
    app.command()(why)
    app.add_typer(conflicts, name="conflicts")
    app.add_typer(record, name="record")


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


@conflicts.command("show")
def show_conflict(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The id of the conflict.", show_default=False)],
) -> None:
    """One card, with those that may be one side by side."""
    found = screen(ctx)
    card = found.rest.get(f"/api/conflicts/{part(id)}")
    if found.json:
        found.data(card)
        return
    told = {k: v for k, v in card.items() if k != "sides" and v is not None}
    found.pairs(list(told.items()), title=f"Conflict {id}")
    names = list(dict.fromkeys(n for side in card["sides"] for n in side["fields"]))
    rows = [
        {"field": name, **{str(i): s["fields"].get(name) for i, s in enumerate(card["sides"])}}
        for name in names
    ]
    heads = [(_side(side), str(number)) for number, side in enumerate(card["sides"])]
    if rows:
        found.table(rows, [("field", "field"), *heads], empty="", title="Side by side")


def _side(side: Mapping[str, Any]) -> str:
    refs = ", ".join(f"{ref['account']}/{ref['id']}" for ref in side["refs"])
    return refs or str(side["record_id"])


@conflicts.command()
def resolve(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The id of the conflict.", show_default=False)],
    account: Annotated[str | None, typer.Option(help="Take this account's value.")] = None,
    value: Annotated[str | None, typer.Option(help="Take this value.")] = None,
    link: Annotated[str | None, typer.Option(help="It is this record of ours.")] = None,
    new: Annotated[bool, typer.Option("--new", help="It is none of them.")] = False,
    keep: Annotated[str | None, typer.Option(help="The remote id that counts.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Merge them in that CRM, too.")] = False,
    unlink: Annotated[bool, typer.Option("--unlink", help="Leave it there, apart.")] = False,
    delete: Annotated[
        bool | None,
        typer.Option("--delete/--live", help="Carry a delete out, or let the record live."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Decide a conflict: a value goes everywhere, an identity is as you say."""
    words = {
        "account": account,
        "value": value,
        "link": link,
        "keep": keep,
        "new": new or None,
        "merge": merge or None,
        "unlink": unlink or None,
        "delete": delete,
    }
    said = {name: word for name, word in words.items() if word is not None}
    if len(said) != 1:
        raise ConfigError(f"say exactly one of {', '.join(f'--{name}' for name in words)}")
    found = screen(ctx)
    content: dict[str, Any] = {**said, **({"dry_run": True} if dry_run else {})}
    answer = found.rest.post(f"/api/conflicts/{part(id)}/resolve", content)
    if found.json or not answer.get("report"):
        found.answer(answer, f"✓ {id} is decided")
    else:
        _report(found, answer["report"])


@record.command("link")
def link_record(
    ctx: typer.Context,
    record: RecordArgument,
    remote: Annotated[
        str, typer.Argument(help="Its counterpart: ACCOUNT/REMOTE_ID.", show_default=False)
    ],
    dry_run: DryRunOption = False,
) -> None:
    """Say that a remote record is this record."""
    account, id = _remote(remote)
    content = {"account": account, "remote_id": id, "dry_run": dry_run}
    _do(ctx, "POST", record, "links", content)


@record.command("unlink")
def unlink_record(
    ctx: typer.Context,
    record: RecordArgument,
    account: Annotated[str, typer.Argument(help="Where it is parted.", show_default=False)],
    dry_run: DryRunOption = False,
) -> None:
    """Part a record from its counterpart; both stay as they are."""
    _do(ctx, "DELETE", record, f"links/{part(account)}", query={"dry_run": dry_run})


@record.command("split")
def split_record(
    ctx: typer.Context,
    record: RecordArgument,
    remotes: Annotated[
        list[str],
        typer.Argument(help="Who leaves: ACCOUNT/REMOTE_ID, one or more.", show_default=False),
    ],
    dry_run: DryRunOption = False,
) -> None:
    """Take a record apart that was wrongly one."""
    pairs = [_remote(one) for one in remotes]
    refs = [{"account": account, "remote_id": id} for account, id in pairs]
    _do(ctx, "POST", record, "split", {"refs": refs, "dry_run": dry_run})


@record.command("merge")
def merge_record(
    ctx: typer.Context,
    record: RecordArgument,
    into: Annotated[str, typer.Argument(help="The record that lives on.", show_default=False)],
    dry_run: DryRunOption = False,
) -> None:
    """Say that two records are one."""
    survivor = find(screen(ctx).rest, into)
    _do(ctx, "POST", record, "merge", {"into": survivor, "dry_run": dry_run})


@record.command("restore")
def restore_value(
    ctx: typer.Context,
    record: RecordArgument,
    row: Annotated[int, typer.Argument(help="The row of its journal.", show_default=False)],
    dry_run: DryRunOption = False,
) -> None:
    """Give a field back the value that lost or was replaced."""
    _do(ctx, "POST", record, "restore", {"journal": row, "dry_run": dry_run})


def _do(
    ctx: typer.Context,
    method: str,
    record: str,
    what: str,
    content: Mapping[str, Any] | None = None,
    *,
    query: Mapping[str, object] | None = None,
) -> None:
    found = screen(ctx)
    path = f"/api/records/{part(find(found.rest, record))}/{what}"
    _report(found, found.rest.call(method, path, content=content, query=query))


def _remote(text: str) -> tuple[str, str]:
    account, slash, id = text.partition("/")
    if not (account and slash and id):
        raise ConfigError(f"{text!r} is not ACCOUNT/REMOTE_ID")
    return account, id.rpartition("/")[2]


def _report(found: Screen, report: Mapping[str, Any]) -> None:
    """What a person's word changed, or would change."""
    if found.json:
        found.data(report)
        return
    rows: list[dict[str, Any]] = []
    for one in report["records"]:
        common = {"record": one["id"]}
        rows += [{**common, "what": name, **change} for name, change in one["fields"].items()]
        for change in one["links"]:
            rows.append({**common, **change, "what": "{account}/{id}".format(**change["ref"])})
    found.table(rows, _CHANGES, empty="No value or link changes.", title="Changes")
    found.table(report["behind"], _BEHIND, empty="Nothing has to be written.", title="Writes")
    found.say("· nothing was changed" if report["dry_run"] else "✓ done")


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
