"""A person decides on a value; the decision travels like any other change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import Config, is_field
from app.db import conflicts, journal, lanes, links, outbox, records
from app.db.journal import Cause, Entry
from app.domain import identity, ties
from app.domain.codecs import ABSENT
from app.domain.entities import ties_of
from app.domain.merge import Take
from app.domain.state import RecordState
from app.domain.values import Ref, Value
from app.errors import RejectedError

PERSON = "person"


async def resolve(
    db: AsyncConnection,
    conflict_id: int,
    *,
    account: str | None = None,
    value: Any = ABSENT,
    config: Config | None = None,
) -> None:
    """Settle a held field by an account's value or by a value of the person's own.

    Raises KeyError for a card that does not exist, RejectedError for one that is settled or
    that this answer does not fit.
    """
    card = await conflicts.get(db, conflict_id)
    if card is None:
        raise KeyError(conflict_id)
    if card.state != "open":
        raise RejectedError("this conflict is settled already")
    if card.kind != "field":
        raise RejectedError(f"a card of kind {card.kind!r} has no value to choose")
    theirs, ours = card.theirs["value"], card.ours["value"]
    record = (await records.get(db, [card.record_id], lock=True))[card.record_id]
    chosen: Value = value
    if account is not None:
        chosen = theirs if account == card.account else record.fields.get(card.field, ours)
    ref = Ref(card.account, card.ref_type, card.ref_id)
    await _settle_base(db, ref, card.field, theirs)
    await conflicts.settle(
        db, ref, fields=[card.field], how={"by": PERSON, "account": account, "value": chosen}
    )
    lost = ours if chosen == theirs else theirs
    sync = config.entity(record.entity) if config else None
    await _take(db, record, card.field, chosen, lost=lost, rules=sync.keys if sync else None)


async def restore(
    db: AsyncConnection, config: Config, record: RecordState, row_id: int
) -> list[UUID]:
    """Give a field back the value that lost, or was replaced, in this row of the journal.

    Raises RejectedError where there is no such row, or it is about no value, or its field waits
    for a person's decision.
    """
    found = await journal.replaced(db, record.id, row_id)
    if found is None:
        raise RejectedError(f"the record has no row {row_id} in its journal")
    name, value = found
    if not is_field(record.entity, name) or name in ties_of(record.entity):
        raise RejectedError(f"row {row_id} is about {name}: link and unlink records instead")
    for account in config.accounts:
        held = await conflicts.held_fields(db, [record.id], account)
        if name in held.get(record.id, ()):
            raise RejectedError(f"{name} waits for a decision in {account}: resolve that conflict")
    sync = config.entity(record.entity)
    now = record.fields.get(name, ABSENT)
    rules = sync.keys if sync else None
    await _take(db, record, name, value, lost=now, rules=rules, why="a person restored it")
    return [record.id]


async def _settle_base(db: AsyncConnection, ref: Ref, name: str, theirs: Value) -> None:
    """What the account shows is known now; whether it must change, the push works out."""
    link = (await links.by_ref(db, [ref], lock=True)).get(ref)
    if link is not None:
        sent = {n: v for n, v in link.sent.items() if n != name}
        await links.agree(db, [links.Agreement(ref, {**link.base, name: theirs}, sent, None)])


async def _take(
    db: AsyncConnection,
    record: RecordState,
    name: str,
    chosen: Value,
    *,
    lost: Value,
    rules: Sequence[str] | None,
    why: str = "a person decided",
) -> None:
    at: datetime = (await db.execute(sa.select(sa.func.now()))).scalar_one()
    fields = {**record.fields, name: chosen}
    changed = RecordState(
        record.id,
        record.entity,
        {**fields, **ties.whole(record.entity, fields)},
        {**record.stamps, name: {"at": at.isoformat(), "account": PERSON}},
        record.version + 1,
        record.container,
    )
    await records.change(db, [changed], source=PERSON)
    keys = identity.keys(record.entity, changed.fields, rules, external_id=str(record.id))
    owners = await records.owners_of(db, record.entity, keys)
    free = [key for key in keys if owners.get(key, record.id) == record.id]
    await records.claim(db, record.entity, {record.id: free})
    take = Take(name, record.fields.get(name, ABSENT), chosen, why, lost)
    await journal.write(db, [Entry(record.id, changed.version, PERSON, Cause(PERSON), [take])])
    await mark_all(db, changed)


async def mark_all(db: AsyncConnection, record: RecordState) -> None:
    """Every account that knows this record may be behind now."""
    ids: list[UUID] = [record.id]
    accounts = sorted(
        {link.ref.account for link in await links.by_record(db, ids) if link.state == "live"}
    )
    await outbox.mark(db, {(account, record.id): record for account in accounts})
    for account in accounts:
        await lanes.wake(db, account, "out")
