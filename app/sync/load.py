"""Many creates as one file: what goes into it, and what is known again when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import loads, outbox, records, resyncs
from app.db.loads import Open
from app.db.outbox import Mark
from app.domain.values import Op, Write
from app.sync.draft import Job
from app.sync.house import Member

#: A load is asked about after a quarter of the time that it has taken so far, within these.
SOONEST, LATEST = timedelta(seconds=1), timedelta(minutes=1)
#: While a scan may still find more, its creates wait for one another: they are counted this often,
#: and none waits longer than that.
GATHERING, PATIENCE = timedelta(seconds=5), timedelta(minutes=5)


async def take(db: AsyncConnection, member: Member) -> list[Mark]:
    """So many creates of one entity that they are worth a file; nothing else.

    Only what scans have asked for, while nothing live waits. Without our id in the record it could
    not be told afterwards which row is whose, nor would a repeat be known.
    """
    threshold, most = member.config.bulk_threshold, member.connector.manifest.load_batch
    if threshold is None or not most or not member.config.external_id:
        return []
    marks: list[Mark] = []
    if not await outbox.is_live_due(db, member.name):
        marks = await outbox.take_heap(db, member.name, at_least=threshold, limit=most)
    if not marks and await resyncs.are_under_way(db):
        await outbox.gather(db, member.name, every=GATHERING, at_most=PATIENCE)
    return marks


def fitting(member: Member, jobs: Sequence[Job]) -> list[Job]:
    """The creates that may go as one file, if they are many enough.

    What was tried before goes by itself, where its fate is told in full; so does what lacks a part.
    """
    threshold = member.config.bulk_threshold
    if threshold is None or not member.connector.manifest.load_batch:
        return []
    fit = [
        job
        for job in jobs
        if job.mark.scan and job.mark.attempts == 0 and job.mark.intent is None
        if job.write is not None and job.write.external_id and not job.held and not job.orphaned
    ]
    return fit if len(fit) >= threshold else []


def worked_out(job: Job) -> dict[str, Any]:
    """What is kept of a job while its load is under way."""
    assert job.write is not None
    return {
        "wanted": job.mark.wanted,
        "ours": dict(job.ours),
        "unsaid": sorted(job.unsaid),
        "fields": dict(job.write.fields),
        "external_id": job.write.external_id,
    }


async def jobs_of(db: AsyncConnection, member: Member, load: Open) -> list[Job]:
    """The jobs of a load as they were when it was sent, by whomever."""
    found = await loads.rows_of(db, load)
    living = await records.get(db, [one.mark.record_id for one in found])
    jobs: list[Job] = []
    for one in found:
        unsaid = frozenset(one.loaded["unsaid"])
        job = Job(
            # An edit since then is not in the file: the mark that it made newer survives.
            replace(one.mark, wanted=one.loaded["wanted"]),
            living[one.mark.record_id],
            None,
            ours=one.loaded["ours"],
            names=unsaid.union(one.intended),
            unsaid=unsaid,
        )
        job.write = Write(
            op=Op.CREATE,
            entity=load.entity,
            type=member.type_of(load.entity),
            record_id=one.mark.record_id,
            trace=one.mark.intent or "",
            fields=one.loaded["fields"],
            external_id=one.loaded["external_id"],
        )
        jobs.append(job)
    return jobs


def look_at(load: Open, moment: datetime) -> datetime:
    """When it is asked about next."""
    return moment + min(max(SOONEST, (moment - load.opened_at) / 4), LATEST)
