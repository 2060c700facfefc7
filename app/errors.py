"""Every error of Syncline, sorted by remedy.

::

    SynclineError
    ├── ConfigError            the operator's file or environment is wrong: file, line, key
    ├── ReadinessError         our own trouble (database away, schema behind): answer 503
    └── SyncError
        ├── TransientError         back off with jitter      timeout, reset, 5xx
        │   ├── RateLimitedError   pause the lane until told 429
        │   └── UnknownOutcomeError  a write may have happened: probe before trying again
        ├── StaleError             read again, merge, push   409, 412
        │   └── ExistsError        a create met a record that is already there: adopt it
        ├── RejectedError          dead letter               400, 422
        │   ├── NotFoundError      404: gone only when a second source agrees
        │   └── HeldError          a value has no place there: goes once it is mapped
        ├── AccountError           pause the lane, tell a person  401, 402, 403
        └── DeliveryError
            ├── BadSignatureError      401, nothing stored
            ├── BadPayloadError        dead letter
            └── UnsupportedEventError  kept, counted, replayable

Anything else is a bug: back off, then a dead letter with the traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any


def quoted(words: str) -> str:
    """Words of somebody else's, marked as such: logs and alerts leave out what stands in “ ”."""
    plain = words.replace("“", '"').replace("”", '"')
    return f"“{plain}”"


class SynclineError(Exception):
    """The root of the tree; its text is for the operator."""


class ConfigError(SynclineError):
    """The configuration cannot be used; the text names file, line and key."""


class ReadinessError(SynclineError):
    """We cannot accept work now; the sender should come back."""


class SyncError(SynclineError):
    """Work on one record or one delivery did not succeed.

    ``field`` and ``value`` name what the vendor objected to, where it said so.
    """

    def __init__(self, reason: str, *, field: str | None = None, value: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.value = value


class TransientError(SyncError):
    """It may work later: wait and try again."""


class RateLimitedError(TransientError):
    """The CRM asked us to wait."""

    def __init__(self, retry_at: datetime, reason: str = "the CRM asked us to wait") -> None:
        super().__init__(f"{reason} until {retry_at:%H:%M:%S}")
        self.retry_at = retry_at


class UnknownOutcomeError(TransientError):
    """The answer to a write never came: it may or may not have happened."""


class StaleError(SyncError):
    """The remote record moved under us: read it again, merge, push."""


class ExistsError(StaleError):
    """A create met a record that is already there; ``remote_id`` where the vendor names it."""

    def __init__(self, reason: str, *, remote_id: str | None = None) -> None:
        super().__init__(reason)
        self.remote_id = remote_id


class RejectedError(SyncError):
    """The CRM refuses this content; sending it again will not help."""


class HeldError(RejectedError):
    """A value has no place there. It goes by itself once it is mapped, or exists there."""


class NotFoundError(RejectedError):
    """The CRM does not show this record; that alone does not mean it was deleted."""


class AccountError(SyncError):
    """The credentials, plan or permissions of an account need a person."""


class DeliveryError(SyncError):
    """Something is wrong with a delivery as received."""


class BadSignatureError(DeliveryError):
    """The delivery is not authentic."""


class BadPayloadError(DeliveryError):
    """An authentic body that cannot be read; ``read`` are the events that could be."""

    def __init__(self, reason: str, *, read: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.read = tuple(read)


class UnsupportedEventError(DeliveryError):
    """An event nobody declared: kept, counted, replayable once a handler exists."""
