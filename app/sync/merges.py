"""Merging in the CRM itself what is one record of ours: the out-lane does it, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, journal, lanes, links
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.links import Link
from app.db.outbox import Mark
from app.domain.values import NOTHING, Ref
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync.draft import count
from app.sync.house import House, Member
from app.sync.reconcile import known, reconcile
from app.sync.relink import relink
from app.sync.trouble import LanePaused
from app.sync.world import Seen

log = structlog.get_logger()


async def merge_there(
    house: House, lane: Lane, member: Member, marks: Sequence[Mark], counts: dict[str, int]
) -> None:
    """Merge the counterparts of these records that are to be merged there."""
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        pairs = await _pairs(db, member.name, [mark.record_id for mark in marks])
        await links.begin_writes(db, {ref: NOTHING for pair in pairs for ref in _refs(pair)})
    for survivor, loser in pairs:
        try:
            kept = await _merge(member, survivor.ref, loser.ref)
        except (RateLimitedError, AccountError, TransientError) as error:
            async with house.database.transaction() as db:
                await links.end_writes(db, [ref for pair in pairs for ref in _refs(pair)])
            raise LanePaused(error) from error
        except SyncError as error:
            await _refused(house, survivor, loser, error)
            count(counts, "failed")
        else:
            await _merged(house, survivor, loser, kept)
            count(counts, "merged")


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
