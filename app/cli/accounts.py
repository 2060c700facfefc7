"""`accounts` and `webhooks`: the CRMs that are connected."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from app.cli.rest import part
from app.cli.resyncs import moment
from app.cli.screen import Column, Screen, screen

AccountArgument = Annotated[str, typer.Argument(help="The account's name.", show_default=False)]

_ACCOUNTS: Sequence[Column] = (
    ("account", "name"),
    ("system", "connector"),
    ("mode", "mode"),
    ("paused", lambda row: row["pause_reason"] or "by a person" if row["paused"] else None),
    ("refused", lambda row: row["refused"] and row["refused"]["reason"]),
    ("writes wait for it", lambda row: row["reread"] and row["reread"]["why"]),
    ("entities", lambda row: ", ".join(row["entities"])),
    ("waiting", lambda row: sum(lane["pending"] for lane in row["lanes"])),
    ("held", lambda row: ", ".join(f"{g['held']} {g['op']}s" for g in _holding(row)) or None),
    ("last webhook", "last_delivery_at"),
    ("missed", lambda row: _percent(row.get("missed_rate"))),
    ("webhook URL", lambda row: row["webhook_url"] or row["webhook_path"]),
)
_SUBSCRIPTIONS: Sequence[Column] = (
    ("id", "id"),
    ("URL", "url"),
    ("active", "active"),
    ("ours", "ours"),
    ("events", lambda row: len(row["events"]) or None),
)

_SECRETS: Sequence[Column] = (
    ("id", "id"),
    ("from", "source"),
    ("stands", "stands"),
    ("since", "since"),
    ("last fitted", "used_at"),
)
_CATCH_UPS: Sequence[Column] = (
    ("entity", "entity"),
    ("read through", "through"),
    ("next", "due_at"),
    ("listed", "listed"),
    ("missed", "missed"),
    ("last reading", lambda row: row["last"] and row["last"]["reason"]),
    ("trouble", lambda row: row["error"] and row["error"]["reason"]),
)
_PAUSE = 0.5  # seconds between two looks

accounts = typer.Typer(help="The connected CRMs.", no_args_is_help=True)
webhooks = typer.Typer(help="Our webhook subscriptions in a CRM.", no_args_is_help=True)


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.1%}"


def _holding(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The guards that wait for a person."""
    return [guard for guard in row.get("guards", []) if guard["held"]]


def add(app: typer.Typer) -> None:
    app.add_typer(accounts, name="accounts")
    app.add_typer(webhooks, name="webhooks")


@accounts.command("list")
def show(ctx: typer.Context) -> None:
    """Every account and how it is."""
    found = screen(ctx)
    answer = found.rest.get("/api/accounts")
    found.table(answer, _ACCOUNTS, empty="No account is configured.")
    for name in [row["name"] for row in answer["items"] if _holding(row)]:
        found.say(f"{name} waits for you: `syncline guard show {name}`")


@accounts.command()
def test(ctx: typer.Context, account: AccountArgument) -> None:
    """Say what works and what is missing: credentials, scopes, objects, properties."""
    _findings(screen(ctx), f"/api/accounts/{part(account)}/test", f"Asking {account} …")


@accounts.command()
def prepare(ctx: typer.Context, account: AccountArgument) -> None:
    """Create in the CRM what we need there, such as a unique property."""
    _findings(screen(ctx), f"/api/accounts/{part(account)}/prepare", f"Preparing {account} …")


@accounts.command()
def pause(
    ctx: typer.Context,
    account: AccountArgument,
    reason: Annotated[str | None, typer.Option(help="Shown wherever the pause shows.")] = None,
) -> None:
    """Stop working on an account; its webhooks are kept meanwhile."""
    found = screen(ctx)
    content = {"reason": reason} if reason else None
    answer = found.rest.post(f"/api/accounts/{part(account)}/pause", content)
    found.answer(answer, f"✓ {account} is paused; its webhooks are kept")


@accounts.command()
def resume(ctx: typer.Context, account: AccountArgument) -> None:
    """Work on an account again, at once, whatever had paused it."""
    found = screen(ctx)
    answer = found.rest.post(f"/api/accounts/{part(account)}/resume")
    found.answer(answer, f"✓ {account} works again")


