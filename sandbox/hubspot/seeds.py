"""Many companies, contacts and deals at once, for demonstrations and load."""

from collections import Counter

from sandbox.hubspot.app import HubSpot
from sandbox.hubspot.defaults import person as editor
from sandbox.hubspot.events import announce
from sandbox.hubspot.links import default_type
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import TYPES
from sandbox.names import company, person
from sandbox.records import Record
from sandbox.wire import Actor, Call, Json, now


def seed(app: HubSpot, wanted: Json) -> Json:
    """Make companies with contacts and deals linked to them; announce them unless quiet."""
    portal = app.portals[wanted.get("portal") or app.settings.portal_id]
    actor = Actor("CRM_UI", editor(portal.owners))
    call = Call("POST", "/crm/v3/objects/companies", at=now(), actor=actor)
    stages = [stage["id"] for stage in portal.pipelines["deal"][0]["stages"]]
    first = sum(1 for _ in portal.store.all("company"))
    made: list[Record] = []

    def make(type: str, fields: Json) -> Record:
        record = portal.create(TYPES[type], fields, call)
        made.append(record)
        return record

    for number in range(first, first + wanted.get("companies", 0)):
        name, domain = company(number)
        parent = make("company", {"name": name, "domain": domain})
        for index in range(wanted.get("contacts_per_company", 1)):
            full, local = person(number + 7919 * index)
            given, family = full.split()
            email = f"{local}@{domain}"
            fields = {"firstname": given, "lastname": family, "email": email}
            _link(portal, make("contact", fields), parent)
        for index in range(wanted.get("deals_per_company", 0)):
            deal = {
                "dealname": f"{name} deal {index + 1}",
                "amount": f"{(number % 97 + 1) * 100}.00",
                "pipeline": "default",
                "dealstage": stages[(number + index) % len(stages)],
            }
            _link(portal, make("deal", deal), parent)
        for type, body in (("note", "hs_note_body"), ("task", "hs_task_subject")):
            for index in range(wanted.get(f"{type}s_per_company", 0)):
                fields = {"hs_timestamp": iso(call.at), body: f"{name} {type} {index + 1}"}
                _link(portal, make(type, fields), parent)
    if not wanted.get("quiet", True):
        for record in made:
            id = int(record.id)
            announce(app, portal, call, record.type, "creation", objectId=id, changeFlag="CREATED")
    counts = Counter(record.type for record in made)
    always = ("company", "contact", "deal")
    return {type: counts[type] for type in (*always, *(set(counts) - {*always}))}


def _link(portal: Portal, record: Record, parent: Record) -> None:
    ends = ((record, parent), (parent, record))
    for one, two in ends:
        plain = default_type(portal, one.type, two.type).id
        links = portal.links.setdefault(f"{one.type}:{one.id}", {})
        links[f"{two.type}:{two.id}"] = [plain]
