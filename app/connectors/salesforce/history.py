"""When fields were edited, where the org keeps a history of them.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_accounthistory.htm
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.connectors.salesforce import soql
from app.connectors.salesforce.org import Org
from app.connectors.salesforce.shapes import ACCOUNT, CASE, CONTACT, OPPORTUNITY, time_of
from app.sdk import AccountError, Edit, Ref, RejectedError

#: The object that keeps it, and the field by which it names the record.
KEPT = {
    ACCOUNT: ("AccountHistory", "AccountId"),
    CONTACT: ("ContactHistory", "ContactId"),
    OPPORTUNITY: ("OpportunityFieldHistory", "OpportunityId"),
    CASE: ("CaseHistory", "CaseId"),
}


async def tracked(org: Org, type: str) -> frozenset[str]:
    """The fields of an object whose history is kept; none where we may not ask.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_fielddefinition.htm
    """
    where = soql.equals("EntityDefinitionId", type)
    fields = ("QualifiedApiName", "IsFieldHistoryTracked")
    try:
        rows = await org.query(soql.select(fields, "FieldDefinition", where))
    except (RejectedError, AccountError):
        return frozenset()
    return frozenset(str(r["QualifiedApiName"]) for r in rows if r.get("IsFieldHistoryTracked"))


async def edits(
    org: Org, refs: Sequence[Ref], paths: Collection[str]
) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
    """The edits of these fields, newest first; nothing unless the history of each is kept.

    Of a field without one nobody knows whether it was edited.
    """
    type = refs[0].type
    # A reference is in the history under a name of its own, with names and ids for values.
    if type not in KEPT or not paths or any(path.endswith("Id") for path in paths):
        return {}
    if not (await tracked(org, type)).issuperset(paths):
        return {}
    history, names = KEPT[type]
    found: dict[str, dict[str, list[Edit]]] = {ref.id: {} for ref in refs}
    fields = (names, "Field", "NewValue", "CreatedDate")
    for some in soql.chunks([ref.id for ref in refs], room=soql.ROOM // 2):
        where = soql.every(soql.within(names, some), soql.within("Field", sorted(paths)))
        order = ("CreatedDate", "Id")
        for row in await org.query(soql.select(fields, history, where, order=order)):
            at = time_of(row.get("CreatedDate"))
            own = found.get(str(row[names]))
            if at is not None and own is not None:
                own.setdefault(str(row["Field"]), []).insert(0, Edit(row.get("NewValue"), at))
    return {ref: {path: tuple(listed) for path, listed in found[ref.id].items()} for ref in refs}
