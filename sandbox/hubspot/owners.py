"""Owners, those who left included.

https://developers.hubspot.com/docs/api-reference/legacy/crm/owners/guide
"""

from sandbox.hubspot.app import HubSpot, routes
from sandbox.hubspot.errors import invalid, missing
from sandbox.hubspot.portal import Portal
from sandbox.wire import Answer, Call, Json

PAGE = 500


@routes.on("GET", "/crm/v3/owners")
def owners(app: HubSpot, portal: Portal, call: Call) -> Answer:
    """Owners, optionally the one with an e-mail address."""
    email, limit = call.one("email").lower(), int(call.one("limit", "100"))
    if not 1 <= limit <= PAGE:
        raise invalid(f"limit must be between 1 and {PAGE}")
    archived = call.flag("archived")
    after = int(call.one("after", "0") or 0)
    found = [
        owner
        for owner in portal.owners
        if owner["archived"] == archived and (not email or owner["email"].lower() == email)
    ]
    body: Json = {"results": found[after : after + limit]}
    if len(found) > after + limit:
        body["paging"] = {"next": {"after": str(after + limit)}}
    return Answer(200, body)


@routes.on("GET", "/crm/v3/owners/{id}")
def owner(app: HubSpot, portal: Portal, call: Call, id: str) -> Answer:
    """One owner, by owner id or with `idProperty=userId` by user id; archived ones on request."""
    key = "userIdIncludingInactive" if call.one("idProperty") == "userId" else "id"
    for found in portal.owners:
        if str(found[key]) == id and found["archived"] == call.flag("archived"):
            return Answer(200, found)
    raise missing(id)
