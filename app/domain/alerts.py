"""When trouble becomes an alert, when it is told again, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong now; the same ``key`` is the same trouble, however large it grew."""

    key: str
    kind: str
    account: str | None
    summary: str
    count: int = 1
    #: It may pass by itself: tell nobody before it has lasted a while.
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """What we know of a trouble: since when, and what was last told of it."""

    key: str
    since: datetime
    raised_at: datetime | None = None
    told_at: datetime | None = None
    told: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long passing trouble may last untold, and how often a change of size is told."""

    after: timedelta
    summary: timedelta


class Word(StrEnum):
    """What is said of an alert."""

    RAISED = "raised"
    CHANGED = "changed"
    RECOVERED = "recovered"


def word(alert: Alert, trouble: Trouble | None, now: datetime, pace: Pace) -> Word | None:
    """What is to be said now; None for nothing. Each state is said once."""
    if trouble is None:
        return Word.RECOVERED if alert.raised_at else None
    if alert.raised_at is None:
        waits = trouble.passing and now - alert.since < pace.after
        return None if waits else Word.RAISED
    due = alert.told_at is None or now - alert.told_at >= pace.summary
    return Word.CHANGED if due and trouble.count != alert.told else None
