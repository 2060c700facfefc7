"""A dry run: the same load and the same decide, but nothing is applied.

What earlier pages would have created is kept in memory, so that later pages find it. A worker
that starts anew starts the dry run anew; it has no effects to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, links
from app.db.links import Link
from app.db.outbox import Mark
from app.db.resyncs import Resync
from app.domain import identity
from app.domain.decide import Plan, RecordState, Result, State, decide
from app.domain.values import NOTHING, Key, Observation, Ref
from app.sync.draft import Job, Near, prepare, travels
from app.sync.house import House, Member
from app.sync.world import Seen, World, shown_keys

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Preview:
    """What a dry run has seen so far. ``ahead`` are the records of this page and who is behind."""

    id: UUID
    links: dict[Ref, UUID] = field(default_factory=dict)
    keys: dict[tuple[str, Key], UUID] = field(default_factory=dict)
    ahead: list[tuple[RecordState, tuple[str, ...], Ref]] = field(default_factory=list)

    @classmethod
    async def load(cls, house: House, job: Resync) -> Preview:
        """The preview of this dry run, as far as this process has come with it."""
        if job.cursor is None or job.id not in house.previews:
            house.previews.clear()
            house.previews[job.id] = cls(job.id)
        found: Preview = house.previews[job.id]
        found.ahead = []
        return found

    async def see(self, house: House, batch: Sequence[Seen]) -> list[str]:
        """What reconcile would do with these observations."""
        if not batch:
            return []
        async with house.database.transaction() as db:
            world = await World.load(db, house, batch, lock=False)
        return [self._see(world, seen) for seen in batch]

    def _see(self, world: World, seen: Seen) -> str:
        ref = seen.observation.ref
        if ref in self.links:
            return str(Result.UNCHANGED)
        state = self._with_memory(world.house, world.state_of(seen), seen)
        plan = decide(state, seen.observation, new_id=uuid.uuid7(), now=now())
        record = plan.record or state.record
        if plan.result is Result.CREATED and plan.record is not None:
            self.links[ref] = plan.record.id
            self.keys |= {(state.entity, key): plan.record.id for key in plan.keys}
        if record is not None and plan.marks:
            self.ahead.append((record, plan.marks, ref))
        return "held" if plan.result is Result.MISSING else str(plan.result)

    def _with_memory(self, house: House, state: State, seen: Seen) -> State:
        """The state as it would be had the earlier pages been applied."""
        named = [ref for refs in seen.observation.relations.values() for ref in refs]
        virtual = {ref: self.links[ref] for ref in named if ref in self.links}
        state = replace(state, parents={**virtual, **state.parents})
        if state.link is not None or seen.observation.raw is None:
            return state
        keys = shown_keys(house, state, seen.observation)
        met = {
            key: self.keys[state.entity, key] for key in keys if (state.entity, key) in self.keys
        }
        if not met:
            return state
        # Whoever was met in this scan already stands for another record of this account.
        return replace(
            state,
            candidates={**met, **state.candidates},
            taken=(*state.taken, *met.values()),
        )

    async def items(self, house: House) -> list[dict[str, Any]]:
        """The writes that this page would cause, as the plan of a resync lists them."""
        items: list[dict[str, Any]] = []
        for account in sorted({a for _, marks, _ in self.ahead for a in marks}):
            member = house.members[account]
            rows = [record for record, marks, _ in self.ahead if account in marks]
            for entity in dict.fromkeys(record.entity for record in rows):
                same = [record for record in rows if record.entity == entity]
                items += await _items(house, member, entity, same)
        return items


async def _items(
    house: House, member: Member, entity: str, rows: list[RecordState]
) -> list[dict[str, Any]]:
    await house.learn(member.name)
    async with house.database.transaction() as db:
        ids = [record.id for record in rows]
        linked = {
            link.record_id: link
            for link in await links.by_record(db, ids, account=member.name)
            if link.state == "live"
        }
    there = await _there(house, member, entity, [r for r in rows if r.id not in linked])
    items: list[dict[str, Any] | None] = []
    async with house.database.transaction() as db:
        held = await conflicts.held_fields(db, ids, member.name)
        for record in rows:
            kept = held.get(record.id, frozenset())
            found = there.get(record.id)
            if found is None:
                items.append(
                    await _write_of(db, house, member, record, linked.get(record.id), kept)
                )
                continue
            plan = _meet(house, member, record, found)
            items.append(_item("link", member, record, found.ref.id, {}))
            link = Link.new(record.id, entity, found.ref, plan.base or {}, plan.sent or {}, None)
            items.append(await _write_of(db, house, member, plan.record or record, link, kept))
    return [item for item in items if item is not None]


async def _there(
    house: House, member: Member, entity: str, rows: list[RecordState]
) -> dict[UUID, Observation]:
    """The remote records that a push would find and link instead of creating."""
    promise = member.connector.manifest.entities.get(entity)
    if promise is None or not rows:
        return {}
    rules = [rule for rule in house.key_rules(entity) if rule in promise.keys]
    wanted = {record.id: identity.keys(entity, record.fields, rules) for record in rows}
    keys = sorted({key for own in wanted.values() for key in own})
    found = await member.connector.find(entity, keys) if keys else {}
    return {
        record_id: hits[0]
        for record_id, own in wanted.items()
        if (hits := [o for key in own for o in found.get(key, ())])
    }


def _meet(house: House, member: Member, record: RecordState, found: Observation) -> Plan:
    sync = house.sync_of(record.entity, member.name)
    assert sync is not None
    state = State(
        record.entity,
        member.mappings[record.entity],
        sync,
        house.context(record.entity, member.name),
        record=record,
        candidates={Key("ours", str(record.id)): record.id},
    )
    return decide(state, found, new_id=record.id, now=now())


async def _write_of(
    db: AsyncConnection,
    house: House,
    member: Member,
    record: RecordState,
    link: Link | None,
    held: frozenset[str],
) -> dict[str, Any] | None:
    """The write that a push would make for this record; None if it has nothing to say."""
    if not travels(house, member, record, link):
        return None
    mark = Mark(
        member.name, record.id, record.entity, record.version, True, _LONG_AGO, 0, None, None
    )
    job = Job(mark, record, link)
    await prepare(db, house, member, job, held, await Near.load(db, member, [job]))
    if job.write is None:
        return None
    base: Mapping[str, Any] = link.base if link else NOTHING
    names = sorted(job.names - job.held.keys())
    fields = {name: {"from": base.get(name), "to": job.ours[name]} for name in names}
    return _item(str(job.write.op), member, record, link.ref.id if link else None, fields)


def _item(
    op: str, member: Member, record: RecordState, remote_id: str | None, fields: dict[str, Any]
) -> dict[str, Any]:
    return {
        "op": op,
        "account": member.name,
        "entity": record.entity,
        "record_id": str(record.id),
        "remote_id": remote_id,
        "fields": fields,
    }
