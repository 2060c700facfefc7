"""One page of an account's own log -> the inbox: what no webhook told goes the way of those."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs, metrics
from app.clock import now
from app.db import catchups, lanes, links, resyncs
from app.db import events as inbox
from app.db.catchups import Run
from app.db.events import Answered
from app.db.lanes import Lane
from app.db.links import Link
from app.domain.values import Change, Delivery, Event, Ref, Trail
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync.house import House, Member
from app.sync.ingest import answers
from app.sync.trouble import LanePaused, describe

log = structlog.get_logger()

#: Between two readings that look for deletes where nothing was amiss.
DEEP = timedelta(days=1)
#: A reading that was refused is tried again after this.
AGAIN = timedelta(minutes=5)
#: Some vendors' moments are whole seconds: one is over after this, whatever the clocks differ.
MOMENT = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class _Told:
    """One event of the log with the delivery that a webhook would have been."""

    delivery: Delivery
    key: bytes
    answered: Answered

    @property
    def event(self) -> Event:
        return self.answered.event


async def catch_up(house: House, lane: Lane) -> bool:
    """One turn: a page of the log that is due; False if none is."""
    async with house.database.transaction() as db:
        run = await catchups.due(db, lane.account, house.entities_of(lane.account), deep_every=DEEP)
    if run is None:
        return False
    try:
        await _page(house, lane, run)
    except (RateLimitedError, AccountError, TransientError) as error:
        raise LanePaused(error) from error
    except Exception as error:
        shown = describe(error)
        async with house.database.transaction() as db:
            await catchups.fail(db, run, shown, until=now() + AGAIN)
        log.warning(
            "catchup.failed", account=run.account, entity=run.entity, reason=logs.words(error)
        )
        if not isinstance(error, SyncError):
            raise
    return True


async def _page(house: House, lane: Lane, run: Run) -> None:
    member = house.members[run.account]
    trail = await member.connector.catch_up(run.entity, run.cursor, run.since, deep=run.deep)
    told = _read(house, member, run, trail)
    ripe = [one for one in told if not trail.states or _is_over(one.event, now())]
    # What is listed of the present second may be edited in it once more: then it is listed alike.
    # It is read once more soon, and then when it is time: somebody edits in every second.
    again = run.again or (len(ripe) < len(told) and run.reason != catchups.MOMENT)
    run = replace(run, again=again)
    every = MOMENT.seconds if again else member.config.catch_up.every
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        fresh, seen = await _fresh(db, run.account, ripe, trail)
        counts = _counts(run, ripe, fresh, grace=member.config.catch_up.grace)
        await _take_in(db, [*fresh, *seen])
        run = replace(
            run,
            cursor=trail.cursor,
            listed=run.listed + counts["known"] + counts["missed"],
            missed=run.missed + counts["missed"],
        )
        added = (counts["known"] + counts["missed"], counts["missed"])
        if trail.gap is not None:
            await resyncs.begin_since(db, run.account, run.entity, run.since)
        if trail.cursor is None:
            await catchups.finish(db, run, counts=added, every=every)
        else:
            await catchups.advance(db, run, counts=added)
        if fresh or seen:
            await lanes.wake(db, run.account, "in")
    for found, count in counts.items():
        metrics.CAUGHT_UP.labels(run.account, run.entity, found).inc(count)
    if trail.gap is not None:
        log.warning("catchup.scanned", account=run.account, entity=run.entity, reason=trail.gap)
    if trail.cursor is None and (run.listed or run.reason != "schedule"):
        log.info(
            "catchup.finished",
            account=run.account,
            entity=run.entity,
            why=run.reason,
            since=run.since.isoformat(timespec="seconds"),
            listed=run.listed,
            missed=run.missed,
        )


def _read(house: House, member: Member, run: Run, trail: Trail) -> list[_Told]:
    """The events of a page that concern us; as a webhook's they would be read like this."""
    moment = now()
    told = []
    for body in trail.bodies:
        delivery = Delivery(run.account, "LOG", f"catch-up/{run.entity}", {}, body, moment)
        events = member.connector.parse(delivery, member.connector.account)
        for answered in answers(house, member, events):
            if answered.answer == "handled" and answered.account == run.account:
                told.append(_Told(delivery, hashlib.sha256(body).digest(), answered))
    return told


async def _fresh(
    db: AsyncConnection, account: str, told: Sequence[_Told], trail: Trail
) -> tuple[list[_Told], list[_Told]]:
    """What nobody has told yet; and what we have seen, but in a moment that was not over."""
    keys = await catchups.known(db, account, [one.event.key for one in told])
    fresh = [one for one in told if one.event.key not in keys]
    if not trail.states:
        return fresh, []
    refs = {ref for one in fresh if (ref := one.event.ref) is not None}
    met, heard = await links.by_ref(db, refs), await catchups.told(db, refs)
    early = [one for one in fresh if _was_seen_early(one.event, met, heard)]
    return [one for one in fresh if not _is_old(one.event, met, heard)], early


def _is_over(event: Event, moment: datetime) -> bool:
    """Whether nothing can happen any more that would be listed under the same moment."""
    return event.at.microsecond != 0 or event.at + MOMENT <= moment


def _was_seen_early(event: Event, met: Mapping[Ref, Link], heard: Mapping[Ref, datetime]) -> bool:
    """Whether all that we know of this moment is what we saw, or wrote, while it was not over."""
    link = met.get(event.ref) if event.ref is not None else None
    if link is None or link.state == "gone" or event.change is Change.GONE:
        return False
    told = event.ref is not None and event.ref in heard and heard[event.ref] >= event.at
    return not told and link.seen_at == event.at and not _is_over(event, link.synced_at)


def _is_old(event: Event, seen: Mapping[Ref, Link], heard: Mapping[Ref, datetime]) -> bool:
    """Whether we have looked at this state since, or are about to."""
    link = seen.get(event.ref) if event.ref is not None else None
    live = link is not None and link.state != "gone"
    if event.change is Change.GONE:
        return not live
    if event.ref is not None and (at := heard.get(event.ref)) is not None and at >= event.at:
        return True
    return live and link is not None and link.seen_at is not None and link.seen_at >= event.at


def _counts(
    run: Run, told: Sequence[_Told], fresh: Sequence[_Told], *, grace: int
) -> dict[str, int]:
    """How much of the page was known, may still be told by a webhook, or was missed.

    What was listed by the reading before this one is not counted again.
    """
    late = run.began - timedelta(seconds=grace)
    keys = {one.event.key: one.event.at for one in fresh}
    missed = sum(at <= late for at in keys.values())
    known = {
        event.key for one in told if (event := one.event).key not in keys and event.at > run.since
    }
    return {"known": len(known), "early": len(keys) - missed, "missed": missed}


async def _take_in(db: AsyncConnection, fresh: Sequence[_Told]) -> None:
    """Into the inbox, as what a webhook brought and somebody read."""
    ids = await catchups.store(db, [(one.delivery, one.key) for one in fresh])
    read = [
        (replace(one.delivery, id=id), [one.answered])
        for one in fresh
        if (id := ids.get(one.key)) is not None
    ]
    await inbox.add(db, read)
