"""What may be written to an activity or a task, kind by kind.

https://developer.close.com/api/resources/activities and https://developer.close.com/api/resources/tasks
"""

import re
from typing import Any

from sandbox.close.checks import FIELDS, Check, day, moment, text
from sandbox.close.org import TASKS, Close, invalid
from sandbox.close.richtext import clean, plain, rich
from sandbox.wire import Json

CALL_STATUSES = (
    *("created", "in-progress", "completed", "cancel", "no-answer", "busy", "failed", "timeout"),
)
DISPOSITIONS = (
    *("answered", "no-answer", "vm-answer", "vm-left", "busy", "blocked", "error", "abandoned"),
)
EMAIL_STATUSES = ("inbox", "draft", "scheduled", "outbox", "sent", "error")
# Who sent it must be known, except for drafts and what was sent long ago.
FROM_SOMEONE = ("inbox", "scheduled", "outbox", "error")
MEETING_STATUSES = (
    *("upcoming", "in-progress", "completed", "canceled", "declined-by-lead", "declined-by-org"),
)
_E164 = re.compile(r"\+\d{6,15}\Z")
_ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s.<>]+")


def one_of(*values: str) -> Check:
    def check(value: Any) -> str:
        if value not in values:
            raise ValueError(f"Must be one of {', '.join(values)}.")
        return str(value)

    return check


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("Expected a boolean.")
    return value


def seconds(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("Expected a number of seconds.")
    return value


def phone(value: Any) -> str:
    if not _E164.match(text(value)):
        raise ValueError("Invalid phone number.")
    return str(value)


def https(value: Any) -> str:
    if not text(value).startswith("https://"):
        raise ValueError("Must be an HTTPS URL.")
    return str(value)


def sender(value: Any) -> str:
    """An address, alone or behind a name: `"Ada" <ada@a.example>`."""
    if not _ADDRESS.search(text(value)):
        raise ValueError("Invalid email address.")
    return str(value)


def receivers(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("Expected a list.")
    return [sender(item) for item in value]


def due(value: Any) -> str:
    """A task's date: a day, or a moment."""
    return day(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", text(value)) else moment(value)


def attachments(value: Any) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("Expected a list.")
    return value


_COMMON: dict[str, Check] = {
    "lead_id": text,
    "contact_id": text,
    "user_id": text,
    "created_by": text,
    "date_created": moment,
    "activity_at": moment,
}
_TEXTS: dict[str, Check] = {"note": text, "note_html": clean}
_TASK: dict[str, Check] = {
    "_type": one_of("lead", "outgoing_call"),
    "lead_id": text,
    "contact_id": text,
    "assigned_to": text,
    "text": text,
    "date": due,
    "due_date": due,
    "is_complete": flag,
    "is_dateless": flag,
    "priority": one_of("high", "medium"),
}

FIELDS |= {
    "activity.note": {
        **_COMMON,
        **_TEXTS,
        "title": text,
        "pinned": flag,
        "attachments": attachments,
    },
    "activity.call": {
        **_COMMON,
        **_TEXTS,
        "direction": one_of("inbound", "outbound"),
        "duration": seconds,
        "phone": phone,
        "status": one_of(*CALL_STATUSES),
        "disposition": one_of(*DISPOSITIONS),
        "recording_url": https,
        "voicemail_url": https,
        "source": one_of("Close.io", "External"),
    },
    "activity.email": {
        **_COMMON,
        "status": one_of(*EMAIL_STATUSES),
        "subject": text,
        "body_text": text,
        "body_html": text,
        "sender": sender,
        "to": receivers,
        "cc": receivers,
        "bcc": receivers,
        "date_scheduled": moment,
        "in_reply_to_id": text,
        "attachments": attachments,
    },
    "activity.meeting": {
        **_COMMON,
        "title": text,
        "starts_at": moment,
        "ends_at": moment,
        "location": text,
        "status": one_of(*MEETING_STATUSES),
        "attendees": attachments,
        "user_note_html": clean,
    },
    **dict.fromkeys(TASKS, _TASK),
}

# What the API takes when a record is made and never again.
_AT_FIRST = {
    "activity.note": {"lead_id", "user_id", "created_by", "date_created"},
    "activity.call": {"created_by", "date_created", "source"},
    "activity.email": {"lead_id", "created_by", "date_created"},
    # A meeting follows its calendar.
    "activity.meeting": set(FIELDS["activity.meeting"]) - {"user_note_html", "contact_id"},
    **{type: {"_type"} for type in TASKS},
}


def fixed(type: str, values: Json, current: Json) -> None:
    """400 if a change touches what stays as it was made."""
    touched = [n for n in values if n in _AT_FIRST[type] and values[n] != current.get(n)]
    if type == "activity.call" and current.get("source") == "Close.io":
        made = ("status", "duration", "direction")
        touched += [n for n in made if n in values and values[n] != current.get(n)]
    if touched:
        raise invalid(dict.fromkeys(touched, "This field cannot be changed."))


def both_texts(values: Json) -> Json:
    """A note in both forms: the rich one wins, and each overwrites the other."""
    if values.get("note_html") is not None:
        return {**values, "note": plain(values["note_html"])}
    if "note" in values or "note_html" in values:
        words = values.get("note")
        return {**values, "note": words, "note_html": None if words is None else rich(words)}
    return values


def referred(org: Close, values: Json, current: Json) -> None:
    """400 unless lead, contact and users that are named exist and belong together."""
    problems: Json = {}
    lead_id = values.get("lead_id") or current.get("lead_id")
    if values.get("lead_id") and not org.store.get("lead", values["lead_id"]):
        problems["lead_id"] = "Object does not exist."
    contact = values.get("contact_id")
    if contact and contact not in {c.id for c in org.of_lead("contact", lead_id or "")}:
        problems["contact_id"] = "Not a contact of this lead."
    for name in ("user_id", "assigned_to", "created_by"):
        if values.get(name) and not org.can_own(values[name], current.get(name)):
            problems[name] = "Unknown user."
    if problems:
        raise invalid(problems)


def required(values: Json, *names: str) -> None:
    if lacking := [name for name in names if values.get(name) is None]:
        raise invalid(dict.fromkeys(lacking, "This field is required."))
