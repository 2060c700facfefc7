"""Observation -> decide -> apply: one transaction per record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
import structlog
import uuid_utils.compat as uuid
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, journal, lanes, links, outbox, records
from app.db.journal import Cause
from app.db.records import KeyTaken
from app.domain import identity
from app.domain.decide import LinkState, Plan, Result, State, decide, reading
from app.domain.merge import Winner
from app.domain.values import Key, Observation, Ref
from app.sync.house import House

log = structlog.get_logger()

#: How often one observation is decided anew because another worker was faster.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation and what we know of how it was made.

    ``known_at`` is a moment at which the ref existed for certain. ``read_at`` is when its
    reading began, by the database's clock; None for a snapshot that a webhook or an answer
    brought. ``same_as`` names the record it must belong to (a create of ours, found again).
    """

    observation: Observation
    known_at: datetime
    read_at: datetime | None = None
    same_as: UUID | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """This observation cannot be trusted yet: look again in a moment."""

    ref: Ref
    reason: str


async def reconcile(
    house: House, seen: Seen, cause: Cause, *, scan: bool = False
) -> Plan | Deferred:
    """Bring our record in line with one observation and mark who is behind now."""
    for attempt in range(_TRIES):
        try:
            async with house.database.transaction() as db:
                return await _in_transaction(db, house, seen, cause, scan=scan)
        except KeyTaken:
            continue  # the other worker's record is there now; decide with it
        except DBAPIError as error:
            if attempt == _TRIES - 1 or not _is_collision(error):
                raise
    return Deferred(seen.observation.ref, "other workers keep changing this record")


def _is_collision(error: DBAPIError) -> bool:
    """Deadlock, serialization failure, or a link that two workers made at once."""
    return getattr(error.orig, "sqlstate", None) in ("40P01", "40001", "23505")


async def _in_transaction(
    db: AsyncConnection, house: House, seen: Seen, cause: Cause, *, scan: bool
) -> Plan | Deferred:
    observation = seen.observation
    if observation.asked is not None and observation.asked != observation.ref:
        await relink(db, house, observation.asked, observation.ref, cause)
    state, link = await load(db, house, seen)
    if (reason := await _distrust(db, seen, state, link)) is not None:
        return Deferred(observation.ref, reason)
    plan = decide(state, observation, new_id=uuid.uuid7(), now=now())
    if link is not None and _needs_reading(seen, link, plan):
        return Deferred(observation.ref, "the snapshot is not newer than what we know")
    await apply(db, house, state, plan, cause, scan=scan)
    return plan


async def load(
    db: AsyncConnection, house: House, seen: Seen, *, lock: bool = True
) -> tuple[State, links.Link | None]:
    """All that decide needs, the link and the record locked."""
    observation = seen.observation
    ref = observation.ref
    member = house.members[ref.account]
    entity = member.entity_of(ref.type)
    assert entity is not None
    sync = house.sync_of(entity, ref.account)
    assert sync is not None
    link = (await links.by_ref(db, [ref], lock=lock)).get(ref)
    parents = {
        parent: found.record_id
        for parent, found in (
            await links.by_ref(db, [r for refs in observation.relations.values() for r in refs])
        ).items()
        if found.state != "gone"
    }
    state = State(
        entity,
        member.mappings[entity],
        sync,
        house.context(entity, ref.account),
        parents=parents,
    )
    candidates: dict[Key, UUID] = {}
    if link is None and seen.same_as is not None:
        candidates = {Key("ours", str(seen.same_as)): seen.same_as}
    elif link is None and observation.raw is not None:
        keys = identity.keys(entity, reading(state, observation))
        candidates = await records.owners_of(db, entity, keys)
    wanted = {link.record_id} if link else set(candidates.values())
    found = await records.get(db, wanted, lock=lock)
    taken = {
        other.record_id
        for other in await links.by_record(db, wanted, account=ref.account)
        if other.state == "live" and other.ref != ref
    }
    held = await conflicts.held_fields(db, wanted, ref.account) if link else {}
    own = next(iter(wanted), None) if len(wanted) == 1 else None
    return (
        State(
            entity,
            state.mapping,
            sync,
            state.context,
            link=LinkState(
                link.record_id,
                link.base,
                link.sent,
                link.state,
                link.seen_at,
                held.get(link.record_id, frozenset()),
            )
            if link
            else None,
            record=found.get(own) if own else None,
            parents=parents,
            candidates=candidates,
            taken=tuple(taken) if link is None else (),
        ),
        link,
    )


async def _distrust(
    db: AsyncConnection, seen: Seen, state: State, link: links.Link | None
) -> str | None:
    """Why this observation must be made again; None if it can be used."""
    if link is None:
        strong = state.candidates and not state.taken
        if not strong and await outbox.creating(
            db, seen.observation.ref.account, before=seen.known_at
        ):
            return "a create of ours is on its way; this may be it"
        return None
    if link.writing:
        return "a write of ours is on its way"
    if seen.read_at is not None and link.synced_at >= seen.read_at:
        return "what we know of it moved while it was read"
    return None


def _needs_reading(seen: Seen, link: links.Link, plan: Plan) -> bool:
    """A snapshot is used if it is newer than all we have seen, or if it tells nothing new."""
    if seen.read_at is not None or seen.observation.raw is None:
        return False
    if link.state == "gone":
        return True  # only a reading can prove that it came back
    version = seen.observation.version
    newer = version is not None and (link.seen_at is None or version > link.seen_at)
    return not newer and (plan.result is not Result.UNCHANGED or plan.base is not None)


