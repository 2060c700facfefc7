"""Before a create: look whether it is there already, and link it instead."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app import logs
from app.clock import now
from app.db import conflicts, events, keyed, outbox, records, resyncs
from app.db.journal import Cause
from app.domain import identity
from app.domain.decide import reading
from app.domain.state import OURS, State
from app.domain.values import (
    Key,
    Observation,
    Ref,
    Value,
)
from app.errors import (
    AccountError,
    RateLimitedError,
    RejectedError,
    SyncError,
    TransientError,
)
from app.sync.draft import ORPHAN_WAIT, Job, count
from app.sync.house import House, Member
from app.sync.reconcile import Deferred, known, reconcile
from app.sync.trouble import LanePaused, describe
from app.sync.world import Seen

log = structlog.get_logger()

#: News of that account received until this long after the mark is read before a create, …
NEWS = timedelta(seconds=1)
#: … which looks again after this.
SOON = timedelta(milliseconds=100)
#: Vendors' search may lag this much behind a create whose answer was lost.
PROBE_AGE = timedelta(seconds=35)
#: A create that waits for a scan looks again after this, or when the scan ends.
SURVEY = timedelta(minutes=1)
#: A create's intent may be stamped by a clock that differs from the vendor's.
_SKEW = timedelta(seconds=60)


async def adopt(house: House, member: Member, jobs: list[Job], counts: dict[str, int]) -> list[Job]:
    """Creates whose record is there already are linked instead; the rest is returned."""
    creating = [job for job in jobs if job.link is None]
    if not creating:
        return jobs
    entity = creating[0].record.entity
    promise = member.connector.manifest.entities[entity]
    creating = await _surveyed(house, member, creating, counts)
    wanted = {job.record.id: _keys(house, member, job) for job in creating}
    _, started = await known(house, [])
    found, creating = await _find(house, member, creating, wanted, counts) if creating else ({}, [])
    go_on = [job for job in jobs if job.link is not None]
    async with house.database.transaction() as db:
        unread = await events.oldest(db, [member.name])
        anywhere = (
            await events.oldest(db, house.members) if any(map(_is_orphan, creating)) else None
        )
    met, _ = await known(house, [o.ref for listed in found.values() for o in listed])
    async with house.database.transaction() as db:
        apart = await keyed.separated(db, [job.record.id for job in creating]) if met else {}
    linking: list[tuple[Job, Observation]] = []
    for job in creating:
        begun = job.mark.scan or job.mark.intent is not None
        if not begun and unread is not None and unread <= job.mark.marked_at + NEWS:
            # What is still in the inbox may be this very record.
            await put_off(house, job, now() + SOON)
            count(counts, "waiting")
            continue
        orphan = _is_orphan(job) and not begun
        if orphan and anywhere is not None and anywhere <= job.mark.marked_at + ORPHAN_WAIT:
            # … or tell of the parent that it lacks.
            await put_off(house, job, now() + SOON)
            count(counts, "waiting")
            continue
        strangers = apart.get(job.record.id, frozenset())
        ours = Key("external_id", str(job.record.id))
        there = {
            o.ref: o
            # What bears our stamp is what we made, whoever else has the same address.
            for key in ([ours] if found.get(ours) else wanted[job.record.id])
            for o in found.get(key, ())
            if o.ref not in met or met[o.ref].record_id not in strangers
        }
        if not there and job.mark.intent is not None:
            there = await _left_behind(house, member, job)
            certain = any(key.kind in promise.unique for key in wanted[job.record.id])
            young = started - (job.mark.intent_at or started) < PROBE_AGE
            if not there and young and not certain:
                await put_off(house, job, now() + timedelta(seconds=5))
                count(counts, "probing")
                continue
            met |= (await known(house, list(there)))[0]
        if any(ref in met and met[ref].record_id == job.record.id for ref in there):
            # The in-lane has just linked it to this very record: there is nothing to create.
            await put_off(house, job, now() + SOON)
            count(counts, "waiting")
            continue
        unmet = {ref: observation for ref, observation in there.items() if ref not in met}
        if there and not unmet:
            await hold(house, member, job, list(there.values()))
            count(counts, "held")
        elif len(unmet) > 1:
            await hold(house, member, job, list(unmet.values()))
            count(counts, "held")
        elif unmet:
            (observation,) = unmet.values()
            linking.append((job, observation))
            count(counts, "linked")
        else:
            go_on.append(job)
    await link_to(house, linking, started)
    return go_on


def _is_orphan(job: Job) -> bool:
    """Whether this create has none of the parents that the account wants."""
    return job.write is not None and any(name not in job.write.relations for name in job.wants)


async def _find(
    house: House,
    member: Member,
    jobs: list[Job],
    wanted: Mapping[UUID, list[Key]],
    counts: dict[str, int],
) -> tuple[dict[Key, list[Observation]], list[Job]]:
    """What is there by key, and the jobs whose look-up was not refused."""
    entity = jobs[0].record.entity
    keys = sorted({key for own in wanted.values() for key in own})
    try:
        return (await member.connector.find(entity, keys) if keys else {}), jobs
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    except SyncError as error:
        if len(jobs) == 1:
            shown = describe(error, record=str(jobs[0].record.id))
            async with house.database.transaction() as db:
                await outbox.bury(db, jobs[0].mark, shown)
            log.error("push.buried", account=member.name, reason=logs.words(error))
            count(counts, "failed")
            return {}, []
    found: dict[Key, list[Observation]] = {}
    fine: list[Job] = []
    for job in jobs:  # one look-up is refused: find out which
        own, passed = await _find(
            house, member, [job], {job.record.id: wanted[job.record.id]}, counts
        )
        found |= own
        fine += passed
    return found, fine


async def _surveyed(
    house: House, member: Member, jobs: list[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs whose record cannot be there unknown to us.

    What a CRM cannot look up (a name, a number of the operator's own) we know only once all of
    its records were scanned: until then such a create waits.
    """
    entity = jobs[0].record.entity
    able = {*member.connector.manifest.entities[entity].keys, OURS, "external_id"}
    blind = {
        job.record.id: kinds
        for job in jobs
        if job.mark.intent is None and (kinds := {k.kind for k in all_keys(house, job)} - able)
    }
    if not blind:
        return jobs
    async with house.database.transaction() as db:
        if entity in await resyncs.surveyed(db, member.name):
            return jobs
        for job in jobs:
            if job.record.id in blind:
                error = _unknown(member, entity, blind[job.record.id])
                shown = describe(error, record=str(job.record.id))
                await outbox.wait(db, job.mark, until=now() + SURVEY, error=shown)
                count(counts, "waiting")
    return [job for job in jobs if job.record.id not in blind]


