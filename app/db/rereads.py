"""A database that may be older than the CRMs: nothing is written before their logs were read again.

It is older after a restore, or a failover that lost commits; whoever was away for a while cannot
tell. Then every account is read anew from where this database knows it, and until that is taken in
the out-lanes of all accounts wait.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import catchups, lanes
from app.db.tables import accounts, pulse

#: Workers say every few seconds that they live; after so much silence nobody did.
SILENCE: Final = timedelta(seconds=60)
#: A CRM that is away is not waited for any longer than this, where nothing proves a restore.
PATIENCE: Final = timedelta(seconds=15)


class Why(StrEnum):
    """What makes us think that the database may be older than the CRMs."""

    SILENCE = "silence"  # nobody was at work: all that can be known of a snapshot of the disk
    LOST = "lost"  # what this very process had committed is not there
    MOVED = "moved"  # another server, timeline or database: a failover or a recovery
    LOADED = "loaded"  # the rows were loaded from a dump


SAYS: Final = {
    Why.SILENCE: "nobody was at work for a while",
    Why.LOST: "the database has lost what was committed",
    Why.MOVED: "the database is on another server, timeline or place than before",
    Why.LOADED: "the database was loaded from a dump",
}


@dataclass(frozen=True, slots=True)
class Reread:
    """Since when an account is read anew, and why."""

    since: datetime
    why: Why

    @property
    def sentence(self) -> str:
        return SAYS[self.why]


# The timeline is that of what is being written, which a recovery changes at once. A row keeps
# the transaction that wrote it for as long as it lies there; loaded from a dump it has another:
# https://www.postgresql.org/docs/current/ddl-system-columns.html
_LOOK = sa.text(
    """
    select at, place, xid = xmin::text as written, now() as moment,
        concat_ws('/', (select system_identifier from pg_control_system()),
            left(pg_walfile_name(pg_current_wal_lsn()), 8),
            (select oid from pg_database where datname = current_database())) as here
    from pulse for update
    """
)


async def feel(db: AsyncConnection, *, seen: datetime | None) -> tuple[Why | None, datetime]:
    """Say that somebody is at work; why this database may be an older one, and the time.

    ``seen`` is the time that this process has been answered last.
    """
    await db.execute(insert(pulse).values(one=True).on_conflict_do_nothing())
    row = (await db.execute(_LOOK)).one()
    await db.execute(
        sa.update(pulse).values(
            # Whoever waited for the row began earlier than the one who had it.
            at=sa.func.greatest(pulse.c.at, sa.func.now()),
            place=row.here,
            xid=sa.text("pg_current_xact_id()::xid::text"),
        )
    )
    moment: datetime = row.moment
    if row.place is None:
        return None, moment  # nobody was ever at work here
    if seen is not None and row.at < seen:
        return Why.LOST, moment
    if row.place != row.here:
        return Why.MOVED, moment
    if not row.written:
        return Why.LOADED, moment
    return (Why.SILENCE if moment - row.at > SILENCE else None), moment


async def begin(db: AsyncConnection, names: Collection[str], why: Why) -> None:
    """Hold all writes until the logs of these accounts are read from here on."""
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name.in_(sorted(names)))
        .values(reread_since=sa.func.now(), reread_read_at=None, reread_why=why)
    )
    for name in sorted(names):
        await catchups.request(db, name, "restored" if why is not Why.SILENCE else "start")


_READ = sa.text(
    """
    update accounts a set reread_read_at = now()
    where a.reread_since is not null and a.reread_read_at is null and a.name = any(:names)
      and (not exists (
            select from catchups c where c.account = a.name and c.through < a.reread_since
              -- What cannot be read will not be read by waiting.
              and not (c.error is not null and c.due_at > now()))
        or (a.reread_why = :silence and a.reread_since < now() - cast(:patience as interval)
            and exists (select from lanes l where l.account = a.name
                        and l.direction = 'scan' and l.failures > 0)))
    """
)
# A row that has failed before waits for its own remedy: others do not wait for it.
_TAKEN_IN = sa.text(
    """
    update accounts a set reread_since = null, reread_read_at = null, reread_why = null
    where a.reread_read_at is not null and a.name = any(:names)
      and not exists (select from deliveries d where d.account = a.name
            and d.state = 'pending' and d.attempts = 0 and d.received_at <= a.reread_read_at)
      and not exists (select from events e where e.account = a.name
            and e.state = 'pending' and e.attempts = 0 and e.received_at <= a.reread_read_at)
      and not exists (select from resyncs r where r.account = a.name and not r.dry_run
            and r.state in ('queued', 'running') and r.since is not null
            and r.created_at >= a.reread_since)
    returning a.name
    """
)


async def settle(db: AsyncConnection, names: Collection[str]) -> Sequence[str]:
    """The accounts among these of which all is known again; nobody waits for them any more."""
    query = sa.select(accounts.c.name).where(
        accounts.c.name.in_(sorted(names)), accounts.c.reread_since.is_not(None)
    )
    waited = list((await db.execute(query)).scalars())
    if not waited:
        return ()
    await db.execute(_READ, {"names": waited, "silence": str(Why.SILENCE), "patience": PATIENCE})
    done = list((await db.execute(_TAKEN_IN, {"names": waited})).scalars())
    if done:
        await lanes.notify(db)
    return done


async def all_of(db: AsyncConnection, *, waited_for: bool = False) -> dict[str, Reread]:
    """Every account that is read anew; or those alone that somebody works on: all wait for them."""
    query = sa.select(accounts.c.name, accounts.c.reread_since, accounts.c.reread_why).where(
        accounts.c.reread_since.is_not(None)
    )
    if waited_for:
        query = query.where(~accounts.c.paused, accounts.c.refused_at.is_(None))
    return {row[0]: Reread(row[1], Why(row[2])) for row in await db.execute(query)}


async def forgo(db: AsyncConnection, name: str) -> bool:
    """A person says that nobody is to wait for this account; False if nobody did."""
    done = await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name, accounts.c.reread_since.is_not(None))
        .values(reread_since=None, reread_read_at=None, reread_why=None)
        .returning(accounts.c.name)
    )
    return done.first() is not None
