"""How records look in Close's answers and events."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sandbox.close import defaults
from sandbox.close.ids import rest_time
from sandbox.close.org import TASKS, Close
from sandbox.close.richtext import plain
from sandbox.records import Record
from sandbox.wire import Json

_SUFFIX = {"monthly": " monthly", "annual": " annually"}


def shape(org: Close, record: Record) -> Json:
    """A record as REST answers show it; a lead embeds its contacts, deals and open tasks."""
    if record.type != "lead":
        return snapshot(org, record)
    return {
        **snapshot(org, record),
        "contacts": [snapshot(org, child) for child in org.of_lead("contact", record.id)],
        "opportunities": [snapshot(org, deal) for deal in org.of_lead("opportunity", record.id)],
        "tasks": [
            snapshot(org, task)
            for type in TASKS
            for task in org.of_lead(type, record.id)
            if not task.get("is_complete")
        ],
    }


def snapshot(org: Close, record: Record) -> Json:
    """A record as events show it: a lead names its contacts by id only."""
    body = _BODIES[record.type]
    return {
        "id": record.id,
        "organization_id": defaults.ORGANIZATION,
        **body(org, record),
        **{name: value for name, value in record.fields.items() if name.startswith("custom.")},
        "created_by": record.get("created_by"),
        "updated_by": record.get("updated_by"),
        "date_created": rest_time(record.created),
        "date_updated": rest_time(record.updated),
    }


def _lead(org: Close, lead: Record) -> Json:
    status = org.lead_status(lead.get("status_id"))
    contacts = list(org.of_lead("contact", lead.id))
    name = lead.get("name")
    return {
        "name": name or "",
        "display_name": name or (contacts[0].get("name") if contacts else None) or "Untitled",
        "description": lead.get("description") or "",
        "url": lead.get("url"),
        "source": lead.get("source"),
        "status_id": lead.get("status_id"),
        "status_label": status["label"] if status else None,
        "addresses": lead.get("addresses") or [],
        "contact_ids": [contact.id for contact in contacts],
        "html_url": f"https://app.close.com/lead/{lead.id}/",
        "created_by_name": org.user_name(lead.get("created_by")),
        "updated_by_name": org.user_name(lead.get("updated_by")),
        "integration_links": [],
    }


def _contact(org: Close, contact: Record) -> Json:
    emails = contact.get("emails") or []
    name = contact.get("name")
    return {
        "lead_id": contact.get("lead_id"),
        "name": name or "",
        "display_name": name or (emails[0]["email"] if emails else "Untitled"),
        "title": contact.get("title") or "",
        "emails": emails,
        "phones": contact.get("phones") or [],
        "urls": contact.get("urls") or [],
        "integration_links": [],
    }


def _opportunity(org: Close, deal: Record) -> Json:
    pipeline, status = org.deal_status(deal.get("status_id")) or ({}, {})
    value, period = deal.get("value"), deal.get("value_period") or "one_time"
    confidence = deal.get("confidence") or 0
    yearly = value * 12 if value is not None and period == "monthly" else value
    lead = org.store.get("lead", deal.get("lead_id"))
    contact = org.store.get("contact", deal.get("contact_id") or "")
    return {
        "lead_id": deal.get("lead_id"),
        "lead_name": lead.get("name") if lead else None,
        "contact_id": deal.get("contact_id"),
        "contact_name": contact.get("name") if contact else None,
        "user_id": deal.get("user_id"),
        "user_name": org.user_name(deal.get("user_id")),
        "pipeline_id": pipeline.get("id"),
        "pipeline_name": pipeline.get("name"),
        "status_id": deal.get("status_id"),
        "status_label": status.get("label"),
        "status_type": status.get("status_type"),
        "value": value,
        "value_period": period,
        "value_currency": "USD",
        "value_formatted": None if value is None else _dollars(value) + _SUFFIX.get(period, ""),
        "annualized_value": yearly,
        "expected_value": None if value is None else value * confidence // 100,
        "annualized_expected_value": None if yearly is None else yearly * confidence // 100,
        "confidence": confidence,
        "note": deal.get("note") or "",
        "note_html": deal.get("note_html"),
        "date_won": deal.get("date_won"),
        "date_lost": deal.get("date_lost"),
        "integration_links": [],
    }


def _activity(org: Close, activity: Record, **more: Any) -> Json:
    """What all kinds of activities show."""
    user = activity.get("user_id")
    return {
        "_type": activity.type.partition(".")[2].capitalize(),
        "lead_id": activity.get("lead_id"),
        "contact_id": activity.get("contact_id"),
        "user_id": user,
        "user_name": org.user_name(user),
        "users": [user] if user else [],
        "created_by_name": org.user_name(activity.get("created_by")),
        "updated_by_name": org.user_name(activity.get("updated_by")),
        "activity_at": activity.get("activity_at") or rest_time(activity.created),
        **more,
    }


def _note(org: Close, note: Record) -> Json:
    return _activity(
        org,
        note,
        title=note.get("title"),
        note=note.get("note") or "",
        note_html=note.get("note_html"),
        pinned=bool(note.get("pinned")),
        attachments=note.get("attachments") or [],
    )


def _call(org: Close, call: Record) -> Json:
    return _activity(
        org,
        call,
        direction=call.get("direction") or "outbound",
        status=call.get("status"),
        disposition=call.get("disposition"),
        duration=call.get("duration") or 0,
        phone=call.get("phone"),
        phone_formatted=call.get("phone"),
        note=call.get("note") or "",
        note_html=call.get("note_html"),
        recording_url=call.get("recording_url"),
        voicemail_url=call.get("voicemail_url"),
        source=call.get("source"),
        outcome_id=None,
        cost=None,
    )


def _email(org: Close, email: Record) -> Json:
    status = email.get("status")
    went = status in ("inbox", "sent")
    html, words = email.get("body_html") or "", email.get("body_text")
    words = plain(html) if words is None else words
    return _activity(
        org,
        email,
        status=status,
        direction="incoming" if status == "inbox" else "outgoing",
        subject=email.get("subject") or "",
        body_text=words,
        body_html=html,
        body_preview=words[:200],
        sender=email.get("sender"),
        **{name: email.get(name) or [] for name in ("to", "cc", "bcc", "attachments")},
        **{name: [] for name in ("opens", "message_ids", "references")},
        date_scheduled=email.get("date_scheduled"),
        date_sent=email.get("activity_at") or rest_time(email.created) if went else None,
        thread_id=email.get("thread_id"),
        in_reply_to_id=email.get("in_reply_to_id"),
        **dict.fromkeys(("bulk_email_action_id", "followup_sequence_delay", "opens_summary")),
        **dict.fromkeys(("send_as_id", "template_id")),
        **dict.fromkeys(("has_reply", "need_smtp_credentials"), False),
        followup_sequence_add_cc_bcc=False,
    )


def _meeting(org: Close, meeting: Record) -> Json:
    starts, ends = meeting.get("starts_at"), meeting.get("ends_at")
    length = datetime.fromisoformat(ends) - datetime.fromisoformat(starts)
    html = meeting.get("user_note_html")
    return _activity(
        org,
        meeting,
        title=meeting.get("title") or "",
        status=meeting.get("status"),
        starts_at=starts,
        ends_at=ends,
        activity_at=starts,
        duration=int(length.total_seconds()),
        location=meeting.get("location"),
        attendees=meeting.get("attendees") or [],
        user_note_html=html,
        note="" if html is None else plain(html),
        is_recurring=False,
        outcome_id=None,
    )


def _merge(org: Close, merge: Record) -> Json:
    names = ("source_lead_id", "destination_lead_id", "status")
    return _activity(org, merge, _type="LeadMerge", **{n: merge.get(n) for n in names})


def _task(org: Close, task: Record) -> Json:
    lead = org.store.get("lead", task.get("lead_id"))
    contact = org.store.get("contact", task.get("contact_id") or "")
    date, done = task.get("date"), bool(task.get("is_complete"))
    return {
        "_type": task.type.partition(".")[2],
        "lead_id": task.get("lead_id"),
        "lead_name": lead.get("name") if lead else None,
        "contact_id": task.get("contact_id"),
        "contact_name": contact.get("name") if contact else None,
        "assigned_to": task.get("assigned_to"),
        "assigned_to_name": org.user_name(task.get("assigned_to")),
        "created_by_name": org.user_name(task.get("created_by")),
        "updated_by_name": org.user_name(task.get("updated_by")),
        "text": task.get("text") or "",
        "date": date,
        "due_date": date,
        "is_dateless": date is None,
        "is_complete": done,
        "priority": task.get("priority"),
        "view": "archive" if done else None,
        "object_type": None,
        "object_id": None,
    }


_BODIES: dict[str, Callable[[Close, Record], Json]] = {
    "lead": _lead,
    "contact": _contact,
    "opportunity": _opportunity,
    "activity.note": _note,
    "activity.call": _call,
    "activity.email": _email,
    "activity.meeting": _meeting,
    "lead_merge": _merge,
    **dict.fromkeys(TASKS, _task),
}


def _dollars(value: int) -> str:
    """`100000` cents as `$1,000`; cents show only when there are some."""
    whole, rest = divmod(abs(value), 100)
    return f"{'-' if value < 0 else ''}${whole:,}" + (f".{rest:02}" if rest else "")
