"""The webhook secrets of every account: configured, and learned when we subscribed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from app import logs
from app.config import Config
from app.db import accounts
from app.db.accounts import Box
from app.db.engine import Database
from app.errors import ReadinessError

log = logs.get()

EVERY = 5.0  # seconds between looks at what other processes have learned
FRESH = 1.0  # a refusal is never based on anything older
PATIENCE = 2.0


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
            except ReadinessError as error:
                log.debug("secrets.unreadable", error=repr(error.__cause__))
