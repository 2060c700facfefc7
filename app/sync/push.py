"""The outbox of an account -> writes -> outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.clock import now
from app.db import conflicts, events, journal, lanes, links, outbox, records
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.links import Link
from app.db.outbox import Mark
from app.domain import identity
from app.domain.codecs import ABSENT
from app.domain.decide import Plan, RecordState, Result, State, reading, writable
from app.domain.entities import equal, is_blank, order_of, relations_of
from app.domain.mapping import to_remote
from app.domain.merge import behind
from app.domain.values import (
    NOTHING,
    Key,
    Observation,
    Op,
    Outcome,
    Ref,
    RelationEdit,
    Value,
    Write,
)
from app.domain.verdict import Action
from app.errors import (
    AccountError,
    ExistsError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
    UnknownOutcomeError,
)
from app.sync.house import House, Member
from app.sync.reconcile import Deferred, known, reconcile
from app.sync.trouble import LanePaused, describe, judge
from app.sync.world import Seen

log = structlog.get_logger()

#: How many marks one turn of the lane takes.
BATCH = 200
#: How many ids a line of the log names.
TRACES = 20
#: A child whose parent is still on its way looks again after this, or when the parent arrives.
PARENT_WAIT = timedelta(seconds=5)
#: Where a system wants a parent, a record that has none yet is given this long to get one.
ORPHAN_WAIT = timedelta(seconds=2)
#: News of that account received until this long after the mark is read before a create, …
NEWS = timedelta(seconds=1)
#: … which looks again after this.
SOON = timedelta(milliseconds=100)
#: Vendors' search may lag this much behind a create whose answer was lost.
PROBE_AGE = timedelta(seconds=35)
#: A create's intent may be stamped by a clock that differs from the vendor's.
_SKEW = timedelta(seconds=60)


@dataclass(slots=True)
class Job:
    """One mark with what is needed to carry it out."""

    mark: Mark
    record: RecordState
    link: Link | None
    names: frozenset[str] = frozenset()
    write: Write | None = None
    held: dict[str, str] = field(default_factory=dict)


async def push(house: House, lane: Lane) -> None:
    """One turn of an out-lane: parents first, every row with its own fate."""
    started = now()
    member = house.members[lane.account]
    await _learn(house, lane.account)
    async with house.database.transaction() as db:
        marks = await outbox.take(db, lane.account, limit=BATCH)
    counts: dict[str, int] = {}
    # Children are worked out after their parents were written: then the parents have refs.
    for _, group in groupby(sorted(marks, key=_rank), key=_rank):
        async with house.database.transaction() as db:
            if not await lanes.holds(db, lane):
                return
            jobs = await _plan(db, house, member, list(group), counts)
        jobs = await _adopt(house, member, jobs, counts)
        await _write(house, lane, member, jobs, counts)
    if marks:
        log.info(
            "push.finished",
            account=lane.account,
            marks=len(marks),
            traces=sorted({mark.trace for mark in marks if mark.trace})[:TRACES],
            ms=round((now() - started).total_seconds() * 1000),
            **counts,
        )


def _rank(mark: Mark) -> int:
    return order_of(mark.entity)


async def _learn(house: House, account: str) -> None:
    try:
        await house.learn(account)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error


# --- what would be sent -----------------------------------------------------------------------


async def _plan(
    db: AsyncConnection,
    house: House,
    member: Member,
    marks: Sequence[Mark],
    counts: dict[str, int],
) -> list[Job]:
    """The jobs that have something to send; marks with nothing to say are cleared."""
    ids = [mark.record_id for mark in marks]
    found = await records.get(db, ids)
    linked: dict[UUID, Link] = {}
    for link in await links.by_record(db, ids, account=member.name):
        if link.record_id not in linked or link.state == "live":
            linked[link.record_id] = link
    held = await conflicts.held_fields(db, ids, member.name)
    jobs: list[Job] = []
    for mark in marks:
        record, met = found.get(mark.record_id), linked.get(mark.record_id)
        buried = met is not None and met.state != "live"
        if record is None or buried or not travels(house, member, record, met):
            # Deleted, parked or never meant to be there: nothing deleted returns.
            await outbox.clear(db, mark)
            _count(counts, "cleared")
            continue
        job = Job(mark, record, met)
        wait = await prepare(db, house, member, job, held.get(record.id, frozenset()))
        if wait is not None:
            await outbox.postpone(db, mark, until=now() + wait, keep_intent=True)
            _count(counts, "waiting")
        elif job.write is None:
            await _nothing_to_say(db, house, member, job)
            _count(counts, "unchanged")
        else:
            jobs.append(job)
    return jobs


def travels(house: House, member: Member, record: RecordState, link: Link | None) -> bool:
    """Whether this record belongs in this account at all."""
    if house.sync_of(record.entity, member.name) is None:
        return False
    promise = member.connector.manifest.entities.get(record.entity)
    if promise is None:
        return False
    if link is not None:
        return "update" in promise.write
    return "create" in promise.write and not record.container


async def prepare(
    db: AsyncConnection, house: House, member: Member, job: Job, held: frozenset[str]
) -> timedelta | None:
    """Work out the write of a job; a delay instead if a parent is still on its way."""
    record, link = job.record, job.link
    if link is None and (wait := _patience(member, job)) is not None:
        return wait
    sync = house.sync_of(record.entity, member.name)
    assert sync is not None
    mapping = member.mappings[record.entity]
    state = State(record.entity, mapping, sync, house.context(record.entity, member.name))
    base: Mapping[str, Value] = link.base if link else NOTHING
    sent: Mapping[str, Value] = link.sent if link else NOTHING
    job.names = behind(base, sent, record.fields, writable(state, member.name) - held)
    edits, wait = await _relation_edits(db, member, job, base)
    if wait is not None:
        return wait
    context = replace(state.context, current=base if link else None)
    plain = job.names - relations_of(record.entity).keys()
    ours = record.fields
    if link is None and record.entity == "deal" and is_blank(ours.get("name")):
        ours = {**ours, "name": await _stand_in(db, record)}
        plain |= {"name"}
    fields, job.held = to_remote(mapping, plain, ours, context)
    if link is not None:
        there, _ = to_remote(mapping, plain, {**record.fields, **base}, context)
        known_there = {
            path
            for row in mapping.rows
            if all(name in base for name in row.fields)
            for path in row.paths
        }
        fields = {
            path: value
            for path, value in fields.items()
            if path not in known_there or there.get(path, ABSENT) != value
        }
        if not fields and not edits:
            return None
    else:
        fields = {path: value for path, value in fields.items() if value not in (None, "", [])}
    job.write = Write(
        op=Op.UPDATE if link else Op.CREATE,
        entity=record.entity,
        type=member.type_of(record.entity),
        record_id=record.id,
        trace=uuid.uuid4().hex,
        ref=link.ref if link else None,
        fields=fields,
        relations=edits,
        external_id=str(record.id) if member.config.external_id else None,
    )
    return None


def _patience(member: Member, job: Job) -> timedelta | None:
    """How much longer a create waits for news of the same record there; None if it need not."""
    promise = member.connector.manifest.entities[job.record.entity]
    left = timedelta(seconds=promise.patience) - (now() - job.mark.marked_at)
    return left if left > timedelta() and job.mark.intent is None else None


async def _stand_in(db: AsyncConnection, record: RecordState) -> str:
    """A name for a deal that has none: its company's. A placeholder, never data of ours."""
    companies = await records.get(db, records.parents_of(record).get("company", []))
    names = [company.fields.get("name") for company in companies.values()]
    return next((str(name) for name in names if name), "Untitled deal")


