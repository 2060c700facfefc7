"""Notes: documents in HTML, linked to the records that they are about.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_contentnote.htm
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.connectors.salesforce import soql
from app.connectors.salesforce.kinds import NOTE, PREFIXES
from app.connectors.salesforce.org import BATCH, Org, fate_error
from app.connectors.salesforce.shapes import ACCOUNT, CONTACT, OPPORTUNITY, is_lead
from app.sdk import NotFoundError, Raw, Ref, SyncError, Write, each

CONTENT = "Content"
LINK = "ContentDocumentLink"
#: Our relations, and what a note is linked to for each.
ENDS: Mapping[str, str] = {"company": ACCOUNT, "people": CONTACT, "deals": OPPORTUNITY}


def encoded(html: Any) -> str:
    return base64.b64encode(str(html or "").encode()).decode()


async def whole(org: Org, rows: Sequence[Raw]) -> list[Raw]:
    """Rows with their texts: of those a row only tells where they are."""

    async def one(row: Raw) -> Raw:
        if not row.get(CONTENT):
            return row
        path = f"{org.root}/sobjects/{NOTE}/{{id}}/{CONTENT}"
        answer = await org.client.call("GET", path, at={"id": row["Id"]}, text=True)
        return {**row, CONTENT: answer.data or ""}

    return await each(rows, one)


async def links(org: Org, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each note is linked to, with the id of the link; every note is there."""
    found: dict[str, dict[str, str]] = {id: {} for id in ids}
    for some in soql.chunks(ids):
        where = soql.within("ContentDocumentId", some)
        fields = ("Id", "ContentDocumentId", "LinkedEntityId")
        for row in await org.query(soql.select(fields, LINK, where)):
            own = found.setdefault(str(row["ContentDocumentId"]), {})
            own[str(row["LinkedEntityId"])] = str(row["Id"])
    return found


def relations(
    account: str, ends: Collection[str], *, leads: bool = False
) -> dict[str, tuple[Ref, ...]]:
    """What a note is about: one company, and people, who may be leads, and deals."""
    found: dict[str, tuple[Ref, ...]] = {}
    for name, type in ENDS.items():
        ids = sorted(id for id in ends if id.startswith(PREFIXES[type]))
        if name == "people" and leads:
            ids += sorted(filter(is_lead, ends))
        refs = tuple(Ref(account, type, id) for id in ids)
        found[name] = refs[:1] if name == "company" else refs
    return found


async def relate(org: Org, writes: Sequence[Write], ids: Mapping[str, str]) -> dict[str, SyncError]:
    """Make and break links as these writes say; what failed, by trace."""
    moving = [write for write in writes if write.relations]
    if not moving:
        return {}
    known = await links(org, [ids[write.trace] for write in moving])
    making: list[tuple[Write, Raw]] = []
    breaking: list[tuple[Write, str]] = []
    for write in moving:
        there = known[ids[write.trace]]
        for edit in write.relations.values():
            for ref in edit.wanted if write.ref is None else edit.add:
                if ref.id not in there:
                    body = {"ContentDocumentId": ids[write.trace], "LinkedEntityId": ref.id}
                    shared = {"ShareType": "V", "Visibility": "AllUsers"}
                    making.append((write, {"attributes": {"type": LINK}, **body, **shared}))
            breaking += [(write, there[ref.id]) for ref in edit.remove if ref.id in there]
    failed: dict[str, SyncError] = {}
    for start in range(0, len(making), BATCH):
        made = making[start : start + BATCH]
        fates = await org.send("POST", "", [body for _, body in made])
        _note(failed, [write for write, _ in made], fates)
    for start in range(0, len(breaking), BATCH):
        broken = breaking[start : start + BATCH]
        fates = await org.delete(LINK, [id for _, id in broken])
        _note(failed, [write for write, _ in broken], fates)
    return failed


def _note(failed: dict[str, SyncError], writes: Sequence[Write], fates: Sequence[Raw]) -> None:
    for write, fate in zip(writes, fates, strict=True):
        if fate.get("success"):
            continue
        error = fate_error(fate)
        if not isinstance(error, NotFoundError):  # who is gone is not linked either
            failed.setdefault(write.trace, error)
