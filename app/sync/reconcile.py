"""Observation -> decide -> apply: one transaction for a batch, or for each that needs its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import TypeAlias
from uuid import UUID

import sqlalchemy as sa
import structlog
import uuid_utils.compat as uuid
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs, metrics
from app.clock import now
from app.db import links
from app.db.records import KeyTaken
from app.domain.decide import decide, is_outlived, needs_reading
from app.domain.state import Plan, Result, State
from app.domain.strangers import strangers
from app.domain.values import Ref
from app.errors import SyncError
from app.sync.apply import Changes
from app.sync.house import House
from app.sync.relink import follow, relink
from app.sync.times import Untimed, UntimedError, ask
from app.sync.world import Seen, World

log = structlog.get_logger()

#: How many observations share one transaction.
BATCH = 100
#: How often one observation is decided anew because another worker was faster.
_TRIES = 5
#: What the vendors may be asked before a batch is decided: for times, for parents, for rivals.
_QUESTIONS = 3


@dataclass(frozen=True, slots=True)
class Deferred:
    """This observation cannot be trusted yet: look again in a moment.

    ``stale`` says why not: it is an old snapshot, and a reading would tell.
    """

    ref: Ref
    reason: str
    stale: bool = False


#: Whom these refs do not name any more, by relation.
Missed: TypeAlias = Mapping[Ref, Mapping[str, set[UUID]]]


class PartedError(Exception):
    """Nothing is applied until we know why these do not name their parents any more."""

    def __init__(self, missed: Missed) -> None:
        super().__init__(", ".join(map(str, missed)))
        self.missed = missed


class RivalsError(Exception):
    """No person is asked who is who until we know whether these others are still there."""

    def __init__(self, refs: Collection[Ref]) -> None:
        super().__init__(", ".join(map(str, refs)))
        self.refs = sorted(refs)


#: What became of an observation; an exception is the trouble of that one alone.
Reconciled: TypeAlias = Plan | Deferred | Exception


async def reconcile(house: House, seen: Sequence[Seen], *, scan: bool = False) -> list[Reconciled]:
    """Bring our records in line with these observations and mark who is behind now.

    All are of one account, parents before children; the answers are in their order. They are
    applied in one transaction per hundred; where that fails, one by one, so that a poison
    record fails alone.
    """
    try:
        await ask_about_strangers(house, seen)
    except SyncError as error:
        return [Deferred(one.observation.ref, f"no directory: {error}") for one in seen]
    done: list[Reconciled] = []
    for start in range(0, len(seen), BATCH):
        batch = seen[start : start + BATCH]
        try:
            done += await _together(house, batch, scan=scan)
        except Exception as error:
            if len(batch) > 1:
                log.info("reconcile.split", size=len(batch), reason=logs.words(error))
            done += [await _alone(house, one, scan=scan) for one in batch]
    return done


async def ask_about_strangers(house: House, seen: Sequence[Seen]) -> None:
    """A stage or an owner nobody has heard of is new there: to skip it would lose an edit."""
    strange: set[tuple[str, str]] = set()
    for one in seen:
        ref, raw = one.observation.ref, one.observation.raw
        member = house.members[ref.account]
        entity = member.entity_of(ref.type)
        if raw is not None and entity is not None and entity in member.mappings:
            strange |= strangers(member.mappings[entity], raw, house.context(entity, ref.account))
    if strange:
        await house.ask_about(seen[0].observation.ref.account, strange)


async def _alone(house: House, seen: Seen, *, scan: bool) -> Reconciled:
    for _ in range(_TRIES):
        try:
            (answer,) = await _together(house, [seen], scan=scan)
        except (KeyTaken, links.LinkTaken):
            continue  # the other worker's record is there now; decide with it
        except DBAPIError as error:
            if not is_collision(error):
                return error
        except Exception as error:
            return error
        else:
            return answer
    return Deferred(seen.observation.ref, "other workers keep changing this record")


def is_collision(error: DBAPIError) -> bool:
    """Deadlock, serialization failure, or a link that two workers made at once."""
    return getattr(error.orig, "sqlstate", None) in ("40P01", "40001", "23505")


async def _together(house: House, batch: Sequence[Seen], *, scan: bool) -> list[Plan | Deferred]:
    """Decide a batch, asking first for what decides and is not known, and apply it."""
    for _ in range(_QUESTIONS):
        try:
            return await _at_once(house, batch, scan=scan)
        except UntimedError as asked:
            batch = await ask(house, batch, asked.found)
        except PartedError as parted:
            batch = await _look_for_parents(house, batch, parted.missed)
        except RivalsError as doubted:
            batch = await _look_for_rivals(house, batch, doubted.refs)
    return await _at_once(house, batch, scan=scan)


async def _look_for_rivals(house: House, batch: Sequence[Seen], refs: Sequence[Ref]) -> list[Seen]:
    """The batch again, once it is known which of these were deleted before we heard of it.

    Where the system does not say, a person is asked.
    """
    account, cause = batch[0].observation.ref.account, batch[0].cause
    _, read_at = await known(house, [])
    for _, group in groupby(refs, key=lambda ref: ref.type):
        try:
            found = await house.members[account].connector.read(list(group))
        except SyncError:
            continue
        gone = [Seen(one, cause, read_at, read_at) for one in found if one.raw is None and one.gone]
        await reconcile(house, gone)
    return [replace(seen, alone=True) for seen in batch]


async def _look_for_parents(house: House, batch: Sequence[Seen], missed: Missed) -> list[Seen]:
    """The batch again, once we know whether those whom these no longer name are still there.

    Whoever was deleted is so from now on; a relation to what is merely not shown is no opinion.
    """
    there, seen = await unseen(house, batch, missed)
    hidden: set[UUID] = set()
    for _, group in groupby(seen, key=lambda one: one.observation.ref.type):
        alike = list(group)
        for one, answer in zip(alike, await reconcile(house, alike), strict=True):
            if not isinstance(answer, Plan) or answer.result is Result.MISSING:
                hidden |= {link.record_id for link in there if link.ref == one.observation.ref}
    return [without_hidden(one, missed.get(one.observation.ref, {}), hidden) for one in batch]


async def unseen(
    house: House, batch: Sequence[Seen], missed: Missed
) -> tuple[list[links.Link], list[Seen]]:
    """The links of those whom these no longer name, and what is seen of those not shown there."""
    account, cause = batch[0].observation.ref.account, batch[0].cause
    parents = {parent for own in missed.values() for ids in own.values() for parent in ids}
    async with house.database.transaction() as db:
        there = await links.by_record(db, parents, account=account)
    refs = [link.ref for link in there if link.state == "live"]
    _, read_at = await known(house, [])
    seen: list[Seen] = []
    for _, group in groupby(sorted(refs), key=lambda ref: ref.type):
        found = await house.members[account].connector.read(list(group))
        seen += [Seen(one, cause, read_at, read_at) for one in found if one.raw is None]
    return there, seen


def without_hidden(seen: Seen, missed: Mapping[str, set[UUID]], hidden: set[UUID]) -> Seen:
    """A relation of which an end is merely not shown is no opinion."""
    observation = seen.observation
    told = {n: r for n, r in observation.relations.items() if not missed.get(n, set()) & hidden}
    labels = observation.labels if told == observation.relations else None
    observation = replace(observation, relations=told, labels=labels)
    return replace(seen, observation=observation, whole=True)


async def _at_once(house: House, batch: Sequence[Seen], *, scan: bool) -> list[Plan | Deferred]:
    """Decide a batch in one transaction and apply what was decided.

    Raises UntimedError, PartedError or RivalsError, with nothing applied, where the vendors must
    say more.
    """
    async with house.database.transaction() as db:
        answers, changes, world = await within(db, house, batch)
        await changes.flush(db, house, world.account, scan=scan)
    for record in (*changes.added, *changes.changed.values()):
        metrics.RECORDS_CHANGED.labels(world.account, record.entity).inc()
    for entity, policy in changes.clashed:
        metrics.CONFLICTS.labels(entity, policy).inc()
    return answers


async def within(
    db: AsyncConnection, house: House, batch: Sequence[Seen]
) -> tuple[list[Plan | Deferred], Changes, World]:
    """What would become of a batch in this transaction, decided and not yet written."""
    await _follow_merges(db, house, batch)
    world = await World.load(db, house, batch)
    changes = Changes()
    untimed: list[Untimed] = []
    missed = {one.observation.ref: m for one in batch if not one.whole and (m := world.missed(one))}
    if missed:
        raise PartedError(missed)
    answers = [_decide(world, changes, seen, untimed) for seen in batch]
    if untimed:
        raise UntimedError(untimed)
    if rivals := _rivals(world, batch, answers):
        raise RivalsError(rivals)
    return answers, changes, world


def _rivals(world: World, batch: Sequence[Seen], answers: Sequence[Plan | Deferred]) -> set[Ref]:
    """Counterparts that have the keys of something new, and may have just left, unheard.

    Only an event comes before the one that tells of them.
    """
    fresh = {
        owner
        for seen, answer in zip(batch, answers, strict=True)
        if isinstance(answer, Plan) and not seen.alone and seen.cause.kind == "event"
        for owner in answer.candidates
    }
    standing = {ref for owner in fresh for ref in world.standing.get(owner, ())}
    return standing - {seen.observation.ref for seen in batch}


async def _follow_merges(db: AsyncConnection, house: House, batch: Sequence[Seen]) -> None:
    """A reading that shows another record than was asked for, or what a record has absorbed,
    tells of a merge as an event does.
    """
    told = [
        (former, seen.observation.ref, seen.known_at)
        for seen in batch
        if seen.same_as is None  # else it is linked first, and what it has absorbed comes after
        # What the survivor itself was called before goes first: its values are those that stand.
        for former in (*seen.observation.absorbed, seen.observation.asked)
        if former is not None and former != seen.observation.ref
    ]
    if not told:
        return
    met = await links.by_ref(db, {former for former, _, _ in told})
    for former, ref, known_at in told:
        # If it must wait, so must what is seen of it: both may be what we make just now.
        if former in met and met[former].ended != "merged":
            await relink(db, former, ref, known_at=known_at)
            await follow(db, house, ref)


def _decide(world: World, changes: Changes, seen: Seen, untimed: list[Untimed]) -> Plan | Deferred:
    """One plan, noted in the changes and in the world."""
    observation = seen.observation
    link = world.links.get(observation.ref)
    state = world.state_of(seen)
    if (reason := _distrust(world, seen, state, link)) is not None:
        return Deferred(observation.ref, reason)
    if seen.read_at is None and is_outlived(state, observation):
        return Plan(Result.UNCHANGED, observation.ref, reason="we have seen it later than this")
    plan = decide(state, observation, new_id=uuid.uuid7(), now=now())
    if seen.read_at is None and needs_reading(state, observation, plan):
        reason = "the snapshot is not newer than what we know"
        return Deferred(observation.ref, reason, stale=True)
    after = changes.add(state, plan, seen.cause, link)
    owner = plan.record or state.record
    if plan.untimed and seen.ours_at is None and state.record is not None:
        untimed.append(Untimed(seen, state.record, plan.untimed))
    if after is not None and owner is not None:
        world.met(after, owner, plan.keys)
    return plan


def _distrust(world: World, seen: Seen, state: State, link: links.Link | None) -> str | None:
    """Why this observation must be made again; None if it can be used."""
    if link is None:
        begun = world.creating_since
        if not state.recognised and begun is not None and begun <= seen.known_at:
            return "a create of ours is on its way; this may be it"
        rivals = {ref for owner in state.taken for ref in world.standing.get(owner, ())}
        if rivals & world.leaving:
            return "another record has its keys, and may just have left"
        return None
    if link.writing:
        return "a write of ours is on its way"
    if seen.read_at is not None and link.synced_at >= seen.read_at:
        return "what we know of it moved while it was read"
    return None


async def known(house: House, refs: Sequence[Ref]) -> tuple[dict[Ref, links.Link], datetime]:
    """The links of these refs, and the database's time: before reading them, ask this."""
    async with house.database.transaction() as db:
        moment: datetime = (await db.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        return await links.by_ref(db, refs), moment