async def _relation_edits(
    db: AsyncConnection, member: Member, job: Job, base: Mapping[str, Value]
) -> tuple[dict[str, RelationEdit], timedelta | None]:
    """How the relations of the remote record must change; a delay if a parent is not there yet."""
    edits: dict[str, RelationEdit] = {}
    promise = member.connector.manifest.entities[job.record.entity]
    wanted_by = records.parents_of(job.record)
    for name, wanted in wanted_by.items():
        if job.link is not None and name not in job.names:
            continue
        before = _ids(base.get(name))
        refs = await _refs(db, member, {*wanted, *before})
        missing = [parent for parent in wanted if parent not in refs]
        if missing and await outbox.queued(db, member.name, missing):
            return {}, PARENT_WAIT
        there = [refs[parent] for parent in wanted if parent in refs]
        if not there and job.link is None and name in promise.parents:
            age = now() - job.mark.marked_at
            if not wanted and age < ORPHAN_WAIT:
                return {}, ORPHAN_WAIT - age
        old = [refs[parent] for parent in before if parent in refs]
        edit = RelationEdit(
            wanted=tuple(there),
            add=tuple(ref for ref in there if ref not in old),
            remove=tuple(ref for ref in old if ref not in there and not missing),
        )
        if edit.add or edit.remove:
            edits[name] = edit
    return edits, None


