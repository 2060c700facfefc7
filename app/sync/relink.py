"""After a remote merge: whatever belonged to the lost record belongs to the survivor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, journal, lanes, links, outbox, records
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.absorb import renamed
from app.domain.entities import relations_of
from app.domain.meeting import (
    Step,
    promoted,
    state_after_move,
    state_after_rename,
    step_of,
    united,
    unmade,
)
from app.domain.state import RecordState
from app.domain.values import Ref
from app.sync.house import House

log = structlog.get_logger()


async def relink(
    db: AsyncConnection, ref: Ref, to: Ref, *, known_at: datetime | None = None
) -> bool:
    """Follow a merge of two remote records, told in whatever order and however often.

    Where both had a living counterpart in another account, the lost one's stays linked but
    parked, and a card asks what to do with it. False if it must be told again in a moment: what
    has survived, which was there at ``known_at``, may be what a create of ours makes just now.
    """
    # Asked before the links are read: a create that is settled in between shows as a link.
    begun = await outbox.creating_since(db, to.account) if known_at else None
    found = await links.by_ref(db, [ref, to], lock=True)
    lost, kept = found.get(ref), found.get(to)
    making = begun is not None and known_at is not None and begun <= known_at
    step = step_of(lost, kept, making=making)
    if lost is None and kept is not None and step is Step.REMEMBER:
        tombstone = Link.new(kept.record_id, kept.entity, ref, {}, {}, None)
        await links.add(db, [tombstone.now(state="gone", ended="merged")])
    elif lost is not None and step is Step.DISMISS:
        await links.end(db, [ref], "merged")
    elif lost is not None and step is Step.RENAME:
        if kept is not None:
            await links.remove(db, to)
        await _rename(db, lost, to)
    elif lost is not None and kept is not None and step is Step.FOLLOW:
        await _follow(db, lost, kept)
    return step is not Step.WAIT


async def _rename(db: AsyncConnection, lost: Link, to: Ref) -> None:
    """We never met the survivor: our link has a new name, and keeps what was agreed."""
    await links.end(db, [lost.ref], "merged")
    standing = await _standing(db, lost.record_id, to.account)
    state = state_after_rename(lost.state, beside=standing is not None)
    new = Link.new(lost.record_id, lost.entity, to, lost.base, lost.sent, lost.seen_at)
    await links.add(db, [new.now(state=state)])
    if lost.writing:  # what was on its way to the one stands in the other
        await links.begin_writes(db, {to: lost.intended})
        await links.forget_writes(db, [to])
    if standing is None:
        await conflicts.rename(db, lost.ref, to)
    else:
        await conflicts.settle_refs(db, [lost.ref], how={"by": "merge", "into": str(to)})
        await conflicts.parked(db, lost.entity, lost.record_id, to, standing.ref)
    # It was told deleted before we heard that it was merged: it lives.
    await records.set_state(db, [lost.record_id], "live")
    await mark(db, [lost.record_id])
    log.info("record.merged", ref=str(lost.ref), into=str(to), record=str(lost.record_id))


async def _follow(db: AsyncConnection, lost: Link, kept: Link) -> None:
    """Both are known: their records become one."""
    if lost.ended != "merged":
        await links.end(db, [lost.ref], "merged")
        await conflicts.settle_refs(db, [lost.ref], how={"by": "merge", "into": str(kept.ref)})
    if lost.record_id != kept.record_id:
        await unite(db, lost.record_id, kept.record_id, into=kept.ref)
        log.info("record.merged", ref=str(lost.ref), into=str(kept.ref), record=str(kept.record_id))
    elif unmade([kept]):
        # We have deleted it for the one, and the other was in it already.
        await records.bump(db, kept.record_id)
        await _make_anew(db, (await records.get(db, [kept.record_id]))[kept.record_id])
    await promote(db, kept.record_id, kept.ref.account)


async def unite(
    db: AsyncConnection,
    lost_id: UUID,
    kept_id: UUID,
    *,
    into: Ref | None,
    source: str | None = None,
    cause: Cause | None = None,
) -> None:
    """Two of our records are one: links, fields, keys, cards, marks and children of the lost
    one go to the survivor; values that do not fit are in the journal.

    ``into`` is the ref whose merge tells so; a person's word needs none.
    """
    source = source or (into.account if into else "")
    both = await records.get(db, [lost_id, kept_id], lock=True)
    lost, kept = both[lost_id], both[kept_id]
    moved = await _move_links(db, lost, kept, into)
    record, takes, clashes = united(kept, lost)
    await records.change(db, [record], source=source)
    await records.merge_into(db, lost.id, kept.id)
    cause = cause or Cause("merge", str(lost.id))
    await journal.write(db, [Entry(kept.id, record.version, source, cause, takes, clashes)])
    await conflicts.hand_over(db, lost.id, kept.id)
    await outbox.hand_over(db, lost.id, record)
    await mark(db, [kept.id])
    await _make_anew(db, record)
    there = {*moved, *([into.account] if into else [])}
    await _hand_over(db, lost.id, kept.id, there, cause, source)


async def absorbed(db: AsyncConnection, record_id: UUID, ref: Ref) -> None:
    """What a create of ours has made was merged into another before it was answered."""
    link = (await links.by_ref(db, [ref], lock=True))[ref]
    if link.record_id != record_id:
        await unite(db, record_id, link.record_id, into=None, source=ref.account)
        log.info("record.merged", ref=str(ref), record=str(link.record_id))


async def _make_anew(db: AsyncConnection, record: RecordState) -> None:
    """Mark the accounts where we deleted one of the two; where a person did, nothing is made."""
    accounts = {link.ref.account for link in unmade(await links.by_record(db, [record.id]))}
    await outbox.mark(db, {(account, record.id): record for account in accounts})
    for account in sorted(accounts):
        await lanes.wake(db, account, "out")


async def _move_links(
    db: AsyncConnection, lost: RecordState, kept: RecordState, into: Ref | None
) -> list[str]:
    """Give the links of the lost record to the survivor; the accounts where they go on living."""
    standing = {
        link.ref.account: link.ref
        for link in await links.by_record(db, [kept.id], lock=True)
        if link.state == "live"
    }
    moved = []
    for link in await links.by_record(db, [lost.id], lock=True):
        account = link.ref.account
        state = state_after_move(link.state, beside=account in standing)
        await links.move(db, link.ref, kept.id, state=state)
        if state == "parked":
            survivor = into or standing.get(account) or link.ref
            await conflicts.parked(db, lost.entity, kept.id, link.ref, survivor)
        elif state == "live":
            moved.append(account)
    return moved


async def _hand_over(
    db: AsyncConnection, lost: UUID, kept: UUID, moved: Collection[str], cause: Cause, source: str
) -> None:
    """Children follow the survivor.

    In the accounts where the parent itself moved they are there already; elsewhere they have
    still to be told.
    """
    children = await records.get(db, await records.children(db, [lost]), lock=True)
    changed: list[RecordState] = []
    entries: list[Entry] = []
    for child in children.values():
        names = tuple(relations_of(child.entity))
        takes = renamed(child.fields, names, str(lost), str(kept))
        if takes:
            fields = {**child.fields, **{take.field: take.new for take in takes}}
            now = replace(child, fields=fields, version=child.version + 1)
            changed.append(now)
            entries.append(Entry(child.id, now.version, source, cause, takes))
    await records.change(db, changed, source=source)
    await journal.write(db, entries)
    agreed = []
    for link in await links.by_record(db, children, lock=True):
        names = tuple(relations_of(link.entity))
        base = {t.field: t.new for t in renamed(link.base, names, str(lost), str(kept))}
        sent = {t.field: t.new for t in renamed(link.sent, names, str(lost), str(kept))}
        if link.ref.account in moved and (base or sent):
            agreed.append(
                links.Agreement(link.ref, {**link.base, **base}, {**link.sent, **sent}, None)
            )
    await links.agree(db, agreed)
    await mark(db, [child.id for child in changed if child.state == "live"])


async def follow(db: AsyncConnection, house: House, ref: Ref) -> None:
    """After a remote merge: merge elsewhere too what the configuration says shall follow."""
    met = (await links.by_ref(db, [ref])).get(ref)
    if met is None:
        return
    sync = house.config.entity(met.entity)
    if sync is None or sync.follow_merges != "merge":
        return
    own = await links.by_record(db, [met.record_id])
    living = {one.ref.account for one in own if one.state == "live"}
    asked = await conflicts.open_merges(db, [one.ref for one in own if one.state == "parked"])
    for one in own:
        account = one.ref.account
        promise = house.members[account].connector.manifest.entities.get(met.entity)
        if one.ref in asked and account in living and promise and "merge" in promise.write:
            await links.set_state(db, [one.ref], "merging")
            how = {"by": "follow_merges"}
            await conflicts.settle_refs(db, [one.ref], kinds=("merge",), how=how)
            await records.bump(db, met.record_id)
            await mark(db, [met.record_id])


async def promote(db: AsyncConnection, record_id: UUID, account: str) -> bool:
    """Where the living counterpart is gone, a parked one takes its place; say whether."""
    own = await links.by_record(db, [record_id], account=account, lock=True)
    heir = promoted(own)
    if heir is None:
        return False
    await links.set_state(db, [heir.ref], "live")
    await conflicts.settle_refs(
        db, [heir.ref], kinds=("merge", "suspect"), how={"by": "the other is gone"}
    )
    await mark(db, [record_id])
    return True


async def _standing(db: AsyncConnection, record_id: UUID, account: str) -> Link | None:
    own = await links.by_record(db, [record_id], account=account)
    return next((link for link in own if link.state == "live"), None)


async def mark(db: AsyncConnection, ids: Collection[UUID]) -> None:
    """Every account that has one of these records may be behind now."""
    found = await records.get(db, ids)
    behind = {
        (link.ref.account, link.record_id): found[link.record_id]
        for link in await links.by_record(db, ids)
        if link.state == "live" and link.record_id in found
    }
    await outbox.mark(db, behind)
    for account in sorted({account for account, _ in behind}):
        await lanes.wake(db, account, "out")
