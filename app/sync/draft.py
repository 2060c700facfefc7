"""What would be sent: the write that brings an account up to our record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import uuid_utils.compat as uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import links, outbox, records
from app.db.links import Link
from app.db.outbox import Mark
from app.domain import ties
from app.domain.bylines import told_by
from app.domain.decide import writable
from app.domain.draft import outdated, outgoing, wordless
from app.domain.entities import is_blank, relations_of, ties_of
from app.domain.mapping import tailored
from app.domain.merge import behind
from app.domain.state import RecordState, State
from app.domain.values import (
    NOTHING,
    Directory,
    Fields,
    Op,
    Ref,
    RelationEdit,
    Value,
    Write,
)
from app.errors import HeldError, RejectedError, SyncError
from app.sync.house import House, Member
from app.sync.trouble import describe

#: A child whose parent is still on its way looks again after this, or when the parent arrives.
PARENT_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=5)
#: Where a system wants a parent, a record that has none yet is given this long to get one.
ORPHAN_WAIT = timedelta(seconds=2)


@dataclass(slots=True)
class Job:
    """One mark with what is needed to carry it out."""

    mark: Mark
    record: RecordState
    link: Link | None
    #: The record as this account shall see it, and the names where it is behind.
    ours: Mapping[str, Value] = field(default_factory=lambda: NOTHING)
    names: frozenset[str] = frozenset()
    write: Write | None = None
    held: dict[str, str] = field(default_factory=dict)
    #: The names whose value cannot be said there, and is no trouble.
    unsaid: frozenset[str] = frozenset()
    #: What it waits for, where that is not a matter of moments.
    why: str | None = None
    #: Labels that the account's directory does not know.
    strange: set[tuple[str, str]] = field(default_factory=set)
    #: Why the account did not take a part of what was written.
    refusal: RejectedError | None = None
    refused: set[str] = field(default_factory=set)
    #: The fields that waited for a person when this was worked out.
    kept: frozenset[str] = frozenset()
    #: The parents that have a counterpart there, by relation, and the relations that lack one.
    parents: dict[str, Sequence[UUID | str]] = field(default_factory=dict)
    orphaned: set[str] = field(default_factory=set)

    #: What the account fills by itself, and the relations without which it refuses a create.
    filled: frozenset[str] = frozenset()
    wants: tuple[str, ...] = ()

    @property
    def intended(self) -> dict[str, Value]:
        """What the write says, in canonical terms."""
        ours = self.record.fields
        return {name: ours[name] for name in sorted(self.told) if name in ours}

    @property
    def told(self) -> frozenset[str]:
        """The names whose value the account will know after this write."""
        return self.names - self.held.keys() - self.orphaned - self.unsaid


def only_learned(before: Link, after: Link, ours: Fields, names: Collection[str]) -> bool:
    """Whether a write of ``names`` that was worked out for a link still stands, as the link has
    only come to know more fields, and is behind in no others.

    What we made ourselves is read for the first time when it is written to for the first time.
    """
    fresh = after.base.keys() - before.base.keys()
    known = {name: value for name, value in after.base.items() if name not in fresh}
    late = behind(after.base, after.sent, ours, fresh)
    return (known, after.sent) == (before.base, before.sent) and late == fresh & set(names)


@dataclass(frozen=True, slots=True)
class Near:
    """The parents around a batch: their refs in this account, and those still to be pushed."""

    refs: Mapping[UUID, Ref]
    queued: frozenset[UUID]
    #: Parents that a new record can borrow: record -> relation -> those of its own relatives.
    lent: Mapping[UUID, Mapping[str, list[UUID]]] = field(default_factory=dict)

    def known(self, ids: Iterable[UUID]) -> list[UUID]:
        """Those of these parents that are there, or on their way."""
        return [one for one in ids if one in self.refs or one in self.queued]

    @classmethod
    async def load(cls, db: AsyncConnection, member: Member, jobs: Sequence[Job]) -> Near:
        lent = await _lent(db, member, jobs)
        named = {p for job in jobs for own in records.parents_of(job.record).values() for p in own}
        named |= {
            parent
            for job in jobs
            if job.link is not None
            for name in relations_of(job.record.entity)
            for parent in _ids(job.link.base.get(name))
        }
        named |= {parent for own in lent.values() for found in own.values() for parent in found}
        if not named:
            return cls({}, frozenset())
        refs = await refs_of(db, member, named)
        return cls(refs, await outbox.queued(db, member.name, named - refs.keys()), lent)


async def _lent(
    db: AsyncConnection, member: Member, jobs: Sequence[Job]
) -> dict[UUID, dict[str, list[UUID]]]:
    """For new records without a parent that the account wants: those of the relatives that it
    cannot name. A note on a deal alone lies with the company of that deal.
    """
    asking: dict[UUID, tuple[str, list[UUID]]] = {}
    for job in jobs:
        entity, own = job.record.entity, records.parents_of(job.record)
        able = member.mappings[entity].relations
        if job.link is not None or able is None:
            continue
        relatives = [one for name, ids in own.items() if name not in able for one in ids]
        for name in member.connector.manifest.entities[entity].parents:
            if relatives and not own.get(name):
                asking[job.record.id] = (name, relatives)
    known = await records.get(db, {one for _, ids in asking.values() for one in ids})
    return {
        id: {
            name: [
                parent
                for one in relatives
                if one in known
                for parent in records.parents_of(known[one]).get(name, [])
            ]
        }
        for id, (name, relatives) in asking.items()
    }


def travels(house: House, member: Member, record: RecordState, link: Link | None) -> bool:
    """Whether this record belongs in this account at all."""
    sync = house.sync_of(record.entity, member.name)
    if sync is None:
        return False
    promise = member.connector.manifest.entities.get(record.entity)
    if promise is None:
        return False
    if link is not None:
        return "update" in promise.write
    return "create" in promise.write and not record.container and sync.receives(member.name)


async def prepare(
    db: AsyncConnection,
    house: House,
    member: Member,
    job: Job,
    held: frozenset[str],
    near: Near,
) -> timedelta | None:
    """Work out the write of a job; a delay instead if a parent is still on its way."""
    record, link = job.record, job.link
    job.kept = held
    if link is None and (wait := _patience(member, job)) is not None:
        return wait
    sync = house.sync_of(record.entity, member.name)
    assert sync is not None
    mapping = member.mappings[record.entity]
    job.filled = mapping.filled
    job.wants = member.connector.manifest.entities[record.entity].parents
    state = State(record.entity, mapping, sync, house.context(record.entity, member.name))
    base: Mapping[str, Value] = link.base if link else NOTHING
    sent: Mapping[str, Value] = link.sent if link else NOTHING
    open_names = writable(state, member.name, base if link else None) - held
    job.ours = tailored(mapping, record.fields)
    context = replace(
        state.context, current=base if link else None, via=told_by(record.stamps, member.name)
    )
    job.names = behind(base, sent, job.ours, open_names)
    if job.mark.anew:
        job.names |= outdated(mapping, open_names, job.ours, base, sent, context)
    edits, wait = _relation_edits(member, job, base, near)
    if wait is not None:
        return wait
    edits, unlabelled = _with_labels(member, job, edits, base, near, context.directory)
    plain = job.names - ties_of(record.entity)
    ours = job.ours
    if link is None and record.entity == "deal" and is_blank(ours.get("name")):
        ours = {**ours, "name": await _stand_in(db, record)}
        plain |= {"name"}
    fields, job.held = outgoing(mapping, plain, ours, base if link else None, context)
    job.held |= unlabelled
    job.unsaid = wordless(mapping, plain - job.held.keys(), ours, context)
    if link is not None and not fields and not edits:
        return None
    job.write = Write(
        op=Op.UPDATE if link else Op.CREATE,
        entity=record.entity,
        type=member.type_of(record.entity),
        record_id=record.id,
        trace=uuid.uuid4().hex,
        ref=link.ref if link else None,
        fields=fields,
        relations=edits,
        external_id=str(record.id) if member.config.external_id else None,
    )
    return None


def _patience(member: Member, job: Job) -> timedelta | None:
    """How much longer a create waits for news of the same record there; None if it need not."""
    promise = member.connector.manifest.entities[job.record.entity]
    left = timedelta(seconds=promise.patience) - (now() - job.mark.marked_at)
    return left if left > timedelta() and job.mark.intent is None else None


async def _stand_in(db: AsyncConnection, record: RecordState) -> str:
    """A name for a deal that has none: its company's. A placeholder, never data of ours."""
    companies = await records.get(db, records.parents_of(record).get("company", []))
    names = [company.fields.get("name") for company in companies.values()]
    return next((str(name) for name in names if name), "Untitled deal")


