"""Many leads at once, for demonstrations and load."""

from collections import Counter

from sandbox.close.events import announce
from sandbox.close.ids import record_id
from sandbox.close.org import RECORDS, Close, new_request_id
from sandbox.close.richtext import rich
from sandbox.close.rows import PREFIX
from sandbox.names import company, person
from sandbox.records import Record
from sandbox.wire import Actor, Call, Json, now


def seed(org: Close, wanted: Json) -> Json:
    """Make leads with contacts and opportunities; announce them unless quiet."""
    actor = Actor("CRM_UI", user=org.users[-1]["id"])
    call = Call("POST", "/lead/", at=now(), actor=actor)
    statuses = [s["id"] for s in org.pipelines[0]["statuses"]]
    first = sum(1 for _ in org.store.all("lead"))
    made: list[Record] = []

    def make(type: str, fields: Json) -> Record:
        fields |= {"created_by": actor.user, "updated_by": actor.user}
        id = record_id(PREFIX[type])
        record = org.store.create(type, id, fields, at=call.at, by=actor)
        org.adopt(record)
        made.append(record)
        return record

    for number in range(first, first + wanted.get("leads", 0)):
        name, domain = company(number)
        status = org.lead_statuses[number % 3]["id"]
        lead = make("lead", {"name": name, "url": f"https://{domain}", "status_id": status})
        for index in range(wanted.get("contacts_per_lead", 1)):
            full, local = person(number + 7919 * index)
            emails = [{"email": f"{local}@{domain}", "type": "office", "is_unsubscribed": False}]
            make("contact", {"lead_id": lead.id, "name": full, "emails": emails})
        for index in range(wanted.get("opportunities_per_lead", 0)):
            deal = {
                "lead_id": lead.id,
                "user_id": actor.user,
                "status_id": statuses[(number + index) % len(statuses)],
                "value": (number % 97 + 1) * 10_000,
                "value_period": "one_time",
                "confidence": 50,
                "note": f"{name} deal {index + 1}",
            }
            make("opportunity", deal)
        for index in range(wanted.get("notes_per_lead", 0)):
            words = f"{name} note {index + 1}"
            note = {"note": words, "note_html": rich(words), "user_id": actor.user}
            make("activity.note", {"lead_id": lead.id, **note})
        for index in range(wanted.get("calls_per_lead", 0)):
            talk = {"direction": "outbound", "duration": 60 * (index + 1), "status": "completed"}
            by = {"user_id": actor.user, "source": "Close.io"}
            make("activity.call", {"lead_id": lead.id, **talk, **by})
        for index in range(wanted.get("tasks_per_lead", 0)):
            todo = {"text": f"{name} task {index + 1}", "assigned_to": actor.user}
            make("task.lead", {"lead_id": lead.id, "is_complete": False, **todo})
    if not wanted.get("quiet", True):
        request = new_request_id()
        for record in made:
            announce(org, call, request, record, "created")
    counts = Counter(record.type for record in made)
    return {type: counts[type] for type in (*RECORDS, *(set(counts) - {*RECORDS}))}
