"""What the pages of a dry run so far would have come to, for the pages after them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import any_of, columns, insert_rows
from app.db.tables import foreseen

#: ``link`` and ``key`` lead to the record that a ref or a key would belong to, ``adopted`` to that
#: of a record in another account. ``made`` are the records themselves; ``doomed`` those that would
#: be deleted, ``departed`` those that are gone from the account.
Kind: TypeAlias = Literal["link", "key", "made", "adopted", "doomed", "departed"]
#: A kind, and the ref, key or record that it is about.
Name: TypeAlias = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would have come of it; ``more`` is what a report says of a record that would be made."""

    record_id: UUID
    more: Any = None


_COLUMNS = ("resync_id", "kind", "name", "record_id", "more")
_INSERT = insert_rows(foreseen, *_COLUMNS)
_KEEP = _INSERT.on_conflict_do_update(
    index_elements=["resync_id", "kind", "name"],
    set_={"record_id": _INSERT.excluded.record_id, "more": _INSERT.excluded.more},
)


async def recall(
    db: AsyncConnection, resync_id: UUID, kind: Kind, names: Collection[str]
) -> dict[str, Foreseen]:
    """What earlier pages have come to, of all that is named."""
    found = await db.execute(
        sa.select(foreseen.c.name, foreseen.c.record_id, foreseen.c.more).where(
            foreseen.c.resync_id == resync_id,
            foreseen.c.kind == kind,
            any_of(foreseen.c.name, sorted(names)),
        )
    )
    return {row.name: Foreseen(row.record_id, row.more) for row in found}


async def keep(db: AsyncConnection, resync_id: UUID, news: Mapping[Name, Foreseen]) -> None:
    """Remember what a page comes to."""
    rows = [
        {
            "resync_id": resync_id,
            "kind": kind,
            "name": name,
            "record_id": it.record_id,
            "more": it.more,
        }
        for (kind, name), it in sorted(news.items(), key=lambda item: item[0])
    ]
    if rows:
        await db.execute(_KEEP, columns(foreseen, _COLUMNS, rows))


async def forget(db: AsyncConnection, resync_id: UUID) -> None:
    """The dry run is over."""
    await db.execute(sa.delete(foreseen).where(foreseen.c.resync_id == resync_id))
