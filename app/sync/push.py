"""The outbox of an account -> writes -> outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.clock import now
from app.db import conflicts, journal, lanes, links, outbox, records
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.links import Link
from app.db.outbox import Mark
from app.domain.decide import Plan, Result
from app.domain.entities import order_of
from app.domain.values import (
    Op,
    Outcome,
    Ref,
)
from app.domain.verdict import Action
from app.errors import (
    AccountError,
    ExistsError,
    NotFoundError,
    RateLimitedError,
    StaleError,
    TransientError,
    UnknownOutcomeError,
)
from app.sync.adopt import adopt, link_to
from app.sync.draft import Job, bury_held, count, prepare, travels
from app.sync.house import House, Member
from app.sync.reconcile import known, reconcile
from app.sync.settle import done
from app.sync.trouble import LanePaused, describe, judge
from app.sync.world import Seen

log = structlog.get_logger()

#: How many marks one turn of the lane takes.
BATCH = 200
#: How many ids a line of the log names.
TRACES = 20


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
        jobs = await adopt(house, member, jobs, counts)
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
            count(counts, "cleared")
            continue
        job = Job(mark, record, met)
        wait = await prepare(db, house, member, job, held.get(record.id, frozenset()))
        if wait is not None:
            await outbox.postpone(db, mark, until=now() + wait, keep_intent=True)
            count(counts, "waiting")
        elif job.write is None:
            await _nothing_to_say(db, house, member, job)
            count(counts, "unchanged")
        else:
            jobs.append(job)
    return jobs


async def _nothing_to_say(db: AsyncConnection, house: House, member: Member, job: Job) -> None:
    """In their words our value is what they hold: remember that, send nothing."""
    if job.held:
        await bury_held(db, job)
        return
    if job.link is not None and job.told:
        sent = {**job.link.sent, **{name: job.record.fields[name] for name in job.told}}
        await links.agree(db, [links.Agreement(job.link.ref, None, sent, None)])
    await outbox.clear(db, job.mark)


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
            shown = (
                describe(error, record=str(job.record.id), sent=job.write.fields) if error else None
            )
            before = {n: job.link.base.get(n) for n in job.names} if job.link else {}
            await journal.attempt(db, outcome, member.name, before=before, error=shown)
            metrics.WRITES.labels(member.name, job.write.op, "failed" if error else "ok").inc()
            if error is None:
                await done(db, house, member, job, outcome)
                count(counts, f"{job.write.op}d")
                continue
            count(counts, "failed")
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
        await link_to(house, job, observation, read_at)
    else:
        cause = Cause("push", member.name)
        await reconcile(house, [Seen(observation, cause, read_at, read_at)])


async def _others_edited(house: House, member: Member, outcome: Outcome) -> None:
    """A full answer to an update also shows what others changed: it is an observation too."""
    stored = outcome.stored
    if outcome.error or stored is None or stored.partial or outcome.write.op is not Op.UPDATE:
        return
    await reconcile(house, [Seen(stored, Cause("push", member.name), now())])


def _brief(shown: Mapping[str, Any] | None) -> dict[str, Any]:
    return {n: shown[n] for n in ("cause", "reason") if shown and shown.get(n)}
