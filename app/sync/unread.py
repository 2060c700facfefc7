"""What could not be read for want of a word is read anew once the configuration names it."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, lanes, links, resyncs
from app.domain.mapping import EntityMapping
from app.domain.unread import readable

log = structlog.get_logger()


async def read_anew(
    db: AsyncConnection, account: str, mappings: Mapping[str, EntityMapping]
) -> None:
    """Queue a look at the records of an account whose words can be read by now."""
    told = await conflicts.words(db, account)
    ids: dict[str, list[str]] = {}
    for ref, link in (await links.by_ref(db, told)).items():
        mapping = mappings[link.entity]
        if any(readable(mapping, name, word) for name, word in told[ref].items()):
            ids.setdefault(link.entity, []).append(ref.id)
    for entity, own in ids.items():
        await resyncs.begin(db, account, entity, own)
        log.info("words.understood", account=account, entity=entity, records=len(own))
    if ids:
        await lanes.wake(db, account, "scan")
