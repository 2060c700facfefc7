"""The outbox of an account -> writes -> outcomes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs, metrics
from app.clock import now, ticks
from app.db import conflicts, journal, lanes, links, loads, outbox, records
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.links import Link
from app.db.outbox import Mark
from app.domain.entities import order_of
from app.domain.state import Plan, RecordState, Result
from app.domain.values import (
    NOTHING,
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
    SyncError,
    TransientError,
    UnknownOutcomeError,
)
from app.sdk.quota import background
from app.sync import guard, load
from app.sync.adopt import adopt, hold, link_to
from app.sync.anew import look_anew
from app.sync.deletes import (
    deleted,
    is_barred,
    keep,
    latest,
    prepare_deletes,
    spares_inside,
)
from app.sync.departed import bury_departed
from app.sync.draft import Job, Near, bury_held, count, only_learned, prepare, travels
from app.sync.fields import offer
from app.sync.house import House, Member
from app.sync.merges import merge_there
from app.sync.reconcile import is_collision, known, reconcile
from app.sync.settle import done
from app.sync.trouble import LanePaused, describe, judge
from app.sync.world import Seen

log = structlog.get_logger()

#: How many marks one turn of the lane takes.
BATCH = 200
#: How many ids a line of the log names.
TRACES = 20
#: How often a record that is not shown there is looked for before its mark is a dead letter.
LOOKS = 3
#: How often an answer is kept anew because another worker was faster.
_TRIES = 5


async def push(house: House, lane: Lane) -> None:
    """An out-lane for a moment: parents first, every row with its own fate, while more waits."""
    over, answers = ticks() + lanes.TURN, False
    while await _turn(house, lane, answers=answers) and ticks() < over:
        answers = True


async def _turn(house: House, lane: Lane, *, answers: bool) -> bool:
    """Write what is due; whether more may be. ``answers`` says that the system is known to."""
    started = now()
    member = house.members[lane.account]
    await _learn(house, lane.account)
    counts: dict[str, int] = {}
    await _land(house, lane, member, counts)
    async with house.database.transaction() as db:
        probing = not answers and await lanes.failures(db, lane) > 0
        marks = [] if probing else await load.take(db, member)
        marks = marks or await outbox.take(db, lane.account, limit=BATCH)
    # Children are worked out after their parents were written: then the parents have refs.
    for (scan, *_), group in groupby(sorted(marks, key=_rank), key=_rank):
        alike = list(group)
        if not scan:
            probing = await _push(house, lane, member, alike, counts, probing=probing)
            continue
        try:
            with background():
                probing = await _push(house, lane, member, alike, counts, probing=probing)
        except LanePaused as pause:
            if not isinstance(pause.cause, RateLimitedError):
                raise
            # What scans may use is used up; live traffic has its reserve, and goes on.
            async with house.database.transaction() as db:
                await outbox.put_off_scans(db, lane.account, pause.cause.retry_at)
            count(counts, "put_off", len(alike))
            break
    if marks:
        log.info(
            "push.finished",
            account=lane.account,
            marks=len(marks),
            traces=sorted({mark.trace for mark in marks if mark.trace})[:TRACES],
            ms=round((now() - started).total_seconds() * 1000),
            **counts,
        )
    return len(marks) == BATCH and not counts.get("put_off")


def _rank(mark: Mark) -> tuple[bool, int, str]:
    """Live work before scans, parents before children."""
    return mark.scan, order_of(mark.entity), mark.entity


async def _push(
    house: House,
    lane: Lane,
    member: Member,
    marks: Sequence[Mark],
    counts: dict[str, int],
    *,
    probing: bool,
) -> bool:
    """Marks of one entity; whether it is still in doubt that the system answers."""
    marks = await merge_there(house, lane, member, marks, counts)
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return probing
        strange: set[tuple[str, str]] = set()
        jobs = await _plan(db, house, member, marks, counts, strange)
    # Once it is known there, what was held for it is due again.
    await _learn_of(house, member.name, strange)
    jobs = await adopt(house, member, jobs, counts)
    jobs = await bury_departed(house, member, jobs, counts)
    jobs = await _without_vain(house, jobs, counts)
    return await _write(house, lane, member, jobs, counts, probing=probing)


async def _without_vain(house: House, jobs: Sequence[Job], counts: dict[str, int]) -> list[Job]:
    """The jobs without creates of what was deleted meanwhile and is not there."""
    vain = [job for job in jobs if job.link is None and job.record.state != "live"]
    if vain:
        ids = {job.record.id for job in vain}
        async with house.database.transaction() as db:
            await outbox.clear(db, [job.mark for job in vain])
            own = await links.by_record(db, ids)
            left = {link.record_id for link in own if link.state not in ("gone", "unlinked")}
            await records.bury(db, ids - left)
        count(counts, "cleared", len(vain))
    return [job for job in jobs if job not in vain]


async def _learn(house: House, account: str) -> None:
    try:
        await house.learn(account)
        await house.tell_anew(account)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error


async def _learn_of(house: House, account: str, strange: Collection[tuple[str, str]]) -> None:
    try:
        await house.ask_about(account, strange)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error


# --- what would be sent -----------------------------------------------------------------------


async def _plan(
    db: AsyncConnection,
    house: House,
    member: Member,
    marks: Sequence[Mark],
    counts: dict[str, int],
    strange: set[tuple[str, str]],
) -> list[Job]:
    """The jobs that have something to send; marks with nothing to say are cleared.

    ``strange`` gets what the account's directory does not know and may by now.
    """
    ids = [mark.record_id for mark in marks]
    found = await records.get(db, ids)
    own: dict[UUID, list[Link]] = {}
    for each in await links.by_record(db, ids, account=member.name):
        own.setdefault(each.record_id, []).append(each)
    held = await conflicts.held_fields(db, ids, member.name, kinds=conflicts.UNWRITTEN)
    here: list[Job] = []
    settled: list[Mark] = []
    doomed: list[tuple[Mark, RecordState, Link]] = []
    for mark in marks:
        record, met = found.get(mark.record_id), latest(own.get(mark.record_id, ()))
        link = met if met is not None and met.state == "live" else None
        if record is not None and record.state in ("gone", "purged") and link is not None:
            doomed.append((mark, record, link))
        elif record is not None and record.state == "gone" and met is None and mark.intent:
            # Its worker died: what its create may have made is looked for, to be deleted.
            here.append(Job(mark, record, None))
        elif (
            record is None
            or record.state != "live"
            or is_barred(met)
            or not travels(house, member, record, link)
        ):
            # Deleted, parked or never meant to be there: nothing deleted returns.
            settled.append(mark)
            count(counts, "cleared")
        else:
            here.append(Job(mark, record, link))
    deleting, spared = await prepare_deletes(db, member, doomed)
    settled += spared
    # We hold the lane: a write that is still said to be on its way died with its worker.
    left = [job.link.ref for job in (*here, *deleting) if job.link is not None and job.link.writing]
    await links.forget_writes(db, left)
    near = await Near.load(db, member, here)
    jobs = deleting
    silent: list[Job] = []
    for job in here:
        kept = held.get(job.record.id, frozenset())
        wait = await prepare(db, house, member, job, kept, near)
        strange |= job.strange
        if wait is not None and job.why is not None:
            shown = describe(TransientError(job.why), record=str(job.record.id))
            await outbox.wait(db, job.mark, until=now() + wait, error=shown)
            count(counts, "waiting")
        elif wait is not None:
            await outbox.postpone(db, job.mark, until=now() + wait, keep_intent=True)
            count(counts, "waiting")
        elif job.write is not None:
            jobs.append(job)
        elif job.held:
            await bury_held(db, job)
            count(counts, "held")
        else:
            silent.append(job)
            count(counts, "unchanged")
    # In their words our value is what they hold: remember that, send nothing.
    told = [
        links.Agreement(
            job.link.ref,
            None,
            {**job.link.sent, **{name: job.ours[name] for name in job.told | job.unsaid}},
            None,
        )
        for job in silent
        if job.link is not None and (job.told or job.unsaid)
    ]
    await links.agree(db, told)
    await outbox.clear(db, [*settled, *(job.mark for job in silent)])
    return jobs


# --- writing ----------------------------------------------------------------------------------


async def _write(
    house: House,
    lane: Lane,
    member: Member,
    jobs: Sequence[Job],
    counts: dict[str, int],
    *,
    probing: bool,
) -> bool:
    """Commit the intents, send, settle; in the vendor's batch size.

    After trouble of the whole system one row goes first, the least tried one: a row that
    always fails must not stand for the others. The answer is whether that is still in doubt.
    """
    size = max(1, member.connector.manifest.write_batch)
    step = size if size > 1 else 16
    for op in (Op.CREATE, Op.UPDATE, Op.DELETE):
        ready = [job for job in jobs if job.write is not None and job.write.op is op]
        async with house.database.transaction() as db:
            ready = await guard.stop_early(db, member, op, ready, counts)
        if probing:
            ready.sort(key=lambda job: job.mark.attempts)
        elif op is Op.CREATE:
            ready = await _load(house, lane, member, ready, counts)
        while ready:
            first = 1 if probing else step
            batch, ready = ready[:first], ready[first:]
            if batch[0].mark.scan and await _is_live_waiting(house, member):
                return probing
            if op is Op.UPDATE:
                batch = await _unmoved(house, member, batch, counts)
            elif op is Op.DELETE:
                batch = await _undisturbed(house, member, batch, counts)
            if not batch:
                continue
            async with house.database.transaction() as db:
                if not await lanes.holds(db, lane):
                    return probing
                batch = await _as_planned(db, member, batch, counts)
                batch = await guard.admit(db, member, op, batch, counts)
                await outbox.intend(
                    db,
                    [
                        (job.mark, job.write.trace, job.intended)
                        for job in batch
                        if job.link is None and job.write is not None
                    ],
                )
                await links.begin_writes(
                    db, {job.link.ref: job.intended for job in batch if job.link is not None}
                )
            if not batch:
                continue
            writes = [job.write for job in batch if job.write is not None]
            traces = sorted({job.mark.trace for job in batch if job.mark.trace})[:TRACES]
            try:
                refused = await offer(member, writes)
                ready_now = [write for write in writes if write.trace not in refused]
                with structlog.contextvars.bound_contextvars(traces=traces):
                    outcomes = await member.connector.write(ready_now) if ready_now else []
                outcomes += [
                    Outcome(write, error=refused[write.trace])
                    for write in writes
                    if write.trace in refused
                ]
            except (RateLimitedError, AccountError, TransientError) as error:
                # Raised only before anything was sent: nothing is in doubt.
                async with house.database.transaction() as db:
                    await links.end_writes(db, [job.link.ref for job in batch if job.link])
                    await guard.give_back(db, member, op, batch)
                    for job in batch:
                        await outbox.postpone(db, job.mark, until=now())
                raise LanePaused(error) from error
            except Exception as error:  # a bug in a connector: every row of the batch tries again
                outcomes = [Outcome(write, error=error) for write in writes]
            outcomes = await look_anew(house, member, outcomes)
            await _settle(house, lane, member, batch, outcomes, counts)
            if probing:
                probing = False
                async with house.database.transaction() as db:
                    await outbox.end_backoff(db, member.name)
    return probing


async def _load(
    house: House, lane: Lane, member: Member, ready: list[Job], counts: dict[str, int]
) -> list[Job]:
    """Send many creates as one file; the jobs that must go otherwise.

    Which rows are in it is committed before the first byte: whoever holds the lane when it has
    ended reads what became of them.
    """
    fit = load.fitting(member, ready)
    refused = await offer(member, [job.write for job in fit if job.write is not None])
    writes = [job.write for job in fit if job.write and job.write.trace not in refused]
    try:
        opened = await member.connector.open_load(writes) if writes else None
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    except SyncError as error:
        log.warning("load.refused", account=member.name, reason=logs.words(error))
        opened = None
    if opened is None or not opened.writes:
        return ready
    taken = {write.trace for write in opened.writes}
    going = [job for job in fit if job.write and job.write.trace in taken]
    gone = {job.record.id for job in going}
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return []
        going = await _as_planned(db, member, going, counts)
        going = await guard.admit(db, member, Op.CREATE, going, counts)
        if going:
            await outbox.intend(
                db, [(job.mark, job.write.trace, job.intended) for job in going if job.write]
            )
            rows = [(job.mark, load.worked_out(job)) for job in going]
            await loads.open_load(db, opened.id, rows)
    if going:
        kept = {job.write.trace for job in going if job.write}
        opened = replace(opened, writes=tuple(w for w in opened.writes if w.trace in kept))
        count(counts, "loading", len(going))
        log.info("load.opened", account=member.name, load=opened.id, rows=len(going))
        try:
            await member.connector.send_load(opened)
        except (RateLimitedError, AccountError, TransientError) as error:
            raise LanePaused(error) from error
        except SyncError as error:  # whether it is there shows when it is asked about
            log.warning("load.doubtful", account=member.name, reason=logs.words(error))
    return [job for job in ready if job.record.id not in gone]


async def _land(house: House, lane: Lane, member: Member, counts: dict[str, int]) -> None:
    """Settle the loads that have ended, every row with its own fate; look at the others later."""
    async with house.database.transaction() as db:
        due = await loads.due(db, lane.account)
    for one in due:
        async with house.database.transaction() as db:
            jobs = await load.jobs_of(db, member, one)
        writes = [job.write for job in jobs if job.write is not None]
        until = load.look_at(one, now())
        try:
            with background():
                outcomes = await member.connector.read_load(one.id, writes)
        except RateLimitedError as error:
            outcomes, until = None, error.retry_at
        except (AccountError, TransientError) as error:
            raise LanePaused(error) from error
        if outcomes is None:
            async with house.database.transaction() as db:
                await loads.put_off(db, one, until)
            continue
        fates = {outcome.write.trace: outcome for outcome in outcomes}
        tried = [job for job in jobs if job.write and job.write.trace in fates]
        for start in range(0, len(tried), BATCH):
            some = tried[start : start + BATCH]
            async with house.database.transaction() as db:
                if not await lanes.holds(db, lane):
                    return
            told = [fates[job.write.trace] for job in some if job.write]
            told = await look_anew(house, member, told)
            await _settle(house, lane, member, some, told, counts)
        async with house.database.transaction() as db:
            left = await loads.close(db, one)
        log.info("load.ended", account=member.name, load=one.id, rows=len(tried), left=left)


async def _is_live_waiting(house: House, member: Member) -> bool:
    """Whether live work came in while a scan's was under way: then that goes first."""
    async with house.database.transaction() as db:
        return await outbox.is_live_due(db, member.name)


