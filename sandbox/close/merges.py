"""Lead merges: the destination takes the source's children and fills its own gaps.

https://developer.close.com/api/resources/activities/lead-merges
"""

from sandbox.close.events import announce, watched
from sandbox.close.org import Close, invalid, new_request_id, routes
from sandbox.close.rows import create, existing, listed, move, shown
from sandbox.close.shapes import snapshot
from sandbox.records import Record
from sandbox.wire import Answer, Call


@routes.on("POST", "/lead/merge/")
def merge_leads(org: Close, call: Call) -> Answer:
    """Answered before it is done, if the options give a merge time."""
    body = org.read_json(call)
    source, destination = (
        org.store.get("lead", str(body.get(n))) for n in ("source", "destination")
    )
    problems = {
        name: "Unknown lead."
        for name, lead in (("source", source), ("destination", destination))
        if lead is None
    }
    if source is None or destination is None or source is destination:
        raise invalid(problems or {"source": "Must differ from destination."})
    request = new_request_id()
    known = {
        "lead_id": destination.id,
        "source_lead_id": source.id,
        "destination_lead_id": destination.id,
        "status": "in-progress",
        "user_id": call.actor.user,
    }
    merge = create(org, call, "lead_merge", known)
    announce(org, call, request, merge, "created")
    if org.options.merge_delay:
        org.later.put(
            org.options.merge_delay, lambda: _merge(org, call, request, merge, source, destination)
        )
    else:
        _merge(org, call, request, merge, source, destination)
    return Answer(200, {})


@routes.on("GET", "/activity/lead_merge/")
def list_merges(org: Close, call: Call) -> Answer:
    leads = call.many("lead_id")
    found = [m for m in org.store.live("lead_merge") if not leads or m.get("lead_id") in leads]
    return listed(org, call, found[::-1])


@routes.on("GET", "/activity/lead_merge/{id}/")
def read_merge(org: Close, call: Call, id: str) -> Answer:
    return shown(org, call, existing(org, "lead_merge", id))


def _merge(
    org: Close, call: Call, request: str, merge: Record, source: Record, destination: Record
) -> None:
    with watched(org, call, request, merge):
        status = "error" if source.gone or destination.gone else "completed"
        org.store.note(merge, {"status": status}, at=call.at, by=call.actor)
    if status == "error":
        return
    children = org.all_of_lead(source.id)
    previous = snapshot(org, source)
    with watched(org, call, request, destination, *children):
        for child in children:
            move(org, call, child, destination.id)
        gaps = {k: v for k, v in source.fields.items() if destination.get(k) in (None, "", [])}
        org.store.update(destination, gaps, at=call.at, by=call.actor)
    org.store.remove(source, at=call.at)
    meta = {
        "merge_source_lead_id": source.id,
        "merge_destination_lead_id": destination.id,
    }
    named = source if org.options.merge_names_source else destination
    announce(org, call, request, named, "merged", meta=meta)
    announce(org, call, request, source, "deleted", previous=previous, meta=meta)
