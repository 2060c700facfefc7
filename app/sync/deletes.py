"""Deletes that travel: decided with care, carried out late, and never over somebody's edit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, lanes, links, outbox, records
from app.db.links import Link
from app.db.outbox import Mark
from app.domain.meeting import PROPAGATED
from app.domain.state import RecordState
from app.domain.values import Op, Ref, Write
from app.errors import RejectedError
from app.sync.draft import Job
from app.sync.house import House, Member
from app.sync.parting import part
from app.sync.relink import mark, promote

log = structlog.get_logger()

#: A delete is carried out this much later: what looks like one may prove to be a merge.
DELETE_WAIT = timedelta(seconds=5)
#: How a link may have ended without barring the record from being made there anew: it was us
#: who deleted it, or a person who wants it back.
_OPEN = frozenset({PROPAGATED, "waived"})


async def doom(
    db: AsyncConnection, house: House, record_id: UUID, ref: Ref, begun: Collection[str]
) -> bool:
    """The record is to be deleted wherever it still is; False where a system cannot.

    The record is gone from now on; an edit anywhere brings it back before its copy is deleted.
    What is being made in the accounts where a create was ``begun`` is deleted once that is
    answered.
    """
    living = [link for link in await links.by_record(db, [record_id]) if link.state == "live"]
    stuck = [link.ref.account for link in living if not can_delete(house, link)]
    if stuck:
        reason = stuck_because(ref, stuck)
        await conflicts.kept(db, living[0].entity, record_id, living[0].ref, reason, [])
        return False
    await records.set_state(db, [record_id], "gone")
    await mark(db, [record_id])
    record = (await records.get(db, [record_id]))[record_id]
    await outbox.mark(db, {(account, record_id): record for account in begun})
    await outbox.delay(db, record_id, now() + DELETE_WAIT)
    return True


def stuck_because(ref: Ref, stuck: Sequence[str]) -> str:
    return f"it was deleted in {ref.account}; {', '.join(stuck)} cannot delete it"


def unseen_because(ref: Ref) -> str:
    return f"it was deleted in {ref.account}, which did not know its last edits"


def can_delete(house: House, link: Link) -> bool:
    member = house.members.get(link.ref.account)
    if member is None:
        return False
    promise = member.connector.manifest.entities.get(link.entity)
    return promise is not None and "delete" in promise.write


def is_barred(met: Link | None) -> bool:
    """Whether what became of the counterpart there forbids to make another one.

    Deleted there, merged away or parked: nothing deleted returns.
    """
    return met is not None and met.state != "live" and met.ended not in _OPEN


def latest(own: Sequence[Link]) -> Link | None:
    """The link that tells how a record stands in an account: the living, else the last to end.

    One that was merged away tells nothing beside the one it was merged into.
    """

    def rank(link: Link) -> tuple[bool, bool, bool, float, int]:
        ended = link.ended_at.timestamp() if link.ended_at else 0
        live, gone = link.state == "live", link.state == "gone"
        return live, not gone, link.ended != "merged", ended, link.id

    return max(own, key=rank, default=None)


async def prepare_deletes(
    db: AsyncConnection,
    member: Member,
    doomed: Sequence[tuple[Mark, RecordState, Link]],
) -> tuple[list[Job], list[Mark]]:
    """The deletes to carry out, and the marks of those that would take others along."""
    jobs: list[Job] = []
    spared: list[Mark] = []
    for its_mark, record, link in doomed:
        if reason := await spares(db, member, record):
            await keep(db, record, link.ref, reason)
            spared.append(its_mark)
        else:
            jobs.append(Job(its_mark, record, link, write=_delete(member, record, link)))
    return jobs, spared


async def spares(
    db: AsyncConnection, member: Member, record: RecordState, *, besides: Collection[UUID] = ()
) -> str:
    """Why this record would not be deleted here; empty if it would.

    ``besides`` are records that are to be deleted as well.
    """
    if "delete" not in member.connector.manifest.entities[record.entity].write:
        return f"{member.name} cannot delete it"
    children = set(await _taken_along(db, member, record)) - {*besides}
    return _would_take(member, len(children)) if record.state != "purged" else ""


async def spares_inside(
    db: AsyncConnection, member: Member, record: RecordState, inside: Collection[Ref]
) -> str:
    """Why this record, just seen with these ``inside``, is not deleted here; empty if it is.

    Somebody may have been put there a moment ago, and nobody has told us yet.
    """
    taken = member.connector.manifest.entities[record.entity].cascades
    refs = [ref for ref in inside if member.entity_of(ref.type) in taken]
    if not refs or record.state == "purged":
        return ""
    met = await links.by_ref(db, refs)
    owners = await records.get(db, [link.record_id for link in met.values()])
    doomed = {
        ref
        for ref, link in met.items()
        if link.state == "gone" or owners[link.record_id].state != "live"
    }
    return _would_take(member, len({*refs} - doomed))


def _would_take(member: Member, number: int) -> str:
    if not number:
        return ""
    return (
        f"it was deleted elsewhere; to delete it in {member.name} would delete "
        f"{number} more that live on"
    )


async def keep(db: AsyncConnection, record: RecordState, ref: Ref, reason: str) -> None:
    """It was to be deleted and is not: it lives, and a person is told."""
    await records.set_state(db, [record.id], "live")
    await conflicts.kept(db, record.entity, record.id, ref, reason, [])
    log.warning("record.kept", ref=str(ref), record=str(record.id), reason=reason)


async def _taken_along(db: AsyncConnection, member: Member, record: RecordState) -> list[UUID]:
    """The living records that this system would delete together with this one."""
    taken = member.connector.manifest.entities[record.entity].cascades
    if not taken:
        return []
    children = await records.get(db, await records.children(db, [record.id]))
    living = [c.id for c in children.values() if c.entity in taken and c.state == "live"]
    there = await links.by_record(db, living, account=member.name)
    return [link.record_id for link in there if link.state == "live"]


def _delete(member: Member, record: RecordState, link: Link) -> Write:
    return Write(
        op=Op.DELETE,
        entity=record.entity,
        type=member.type_of(record.entity),
        record_id=record.id,
        trace=uuid.uuid4().hex,
        ref=link.ref,
        erase=record.state == "purged",
    )


async def deleted(db: AsyncConnection, jobs: Sequence[Job]) -> None:
    """These are deleted there now, by us."""
    for job in jobs:
        assert job.link is not None
        why = "purged" if job.record.state == "purged" else PROPAGATED
        await links.end(db, [job.link.ref], why)
        await conflicts.settle_refs(db, [job.link.ref], how={"by": why})
        log.info("record.deleted", ref=str(job.link.ref), record=str(job.record.id))
    await outbox.clear(db, [job.mark for job in jobs])
    for job in jobs:
        # One that waited to be merged with it is deleted with it, unless it was edited since.
        if not await promote(db, job.record.id, job.mark.account):
            await part(db, job.mark.account, [job.record.id])
    gone = {job.record.id for job in jobs if job.record.state == "gone"}
    own = await links.by_record(db, gone)
    await records.bury(db, gone - {k.record_id for k in own if k.state not in ("gone", "unlinked")})


async def recreate(db: AsyncConnection, record: RecordState, account: str) -> None:
    """A person wants it back in an account where it was deleted: make it there anew.

    Raises RejectedError where nothing was deleted or the record lives nowhere.
    """
    own = latest(await links.by_record(db, [record.id], account=account, lock=True))
    if own is None or own.state != "gone":
        raise RejectedError(f"{account} has not deleted this record")
    if record.state != "live":
        raise RejectedError(f"this record is {record.state}: nothing of it is left to make anew")
    await links.end(db, [own.ref], "waived")
    await outbox.mark(db, {(account, record.id): record})
    await lanes.wake(db, account, "out")


def said(deletes: bool, unseen: Sequence[str]) -> str:
    """The rule that the journal names for a delete."""
    if unseen:
        return "deleted there; kept elsewhere, where it was edited meanwhile"
    if deletes:
        return "deleted there; propagate: the others delete it too"
    return "deleted there; unlink: the others keep theirs"


async def decide(db: AsyncConnection, conflict_id: int, *, delete: bool) -> None:
    """A person's word on a delete that was not carried over: delete it now, or let it live.

    Raises KeyError for a card that does not exist, RejectedError for one that is no such card or
    is settled.
    """
    card = await conflicts.get(db, conflict_id)
    if card is None:
        raise KeyError(conflict_id)
    if card.kind != "delete" or card.state != "open":
        raise RejectedError("this is no open card of kind delete")
    ref = Ref(card.account, card.ref_type, card.ref_id)
    how = {"by": "person", "delete": delete}
    await conflicts.settle_refs(db, [ref], kinds=["delete"], how=how)
    if delete:
        await records.set_state(db, [card.record_id], "gone")
        await mark(db, [card.record_id])
        record = (await records.get(db, [card.record_id]))[card.record_id]
        begun = await outbox.begun(db, record.id)
        await outbox.mark(db, {(account, record.id): record for account in begun})
