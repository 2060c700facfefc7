"""The right to call: rolling windows per group and a day's budget, shared by all workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from app import clock
from app.domain.manifest import Limit
from app.domain.windows import BLANK, Day, Kept, Rate, Window
from app.errors import RateLimitedError

#: Whoever would wait longer gives the lane back instead of holding it.
PATIENCE = 12.0
#: The part of a window, and of a day, that scans leave to live traffic.
RESERVE = 0.2
UNLIMITED = Limit(calls=1_000_000, per=1.0)
#: The name under which the day's budget is kept beside the windows.
DAY = "day"

_background: ContextVar[bool] = ContextVar("background", default=False)


@contextmanager
def background() -> Iterator[None]:
    """Calls made in this block leave a reserve of the quota to live traffic."""
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


def is_background() -> bool:
    """Whether the calls made now are those of a scan."""
    return _background.get()


@dataclass(slots=True)
class Sheet:
    """What is kept of some windows while nobody else may look; ``now`` is the shared clock's."""

    now: float
    rows: dict[str, Kept]


class Ledger(Protocol):
    """Where the windows of one account are kept, for all who call in its name."""

    def open(self, names: Sequence[str]) -> AbstractAsyncContextManager[Sheet]:
        """These windows, locked; what the sheet holds at the end of the block is kept."""
        ...


class OwnLedger:
    """A ledger for one process alone."""

    def __init__(self, ticks: Callable[[], float] = clock.ticks) -> None:
        self._ticks = ticks
        self._rows: dict[str, Kept] = {}

    @asynccontextmanager
    async def open(self, names: Sequence[str]) -> AsyncIterator[Sheet]:
        sheet = Sheet(self._ticks(), {n: self._rows[n] for n in names if n in self._rows})
        yield sheet
        self._rows |= sheet.rows


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account allows itself: ``daily`` calls, and the part that scans never touch."""

    daily: int | None = None
    reserve: float = RESERVE
    timezone: str = "UTC"


@dataclass(slots=True)
class _Page:
    """An opened sheet: one window and the day."""

    now: float
    window: Window
    day: Day


@dataclass(slots=True)
class _Turns:
    """Who of this process may ask next, for one window; and what it has to tell."""

    live: asyncio.Lock = field(default_factory=asyncio.Lock)
    scan: asyncio.Lock = field(default_factory=asyncio.Lock)
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    news: list[Callable[[_Page], None]] = field(default_factory=list)


class Quota:
    """The limits of one account, by group; groups nobody declared share ``default``.

    ``search GET /x/`` has the limits of ``search`` and a window of its own, for vendors that
    count each path apart. Limits come from the manifest and are corrected by what the vendor's
    answers say. What is kept in a shared ``ledger`` holds for all workers together.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        ledger: Ledger | None = None,
        allowance: Allowance | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._ledger = ledger or OwnLedger()
        self._allowance = allowance or Allowance()
        self._sleep = sleep
        self._patience = patience
        self._limits = {"default": UNLIMITED, **limits}
        self._turns: dict[str, _Turns] = {}

    def _named(self, group: str) -> tuple[str, Limit]:
        name, _, apart = group.partition(" ")
        name = name if name in self._limits else "default"
        return f"{name} {apart}".strip(), self._limits[name]

    def _turns_of(self, group: str) -> _Turns:
        return self._turns.setdefault(self._named(group)[0], _Turns())

    @asynccontextmanager
    async def _open(self, group: str) -> AsyncIterator[_Page]:
        """The window of a group and the day, with our news in them, ours for a moment."""
        name, limit = self._named(group)
        own, zone = self._allowance.daily, self._allowance.timezone
        news = self._turns_of(group).news
        async with self._ledger.open((DAY, name)) as sheet:
            day = Day.of(sheet.rows.get(DAY, BLANK), sheet.now, own=own, zone=zone)
            page = _Page(sheet.now, Window.of(sheet.rows.get(name, BLANK), limit), day)
            page.window.forget(page.now)
            told = tuple(news)
            for tell in told:
                tell(page)
            yield page
            sheet.rows = {DAY: day.kept(), name: page.window.kept()}
        # Told twice does no harm, untold would: only what was kept is forgotten.
        news[:] = [tell for tell in news if tell not in told]

    async def take(self, group: str = "default") -> float:
        """Wait for the right to make one call; what names the call when it lands.

        Raises RateLimitedError where the wait is so long that the lane had better pause.
        """
        scan = is_background()
        reserve = self._allowance.reserve if scan else 0.0
        turns = self._turns_of(group)
        # Whoever waits does so alone: the others of this process would only ask in vain.
        async with turns.scan if scan else turns.live:
            while True:
                async with self._open(group) as page:
                    wait = max(
                        page.window.wait(page.now, reserve=reserve),
                        page.day.wait(page.now, reserve=reserve),
                    )
                    if wait <= 0:
                        page.day.take(page.now)
                        return page.window.take(page.now)
                if wait > self._patience:
                    raise RateLimitedError(
                        clock.now() + timedelta(seconds=wait), f"the quota of {group} is used up"
                    )
                await self._sleep(wait)

    def landed(self, taken: float, group: str = "default", rate: Rate | None = None) -> None:
        """The call was answered, with what its headers say, or it failed.

        It weighs as under way until this is told, with the next call or by `tell`.
        """

        def news(page: _Page) -> None:
            page.window.land(taken, page.now)
            if rate is not None:
                page.day.learn(rate, page.now, after=page.window.after(taken))
                page.window.learn(rate, page.now, taken=taken)

        self._turns_of(group).news.append(news)

    def pause(self, seconds: float, group: str = "default") -> None:
        """Let no call of this group leave for so many seconds: the vendor said so."""

        def news(page: _Page) -> None:
            page.window.pause(page.now + seconds)

        self._turns_of(group).news.append(news)

    async def tell(self, group: str = "default") -> None:
        """Let the other workers know what we have heard."""
        turns = self._turns_of(group)
        async with turns.telling:
            if turns.news:
                async with self._open(group):
                    pass
