"""How records look in Close's answers and events."""

from sandbox.close import defaults
from sandbox.close.ids import rest_time
from sandbox.close.org import Close
from sandbox.records import Record
from sandbox.wire import Json

_SUFFIX = {"monthly": " monthly", "annual": " annually"}


def shape(org: Close, record: Record) -> Json:
    """A record as REST answers show it; a lead embeds its contacts and opportunities."""
    if record.type != "lead":
        return snapshot(org, record)
    return {
        **snapshot(org, record),
        "contacts": [snapshot(org, child) for child in org.of_lead("contact", record.id)],
        "opportunities": [snapshot(org, deal) for deal in org.of_lead("opportunity", record.id)],
        "tasks": [],
    }


def snapshot(org: Close, record: Record) -> Json:
    """A record as events show it: a lead names its contacts by id only."""
    body = {"lead": _lead, "contact": _contact, "opportunity": _opportunity}[record.type]
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
        "date_won": deal.get("date_won"),
        "date_lost": deal.get("date_lost"),
        "integration_links": [],
    }


def _dollars(value: int) -> str:
    """`100000` cents as `$1,000`; cents show only when there are some."""
    whole, rest = divmod(abs(value), 100)
    return f"{'-' if value < 0 else ''}${whole:,}" + (f".{rest:02}" if rest else "")
