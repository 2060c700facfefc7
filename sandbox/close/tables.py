"""The organisation's records as the page shows them."""

from functools import partial

from sandbox.close.org import ACTIVITIES, Close
from sandbox.records import Record
from sandbox.wire import Json, Table


def tables(org: Close, most: int | None) -> dict[str, Table]:
    """Companies, people, deals, and what was done and is to be done about them."""
    found = {
        title: org.store.newest(type, most, partial(show, org)) for title, type, show in _SHOWN
    }
    # Most organisations here have no activities: an empty table would only be in the way.
    return {t: table for t, table in found.items() if table.count or t in _ALWAYS}


def _lead(org: Close, lead: Record) -> Json:
    status = org.lead_status(lead.get("status_id"))
    return {
        "name": lead.get("name"),
        "website": lead.get("url"),
        "status": status["label"] if status else None,
        "id": lead.id,
    }


def _contact(org: Close, contact: Record) -> Json:
    emails = contact.get("emails") or []
    return {
        "name": contact.get("name"),
        "e-mail": emails[0]["email"] if emails else None,
        "company": _lead_name(org, contact),
        "id": contact.id,
    }


def _deal(org: Close, deal: Record) -> Json:
    found = org.deal_status(deal.get("status_id"))
    value = deal.get("value")
    return {
        "name": deal.get("note") or _lead_name(org, deal),
        "stage": found[1]["label"] if found else None,
        "amount": f"{value / 100:,.2f}" if value is not None else None,
        "company": _lead_name(org, deal),
        "id": deal.id,
    }


def _activity(org: Close, activity: Record) -> Json:
    words = ("title", "subject", "note", "phone")
    return {
        "text": next((activity.get(name) for name in words if activity.get(name)), None),
        "by": org.user_name(activity.get("user_id")),
        "company": _lead_name(org, activity),
        "id": activity.id,
    }


def _task(org: Close, task: Record) -> Json:
    return {
        "text": task.get("text"),
        "date": task.get("date"),
        "company": _lead_name(org, task),
        "id": task.id,
    }


_ALWAYS = ("companies", "people", "deals")
_SHOWN = (
    ("companies", "lead", _lead),
    ("people", "contact", _contact),
    ("deals", "opportunity", _deal),
    *((f"{type.partition('.')[2]}s", type, _activity) for type in ACTIVITIES),
    ("tasks", "task.lead", _task),
    ("call tasks", "task.outgoing_call", _task),
)


def _lead_name(org: Close, record: Record) -> str | None:
    lead = org.store.get("lead", record.get("lead_id"))
    return lead.get("name") if lead else None
