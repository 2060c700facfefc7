"""Links are made and broken: new ones first, each row with its own fate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from app.connectors.hubspot.calls import Calls
from app.connectors.hubspot.dialect import row_error
from app.connectors.hubspot.shapes import (
    LINKS,
    Link,
    Types,
    as_pair,
    labels,
    named,
    to_link,
    type_spec,
    with_relations,
)
from app.sdk import Outcome, Raw, RejectedError, SyncError, Write, each

#: What is linked to these ids, with the types of each link.
Linked: TypeAlias = Callable[
    [str, Link, Sequence[str]], Awaitable[Mapping[str, Mapping[str, Types]]]
]
#: A link to be made or broken, and for whose sake.
Row: TypeAlias = tuple[Write, Raw]
Failed: TypeAlias = tuple[Write, Raw, SyncError]

#: Rows of one call; HubSpot takes twice as many.
BATCH = 1000


async def relate(
    calls: Calls, linked: Linked, batch: Sequence[Write], outcomes: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """Make and break links; new ones first, so that no record is ever without.

    Labels that people gave a link are theirs: they stay, and keep the link that they are on. Where
    a record may have no further link (administrators set such limits), the old one goes first, and
    comes back if that was of no use:
    https://developers.hubspot.com/changelog/introducing-custom-association-limits-for-associations-api
    """
    fates = dict(outcomes)
    type = batch[0].type
    for link in LINKS[type]:
        edited = [write for write in batch if link.relation in write.relations]
        known = await linked(type, link, [named(write).id for write in edited])
        making, demoting, breaking = _rows(link, edited, known)
        leaving = {write.trace for write, _ in breaking}
        refused = await _send(calls, type, link, "create", making)
        # Perhaps there is room once the old link is gone.
        crowded = [
            one for one in refused if one[0].trace in leaving and isinstance(one[2], RejectedError)
        ]
        failed = [one for one in refused if one not in crowded]
        failed += await _send(calls, type, link, "labels/archive", demoting)
        failed += await _send(calls, type, link, "archive", breaking)
        if crowded:
            failed += await _again(calls, type, link, crowded, breaking, known)
        for write, row, error in failed:
            told = _about(error, link, row)
            fates[write.trace] = replace(fates[write.trace], error=told, stored=None)
    return {trace: with_relations(fates[trace]) for trace in (write.trace for write in batch)}


def _rows(
    link: Link, edited: Sequence[Write], known: Mapping[str, Mapping[str, Types]]
) -> tuple[list[Row], list[Row], list[Row]]:
    """What is to be made, demoted and broken."""
    making: list[Row] = []
    demoting: list[Row] = []
    breaking: list[Row] = []
    for write in edited:
        there = known.get(named(write).id, {})
        for end in to_link(write, link):
            types = [type_spec(link), *labels(there.get(end.id, set()))]
            making.append((write, as_pair(write, end) | {"types": types}))
        for end in write.relations[link.relation].remove:
            if labels(there.get(end.id, set())):
                row = as_pair(write, end) | {"types": [type_spec(link)]}
                demoting += [(write, row)] if link.single else []
            else:
                row = {"from": {"id": named(write).id}, "to": [{"id": end.id}]}
                breaking.append((write, row))
    return making, demoting, breaking


async def _again(
    calls: Calls,
    type: str,
    link: Link,
    refused: Sequence[Failed],
    broken: Sequence[Row],
    known: Mapping[str, Mapping[str, Types]],
) -> list[Failed]:
    """Make what was refused once more, now that there is room; else the old links come back."""
    failed = await _send(calls, type, link, "create", [(write, row) for write, row, _ in refused])
    still = {write.trace for write, _, _ in failed}
    back = [
        (write, {"from": row["from"], "to": {"id": end["id"]}, "types": [type_spec(link)]})
        for write, row in broken
        if write.trace in still
        for end in row["to"]
        if end["id"] in known.get(named(write).id, {})
    ]
    await _send(calls, type, link, "create", back)
    return failed


async def _send(
    calls: Calls, type: str, link: Link, verb: str, rows: Sequence[Row]
) -> list[Failed]:
    """Send these rows; those that failed. They may be repeated without harm."""
    if len(rows) > BATCH:
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        sent = [await _send(calls, type, link, verb, part) for part in parts]
        return [one for some in sent for one in some]
    if not rows:
        return []
    try:
        data = await calls.link(type, link.to, verb, [row for _, row in rows])
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
    failed = await each(rows, lambda row: _send(calls, type, link, verb, [row]))
    return [one for some in failed for one in some]


def _about(error: SyncError, link: Link, row: Raw) -> SyncError:
    """A refusal with the relation and the other end, which HubSpot does not always name."""
    if not isinstance(error, RejectedError):
        return error
    ends = row["to"] if isinstance(row["to"], list) else [row["to"]]
    others = ", ".join(f"{link.to}/{end['id']}" for end in ends)
    text = f"the link to {others}: {error.reason}"
    return error.__class__(text[:500], field=link.relation, value=others)
