"""A dry run: the same load and the same decide, but nothing is applied.

What a page would have created is kept in the database, so that later pages find it, whoever
works on them; in memory is one page at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, UUID, uuid5

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, foreseen, links, records
from app.db.foreseen import Foreseen, Kind, Name
from app.db.links import Link
from app.db.outbox import Mark
from app.domain import identity, ties
from app.domain.decide import decide
from app.domain.entities import relations_of, title_of
from app.domain.state import OURS, Plan, RecordState, Result, State
from app.domain.unread import Unread
from app.domain.values import NOTHING, Key, Observation, Ref, Value
from app.sync.deletes import (
    can_delete,
    is_barred,
    latest,
    spares,
    stuck_because,
    unseen_because,
)
from app.sync.draft import Job, Near, prepare, travels
from app.sync.house import House, Member
from app.sync.parting import parted
from app.sync.reconcile import Missed, known, unseen, without_hidden
from app.sync.world import Seen, World, shown_keys

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sight:
    """One remote record, what decide said of it, and our record and its link afterwards."""

    observation: Observation
    entity: str
    result: Result
    record: RecordState | None
    link: Link | None
    marks: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    candidates: Mapping[Key, UUID] = field(default_factory=dict)
    reason: str = ""
    #: What a delete of it means: whether it travels, or the edits for which it does not.
    deletes: bool = False
    unseen: tuple[str, ...] = ()
    #: Options there that no value map names, and were not told of yet.
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """What a push to an account that lacks a record would come to.

    ``op`` is ``create``, ``link``, ``hold`` or ``none``; ``found`` are the remote records that
    share a key with ours.
    """

    op: str
    found: tuple[Observation, ...] = ()
    key: Key | None = None
    reason: str = ""


#: (account, record) -> its fate there.
Fates: TypeAlias = dict[tuple[str, UUID], Fate]


@dataclass(slots=True)
class Preview:
    """One page of a dry run, with what it has to know of the pages before: all that is recalled,
    and nothing more.
    """

    id: UUID
    links: dict[Ref, UUID] = field(default_factory=dict)
    keys: dict[tuple[str, Key], UUID] = field(default_factory=dict)
    #: The records that would be made: what they would be made of, and their names.
    made: dict[UUID, tuple[Ref, str | None]] = field(default_factory=dict)
    #: The records of other accounts that would be linked.
    adopted: dict[Ref, UUID] = field(default_factory=dict)
    #: The records that would be deleted wherever they are.
    doomed: set[UUID] = field(default_factory=set)
    #: The records that are gone from the account, though nobody has told.
    departed: set[str] = field(default_factory=set)
    sights: list[Sight] = field(default_factory=list)
    _recalled: dict[Name, Foreseen] = field(default_factory=dict)

    def news(self) -> dict[Name, Foreseen]:
        """What this page adds to what is known of those before."""
        found: dict[Name, Foreseen] = {
            **{("link", str(ref)): Foreseen(own) for ref, own in self.links.items()},
            **{("key", _text(*key)): Foreseen(own) for key, own in self.keys.items()},
            **{
                ("made", str(own)): Foreseen(own, [ref.account, ref.type, ref.id, title])
                for own, (ref, title) in self.made.items()
            },
            **{("adopted", str(ref)): Foreseen(own) for ref, own in self.adopted.items()},
            **{("doomed", str(own)): Foreseen(own) for own in self.doomed},
            **{("departed", own): Foreseen(UUID(own)) for own in self.departed},
        }
        return {name: it for name, it in found.items() if self._recalled.get(name) != it}

    async def _recall(self, house: House, kind: Kind, names: Iterable[str]) -> dict[str, Foreseen]:
        """What the pages before say of these, if it was not recalled yet."""
        asked = {name for name in names if (kind, name) not in self._recalled}
        if not asked:
            return {}
        async with house.database.transaction() as db:
            found = await foreseen.recall(db, self.id, kind, asked)
        self._recalled |= {(kind, name): it for name, it in found.items()}
        return found

    async def recall_links(self, house: House, refs: Collection[Ref]) -> None:
        """Whom these refs would belong to."""
        found = await self._recall(house, "link", map(str, refs))
        for ref in refs:
            if (it := found.get(str(ref))) is not None:
                self.links.setdefault(ref, it.record_id)

    async def recall_made(self, house: House, ids: Collection[UUID]) -> None:
        """Which of these records are only foreseen, and what would make them."""
        for it in (await self._recall(house, "made", map(str, ids))).values():
            account, type, remote_id, title = it.more
            self.made.setdefault(it.record_id, (Ref(account, type, remote_id), title))

    async def _recall_adopted(self, house: House, refs: Collection[Ref]) -> None:
        found = await self._recall(house, "adopted", map(str, refs))
        for ref in refs:
            if (it := found.get(str(ref))) is not None:
                self.adopted.setdefault(ref, it.record_id)

    async def _recall_around(self, world: World, batch: Sequence[Seen]) -> None:
        """All that the pages before say of these observations."""
        house, shown = world.house, [seen.observation for seen in batch]
        named = {ref for one in shown for refs in one.relations.values() for ref in refs}
        await self.recall_links(house, named | {one.ref for one in shown})
        before = [
            str(parent)
            for one in shown
            if (link := world.links.get(one.ref)) is not None
            for name in relations_of(link.entity)
            for parent in _listed(link.base.get(name))
        ]
        self.departed |= (await self._recall(house, "departed", before)).keys()
        keys: set[tuple[str, Key]] = set()
        for seen in batch:
            if seen.observation.raw is not None and seen.observation.ref not in world.links:
                state = self._with_parents(world.state_of(seen), seen)
                keys |= {(state.entity, k) for k in shown_keys(house, state, seen.observation)}
        found = await self._recall(house, "key", (_text(*key) for key in keys))
        for key in keys:
            if (it := found.get(_text(*key))) is not None:
                self.keys.setdefault(key, it.record_id)

    async def see(self, house: House, batch: Sequence[Seen]) -> list[str]:
        """What reconcile would do with these observations."""
        if not batch:
            return []
        async with house.database.transaction() as db:
            world = await World.load(db, house, batch, lock=False)
        await self._recall_around(world, batch)
        asked = {one.observation.ref: world.missed(one) for one in batch}
        missed = {ref: own for ref, own in asked.items() if own}
        if missed:
            batch = await self._look_for_parents(house, batch, missed)
        return [self._see(world, seen) for seen in batch]

    async def _look_for_parents(
        self, house: House, batch: Sequence[Seen], missed: Missed
    ) -> list[Seen]:
        """The batch as a run would go on with it: whom these no longer name may be gone."""
        there, seen = await unseen(house, batch, missed)
        records = {link.ref: link.record_id for link in there}
        departed = [one for one in seen if one.observation.gone]
        self.departed |= {str(records[one.observation.ref]) for one in departed}
        if departed:
            async with house.database.transaction() as db:
                world = await World.load(db, house, departed, lock=False)
            await self._recall_around(world, departed)
            for one in departed:
                self._see(world, one)
        shown = [one.observation.ref for one in seen if not one.observation.gone]
        hidden = {records[ref] for ref in shown}
        return [without_hidden(one, missed.get(one.observation.ref, {}), hidden) for one in batch]

    def _see(self, world: World, seen: Seen) -> str:
        ref = seen.observation.ref
        if ref in self.links:
            return str(Result.UNCHANGED)
        state = self._with_memory(world.house, world.state_of(seen), seen)
        plan = decide(state, seen.observation, new_id=uuid.uuid7(), now=now())
        record = plan.record or state.record
        if plan.result is Result.LINKED and record is not None:
            self.links[ref] = record.id  # its children name it, and it is seen once
        if plan.result is Result.CREATED and plan.record is not None:
            self.links[ref] = plan.record.id
            self.keys |= {(state.entity, key): plan.record.id for key in plan.keys}
            self.made[plan.record.id] = (ref, title_of(plan.record.fields))
        link = world.links.get(ref)
        if link is None and record is not None and plan.base is not None:
            link = Link.new(record.id, state.entity, ref, plan.base, plan.sent or {}, None)
        self.sights.append(
            Sight(
                seen.observation,
                state.entity,
                plan.result,
                record,
                link,
                plan.marks,
                plan.keys,
                state.candidates,
                plan.reason,
                plan.deletes,
                plan.unseen,
                plan.unread,
            )
        )
        if plan.deletes and record is not None:
            self.doomed.add(record.id)
        return "held" if plan.result is Result.MISSING else str(plan.result)

    def _with_memory(self, house: House, state: State, seen: Seen) -> State:
        """The state as it would be had the earlier pages been applied."""
        state = self._parted(self._with_parents(state, seen))
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

    def _with_parents(self, state: State, seen: Seen) -> State:
        named = [ref for refs in seen.observation.relations.values() for ref in refs]
        virtual = {ref: self.links[ref] for ref in named if ref in self.links}
        return replace(state, parents={**virtual, **state.parents})

    def _parted(self, state: State) -> State:
        """What the link knows once those are gone whom an earlier look has missed."""
        link, record = state.link, state.record
        if link is None or record is None or not self.departed:
            return state
        own = {name: link.base.get(name) for name in relations_of(state.entity)}
        listed = {name: _listed(value) for name, value in own.items()}
        names = [name for name, ids in listed.items() if self.departed.intersection(map(str, ids))]
        if not names:
            return state
        names += [ties.LABELS] if ties.LABELS in record.fields else []
        base, sent = parted(link.base, link.sent, record, names, self.departed)
        return replace(state, link=replace(link, base=base, sent=sent))

    async def outlook(self, house: House) -> tuple[list[dict[str, Any]], Fates]:
        """What this page would cause: the writes, as the plan of a resync lists them, and the
        fate of each record in each account that lacks it.
        """
        items: list[dict[str, Any]] = []
        fates: Fates = {}
        known_now = {s.record.id: s.record for s in self.sights if s.record is not None}
        own = {s.record.id: s.link for s in self.sights if s.record is not None and s.link}
        for account in sorted({a for sight in self.sights for a in sight.marks}):
            behind = [s.record.id for s in self.sights if account in s.marks and s.record]
            rows = [known_now[record_id] for record_id in dict.fromkeys(behind)]
            member = house.members[account]
            found, learned = await self.push(house, member, rows, own, fates)
            items += found
            known_now |= learned
        for sight in self.sights:
            items += await self._deletes(house, sight)
            items += _unread(house, sight)
        await self.recall_made(house, known_now)
        return self._named_alike(items, fates)

    async def _deletes(self, house: House, sight: Sight) -> list[dict[str, Any]]:
        """The deletes that one in the scanned account would cause, or why it would not."""
        record, ref = sight.record, sight.observation.ref
        if record is None or not (sight.deletes or sight.unseen):
            return []
        async with house.database.transaction() as db:
            children = await records.children(db, [record.id])
        doomed = await self._recall(house, "doomed", map(str, children))
        self.doomed |= {it.record_id for it in doomed.values()}
        async with house.database.transaction() as db:
            own = [one for one in await links.by_record(db, [record.id]) if one.ref != ref]
            living = [one for one in own if one.state == "live"]
            if any(one.state == "parked" and one.ref.account == ref.account for one in own):
                return []  # its double takes its place
            stuck = [one.ref.account for one in living if not can_delete(house, one)]
            why = unseen_because(ref) if sight.unseen else stuck_because(ref, stuck)
            if sight.unseen or stuck:
                return [_fate_of(house, record, one, why) for one in living[:1]]
            return [
                _fate_of(
                    house,
                    record,
                    one,
                    await spares(db, house.members[one.ref.account], record, besides=self.doomed),
                )
                for one in living
            ]

    def _named_alike(
        self, items: list[dict[str, Any]], fates: Fates
    ) -> tuple[list[dict[str, Any]], Fates]:
        """The same with ids that the dry run of the other account gives, too.

        A key such as `company + name` then says the same on either side, although the company
        is a record that neither has made yet.
        """
        met: dict[UUID, list[Ref]] = {}
        for (_, record_id), fate in fates.items():
            if fate.op == "link":
                met.setdefault(record_id, []).append(fate.found[0].ref)
        names: dict[UUID, UUID] = {}
        for n, sight in enumerate(self.sights):
            record, ref = sight.record, sight.observation.ref
            if record is None or record.id not in self.made or record.id not in met:
                continue
            name = uuid5(NAMESPACE_URL, f"syncline:{min(ref, *met[record.id])}")
            names[record.id] = self.links[ref] = name
            self.keys |= {(sight.entity, key): name for key in sight.keys}
            self.adopted |= dict.fromkeys(met[record.id], name)
            self.made[name] = self.made.pop(record.id)
            self.sights[n] = replace(sight, record=replace(record, id=name))
        given = {str(old): str(name) for old, name in names.items()}
        items = [{**i, "record_id": given.get(i["record_id"], i["record_id"])} for i in items]
        return items, {(a, names.get(i, i)): fate for (a, i), fate in fates.items()}

    async def push(
        self,
        house: House,
        member: Member,
        rows: Sequence[RecordState],
        own: Mapping[UUID, Link],
        fates: Fates,
    ) -> tuple[list[dict[str, Any]], dict[UUID, RecordState]]:
        """The writes to an account that is behind these records, and the records that meeting
        something there would change.

        ``own`` are their links in the account that is scanned, where a dry run asks.
        """
        if not rows:
            return [], {}
        await house.learn(member.name)
        items: list[dict[str, Any]] = []
        learned: dict[UUID, RecordState] = {}
        for entity in dict.fromkeys(record.entity for record in rows):
            same = [record for record in rows if record.entity == entity]
            items += await self._push(house, member, same, own, fates, learned)
        return items, learned

    async def _push(
        self,
        house: House,
        member: Member,
        rows: Sequence[RecordState],
        own: Mapping[UUID, Link],
        fates: Fates,
        learned: dict[UUID, RecordState],
    ) -> list[dict[str, Any]]:
        """The same for records of one entity."""
        ids = [record.id for record in rows]
        async with house.database.transaction() as db:
            there_already: dict[UUID, list[Link]] = {}
            for one in await links.by_record(db, ids, account=member.name):
                there_already.setdefault(one.record_id, []).append(one)
            held = await conflicts.held_fields(db, ids, member.name, kinds=conflicts.UNWRITTEN)
        met = {record_id: latest(listed) for record_id, listed in there_already.items()}
        barred = {record_id for record_id, link in met.items() if is_barred(link)}
        linked = {i: link for i, link in met.items() if link and link.state == "live"}
        linked |= {i: link for i, link in own.items() if link.ref.account == member.name}
        entity = rows[0].entity
        open_rows = [r for r in rows if r.id not in linked and r.id not in barred]
        there = await _find(house, member, entity, open_rows)
        seen = [o for found in there.values() for o, _ in found.values()]
        parents = [ref for o in seen for refs in o.relations.values() for ref in refs]
        others, _ = await known(house, [o.ref for o in seen] + parents)
        await self._recall_adopted(house, [o.ref for o in seen] + parents)
        items: list[dict[str, Any]] = []
        async with house.database.transaction() as db:
            jobs = [Job(_mark(member, record), record, linked.get(record.id)) for record in rows]
            near = await Near.load(db, member, jobs)
            for record in rows:
                kept = held.get(record.id, frozenset())
                link = linked.get(record.id)
                if record.state in ("gone", "purged") and link is not None:
                    why = await spares(db, member, record, besides=ids)
                    items.append(_fate_of(house, record, link, why))
                    continue
                if record.state != "live" or (link is None and record.id in barred):
                    fates[member.name, record.id] = Fate("none", reason="it was deleted there")
                    continue
                if link is not None:
                    items += await writes_of(db, house, member, record, link, kept, near)
                    continue
                fate = self._fate(house, member, record, there.get(record.id, {}), others)
                fates[member.name, record.id] = fate
                if fate.op == "hold":
                    items.append(_item("hold", member, record, None, {}, fate.reason))
                elif fate.op == "create":
                    items += await writes_of(db, house, member, record, None, kept, near)
                elif fate.op == "link":
                    home = own.get(record.id)
                    after, more = await self._adopt(db, house, member, record, fate, home, others)
                    learned[record.id] = after
                    items += more
        return items

    async def _adopt(
        self,
        db: AsyncConnection,
        house: House,
        member: Member,
        record: RecordState,
        fate: Fate,
        home: Link | None,
        met: Mapping[Ref, Link],
    ) -> tuple[RecordState, list[dict[str, Any]]]:
        """Our record after meeting what is there already, and what either side would learn."""
        (found,) = fate.found
        self.adopted[found.ref] = record.id
        parents = {ref: link.record_id for ref, link in met.items() if link.state != "gone"}
        plan = _meet(house, member, record, found, {**parents, **self.adopted})
        after = plan.record or record
        link = Link.new(record.id, record.entity, found.ref, plan.base or {}, plan.sent or {}, None)
        items = [_item("link", member, record, found.ref.id, {})]
        items += await writes_of(db, house, member, after, link, frozenset())
        if home is not None and home.ref.account in plan.marks:
            source = house.members[home.ref.account]
            items += await writes_of(db, house, source, after, home, frozenset())
        return after, items

    def _fate(
        self,
        house: House,
        member: Member,
        record: RecordState,
        there: Mapping[Ref, tuple[Observation, Key]],
        met: Collection[Ref],
    ) -> Fate:
        """What `adopt` would do with a create, given what shares a key with it there."""
        if not travels(house, member, record, None):
            return Fate("none", reason=f"a {record.entity} of this kind is not created there")
        free = {
            ref: hit
            for ref, hit in there.items()
            if ref not in met and self.adopted.get(ref, record.id) == record.id
        }
        if len(free) == 1:
            ((found, key),) = free.values()
            return Fate("link", (found,), key)
        if not there:
            return Fate("create")
        hits = tuple(o for o, _ in (free or there).values())
        key = next(iter((free or there).values()))[1]
        named = ", ".join(o.ref.id for o in hits)
        held = f"{member.name} has {len(hits)} records that could be this one: {named}"
        taken = f"what could be this one in {member.name} belongs to another record: {named}"
        return Fate("hold", hits, key, held if free else taken)


def _text(entity: str, key: Key) -> str:
    return f"{entity} {key.kind} {key.value}"


def _listed(value: Value) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _unread(house: House, sight: Sight) -> list[dict[str, Any]]:
    """What of a record would be told to a person, since nothing names it."""
    record, ref = sight.record, sight.observation.ref
    if record is None:
        return []
    return [
        _item(
            "hold",
            house.members[ref.account],
            record,
            ref.id,
            {one.field: {"from": one.word, "to": record.fields.get(one.field)}},
            f"no value map names {one.word!r}: it is neither read nor written over",
        )
        for one in sight.unread
    ]


async def _find(
    house: House, member: Member, entity: str, rows: Sequence[RecordState]
) -> dict[UUID, dict[Ref, tuple[Observation, Key]]]:
    """The remote records that share a key with ours, as a push would find them."""
    promise = member.connector.manifest.entities.get(entity)
    rows = [record for record in rows if travels(house, member, record, None)]
    if promise is None or not rows:
        return {}
    rules = [rule for rule in house.key_rules(entity) if rule in promise.keys]
    wanted = {record.id: identity.keys(entity, record.fields, rules) for record in rows}
    keys = sorted({key for own in wanted.values() for key in own})
    found = await member.connector.find(entity, keys) if keys else {}
    return {
        record_id: {o.ref: (o, key) for key in own for o in found.get(key, ())}
        for record_id, own in wanted.items()
    }


def _meet(
    house: House,
    member: Member,
    record: RecordState,
    found: Observation,
    parents: Mapping[Ref, UUID],
) -> Plan:
    """What decide would say once a push has found our record there."""
    sync = house.sync_of(record.entity, member.name)
    assert sync is not None
    state = State(
        record.entity,
        member.mappings[record.entity],
        sync,
        house.context(record.entity, member.name),
        record=record,
        parents=parents,
        candidates={Key(OURS, str(record.id)): record.id},
    )
    return decide(state, found, new_id=record.id, now=now())


async def writes_of(
    db: AsyncConnection,
    house: House,
    member: Member,
    record: RecordState,
    link: Link | None,
    held: frozenset[str],
    near: Near | None = None,
) -> list[dict[str, Any]]:
    """The write that a push would make for this record, and what of it has no place there.

    Parents that are still to be pushed count as pushed; ``near`` is loaded unless given.
    """
    if not travels(house, member, record, link):
        return []
    job = Job(_mark(member, record), record, link)
    near = near or await Near.load(db, member, [job])
    await prepare(db, house, member, job, held, replace(near, queued=frozenset()))
    base: Mapping[str, Any] = link.base if link else NOTHING
    remote_id = link.ref.id if link else None

    def changes(names: Iterable[str]) -> dict[str, Any]:
        return {n: {"from": base.get(n), "to": job.ours.get(n)} for n in sorted(names)}

    items = []
    if job.write is not None:
        told = changes(job.names - job.held.keys() - job.unsaid)
        items.append(_item(str(job.write.op), member, record, remote_id, told))
    if job.held:
        reason = "; ".join(sorted(set(job.held.values())))
        items.append(_item("hold", member, record, remote_id, changes(job.held), reason))
    return items


def _mark(member: Member, record: RecordState) -> Mark:
    """As if it had waited long enough for anything."""
    entity, version = record.entity, record.version
    return Mark(member.name, record.id, entity, version, True, _LONG_AGO, 0, None, None)


def _fate_of(house: House, record: RecordState, link: Link, spared: str) -> dict[str, Any]:
    op, member = "hold" if spared else "delete", house.members[link.ref.account]
    return _item(op, member, record, link.ref.id, {}, spared)


def _item(
    op: str,
    member: Member,
    record: RecordState,
    remote_id: str | None,
    fields: dict[str, Any],
    reason: str = "",
) -> dict[str, Any]:
    item = {
        "op": op,
        "account": member.name,
        "entity": record.entity,
        "record_id": str(record.id),
        "remote_id": remote_id,
        "fields": fields,
    }
    return {**item, "reason": reason} if reason else item
