"""Notes, calls, e-mails, meetings and tasks: objects like the others, with less of everything.

https://developers.hubspot.com/docs/api-reference/legacy/crm/activities/notes/guide (and calls,
emails, meetings, tasks)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any

from app.sdk import Raw, Write

NOTES, CALLS, EMAILS, MEETINGS, TASKS = "notes", "calls", "emails", "meetings", "tasks"
#: The word of an event -> our remote type, and the id that generic events give it.
OBJECTS: Mapping[str, str] = {
    "note": NOTES,
    "call": CALLS,
    "email": EMAILS,
    "meeting": MEETINGS,
    "task": TASKS,
}
TYPE_IDS: Mapping[str, str] = {
    "0-46": "note",
    "0-48": "call",
    "0-49": "email",
    "0-47": "meeting",
    "0-27": "task",
}
TYPES = frozenset(OBJECTS.values())
#: Association types from an activity to a company, a contact and a deal:
#: https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
LINKS: Mapping[str, tuple[int, int, int]] = {
    NOTES: (190, 202, 214),
    CALLS: (182, 194, 206),
    EMAILS: (186, 198, 210),
    MEETINGS: (188, 200, 212),
    TASKS: (192, 204, 216),
}
CREATED = "hs_createdate"
#: By what a new one is known again, if the answer to its creation was lost.
_SAME: Mapping[str, tuple[str, ...]] = {
    NOTES: ("hs_note_body",),
    CALLS: ("hs_call_title", "hs_call_body", "hs_call_duration"),
    EMAILS: ("hs_email_subject", "hs_email_direction"),
    MEETINGS: ("hs_meeting_title", "hs_meeting_body"),
    TASKS: ("hs_task_subject", "hs_task_body"),
}
TIME = "hs_timestamp"


def completed(type: str, properties: dict[str, str], at: datetime) -> dict[str, str]:
    """With what HubSpot demands of a new one: placeholders, never data of ours."""
    if type not in TYPES:
        return properties
    demanded = {TIME: at.isoformat()}
    if type == EMAILS:
        demanded["hs_email_direction"] = "EMAIL"
    return {**demanded, **properties}


def is_it(write: Write, row: Raw) -> bool:
    """Whether this is what the create would have made."""
    names = [name for name in _SAME[write.type] if name in write.fields]
    if TIME in write.fields and _instant(write.fields[TIME]) != _instant(row.get(TIME)):
        return False
    return bool(names or TIME in write.fields) and all(
        _words(write.fields[name]) == _words(row.get(name)) for name in names
    )


def _instant(value: Any) -> int | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _words(value: Any) -> str:
    """Without the marks and spaces that an editor may set in another way."""
    return re.sub(r"<[^>]*>|\s", "", unescape(str(value or ""))).casefold()
