"""The event log read for what webhooks did not tell.

https://developer.close.com/api/resources/events/list
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from app.sdk import Manifest, RejectedError

#: Events consolidate: for some minutes an event grows and gets another date_updated.
REREAD = timedelta(minutes=5)


def logged_events(manifest: Manifest, entity: str) -> list[dict[str, str]]:
    """The filters that together list every event of an entity: it is listed by type and action.

    Who left comes first: what is then told of their creation is not believed.
    """
    found = [
        dict(zip(("object_type", "action"), event.rsplit(".", 1), strict=True))
        for event, of in sorted(manifest.webhook.events.items())
        if of == entity
    ]
    return sorted(found, key=lambda one: one["action"] not in ("deleted", "merged"))


@dataclass(frozen=True, slots=True)
class TrailCursor:
    """Which of the filters is being read, and where in its list; newest first."""

    number: int = 0
    cursor: str | None = None

    @classmethod
    def read(cls, text: str | None) -> TrailCursor:
        if text is None:
            return cls()
        try:
            data = orjson.loads(text)
            return cls(int(data["number"]), data["cursor"])
        except (ValueError, TypeError, KeyError) as error:
            raise RejectedError("this is not a cursor of Close's event log") from error

    def write(self) -> str:
        return orjson.dumps({"number": self.number, "cursor": self.cursor}).decode()

    def bound(self, since: datetime) -> dict[str, Any]:
        """A cursor stands for the bound of time that it was begun with."""
        return {"_cursor": self.cursor} if self.cursor else {"date_updated__gte": since.isoformat()}

    def after(self, following: str | None, filters: int) -> TrailCursor | None:
        if following:
            return TrailCursor(self.number, following)
        return TrailCursor(self.number + 1) if self.number + 1 < filters else None