async def apply(
    db: AsyncConnection, house: House, state: State, plan: Plan, cause: Cause, *, scan: bool
) -> None:
    """Carry out a plan: record, keys, relations, link, cards, journal, marks, wake-ups."""
    ref, record = plan.ref, plan.record
    match plan.result:
        case Result.MISSING:
            return
        case Result.GONE:
            await _unlink(db, state, ref, cause)
            return
        case Result.HELD if plan.candidates:
            await conflicts.unsure(db, state.entity, ref, plan.candidates, plan.reason, {})
            return
        case Result.CREATED:
            assert record is not None
            await records.add(db, record, source=ref.account, claimed=plan.keys)
        case _ if record is not None:
            await records.change(db, record, source=ref.account)
    owner = record or state.record
    assert owner is not None
    if plan.result is not Result.CREATED and plan.keys:
        await _claim(db, house, state, plan, owner.id)
    if state.link is None:
        assert plan.base is not None
        await links.add(
            db,
            owner.id,
            state.entity,
            ref,
            base=plan.base,
            sent=plan.sent or {},
            seen_at=plan.seen_at,
        )
        await conflicts.settle(db, ref, how={"by": "link", "record": str(owner.id)})
    elif plan.base is not None or plan.seen_at is not None or state.link.state == "gone":
        await links.agree(db, ref, base=plan.base, sent=plan.sent, seen_at=plan.seen_at)
        if state.link.state == "gone":
            await links.set_state(db, ref, "live")
    if plan.takes or plan.clashes:
        await journal.write(
            db,
            owner.id,
            owner.version,
            account=ref.account,
            cause=cause,
            takes=plan.takes,
            clashes=plan.clashes,
        )
    for clash in plan.clashes:
        if clash.winner is Winner.NOBODY:
            await conflicts.hold_field(db, owner.id, state.entity, ref, clash)
    if plan.settled:
        await conflicts.settle(db, ref, fields=plan.settled, how={"by": "agreement"})
    await outbox.mark(db, plan.marks, owner.id, state.entity, owner.version, scan=scan)
    for account in sorted(plan.marks):
        await lanes.wake(db, account, "out")


async def _claim(
    db: AsyncConnection, house: House, state: State, plan: Plan, record_id: UUID
) -> None:
    """Hold the keys of a changed record; one that belongs to another record is a card."""
    owners = await records.owners_of(db, state.entity, plan.keys)
    foreign = {key: owner for key, owner in owners.items() if owner != record_id}
    mine = [key for key in plan.keys if key not in foreign]
    record = plan.record or state.record
    assert record is not None
    await records.claim(db, record, mine)
    if foreign:
        named = ", ".join(f"{key.kind} {key.value}" for key in foreign)
        await conflicts.unsure(
            db,
            state.entity,
            plan.ref,
            tuple(foreign.values()),
            f"{named} belongs to another record too",
            {},
            record_id=record_id,
        )


async def _unlink(db: AsyncConnection, state: State, ref: Ref, cause: Cause) -> None:
    """The remote record was deleted: keep a tombstone, tell, touch nobody else's copy."""
    assert state.link is not None
    record_id = state.link.record_id
    await links.set_state(db, ref, "gone")
    left = [link for link in await links.by_record(db, [record_id]) if link.state == "live"]
    if not left:
        await records.bury(db, record_id)
    log.info("record.unlinked", ref=str(ref), record=str(record_id), still_linked=len(left))


async def relink(db: AsyncConnection, house: House, ref: Ref, to: Ref, cause: Cause) -> None:
    """After a remote merge: the links of the lost record follow the survivor's.

    Where both records have a living counterpart in another account, the lost one's stays linked
    but parked, and a card asks what to do with it.
    """
    found = await links.by_ref(db, [ref, to], lock=True)
    lost, kept = found.get(ref), found.get(to)
    if lost is None or lost.state == "gone":
        return
    if kept is None:
        # We never met the survivor: our link simply has a new name.
        await links.set_state(db, ref, "gone")
        await links.add(
            db, lost.record_id, lost.entity, to, base={}, sent={}, seen_at=None, state="live"
        )
        return
    await links.set_state(db, ref, "gone")
    if lost.record_id == kept.record_id:
        return
    both = await records.get(db, [lost.record_id, kept.record_id], lock=True)
    survivor = both[kept.record_id]
    settled_in = {
        link.ref.account
        for link in await links.by_record(db, [kept.record_id])
        if link.state == "live"
    }
    for link in await links.by_record(db, [lost.record_id], lock=True):
        if link.state == "gone":
            await links.move(db, link.ref, survivor.id, state="gone")
            continue
        park = link.ref.account in settled_in
        await links.move(db, link.ref, survivor.id, state="parked" if park else "live")
        if park:
            await conflicts.parked(db, lost.entity, survivor.id, link.ref, to)
    await records.hand_over(db, lost.record_id, survivor.id)
    log.info("record.merged", ref=str(ref), into=str(to), record=str(survivor.id))


async def known(house: House, refs: Sequence[Ref]) -> tuple[dict[Ref, links.Link], datetime]:
    """The links of these refs, and the database's time: before reading them, ask this."""
    async with house.database.transaction() as db:
        moment: datetime = (await db.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        return await links.by_ref(db, refs), moment
