"""How many calls may leave: rolling windows and the day's budget, as plain values.

They are kept between calls, so that every worker goes on where another one was. All times are
seconds of one clock that all of them share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf, isfinite
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.manifest import Limit
from app.domain.values import NOTHING

#: Our clock and the vendor's may run this much apart within one window.
MARGIN = 0.05
#: A call that is not heard of again weighs so long: whoever made it is gone.
LOST = 60.0
#: What the vendor says is left of a day is believed so long; then one call asks again.
STALE = 3600.0
#: A day that rolls is the last 24 hours; of one that is used up some calls come free all the time.
ROLLS, WHOLE_DAY = 900.0, 86400.0
#: The forecast looks at the calls of the last hour, in pieces of five minutes.
RECENT, PIECE = 3600.0, 300.0
#: A day that has more left than we thought, by this part of all, has begun anew.
ANEW = 0.05


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a call: when calls left and were answered, and what the vendor told."""

    taken: Sequence[float] = ()
    landed: Sequence[float] = ()
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    """What an answer's headers say of the quota; ``reset`` in seconds from now.

    ``rolling`` says that the vendor's day is the last 24 hours, and has no end.
    """

    limit: int | None = None
    per: float | None = None
    remaining: float | None = None
    reset: float | None = None
    daily: int | None = None
    daily_remaining: int | None = None
    rolling: bool = False


@dataclass(slots=True)
class Window:
    """The calls of one group in any span of ``per`` seconds.

    A vendor counts a call at some moment between its leaving and its answer, so it weighs from
    the first until ``per`` after the second: then no rolling window of the vendor's can hold
    more, however late calls arrive there.
    """

    calls: int
    per: float
    #: When each call left, and when it was answered (``inf``: not yet).
    log: list[tuple[float, float]] = field(default_factory=list)
    learned: bool = False
    #: Calls of others that the vendor counted, and until when they may weigh on us.
    others: int = 0
    others_until: float = 0.0
    #: What the vendor says is left until its own window resets.
    left: float = 0.0
    left_until: float = 0.0
    paused_until: float = 0.0

    @classmethod
    def of(cls, kept: Kept, limit: Limit | None = None) -> Window:
        """The window as it was kept; ``limit`` is what the manifest says of it."""
        told = dict(kept.told)
        if limit is not None and not told.get("learned"):
            told |= {"calls": limit.calls, "per": limit.per}
        return cls(log=list(zip(kept.taken, kept.landed, strict=True)), **told)

    def kept(self) -> Kept:
        names = ("calls", "per", "learned", "others", "others_until", "left", "left_until")
        return Kept(
            [taken for taken, _ in self.log],
            [landed for _, landed in self.log],
            {name: getattr(self, name) for name in (*names, "paused_until")},
        )

    def forget(self, now: float) -> None:
        self.log = [
            call for call in self.log if min(call[1], call[0] + LOST) + self.per + MARGIN > now
        ]
        if self.others_until <= now:
            self.others = 0

    @property
    def used(self) -> int:
        return len(self.log) + self.others

    def wait(self, now: float, *, reserve: float = 0.0) -> float:
        """Seconds until the next call may leave; zero or less means now."""
        self.forget(now)
        return max(self.paused_until - now, self._own(now, reserve), self._told(now, reserve))

    def _own(self, now: float, reserve: float) -> float:
        calls = max(1, int(self.calls * (1 - reserve)))
        free = calls - self.used
        if not self.log:
            return self.others_until - now if free <= 0 else 0.0
        first = min(landed if isfinite(landed) else now for _, landed in self.log)
        empties = first + self.per + MARGIN
        if free <= 0:
            return empties - now
        if free > calls / 2:
            return 0.0
        # Half is spent: share out the rest over the time until the oldest call leaves the
        # window, so that work slows down instead of stopping.
        last = max(taken for taken, _ in self.log)
        return last + max(0.0, empties - last) / (free + 1) - now

    def _told(self, now: float, reserve: float) -> float:
        if self.left_until <= now:
            return 0.0
        free = self.left - self.calls * reserve if reserve else self.left
        return 0.0 if free >= 1 else self.left_until + MARGIN - now

    def take(self, now: float) -> float:
        """Let one call go; the moment that names it from now on."""
        at = max(now, max((taken for taken, _ in self.log), default=0.0) + 1e-6)
        self.log.append((at, inf))
        self.left -= 1
        return at

    def land(self, taken: float, now: float) -> None:
        """The call that left then was answered, or never will be."""
        self.log = [call for call in self.log if call[0] != taken]
        self.log.append((taken, now))

    def after(self, taken: float) -> int:
        """How many calls left after that one: its answer does not count them."""
        return sum(1 for left, _ in self.log if left > taken)

    def learn(self, rate: Rate, now: float, *, taken: float) -> None:
        """Correct the window by the headers of the answer to the call that left then.

        ``limit`` counts only with its ``per``; where nobody tells that, it is the time until the
        reset of a window that holds this call alone. ``remaining`` holds until the reset or, in
        a rolling window, tells how much others use.
        """
        alone = rate.limit is not None and rate.remaining == rate.limit - 1
        if rate.limit and (per := rate.per or (rate.reset if alone else None)):
            self.calls, self.per, self.learned = max(1, rate.limit), per, True
        if rate.remaining is None:
            return
        after = self.after(taken)
        if rate.reset is not None:
            left = rate.remaining - after
            same = abs(now + rate.reset - self.left_until) < 1.0
            self.left = min(self.left, left) if same else left
            self.left_until = now + rate.reset
        else:
            known = len(self.log) - after
            self.others = max(0, self.calls - int(rate.remaining) - known)
            self.others_until = now + self.per + MARGIN

    def pause(self, until: float) -> None:
        """Let no call leave before that: the vendor said so."""
        self.paused_until = max(self.paused_until, until)


