"""What HubSpot works out itself: the read-only properties of a record.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide and the guides of
the activities at https://developers.hubspot.com/docs/api-reference/legacy/crm/activities
"""

import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING

import orjson

from sandbox.records import Record
from sandbox.wire import Json

if TYPE_CHECKING:
    from sandbox.hubspot.portal import Portal

_BODIES = {
    "note": "hs_note_body",
    "call": "hs_call_body",
    "meeting": "hs_meeting_body",
    "task": "hs_task_body",
    "email": "hs_email_html",
}


def derived(portal: "Portal", record: Record) -> Json:
    """The properties that follow from the others; None where they follow to nothing."""
    values: Json = {}
    if name := _BODIES.get(record.type):
        values["hs_body_preview"] = _preview(record.get(name))
    if derive := _OF_TYPE.get(record.type):
        values |= derive(portal, record)
    return values


def _deal(portal: "Portal", deal: Record) -> Json:
    found = portal.stage("deal", deal.get("dealstage"))
    if not found:
        return {}
    chance = found[1]["metadata"].get("probability", "0.5")
    return {
        "hs_deal_stage_probability": chance,
        "hs_is_closed": str(float(chance) in (0.0, 1.0)).lower(),
        "hs_is_closed_won": str(float(chance) == 1.0).lower(),
    }


def _task(portal: "Portal", task: Record) -> Json:
    done = task.get("hs_task_status") == "COMPLETED"
    since = task.history["hs_task_status"][-1].at if done else None
    return {
        "hs_task_is_completed": "1" if done else "0",
        "hs_task_completion_date": since.isoformat()[:19] + "Z" if since else None,
    }


def _email(portal: "Portal", email: Record) -> Json:
    """Sender and receivers stand in the headers, a text of JSON."""
    headers = orjson.loads(email.get("hs_email_headers") or "{}")
    sender = headers.get("from") or {}
    values = {
        "hs_email_from_email": sender.get("email"),
        "hs_email_from_firstname": sender.get("firstName"),
        "hs_email_from_lastname": sender.get("lastName"),
    }
    for end in ("to", "cc", "bcc"):
        people = [person.get("email") for person in headers.get(end) or []]
        values[f"hs_email_{end}_email"] = ";".join(filter(None, people)) or None
    return values


_OF_TYPE: dict[str, Callable[["Portal", Record], Json]] = {
    "deal": _deal,
    "task": _task,
    "email": _email,
}


def _preview(html: str | None) -> str | None:
    text = unescape(re.sub(r"<[^>]*>", " ", html or ""))
    return " ".join(text.split())[:300] or None
