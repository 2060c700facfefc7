"""The only reader of time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def ticks() -> float:
    """Seconds on a clock that never jumps: for pacing and for measuring, not for dates."""
    return time.monotonic()
