"""`serve`, `demo`, `worker`, `migrate`: the service itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from app import logs
from app.cli import house
from app.cli.children import Child
from app.cli.house import Sandbox
from app.cli.rest import TOKEN_FILE, URL_FILE
from app.cli.screen import Screen, screen
from app.config import Config
from app.errors import ConfigError, SynclineError
from app.settings import Settings, settings

if TYPE_CHECKING:
    import uvicorn

_WORKER_DRAIN = 30.0
_REQUEST_DRAIN = 10

HostOption = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.")]
PortOption = Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)]
NoWorkerOption = Annotated[
    bool, typer.Option("--no-worker", help="Only the API; workers run elsewhere.")
]
NoMigrateOption = Annotated[bool, typer.Option("--no-migrate", help="Take the schema as it is.")]


def add(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(demo)
    app.command()(worker)
    app.command()(migrate)


def serve(
    ctx: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    no_worker: NoWorkerOption = False,
    no_migrate: NoMigrateOption = False,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="Stay without accounts if none is configured.")
    ] = False,
) -> None:
    """Serve: the API, a worker, and PostgreSQL if DATABASE_URL is unset.

    With no account configured, the sandbox is started and connected. Listening on this machine
    only, it makes the token and the keys it lacks and keeps them in SYNCLINE_HOME.
    """
    wish = Wish(host, port, worker=not no_worker, migrate=not no_migrate, sandbox=not no_sandbox)
    _run(screen(ctx), wish)


def demo(
    ctx: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
) -> None:
    """Serve with the sandbox, whatever is configured, on data of its own."""
    _run(screen(ctx), Wish(host, port, demo=True))


def worker(
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer Prometheus on this port.", min=1, max=65535)
    ] = None,
) -> None:
    """Work only: join a service that runs elsewhere. Ends its work in hand on SIGTERM."""
    found = settings()
    logs.configure(found)
    if not found.database_url:
        raise ConfigError(
            "DATABASE_URL is not set: a worker joins the database of a running service "
            "(`syncline serve` starts a worker of its own)"
        )
    config = house.read_config(found)
    if metrics_port:
        from prometheus_client import start_http_server

        from app import metrics

        start_http_server(metrics_port, registry=metrics.REGISTRY)
    asyncio.run(_work(found, config))


def migrate(ctx: typer.Context) -> None:
    """Bring the database's schema up to date."""
    found = settings()
    logs.configure(found)
    with house.database(found, house.data_home(found)) as url:
        house.migrate(url)
    screen(ctx).answer({"migrated": True}, "✓ the schema is up to date")


async def _work(found: Settings, config: Config) -> None:
    from app.worker import loop

    await loop.run(found, config)


# ------------------------------------------------------------------------------ the service


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for."""

    host: str
    port: int
    worker: bool = True
    migrate: bool = True
    sandbox: bool = True
    demo: bool = False

    @property
    def is_private(self) -> bool:
        """Only this machine can reach it: a person tries it out, or a proxy stands before it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def may_play(self, found: Settings) -> bool:
        """Whether the sandbox may step in: never beside a database that others can reach."""
        return self.sandbox and (self.is_private or not found.database_url)


@dataclass(slots=True)
class Running:
    """What runs by now, and what a signal does to it."""

    children: list[Child] = field(default_factory=list)
    server: uvicorn.Server | None = None
    asked: int = 0

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """First: finish in order. Again: at once."""
        self.asked += 1
        if self.asked > 1:
            for child in self.children:
                child.kill()
            if self.server:
                self.server.force_exit = True
        elif self.server:
            self.server.should_exit = True
        else:
            raise KeyboardInterrupt


def _run(shown: Screen, wish: Wish) -> None:
    found = settings()
    logs.configure(found)
    running = Running()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, running.on_signal)
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(contextlib.closing(_listen(wish)))
        port = int(listener.getsockname()[1])
        local = f"http://{_reachable(wish.host)}:{port}"
        house.prepare(found.home)
        _share_metrics(found.home)  # before anything of ours imports them

        config = Config() if wish.demo else house.read_config(found)
        play = wish.demo or (wish.may_play(found) and not config.accounts)
        if wish.demo and found.database_url and house.read_config(found).accounts:
            raise ConfigError(
                "`syncline demo` would write its sandbox's records into the database of your "
                "accounts: unset DATABASE_URL for this run"
            )
        kept = _keep_secrets(found, wish)
        place = house.sandbox_home(found) if play else found.home
        if not found.database_url:
            shown.step("starting PostgreSQL")
        url = closing.enter_context(house.database(found, place))
        environment = {"DATABASE_URL": url, "PUBLIC_URL": found.public_url or local, **kept.values}
        sandbox = None
        if play:
            sandbox = Sandbox.of(found.home, beside=port)
            if found.database_url:
                _refuse_to_mix(url, found.home)
            file = found.home / "sandbox.yaml"
            sandbox.write_config(file)
            environment |= {"SYNCLINE_CONFIG": str(file.resolve()), "PUBLIC_URL": local}
        now = house.fresh_settings(**environment)
        if wish.migrate:
            shown.step("migrating the database")
            house.migrate(url)
        if sandbox:
            shown.step("starting the sandbox")
            log = found.home / "sandbox.log"
            arguments = sandbox.arguments(found.home, local)
            child = Child("sandbox", "sandbox", *arguments, output=log)
            _start(child, running, closing)
            child.wait_for(sandbox.port)
        shown.step("starting the service")
        if wish.worker:
            _start(Child("worker", "app.cli", "worker"), running, closing)
        closing.enter_context(_named(now.home / URL_FILE, local))
        banner = partial(_banner, shown, local, kept, sandbox)
        _answer(wish, listener, running, banner)


