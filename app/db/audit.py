"""What people did: one row per act, written before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.pages import Page, page
from app.db.tables import audit

_BATCH = 10_000


async def begin(
    db: AsyncConnection,
    *,
    who: str,
    what: str,
    target: str,
    detail: Mapping[str, Any],
    request_id: str | None = None,
) -> int:
    """Write down an act that is about to be done; its id."""
    row = sa.insert(audit).values(
        who=who, what=what, target=target, detail=dict(detail), request_id=request_id
    )
    found: int = (await db.execute(row.returning(audit.c.id))).scalar_one()
    return found


async def end(db: AsyncConnection, act: int, status: int) -> None:
    """How the act was answered."""
    await db.execute(sa.update(audit).where(audit.c.id == act).values(status=status))


async def listed(
    db: AsyncConnection,
    *,
    who: str | None = None,
    since: datetime | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Acts, the newest first."""
    wanted = sa.select(audit)
    if who is not None:
        wanted = wanted.where(audit.c.who == who)
    if since is not None:
        wanted = wanted.where(audit.c.at >= since)
    return await page(db, wanted, by=[audit.c.id.desc()], cursor=cursor, limit=limit)


async def forget(db: AsyncConnection, before: datetime) -> int:
    """Delete acts older than this, up to a batch; how many."""
    old = sa.select(audit.c.id).where(audit.c.at < before).order_by(audit.c.id).limit(_BATCH)
    return (await db.execute(sa.delete(audit).where(audit.c.id.in_(old)))).rowcount