def _ids(value: Value) -> list[UUID]:
    listed = value if isinstance(value, list) else [value] if value else []
    return [UUID(str(item)) for item in listed]


async def _refs(db: AsyncConnection, member: Member, ids: Iterable[UUID]) -> dict[UUID, Ref]:
    """The living counterparts of these records in this account."""
    found = await links.by_record(db, list(ids), account=member.name)
    return {link.record_id: link.ref for link in found if link.state == "live"}


async def _nothing_to_say(db: AsyncConnection, house: House, member: Member, job: Job) -> None:
    """In their words our value is what they hold: remember that, send nothing."""
    if job.held:
        await _bury_held(db, job)
        return
    if job.link is not None and job.names:
        sent = {**job.link.sent, **{name: job.record.fields[name] for name in job.names}}
        await links.agree(db, [links.Agreement(job.link.ref, None, sent, None)])
    await outbox.clear(db, job.mark)


async def _bury_held(db: AsyncConnection, job: Job) -> None:
    """A value that has no place there waits for a person; a newer version tries again."""
    name, reason = next(iter(job.held.items()))
    error = describe(
        RejectedError(reason, field=name, value=str(job.record.fields.get(name))),
        record=str(job.record.id),
    )
    await outbox.bury(db, job.mark, error)


# --- creates: look before you leap ------------------------------------------------------------


async def _adopt(
    house: House, member: Member, jobs: list[Job], counts: dict[str, int]
) -> list[Job]:
    """Creates whose record is there already are linked instead; the rest is returned."""
    creating = [job for job in jobs if job.link is None]
    if not creating:
        return jobs
    entity = creating[0].record.entity
    promise = member.connector.manifest.entities[entity]
    wanted = {job.record.id: _keys(member, job) for job in creating}
    keys = sorted({key for own in wanted.values() for key in own})
    _, started = await known(house, [])
    try:
        found = await member.connector.find(entity, keys) if keys else {}
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    go_on = [job for job in jobs if job.link is not None]
    async with house.database.transaction() as db:
        unread = await events.oldest(db, member.name)
    for job in creating:
        if not job.mark.scan and unread is not None and unread <= job.mark.marked_at + NEWS:
            # What is still in the inbox may be this very record.
            await _put_off(house, job, now() + SOON)
            _count(counts, "waiting")
            continue
        there = {o.ref: o for key in wanted[job.record.id] for o in found.get(key, ())}
        if not there and job.mark.intent is not None:
            there = await _probe(member, job)
            certain = any(key.kind in promise.unique for key in wanted[job.record.id])
            young = started - (job.mark.intent_at or started) < PROBE_AGE
            if not there and young and not certain:
                await _put_off(house, job, now() + timedelta(seconds=5))
                _count(counts, "probing")
                continue
        unmet = await _unlinked(house, there)
        if there and not unmet:
            await _hold(house, member, job, list(there.values()))
            _count(counts, "held")
        elif len(unmet) > 1:
            await _hold(house, member, job, list(unmet.values()))
            _count(counts, "held")
        elif unmet:
            (observation,) = unmet.values()
            await _link(house, job, observation, started)
            _count(counts, "linked")
        else:
            go_on.append(job)
    return go_on


def _keys(member: Member, job: Job) -> list[Key]:
    """What to look for there before creating; our own id too where a create was begun before."""
    keys = list(identity.keys(job.record.entity, job.record.fields))
    if job.mark.intent is not None and member.config.external_id:
        keys.append(Key("external_id", str(job.record.id)))
    kinds = member.connector.manifest.entities[job.record.entity].keys
    return [key for key in keys if key.kind in kinds]


async def _probe(member: Member, job: Job) -> dict[Ref, Observation]:
    """What a create whose answer was lost may have left behind."""
    assert job.write is not None
    assert job.mark.intent_at is not None
    try:
        found = await member.connector.probe(job.write, job.mark.intent_at - _SKEW)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    return {observation.ref: observation for observation in found}


async def _unlinked(house: House, found: Mapping[Ref, Observation]) -> dict[Ref, Observation]:
    met, _ = await known(house, list(found))
    return {ref: o for ref, o in found.items() if ref not in met}


async def _put_off(house: House, job: Job, until: datetime) -> None:
    async with house.database.transaction() as db:
        await outbox.postpone(db, job.mark, until=until, keep_intent=True)


