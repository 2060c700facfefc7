"""What a run on this machine keeps in SYNCLINE_HOME, and what it starts from."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import SecretStr

from app.config import Config
from app.errors import ConfigError
from app.settings import Settings, settings

SECRETS_FILE: Final = "secret-keys"
_WORDS: Final = 32
#: Seconds that a start waits for a database that restarts, and for one where nobody listens.
_RESTART: Final = 60.0
_REFUSED: Final = 3.0


def prepare(home: Path) -> None:
    """Make the home. Raises ConfigError where that cannot be."""
    try:
        # Others may walk through it, for a PostgreSQL that root runs as nobody; every file in
        # it is for its owner alone.
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"SYNCLINE_HOME: cannot make {home}: {error.strerror}") from None


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Be the only service of this home. Raises ConfigError if another one is."""
    with (home / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another `syncline serve` runs in {home}: stop it, or set SYNCLINE_HOME to "
                "another directory"
            ) from None
        yield


def keep(file: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """What the file says, and whether it was made just now; nobody else may ever read it."""
    with suppress(FileNotFoundError):
        return file.read_text().strip(), False
    text = make()
    write(file, text + "\n")
    return text, True


def write(file: Path, text: str) -> None:
    """Replace a file at once, readable by its owner alone from the first moment."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    fresh.replace(file)


def new_token() -> str:
    """A bearer token."""
    return secrets.token_urlsafe(_WORDS)


def new_key() -> str:
    """A Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def secret_keys(found: Settings) -> Sequence[SecretStr]:
    """The keys of SYNCLINE_SECRET_KEYS, else those that this home keeps."""
    if found.secret_keys:
        return found.secret_keys
    file = found.home / SECRETS_FILE
    text = file.read_text() if file.exists() else ""
    return [SecretStr(key.strip()) for key in text.split(",") if key.strip()]


def read_config(found: Settings) -> Config:
    """The configuration, checked against the connectors there are."""
    from app import config
    from app.sdk.registry import Registry

    registry = Registry.load()

    def entities_of(connector: str) -> Collection[str]:
        return registry.connector(connector).manifest.entities

    return config.load(found, entities_of)


def check(config: Config) -> None:
    """Try everything of it that needs no network: credentials, mappings, handlers.

    Raises ConfigError with every mistake, one a line.
    """
    from app.db.accounts import Box
    from app.db.engine import Database
    from app.sdk.registry import Registry
    from app.sync.house import build

    unused = Database("postgresql://nobody@127.0.0.1/nothing"), Box([SecretStr(new_key())])
    registry = Registry.load(config.handlers)
    wrong = []
    for name, account in config.accounts.items():
        try:
            alone = config.model_copy(update={"accounts": {name: account}})
            build(unused[0], alone, registry, unused[1])
        except ConfigError as error:
            said = str(error).removeprefix(f"{name}: ")
            where = config.where("accounts", name)
            # What a row complains of comes with its own place.
            placed = f": accounts.{name}" in said or said.startswith(where)
            wrong.append(said if placed else f"{where}: {said}")
    if wrong:
        raise ConfigError("\n".join(wrong))


def sandbox_home(found: Settings) -> Path:
    """The sandbox's records never meet those of real accounts: it has a database of its own."""
    return found.home / "sandbox"


def data_home(found: Settings) -> Path:
    """Where the embedded server of this configuration keeps its data."""
    if found.database_url or read_config(found).accounts:
        return found.home
    return sandbox_home(found)


@contextmanager
def database(found: Settings, home: Path) -> Iterator[str]:
    """The URL of the database: DATABASE_URL, else the embedded server of this home."""
    prepare(home)
    if found.database_url:
        yield found.database_url
        return
    from app.db import embedded

    try:
        server = embedded.start(home)
    except embedded.EmbeddedPostgresError as error:
        raise ConfigError(str(error)) from None
    try:
        yield server.url
    finally:
        if server.started_here:
            embedded.stop(home)


def known_accounts(url: str) -> list[str]:
    """The accounts that a database has already worked for; none if it is new."""
    import asyncpg

    async def ask() -> list[str]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            if await connection.fetchval("select to_regclass('accounts')") is None:
                return []
            return [row[0] for row in await connection.fetch("select name from accounts")]
        finally:
            await connection.close()

    with answering(url):
        return asyncio.run(ask())


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn what a database that is away throws into one paragraph."""
    import asyncpg
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, SQLAlchemyError) as error:
        from app.logs import scrub

        said = str(getattr(error, "orig", None) or error or type(error).__name__)
        raise ConfigError(
            f"the database of DATABASE_URL ({place_of(url)}) cannot be used: {scrub(said)}"
        ) from error


def migrate(url: str) -> bool:
    """Bring the schema up to date, under an advisory lock; wait for a database that restarts.

    Says whether it was behind.
    """
    from app.db import migrations

    began = time.monotonic()
    while True:
        try:
            with answering(url):
                return migrations.upgrade(url)
        except ConfigError as error:
            if time.monotonic() - began > _patience(error.__cause__):
                raise error from None
        time.sleep(0.2)


def _patience(error: BaseException | None) -> float:
    """Seconds that this may take to pass: a database that restarts is worth waiting for."""
    state = str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")
    # https://www.postgresql.org/docs/current/errcodes-appendix.html: shut down, crashed, starting
    # up; a connection that broke. Where nobody listens, that may be a wrong address.
    if state.startswith(("57P", "08")) or isinstance(error, ConnectionResetError):
        return _RESTART
    return _REFUSED if isinstance(error, ConnectionRefusedError) else 0


def place_of(url: str) -> str:
    """Host and name of a database, without its password."""
    return url.rpartition("@")[2].partition("?")[0].removeprefix("postgresql://")


# --------------------------------------------------------------------------- the sandbox


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The local CRMs of this home: their port and what signs in to them."""

    port: int
    close_api_key: str
    close_signature_key: str
    hubspot_token: str
    hubspot_client_secret: str
    hubspot_portal_id: int
    salesforce_client_id: str
    salesforce_client_secret: str
    salesforce_secret: str

    @classmethod
    def of(cls, home: Path, *, beside: int) -> Sandbox:
        """The one this home had, on its old port if that is free; else a new one."""
        file = home / "sandbox-keys.json"
        fresh = asdict(cls._new(_free_port(beside + 1)))
        text, _ = keep(file, lambda: json.dumps(fresh))
        try:
            # A home that knew fewer CRMs gets keys for those that came since.
            found = cls(**{**fresh, **json.loads(text)})
        except (ValueError, TypeError):
            raise ConfigError(f"{file} cannot be read; delete it for a new sandbox") from None
        found = replace(found, port=_free_port(found.port))
        if asdict(found) != json.loads(text):
            write(file, json.dumps(asdict(found)))
        return found

    @classmethod
    def _new(cls, port: int) -> Sandbox:
        return cls(
            port=port,
            close_api_key=f"api_{secrets.token_hex(12)}",
            close_signature_key=secrets.token_hex(32),
            hubspot_token=f"pat-na1-{secrets.token_hex(12)}",
            hubspot_client_secret=secrets.token_hex(16),
            hubspot_portal_id=1_000_000 + secrets.randbelow(9_000_000),
            salesforce_client_id=f"3MVG9{secrets.token_hex(24)}",
            salesforce_client_secret=secrets.token_hex(32),
            salesforce_secret=secrets.token_hex(16),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def arguments(self, home: Path, webhooks: str) -> list[str]:
        """How `python -m sandbox` is told all this; ``webhooks`` is where it calls us."""
        told = {
            "port": self.port,
            "state": home / "sandbox.json",
            "close-api-key": self.close_api_key,
            "close-webhook": f"{webhooks}/webhooks/close",
            "close-signature-key": self.close_signature_key,
            "hubspot-token": self.hubspot_token,
            "hubspot-target": f"{webhooks}/webhooks/hubspot",
            "hubspot-client-secret": self.hubspot_client_secret,
            "hubspot-portal-id": self.hubspot_portal_id,
            "salesforce-client-id": self.salesforce_client_id,
            "salesforce-client-secret": self.salesforce_client_secret,
            "salesforce-webhook": f"{webhooks}/webhooks/salesforce",
            "salesforce-secret": self.salesforce_secret,
        }
        return [text for name, value in told.items() for text in (f"--{name}", str(value))]

    def write_config(self, file: Path) -> None:
        """A configuration that points at it."""
        accounts: dict[str, dict[str, Any]] = {
            "close": {
                "connector": "close",
                "credentials": {"api_key": self.close_api_key},
                "webhook_secret": self.close_signature_key,
                "base_url": f"{self.url}/close/api/v1",
            },
            "hubspot": {
                "connector": "hubspot",
                "portal_id": self.hubspot_portal_id,
                "credentials": {"access_token": self.hubspot_token},
                "webhook_secret": self.hubspot_client_secret,
                "base_url": f"{self.url}/hubspot",
            },
            "salesforce": {
                "connector": "salesforce",
                "credentials": {
                    "client_id": self.salesforce_client_id,
                    "client_secret": self.salesforce_client_secret,
                },
                "webhook_secret": self.salesforce_secret,
                "login_url": f"{self.url}/salesforce",
                "external_id": "Syncline_Id__c",
            },
        }
        text = yaml.safe_dump({"accounts": accounts}, sort_keys=False)
        write(file, f"# Made by `syncline serve` for its sandbox, at each start.\n{text}")

    @property
    def first_lead(self) -> str:
        """One line to paste: a lead with a contact, made in the sandbox's Close."""
        lead = {
            "name": "Analytical Engines",
            "url": "https://analytical.example",
            "contacts": [
                {
                    "name": "Ada Lovelace",
                    "title": "Founder",
                    "emails": [{"email": "ada@analytical.example", "type": "office"}],
                }
            ],
        }
        return (
            f"curl -s -u {self.close_api_key}: {self.url}/close/api/v1/lead/ "
            f"-H 'Content-Type: application/json' -d '{json.dumps(lead)}'"
        )


def _free_port(wanted: int) -> int:
    """This port if nobody has it, else any other."""
    for port in (wanted, 0):
        with suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", port)) as free:
            return int(free.getsockname()[1])
    raise ConfigError("there is no free port on 127.0.0.1")


def fresh_settings(**environment: str) -> Settings:
    """Put these into the environment, for us and for what we start, and read it anew."""
    os.environ.update(environment)
    settings.cache_clear()
    return settings()
