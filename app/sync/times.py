"""Ask the vendors when edits were made, where the later one wins and nobody has said yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

from app.clock import now
from app.db import links
from app.domain import policy
from app.domain.mapping import edited
from app.domain.state import RecordState
from app.domain.values import Edit, Ref
from app.sync.house import House
from app.sync.world import Seen

#: Not edited for as long as the vendor remembers.
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Untimed:
    """An observation of this record, and the fields in which the later edit wins."""

    seen: Seen
    record: RecordState
    fields: tuple[str, ...]


class UntimedError(Exception):
    """Nothing is applied until the vendors have said when these edits were made."""

    def __init__(self, found: Sequence[Untimed]) -> None:
        super().__init__(", ".join(str(one.seen.observation.ref) for one in found))
        self.found = tuple(found)


async def ask(house: House, batch: Sequence[Seen], untimed: Sequence[Untimed]) -> list[Seen]:
    """The batch again, with the times of both sides where they decide something."""
    theirs = {one.seen.observation.ref: _paths(house, one) for one in untimed}
    ours = await _our_sources(house, untimed)
    known = await _edits(house, {**theirs, **_merged([(ref, p) for ref, p, _, _ in ours])})
    found: dict[UUID, dict[str, datetime]] = {}
    for ref, paths, (record_id, name), seen_at in ours:
        if ref in known:
            every = [edit for path in paths for edit in known[ref].get(path, ())]
            made = _newest([edit for edit in every if edit.at <= seen_at])
            found.setdefault(record_id, {})[name] = made
    records = {id(one.seen): one.record.id for one in untimed}
    moment = now()
    answers: list[Seen] = []
    for seen in batch:
        if id(seen) not in records:
            answers.append(seen)
            continue
        observation = seen.observation
        edits = known.get(observation.ref)
        times = {
            path: (moment if edits is None else _newest(edits.get(path, ())))
            for path in theirs[observation.ref]
        }
        observation = replace(
            observation,
            field_times={**times, **observation.field_times},
            histories=edits or {},
        )
        answers.append(
            replace(seen, observation=observation, ours_at=found.get(records[id(seen)], {}))
        )
    return answers


def _newest(edits: Sequence[Edit]) -> datetime:
    return max((edit.at for edit in edits), default=_EVER)


def _paths(house: House, one: Untimed) -> frozenset[str]:
    return _paths_of(house, one.seen.observation.ref.account, one.record.entity, one.fields)


def _paths_of(house: House, account: str, entity: str, fields: Sequence[str]) -> frozenset[str]:
    mapping = house.members[account].mappings[entity]
    return frozenset(path for name in fields for path in edited(mapping, name))


async def _our_sources(
    house: House, untimed: Sequence[Untimed]
) -> list[tuple[Ref, frozenset[str], tuple[UUID, str], datetime]]:
    """Where values of ours came from whose times are only when we first saw them."""
    async with house.database.transaction() as db:
        linked = await links.by_record(db, {one.record.id for one in untimed})
    refs = {(link.record_id, link.ref.account): link.ref for link in linked if link.state == "live"}
    sources = []
    for one in untimed:
        for name in one.fields:
            stamp = policy.stamp_of(one.record.stamps, name)
            ref = refs.get((one.record.id, stamp.account or ""))
            if stamp.seen and stamp.at and ref is not None:
                paths = _paths_of(house, ref.account, one.record.entity, [name])
                sources.append((ref, paths, (one.record.id, name), stamp.at))
    return sources


def _merged(asked: Sequence[tuple[Ref, frozenset[str]]]) -> dict[Ref, frozenset[str]]:
    together: dict[Ref, frozenset[str]] = {}
    for ref, paths in asked:
        together[ref] = together.get(ref, frozenset()) | paths
    return together


async def _edits(
    house: House, asked: dict[Ref, frozenset[str]]
) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
    found: dict[Ref, dict[str, tuple[Edit, ...]]] = {}
    for (account, _), group in groupby(sorted(asked), key=lambda ref: (ref.account, ref.type)):
        refs = list(group)
        paths = frozenset(path for ref in refs for path in asked[ref])
        found |= await house.members[account].connector.edits(refs, paths)
    return found