async def _unmoved(
    house: House, member: Member, batch: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs whose remote record is still as we know it; look before you write.

    A webhook may be seconds behind the edit it tells of. What moved is reconciled first, so
    that the policy decides and not the clock; its mark stays and is worked out anew. What is not
    shown to us is not written to blindly: it may just come back with an edit we never saw.
    """
    related = any(job.write is not None and job.write.relations for job in batch)
    results = await _look(house, member, batch, related=related)
    ready: list[Job] = []
    moment = now()
    async with house.database.transaction() as db:
        for job in batch:
            assert job.link is not None
            result, _ = results.get(job.link.ref, (None, ()))
            if result is Result.UNCHANGED:
                ready.append(job)
            elif result is Result.MISSING:
                await _not_shown(db, member, job, counts)
            else:
                await outbox.postpone(db, job.mark, until=moment)
                count(counts, "moved")
    return ready


async def _undisturbed(
    house: House, member: Member, batch: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs whose remote record is as we know it, so that it may be deleted.

    An edit that we had not heard of keeps it; what is not shown to us is not deleted blindly.
    """
    results = await _look(house, member, batch, related=True)
    ready: list[Job] = []
    spared: list[Mark] = []
    # Begun by a worker that died before it kept the answer: ours, and no delete of theirs.
    carried_out: list[Job] = []
    moment = now()
    async with house.database.transaction() as db:
        for job in batch:
            assert job.link is not None
            result, inside = results.get(job.link.ref, (None, ()))
            if result is Result.UNCHANGED:
                if reason := await spares_inside(db, member, job.record, inside):
                    await keep(db, job.record, job.link.ref, reason)
                    spared.append(job.mark)
                else:
                    ready.append(job)
            elif result is Result.GONE and job.link.writing:
                carried_out.append(job)
                count(counts, "deleted")
            elif result is Result.MISSING:
                await _not_shown(db, member, job, counts)
            else:
                await outbox.postpone(db, job.mark, until=moment)
                count(counts, "moved")
        await deleted(db, carried_out)
        await outbox.clear(db, spared)
    return ready


async def _not_shown(db: AsyncConnection, member: Member, job: Job, counts: dict[str, int]) -> None:
    assert job.link is not None
    met = (await links.by_ref(db, [job.link.ref])).get(job.link.ref)
    if met is None or met.state != "live":  # there was news of it meanwhile
        await outbox.postpone(db, job.mark, until=now())
        count(counts, "moved")
        return
    reason = f"{member.name} does not show {job.link.ref}, nor that it was deleted"
    await _failed(db, member, job, NotFoundError(reason), now())
    count(counts, "failed")


async def _look(
    house: House, member: Member, batch: Sequence[Job], *, related: bool
) -> dict[Ref, tuple[Result, Sequence[Ref]]]:
    """Read what is about to be written: what became of each, and whom it mentions. Deferred ones
    are not named.
    """
    refs = [job.link.ref for job in batch if job.link is not None]
    _, read_at = await known(house, [])
    try:
        read = member.connector.read if related else member.connector.read_fields
        observed = await read(refs)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    cause = Cause("push", member.name)
    seen = [Seen(observation, cause, read_at, read_at) for observation in observed]
    answers = await reconcile(house, seen)
    return {
        one.observation.ref: (answer.result, one.observation.mentions)
        for one, answer in zip(seen, answers, strict=True)
        if isinstance(answer, Plan)
    }


async def _as_planned(
    db: AsyncConnection, member: Member, batch: Sequence[Job], counts: dict[str, int]
) -> list[Job]:
    """The jobs that still say what is to be written; the in-lane works beside us.

    What it took in since the plan was made would be overwritten by a write that is older.
    """
    ids = [job.record.id for job in batch]
    there = await links.by_record(db, ids, account=member.name, lock=True)
    living = {link.record_id: link for link in there if link.state == "live"}
    # Locked: whoever deletes it now sees that this create has begun, or we that it is deleted.
    fresh = await records.get(db, ids, lock=True)
    held = await conflicts.held_fields(db, ids, member.name, kinds=conflicts.UNWRITTEN)
    still: list[Job] = []
    for job in batch:
        link, record = living.get(job.record.id), fresh.get(job.record.id)
        same = record is not None and record.version == job.record.version
        if job.link is None or link is None:
            same = same and job.link is link
        else:
            deleting = job.write is not None and job.write.op is Op.DELETE
            same = same and (
                (link.base, link.sent) == (job.link.base, job.link.sent)
                if deleting
                else only_learned(job.link, link, job.ours, job.names)
                and held.get(job.record.id, frozenset()) == job.kept
            )
        if same:
            job.link = link
            still.append(job)
        else:
            count(counts, "moved")
            await outbox.postpone(db, job.mark, until=now(), keep_intent=True)
    return still


async def _settle(
    house: House,
    lane: Lane,
    member: Member,
    batch: Sequence[Job],
    outcomes: Sequence[Outcome],
    counts: dict[str, int],
) -> None:
    fates = {outcome.write.trace: _as_deleted(outcome) for outcome in outcomes}
    pause: SyncError | None = None
    moment = now()
    ended = [
        (
            job,
            fates.get(job.write.trace)
            or Outcome(job.write, error=UnknownOutcomeError("the connector named no outcome")),
        )
        for job in batch
        if job.write is not None
    ]
    if ended and all(_is_down(outcome.error) for _, outcome in ended):
        # Not a row's trouble: the system itself is asked again soon, with one row.
        pause = ended[0][1].error  # type: ignore[assignment]
    down = pause is not None
    for left in reversed(range(_TRIES)):
        try:
            await _keep(house, member, batch, ended, moment, down=down)
            break
        except DBAPIError as error:
            # It is done there: what is not kept now would count as somebody's.
            if not left or not is_collision(error):
                raise
    for job, outcome in ended:
        fate = "failed" if outcome.error else f"{outcome.write.op}d"
        metrics.WRITES.labels(member.name, outcome.write.op, fate).inc()
        count(counts, fate)
        if isinstance(outcome.error, RateLimitedError | AccountError):
            pause = outcome.error
        if isinstance(outcome.error, StaleError | NotFoundError):
            await _look_again(house, member, job, outcome)
    await _others_edited(house, member, [outcome for _, outcome in ended if not outcome.error])
    if pause is not None:
        raise LanePaused(pause)


async def _keep(
    house: House,
    member: Member,
    batch: Sequence[Job],
    ended: Sequence[tuple[Job, Outcome]],
    moment: datetime,
    *,
    down: bool,
) -> None:
    """Remember what became of these writes, in one transaction."""
    async with house.database.transaction() as db:
        # In the order of the in-lanes, which wait for each other so.
        await links.lock(db, [job.link.ref for job in batch if job.link])
        await records.lock(db, [job.record.id for job in batch])
        await journal.attempted(db, member.name, [_attempt(*one) for one in ended])
        fine = [(job, outcome) for job, outcome in ended if outcome.error is None]
        await done(db, house, member, [one for one in fine if one[1].write.op is not Op.DELETE])
        await deleted(db, [job for job, outcome in fine if outcome.write.op is Op.DELETE])
        for job, outcome in ended:
            if outcome.error is not None:
                await _failed(db, member, job, outcome.error, moment, down=down)
        await links.end_writes(db, [job.link.ref for job in batch if job.link])
        await records.touch(db, [job.record.id for job, _ in fine])


def _is_down(error: Exception | None) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RateLimitedError)


