"""A company and its people from a script or an agent, through decide as any observation.

The source is no account: nothing is ever written to it. What it last said of a record is kept as
the base of its next word, so that what it repeats is no edit of anything that changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson
import structlog
import uuid_utils.compat as uuid
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.clock import now
from app.config import EntitySync
from app.db import conflicts, intakes, links, purges, records
from app.db.journal import Cause, Entry
from app.db.records import KeyTaken
from app.domain.codecs import Context
from app.domain.decide import decide, keys_of, reading
from app.domain.intake import as_raw, mapping_of
from app.domain.merge import Clash, Take, Winner
from app.domain.state import OURS, PURGED, LinkState, Plan, RecordState, Result, State
from app.domain.traits import digests, traits
from app.domain.values import Key, Observation, Ref
from app.errors import SyncError
from app.sync.apply import Changes
from app.sync.deletes import is_barred, latest
from app.sync.house import House
from app.sync.preview import writes_of
from app.sync.purge import learn_pepper
from app.sync.reconcile import is_collision

log = structlog.get_logger()

INTAKE = "intake"
#: How often it is decided anew because a worker was faster.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was said; ``place`` is where in the request it stands."""

    place: str
    entity: str
    said: Mapping[str, Any]
    record_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one item; ``untold`` are its fields that no account holds."""

    item: Item
    record: RecordState
    result: Result
    takes: tuple[Take, ...]
    clashes: tuple[Clash, ...]
    untold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was taken in, and the writes that follow, as a plan lists them."""

    taken: tuple[Taken, ...]
    writes: tuple[dict[str, Any], ...]


class UncertainError(SyncError):
    """Nothing was taken in: a person, or the caller, must say whom this is about."""

    def __init__(self, place: str, reason: str, candidates: Sequence[UUID] = ()) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.candidates = place, tuple(candidates)


class RepeatError(SyncError):
    """The key was used for something else before."""


class _Rehearsed(Exception):
    """Everything was tried; nothing is kept."""


def digest_of(content: Any) -> bytes:
    """What a request says, whatever its blanks and the order of its names."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


async def rehearse(house: House, source: str, items: Sequence[Item]) -> Report:
    """What taking these in would do. Raises UncertainError."""
    report = Report((), ())
    try:
        async with house.database.transaction() as db:
            report = await _take_in(db, house, source, items, Cause(INTAKE))
            raise _Rehearsed
    except _Rehearsed:
        return report


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; ``replayed`` says that this was some time ago."""

    status: int
    content: dict[str, Any]
    replayed: bool = False


async def take_in(
    house: House,
    source: str,
    key: str,
    items: Sequence[Item],
    *,
    digest: bytes,
    answer: Any,
) -> Answer:
    """Take these in, once for each key; ``answer`` makes the answer of a report.

    Raises UncertainError, and RepeatError where the key was used for something else.
    """
    for left in reversed(range(_TRIES)):
        try:
            async with house.database.transaction() as db:
                known = await intakes.begin(db, source, key, digest)
                if known is not None:
                    if known.digest != digest:
                        raise RepeatError(f"the key {key!r} was used with another body before")
                    return Answer(known.status, known.answer, replayed=True)
                report = await _take_in(db, house, source, items, Cause(INTAKE, key))
                status, content = answer(report)
                await intakes.finish(db, source, key, status, content)
        except (DBAPIError, KeyTaken, links.LinkTaken) as error:
            if left and (not isinstance(error, DBAPIError) or is_collision(error)):
                continue  # a worker was faster: what it did is there now
            raise
        for one in report.taken:
            if one.result != Result.UNCHANGED:
                metrics.RECORDS_CHANGED.labels(source, one.record.entity).inc()
        log.info(
            "intake.taken",
            source=source,
            records=[str(one.record.id) for one in report.taken],
            writes=len(report.writes),
        )
        return Answer(status, content)
    raise AssertionError("the last try returns or raises")


async def _take_in(
    db: AsyncConnection, house: House, source: str, items: Sequence[Item], cause: Cause
) -> Report:
    taken: list[Taken] = []
    marks: dict[tuple[str, UUID], RecordState] = {}
    company: RecordState | None = None
    for item in items:
        parent = company if item.entity == "person" else None
        one, behind = await _take(db, house, source, item, parent, cause)
        taken.append(one)
        marks |= behind
        if item.entity == "company":
            company = one.record
    writes = [item for (name, _), r in marks.items() for item in await _writes(db, house, name, r)]
    return Report(tuple(taken), tuple(writes))


async def _take(
    db: AsyncConnection,
    house: House,
    source: str,
    item: Item,
    company: RecordState | None,
    cause: Cause,
) -> tuple[Taken, dict[tuple[str, UUID], RecordState]]:
    sync = _sync_of(house, source, item)
    raw = as_raw(item.entity, item.said)
    ref = Ref(source, item.entity, str(item.record_id or item.place))
    parent = {Ref(source, "company", str(company.id)): company.id} if company else {}
    moment = now()
    observation = Observation(
        ref,
        raw,
        relations={"company": tuple(parent)} if company else {},
        field_times=dict.fromkeys(raw, moment),
    )
    state = State(item.entity, mapping_of(item.entity, raw), sync, Context(), parents=parent)
    state = await _met(db, house, source, item, state, observation)
    plan = decide(state, observation, new_id=uuid.uuid7(), now=moment)
    if plan.candidates or plan.reason == PURGED:
        raise UncertainError(item.place, plan.reason, plan.candidates)
    owner = plan.record or state.record
    if owner is None:
        raise UncertainError(item.place, f"{item.entity} records are not made by others here")
    await _no_foreign_key(db, item, plan, owner)
    changes = _changes(state, plan, owner, cause, source)
    await changes.flush(db, house, source, scan=False)
    await _remember(db, source, state, plan, owner)
    untold = _untold(house, item.entity, reading(state, observation))
    result = _result(state, plan)
    return Taken(item, owner, result, plan.takes, plan.clashes, untold), changes.marks


