"""A parent that is gone from one account is still its children's parent in the others.

When it goes, an account shows its children without it. That is no edit of theirs: what was
deleted is the parent, and a delete does not multiply.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import lanes, links, outbox, records
from app.domain import ties
from app.domain.entities import relations_of
from app.domain.state import RecordState
from app.domain.values import Fields, Value


async def part(db: AsyncConnection, account: str, parents: Collection[UUID]) -> None:
    """These records are not in this account any more: it knows their children without them."""
    for link, record, names in await _related(db, account, parents):
        gone = {str(parent) for parent in parents}
        base, sent = parted(link.base, link.sent, record, names, gone)
        await links.agree(db, [links.Agreement(link.ref, base, sent, None)])


def parted(
    base: Fields, sent: Fields, record: RecordState, names: Collection[str], gone: Collection[str]
) -> tuple[Fields, Fields]:
    """What a link knows once these parents are gone from its account."""
    without = {name: _without(base.get(name), gone) for name in names}
    if ties.LABELS in names:
        without[ties.LABELS] = ties.without(base.get(ties.LABELS), gone)
    told = {name: record.fields[name] for name in names if name in record.fields}
    return {**base, **without}, {**sent, **told}


async def join(db: AsyncConnection, account: str, parents: Collection[UUID]) -> None:
    """These records are in this account now, or again: children that waited for them, or went
    without them, are due.
    """
    children = await records.children(db, parents) if parents else []
    if not children:
        return
    there: dict[UUID, RecordState] = {}
    for link, record, names in await _related(db, account, parents):
        sent = {name: value for name, value in link.sent.items() if name not in names}
        if sent != link.sent:
            await links.agree(db, [links.Agreement(link.ref, None, sent, None)])
        there[record.id] = record
    await outbox.hurry(db, account, children)
    await outbox.mark(db, {(account, record_id): record for record_id, record in there.items()})
    await lanes.wake(db, account, "out")


async def _related(
    db: AsyncConnection, account: str, parents: Collection[UUID]
) -> list[tuple[links.Link, RecordState, list[str]]]:
    """The children's living links there, their records, and the relations that name a parent."""
    children = await records.get(db, await records.children(db, parents)) if parents else {}
    found = []
    for link in await links.by_record(db, children, account=account, lock=True):
        record = children[link.record_id]
        named = records.parents_of(record)
        names = [n for n in relations_of(record.entity) if {*named[n]} & {*parents}]
        names += [ties.LABELS] if names and ties.LABELS in record.fields else []
        if link.state == "live" and names:
            found.append((link, record, names))
    return found


def _without(value: Value, gone: Collection[str]) -> Value:
    if isinstance(value, list):
        return [one for one in value if one not in gone]
    return None if value in gone else value