def _listen(wish: Wish) -> socket.socket:
    """The socket we serve on, taken before anything else is started."""
    try:
        family = socket.AF_INET6 if ":" in wish.host else socket.AF_INET
        return socket.create_server((wish.host, wish.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {wish.host}:{wish.port}: {(error.strerror or str(error)).lower()}. "
            "--port chooses another port, --host another address."
        ) from None


def _reachable(host: str) -> str:
    """The address by which this machine itself reaches us."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _refuse_to_mix(url: str, home: Path) -> None:
    if (home / "sandbox.yaml").exists():
        return  # it was the sandbox's before
    if names := house.known_accounts(url):
        raise ConfigError(
            "no account is configured, but the database of DATABASE_URL has worked for "
            f"{', '.join(sorted(names))}. Is SYNCLINE_CONFIG missing, or the working directory "
            "wrong? --no-sandbox serves without accounts."
        )


def _start(child: Child, running: Running, closing: contextlib.ExitStack) -> None:
    running.children.append(child)
    closing.callback(child.stop, patience=_WORKER_DRAIN)
    child.start()


@contextlib.contextmanager
def _named(file: Path, url: str) -> Iterator[None]:
    """While we run, other commands on this machine find us."""
    house.write(file, url + "\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _share_metrics(home: Path) -> None:
    """An empty directory through which API and worker count together."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return
    folder = (home / "metrics").resolve()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


@dataclass(frozen=True, slots=True)
class Kept:
    """The secrets of this run that came from SYNCLINE_HOME, and the token if it is new."""

    values: dict[str, str]
    token_file: Path | None = None
    new_token: str | None = None


def _keep_secrets(found: Settings, wish: Wish) -> Kept:
    """Make what is not set and keep it, if this is a run for one machine."""
    if found.database_url and not wish.is_private:
        if not found.secret_keys:
            raise ConfigError(
                "SYNCLINE_SECRET_KEYS is not set: every replica needs the same. "
                "`syncline keys new` makes one."
            )
        if not found.api_token:
            logs.get().warning("token.missing", hint="without SYNCLINE_API_TOKEN /api refuses all")
        return Kept({})
    values: dict[str, str] = {}
    token_file, new = None, None
    if not found.secret_keys:
        key, _ = house.keep(found.home / house.SECRETS_FILE, house.new_key)
        values["SYNCLINE_SECRET_KEYS"] = key
    if not found.api_token:
        token_file = found.home / TOKEN_FILE
        token, is_new = house.keep(token_file, house.new_token)
        values["SYNCLINE_API_TOKEN"] = token
        new = token if is_new else None
    return Kept(values, token_file, new)


def _answer(wish: Wish, listener: socket.socket, running: Running, banner: partial[None]) -> None:
    """Serve until told to stop."""
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves the signals to us, and says when it is up."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                banner()

    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=wish.host,
        port=wish.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_REQUEST_DRAIN,
    )
    running.server = Server(config)
    try:
        running.server.run(sockets=[listener])
    except SystemExit:
        raise SynclineError("the API could not start; the lines above say why") from None


def _banner(shown: Screen, local: str, kept: Kept, sandbox: Sandbox | None) -> None:
    """Say where everything is; a person's first minute begins here."""
    if shown.json:
        shown.data(
            {
                "url": local,
                "token_file": str(kept.token_file) if kept.token_file else None,
                "sandbox": sandbox.url if sandbox else None,
                "pid": os.getpid(),
            }
        )
        return
    lines = [("API", f"{local}/docs"), ("Health", f"{local}/health/lanes")]
    if sandbox:
        lines.append(("Sandbox", f"{sandbox.url}/"))
    if kept.new_token:
        lines.append(("Token", f"{kept.new_token}  (shown once; kept in {kept.token_file})"))
    elif kept.token_file:
        lines.append(("Token", f"in {kept.token_file}"))
    text = Text("\n").join(Text.assemble((f"{name:<9}", "bold"), value) for name, value in lines)
    shown.console.print(Panel.fit(text, title="Syncline is up", border_style="green"))
    if sandbox:
        shown.say(
            "Make a lead in the sandbox's Close, and see it arrive in its HubSpot "
            f"({sandbox.url}/):\n\n  {sandbox.first_lead}\n"
        )
    shown.say("Ctrl-C stops everything.")