def _result(state: State, plan: Plan) -> Result:
    if state.record is None:
        return Result.CREATED
    if plan.takes:
        return Result.UPDATED
    held = any(clash.winner is Winner.NOBODY for clash in plan.clashes)
    return Result.HELD if held else Result.UNCHANGED


def _sync_of(house: House, source: str, item: Item) -> EntitySync:
    """How the entity travels, with the source among those who may tell of it."""
    sync = house.config.entity(item.entity)
    if sync is None:
        raise UncertainError(item.place, f"no {item.entity} travels: add it under sync")
    return sync.model_copy(update={"accounts": (*sync.accounts, source)})


async def _met(
    db: AsyncConnection,
    house: House,
    source: str,
    item: Item,
    state: State,
    observation: Observation,
) -> State:
    """The state with the record that this is about, if we have it."""
    fields = reading(state, observation)
    if item.record_id is not None:
        found = (await records.survivors(db, [item.record_id]))[item.record_id]
        candidates = {Key(OURS, str(found)): found}
    else:
        keys = keys_of(state, fields)
        if not keys:
            rules = " or ".join(house.key_rules(item.entity))
            raise UncertainError(
                item.place,
                f"it has nothing to be recognised by ({rules}), so each call would make another "
                "one: add that, or name record_id",
            )
        candidates = await records.owners_of(db, item.entity, keys)
    ids = set(candidates.values())
    known = await records.get(db, ids, lock=True)
    record = known.get(next(iter(ids))) if len(ids) == 1 else None
    if item.record_id is not None and (record is None or record.entity != item.entity):
        raise UncertainError(item.place, f"there is no {item.entity} {item.record_id}")
    if record is not None and record.state != "live":
        raise UncertainError(item.place, f"the record {record.id} is {record.state}")
    if record is None:
        pepper = await learn_pepper(db, house)
        who = digests(pepper, item.entity, traits(fields)) if pepper else set()
        return replace(
            state, candidates=candidates, purged=bool(who and await purges.known(db, who))
        )
    # Who is enriched by hand is no mere holder of somebody else any more.
    record = replace(record, container=False)
    agreed = await intakes.base(db, source, record.id)
    held = (await conflicts.held_fields(db, [record.id], source)).get(record.id, frozenset())
    link = LinkState(record.id, *agreed, held=held) if agreed is not None else None
    return replace(state, record=record, link=link, candidates={} if link else candidates)


async def _no_foreign_key(db: AsyncConnection, item: Item, plan: Plan, owner: RecordState) -> None:
    """Raise where this would give a record a key that is another one's."""
    owners = await records.owners_of(db, item.entity, plan.keys)
    others = {key: other for key, other in owners.items() if other != owner.id}
    if others:
        named = ", ".join(f"{key.kind} {key.value}" for key in others)
        reason = f"{named} belongs to another record"
        raise UncertainError(item.place, reason, sorted({owner.id, *others.values()}))


def _changes(state: State, plan: Plan, owner: RecordState, cause: Cause, source: str) -> Changes:
    """What is to be stored; of a link there is none."""
    changes = Changes()
    if state.record is None:
        changes.added.append(owner)
    elif plan.record is not None:
        changes.changed[owner.id] = owner
    if plan.keys:
        changes.claims[owner.id] = (owner, plan.ref, plan.keys)
    if plan.takes or plan.clashes:
        changes.entries.append(
            Entry(owner.id, owner.version, source, cause, plan.takes, plan.clashes)
        )
    # A card names the record, for the source has none of its own.
    told = replace(plan, ref=replace(plan.ref, id=str(owner.id)))
    if plan.settled or plan.waiting or any(c.winner is Winner.NOBODY for c in plan.clashes):
        changes.cards.append((state, told))
    for account in plan.marks:
        if account != source:
            changes.marks[account, owner.id] = owner
            changes.traces[owner.id] = f"intake:{cause.id}" if cause.id else None
    return changes


async def _remember(
    db: AsyncConnection, source: str, state: State, plan: Plan, owner: RecordState
) -> None:
    """What it said is known now, also where a person has yet to choose: it is told nothing."""
    before = state.link.base if state.link else {}
    sent = state.link.sent if state.link else {}
    held = {c.field: c.theirs for c in plan.clashes if c.winner is Winner.NOBODY}
    base = {**(plan.base if plan.base is not None else before), **held}
    await intakes.agree(db, source, owner.id, base, plan.sent if plan.sent is not None else sent)


def _untold(house: House, entity: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that no account can be told."""
    told: set[str] = set()
    for member in house.members.values():
        sync = house.sync_of(entity, member.name)
        if sync is not None and entity in member.mappings:
            names = member.mappings[entity].writable(creating=True)
            told |= {name for name in names if sync.may_write(member.name, name)}
    return tuple(sorted(said.keys() - told))


async def _writes(
    db: AsyncConnection, house: House, account: str, record: RecordState
) -> list[dict[str, Any]]:
    """What will be sent to this account; what is there already is found when it is sent."""
    met = latest(await links.by_record(db, [record.id], account=account))
    link = met if met is not None and met.state == "live" else None
    if is_barred(met) or (met is not None and link is None):
        return []
    held = await conflicts.held_fields(db, [record.id], account, kinds=conflicts.UNWRITTEN)
    kept = held.get(record.id, frozenset())
    return await writes_of(db, house, house.members[account], record, link, kept)
