"""What went wrong, in the words and the shape that a person reads in a dead letter."""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app import clock
from app.domain.values import NOTHING
from app.domain.verdict import Verdict, verdict
from app.errors import (
    AccountError,
    BadPayloadError,
    HeldError,
    NotFoundError,
    RejectedError,
    SyncError,
    UnsupportedEventError,
    quoted,
)

#: Characters of a value that a dead letter shows.
LONGEST = 200

_NEXT_STEP = {
    HeldError: "map it in the configuration or add it there; it then goes by itself",
    NotFoundError: "check that the record still exists there and that we may see it; then replay",
    RejectedError: "correct the value in either system, or change the mapping or the field there; "
    "it then goes by itself, or replay it",
    AccountError: "mend the credentials or permissions; the account resumes by itself",
    BadPayloadError: "look at the body; replay it when the connector can read it",
    UnsupportedEventError: "write a handler for this event, or unsubscribe from it; then replay",
}


def describe(
    error: Exception, *, record: str | None = None, sent: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """An error as a dead letter shows it: cause, reason, record, field, value, next step.

    ``sent`` is what was written: it tells the value where the vendor names only the field.
    """
    name = type(error).__name__
    known = isinstance(error, SyncError)
    found_field = error.field if isinstance(error, SyncError) else None
    value = error.value if isinstance(error, SyncError) else None
    if value is None and found_field is not None and found_field in sent:
        value = str(sent[found_field])
    content: dict[str, Any] = {
        "class": name,
        "cause": f"{name}: {found_field or _alike(str(error) if known else quoted(str(error)))}",
        "at": clock.now().isoformat(),
        "reason": str(error)[:500] or name,
        "record": record,
        "field": found_field,
        "value": value if value is None or len(value) <= LONGEST else f"{value[:LONGEST]}…",
        "next_step": next(
            (step for kind, step in _NEXT_STEP.items() if isinstance(error, kind)),
            "it is tried again by itself" if known else "this is a bug: report the traceback",
        ),
    }
    if not known:
        content["traceback"] = "".join(traceback.format_exception(error))[-4000:]
    return content


def _alike(text: str) -> str:
    """The text without what differs from record to record: paths, ids, numbers, quoted values."""
    text = re.sub(r"^[A-Z]+ /\S* answered (\d{3})", r"\1", text)
    status, said = (text[:3], text[3:]) if re.match(r"\d{3}\b", text) else ("", text)
    said = re.sub(r"\"[^\"]*\"|'[^']*'|\S*\d\S*", "…", said)
    return (status + said)[:80]


def judge(error: Exception, attempts: int, now: datetime) -> Verdict:
    """The verdict with the jitter that keeps retries from marching in step."""
    return verdict(error, attempts, now, jitter=random.uniform(0.5, 1.5))  # noqa: S311


class LanePaused(Exception):
    """The whole lane must wait; what was not settled is still waiting as it was."""

    def __init__(self, cause: SyncError) -> None:
        super().__init__(str(cause))
        self.cause = cause
