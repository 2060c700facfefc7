"""Merging in the CRM itself what is one record of ours: the out-lane does it, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, guards, journal, lanes, links, records
from app.db.journal import Cause, Entry
from app.db.lanes import Lane
from app.db.links import Link
from app.db.outbox import Mark
from app.domain.decide import reading
from app.domain.entities import ties_of
from app.domain.meeting import last_words
from app.domain.values import NOTHING, Observation, Op, Ref
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync import guard
from app.sync.draft import count
from app.sync.house import House, Member
from app.sync.reconcile import known, reconcile
from app.sync.relink import mark, relink
from app.sync.trouble import LanePaused
from app.sync.world import Seen, World

log = structlog.get_logger()


async def merge_there(
    house: House, lane: Lane, member: Member, marks: Sequence[Mark], counts: dict[str, int]
) -> list[Mark]:
    """Merge the counterparts of these records that are to be merged there.

    The marks to go on with: without those of which the guard holds a merge.
    """
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return list(marks)
        pairs = await _pairs(db, member.name, [mark.record_id for mark in marks])
        pairs, held = await _admitted(db, member, marks, pairs, counts)
        await links.begin_writes(db, {ref: NOTHING for pair in pairs for ref in _refs(pair)})
    asked = {mark.record_id for mark in marks if mark.guard != Op.DELETE}
    for n, (survivor, loser) in enumerate(pairs):
        try:
            looked = await _look_before(house, member, loser)
            kept = await _merge(member, survivor.ref, loser.ref)
        except (RateLimitedError, AccountError, TransientError) as error:
            async with house.database.transaction() as db:
                await links.end_writes(db, [ref for pair in pairs for ref in _refs(pair)])
                left = [one for one, _ in pairs[n:] if one.record_id in asked]
                if member.config.guard.of(Op.DELETE) is not None:
                    await guards.give_back(db, member.name, Op.DELETE, len(left))
            raise LanePaused(error) from error
        except SyncError as error:
            await _refused(house, survivor, loser, error)
            count(counts, "failed")
        else:
            await _hear_last_words(house, member, loser, looked)
            await _merged(house, survivor, loser, kept)
            count(counts, "merged")
    return [mark for mark in marks if mark.record_id not in held]


async def _admitted(
    db: AsyncConnection,
    member: Member,
    marks: Sequence[Mark],
    pairs: Sequence[tuple[Link, Link]],
    counts: dict[str, int],
) -> tuple[list[tuple[Link, Link]], set[UUID]]:
    """The merges that the guard lets through, and the records of which it holds one."""
    own = {mark.record_id: mark for mark in marks}
    asking = [pair for pair in pairs if own[pair[0].record_id].guard != Op.DELETE]
    room = await guard.admit_merges(db, member, [own[one.record_id] for one, _ in asking], counts)
    held = {one.record_id for one, _ in asking[room:]}
    return [pair for pair in pairs if pair not in asking[room:]], held


async def give_up(db: AsyncConnection, account: str) -> None:
    """A person discarded merges while the guard held them: what to do is asked again."""
    for loser in await links.idle_merges(db, account):
        own = await links.by_record(db, [loser.record_id], account=account)
        survivor = next((one.ref for one in own if one.state == "live"), loser.ref)
        await links.set_state(db, [loser.ref], "parked")
        await conflicts.parked(db, loser.entity, loser.record_id, loser.ref, survivor)


async def _look_before(house: House, member: Member, loser: Link) -> Observation:
    """Take in what nobody has told us of the loser yet: after the merge it is gone there."""
    _, read_at = await known(house, [])
    (found,) = await member.connector.read([loser.ref])
    if found.raw is not None and found.ref == loser.ref:
        await _take_in(house, member, loser, found, read_at)
    return found


async def _hear_last_words(house: House, member: Member, loser: Link, looked: Observation) -> None:
    """… and what was edited between that look and the merge, where the account keeps it."""
    _, read_at = await known(house, [])
    try:
        found = await member.connector.last_shown(loser.ref)
    except SyncError as error:
        log.warning("merge.unheard", ref=str(loser.ref), reason=error.reason)
        return
    if found is not None and found.version != looked.version:
        await _take_in(house, member, loser, found, read_at)


async def _take_in(
    house: House, member: Member, loser: Link, found: Observation, read_at: datetime
) -> None:
    cause = Cause("merge", str(loser.record_id))
    seen = Seen(found, cause, read_at, read_at)
    async with house.database.transaction() as db:
        world = await World.load(db, house, [seen])
        link, record = world.links.get(loser.ref), world.records.get(loser.record_id)
        if link is None or record is None or link.state != "merging":
            return
        state = world.state_of(seen)
        shown = {
            name: value
            for name, value in reading(state, found).items()
            if state.sync.may_read(member.name, name)
        }
        after, takes, clashes = last_words(record, link.base, shown, without=ties_of(link.entity))
        if after is record:
            return
        await records.change(db, [after], source=member.name)
        await journal.write(
            db, [Entry(record.id, after.version, member.name, cause, takes, clashes)]
        )
        if after.state != record.state:
            reason = f"it was to be deleted, and was edited in {member.name} before it was merged"
            edited = [take.field for take in takes]
            await conflicts.kept(db, link.entity, record.id, loser.ref, reason, edited)
        await mark(db, [record.id])


async def _merge(member: Member, survivor: Ref, loser: Ref) -> Ref:
    """The ref that lives on; a refusal may mean that it was done before, unheard."""
    try:
        return await member.connector.merge(survivor, loser)
    except (RateLimitedError, AccountError, TransientError):
        raise
    except SyncError:
        (found,) = await member.connector.read([loser])
        if found.raw is None or found.ref == loser:
            raise
        return found.ref


async def _pairs(db: AsyncConnection, account: str, ids: Sequence[UUID]) -> list[tuple[Link, Link]]:
    """(survivor, loser) of each record that has one to be merged there."""
    own = await links.by_record(db, ids, account=account, lock=True)
    living = {one.record_id: one for one in own if one.state == "live"}
    return [
        (living[one.record_id], one)
        for one in own
        if one.state == "merging" and one.record_id in living
    ]


def _refs(pair: tuple[Link, Link]) -> tuple[Ref, Ref]:
    return pair[0].ref, pair[1].ref


async def _refused(house: House, survivor: Link, loser: Link, error: SyncError) -> None:
    """They stay two there: the loser is parked again, and a person hears why."""
    async with house.database.transaction() as db:
        await links.end_writes(db, [survivor.ref, loser.ref])
        now = (await links.by_ref(db, [loser.ref], lock=True)).get(loser.ref)
        if now is None or now.state != "merging":
            return  # somebody has merged them there meanwhile, maybe the other way round
        await links.set_state(db, [loser.ref], "parked")
        why = f"{loser.ref.account} refused to merge it: {error.reason}"
        await conflicts.parked(
            db, loser.entity, loser.record_id, loser.ref, survivor.ref, reason=why
        )
    log.warning("merge.refused", ref=str(loser.ref), into=str(survivor.ref), reason=error.reason)


async def _merged(house: House, survivor: Link, loser: Link, kept: Ref) -> None:
    """As if the CRM had told us of it; then see what the survivor is now."""
    async with house.database.transaction() as db:
        await links.end_writes(db, [survivor.ref, loser.ref])
        await journal.merged(db, survivor, loser.ref, kept)
        if kept != survivor.ref:
            await relink(db, survivor.ref, kept)
        await relink(db, loser.ref, kept)
    log.info("merge.done", ref=str(loser.ref), into=str(kept), record=str(survivor.record_id))
    member = house.members[kept.account]
    _, read_at = await known(house, [kept])
    try:
        found = await member.connector.read([kept])
    except (RateLimitedError, AccountError, TransientError):
        return  # its webhook tells the same
    cause = Cause("push", member.name)
    await reconcile(house, [Seen(one, cause, read_at, read_at) for one in found])
