"""After a write that succeeded: the base becomes what the vendor says it stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, lanes, links, outbox, records
from app.db.links import Link
from app.domain.decide import reading
from app.domain.draft import agreed_after_create, agreed_after_update
from app.domain.entities import is_set, relations_of
from app.domain.fights import after_write
from app.domain.state import RecordState, State
from app.domain.values import (
    Outcome,
    Ref,
    Value,
)
from app.sync.draft import Job, bury_held, refuse
from app.sync.house import House, Member
from app.sync.parting import join
from app.sync.relink import unite


async def done(
    db: AsyncConnection,
    house: House,
    member: Member,
    finished: Sequence[tuple[Job, Outcome]],
) -> None:
    """The bases become what the vendor says it stored; what was created is linked."""
    if not finished:
        return
    created = [(job, outcome) for job, outcome in finished if job.link is None]
    await _containers(db, member, [outcome for _, outcome in created])
    parents = await _parents(db, [outcome for _, outcome in finished])
    # Merged away while the write was on its way: what was made is the survivor's.
    living = await records.survivors(db, [job.record.id for job, _ in created])
    rivals = await _rivals(db, member, list(living.values()))
    known = await links.by_ref(db, [outcome.ref for _, outcome in created if outcome.ref])
    #: What was made for the first of each pair was merged there into the second since.
    merged: list[tuple[UUID, UUID]] = []
    made: list[Link] = []
    agreed: list[links.Agreement] = []
    #: The in-lane has linked these meanwhile, and knows more than our answer: they look again.
    met: list[Job] = []
    for job, outcome in finished:
        assert outcome.ref is not None
        refuse(member, job, outcome.held)
        base, sent = _agreed(job, _stored(house, member, job, outcome, parents))
        if job.link is not None:
            version = outcome.stored.version if outcome.stored else None
            written = after_write(job.link.written, job.link.base, base, job.told, now(), version)
            agreed.append(links.Agreement(job.link.ref, base, sent, None, written))
            continue
        full = outcome.stored is not None and not outcome.stored.partial
        seen_at = outcome.stored.version if full and outcome.stored else None
        owner = living[job.record.id]
        link = Link.new(owner, job.record.entity, outcome.ref, base, sent, seen_at)
        there = known.get(outcome.ref)
        if there is not None and there.ended == "merged":
            merged.append((owner, there.record_id))
            continue
        rival = rivals.get(owner)
        if rival == outcome.ref:
            met.append(job)
            continue
        if rival is not None:
            await conflicts.suspect(db, job.record.entity, owner, outcome.ref, rival)
            link = link.now(state="parked")
        made.append(link)
    await links.add(db, made)
    await links.agree(db, agreed)
    await join(db, member.name, [link.record_id for link in made])
    for job, _ in finished:
        if job.held:
            await bury_held(db, job)
    for job in met:
        await outbox.postpone(db, job.mark, until=now())
    done_with = [job.mark for job, _ in finished if not job.held and job not in met]
    if await outbox.clear(db, done_with) or met:
        await lanes.wake(db, member.name, "out")
    for lost, kept in merged:
        survivors = await records.survivors(db, [lost, kept])
        if survivors[lost] != survivors[kept]:
            await unite(db, survivors[lost], survivors[kept], into=None, source=member.name)


def _agreed(job: Job, stored: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """(base, sent) of a link after a write, given what the answer shows."""
    assert job.write is not None
    link, ours = job.link, job.ours
    if link is None:
        # A parent that has no counterpart there was not told: it still has to travel.
        untold = job.held.keys() | job.orphaned
        return agreed_after_create(
            ours,
            told=job.told,
            stored=stored,
            untold=untold,
            unsaid=job.unsaid,
            without=_without(job),
        )
    without = _without(job) if job.write.relations else {}
    return agreed_after_update(
        link.base,
        link.sent,
        ours,
        told=job.told,
        stored=stored,
        fills=job.filled,
        unsaid=job.unsaid,
        without=without,
    )


def _without(job: Job) -> dict[str, Value]:
    """What the account knows of relations whose parents are not all there."""
    known = {name: sorted(map(str, job.parents[name])) for name in job.orphaned}
    return {name: ids if is_set(name) else next(iter(ids), None) for name, ids in known.items()}


async def _rivals(db: AsyncConnection, member: Member, ids: Sequence[UUID]) -> dict[UUID, Ref]:
    """Remote records that were linked to ours while our creates were on their way."""
    there = await links.by_record(db, ids, account=member.name, lock=True) if ids else []
    return {link.record_id: link.ref for link in there if link.state == "live"}


async def _parents(db: AsyncConnection, outcomes: Sequence[Outcome]) -> dict[Ref, UUID]:
    """The records behind the refs that the answers name."""
    refs = {
        ref
        for outcome in outcomes
        if outcome.stored is not None
        for listed in outcome.stored.relations.values()
        for ref in listed
    }
    return {ref: link.record_id for ref, link in (await links.by_ref(db, refs)).items()}


def _stored(
    house: House, member: Member, job: Job, outcome: Outcome, parents: Mapping[Ref, UUID]
) -> dict[str, Value]:
    """What the answer shows, in canonical terms; relations only where it names known refs."""
    if outcome.stored is None or outcome.stored.raw is None:
        return {}
    entity = job.record.entity
    sync = house.sync_of(entity, member.name)
    assert sync is not None
    context = house.context(entity, member.name)
    state = State(
        entity, member.mappings[entity], sync, context, record=job.record, parents=parents
    )
    return reading(state, outcome.stored)


async def _containers(db: AsyncConnection, member: Member, outcomes: Sequence[Outcome]) -> None:
    """A parent that the vendor made us create to hold a record does not travel."""
    named: dict[Ref, str] = {}
    for outcome in outcomes:
        for name, parent_entity in relations_of(outcome.write.entity).items():
            if outcome.stored is not None and name not in outcome.write.relations:
                named |= dict.fromkeys(outcome.stored.relations.get(name, ()), parent_entity)
    met = await links.by_ref(db, named)
    unmet = {ref: entity for ref, entity in named.items() if ref not in met}
    containers = {
        ref: RecordState(uuid.uuid7(), entity, {}, version=1, container=True)
        for ref, entity in unmet.items()
    }
    await records.add(db, list(containers.values()), source=member.name)
    await links.add(
        db, [Link.new(box.id, box.entity, ref, {}, {}, None) for ref, box in containers.items()]
    )
