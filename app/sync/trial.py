"""One remote record on its way through the mapping, and what others would be told: nothing is
written anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, links
from app.db.journal import Cause
from app.db.outbox import Mark
from app.domain.decide import decide, reading
from app.domain.explain import Step, explain
from app.domain.identity import keys as identity_keys
from app.domain.mapping import EntityMapping, tailored, to_remote
from app.domain.rows import look_up
from app.domain.state import Plan, RecordState
from app.domain.values import Observation, Ref
from app.errors import NotFoundError
from app.sync.draft import Job, Near, prepare, travels
from app.sync.house import House, Member
from app.sync.world import Seen, World

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Told:
    """What one account would be told. ``says`` is the record in its words, ``sent`` what of it
    would be written now, ``held`` what has no place there.
    """

    account: str
    op: str
    remote_id: str | None
    says: Mapping[str, Any]
    sent: Mapping[str, Any]
    held: Mapping[str, str]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A record, what each row made of it, and what would come of it."""

    ref: Ref
    entity: str
    source: Mapping[str, Any]
    steps: Sequence[Step]
    fields: Mapping[str, Any]
    result: str
    reason: str
    record_id: UUID | None
    accounts: Sequence[Told]


async def try_mapping(house: House, account: str, remote_id: str, *, type: str | None) -> Trial:
    """Read one record and show what would come of it.

    ``type`` is the vendor's own word or ours; without it every entity is asked. Raises
    NotFoundError where nothing is shown, ValueError where the type is unknown or needed.
    """
    member = house.members[account]
    await house.learn(account)
    seen = await _read(house, member, remote_id, type)
    observed = seen.observation
    async with house.database.transaction() as db:
        world = await World.load(db, house, [seen], lock=False)
    state = world.state_of(seen)
    plan = decide(state, observed, new_id=uuid.uuid7(), now=now())
    assert observed.raw is not None
    fields = reading(state, observed)
    hints = [f for f in (state.link and state.link.base, state.record and state.record.fields) if f]
    steps = explain(state.mapping, observed.raw, replace(state.context, hints=tuple(hints)))
    record = plan.record or state.record
    return Trial(
        ref=observed.ref,
        entity=state.entity,
        source=_shown(state.mapping, observed),
        steps=steps,
        fields=fields,
        result=str(plan.result),
        reason=plan.reason,
        record_id=state.record.id if state.record else None,
        accounts=[] if record is None else await _others(house, account, record, plan),
    )


async def _read(house: House, member: Member, remote_id: str, type: str | None) -> Seen:
    promises = member.connector.manifest.entities
    able = [entity for entity in promises if house.sync_of(entity, member.name) is not None]
    entities = [e for e in able if type in (None, e, promises[e].type)]
    if not entities:
        known = ", ".join(able) or "none is"
        raise ValueError(f"{type!r} is no type of {member.name} that travels; known: {known}")
    shown: list[Observation] = []
    for entity in entities:
        found = await member.connector.read([member.connector.ref(entity, remote_id)])
        shown += [one for one in found if one.raw is not None]
    if not shown:
        raise NotFoundError(f"{member.name} shows no {type or 'record'} {remote_id!r}")
    if len(shown) > 1:
        types = ", ".join(one.ref.type for one in shown)
        raise ValueError(f"{remote_id!r} is the id of several records; name the type: {types}")
    return Seen(shown[0], Cause("try", member.name), now())


def _shown(mapping: EntityMapping, observed: Observation) -> dict[str, Any]:
    """The remote values that the rows look at."""
    assert observed.raw is not None
    return {
        name: look_up(observed.raw, name)
        for name in dict.fromkeys(path.partition("[]")[0] for path in mapping.paths)
        if name in observed.raw
    }


async def _others(house: House, account: str, record: RecordState, plan: Plan) -> list[Told]:
    """What every other account that takes part would be told."""
    sync = house.config.entity(record.entity)
    found = []
    for name in sync.accounts if sync else ():
        if name != account:
            await house.learn(name)
            async with house.database.transaction() as db:
                found.append(await _told(db, house, house.members[name], record, plan))
    return [await _looked_up(house, told, record) for told in found]


async def _told(
    db: AsyncConnection, house: House, member: Member, record: RecordState, plan: Plan
) -> Told:
    mapping = member.mappings[record.entity]
    linked = await links.by_record(db, [record.id], account=member.name)
    link = next((link for link in linked if link.state == "live"), None)
    ours = tailored(mapping, record.fields)
    context = replace(
        house.context(record.entity, member.name), current=link.base if link else None
    )
    says, held = to_remote(mapping, ours.keys(), ours, context)
    nothing = Told(member.name, "none", link.ref.id if link else None, says, {}, held)
    if not travels(house, member, record, link):
        return replace(nothing, note="the record does not travel there")
    if plan.reason and plan.record is None and link is None:
        return replace(nothing, note=plan.reason)
    mark = Mark(
        member.name, record.id, record.entity, record.version, True, _LONG_AGO, 0, None, None
    )
    job = Job(mark, record, link)
    waits = (
        await conflicts.held_fields(db, [record.id], member.name, kinds=conflicts.UNWRITTEN)
    ).get(record.id, frozenset())
    wait = await prepare(db, house, member, job, waits, await Near.load(db, member, [job]))
    if wait is not None:
        return replace(nothing, note="it waits for a parent that is on its way there")
    if job.write is None:
        return replace(nothing, held=job.held or held)
    return replace(nothing, op=str(job.write.op), sent=job.write.fields, held={**held, **job.held})


async def _looked_up(house: House, told: Told, record: RecordState) -> Told:
    """A create is none where a record with the same keys is there already: it is linked."""
    member = house.members[told.account]
    promise = member.connector.manifest.entities[record.entity]
    rules = [rule for rule in house.key_rules(record.entity) if rule in promise.keys]
    keys = identity_keys(record.entity, record.fields, rules)
    if told.op != "create" or not keys:
        return told
    found = await member.connector.find(record.entity, keys)
    hits = [one.ref.id for own in found.values() for one in own]
    if not hits:
        return told
    note = "a record with the same keys is there: it is linked, and merged field by field"
    return replace(told, op="link", remote_id=hits[0], sent={}, note=note)
