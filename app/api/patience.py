"""Time limits by the thousand: one look around every half second instead of a timer each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

EVERY = 0.5  # seconds; how late a limit may be noticed


class Limit:
    """A block that raises TimeoutError when it takes longer than it may."""

    __slots__ = ("_late", "_task", "_until", "_watch")

    def __init__(self, watch: Watch, seconds: float) -> None:
        self._watch = watch
        self._until = watch.now() + seconds
        self._late = False

    def renew(self, seconds: float) -> None:
        """From now on it may take this long."""
        self._until = self._watch.now() + seconds

    def check(self, now: float) -> None:
        """Interrupt the block if its time is over."""
        if now > self._until and not self._late:
            self._late = True
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a limit is for code that runs in a task"
        self._task = task
        self._watch.limits.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.limits.discard(self)
        # As asyncio.timeout does: our own cancellation is a timeout, anybody else's stays one.
        if self._late and self._task.uncancel() <= 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error


class Watch:
    """Everybody who is under a time limit.

    asyncio.timeout is exact, and costs as much as the signature of a small webhook: a fifth of
    all that the front does for one. Ours need not be exact.
    """

    def __init__(self) -> None:
        self.limits: set[Limit] = set()
        self.now = time.monotonic
        self._task: asyncio.Task[None] | None = None

    def limit(self, seconds: float) -> Limit:
        """A time limit for a `with` block."""
        return Limit(self, seconds)

    def open(self) -> None:
        """Begin to look around."""
        self._task = asyncio.create_task(self._look())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            now = self.now()
            for limit in list(self.limits):
                limit.check(now)
