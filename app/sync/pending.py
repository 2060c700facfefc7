"""What waits to be written to an account, worked out as a push would: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import uuid_utils.compat as uuid

from app.db import outbox, records
from app.db.pages import Row
from app.domain.entities import title_of
from app.sync.house import House
from app.sync.preview import Fates, Preview

_NOTHING = "what it has is what we would say; the mark is cleared without a write"


@dataclass(frozen=True, slots=True)
class Pending:
    """A page of the outbox: each mark with the writes that it would make."""

    items: list[dict[str, Any]]
    next_cursor: str | None


async def pending(house: House, account: str, *, cursor: str | None, limit: int) -> Pending:
    """What a push to this account would do now, the longest waiting first.

    Reads the CRM, where a create might find its record there already; the very code of a dry
    run. Raises BadCursorError and what the CRM's trouble raises.
    """
    async with house.database.transaction() as db:
        page = await outbox.waiting(db, account, cursor=cursor, limit=limit)
        found = await records.get(db, [row["record_id"] for row in page.items])
    fates: Fates = {}
    preview = Preview(uuid.uuid7())
    rows = [found[row["record_id"]] for row in page.items if row["record_id"] in found]
    writes, _ = await preview.push(house, house.members[account], rows, {}, fates)
    by_record: dict[str, list[dict[str, Any]]] = {}
    for item in writes:
        by_record.setdefault(item["record_id"], []).append(item)
    items: list[dict[str, Any]] = []
    for row in page.items:
        record = found.get(row["record_id"])
        name = title_of(record.fields) if record else None
        fate = fates.get((account, row["record_id"]))
        own = by_record.get(str(row["record_id"])) or [
            _nothing(account, row, fate.reason if fate else "")
        ]
        items += [{"name": name, **item, **_state(row)} for item in own]
    return Pending(items, page.next_cursor)


def _nothing(account: str, row: Row, reason: str) -> dict[str, Any]:
    return {
        "op": "none",
        "account": account,
        "entity": row["entity"],
        "record_id": str(row["record_id"]),
        "remote_id": None,
        "fields": {},
        "reason": reason or _NOTHING,
    }


def _state(row: Row) -> Mapping[str, Any]:
    names = ("state", "marked_at", "attempts", "error")
    return {name: row[name] for name in names}
