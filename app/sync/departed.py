"""Before a create is tried again: look whether what it made was deleted meanwhile.

Nothing deleted returns. What is gone can be found by nobody, but a vendor may keep what it was,
and its webhook tells at least that something unknown to us was deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from app.clock import now
from app.db import conflicts, events, links, outbox
from app.db.journal import Cause
from app.db.links import Link
from app.domain.decide import keys_of, reading
from app.domain.departed import is_ours
from app.domain.identity import contradiction
from app.domain.state import State
from app.domain.values import Fields, Observation, Ref
from app.errors import AccountError, RateLimitedError, RejectedError, TransientError
from app.sync.adopt import all_keys, made_for, put_off, shown_there
from app.sync.draft import Job, count
from app.sync.house import House, Member
from app.sync.reconcile import known, reconcile
from app.sync.relink import absorbed
from app.sync.trouble import LanePaused, describe
from app.sync.world import Seen

log = structlog.get_logger()

#: News received until this long after a create was begun is read before it is tried again, …
NEWS = timedelta(seconds=35)
#: … which looks again after this.
SOON = timedelta(milliseconds=100)
#: A create's intent may be stamped by a clock that differs from the vendor's.
_SKEW = timedelta(seconds=60)


async def bury_departed(
    house: House, member: Member, jobs: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs that may be carried out; what a create has made and somebody has deleted is not
    made again.
    """
    begun = {
        job.record.id: job.mark.intent_at
        for job in jobs
        if job.link is None and job.mark.intent_at is not None
    }
    if not begun:
        return list(jobs)
    async with house.database.transaction() as db:
        unread = await events.unread_until(db, member.name, max(begun.values()) + NEWS)
    again = [job for job in jobs if job.record.id in begun]
    ready = [job for job in jobs if job.record.id not in begun]
    if unread:
        for job in again:
            await put_off(house, job, now() + SOON)
            count(counts, "waiting")
        return ready
    async with house.database.transaction() as db:
        intended = await outbox.intended(db, member.name, begun)
    recalled, unknown = await _recall(house, member, again[0].record.entity, min(begun.values()))
    owners = await made_for(house, recalled.values())
    for job in again:
        said, id = intended.get(job.record.id, {}), job.record.id
        mine, maybe = [], {}
        for ref, one in recalled.items():
            if owners[ref] == id if ref in owners else _is_made_by(house, member, job, said, one):
                mine.append(ref)
            if owners[ref] == id if ref in owners else not _is_another(house, job, one):
                maybe[ref] = one
        if len(mine) == 1:
            await _bury(house, member, job, said, mine[0])
            del recalled[mine[0]]
            count(counts, "linked")
        elif mine or maybe or unknown:
            await _ask(house, member, job, {**maybe, **dict.fromkeys(unknown)})
            count(counts, "held")
        else:
            ready.append(job)
    return ready


async def _recall(
    house: House, member: Member, entity: str, since: datetime
) -> tuple[dict[Ref, Observation], list[Ref]]:
    """What was made and deleted since then and unknown to us, as it was; and of what we know no
    more than that it is gone.
    """
    async with house.database.transaction() as db:
        told = await events.departed_since(db, member.name, member.type_of(entity), since)
    try:
        kept = await member.connector.recall(entity, since - _SKEW, told)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    met, _ = await known(house, [one.ref for one in kept])
    seen, unmet = {one.ref for one in kept}, {*told} | {one.ref for one in kept} - met.keys()
    recalled = {one.ref: one for one in kept if one.raw is not None and one.ref in unmet}
    return recalled, [ref for ref in told if ref not in seen]


def _is_made_by(
    house: House, member: Member, job: Job, intended: Fields, seen: Observation
) -> bool:
    state = _state(house, member, job)
    shown = reading(state, seen)
    return is_ours(intended, all_keys(house, job), shown, keys_of(state, shown))


def _is_another(house: House, job: Job, seen: Observation) -> bool:
    """Whether it had the address, or the domain, of somebody else."""
    state = _state(house, house.members[seen.ref.account], job)
    theirs = keys_of(state, reading(state, seen))
    return bool(contradiction(state.sync.keys or (), theirs, all_keys(house, job)))


def _state(house: House, member: Member, job: Job) -> State:
    entity = job.record.entity
    sync = house.sync_of(entity, member.name)
    assert sync is not None
    return State(entity, member.mappings[entity], sync, house.context(entity, member.name))


async def _bury(house: House, member: Member, job: Job, intended: Fields, ref: Ref) -> None:
    """As if our create had been answered, and the record deleted, or merged, then."""
    met, since = await known(house, [ref])
    if ref in met:
        async with house.database.transaction() as db:
            await outbox.clear(db, [job.mark])
            await absorbed(db, job.record.id, ref)
        return
    async with house.database.transaction() as db:
        record = job.record
        there = await links.by_record(db, [record.id], account=member.name, lock=True)
        if not any(link.state == "live" for link in there):
            await links.add(db, [Link.new(record.id, record.entity, ref, intended, {}, None)])
        await outbox.postpone(db, job.mark, until=now())
    try:
        (seen,) = await member.connector.read([ref])
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    if seen.raw is None:
        seen = Observation(ref, None, gone=True)
    await reconcile(house, [Seen(seen, Cause("push", member.name), since)])
    log.info("create.departed", ref=str(ref), record=str(job.record.id))


async def _ask(
    house: House, member: Member, job: Job, departed: Mapping[Ref, Observation | None]
) -> None:
    """One of these may be what our create had made: a person knows."""
    named = ", ".join(sorted(ref.id for ref in departed))
    reason = (
        f"it may have been created in {member.name} already, and deleted there since: {named} "
        "was deleted before we could see it"
    )
    shown = {
        ref.id: shown_there(house, member, one) if one is not None else {}
        for ref, one in departed.items()
    }
    async with house.database.transaction() as db:
        await conflicts.unsure(
            db,
            job.record.entity,
            min(departed),
            (job.record.id,),
            reason,
            {},
            record_id=job.record.id,
            found=shown,
            departed=True,
        )
        error = describe(RejectedError(reason), record=str(job.record.id))
        await outbox.bury(db, job.mark, error, in_doubt=True)