def _unknown(member: Member, entity: str, kinds: Collection[str]) -> TransientError:
    named, name = ", ".join(sorted(kinds)), member.name
    return TransientError(
        f"{name} cannot be asked who has this {named}: it is created there once "
        f"`syncline resync {name} --entity {entity}` has seen them all"
    )


def all_keys(house: House, job: Job) -> tuple[Key, ...]:
    record = job.record
    rules = house.key_rules(record.entity)
    return identity.keys(record.entity, record.fields, rules, external_id=str(record.id))


def _keys(house: House, member: Member, job: Job) -> list[Key]:
    """What to look for there before creating; our own id too where a create was begun before."""
    keys = {*all_keys(house, job)}
    if job.mark.intent is not None and member.config.external_id:
        keys.add(Key("external_id", str(job.record.id)))
    kinds = member.connector.manifest.entities[job.record.entity].keys
    return sorted(key for key in keys if key.kind in kinds)


async def _left_behind(house: House, member: Member, job: Job) -> dict[Ref, Observation]:
    """What a create whose answer was lost may have made.

    What looks like it but is another record's already, or has another key, it did not make.
    """
    probed = await _probe(member, job)
    met, _ = await known(house, list(probed))
    owners = await made_for(house, probed.values())
    entity, mine = job.record.entity, all_keys(house, job)
    rules = house.key_rules(entity)
    return {
        ref: one
        for ref, one in probed.items()
        if (ref not in met or met[ref].record_id == job.record.id)
        and owners.get(ref, job.record.id) == job.record.id
        and not identity.contradiction(
            rules, identity.keys(entity, shown_there(house, member, one), rules), mine
        )
    }


async def made_for(house: House, seen: Iterable[Observation]) -> dict[Ref, UUID]:
    """Whom these were made for, where they bear a stamp: the record that it lives on in."""
    stamps: dict[Ref, UUID] = {}
    for one in seen:
        if stamp := house.stamp_on(one):
            with contextlib.suppress(ValueError):  # a person may write into the field
                stamps[one.ref] = UUID(stamp)
    if not stamps:
        return {}
    async with house.database.transaction() as db:
        living = await records.survivors(db, stamps.values())
    return {ref: living[id] for ref, id in stamps.items()}


async def _probe(member: Member, job: Job) -> dict[Ref, Observation]:
    assert job.write is not None
    assert job.mark.intent_at is not None
    try:
        found = await member.connector.probe(job.write, job.mark.intent_at - _SKEW)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    return {observation.ref: observation for observation in found}


async def put_off(house: House, job: Job, until: datetime) -> None:
    async with house.database.transaction() as db:
        await outbox.postpone(db, job.mark, until=until, keep_intent=True)


async def hold(house: House, member: Member, job: Job, found: Sequence[Observation]) -> None:
    """Several records there could be this one: write nothing, ask a person."""
    named = ", ".join(o.ref.id for o in found)
    reason = (
        f"{member.name} has {named} with the same key, and it belongs to another record"
        if len(found) == 1
        else f"{member.name} has {len(found)} records that could be this one: {named}"
    )
    met, _ = await known(house, [o.ref for o in found])
    async with house.database.transaction() as db:
        apart = (await keyed.separated(db, [job.record.id])).get(job.record.id, frozenset())
        # A person said that they are two: nobody is asked again.
        if not all(o.ref in met and met[o.ref].record_id in apart for o in found):
            await conflicts.unsure(
                db,
                job.record.entity,
                found[0].ref,
                (job.record.id,),
                reason,
                {},
                record_id=job.record.id,
                found={o.ref.id: shown_there(house, member, o) for o in found},
            )
        await outbox.bury(db, job.mark, describe(RejectedError(reason), record=str(job.record.id)))


def shown_there(house: House, member: Member, observation: Observation) -> dict[str, Value]:
    """What a remote record says, for a person to compare."""
    if observation.raw is None:
        return {}
    entity = member.entity_of(observation.ref.type)
    assert entity is not None
    sync = house.sync_of(entity, member.name)
    assert sync is not None
    context = house.context(entity, member.name)
    return reading(State(entity, member.mappings[entity], sync, context), observation)


async def link_to(house: House, found: Sequence[tuple[Job, Observation]], since: datetime) -> None:
    """Link what is there to our records; the marks stay for what differs."""
    if not found:
        return
    async with house.database.transaction() as db:
        for job, _ in found:
            await outbox.postpone(db, job.mark, until=now(), keep_intent=False)
    seen = [
        Seen(observation, Cause("push", job.mark.account), since, since, job.record.id)
        for job, observation in found
    ]
    for (job, _), answer in zip(found, await reconcile(house, seen), strict=True):
        if isinstance(answer, Deferred):
            await put_off(house, job, now() + timedelta(seconds=1))
        elif isinstance(answer, Exception):
            raise answer
