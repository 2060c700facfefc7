"""One page of linked records -> what their account shows -> every difference, and its cause.

A repair hands what was read to `reconcile`, as a webhook's reading is: nothing else mends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from app import logs, metrics
from app.clock import now
from app.db import drifts, lanes, links, records
from app.db.drifts import Drift, Found
from app.db.journal import Cause
from app.db.lanes import Lane
from app.domain.drift import Around, Compared, add_digest, compare, merged, moving, wholly
from app.domain.state import Plan, Result
from app.domain.values import Ref
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync.house import House, Member
from app.sync.reconcile import ask_about_strangers, known, reconcile
from app.sync.trouble import LanePaused, describe
from app.sync.world import Seen, World

log = structlog.get_logger()

#: Records that one page compares, at least.
PAGE = 100
#: How often a record that moves while it is read is read anew.
TRIES = 3


@dataclass(slots=True)
class _Page:
    """What one page of a comparison adds up to."""

    ours: str
    theirs: str
    counts: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    #: Of the records that differ, what was read.
    differing: list[Seen] = field(default_factory=list)

    def add(self, entity: str, record_id: UUID, ref: Ref, seen: Seen, compared: Compared) -> None:
        """Count one record, with its differences."""
        whole = any(one.field is None for one in compared.differences)
        told = {"entity": entity, "record_id": str(record_id)}
        self.ours = add_digest(self.ours, **told, fields=compared.ours)
        if not whole:
            self.theirs = add_digest(self.theirs, **told, fields=compared.theirs)
        self.counts["records"] += 1
        self.counts["fields"] += len(compared.ours)
        self.counts["apart"] += len(compared.apart)
        self.counts["differing" if compared.differences else "equal"] += 1
        self.found += [Found(entity, record_id, ref, one) for one in compared.differences]
        if compared.differences:
            self.differing.append(seen)

    @property
    def causes(self) -> Counter[str]:
        return Counter(str(one.difference.cause) for one in self.found)


async def drift(house: House, lane: Lane) -> None:
    """One turn of a scan-lane: one page of the oldest open comparison, or of the one now due."""
    member = house.members[lane.account]
    rule = member.config.drift
    async with house.database.transaction() as db:
        entities = house.entities_of(lane.account)
        await drifts.schedule(db, lane.account, entities, every=rule.every, repair=rule.repair)
        job = await drifts.current(db, lane.account)
    if job is None:
        return
    try:
        await _turn(house, lane, member, job)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    except Exception as error:
        async with house.database.transaction() as db:
            await drifts.finish(db, job, "failed", error=describe(error))
        log.warning(
            "drift.failed", account=job.account, drift=str(job.id), reason=logs.words(error)
        )
        if not isinstance(error, SyncError):
            raise


async def _turn(house: House, lane: Lane, member: Member, job: Drift) -> None:
    started = now()
    await house.learn(job.account)
    at = job.cursor or {"entity": job.entities[0], "after": "", "n": 0}
    entity = str(at["entity"])
    size = max(PAGE, member.connector.manifest.read_batch)
    async with house.database.transaction() as db:
        type = member.type_of(entity)
        after = str(at["after"])
        refs = await drifts.linked(db, job.account, type, after=after, limit=size)
        total = await drifts.total(db, job.account, job.entities) if job.cursor is None else None
    page = _Page(job.ours, job.theirs)
    await _compare(house, member, job, entity, refs, page)
    if job.repair and page.differing:
        page.counts["repaired"] += await _repair(house, page.differing)
    following = _next(job, entity, refs[-1].id if len(refs) == size else None)
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        kept = await drifts.advance(
            db,
            job,
            cursor={
                **(following or {"entity": entity, "after": refs[-1].id if refs else ""}),
                "n": int(at["n"]) + len(page.found),
            },
            counts=page.counts,
            causes=page.causes,
            ours=page.ours,
            theirs=page.theirs,
            total=total,
            found=page.found,
        )
        if kept and following is None:
            await drifts.finish(db, job, "done")
    _tell(job, entity, page)
    if following is None:
        causes = Counter(job.causes) + page.causes
        log.info(
            "drift.finished",
            account=job.account,
            drift=str(job.id),
            ms=round((now() - started).total_seconds() * 1000),
            **dict(Counter(job.counts) + page.counts),
            causes=dict(causes),
        )


def _next(job: Drift, entity: str, after: str | None) -> dict[str, Any] | None:
    """Where to go on; None at the end."""
    if after is not None:
        return {"entity": entity, "after": after}
    rest = list(job.entities)[list(job.entities).index(entity) + 1 :]
    return {"entity": rest[0], "after": ""} if rest else None


# ---------------------------------------------------------------------------------- comparing


async def _compare(
    house: House, member: Member, job: Drift, entity: str, refs: Sequence[Ref], page: _Page
) -> None:
    """Read these and compare them; what moves while it is read is read again."""
    cause = Cause("drift", str(job.id), f"drift:{job.id}")
    waiting = list(refs)
    for left in reversed(range(TRIES)):
        if not waiting:
            return
        _, read_at = await known(house, [])
        observed = await member.connector.read(waiting)
        seen = [Seen(observation, cause, read_at, read_at) for observation in observed]
        await ask_about_strangers(house, seen)
        waiting = await _judge(house, entity, seen, page, last=not left)


async def _judge(
    house: House, entity: str, batch: Sequence[Seen], page: _Page, *, last: bool
) -> list[Ref]:
    """Compare what was read with what we hold now; those that moved meanwhile."""
    member = house.members[batch[0].observation.ref.account]
    asked = {one.observation.asked or one.observation.ref: one for one in batch}
    async with house.database.transaction() as db:
        world = await World.load(db, house, batch, lock=False)
        own = await links.by_ref(db, asked.keys())
        ids = {link.record_id for link in own.values()}
        ours = await records.get(db, ids)
        marks = await drifts.marks(db, member.name, ids)
        unread = await drifts.unread(db, asked.keys())
        unopened = await drifts.unopened(db, member.name)
    told_until = now() - timedelta(seconds=member.config.catch_up.grace)
    moved: list[Ref] = []
    for ref, seen in asked.items():
        link = own.get(ref)
        if link is None or link.state != "live":
            continue  # it was unlinked, or deleted and told, meanwhile
        record = ours[link.record_id]
        if link.writing or (seen.read_at is not None and link.synced_at >= seen.read_at):
            if last:
                page.add(entity, record.id, ref, seen, wholly(record, moving()))
            else:
                moved.append(ref)
            continue
        mark, why = marks.get(record.id, (None, None))
        around = Around(told_until, mark, why, unread=unopened or ref in unread)
        if ref == seen.observation.ref:
            compared = compare(world.state_of(seen), seen.observation, around)
        else:
            compared = wholly(record, merged(around))
        page.add(entity, record.id, ref, seen, compared)
    return moved


# ------------------------------------------------------------------------------------ mending


async def _repair(house: House, differing: Sequence[Seen]) -> int:
    """Take in what was read, as if a webhook had led to it; how many records that moved on.

    What only waits goes on waiting, and what a person must decide is still theirs.
    """
    answers = await reconcile(house, differing, scan=True)
    unmoved = (Result.UNCHANGED, Result.MISSING, Result.HELD)
    return sum(
        isinstance(answer, Plan) and bool(answer.result not in unmoved or answer.marks)
        for answer in answers
    )


def _tell(job: Drift, entity: str, page: _Page) -> None:
    for found in ("equal", "differing"):
        metrics.DRIFT_RECORDS.labels(job.account, entity, found).inc(page.counts[found])
    for cause, count in page.causes.items():
        metrics.DRIFT_DIFFERENCES.labels(job.account, cause).inc(count)
