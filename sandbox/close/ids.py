"""Close ids: a prefix and base62 text, 43 characters for records, 22 for newer kinds."""

import secrets
from datetime import datetime
from string import ascii_letters, digits

_BASE62 = digits + ascii_letters


def record_id(prefix: str) -> str:
    return f"{prefix}_{_text(43)}"


def short_id(prefix: str) -> str:
    return f"{prefix}_{_text(22)}"


def rest_time(at: datetime) -> str:
    """A time as REST objects carry it: `2025-09-04T07:27:17.674000+00:00`."""
    return at.isoformat(timespec="microseconds")


def event_time(at: datetime) -> str:
    """A time as events carry it: UTC without an offset."""
    return at.replace(tzinfo=None).isoformat(timespec="microseconds")


def _text(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))