async def _hold(house: House, member: Member, job: Job, found: Sequence[Observation]) -> None:
    """Several records there could be this one: write nothing, ask a person."""
    named = ", ".join(o.ref.id for o in found)
    reason = f"{member.name} has {len(found)} records that could be this one: {named}"
    async with house.database.transaction() as db:
        await conflicts.unsure(
            db,
            job.record.entity,
            found[0].ref,
            (job.record.id,),
            reason,
            {"refs": [o.ref.id for o in found]},
            record_id=job.record.id,
        )
        await outbox.bury(db, job.mark, describe(RejectedError(reason), record=str(job.record.id)))


async def _link(house: House, job: Job, observation: Observation, since: datetime) -> None:
    """Link what is there to our record; the mark stays for what differs."""
    async with house.database.transaction() as db:
        await outbox.postpone(db, job.mark, until=now(), keep_intent=False)
    seen = Seen(observation, Cause("push", job.mark.account), since, since, job.record.id)
    (answer,) = await reconcile(house, [seen])
    if isinstance(answer, Deferred):
        await _put_off(house, job, now() + timedelta(seconds=1))
    elif isinstance(answer, Exception):
        raise answer


# --- writing ----------------------------------------------------------------------------------


async def _write(
    house: House, lane: Lane, member: Member, jobs: Sequence[Job], counts: dict[str, int]
) -> None:
    """Commit the intents, send, settle; in the vendor's batch size."""
    size = max(1, member.connector.manifest.write_batch)
    step = size if size > 1 else 16
    for op in (Op.CREATE, Op.UPDATE):
        ready = [job for job in jobs if job.write is not None and job.write.op is op]
        for start in range(0, len(ready), step):
            batch = ready[start : start + step]
            if op is Op.UPDATE:
                batch = await _unmoved(house, member, batch, counts)
            if not batch:
                continue
            writes = [job.write for job in batch if job.write is not None]
            async with house.database.transaction() as db:
                if not await lanes.holds(db, lane):
                    return
                for job in batch:
                    if job.link is None:
                        await outbox.intend(db, job.mark, job.write.trace if job.write else "")
                await links.begin_writes(db, [job.link.ref for job in batch if job.link])
            traces = sorted({job.mark.trace for job in batch if job.mark.trace})[:TRACES]
            try:
                with structlog.contextvars.bound_contextvars(traces=traces):
                    outcomes = await member.connector.write(writes)
            except (RateLimitedError, AccountError, TransientError) as error:
                # Raised only before anything was sent: nothing is in doubt.
                async with house.database.transaction() as db:
                    await links.end_writes(db, [job.link.ref for job in batch if job.link])
                    for job in batch:
                        await outbox.postpone(db, job.mark, until=now())
                raise LanePaused(error) from error
            except Exception as error:  # a bug in a connector: every row of the batch tries again
                outcomes = [Outcome(write, error=error) for write in writes]
            await _settle(house, lane, member, batch, outcomes, counts)


