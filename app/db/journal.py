"""The journal: every field change ever made, with its cause; and every remote write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import records
from app.db.arrays import columns, insert_rows
from app.db.links import Link
from app.db.tables import attempts, journal
from app.domain.codecs import ABSENT
from app.domain.merge import Clash, Take, Winner
from app.domain.values import Outcome, Ref, Value


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something changes: event, resync, person, push or undo; and which one."""

    kind: str
    id: str | None = None
    #: What the log calls it on its whole way: ``delivery:12``, ``resync:…``.
    trace: str | None = None


def as_json(value: Any) -> Any:
    """SQL null for "there was none", JSON null for "cleared"."""
    return sa.null() if value is ABSENT else value


@dataclass(frozen=True, slots=True)
class Entry:
    """What one observation or decision changed in one record."""

    record_id: UUID
    version: int
    account: str
    cause: Cause
    takes: Sequence[Take] = ()
    clashes: Sequence[Clash] = ()


_COLUMNS = (
    *("record_id", "version", "account", "cause", "cause_id"),
    *("field", "old", "new", "rule", "lost"),
)
_WRITE = insert_rows(journal, *_COLUMNS)


async def write(db: AsyncConnection, entries: Sequence[Entry]) -> None:
    """One row per changed field, and one per conflict that our value won."""
    rows: list[dict[str, Any]] = []
    for entry in entries:
        common = {
            "record_id": entry.record_id,
            "version": entry.version,
            "account": entry.account,
            "cause": entry.cause.kind,
            "cause_id": entry.cause.id,
        }
        changes = [(t.field, t.old, t.new, t.rule, t.lost) for t in entry.takes]
        changes += [
            (clash.field, clash.ours, clash.ours, clash.rule, clash.theirs)
            for clash in entry.clashes
            if clash.winner is not Winner.THEIRS
        ]
        rows += [
            {
                **common,
                "field": name,
                "old": as_json(old),
                "new": as_json(new),
                "rule": rule,
                "lost": as_json(lost),
            }
            for name, old, new, rule, lost in changes
        ]
    if rows:
        await db.execute(_WRITE, columns(journal, _COLUMNS, rows))


async def replaced(db: AsyncConnection, record_id: UUID, row_id: int) -> tuple[str, Value] | None:
    """The field of a row of this record, and the value that lost there or was replaced.

    None if there is no such row.
    """
    was = sa.case((journal.c.lost.is_not(None), journal.c.lost), else_=journal.c.old)
    found = await db.execute(
        sa.select(journal.c.field, was).where(
            journal.c.id == row_id, journal.c.record_id == record_id
        )
    )
    row = found.one_or_none()
    return None if row is None else (row[0], row[1])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One remote write: what stood there before, what was sent, what came of it."""

    outcome: Outcome
    before: Mapping[str, Any]
    error: Mapping[str, Any] | None


_ATTEMPT = (
    *("record_id", "account", "op", "ref_type", "ref_id"),
    *("trace", "sent", "before", "outcome", "error"),
)
_TRIED = insert_rows(attempts, *_ATTEMPT)


async def attempted(db: AsyncConnection, account: str, tried: Sequence[Attempt]) -> None:
    """Keep what was sent to a CRM and its fate."""
    if tried:
        rows = [_attempt(account, one) for one in tried]
        await db.execute(_TRIED, columns(attempts, _ATTEMPT, rows))


async def merged(db: AsyncConnection, survivor: Link, loser: Ref, kept: Ref) -> None:
    """Keep that we merged two remote records, and into which."""
    await db.execute(
        sa.insert(attempts).values(
            record_id=survivor.record_id,
            account=kept.account,
            op="merge",
            ref_type=kept.type,
            ref_id=kept.id,
            trace=f"merge:{loser.id}",
            sent={"survivor": survivor.ref.id, "loser": loser.id},
            before={},
            outcome="done",
        )
    )
    version = await records.bump(db, survivor.record_id)
    take = Take(
        f"links.{kept.account}",
        f"{loser.type}/{loser.id}",
        f"{kept.type}/{kept.id}",
        "merged there, as it is one record here",
    )
    cause = Cause("push", kept.account)
    await write(db, [Entry(survivor.record_id, version, kept.account, cause, [take])])


def _attempt(account: str, one: Attempt) -> dict[str, Any]:
    write = one.outcome.write
    edits = {
        name: {"add": [r.id for r in edit.add], "remove": [r.id for r in edit.remove]}
        for name, edit in write.relations.items()
    }
    ref = one.outcome.ref or write.ref
    return {
        "record_id": write.record_id,
        "account": account,
        "op": write.op,
        "ref_type": write.type,
        "ref_id": ref.id if ref else None,
        "trace": write.trace,
        "sent": {**write.fields, **({"relations": edits} if edits else {})},
        "before": dict(one.before),
        "outcome": "failed" if one.error else "done",
        "error": one.error,
    }
