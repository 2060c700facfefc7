"""After a write that succeeded: the base becomes what the vendor says it stored."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, lanes, links, outbox, records
from app.db.links import Link
from app.domain.codecs import ABSENT
from app.domain.decide import RecordState, State, reading
from app.domain.entities import equal, is_blank, relations_of
from app.domain.values import (
    Outcome,
    Ref,
    Value,
)
from app.sync.draft import Job, bury_held, refs_of
from app.sync.house import House, Member


async def done(
    db: AsyncConnection, house: House, member: Member, job: Job, outcome: Outcome
) -> None:
    """The base becomes what the vendor says it stored."""
    assert outcome.ref is not None
    assert job.write is not None
    link = job.link
    if link is None:
        await _containers(db, house, member, outcome)
    stored = await _stored(db, house, member, job, outcome)
    told = set(job.told)
    if link is None:
        # A parent that has no counterpart there was not told: it still has to travel.
        base = {name: job.record.fields[name] for name in told} | _without(job) | stored
        settled = (job.record.fields.keys() & base.keys()) - job.held.keys() - job.orphaned
    else:
        # What the vendor filled by itself because of this write is known, and is no edit.
        filled = {
            name
            for name in member.mappings[job.record.entity].filled & stored.keys() - told
            if is_blank(link.base.get(name))
        }
        news = {name: stored.get(name, job.record.fields.get(name)) for name in told | filled}
        base = {**link.base, **(_without(job) if job.write.relations else {}), **news}
        settled = (told | filled) & job.record.fields.keys()
    sent = dict(link.sent) if link else {}
    for name in settled:
        sent.pop(name, None)
        if not equal(base.get(name, ABSENT), job.record.fields[name]):
            sent[name] = job.record.fields[name]
    full = outcome.stored is not None and not outcome.stored.partial
    seen_at = outcome.stored.version if full and outcome.stored else None
    if link is None:
        made = Link.new(job.record.id, job.record.entity, outcome.ref, base, sent, seen_at)
        rival = await _rival(db, member, job, outcome.ref)
        await links.add(db, [made.now(state="parked") if rival else made])
        if rival:
            await conflicts.suspect(db, job.record.entity, job.record.id, outcome.ref, rival)
        await _release_children(db, member, job.record.id)
    else:
        await links.agree(db, [links.Agreement(link.ref, base, sent, None)])
    if job.held:
        await bury_held(db, job)
    elif not await outbox.clear(db, job.mark):
        await lanes.wake(db, member.name, "out")


def _without(job: Job) -> dict[str, Value]:
    """What the account knows of relations whose parents are not all there."""
    known = {name: sorted(map(str, job.parents[name])) for name in job.orphaned}
    return {name: ids if name == "people" else next(iter(ids), None) for name, ids in known.items()}


async def _rival(db: AsyncConnection, member: Member, job: Job, ref: Ref) -> Ref | None:
    """Another remote record that was linked to ours while our create was on its way."""
    there = await links.by_record(db, [job.record.id], account=member.name, lock=True)
    return next((link.ref for link in there if link.state == "live" and link.ref != ref), None)


async def _stored(
    db: AsyncConnection, house: House, member: Member, job: Job, outcome: Outcome
) -> dict[str, Value]:
    """What the answer shows, in canonical terms; relations only where it names known refs."""
    if outcome.stored is None or outcome.stored.raw is None:
        return {}
    sync = house.sync_of(job.record.entity, member.name)
    assert sync is not None
    refs = [ref for listed in outcome.stored.relations.values() for ref in listed]
    state = State(
        job.record.entity,
        member.mappings[job.record.entity],
        sync,
        house.context(job.record.entity, member.name),
        record=job.record,
        parents={ref: link.record_id for ref, link in (await links.by_ref(db, refs)).items()},
    )
    return reading(state, outcome.stored)


async def _containers(db: AsyncConnection, house: House, member: Member, outcome: Outcome) -> None:
    """A parent that the vendor made us create to hold this record does not travel."""
    if outcome.stored is None:
        return
    for name, parent_entity in relations_of(outcome.write.entity).items():
        refs = outcome.stored.relations.get(name, ())
        if name in outcome.write.relations or not refs:
            continue
        met = await links.by_ref(db, refs)
        for ref in refs:
            if ref in met:
                continue
            container = RecordState(uuid.uuid7(), parent_entity, {}, version=1, container=True)
            await records.add(db, [container], source=member.name)
            await links.add(db, [Link.new(container.id, parent_entity, ref, {}, {}, None)])


async def _release_children(db: AsyncConnection, member: Member, parent: UUID) -> None:
    """Children that waited for this parent, or went without it, are due now."""
    children = await records.children(db, [parent])
    if not children:
        return
    await outbox.hurry(db, member.name, children)
    there = await refs_of(db, member, children)
    grown = await records.get(db, there)
    await outbox.mark(db, {(member.name, child.id): child for child in grown.values()})
    await lanes.wake(db, member.name, "out")
