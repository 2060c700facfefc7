"""The webhook secrets of every account: configured, and learned when we subscribed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from app import clock, logs
from app.config import Config
from app.db import accounts, webhook_secrets
from app.db.accounts import Box
from app.db.engine import Database, is_away
from app.errors import ReadinessError

log = logs.get()

EVERY = 5.0  # seconds between looks at what other processes have learned
FRESH = 1.0  # a refusal is never based on anything older
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One webhook secret, as a person may see it (all but ``secret``)."""

    id: str
    secret: SecretStr
    configured: bool
    since: datetime
    used_at: datetime | None


class Secrets:
    """A small copy of the secrets, near enough for the hot path and never older than needed.

    Another process may subscribe at any moment (`syncline webhooks subscribe`), and its first
    webhook comes at once: who is about to refuse a delivery calls `refresh_before_refusing`.
    """

    def __init__(self, config: Config, database: Database, box: Box) -> None:
        self._configured = {
            name: list(account.webhook_secrets) for name, account in config.accounts.items()
        }
        self._database = database
        self._box = box
        self._of: Mapping[str, Sequence[SecretStr]] = self._configured
        self._key: bytes | None = None
        self._noted: set[tuple[str, str]] = set()
        #: (account, secret) -> when it last fitted, as far as that is not written down yet.
        self._used: dict[tuple[str, SecretStr], datetime] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def of(self, account: str) -> Sequence[SecretStr]:
        """Every secret that a delivery of this account may be signed with."""
        return self._of.get(account, ())

    def counts(self, account: str) -> dict[str, int]:
        """How many are configured and how many learned; never which."""
        configured = len(self._configured.get(account, ()))
        return {"configured": configured, "learned": len(self.of(account)) - configured}

    def used(self, account: str, secret: SecretStr) -> None:
        """A delivery came that this secret fits; written down before long."""
        self._used[account, secret] = clock.now()

    async def shown(self, account: str) -> list[Shown]:
        """Every secret of an account by its id: where it is from, how old, when it last fitted."""
        await self.refresh()
        configured = len(self._configured.get(account, ()))
        async with self._database.transaction() as db:
            await self._note(db)
            key = await webhook_secrets.key(db, self._box)
            rows = await webhook_secrets.of(db, account)
        found = [(webhook_secrets.name(key, secret), secret) for secret in self.of(account)]
        return [
            Shown(id, secret, n < configured, rows[id]["since"], rows[id]["used_at"])
            for n, (id, secret) in enumerate(found)
        ]

    async def _note(self, db: AsyncConnection) -> None:
        """Write down which secrets there are, and which of them fitted since the last time."""
        key = self._key = self._key or await webhook_secrets.key(db, self._box)
        known = {
            (account, webhook_secrets.name(key, secret))
            for account, secrets in self._of.items()
            for secret in secrets
        }
        used, self._used = self._used, {}
        uses = {(a, webhook_secrets.name(key, secret)): at for (a, secret), at in used.items()}
        await webhook_secrets.note(db, known - self._noted, uses)
        self._noted |= known

    async def refresh(self) -> None:
        """Read what is kept in the database. Raises ReadinessError if that cannot be done."""
        try:
            async with asyncio.timeout(PATIENCE), self._database.transaction() as db:
                learned = await accounts.webhook_secrets(db, self._box)
        except Exception as error:
            raise ReadinessError("the webhook secrets cannot be read now") from error
        self._of = {
            name: [*configured, *learned.get(name, ())]
            for name, configured in self._configured.items()
        }
        self._read_at = time.monotonic()

    async def refresh_before_refusing(self, account: str) -> bool:
        """Make sure that nothing newer is known; True if this account's secrets changed.

        Raises ReadinessError: without the database nobody can say that a signature is wrong.
        """
        before = self._of
        async with self._reading:
            if time.monotonic() - self._read_at > FRESH:
                await self.refresh()
        return before.get(account) != self._of.get(account)

    async def open(self) -> None:
        """Read once if possible, and from time to time from now on."""
        with contextlib.suppress(ReadinessError):
            await self.refresh()
        self._task = asyncio.create_task(self._refresh_forever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.refresh()
                async with asyncio.timeout(PATIENCE), self._database.transaction() as db:
                    await self._note(db)
            except ReadinessError as error:
                log.debug("secrets.unreadable", error=repr(error.__cause__))
            except Exception as error:
                if not is_away(error):
                    raise
                log.debug("secrets.unreadable", error=logs.words(error))
