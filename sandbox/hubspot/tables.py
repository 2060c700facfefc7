"""The portals' records as the page shows them."""

from functools import partial

from sandbox.hubspot.app import HubSpot
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import ACTIVITIES, TYPES
from sandbox.records import Record
from sandbox.wire import Json, Table


def tables(app: HubSpot, most: int | None) -> dict[str, Table]:
    """Companies, people, deals, tickets and activities; of each portal if there are several."""
    found = {}
    for id, portal in app.portals.items():
        suffix = f" of portal {id}" if len(app.portals) > 1 else ""
        for title, type, show in _SHOWN:
            table = portal.store.newest(type, most, partial(show, portal))
            if table.count or title in _ALWAYS:
                found[title + suffix] = table
    return found


def _company(portal: Portal, company: Record) -> Json:
    return {
        "name": company.get("name"),
        "domain": company.get("domain"),
        "id": company.id,
    }


def _contact(portal: Portal, contact: Record) -> Json:
    names = (contact.get("firstname"), contact.get("lastname"))
    return {
        "name": " ".join(name for name in names if name),
        "e-mail": contact.get("email"),
        "company": _company_name(portal, contact),
        "id": contact.id,
    }


def _deal(portal: Portal, deal: Record) -> Json:
    found = portal.stage("deal", deal.get("dealstage"))
    return {
        "name": deal.get("dealname"),
        "stage": found[1]["label"] if found else None,
        "amount": deal.get("amount"),
        "company": _company_name(portal, deal),
        "id": deal.id,
    }


def _ticket(portal: Portal, ticket: Record) -> Json:
    found = portal.stage("ticket", ticket.get("hs_pipeline_stage"))
    return {
        "subject": ticket.get("subject"),
        "stage": found[1]["label"] if found else None,
        "priority": ticket.get("hs_ticket_priority"),
        "company": _company_name(portal, ticket),
        "id": ticket.id,
    }


def _activity(portal: Portal, activity: Record) -> Json:
    words = ("hs_call_title", "hs_email_subject", "hs_meeting_title", "hs_task_subject")
    names = (*words, "hs_body_preview")
    return {
        "text": next((activity.get(name) for name in names if activity.get(name)), None),
        "at": activity.get("hs_timestamp"),
        "company": _company_name(portal, activity),
        "id": activity.id,
    }


_ALWAYS = ("companies", "people", "deals")
_SHOWN = (
    ("companies", "company", _company),
    ("people", "contact", _contact),
    ("deals", "deal", _deal),
    ("tickets", "ticket", _ticket),
    *((TYPES[name].plural, name, _activity) for name in ACTIVITIES),
)


def _company_name(portal: Portal, record: Record) -> str | None:
    """The primary associated company, else the first."""
    linked = portal.links.get(f"{record.type}:{record.id}", {})
    ends = [(types, end) for end, types in linked.items() if end.startswith("company:")]
    for _, end in sorted(ends, key=lambda pair: not {1, 5, 26} & set(pair[0])):
        if company := portal.store.get("company", end.partition(":")[2]):
            return str(company.get("name") or company.get("domain"))
    return None
