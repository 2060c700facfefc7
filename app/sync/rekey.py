"""Key rules that changed in the configuration: the records we have get their new keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, keyed, links, records
from app.db.keyed import Progress
from app.domain import identity
from app.domain.state import RecordState
from app.domain.values import Key
from app.sync.house import House

log = structlog.get_logger()

#: Records per transaction.
PAGE = 500


async def rekey(house: House, *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Give every record the keys of the present rules, page by page.

    Done before any lane is worked, so that nobody who is known by a new key is created anew. A
    worker that ends in the middle, or is one of several, goes on where the last page ended.
    """
    for entity in house.config.sync:
        rules, changed = house.key_rules(entity), 0
        while not stopped():
            async with house.database.transaction() as db:
                count = await _page(db, entity, rules)
            if count is None:
                break
            changed += count
        if changed:
            log.info("keys.rebuilt", entity=entity, rules=list(rules), records=changed)


async def _page(db: AsyncConnection, entity: str, rules: Sequence[str]) -> int | None:
    """How many records got their keys; None when all have them."""
    at = await keyed.progress(db, entity)
    if at.rules == list(rules):
        return None
    after = at.cursor if at.wanted == list(rules) else None
    page = await keyed.page(db, entity, after, limit=PAGE)
    await _claim(db, entity, page, rules)
    if len(page) < PAGE:
        await keyed.keep(db, entity, Progress(list(rules), None, None))
    else:
        await keyed.keep(db, entity, Progress(at.rules, list(rules), page[-1].id))
    return len(page)


async def _claim(
    db: AsyncConnection, entity: str, page: Sequence[RecordState], rules: Sequence[str]
) -> None:
    """The keys that are free go to their record; for the rest a person is asked."""
    wanted = {
        record.id: identity.keys(entity, record.fields, rules, external_id=str(record.id))
        for record in page
    }
    owners = dict(await records.owners_of(db, entity, {k for own in wanted.values() for k in own}))
    rivals: dict[UUID, dict[Key, UUID]] = {}
    free: dict[UUID, list[Key]] = {}
    for record_id, own in wanted.items():
        free[record_id] = [key for key in own if owners.setdefault(key, record_id) == record_id]
        if taken := {key: owners[key] for key in own if owners[key] != record_id}:
            rivals[record_id] = taken
    await records.claim(db, entity, free)
    await _ask(db, entity, rivals)


async def _ask(db: AsyncConnection, entity: str, rivals: Mapping[UUID, Mapping[Key, UUID]]) -> None:
    """Cards for records that now share a key.

    Two that have counterparts in one account are namesakes there: nobody need be asked.
    """
    everyone = {*rivals, *(owner for own in rivals.values() for owner in own.values())}
    if not everyone:
        return
    living: dict[UUID, dict[str, links.Link]] = {}
    for link in await links.by_record(db, everyone):
        if link.state == "live":
            living.setdefault(link.record_id, {})[link.ref.account] = link
    apart = await keyed.separated(db, everyone)
    for record_id, taken in rivals.items():
        here = living.get(record_id, {})
        others = _doubles(record_id, taken.values(), living, apart)
        if here and others:
            named = ", ".join(f"{key.kind} {key.value}" for key in taken)
            ref = next(iter(here.values())).ref
            await conflicts.unsure(
                db,
                entity,
                ref,
                others,
                f"{named} belongs to another record too",
                {},
                record_id=record_id,
            )


def _doubles(
    record_id: UUID,
    owners: Collection[UUID],
    living: Mapping[UUID, Mapping[str, links.Link]],
    apart: Mapping[UUID, Collection[UUID]],
) -> list[UUID]:
    here = living.get(record_id, {}).keys()
    return sorted(
        owner
        for owner in set(owners)
        if not here & living.get(owner, {}).keys() and owner not in apart.get(record_id, ())
    )
