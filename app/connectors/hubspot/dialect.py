"""How HubSpot words refusals and limits, of a call and of one row of a batch."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from app.sdk import (
    AccountError,
    Answer,
    Dialect,
    ExistsError,
    NotFoundError,
    Rate,
    Raw,
    Reason,
    RejectedError,
    StaleError,
    SyncError,
    TransientError,
    quoted,
    retry_after,
)


class HubSpotDialect(Dialect):
    """https://developers.hubspot.com/docs/api-reference/error-handling"""

    def explain(self, answer: Answer) -> Reason:
        return reason_of(answer.data) if isinstance(answer.data, dict) else super().explain(answer)

    def retry_at(self, answer: Answer, now: datetime) -> datetime:
        said = retry_after(answer, now)
        if said is not None:
            return now + timedelta(seconds=said)
        policy = _policy(answer)
        if policy == "DAILY":
            # It resets at midnight of a time zone we are not told: ask again each hour.
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            return min(midnight, now + timedelta(hours=1))
        ten = policy.startswith("TEN_SECOND")
        return now + timedelta(seconds=10 if ten else 1)

    def rate(self, answer: Answer) -> Rate:
        def number(name: str) -> int | None:
            text = answer.headers.get(f"x-hubspot-ratelimit-{name}", "")
            return int(text) if text.isdecimal() else None

        per = number("interval-milliseconds")
        spent = answer.status == 429 and _policy(answer) == "DAILY"
        return Rate(
            limit=number("max"),
            per=per / 1000 if per else None,
            remaining=number("remaining"),
            # Absent for OAuth apps, which have no daily limit.
            daily=number("daily"),
            daily_remaining=0 if spent else number("daily-remaining"),
        )


def _policy(answer: Answer) -> str:
    """Which limit a 429 speaks of."""
    return str(answer.data.get("policyName")) if isinstance(answer.data, dict) else ""


def reason_of(data: Raw) -> Reason:
    """A refusal, of a call or of one row of a batch."""
    text, inner = str(data.get("message") or data.get("error") or ""), data.get("errors") or ()
    details = [e for e in inner if isinstance(e, dict)]
    told = [str(e["message"]) for e in details if e.get("message") and e["message"] not in text]
    contexts = [c for e in (*details, data) if isinstance(c := e.get("context"), dict)]
    names = [n for c in contexts for key in ("propertyName", "name") for n in c.get(key) or ()]
    if not names and (found := re.search(r'"name"\s*:\s*"(\w+)"', text)):
        names = [found[1]]
    return Reason(
        "; ".join(part for part in (text, *told) if part), str(names[0]) if names else None
    )


def row_error(error: Raw) -> SyncError:
    """One row's refusal, sorted like a whole call's."""
    category, said = str(error.get("category") or ""), reason_of(error)
    text = f"HubSpot refused the row ({category or 'no category'}): {quoted(said.text)}"[:500]
    match category:
        case "OBJECT_NOT_FOUND":
            return NotFoundError(text, field=said.field)
        case "CONFLICT":
            return as_exists(StaleError(text, field=said.field))
        case "RATE_LIMITS" | "INTERNAL_ERROR" | "TIMEOUT" | "LOCKED":
            return TransientError(text)
        case "MISSING_SCOPES" | "BANNED" | "EXPIRED_AUTHENTICATION" | "INVALID_AUTHENTICATION":
            return AccountError(text)
        case _:
            return RejectedError(text, field=said.field)


def as_exists(error: SyncError) -> SyncError:
    """A conflict that names the record which is already there becomes ExistsError.

    The id is only in the text: https://github.com/HubSpot/hubspot-api-php/issues/59
    """
    found = re.search(r"Existing ID: (\d+)", error.reason)
    if found and isinstance(error, StaleError):
        return ExistsError(error.reason, remote_id=found[1])
    return error