@dataclass(slots=True)
class Day:
    """The calls of one day, from midnight to midnight where the account lives.

    What the vendor says is left may be of the last 24 hours: then midnight changes nothing in it.
    """

    ends: float
    spent: int = 0
    #: The most a day may have: by the configuration, and by the vendor.
    own: int | None = None
    calls: int | None = None
    #: What the vendor says is left, and when it last said so.
    left: float | None = None
    told_at: float = 0.0
    #: Calls by the piece of an hour they were made in: what the forecast goes by.
    pieces: dict[str, int] = field(default_factory=dict)
    rolling: bool = False

    @classmethod
    def of(cls, kept: Kept, now: float, *, own: int | None = None, zone: str = "UTC") -> Day:
        """The day as it was kept, or a new one if that is over."""
        told = dict(kept.told)
        if told.get("ends", 0.0) <= now:
            lasts = ("left", "told_at", "rolling") if told.get("rolling") else ()
            told = {key: told[key] for key in ("calls", "pieces", *lasts) if key in told}
            told["ends"] = midnight(now, zone)
        return cls(**(told | {"own": own}))

    def kept(self) -> Kept:
        return Kept(told={name: getattr(self, name) for name in self.__slots__})

    @property
    def most(self) -> int | None:
        """How many calls the day has; None if nobody says."""
        return min((n for n in (self.own, self.calls) if n is not None), default=None)

    @property
    def free(self) -> float | None:
        """How many of them are left; None if nobody says."""
        known = [] if self.left is None else [self.left]
        if self.own is not None:
            known.append(self.own - self.spent)
        return max(0.0, min(known)) if known else None

    def wait(self, now: float, *, reserve: float = 0.0) -> float:
        """Seconds until the next call may leave; zero or less means now."""
        free, kept_back = self.free, (self.most or 0) * reserve
        if free is None or free - kept_back >= 1:
            return 0.0
        if self.own is not None and self.own - self.spent - kept_back < 1:
            return self.ends - now
        if self.rolling:
            return self.told_at + ROLLS - now
        # Midnight of the vendor's own time zone is a guess: one call in a while asks.
        return min(self.ends, self.told_at + STALE) - now

    def take(self, now: float) -> None:
        self.spent += 1
        if self.left is not None:
            self.left -= 1
        if now >= self.told_at + (ROLLS if self.rolling else STALE):
            self.told_at = now
        piece = str(int(now // PIECE))
        self.pieces[piece] = self.pieces.get(piece, 0) + 1
        oldest = int((now - RECENT) // PIECE)
        self.pieces = {key: n for key, n in self.pieces.items() if int(key) >= oldest}

    def learn(self, rate: Rate, now: float, *, after: int) -> None:
        """Correct the day by an answer's headers; ``after`` calls are not in them yet."""
        self.calls = rate.daily or self.calls
        if rate.daily_remaining is None:
            return
        left = rate.daily_remaining - after
        self.rolling = rate.rolling
        if self.rolling:  # it grows as well: what was called a day ago weighs no more
            self.left, self.told_at = left, now
            return
        anew = self.left is None or left > self.left + (self.calls or 0) * ANEW
        # Within a day it only sinks: an answer that says more is an older one.
        self.left = left if anew else min(left, self.left or 0.0)
        self.told_at = now

    def ends_at(self, now: float) -> float | None:
        """When the budget is used up at the pace of the last hour; None if the day ends first, or
        as much comes free.
        """
        oldest = int((now - RECENT) // PIECE)
        recent = {int(key): n for key, n in self.pieces.items() if int(key) >= oldest}
        if self.free is None or not recent:
            return None
        if self.free < 1:
            return now
        pace = sum(recent.values()) / max(PIECE, min(RECENT, now - min(recent) * PIECE))
        at = now + self.free / pace
        if self.rolling and self.own is None:
            return at if pace * WHOLE_DAY > (self.calls or 0) and at < now + WHOLE_DAY else None
        return at if at < self.ends else None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a window, or the day, stands for those who look on."""

    window: str
    calls: int | None
    per: float | None
    used: int
    left: float | None
    paused_until: datetime | None = None
    resets_at: datetime | None = None
    ends_at: datetime | None = None


def standing(name: str, kept: Kept, now: float) -> Standing:
    """What is kept under this name, as it stands now."""
    if "ends" in kept.told:
        day = Day.of(kept, now, own=kept.told.get("own"))
        return Standing(
            name,
            day.most,
            None,
            day.spent,
            day.free,
            # In a day that rolls, what weighs now weighs no more after 24 hours.
            resets_at=_moment(now + WHOLE_DAY if day.rolling and day.own is None else day.ends),
            ends_at=_moment(day.ends_at(now)),
        )
    window = Window.of(kept)
    window.forget(now)
    paused = window.paused_until if window.paused_until > now else None
    left = max(0, window.calls - window.used)
    return Standing(name, window.calls, window.per, window.used, left, _moment(paused))


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def midnight(now: float, zone: str) -> float:
    """When the present day is over in that time zone."""
    here = datetime.fromtimestamp(now, UTC if zone == "UTC" else ZoneInfo(zone))
    tomorrow = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return tomorrow.timestamp()


#: Nothing was kept yet.
BLANK = Kept(told=NOTHING)
