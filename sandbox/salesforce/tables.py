"""The organisation's records as the page shows them."""

from functools import partial

from sandbox.records import Record
from sandbox.salesforce.org import Salesforce
from sandbox.wire import Json, Table


def tables(org: Salesforce, most: int | None) -> dict[str, Table]:
    """Companies, people, deals, and what else there is."""
    found = {
        title: org.store.newest(type, most, partial(show, org)) for title, type, show in _SHOWN
    }
    return {title: table for title, table in found.items() if table.count or title in _ALWAYS}


def _account(org: Salesforce, account: Record) -> Json:
    return {
        "name": account.get("Name"),
        "website": account.get("Website"),
        "id": account.id,
    }


def _contact(org: Salesforce, contact: Record) -> Json:
    return {
        "name": contact.get("Name"),
        "e-mail": contact.get("Email"),
        "company": _account_name(org, contact),
        "id": contact.id,
    }


def _lead(org: Salesforce, lead: Record) -> Json:
    return {
        "name": lead.get("Name"),
        "e-mail": lead.get("Email"),
        "company": lead.get("Company"),
        "status": lead.get("Status"),
        "id": lead.id,
    }


def _deal(org: Salesforce, deal: Record) -> Json:
    amount = deal.get("Amount")
    return {
        "name": deal.get("Name"),
        "stage": deal.get("StageName"),
        "amount": f"{amount:,.2f}" if amount is not None else None,
        "company": _account_name(org, deal),
        "id": deal.id,
    }


def _case(org: Salesforce, case: Record) -> Json:
    return {
        "subject": case.get("Subject"),
        "status": case.get("Status"),
        "company": _account_name(org, case),
        "id": case.id,
    }


def _activity(org: Salesforce, activity: Record) -> Json:
    return {
        "text": activity.get("Subject") or activity.get("Title") or activity.get("Description"),
        "at": activity.get("StartDateTime") or activity.get("ActivityDate"),
        "company": _account_name(org, activity),
        "id": activity.id,
    }


def _account_name(org: Salesforce, record: Record) -> str | None:
    account = org.store.find("Account", record.get("AccountId") or "")
    name: str | None = account.get("Name") if account else None
    return name


_ALWAYS = ("companies", "people", "deals")
_SHOWN = (
    ("companies", "Account", _account),
    ("people", "Contact", _contact),
    ("leads", "Lead", _lead),
    ("deals", "Opportunity", _deal),
    ("tickets", "Case", _case),
    ("tasks", "Task", _activity),
    ("events", "Event", _activity),
    ("notes", "ContentNote", _activity),
)
