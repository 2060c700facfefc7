"""A page of a scan -> reconcile; the cursor moves only with it. A dry run applies nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog

from app import clock
from app.clock import now
from app.db import foreseen, lanes, matches, outbox, resyncs
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.matches import Match
from app.db.resyncs import Resync
from app.domain.entities import order_of
from app.domain.state import Result
from app.domain.values import Observation, Page, Ref
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync import matching
from app.sync.house import House, Member
from app.sync.preview import Preview
from app.sync.reconcile import Deferred, known, reconcile
from app.sync.trouble import LanePaused, describe
from app.sync.world import Seen

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ahead:
    """The page after the one that is taken in just now, on its way already."""

    job: UUID
    cursor: tuple[str, str | None]
    read_at: datetime
    page: asyncio.Task[Page]


async def resync(house: House, lane: Lane) -> bool:
    """Pages of the oldest open resync, for a moment; False if there is none."""
    over = clock.ticks() + lanes.TURN
    ahead: Ahead | None = None
    began = False
    try:
        while ahead is not None or clock.ticks() < over:
            async with house.database.transaction() as db:
                job = await resyncs.current(db, lane.account)
            if job is None:
                return began
            began = True
            try:
                ahead = await _page(house, lane, job, ahead, over=over)
            except (RateLimitedError, AccountError, TransientError) as error:
                raise LanePaused(error) from error
            except Exception as error:
                async with house.database.transaction() as db:
                    await resyncs.finish(db, job, "failed", error=describe(error))
                if not isinstance(error, SyncError):
                    raise
                ahead = None
    finally:
        if ahead is not None:
            await _drop(ahead)
    return True


async def _page(
    house: House, lane: Lane, job: Resync, ahead: Ahead | None, *, over: float
) -> Ahead | None:
    """Take in the next page while the one after it is read, if there is time for that."""
    member = house.members[job.account]
    await house.learn(job.account)
    at = _place(job)
    entity = str(at["entity"])
    if ahead is not None and (ahead.job, ahead.cursor) != (job.id, (entity, at["cursor"])):
        await _drop(ahead)
        ahead = None
    if ahead is None:
        ahead = await _begin(house, member, job, entity, at["cursor"])
    page, read_at = await ahead.page, ahead.read_at
    following = _next(job, entity, page.cursor)
    if following is None or clock.ticks() > over:
        await _take_page(house, lane, job, page, read_at, following)
        return None
    ahead = await _begin(house, member, job, following["entity"], following["cursor"])
    try:
        await _take_page(house, lane, job, page, read_at, following)
    except BaseException:
        await _drop(ahead)
        raise
    return ahead


async def _begin(
    house: House, member: Member, job: Resync, entity: str, cursor: str | None
) -> Ahead:
    """Start to read a page."""
    _, read_at = await known(house, [])
    page = asyncio.create_task(_read(member, job, entity, cursor))
    return Ahead(job.id, (entity, cursor), read_at, page)


async def _drop(ahead: Ahead) -> None:
    ahead.page.cancel()
    await asyncio.gather(ahead.page, return_exceptions=True)


async def _take_page(
    house: House,
    lane: Lane,
    job: Resync,
    page: Page,
    read_at: datetime,
    following: Mapping[str, Any] | None,
) -> None:
    """Take in one page, and move the cursor with it."""
    started = now()
    member = house.members[job.account]
    at = _place(job)
    entity = str(at["entity"])
    preview = Preview(job.id) if job.dry_run else None
    # Pages overlap by a little, so that nothing slips between them while records move.
    before = set(at.get("page", ()))
    fresh = [o for o in page.observations if o.ref.id not in before]
    counts: dict[str, int] = {"seen": len(fresh)}
    errors: list[Mapping[str, Any]] = []
    parents = await _parents(house, member, fresh, preview)
    for observation, result in await _take_in(
        house, member, job, [*parents, *fresh], read_at, preview
    ):
        if isinstance(result, Exception):
            errors.append(describe(result, record=str(observation.ref)))
        if observation.ref.type == member.type_of(entity):
            name = "failed" if isinstance(result, Exception) else result
            counts[name] = counts.get(name, 0) + 1
    plan: list[dict[str, Any]] = []
    found: list[Match] = []
    if preview is not None:
        plan, fates = await preview.outlook(house)
        found = await matching.report(house, preview, fates)
    n, rows = int(at["n"]) + len(plan), int(at.get("rows", 0))
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        if job.match_id is not None and following is None:
            await matches.queue(db, job.match_id)
        kept = await resyncs.advance(
            db,
            job,
            cursor={
                **(following or {"entity": entity, "cursor": None}),
                "n": n,
                "rows": rows + len(found),
                "page": [o.ref.id for o in page.observations] if page.cursor else [],
            },
            counts=counts,
            total=page.total,
            errors=errors,
            plan=plan,
        )
        if kept:
            await matches.add(db, job.id, found, start=rows)
        if kept and preview is not None:
            await foreseen.keep(db, job.id, preview.news())
        if kept and following is None:
            if job.match_id is not None:
                await matches.conclude(db, job.match_id)
            await resyncs.finish(db, job, "done")
        if kept and (following is None or following["entity"] != entity):
            await outbox.end_waits(db, job.account, [entity])
            await lanes.wake(db, job.account, "out")
    log.info(
        "resync.paged",
        account=job.account,
        resync=str(job.id),
        entity=entity,
        ms=round((now() - started).total_seconds() * 1000),
        **counts,
    )


def _place(job: Resync) -> Mapping[str, Any]:
    """Where the scan stands."""
    return job.cursor or {"entity": job.entities[0], "cursor": None, "n": 0}


async def _read(member: Member, job: Resync, entity: str, cursor: str | None) -> Page:
    """A page of the scan, or the named records."""
    if job.ids is None:
        return await member.connector.scan(entity, cursor, job.since)
    refs = [Ref(job.account, member.type_of(entity), remote_id) for remote_id in job.ids]
    start, step = int(cursor or 0), max(50, member.connector.manifest.read_batch)
    found = await member.connector.read(refs[start : start + step])
    more = str(start + step) if start + step < len(refs) else None
    return Page(tuple(found), more, total=len(refs))


async def _parents(
    house: House, member: Member, observed: Sequence[Observation], preview: Preview | None
) -> list[Observation]:
    """The parents that these records name and that we have never met, to be taken in first."""
    named = {
        ref
        for observation in observed
        for refs in observation.relations.values()
        for ref in refs
        if (entity := member.entity_of(ref.type)) and house.sync_of(entity, ref.account)
    }
    if preview is not None:
        await preview.recall_links(house, named)
        named -= preview.links.keys()
    met, _ = await known(house, list(named))
    unmet = sorted(named - met.keys(), key=lambda r: (order_of(member.entity_of(r.type) or ""), r))
    size = max(50, member.connector.manifest.read_batch)
    found: list[Observation] = []
    for _, group in groupby(unmet, key=lambda ref: ref.type):
        refs = list(group)
        for start in range(0, len(refs), size):
            found += await member.connector.read(refs[start : start + size])
    return [o for o in found if o.raw is not None]


def _next(job: Resync, entity: str, cursor: str | None) -> dict[str, Any] | None:
    if cursor is not None:
        return {"entity": entity, "cursor": cursor}
    rest = list(job.entities)[list(job.entities).index(entity) + 1 :]
    return {"entity": rest[0], "cursor": None} if rest else None


async def _take_in(
    house: House,
    member: Member,
    job: Resync,
    observed: Sequence[Observation],
    read_at: datetime,
    preview: Preview | None,
) -> list[tuple[Observation, str | Exception]]:
    """Reconcile or preview a page; what moved while it was read is read again."""
    cause = Cause("resync", str(job.id), f"resync:{job.id}")
    done: list[tuple[Observation, str | Exception]] = []
    waiting = [Seen(observation, cause, read_at, read_at) for observation in observed]
    if preview is not None:
        results = await preview.see(house, waiting)
        return [(seen.observation, r) for seen, r in zip(waiting, results, strict=True)]
    for _ in range(3):
        late: list[Observation] = []
        answers = await reconcile(house, waiting, scan=True)
        for seen, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, Deferred):
                late.append(seen.observation)
            elif isinstance(answer, Exception):
                done.append((seen.observation, answer))
            else:
                missing = answer.result is Result.MISSING
                done.append((seen.observation, "held" if missing else str(answer.result)))
        if not late:
            return done
        _, read_at = await known(house, [])
        waiting = []
        for _, group in groupby(late, key=lambda o: o.ref.type):
            found = await member.connector.read([o.ref for o in group])
            waiting += [Seen(o, cause, read_at, read_at) for o in found]
    error = TransientError("it keeps moving while it is read")
    return done + [(seen.observation, error) for seen in waiting]
