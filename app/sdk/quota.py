"""A rolling-window limiter per group of calls, exact in the process that owns the lane."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta

from app import clock
from app.domain.manifest import Limit
from app.errors import RateLimitedError

#: An exact log at the sender still overruns when calls arrive with jitter: with 5 to 30 ms of
#: it, 109 calls in a window of 100 without a margin, 100 with 50 ms.
MARGIN = 0.05
#: Whoever would wait longer gives the lane back instead of holding it.
PATIENCE = 12.0
#: The part of a window that scans leave to live traffic.
RESERVE = 0.2
UNLIMITED = Limit(calls=1_000_000, per=1.0)

_background: ContextVar[bool] = ContextVar("background", default=False)


@contextmanager
def background() -> Iterator[None]:
    """Calls made in this block leave a reserve of the quota to live traffic."""
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


@dataclass(slots=True)
class _Window:
    """The calls of one group; all times are ticks."""

    calls: int
    per: float
    log: deque[float] = field(default_factory=deque)
    #: Calls of others that the vendor counted, and until when they may weigh on us.
    others: int = 0
    others_until: float = 0.0
    #: What the vendor says is left until its own window resets.
    left: float = 0.0
    left_until: float = 0.0
    paused_until: float = 0.0

    def forget(self, now: float) -> None:
        while self.log and self.log[0] + self.per + MARGIN <= now:
            self.log.popleft()
        if self.others_until <= now:
            self.others = 0

    def wait(self, now: float, *, reserve: float) -> float:
        """Seconds until the next call may leave; zero or less means now."""
        self.forget(now)
        return max(self.paused_until - now, self._own(now, reserve), self._told(now, reserve))

    def _own(self, now: float, reserve: float) -> float:
        calls = max(1, int(self.calls * (1 - reserve)))
        free = calls - len(self.log) - self.others
        if not self.log:
            return self.others_until - now if free <= 0 else 0.0
        empties = self.log[0] + self.per + MARGIN
        if free <= 0:
            return max(empties, self.others_until if not self.log else empties) - now
        if free > calls / 2:
            return 0.0
        # Half is spent: share out the rest over the time until the oldest call leaves the
        # window, so that work slows down instead of stopping.
        last = self.log[-1]
        return last + max(0.0, empties - last) / (free + 1) - now

    def _told(self, now: float, reserve: float) -> float:
        if self.left_until <= now:
            return 0.0
        free = self.left - self.calls * reserve if reserve else self.left
        return 0.0 if free >= 1 else self.left_until + MARGIN - now


class Quota:
    """The limits of one account, by group; groups nobody declared share ``default``.

    ``search GET /x/`` has the limits of ``search`` and a window of its own, for vendors that
    count each path apart. Limits come from the manifest and are corrected by what the vendor's
    answers say.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        ticks: Callable[[], float] = clock.ticks,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._ticks = ticks
        self._sleep = sleep
        self._patience = patience
        self._limits = {"default": UNLIMITED, **limits}
        self._windows: dict[str, _Window] = {}

    def _window(self, group: str) -> _Window:
        name, _, apart = group.partition(" ")
        name = name if name in self._limits else "default"
        limit = self._limits[name]
        return self._windows.setdefault(f"{name} {apart}", _Window(limit.calls, limit.per))

    async def take(self, group: str = "default") -> float:
        """Wait for the right to make one call; the tick at which it was given.

        Raises RateLimitedError where the wait is so long that the lane had better pause.
        """
        window = self._window(group)
        reserve = RESERVE if _background.get() else 0.0
        while (wait := window.wait(now := self._ticks(), reserve=reserve)) > 0:
            if wait > self._patience:
                raise RateLimitedError(
                    clock.now() + timedelta(seconds=wait), f"the quota of {group} is used up"
                )
            await self._sleep(wait)
        window.log.append(now)
        window.left -= 1
        return now

    def learn(
        self,
        group: str,
        *,
        limit: int | None = None,
        per: float | None = None,
        remaining: float | None = None,
        reset: float | None = None,
        since: float | None = None,
    ) -> None:
        """Correct a group by an answer's headers.

        ``limit`` counts only with its ``per``; ``remaining`` holds until ``reset`` seconds from
        now, or, in a rolling window, tells how much others use. ``since`` is the tick of the
        call that was answered: what left after it is not in ``remaining`` yet.
        """
        window, now = self._window(group), self._ticks()
        window.forget(now)
        if limit and per:
            window.calls, window.per = max(1, limit), per
        if remaining is None:
            return
        after = 0 if since is None else len(window.log) - bisect_right(window.log, since)
        if reset is not None:
            left = remaining - after
            same = abs(now + reset - window.left_until) < 1.0
            window.left = min(window.left, left) if same else left
            window.left_until = now + reset
        else:
            known = len(window.log) - after
            window.others = max(0, window.calls - int(remaining) - known)
            window.others_until = now + window.per + MARGIN

    def pause(self, seconds: float, group: str = "default") -> None:
        """Let no call of this group leave for so many seconds: the vendor said so."""
        window = self._window(group)
        window.paused_until = max(window.paused_until, self._ticks() + seconds)
