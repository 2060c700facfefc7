"""Links are made and broken: new ones first, each row with its own fate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from app.connectors.hubspot.calls import Calls
from app.connectors.hubspot.dialect import row_error
from app.connectors.hubspot.shapes import (
    Link,
    Type,
    Types,
    ends_of,
    named,
    specs,
    type_of,
    with_relations,
    words_of,
)
from app.sdk import Outcome, Raw, RejectedError, RelationEdit, SyncError, Write, each

#: What is linked to these ids, with the types of each link.
Linked: TypeAlias = Callable[
    [str, str, Sequence[str]], Awaitable[Mapping[str, Mapping[str, Types]]]
]
#: The types of labels, by other end and word.
Words: TypeAlias = Mapping[tuple[str, str], Type]
#: A link to be made or broken, and for whose sake.
Row: TypeAlias = tuple[Write, Raw]
Failed: TypeAlias = tuple[Write, Raw, SyncError]

#: Rows of one call; HubSpot takes twice as many.
BATCH = 1000


async def relate(
    calls: Calls,
    linked: Linked,
    words: Words,
    batch: Sequence[Write],
    outcomes: Mapping[str, Outcome],
) -> dict[str, Outcome]:
    """Make and break links; new ones first, so that no record is ever without.

    Labels of which we are told nothing are people's own: they stay, and keep the link that they are
    on. Where a record may have no further link (administrators set such limits), the old one goes
    first, and comes back if that was of no use:
    https://developers.hubspot.com/changelog/introducing-custom-association-limits-for-associations-api
    """
    fates = dict(outcomes)
    type = batch[0].type
    for to, links in ends_of(type).items():
        edited = [w for w in batch if any(link.relation in w.relations for link in links)]
        known = await linked(type, to, [named(write).id for write in edited])
        making, shedding, breaking = _rows(to, links, words, edited, known)
        leaving = {write.trace for write, _ in breaking}
        refused = await _send(calls, type, to, "create", making)
        # Perhaps there is room once the old link is gone.
        crowded = [
            one for one in refused if one[0].trace in leaving and isinstance(one[2], RejectedError)
        ]
        failed = [one for one in refused if one not in crowded]
        failed += await _send(calls, type, to, "labels/archive", shedding)
        failed += await _send(calls, type, to, "archive", breaking)
        if crowded:
            failed += await _again(calls, type, to, crowded, breaking, known)
        for write, row, error in failed:
            told = _about(error, to, links[0].relation, row)
            fates[write.trace] = replace(fates[write.trace], error=told, stored=None)
    return {trace: with_relations(fates[trace]) for trace in (write.trace for write in batch)}


def _rows(
    to: str,
    links: Sequence[Link],
    words: Words,
    edited: Sequence[Write],
    known: Mapping[str, Mapping[str, Types]],
) -> tuple[list[Row], list[Row], list[Row]]:
    """What is to be made, which types are to be shed, and what is to be broken."""
    making: list[Row] = []
    shedding: list[Row] = []
    breaking: list[Row] = []
    nothing = RelationEdit()
    primary = next((link for link in links if link.single), None)
    for write in edited:
        there = known.get(named(write).id, {})
        plain = write.relations.get(links[-1].relation, nothing)
        one = write.relations.get(primary.relation, nothing) if primary else nothing
        # To make the first one primary again is harmless, and right after a change of order.
        added = {end.id: {type_of(primary)} for end in one.wanted[:1] if primary}
        for end in plain.add if not links[-1].single else ():
            added.setdefault(end.id, {type_of(links[-1])})
        for end, word in plain.label:
            added.setdefault(end.id, set()).add(words[to, word])
        for id, types in added.items():
            # What is written to a link must name its labels to keep them.
            making.append((write, _pair(write, id, types | there.get(id, {}).keys())))
        shed = {(end.id, word) for end, word in plain.unlabel}
        broken = {
            end.id
            for end in plain.remove
            if all((end.id, word) in shed for word in words_of(there.get(end.id, {}), links))
        }
        for id in sorted(broken):
            breaking.append((write, {"from": {"id": named(write).id}, "to": [{"id": id}]}))
        left = {end.id for end in one.remove}
        for id, known_types in there.items():
            lost = {kind for kind, word in known_types.items() if (id, word) in shed}
            if primary and id in left:
                lost |= {type_of(primary)} & known_types.keys()
            if lost and id not in broken:
                shedding.append((write, _pair(write, id, lost)))
    return making, shedding, breaking


def _pair(write: Write, id: str, types: Iterable[Type]) -> Raw:
    return {"from": {"id": named(write).id}, "to": {"id": id}, "types": specs(types)}


async def _again(
    calls: Calls,
    type: str,
    to: str,
    refused: Sequence[Failed],
    broken: Sequence[Row],
    known: Mapping[str, Mapping[str, Types]],
) -> list[Failed]:
    """Make what was refused once more, now that there is room; else the old links come back."""
    failed = await _send(calls, type, to, "create", [(write, row) for write, row, _ in refused])
    still = {write.trace for write, _, _ in failed}
    back = [
        (write, _pair(write, end["id"], known[named(write).id][end["id"]]))
        for write, row in broken
        if write.trace in still
        for end in row["to"]
        if end["id"] in known.get(named(write).id, {})
    ]
    await _send(calls, type, to, "create", back)
    return failed


async def _send(calls: Calls, type: str, to: str, verb: str, rows: Sequence[Row]) -> list[Failed]:
    """Send these rows; those that failed. They may be repeated without harm."""
    if len(rows) > BATCH:
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        sent = [await _send(calls, type, to, verb, part) for part in parts]
        return [one for some in sent for one in some]
    if not rows:
        return []
    try:
        data = await calls.link(type, to, verb, [row for _, row in rows])
        errors = data.get("errors") or ()
    except RejectedError as error:
        if len(rows) == 1:
            return [(*rows[0], error)]
        errors = (error,)
    except SyncError as error:
        return [(write, row, error) for write, row in rows]
    if not errors:
        return []
    if len(rows) == 1:
        return [(*rows[0], row_error(errors[0]))]
    # The errors do not name their rows: ask again, one by one.
    failed = await each(rows, lambda row: _send(calls, type, to, verb, [row]))
    return [one for some in failed for one in some]


def _about(error: SyncError, to: str, relation: str, row: Raw) -> SyncError:
    """A refusal with the relation and the other end, which HubSpot does not always name."""
    if not isinstance(error, RejectedError):
        return error
    ends = row["to"] if isinstance(row["to"], list) else [row["to"]]
    others = ", ".join(f"{to}/{end['id']}" for end in ends)
    text = f"the link to {others}: {error.reason}"
    return error.__class__(text[:500], field=relation, value=others)
