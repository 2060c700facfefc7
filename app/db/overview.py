"""How the house is doing: workers, lanes, what waits, what is dead."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.lanes import WAITS
from app.db.pages import Row, rows
from app.db.tables import workers

#: A paused lane is not late: its lag is what it will have to catch up with all the same.
_LANES = f"""
with waiting as (
    select account, 'in' as direction, count(*) as pending, min(due_at) as oldest
    from (
        select account, due_at from deliveries where state = 'pending'
        union all select account, due_at from events where state = 'pending'
    ) as came_in group by account
    union all
    select account, 'out', count(*), min(marked_at) filter (where state <> 'loading') from outbox
    where state in ('pending', 'waiting', 'loading') group by account
    union all
    select account, 'scan', count(*), min(begun) from (
        select account, created_at as begun from resyncs where state in ('queued', 'running')
        union all
        select account, created_at from drifts where state in ('queued', 'running')
        union all select account, due_at from catchups where due_at <= now()
    ) as scans group by account
), reread as (
    select 'waits until the log of ' || string_agg(name, ', ' order by name) || ' is read' as reason
    from accounts where reread_since is not null and not paused and refused_at is null
    having count(*) > 0
)
select l.account, l.direction, l.owner, l.lease_until, l.worked_at, l.failures,
       coalesce(w.pending, 0) as pending,
       case when l.direction = 'out' then (
           select count(*) from outbox o where o.account = l.account and o.state = 'held'
       ) else 0 end as held,
       greatest(coalesce(extract(epoch from now() - w.oldest), 0), 0)::float as lag_seconds,
       (coalesce(a.paused, false) or a.refused_at is not null
        or l.direction = 'out' and r.reason is not null
        or coalesce(l.paused_until > now(), false) or {WAITS}) as paused,
       case when {WAITS} then a.probe_at
            when l.paused_until > now() then l.paused_until end as paused_until,
       case when a.paused then coalesce(a.pause_reason, 'paused by a person')
            when a.refused_at is not null then a.refused_reason
            when l.direction = 'out' and r.reason is not null then r.reason
            when {WAITS} then coalesce(l.pause_reason, 'it does not answer')
            when l.paused_until > now() then l.pause_reason end as pause_reason
from lanes l
left join accounts a on a.name = l.account
left join waiting w on w.account = l.account and w.direction = l.direction
left join reread r on true
order by l.account, l.direction
"""  # noqa: S608

_DEAD = """
select account, count(*) as dead from (
    select account from deliveries where state = 'dead'
    union all select account from events where state = 'dead'
    union all select account from outbox where state = 'dead'
) as dead group by account
"""


async def list_lanes(db: AsyncConnection) -> Sequence[Row]:
    """Every lane: how much waits, how long already, who works on it, why it rests."""
    return await rows(db, sa.text(_LANES))


async def list_workers(db: AsyncConnection) -> Sequence[Row]:
    """Every worker that was heard of lately, with the seconds since."""
    silent = sa.extract("epoch", sa.func.now() - workers.c.seen_at)
    query = sa.select(workers, silent.label("silent_seconds")).order_by(workers.c.id)
    return await rows(db, query)


async def dead_letters(db: AsyncConnection) -> dict[str, int]:
    """How many rows of each account need a person."""
    return {row.account: row.dead for row in await db.execute(sa.text(_DEAD))}


async def revision(db: AsyncConnection) -> str | None:
    """The migration that the schema is at."""
    found = await db.execute(sa.text("select version_num from alembic_version"))
    return found.scalars().first()
