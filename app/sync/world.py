"""All that decide may know about a batch of observations, loaded in one go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, events, links, outbox, purges, records
from app.db.journal import Cause
from app.db.links import Link
from app.domain.decide import keys_of, reading
from app.domain.entities import is_set, relations_of
from app.domain.state import OURS, LinkState, RecordState, State
from app.domain.traits import digests, traits
from app.domain.values import Fields, Key, Observation, Ref
from app.sync.house import House
from app.sync.purge import learn_pepper


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation and what we know of how it was made.

    ``known_at`` is a moment at which the ref existed for certain. ``read_at`` is when its
    reading began, by the database's clock; None for a snapshot that a webhook or an answer
    brought. ``same_as`` names the record it must belong to (a create of ours found again, or a
    person's word); ``apart`` says that it is none of ours, which only a person can know.
    ``ours_at`` is set once the vendors were asked when edits were made that decide something,
    ``whole`` once it was asked what became of those whom it does not name any more, ``alone``
    once it was asked whether those with the same keys are still there.
    """

    observation: Observation
    cause: Cause
    known_at: datetime
    read_at: datetime | None = None
    same_as: UUID | None = None
    apart: bool = False
    ours_at: Mapping[str, datetime] | None = None
    whole: bool = False
    alone: bool = False