@accounts.command("catch-up")
def catch_up(
    ctx: typer.Context,
    account: AccountArgument,
    since: Annotated[
        str | None,
        typer.Option(help="Go back to then: 2026-01-31, or with a time and zone."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only tell how far it is read.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")] = False,
) -> None:
    """Read the account's own log for what no webhook told."""
    found = screen(ctx)
    path = f"/api/accounts/{part(account)}/catch-up"
    if show:
        state = found.rest.get(path)
    else:
        asked = {"since": moment(since).isoformat()} if since else None
        state = found.rest.post(path, asked)
    with found.errors.status(f"Reading the log of {account} …"):
        while not (show or no_wait or state["done"]):
            time.sleep(_PAUSE)
            state = found.rest.get(path)
    if found.json:
        found.data(state)
    else:
        rate = _percent(state["missed_rate"]) or "nothing listed yet"
        found.table(state, _CATCH_UPS, empty=f"{account} syncs nothing.", title=f"Missed: {rate}")
    if any(one["error"] for one in state["items"]):
        raise typer.Exit(1)


@webhooks.command("list")
def subscriptions(ctx: typer.Context, account: AccountArgument) -> None:
    """Our subscriptions as the CRM has them."""
    found = screen(ctx)
    answer = found.rest.get(f"/api/accounts/{part(account)}/webhooks")
    found.table(answer, _SUBSCRIPTIONS, empty=f"{account} has no subscription.")


@webhooks.command()
def subscribe(
    ctx: typer.Context,
    account: AccountArgument,
    callback: Annotated[
        str | None,
        typer.Option("--callback", help="The URL to call; default: PUBLIC_URL/webhooks/ACCOUNT."),
    ] = None,
) -> None:
    """Create or repair the subscription, and keep its signing key."""
    found = screen(ctx)
    content = {"url": callback} if callback else None
    answer = found.rest.post(f"/api/accounts/{part(account)}/webhooks", content)
    kept = "; its signing key is kept" if answer["key_kept"] else ""
    found.answer(answer, f"✓ {account} calls {answer['url']} ({answer['id']}){kept}")


@webhooks.command()
def remove(
    ctx: typer.Context,
    account: AccountArgument,
    subscription: Annotated[str, typer.Argument(help="Its id; `webhooks list` shows it.")],
) -> None:
    """Remove a subscription."""
    found = screen(ctx)
    answer = found.rest.delete(f"/api/accounts/{part(account)}/webhooks/{part(subscription)}")
    found.answer(answer or {"removed": subscription}, f"✓ {subscription} is removed")


@webhooks.command()
def secrets(ctx: typer.Context, account: AccountArgument) -> None:
    """What its webhooks may be signed with: how old each secret is, and its last use."""
    found = screen(ctx)
    answer = found.rest.get(f"/api/accounts/{part(account)}/secrets")
    found.table(answer, _SECRETS, empty=f"{account} has no webhook secret.")


@webhooks.command("add-secret")
def add_secret(
    ctx: typer.Context,
    account: AccountArgument,
    secret: Annotated[
        str | None, typer.Option(help="Asked for if it is not given, and then in no history.")
    ] = None,
) -> None:
    """Trust a further secret beside the others, as while it is rotated."""
    found = screen(ctx)
    secret = secret or typer.prompt("The new secret", hide_input=True, err=True)
    answer = found.rest.post(f"/api/accounts/{part(account)}/secrets", {"secret": secret})
    count = len(answer["items"])
    found.answer(answer, f"✓ {account} takes webhooks signed with any of {count} secrets")


@webhooks.command("path")
def path(
    ctx: typer.Context,
    account: AccountArgument,
    new: Annotated[
        bool, typer.Option("--new", help="Another one beside those there are, to rotate them.")
    ] = False,
) -> None:
    """The URL for what its CRM cannot sign (Outbound Messages); it holds a secret."""
    found = screen(ctx)
    answer = found.rest.post(f"/api/accounts/{part(account)}/secrets/path", {"new": new})
    found.answer(answer, answer["url"] or answer["path"])


@webhooks.command("forget-secret")
def forget_secret(
    ctx: typer.Context,
    account: AccountArgument,
    id: Annotated[str, typer.Argument(help="Its id; `webhooks secrets` shows it.")],
) -> None:
    """Trust a secret no longer."""
    found = screen(ctx)
    found.rest.delete(f"/api/accounts/{part(account)}/secrets/{part(id)}")
    found.answer({"forgotten": id}, f"✓ {account} trusts {id} no longer")


def _findings(found: Screen, path: str, meanwhile: str) -> None:
    """Print what was found out; the code is 1 if anything is amiss."""
    with found.errors.status(meanwhile):
        answer = found.rest.post(path)
    if found.json:
        found.data(answer)
    for finding in () if found.json else answer["findings"]:
        mark = ("✓ ", "green") if finding["ok"] else ("✗ ", "red")
        if finding["ok"] and finding["remedy"]:
            mark = ("! ", "yellow")
        line = Text.assemble(mark, (finding["check"], "bold"), f"  {finding['detail']}")
        found.console.print(line, soft_wrap=True)
        if finding["remedy"]:
            found.console.print(Text(f"  → {finding['remedy']}", style="yellow"), soft_wrap=True)
    if not answer["ok"]:
        raise typer.Exit(1)
