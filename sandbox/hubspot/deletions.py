"""Out of the recycle bin, and out of the world.

https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/contacts/gdpr/gdpr-delete-contact
"""

from sandbox.hubspot.app import HubSpot, existing, read_json, routes, typed
from sandbox.hubspot.errors import invalid, missing
from sandbox.hubspot.events import announce
from sandbox.hubspot.merges import addresses
from sandbox.hubspot.objects import written
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.values import claim
from sandbox.wire import Answer, Call, RefusedError


@routes.on("POST", "/crm/v3/objects/{type}/{id}/restore")
def restore(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    """Out of the recycle bin: people can, in the product; the API cannot."""
    kind = typed(type)
    record = portal.store.find(kind.name, id)
    if not call.actor.is_person or record is None or not record.gone:
        raise missing(id)
    if record.get("hs_gdpr_deleted") or f"{kind.name}:{id}" in portal.merged:
        raise missing(id)
    claim(portal, kind, record.fields, id, set())
    record.gone = None
    record.updated = call.at
    portal.index(record)
    portal.store.written.append(("restored", kind.name))
    announce(app, portal, call, kind.name, "restore", objectId=int(id))
    return Answer(200, written(portal, kind, record, ()))


@routes.on("POST", "/crm/v3/objects/contacts/gdpr-delete")
def erase(app: HubSpot, portal: Portal, call: Call) -> Answer:
    """Erase a contact for good, history included, and keep its address from coming back.

    An address that nobody has goes on the blocklist as well.
    """
    kind, body = typed("contact"), read_json(call)
    id, id_property = body.get("objectId"), body.get("idProperty") or ""
    if not isinstance(id, str) or not id:
        raise invalid("objectId is required")
    try:
        record = existing(portal, kind, id, id_property)
    except RefusedError as refusal:
        if refusal.answer.status == 404 and id_property == "email":
            _block(portal, [id])
            return Answer(204)
        raise
    if app.options.block_erased:
        _block(portal, addresses(record))
    ids = {record.id, *(a.partition(":")[2] for a, to in portal.merged.items() if to == record.id)}
    portal.unindex(record)
    portal.store.remove(record, at=call.at)
    for former in (portal.store.find(kind.name, id) for id in ids):
        if former is not None:
            former.fields = {"hs_gdpr_deleted": "true"}
            former.history.clear()
            portal.unlink(former)
    announce(app, portal, call, "contact", "privacyDeletion", objectId=int(record.id))
    announce(app, portal, call, "contact", "deletion", objectId=int(record.id))
    return Answer(204)


def _block(portal: Portal, emails: list[str]) -> None:
    portal.blocked += [email.lower() for email in emails if email.lower() not in portal.blocked]
