"""The people of an opportunity: contact roles, one of which may be the primary one.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_opportunitycontactrole.htm
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from app.connectors.salesforce import soql
from app.connectors.salesforce.org import BATCH, Org, Part, fate_error
from app.connectors.salesforce.shapes import OPPORTUNITY, ROLE, chunked, without_leads
from app.sdk import NotFoundError, Raw, SyncError, Write

#: So many roles fit beside their opportunity into one call.
MOST = 20


@dataclass(frozen=True, slots=True)
class Role:
    id: str
    contact: str
    primary: bool


async def roles(org: Org, opportunities: Sequence[str]) -> dict[str, list[Role]]:
    """The roles of each, the primary one first; every opportunity is there."""
    found: dict[str, list[Role]] = {id: [] for id in opportunities}
    for some in soql.chunks(opportunities):
        rows = await org.query(
            soql.select(
                ("Id", "OpportunityId", "ContactId", "IsPrimary"),
                ROLE,
                soql.within("OpportunityId", some),
                order=("OpportunityId", "Id"),
            )
        )
        for row in rows:
            if row.get("ContactId"):
                role = Role(row["Id"], row["ContactId"], bool(row.get("IsPrimary")))
                found.setdefault(row["OpportunityId"], []).append(role)
    return {id: sorted(own, key=lambda role: not role.primary) for id, own in found.items()}


def contacts(own: Sequence[Role]) -> list[str]:
    """The people behind the roles; one may play several."""
    return list(dict.fromkeys(role.contact for role in own))


async def relate(org: Org, writes: Sequence[Write], ids: Mapping[str, str]) -> dict[str, SyncError]:
    """Make and break roles as these writes of opportunities say; what failed, by trace.

    ``ids`` are the opportunities by trace. Who is the primary contact people decide: the first
    is it only where nobody is. Roles that somebody gave a name stay as they are.
    """
    moving = [without_leads(write) for write in writes if "people" in write.relations]
    if not moving:
        return {}
    known = await roles(org, [ids[write.trace] for write in moving])
    making: list[tuple[Write, Raw]] = []
    breaking: list[tuple[Write, str]] = []
    for write in moving:
        edit, there = write.relations["people"], known[ids[write.trace]]
        leaving = {ref.id for ref in edit.remove}
        staying = [role for role in there if role.contact not in leaving]
        primary = any(role.primary for role in staying)
        for ref in edit.wanted if write.ref is None else edit.add:
            if any(role.contact == ref.id for role in staying):
                continue
            body = {"OpportunityId": ids[write.trace], "ContactId": ref.id}
            making.append((write, {"attributes": {"type": ROLE}, **body, "IsPrimary": not primary}))
            primary = True
        breaking += [(write, role.id) for role in there if role.contact in leaving]
    failed: dict[str, SyncError] = {}
    for made in chunked(making, BATCH):
        fates = await org.send("POST", "", [body for _, body in made])
        _note(failed, [write for write, _ in made], fates)
    for broken in chunked(breaking, BATCH):
        fates = await org.delete(ROLE, [id for _, id in broken])
        _note(failed, [write for write, _ in broken], fates, gone_is_well=True)
    return failed


async def made_with(
    org: Org, body: Raw, contacts: Sequence[str], fields: Sequence[str]
) -> tuple[Raw, list[str]] | None:
    """An opportunity, its roles, and how both stand then, in one call; None where any of it is
    refused: nothing is made, and by itself each is refused with its own reason.
    """
    if len(contacts) > MOST:
        return None
    made = "@{made.id}"
    by_deal = quote(str(soql.equals("OpportunityId", "DEAL"))).replace("DEAL", made)
    columns = quote("ContactId, IsPrimary")
    parts = [Part("made", f"/sobjects/{OPPORTUNITY}/", body)]
    for number, contact in enumerate(contacts):
        role = {"OpportunityId": made, "ContactId": contact, "IsPrimary": number == 0}
        parts.append(Part(f"role{number}", f"/sobjects/{ROLE}/", role))
    parts += [
        Part("deal", f"/sobjects/{OPPORTUNITY}/{made}?fields={','.join(fields)}"),
        Part("roles", f"/query?q=SELECT%20{columns}%20FROM%20{ROLE}%20WHERE%20{by_deal}"),
    ]
    told = await org.together(parts)
    if told is None:
        return None
    *_, deal, roles = told
    rows = sorted(roles["records"], key=lambda row: not row.get("IsPrimary"))
    return deal, list(dict.fromkeys(row["ContactId"] for row in rows if row.get("ContactId")))


def _note(
    failed: dict[str, SyncError],
    writes: Sequence[Write],
    fates: Sequence[Raw],
    *,
    gone_is_well: bool = False,
) -> None:
    for write, fate in zip(writes, fates, strict=True):
        if fate.get("success"):
            continue
        error = fate_error(fate)
        if not (gone_is_well and isinstance(error, NotFoundError)):
            failed.setdefault(write.trace, error)