@dataclass(slots=True)
class World:
    """Links, records and keys around a batch of one account's observations.

    It grows while the batch is decided, so that a child finds the parent before it.
    """

    house: House
    account: str
    links: dict[Ref, Link] = field(default_factory=dict)
    records: dict[UUID, RecordState] = field(default_factory=dict)
    keys: dict[tuple[str, Key], UUID] = field(default_factory=dict)
    #: Living refs of this account by record: whoever is here already has a counterpart.
    standing: dict[UUID, set[Ref]] = field(default_factory=dict)
    held: dict[UUID, frozenset[str]] = field(default_factory=dict)
    #: What the refs showed that no value map names.
    words: dict[Ref, dict[str, str]] = field(default_factory=dict)
    #: What creates of ours say whose outcome is not known yet.
    intended: dict[UUID, Fields] = field(default_factory=dict)
    #: Refs that show an address of somebody who was purged.
    purged: set[Ref] = field(default_factory=set)
    #: (record, account) that have met; None unless a scan asks whom everybody else lacks.
    known_there: set[tuple[UUID, str]] | None = None
    #: Counterparts of whom news waits that they left.
    leaving: set[Ref] = field(default_factory=set)
    #: When the oldest create of ours that is not settled yet was begun.
    creating_since: datetime | None = None
    #: The identity keys that refs show, with what they were worked out by.
    _shown: dict[Ref, tuple[Observation, Mapping[Ref, UUID], tuple[Key, ...]]] = field(
        default_factory=dict
    )

    @classmethod
    async def load(
        cls, db: AsyncConnection, house: House, batch: Sequence[Seen], *, lock: bool = True
    ) -> World:
        """The world around these observations; their own links and records locked."""
        world = cls(house, batch[0].observation.ref.account)
        own = {seen.observation.ref for seen in batch}
        parents = {
            ref
            for seen in batch
            for refs in seen.observation.relations.values()
            for ref in refs
            if ref not in own
        }
        # Asked before the links are read: a create that is settled in between shows as a link.
        world.creating_since = await outbox.creating_since(db, world.account)
        world.links = await links.by_ref(db, own, lock=lock)
        wanted = {link.record_id for link in world.links.values()}
        wanted |= {seen.same_as for seen in batch if seen.same_as is not None}
        world.links |= await links.by_ref(db, parents)
        wanted |= await world._owners(db, batch)
        world.records = await records.get(db, wanted, lock=lock)
        if own - world.links.keys():
            world.intended = await outbox.intended(db, world.account, wanted)
        world.standing = await links.standing(db, wanted, world.account)
        if batch[0].cause.kind == "resync":
            world.known_there = await outbox.met(db, wanted)
        if world.keys:
            standing = {
                ref for owner in world.keys.values() for ref in world.standing.get(owner, ())
            }
            world.leaving = await events.leaving(db, standing)
        world.held = await conflicts.held_fields(db, wanted, world.account)
        world.words = await conflicts.words(db, world.account, record_ids=wanted)
        return world

    async def _owners(self, db: AsyncConnection, batch: Sequence[Seen]) -> set[UUID]:
        """Who holds the identity keys of the refs we have never met."""
        asked: dict[str, set[Key]] = {}
        for seen in batch:
            if seen.observation.ref not in self.links and seen.observation.raw is not None:
                state = self._blank(seen)
                found = self._keys_of(state, seen.observation)
                asked.setdefault(state.entity, set()).update(found)
        await self._recognise(db, batch)
        for entity, keys in asked.items():
            owners = await records.owners_of(db, entity, keys)
            self.keys |= {(entity, key): owner for key, owner in owners.items()}
        return set(self.keys.values())

    async def _recognise(self, db: AsyncConnection, batch: Sequence[Seen]) -> None:
        """The refs of people who were purged; a person's word about one of them counts more."""
        pepper = await learn_pepper(db, self.house)
        if pepper is None:
            return
        shown: dict[Ref, set[bytes]] = {}
        for seen in batch:
            observation = seen.observation
            told = seen.same_as is not None or seen.apart
            if observation.ref not in self.links and observation.raw is not None and not told:
                state = self._blank(seen)
                who = traits(reading(state, observation))
                shown[observation.ref] = digests(pepper, state.entity, who)
        found = await purges.known(db, {one for own in shown.values() for one in own})
        self.purged = {ref for ref, own in shown.items() if own & found}

    def _blank(self, seen: Seen) -> State:
        """The state of a ref as if nobody had met it."""
        ref = seen.observation.ref
        member = self.house.members[ref.account]
        entity = member.entity_of(ref.type)
        assert entity is not None
        sync = self.house.sync_of(entity, ref.account)
        assert sync is not None
        return State(
            entity,
            member.mappings[entity],
            sync,
            self.house.context(entity, ref.account),
            parents={
                parent: link.record_id
                for refs in seen.observation.relations.values()
                for parent in refs
                if (link := self.links.get(parent)) is not None
                and link.state not in ("gone", "unlinked")
            },
        )

    def state_of(self, seen: Seen) -> State:
        """What decide may know about one observation."""
        state = self._blank(seen)
        ref, link = seen.observation.ref, self.links.get(seen.observation.ref)
        if link is not None:
            return State(
                state.entity,
                state.mapping,
                state.sync,
                state.context,
                link=LinkState(
                    link.record_id,
                    link.base,
                    link.sent,
                    link.state,
                    link.seen_at,
                    self.held.get(link.record_id, frozenset()),
                    link.written,
                    link.intended,
                    self.words.get(ref, {}),
                ),
                record=self.records.get(link.record_id),
                parents=state.parents,
                ours_at=seen.ours_at or {},
                absent=self._absent(state, link.record_id),
            )
        candidates: dict[Key, UUID] = {}
        if seen.same_as is not None:
            candidates = {Key(OURS, str(seen.same_as)): seen.same_as}
        elif seen.observation.raw is not None:
            keys = self._keys_of(state, seen.observation)
            candidates = {
                key: self.keys[state.entity, key]
                for key in keys
                if (state.entity, key) in self.keys
            }
        found = set(candidates.values())
        only = next(iter(found)) if len(found) == 1 else None
        return State(
            state.entity,
            state.mapping,
            state.sync,
            state.context,
            record=self.records.get(only) if only else None,
            parents=state.parents,
            candidates=candidates,
            taken=tuple(owner for owner in found if self.standing.get(owner, set()) - {ref}),
            apart=seen.apart,
            intended=self.intended.get(only, {}) if only else {},
            purged=ref in self.purged,
            ours_at=seen.ours_at or {},
            absent=self._absent(state, only) if only else frozenset(),
        )

    def _keys_of(self, state: State, observation: Observation) -> tuple[Key, ...]:
        """The keys that it shows; asked twice of each record that nobody has met."""
        known = self._shown.get(observation.ref)
        if known is None or known[0] is not observation or known[1] != state.parents:
            known = observation, state.parents, shown_keys(self.house, state, observation)
            self._shown[observation.ref] = known
        return known[2]

    def _absent(self, state: State, record_id: UUID) -> frozenset[str]:
        """The accounts that take such records and have never had this one.

        They joined after it was made, or did not take it then. Only a scan asks: it goes through
        all there is, and live traffic has no time for that.
        """
        record = self.records.get(record_id)
        if self.known_there is None or record is None:
            return frozenset()
        if record.state != "live" or record.container:
            return frozenset()
        takers = (a for a in state.sync.accounts if state.sync.receives(a))
        return frozenset(
            a for a in takers if a != self.account and (record_id, a) not in self.known_there
        )

    def missed(self, seen: Seen) -> dict[str, set[UUID]]:
        """Whom it named when we last looked and does not any more, by relation."""
        link, observation = self.links.get(seen.observation.ref), seen.observation
        if link is None or link.state != "live" or link.writing or not observation.raw:
            return {}
        found: dict[str, set[UUID]] = {}
        for name in relations_of(link.entity).keys() & observation.relations.keys():
            refs, before = observation.relations[name], link.base.get(name)
            if refs and not is_set(name):
                continue  # it has another one now
            still = {self.links[ref].record_id for ref in refs if ref in self.links}
            listed = before if isinstance(before, list) else [before] if before else []
            if gone := {UUID(str(one)) for one in listed} - still:
                found[name] = gone
        return found

    def met(self, link: Link, record: RecordState, keys: Collection[Key]) -> None:
        """Remember what the batch has just made, for those that come after it."""
        self.links[link.ref] = link
        self.records[record.id] = record
        self.keys |= {(record.entity, key): record.id for key in keys}
        if link.state == "live":
            self.standing.setdefault(record.id, set()).add(link.ref)


def shown_keys(house: House, state: State, observation: Observation) -> tuple[Key, ...]:
    """The identity keys that a remote record shows, with our own id where it carries one."""
    return keys_of(state, reading(state, observation), house.stamp_on(observation))
