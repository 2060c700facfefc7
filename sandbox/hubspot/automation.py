"""What HubSpot does by itself after a change: workflows, and companies made of e-mail domains.

https://knowledge.hubspot.com/records/automatically-create-and-associate-companies-with-contacts
"""

import contextlib
from collections.abc import Callable

from sandbox.hubspot.app import HubSpot
from sandbox.hubspot.links import chosen, set_types, types_between
from sandbox.hubspot.objects import change, creation
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import TYPES
from sandbox.options import Workflow
from sandbox.records import Record
from sandbox.wire import Actor, Call, RefusedError, now

DELAY = 0.1
PRIMARY_COMPANY = 1
WORKFLOW = Actor("AUTOMATION_PLATFORM", "enrollmentId:1;actionExecutionIndex:0")
COMPANIES = Actor("AUTO_ASSOCIATE_BY_DOMAIN")
# Addresses at these belong to people, not to companies.
_FREE = ("gmail.com", "googlemail.com", "yahoo.com", "outlook.com", "hotmail.com", "icloud.com")


def follow(app: HubSpot, portal: Portal, call: Call, record: Record, names: list[str]) -> None:
    """Start what a change of these properties starts. Automations do not start each other."""
    if call.actor.source == "INTEGRATION":
        for workflow in app.options.due(record.type, names):
            app.later.put(workflow.delay, _fighting(app, portal, record, workflow))
    if app.options.auto_company and record.type == "contact" and "email" in names:
        app.later.put(DELAY, lambda: _employ(app, portal, record))


def _fighting(
    app: HubSpot, portal: Portal, record: Record, workflow: Workflow
) -> Callable[[], None]:
    def act() -> None:
        if record.gone:
            return
        wanted = {workflow.field: workflow.outcome(record.get(workflow.field))}
        with contextlib.suppress(RefusedError):
            type = TYPES[record.type]
            change(app, portal, _call(WORKFLOW), type, record, {"properties": wanted}, set())()

    return act


def _employ(app: HubSpot, portal: Portal, contact: Record) -> None:
    """Link a contact to the company of its e-mail domain; make the company if there is none."""
    domain = (contact.get("email") or "").rpartition("@")[2]
    if contact.gone or not domain or domain in _FREE:
        return
    call = _call(COMPANIES)
    company = next((c for c in portal.store.live("company") if c.get("domain") == domain), None)
    if company is None:
        row = {"properties": {"name": domain.partition(".")[0].capitalize(), "domain": domain}}
        made = creation(app, portal, call, TYPES["company"], row, set())()
        company = portal.store.get("company", made["id"])
    if company is None or types_between(portal, contact, company):
        return
    spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": PRIMARY_COMPANY}
    set_types(app, portal, call, contact, company, chosen(portal, "contact", "company", [spec]))


def _call(actor: Actor) -> Call:
    return Call("PATCH", "/crm/v3/objects", at=now(), actor=actor)