async def _unmoved(
    house: House, member: Member, batch: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs whose remote record is still as we know it; look before you write.

    A webhook may be seconds behind the edit it tells of. What moved is reconciled first, so
    that the policy decides and not the clock; its mark stays and is worked out anew.
    """
    refs = [job.link.ref for job in batch if job.link is not None]
    _, read_at = await known(house, [])
    try:
        observed = await member.connector.read(refs)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    cause = Cause("push", member.name)
    seen = [Seen(observation, cause, read_at, read_at) for observation in observed]
    answers = await reconcile(house, seen)
    still = {
        one.observation.ref
        for one, answer in zip(seen, answers, strict=True)
        if isinstance(answer, Plan) and answer.result in (Result.UNCHANGED, Result.MISSING)
    }
    moved = [job for job in batch if job.link is not None and job.link.ref not in still]
    if moved:
        counts["moved"] = counts.get("moved", 0) + len(moved)
        async with house.database.transaction() as db:
            for job in moved:
                await outbox.postpone(db, job.mark, until=now())
    return [job for job in batch if job.link is not None and job.link.ref in still]


async def _settle(
    house: House,
    lane: Lane,
    member: Member,
    batch: Sequence[Job],
    outcomes: Sequence[Outcome],
    counts: dict[str, int],
) -> None:
    fates = {outcome.write.trace: outcome for outcome in outcomes}
    pause: RateLimitedError | AccountError | None = None
    again: list[tuple[Job, Outcome]] = []
    moment = now()
    async with house.database.transaction() as db:
        for job in batch:
            assert job.write is not None
            outcome = fates.get(job.write.trace) or Outcome(
                job.write, error=UnknownOutcomeError("the connector gave no outcome for this row")
            )
            error = outcome.error
            shown = describe(error, record=str(job.record.id)) if error else None
            before = {n: job.link.base.get(n) for n in job.names} if job.link else {}
            await journal.attempt(db, outcome, member.name, before=before, error=shown)
            metrics.WRITES.labels(member.name, job.write.op, "failed" if error else "ok").inc()
            if error is None:
                await _done(db, house, member, job, outcome)
                _count(counts, f"{job.write.op}d")
                continue
            _count(counts, "failed")
            verdict = judge(error, job.mark.attempts, moment)
            if isinstance(error, StaleError | NotFoundError) and job.mark.attempts < 3:
                again.append((job, outcome))
            if isinstance(error, RateLimitedError | AccountError):
                pause = error
            unknown = isinstance(error, UnknownOutcomeError) and job.link is None
            if verdict.action is Action.DEAD and not isinstance(error, NotFoundError):
                await outbox.bury(db, job.mark, shown or {})
                log.error(
                    "push.buried", account=member.name, record=str(job.record.id), **_brief(shown)
                )
            else:
                until = verdict.at if verdict.action is Action.RETRY else moment
                if isinstance(error, NotFoundError):
                    until = moment + timedelta(seconds=2)
                await outbox.postpone(
                    db, job.mark, until=until or moment, error=shown, keep_intent=unknown
                )
        await links.end_writes(db, [job.link.ref for job in batch if job.link])
        await records.touch(db, [j.record.id for j in batch])
    for job, outcome in again:
        await _look_again(house, member, job, outcome)
    for outcome in outcomes:
        await _others_edited(house, member, outcome)
    if pause is not None:
        raise LanePaused(pause)


async def _done(
    db: AsyncConnection, house: House, member: Member, job: Job, outcome: Outcome
) -> None:
    """The base becomes what the vendor says it stored."""
    assert outcome.ref is not None
    assert job.write is not None
    link = job.link
    if link is None:
        await _containers(db, house, member, outcome)
    stored = await _stored(db, house, member, job, outcome)
    told = set(job.names - job.held.keys())
    if link is None:
        base = {name: job.record.fields[name] for name in told} | stored
        settled = (job.record.fields.keys() & base.keys()) - job.held.keys()
    else:
        # What the vendor filled by itself because of this write is known, and is no edit.
        filled = {
            name
            for name in member.mappings[job.record.entity].filled & stored.keys() - told
            if is_blank(link.base.get(name))
        }
        news = {name: stored.get(name, job.record.fields.get(name)) for name in told | filled}
        base = {**link.base, **news}
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
        await _bury_held(db, job)
    elif not await outbox.clear(db, job.mark):
        await lanes.wake(db, member.name, "out")


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
    there = await _refs(db, member, children)
    grown = await records.get(db, there)
    await outbox.mark(db, {(member.name, child.id): child for child in grown.values()})
    await lanes.wake(db, member.name, "out")


async def _look_again(house: House, member: Member, job: Job, outcome: Outcome) -> None:
    """The remote record is not what we thought: read it and decide anew."""
    error = outcome.error
    ref = job.link.ref if job.link else None
    if isinstance(error, ExistsError) and error.remote_id is not None:
        ref = Ref(member.name, outcome.write.type, error.remote_id)
    if ref is None:
        return
    linked, read_at = await known(house, [ref])
    try:
        (observation,) = await member.connector.read([ref])
    except (RateLimitedError, AccountError, TransientError):
        return  # the mark is still there and tries again
    if job.link is None and ref not in linked:
        await _link(house, job, observation, read_at)
    else:
        cause = Cause("push", member.name)
        await reconcile(house, [Seen(observation, cause, read_at, read_at)])


async def _others_edited(house: House, member: Member, outcome: Outcome) -> None:
    """A full answer to an update also shows what others changed: it is an observation too."""
    stored = outcome.stored
    if outcome.error or stored is None or stored.partial or outcome.write.op is not Op.UPDATE:
        return
    await reconcile(house, [Seen(stored, Cause("push", member.name), now())])


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _brief(shown: Mapping[str, Any] | None) -> dict[str, Any]:
    return {n: shown[n] for n in ("cause", "reason") if shown and shown.get(n)}
