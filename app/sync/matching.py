"""What a page of a dry run says of identity: who was recognised, who is new, who is unsure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from app.db import links, records
from app.db.links import Link
from app.db.matches import Match
from app.domain.entities import title_of
from app.domain.mapping import to_canonical
from app.domain.state import RecordState, Result
from app.domain.values import Key, Observation
from app.sync.house import House, Member
from app.sync.preview import Fate, Fates, Preview, Sight


async def report(house: House, preview: Preview, fates: Fates) -> list[Match]:
    """The rows of the matching report for the sights of this page."""
    sights = [s for s in preview.sights if s.observation.raw is not None]
    ids = {s.record.id for s in sights if s.record is not None}
    candidates = {record_id for s in sights for record_id in s.candidates.values()}
    await preview.recall_made(house, candidates)
    ids |= candidates
    async with house.database.transaction() as db:
        known = await records.get(db, ids)
        linked: dict[UUID, list[Link]] = {}
        for link in await links.by_record(db, known):
            if link.state == "live":
                linked.setdefault(link.record_id, []).append(link)
    found: list[Match] = []
    for sight in sights:
        if sight.link is None:
            found += _unsure(house, preview, sight, known, linked)
        else:
            found += _against_all(house, sight, fates, linked)
    return found


def _against_all(
    house: House, sight: Sight, fates: Fates, linked: Mapping[UUID, Sequence[Link]]
) -> list[Match]:
    """One record against every other account that has its entity."""
    assert sight.record is not None
    there = {link.ref.account: link for link in linked.get(sight.record.id, ())}
    return [
        _against(house, sight, other, there.get(other), fates.get((other, sight.record.id)))
        for other in _others(house, sight)
    ] or [_row(house, sight, "stays", reason="no other account has this entity")]


def _others(house: House, sight: Sight) -> list[str]:
    account = sight.observation.ref.account
    sync = house.sync_of(sight.entity, account)
    return [name for name in (sync.accounts if sync else ()) if name != account]


def _against(house: House, sight: Sight, other: str, link: Link | None, fate: Fate | None) -> Match:
    assert sight.record is not None
    record, before = sight.record, sight.result not in (Result.CREATED, Result.LINKED)
    common: dict[str, Any] = {"other": other, "record_id": record.id}
    if link is not None:
        verdict = "linked" if before else "matched"
        key = None if before else _said(sight.candidates)
        name = title_of(record.fields)
        return _row(house, sight, verdict, key=key, other_id=link.ref.id, other_name=name, **common)
    if fate is None:
        verdict = "linked" if before else "stays"
        reason = f"our record has nothing new for {other}, and is not there"
        return _row(house, sight, verdict, reason=reason, **common)
    member = house.members[other]
    if fate.op == "link":
        (met,) = fate.found
        return _row(
            house,
            sight,
            "matched",
            key=_said([fate.key] if fate.key else []),
            other_id=met.ref.id,
            other_name=_name_of(house, met, sight.entity),
            **common,
        )
    if fate.op == "hold":
        return _row(
            house,
            sight,
            "unsure",
            key=_said([fate.key] if fate.key else []),
            reason=fate.reason,
            candidates=[
                {
                    "account": other,
                    "remote_id": o.ref.id,
                    "name": _name_of(house, o, sight.entity),
                    "record_id": None,
                }
                for o in fate.found
            ],
            **common,
        )
    if fate.op == "none":
        return _row(house, sight, "stays", reason=fate.reason, **common)
    keys = [f"{key.kind} {key.value}" for key in sight.keys]
    reason = _why_new(member, record, sight.keys)
    return _row(house, sight, "new", reason=reason, keys=keys, **common)


def _why_new(member: Member, record: RecordState, keys: Sequence[Key]) -> str:
    if not keys:
        return f"this {record.entity} has nothing to be recognised by"
    promise = member.connector.manifest.entities.get(record.entity)
    asked = [key for key in keys if promise and key.kind in promise.keys]
    if not asked:
        return f"{member.name} cannot be asked who has {_said(keys)}"
    return f"nobody in {member.name} has {_said(asked)}"


def _unsure(
    house: House,
    preview: Preview,
    sight: Sight,
    known: Mapping[UUID, RecordState],
    linked: Mapping[UUID, Sequence[Link]],
) -> list[Match]:
    """A record that could be several of ours, or one that is taken: it goes nowhere."""
    candidates: list[dict[str, Any]] = []
    for record_id in dict.fromkeys(sight.candidates.values()):
        if record_id in preview.made:
            ref, name = preview.made[record_id]
            candidates.append(_candidate(ref.account, ref.id, name, None))
            continue
        name = title_of(known[record_id].fields) if record_id in known else None
        refs = [link.ref for link in linked.get(record_id, ())]
        candidates += [_candidate(ref.account, ref.id, name, record_id) for ref in refs]
        if not refs:
            candidates.append(_candidate(None, None, name, record_id))
    others: list[str | None] = [*_others(house, sight)]
    return [
        _row(
            house,
            sight,
            "unsure",
            other=other,
            key=_said(sight.candidates),
            reason=sight.reason,
            candidates=candidates,
        )
        for other in others or [None]
    ]


def _candidate(
    account: str | None, remote_id: str | None, name: str | None, record_id: UUID | None
) -> dict[str, Any]:
    ours = None if record_id is None else str(record_id)
    return {"account": account, "remote_id": remote_id, "name": name, "record_id": ours}


def _row(house: House, sight: Sight, verdict: str, **more: Any) -> Match:
    ref = sight.observation.ref
    name = _name_of(house, sight.observation, sight.entity)
    return Match(sight.entity, ref.account, ref.id, name, verdict, **more)


def _name_of(house: House, observation: Observation, entity: str) -> str | None:
    """What the account itself calls this record."""
    account = observation.ref.account
    mapping = house.members[account].mappings[entity]
    raw = observation.raw or {}
    return title_of(to_canonical(mapping, raw, house.context(entity, account)))


def _said(keys: Iterable[Key]) -> str | None:
    return ", ".join(f"{key.kind} {key.value}" for key in sorted(set(keys))) or None
