"""What to do about an error: one place decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.errors import (
    AccountError,
    BadPayloadError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
)

#: A bug gets this many tries before a person must look.
MAX_ATTEMPTS = 8


class Action(StrEnum):
    RETRY = "retry"  # this row, later
    REREAD = "reread"  # look at the remote record first
    PAUSE = "pause"  # the whole lane
    DEAD = "dead"  # a person must act


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    at: datetime | None = None


def retry_at(
    attempts: int, now: datetime, *, cap: timedelta = timedelta(hours=1), jitter: float = 1.0
) -> datetime:
    """Exponential back-off from one second; ``jitter`` (0.5 to 1.5) spreads the herd."""
    return now + min(timedelta(seconds=2 ** min(attempts, 20)), cap) * jitter


def verdict(error: Exception, attempts: int, now: datetime, *, jitter: float = 1.0) -> Verdict:
    """Retry, reread, pause or dead, by the class of the error.

    Trouble of the vendor's waits as long as it takes; only refusals and bugs end as dead
    letters.
    """
    match error:
        case RateLimitedError(retry_at=at):
            return Verdict(Action.PAUSE, at)
        case AccountError():
            return Verdict(Action.PAUSE, retry_at(6 + attempts, now, jitter=jitter))
        case RejectedError() | BadPayloadError():
            return Verdict(Action.DEAD)
        case StaleError() if attempts < MAX_ATTEMPTS:
            return Verdict(Action.REREAD, now)
        case TransientError():
            return Verdict(Action.RETRY, retry_at(attempts, now, jitter=jitter))
        case _ if attempts >= MAX_ATTEMPTS:
            return Verdict(Action.DEAD)
        case _:
            return Verdict(Action.RETRY, retry_at(attempts, now, jitter=jitter))
