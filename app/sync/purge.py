"""A person asks to be forgotten: nothing of theirs is kept, and they do not come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import journal, links, purges, records
from app.db.accounts import Box
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.merge import Take
from app.domain.traits import digests, traits, words
from app.domain.values import Ref
from app.sync.deletes import can_delete
from app.sync.house import House
from app.sync.relink import mark

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of a purge: deliveries emptied, and counterparts that are to be deleted."""

    record_id: UUID
    deliveries: int
    deleting: tuple[str, ...]


async def purge(
    db: AsyncConnection,
    box: Box,
    record_id: UUID,
    *,
    cause: Cause,
    by: str,
    deletes: Callable[[Link], bool],
) -> Purged:
    """Forget a record: its values wherever we keep them, here and in those merged into it.

    What remains are ids, times and keyed hashes of its addresses. ``deletes`` says which
    counterparts are to be erased in their CRM too; those wait in the outbox.
    """
    ids = await purges.family(db, record_id)
    own = await links.by_record(db, ids, lock=True)
    found = [state.fields for state in (await records.get(db, ids)).values()]
    entity = own[0].entity if own else "person"
    who = {trait for fields in (*found, *(k.base for k in own)) for trait in traits(fields)}
    pepper = await purges.pepper(db, box, make=True)
    assert pepper is not None, "it was just made"
    await purges.remember(db, record_id, digests(pepper, entity, who))
    doomed = [link for link in own if link.state == "live" and deletes(link)]
    refs = [link.ref for link in own]
    await links.end(db, [link.ref for link in own if link not in doomed], "purged")
    await purges.forget(db, ids, refs)
    emptied = await purges.scrub(db, await purges.deliveries_of(db, refs))
    said = {word for fields in (*found, *(k.base for k in own)) for word in words(fields)}
    emptied += await purges.empty(db, await purges.forget_words(db, said))
    take = Take("link", None, None, "purged: nothing of it is kept")
    await journal.write(db, [Entry(record_id, 0, by, cause, [take])])
    if doomed:
        await mark(db, [record_id])
    deleting = tuple(sorted(link.ref.account for link in doomed))
    log.info("record.purged", record=str(record_id), deliveries=emptied, deleting=deleting)
    return Purged(record_id, emptied, deleting)


async def purge_told(house: House, ref: Ref, cause: Cause) -> None:
    """A CRM says that it has erased this person: forget them too.

    Elsewhere they are erased where `privacy` says so, or where any delete would be carried over.
    """
    async with house.database.transaction() as db:
        link = (await links.by_ref(db, [ref])).get(ref)
        if link is None or link.ended == "purged":
            return
        sync = house.sync_of(link.entity, ref.account)
        spread = house.config.privacy == "propagate" or (
            sync is not None and sync.on_delete(ref.account) == "propagate"
        )

        def deletes(other: Link) -> bool:
            return spread and other.ref.account != ref.account and can_delete(house, other)

        await purge(db, house.box, link.record_id, cause=cause, by=ref.account, deletes=deletes)
        await learn_pepper(db, house)


async def learn_pepper(db: AsyncConnection, house: House) -> bytes | None:
    """What the purged are hashed with; None where nobody has been purged yet."""
    if not house.peppers and (pepper := await purges.pepper(db, house.box)) is not None:
        house.peppers.append(pepper)
    return house.peppers[0] if house.peppers else None