def _relation_edits(
    member: Member, job: Job, base: Mapping[str, Value], near: Near
) -> tuple[dict[str, RelationEdit], timedelta | None]:
    """How the relations of the remote record must change; a delay if a parent is not there yet."""
    edits: dict[str, RelationEdit] = {}
    promise = member.connector.manifest.entities[job.record.entity]
    wanted_by = records.parents_of(job.record)
    able = member.mappings[job.record.entity].writable(creating=job.link is None)
    for name, own in wanted_by.items():
        lent = near.lent.get(job.record.id, {}).get(name)
        wanted = near.known(lent)[:1] if lent else own
        if name not in able or (job.link is not None and name not in job.names):
            continue
        if job.link is not None and name in promise.parents and not wanted:
            continue  # a record cannot be without one there: it stays where it is
        before = _ids(base.get(name))
        refs = near.refs
        missing = [parent for parent in wanted if parent not in refs]
        if near.queued.intersection(missing):
            # Whose parent waits for a person looks ever more rarely; its arrival tells it.
            waited = (now() - job.mark.marked_at) / 10
            return {}, min(max(PARENT_WAIT, waited), LONGEST_WAIT)
        job.parents[name] = [parent for parent in wanted if parent in refs]
        job.orphaned |= {name} if missing else set()
        there = [refs[parent] for parent in wanted if parent in refs]
        if not own and job.link is None and name in promise.parents:
            age = now() - job.mark.marked_at
            if age < ORPHAN_WAIT:
                return {}, ORPHAN_WAIT - age
            others = [one for other in able & wanted_by.keys() for one in wanted_by[other]]
            if lent is not None and not wanted and not near.known(others):
                job.why = (
                    f"a {job.record.entity} needs a {name} in {member.name}, and neither it nor "
                    "what it belongs to has one there; it goes once one of them has"
                )
                return {}, LONGEST_WAIT
        old = [refs[parent] for parent in before if parent in refs]
        edit = RelationEdit(
            wanted=tuple(there),
            add=tuple(ref for ref in there if ref not in old),
            remove=tuple(ref for ref in old if ref not in there and not missing),
        )
        if edit.add or edit.remove:
            edits[name] = edit
    return edits, None


