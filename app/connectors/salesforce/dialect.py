"""How Salesforce words refusals and limits, of a call and of one row of a collection.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.connectors.salesforce.kinds import PREFIXES
from app.sdk import (
    AccountError,
    Answer,
    Dialect,
    ExistsError,
    NotFoundError,
    Rate,
    RateLimitedError,
    Raw,
    Reason,
    RejectedError,
    SyncError,
    TransientError,
    now,
    quoted,
)

#: The day's calls are counted over the last 24 hours: some come free again all the time.
DAY_IS_SPENT = timedelta(minutes=15)
#: Too many long calls at once: one of them ends soon.
TOO_MANY_AT_ONCE = timedelta(seconds=10)

#: What the codes ask for, whatever status they come with.
_SORTED: Mapping[str, type[SyncError]] = {
    **dict.fromkeys(("INVALID_SESSION_ID", "INVALID_AUTH_HEADER"), AccountError),
    "REQUEST_LIMIT_EXCEEDED": RateLimitedError,
    **dict.fromkeys(
        (
            *("UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION"),
            *("QUERY_TIMEOUT", "REQUEST_RUNNING_TOO_LONG"),
        ),
        TransientError,
    ),
    **dict.fromkeys(
        ("NOT_FOUND", "ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"), NotFoundError
    ),
    **dict.fromkeys(("API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"), AccountError),
    # What our user may not do to this record says nothing of the others.
    **dict.fromkeys(
        (
            *("INSUFFICIENT_ACCESS_OR_READONLY", "INSUFFICIENT_ACCESS"),
            "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        ),
        RejectedError,
    ),
}
#: What is to be made is there already, by the org's rules or by a unique field.
DUPLICATE = ("DUPLICATES_DETECTED", "DUPLICATE_VALUE")
_ID = re.compile(r"\b([a-zA-Z0-9]{18}|[a-zA-Z0-9]{15})\b")
_USED = re.compile(r"(?:^|[ ;,])(?:per-app-)?api-usage=(\d+)/(\d+)")


class SalesforceDialect(Dialect):
    """The body says more than the status: 400 and 403 may both be worth waiting for."""

    def is_signed_out(self, answer: Answer) -> bool:
        """The endpoints of OAuth say it with a 403 and a word of text."""
        over = answer.status == 403 and answer.data == "Bad_OAuth_Token"
        return over or super().is_signed_out(answer)

    def sort(self, answer: Answer) -> type[SyncError] | None:
        return _SORTED.get(code_of(next(iter(problems(answer.data)), {})))

    def explain(self, answer: Answer) -> Reason:
        found = problems(answer.data)
        return reason_of(found) if found else super().explain(answer)

    def retry_at(self, answer: Answer, now: datetime) -> datetime:
        words = " ".join(str(one.get("message")) for one in problems(answer.data))
        return now + (TOO_MANY_AT_ONCE if "concurrent" in words.lower() else DAY_IS_SPENT)

    def rate(self, answer: Answer) -> Rate:
        """https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_api_usage.htm"""
        told = _USED.findall(answer.headers.get("sforce-limit-info", ""))
        left = [(int(most) - int(used), int(most)) for used, most in told]
        if not left:
            return Rate()
        remaining, most = min(left)
        return Rate(daily=most, daily_remaining=max(0, remaining), rolling=True)


def problems(data: Any) -> list[Raw]:
    """The problems that a body names: a list of them, or one."""
    listed = data if isinstance(data, list) else [data]
    return [one for one in listed if isinstance(one, dict)]


def code_of(problem: Raw) -> str:
    """`errorCode` of a call, `statusCode` of a row."""
    code = str(problem.get("errorCode") or problem.get("statusCode") or "")
    # A lock may be hidden in what a trigger says.
    return "UNABLE_TO_LOCK_ROW" if "UNABLE_TO_LOCK_ROW" in str(problem.get("message")) else code


def reason_of(found: Iterable[Raw]) -> Reason:
    found = list(found)
    told = [f"{one.get('message') or ''} ({code_of(one) or 'no code'})" for one in found]
    fields = [str(name) for one in found for name in one.get("fields") or ()]
    return Reason("; ".join(told), fields[0] if fields else None)


def row_error(errors: Iterable[Any], made: str | None = None) -> SyncError:
    """One row's refusal, sorted like a whole call's; ``made`` is the object of a create."""
    found = [one for one in errors if isinstance(one, dict)]
    said = reason_of(found)
    why = quoted(said.text) if said.text else "without a reason"
    text = f"Salesforce refused the row: {why}"[:500]
    code = code_of(found[0]) if found else ""
    if made is not None and code in DUPLICATE:
        return _exists(found[0], text, PREFIXES.get(made, ""))
    kind = _SORTED.get(code, RejectedError)
    if kind is RateLimitedError:
        return RateLimitedError(now() + DAY_IS_SPENT, text)
    return kind(text, field=said.field)


def _exists(problem: Raw, text: str, prefix: str) -> SyncError:
    """A duplicate that is named is adopted; of several a person must choose.

    A rule may also find a lead: that is no contact, and cannot stand for one.
    """
    named = duplicates(problem)
    ids = [id for id in named if id.startswith(prefix)]
    if len(ids) == 1:
        return ExistsError(text, remote_id=ids[0])
    shown = f" ({', '.join(named)})" if named else ""
    return RejectedError(
        f"a duplicate rule of Salesforce takes it for records that are there{shown}: merge or "
        f"convert them there, or link one by hand; {text}"[:500]
    )


def duplicates(problem: Raw) -> list[str]:
    """The ids of what is there already.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_duplicaterules.htm
    """
    if code_of(problem) == "DUPLICATE_VALUE":
        # Only the text names it: `duplicate value found: … on record with id: 001…`
        _, _, rest = str(problem.get("message")).partition("record with id:")
        return [whole(found[1])] if (found := _ID.search(rest)) else []
    result = problem.get("duplicateResult") or {}
    if not isinstance(result, dict):
        return []
    records = [
        match.get("record") or {}
        for rule in result.get("matchResults") or ()
        for match in rule.get("matchRecords") or ()
    ]
    return list(dict.fromkeys(whole(str(one["Id"])) for one in records if one.get("Id")))


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def whole(id: str) -> str:
    """An id in its 18 letters, the last three of which tell which ones are capitals.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/field_types.htm
    """
    if len(id) != 15:
        return id
    parts = (id[n : n + 5] for n in (0, 5, 10))
    return id + "".join(
        _LETTERS[sum(1 << n for n, letter in enumerate(part) if "A" <= letter <= "Z")]
        for part in parts
    )
