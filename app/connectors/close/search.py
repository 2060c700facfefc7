"""The query language of the search, and where a scan stands.

https://developer.close.com/api/resources/advanced-filtering
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from app.connectors.close.shapes import COMPANY, PERSON
from app.sdk import Raw, RejectedError

#: Our clock and theirs may differ this much when a lost create is looked for.
SKEW = timedelta(seconds=60)


def field_of(type: str, name: str) -> Raw:
    return {"type": "regular_field", "object_type": type, "field_name": name}


def text_is(type: str, name: str, value: str) -> Raw:
    return {
        "type": "field_condition",
        "field": field_of(type, name),
        "condition": {"type": "text", "mode": "phrase", "value": value},
    }


def email_is(value: str) -> Raw:
    return {
        "type": "has_related",
        "this_object_type": PERSON,
        "related_object_type": "contact_email",
        "related_query": text_is("contact_email", "email", value),
    }


def domain_is(value: str) -> Raw:
    return text_is(COMPANY, "url", value)


def custom_is(id: str, value: str) -> Raw:
    return {
        "type": "field_condition",
        "field": {"type": "custom_field", "custom_field_id": id},
        "condition": {"type": "text", "mode": "phrase", "value": value},
    }


def at_or_after(type: str, field: str, at: datetime) -> Raw:
    return {
        "type": "field_condition",
        "field": field_of(type, field),
        "condition": {
            "type": "moment_range",
            "on_or_after": {"type": "fixed_utc", "value": at.astimezone(UTC).isoformat()},
            "before": None,
        },
    }


def any_of(queries: Sequence[Raw]) -> Raw:
    return {"type": "or", "queries": list(queries)}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a scan stands: an offset with the last id before it, or a window of time."""

    skip: int = 0
    last: str | None = None
    window: datetime | None = None
    updated: bool = False
    seen: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str | None, since: datetime | None) -> Cursor:
        if text is None:
            return cls(window=since - SKEW, updated=True) if since else cls()
        try:
            data = orjson.loads(text)
            window = data.get("window")
            return cls(
                int(data.get("skip", 0)),
                data.get("last"),
                datetime.fromisoformat(window) if window else None,
                bool(data.get("updated")),
                frozenset(data.get("seen") or ()),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise RejectedError("this is not a cursor of a Close scan") from error

    def write(self) -> str:
        if self.window is None:
            return orjson.dumps({"skip": self.skip, "last": self.last}).decode()
        return orjson.dumps(
            {
                "window": self.window.isoformat(),
                "updated": self.updated,
                "seen": sorted(self.seen),
            }
        ).decode()