def _as_deleted(outcome: Outcome) -> Outcome:
    """It was there a moment ago: a delete that meets nothing has nothing left to do."""
    if outcome.write.op is Op.DELETE and isinstance(outcome.error, NotFoundError):
        return Outcome(outcome.write, ref=outcome.write.ref)
    return outcome


def _attempt(job: Job, outcome: Outcome) -> journal.Attempt:
    # Of what is deleted all is kept: a person may want it back. Of what is purged nothing is.
    names = job.names if outcome.write.op is not Op.DELETE else (job.link and job.link.base) or ()
    before = {n: job.link.base.get(n) for n in names} if job.link else {}
    return journal.Attempt(outcome, before, _shown(job, outcome.error) if outcome.error else None)


def _shown(job: Job, error: Exception) -> dict[str, Any]:
    sent = job.write.fields if job.write else NOTHING
    return describe(error, record=str(job.record.id), sent=sent)


async def _failed(
    db: AsyncConnection,
    member: Member,
    job: Job,
    error: Exception,
    moment: datetime,
    *,
    down: bool = False,
) -> None:
    """Put a mark off or bury it, by the remedy of what went wrong.

    While the whole system is ``down`` its lane waits, not the row.
    """
    found = judge(error, job.mark.attempts, moment)
    shown = _shown(job, error)
    # Not shown there: read it first, it may be deleted or merged.
    lost = isinstance(error, NotFoundError) and job.mark.attempts < LOOKS
    if found.action is Action.DEAD and not lost:
        await outbox.bury(db, job.mark, shown)
        record, reason = str(job.record.id), logs.words(error)
        log.error("push.buried", account=member.name, record=record, reason=reason)
        return
    until = found.at if found.action is Action.RETRY and found.at and not down else moment
    unknown = isinstance(error, UnknownOutcomeError) and job.link is None
    await outbox.postpone(db, job.mark, until=until, error=shown, keep_intent=unknown)


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
    met = linked.get(ref)
    if job.link is None and met is None:
        await link_to(house, [(job, observation)], read_at)
    elif job.link is None and met is not None and met.record_id != job.record.id:
        # What is there belongs to another record of ours: trying again would not help.
        await hold(house, member, job, [observation])
    else:
        cause = Cause("push", member.name)
        await reconcile(house, [Seen(observation, cause, read_at, read_at)])


async def _others_edited(house: House, member: Member, outcomes: Sequence[Outcome]) -> None:
    """A full answer to an update also shows what others changed: it is an observation too."""
    cause = Cause("push", member.name)
    seen = [
        Seen(outcome.stored, cause, now())
        for outcome in outcomes
        if outcome.stored and not outcome.stored.partial and outcome.write.op is Op.UPDATE
    ]
    await reconcile(house, seen)