def _with_labels(
    member: Member,
    job: Job,
    edits: Mapping[str, RelationEdit],
    base: Mapping[str, Value],
    near: Near,
    directory: Directory,
) -> tuple[dict[str, RelationEdit], dict[str, str]]:
    """The same with the labels that links get or lose; held, with a reason, those that the account
    does not have.
    """
    found = dict(edits)
    mapping, entity = member.mappings[job.record.entity], job.record.entity
    if ties.LABELS not in job.names & mapping.writable(creating=job.link is None):
        return found, {}
    ours, before = (ties.labels_in(side.get(ties.LABELS)) for side in (job.ours, base))
    there = {
        one: near.refs[id] for one in {*ours, *before} if (id := UUID(one.parent)) in near.refs
    }
    known, held = directory.labels.get(entity, {}), {}
    if any(one not in there for one in ours):
        job.orphaned.add(ties.LABELS)
        job.parents[ties.LABELS] = [str(one) for one in ours if one in there]
    label: dict[str, list[tuple[Ref, str]]] = {}
    unlabel: dict[str, list[tuple[Ref, str]]] = {}
    for one in ours:
        if one in before or one not in there:
            continue
        if member.config.labels == "hold" and one.word not in known.get(one.relation, (one.word,)):
            job.strange.add((one.relation, one.word))
            held[ties.LABELS] = (
                f"{member.name} has no label {one.word!r} for the {one.relation} of a {entity}; "
                "add it there, or set `labels: create` for the account"
            )
            continue
        label.setdefault(one.relation, []).append((there[one], one.word))
    for one in before:
        if one not in ours and one in there:
            unlabel.setdefault(one.relation, []).append((there[one], one.word))
    for name in sorted({*label, *unlabel} & mapping.ties):
        had = tuple(near.refs[one] for one in _ids(base.get(name)) if one in near.refs)
        edit = found.get(name) or RelationEdit(wanted=had)
        found[name] = replace(
            edit, label=tuple(label.get(name, ())), unlabel=tuple(unlabel.get(name, ()))
        )
    return found, held


def _ids(value: Value) -> list[UUID]:
    listed = value if isinstance(value, list) else [value] if value else []
    return [UUID(str(item)) for item in listed]


async def refs_of(db: AsyncConnection, member: Member, ids: Iterable[UUID]) -> dict[UUID, Ref]:
    """The living counterparts of these records in this account."""
    found = await links.by_record(db, list(ids), account=member.name)
    return {link.record_id: link.ref for link in found if link.state == "live"}


async def bury_held(db: AsyncConnection, job: Job) -> None:
    """Values that have no place there wait for a person; a newer version tries again."""
    await outbox.bury(db, job.mark, describe(held_error(job), record=str(job.record.id)))


def held_error(job: Job) -> SyncError:
    """All that is held, each with its reason; due by itself if any of it can be."""
    named: dict[str, list[str]] = {}
    for name, reason in job.held.items():
        named.setdefault(reason, []).append(name)
    if job.refusal is not None and len(named) == 1:
        return job.refusal
    waits = not job.refused.issuperset(job.held)
    said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in named.items())
    values = [str(job.ours.get(names[0])) for names in named.values()]
    return (HeldError if waits else RejectedError)(
        said if len(named) > 1 else next(iter(named)),
        field=", ".join(names[0] for names in named.values()),
        value=", ".join(values),
    )


def refuse(member: Member, job: Job, held: Mapping[str, str]) -> None:
    """Note the fields behind the paths of a write that the account did not take."""
    for path, reason in held.items():
        if path == ties.LABELS:
            job.refused.add(path)
            job.held[path] = reason
        for row in member.mappings[job.record.entity].rows:
            if path in row.paths:
                names = job.names.intersection(row.fields)
                job.refused |= names
                job.held.update(dict.fromkeys(names, reason))
        sent = str(job.write.fields.get(path)) if job.write else None
        job.refusal = RejectedError(reason, field=path, value=sent)


def count(counts: dict[str, int], name: str, number: int = 1) -> None:
    counts[name] = counts.get(name, 0) + number
