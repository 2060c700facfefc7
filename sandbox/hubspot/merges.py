"""Two records become one, for good.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from sandbox.hubspot.app import HubSpot, existing, read_json, routes, typed
from sandbox.hubspot.errors import invalid, refuse
from sandbox.hubspot.events import announce
from sandbox.hubspot.links import move_all
from sandbox.hubspot.objects import written
from sandbox.hubspot.portal import Portal
from sandbox.records import Record, Version
from sandbox.wire import Answer, Call

MERGEABLE = ("contact", "company", "deal", "ticket")
MOST = 250
MERGED = "MERGE_OBJECTS"


@routes.on("POST", "/crm/v3/objects/{type}/merge")
def merge(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """The primary's values win and the other's fill the gaps.

    The survivor is the primary, or, where the option says so, a new record.
    """
    kind, body = typed(type), read_json(call)
    if kind.name not in MERGEABLE:
        raise invalid(f"{kind.plural} cannot be merged")
    first = existing(portal, kind, str(body.get("primaryObjectId")))
    second = existing(portal, kind, str(body.get("objectIdToMerge")))
    if first is second:
        raise invalid("A record cannot be merged with itself")
    values = {**second.fields, **first.fields}
    former = {first.id, second.id, *_ids(first), *_ids(second)}
    if len(former) > MOST:
        raise refuse(414, "VALIDATION_ERROR", f"At most {MOST} records can be merged into one")
    emails = [*addresses(first), *addresses(second)]
    if kind.name == "contact" and len(emails) > 1:
        values["hs_additional_emails"] = ";".join(emails[1:])
    former_values = _histories(first, second)
    losers = [first, second] if app.options.merge_new_id else [second]
    for loser in losers:
        portal.unindex(loser)
    survivor = portal.create(kind, values, call) if app.options.merge_new_id else first
    values["hs_merged_object_ids"] = ";".join(sorted(former - {survivor.id}, key=int))
    before = portal.update(survivor, values, call)
    survivor.updated = call.at
    _inherit(survivor, former_values, call)
    for loser in losers:
        move_all(app, portal, call, loser, survivor)
        loser.gone = call.at
        portal.merged[f"{kind.name}:{loser.id}"] = survivor.id
    announce(
        app,
        portal,
        call,
        kind.name,
        "merge",
        objectId=int(survivor.id),
        primaryObjectId=int(first.id),
        mergedObjectIds=[int(second.id)],
        newObjectId=int(survivor.id),
        numberOfPropertiesMoved=len(before),
    )
    for loser in losers if app.options.merge_deletes else ():
        announce(app, portal, call, kind.name, "deletion", objectId=int(loser.id))
    return Answer(200, written(portal, kind, survivor, ()))


def _histories(*records: Record) -> dict[str, list[Version]]:
    """Every value each property had in any of the records, by time."""
    names = {name for record in records for name in record.history}
    found = {n: [v for record in records for v in record.history.get(n, ())] for n in names}
    return {name: sorted(versions, key=lambda v: v.at) for name, versions in found.items()}


def _inherit(survivor: Record, former: dict[str, list[Version]], call: Call) -> None:
    """The survivor remembers both pasts; a value that an older one prevails over is set anew."""
    for name, versions in former.items():
        kept = survivor.fields.get(name)
        if versions[-1].value != kept:
            versions.append(Version(kept, call.at, MERGED, call.actor.source_id))
        survivor.history[name] = versions


def addresses(record: Record) -> list[str]:
    """A contact's e-mail addresses, the first one first."""
    more = (record.get("hs_additional_emails") or "").split(";")
    return [email for email in (record.get("email"), *more) if email]


def _ids(record: Record) -> list[str]:
    return [id for id in (record.get("hs_merged_object_ids") or "").split(";") if id]
