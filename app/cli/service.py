"""The whole service on this machine: start it in order, serve, stop it in order."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from rich.panel import Panel
from rich.text import Text

from app import logs
from app.cli import house
from app.cli.children import Child
from app.cli.house import Sandbox
from app.cli.rest import TOKEN_FILE, URL_FILE
from app.cli.screen import Screen
from app.errors import ConfigError, SynclineError
from app.settings import Settings, settings

if TYPE_CHECKING:
    import uvicorn

_CHILD_DRAIN: Final = 30.0  # seconds that a child may take to end
_REQUEST_DRAIN: Final = 10  # seconds that requests in hand may take
_SHARED_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"


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

    @contextlib.contextmanager
    def child(self, child: Child) -> Iterator[Child]:
        """A child that lives as long as the block."""
        self.children.append(child)
        child.start()
        try:
            yield child
        finally:
            child.stop(patience=_CHILD_DRAIN)


def run(shown: Screen, wish: Wish) -> None:
    """Serve until told to stop. Raises ConfigError for what an operator can mend."""
    found = settings()
    logs.configure(found)
    running = Running()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, running.on_signal)
    # What is entered first is left last: PostgreSQL outlives the sandbox, that the worker, and
    # that the API.
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(contextlib.closing(_listen(wish)))
        local = f"http://{_reachable(wish.host)}:{listener.getsockname()[1]}"
        house.prepare(found.home)
        os.umask(0o077)  # whatever we keep is for us alone
        closing.enter_context(house.alone(found.home))
        _share_metrics(found.home)  # before anything of ours imports them
        plays = _is_play(found, wish)
        kept = _keep_secrets(found, wish)
        if not found.database_url:
            shown.step("starting PostgreSQL")
        place = house.sandbox_home(found) if plays else found.home
        url = closing.enter_context(house.database(found, place))
        environment = {"DATABASE_URL": url, **kept.values}
        if found.public_url or _all_local(found):
            environment["PUBLIC_URL"] = found.public_url or local
        sandbox = None
        if plays:
            sandbox = _sandbox(found, url, beside=listener.getsockname()[1])
            file = found.home / "sandbox.yaml"
            environment |= {"SYNCLINE_CONFIG": str(file.resolve()), "PUBLIC_URL": local}
            shown.step("starting the sandbox")
            arguments = sandbox.arguments(found.home, local)
            log = found.home / "sandbox.log"
            crms = closing.enter_context(
                running.child(Child("sandbox", "sandbox", *arguments, output=log))
            )
        house.fresh_settings(**environment)
        if wish.migrate:
            shown.step("migrating the database")
            house.migrate(url)
        if sandbox:
            crms.wait_for(sandbox.port)
        shown.step("starting the service")
        if wish.worker:
            closing.enter_context(running.child(Child("worker", "app.cli", "worker")))
        closing.enter_context(_named(found.home / URL_FILE, local))
        _serve(wish, listener, running, lambda: _banner(shown, local, kept, sandbox))


# -------------------------------------------------------------------------- before the start


def _all_local(found: Settings) -> bool:
    """Whether every CRM is on this machine: then the local address is one they can call."""
    addresses = [account.base_url for account in house.read_config(found).accounts.values()]
    return all(url and urlsplit(url).hostname in ("127.0.0.1", "localhost") for url in addresses)


def _listen(wish: Wish) -> socket.socket:
    """The socket we serve on, taken before anything else is started."""
    try:
        family = socket.AF_INET6 if ":" in wish.host else socket.AF_INET
        return socket.create_server((wish.host, wish.port), family=family, backlog=2048)
    except OSError as error:
        said = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise ConfigError(
            f"cannot listen on {wish.host}:{wish.port}: {said}. --port chooses another port, "
            "--host another address."
        ) from None


def _reachable(host: str) -> str:
    """The address by which this machine itself reaches us."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _share_metrics(home: Path) -> None:
    """An empty directory through which API and worker count together."""
    if _SHARED_METRICS in os.environ:
        return
    folder = (home / "metrics").resolve()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink()
    os.environ[_SHARED_METRICS] = str(folder)


def _is_play(found: Settings, wish: Wish) -> bool:
    """Whether the sandbox stands in. Raises ConfigError for a configuration that cannot work."""
    if wish.demo and not found.database_url:
        return True
    config = house.read_config(found)
    if wish.demo and config.accounts:
        raise ConfigError(
            "`syncline demo` would write its sandbox's records into the database of your "
            "accounts: unset DATABASE_URL for this run"
        )
    house.check(config)
    # Never on its own account beside a database that others can reach: there, no account is
    # more likely a mistake than a wish.
    may = wish.sandbox and (wish.is_private or not found.database_url)
    return wish.demo or (may and not config.accounts)


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
            logs.get().warning("token.missing", effect="/api refuses every call")
        return Kept({})
    values: dict[str, str] = {}
    token_file, new = None, None
    if not found.secret_keys:
        values["SYNCLINE_SECRET_KEYS"], _ = house.keep(
            found.home / house.SECRETS_FILE, house.new_key
        )
    if not found.api_token:
        token_file = found.home / TOKEN_FILE
        token, is_new = house.keep(token_file, house.new_token)
        values["SYNCLINE_API_TOKEN"] = token
        new = token if is_new else None
    return Kept(values, token_file, new)


def _sandbox(found: Settings, url: str, *, beside: int) -> Sandbox:
    """The sandbox of this home, and a configuration that points at it."""
    if found.database_url:
        _refuse_to_mix(found.home / "sandbox-database", url)
    sandbox = Sandbox.of(found.home, beside=beside)
    sandbox.write_config(found.home / "sandbox.yaml")
    return sandbox


def _refuse_to_mix(file: Path, url: str) -> None:
    """Raise ConfigError if this database has worked for accounts other than the sandbox's."""
    place = house.place_of(url)
    if file.exists() and file.read_text().strip() == place:
        return
    if names := house.known_accounts(url):
        raise ConfigError(
            f"no account is configured, but the database of DATABASE_URL ({place}) has worked for "
            f"{', '.join(sorted(names))}. Is SYNCLINE_CONFIG missing, or the working directory "
            "wrong? --no-sandbox serves without accounts."
        )
    house.write(file, place + "\n")


@contextlib.contextmanager
def _named(file: Path, url: str) -> Iterator[None]:
    """While we run, other commands on this machine find us."""
    house.write(file, url + "\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------- serving


def _serve(
    wish: Wish, listener: socket.socket, running: Running, when_up: Callable[[], None]
) -> None:
    """Serve until told to stop."""
    import uvicorn

    from app.api.connections import CarefulProtocol

    class Server(uvicorn.Server):
        """Leaves the signals to us, and says when it is up."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                when_up()

    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=wish.host,
        port=wish.port,
        loop="uvloop",
        http=CarefulProtocol,
        ws="none",
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
        lines.append(("Token", kept.new_token))
        lines.append(("", f"shown once; kept in {kept.token_file}"))
    elif kept.token_file:
        lines.append(("Token", f"in {kept.token_file}"))
    text = Text("\n").join(Text.assemble((f"{name:<9}", "bold"), value) for name, value in lines)
    shown.console.print(Panel.fit(text, title="Syncline is up", border_style="green"))
    if sandbox:
        shown.say(
            "Make a lead in the sandbox's Close, and see it arrive in its HubSpot and Salesforce "
            f"({sandbox.url}/):\n\n  {sandbox.first_lead}\n"
        )
    shown.say("Ctrl-C stops everything.")
