"""Notes, calls, e-mails, meetings and tasks: what happened on a lead, and what is to be done.

https://developer.close.com/api/resources/activities · https://developer.close.com/api/resources/tasks
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import orjson

from app.sdk import Raw, RejectedError, Write

NOTE, CALL, EMAIL, MEETING = (f"activity/{kind}" for kind in ("note", "call", "email", "meeting"))
TASK = "task"
#: The object type of an event -> the path of such records. Of the tasks only those that people
#: make: the others are reminders of Close's own (a missed call, a mail that came in).
TYPES: Mapping[str, str] = {
    **{type.replace("/", "."): type for type in (NOTE, CALL, EMAIL, MEETING)},
    "task.lead": TASK,
}
OBJECTS: Mapping[str, str] = {type: object for object, type in TYPES.items()}

#: Drafts, and calls that still go on: nothing to tell of yet.
_UNFINISHED = {EMAIL: ("draft", "scheduled", "outbox", "error"), CALL: ("created", "in-progress")}
#: What can be given to a new one and not be changed afterwards.
_AT_FIRST = {NOTE: frozenset({"user_id"}), CALL: frozenset({"direction"})}
#: … and what Close keeps of the calls that were made in it.
MADE_IN_CLOSE = frozenset({"status", "duration", "direction"})
_DEMANDED = {EMAIL: {"status": "sent"}, TASK: {"_type": "lead"}}
#: By what a new one is known again, if the answer to its creation was lost.
_SAME = {
    NOTE: ("note_html", "title", "activity_at"),
    CALL: ("note_html", "phone", "duration", "activity_at"),
    EMAIL: ("subject", "sender", "body_text", "activity_at"),
    TASK: ("text", "date"),
}
_TIMES = frozenset({"activity_at", "date"})
#: The event log keeps its events for 30 days.
LOG_KEPT = timedelta(days=29)


def is_unfinished(type: str, raw: Raw) -> bool:
    return raw.get("status") in _UNFINISHED.get(type, ())


def new(type: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a create, with what Close demands of one."""
    return {**_DEMANDED.get(type, {}), **body}


def changeable(type: str, body: dict[str, Any], *, source: str | None = None) -> dict[str, Any]:
    """What of a change Close can take; ``source`` says where a call was made."""
    kept = _AT_FIRST.get(type, frozenset())
    if source == "Close.io":
        kept |= MADE_IN_CLOSE
    return {name: value for name, value in body.items() if name not in kept}


def is_it(write: Write, row: Raw) -> bool:
    """Whether this is what the create would have made."""
    names = [name for name in _SAME[write.type] if name in write.fields]
    return bool(names) and all(_alike(name, write.fields[name], row.get(name)) for name in names)


def _alike(name: str, sent: Any, there: Any) -> bool:
    if name in _TIMES:
        return _instant(sent) == _instant(there)
    return _words(sent) == _words(there)


def _instant(value: Any) -> str:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    at = at.astimezone(UTC) if at.tzinfo else at
    return at.replace(microsecond=0, tzinfo=None).isoformat()


def _words(value: Any) -> str:
    """Without the marks and spaces that Close may set in another way."""
    return re.sub(r"<[^>]*>|\s", "", unescape(str(value))).casefold()


# ------------------------------------------------------------------------------- the event log


@dataclass(frozen=True, slots=True)
class LogCursor:
    """Where a reading of the event log stands; it lists by type and action.

    https://developer.close.com/api/resources/events/list
    """

    action: str = "created"
    cursor: str | None = None

    @classmethod
    def read(cls, text: str | None) -> LogCursor | None:
        """None if this is the cursor of another way to scan."""
        if text is None:
            return cls()
        try:
            data = orjson.loads(text)
            return cls(data["log"], data.get("cursor")) if "log" in data else None
        except (ValueError, TypeError, KeyError) as error:
            raise RejectedError("this is not a cursor of a Close scan") from error

    def write(self) -> str:
        return orjson.dumps({"log": self.action, "cursor": self.cursor}).decode()

    def after(self, following: str | None) -> LogCursor | None:
        if following:
            return LogCursor(self.action, following)
        return LogCursor("updated") if self.action == "created" else None

    def query(self, type: str, since: datetime) -> dict[str, Any]:
        """The filters; a cursor stands for the bound of time that it was begun with."""
        bound = (
            {"_cursor": self.cursor} if self.cursor else {"date_updated__gte": since.isoformat()}
        )
        return {"object_type": OBJECTS[type], "action": self.action, **bound}


def ids_in(rows: Sequence[Raw]) -> list[str]:
    return list(dict.fromkeys(row["object_id"] for row in rows if row.get("object_id")))
