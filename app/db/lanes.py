"""Lanes: the right to work on one account in one direction; one holder at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import lanes, workers

#: The channel that wakes sleeping workers; one notification per flush, never per row.
CHANNEL = "syncline"
#: Seconds after which a lane is given back although more waits: others may want the worker.
TURN = 1.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A claimed lane. ``fence`` proves that the claim is still ours."""

    account: str
    direction: str
    fence: int


#: What waits until a CRM that is away has answered one call: all that calls it for certain, and
#: what has met that. What came in may bring all that is needed, and a bus may go on telling.
WAITS = "(a.away_at is not null and (l.direction in ('out', 'scan') or l.failures > 0))"
#: Accounts that must be read anew before anybody is written to (db/rereads.py). One that nobody
#: works on is not waited for: it is read once somebody does.
_HOLDING = """
    select from accounts r where r.reread_since is not null
      and not r.paused and r.refused_at is null and r.name = any(:accounts)
"""


async def wake(db: AsyncConnection, account: str, direction: str) -> None:
    """There is work: make the lane due now and tell the workers."""
    await db.execute(
        sa.text(
            "update lanes set due_at = least(coalesce(due_at, now()), now())"
            " where account = :account and direction = :direction"
        ),
        {"account": account, "direction": direction},
    )
    await notify(db)


async def notify(db: AsyncConnection) -> None:
    await db.execute(sa.text("select pg_notify(:channel, '')"), {"channel": CHANNEL})


async def claim(
    db: AsyncConnection,
    owner: str,
    *,
    accounts: Collection[str],
    limit: int,
    lease: int,
    writers: Collection[str] | None = None,
    listening: bool = False,
) -> list[Lane]:
    """Take due lanes of these accounts for ``lease`` seconds; live work before scans.

    An expired lease counts as due: its holder is dead or too late, and the grown fence keeps
    it from settling anything. The out-lanes are only those of ``writers`` (default: all).
    ``listening`` takes the listen-lanes instead of all others; a pause does not make us deaf.
    """
    rows = await db.execute(
        sa.text(
            f"""
            update lanes set owner = :owner, fence = lanes.fence + 1, due_at = null,
                   lease_until = now() + make_interval(secs => :lease), worked_at = now()
            from (
                select l.account, l.direction from lanes l
                join accounts a on a.name = l.account and a.refused_at is null
                                and (:listening or not a.paused) and not {WAITS}
                where l.account = any(:accounts)
                  and (l.direction = 'listen') = :listening
                  and (l.direction <> 'out' or l.account = any(:writers)
                       and not exists ({_HOLDING}))
                  and (l.paused_until is null or l.paused_until <= now())
                  and ((l.owner is null and l.due_at <= now())
                       or (l.owner is not null and l.lease_until < now()))
                order by l.direction = 'scan', l.due_at
                limit :limit for update of l skip locked
            ) due
            where lanes.account = due.account and lanes.direction = due.direction
            returning lanes.account, lanes.direction, lanes.fence
            """  # noqa: S608
        ),
        {
            "owner": owner,
            "accounts": sorted(accounts),
            "writers": sorted(accounts if writers is None else writers),
            "limit": limit,
            "lease": lease,
            "listening": listening,
        },
    )
    return [Lane(*row) for row in rows]


async def renew(db: AsyncConnection, owner: str, held: Sequence[Lane], *, lease: int) -> None:
    """Keep these lanes and show that this worker lives."""
    for lane in sorted(held, key=lambda item: (item.account, item.direction)):
        await db.execute(
            sa.update(lanes)
            .where(_ours(lane, owner))
            .values(lease_until=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, lease))
        )


async def beat(db: AsyncConnection, owner: str) -> None:
    """A worker's heartbeat; silent workers are forgotten after ten minutes."""
    await db.execute(
        sa.text(
            "insert into workers (id) values (:id) on conflict (id) do update set seen_at = now()"
        ),
        {"id": owner},
    )
    await db.execute(
        sa.delete(workers).where(workers.c.seen_at < sa.text("now() - interval '10 minutes'"))
    )


async def attend(connection: asyncpg.Connection, owner: str) -> None:
    """This session lasts as long as its worker: who sees it gone need not wait for the lease."""
    await connection.execute(
        "insert into workers (id, pid, session_at)"
        " select $1, pid, backend_start from pg_stat_activity where pid = pg_backend_pid()"
        " on conflict (id) do update set pid = excluded.pid, session_at = excluded.session_at",
        owner,
    )


async def absent(db: AsyncConnection, owner: str) -> set[tuple[str, int]]:
    """The other workers whose session is gone, each with that session.

    One that only lost its connection is back with another at once. Sessions that ended with the
    server itself prove nothing: whoever had one may live, and be amid a call. Where the start of
    a session is not ours to see, its number alone must do.
    """
    found = await db.execute(
        sa.text(
            "select id, pid from workers w where id <> :owner"
            " and session_at > pg_postmaster_start_time() and not exists ("
            " select from pg_stat_activity s where s.pid = w.pid"
            " and coalesce(s.backend_start, w.session_at) = w.session_at)"
        ),
        {"owner": owner},
    )
    return {(row.id, row.pid) for row in found}


async def leave(db: AsyncConnection, owner: str) -> None:
    """A worker is gone for good; what it was cut off in is due for the next one."""
    await db.execute(sa.delete(workers).where(workers.c.id == owner))
    await db.execute(
        sa.update(lanes)
        .where(lanes.c.owner == owner)
        .values(owner=None, lease_until=None, due_at=sa.func.now())
    )
    await notify(db)


def _ours(lane: Lane, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        lanes.c.account == lane.account,
        lanes.c.direction == lane.direction,
        lanes.c.owner == owner,
        lanes.c.fence == lane.fence,
    )


async def holds(db: AsyncConnection, lane: Lane) -> bool:
    """Whether the claim still stands.

    Asked first in every transaction that settles work, so that a worker that stalled past its
    lease does not settle beside its successor. No lock: a webhook must never wait for us, and
    what is settled is compared with what was seen anyway.
    """
    found = await db.execute(
        sa.select(lanes.c.fence).where(
            lanes.c.account == lane.account,
            lanes.c.direction == lane.direction,
            lanes.c.lease_until > sa.func.now(),
        )
    )
    return found.scalar_one_or_none() == lane.fence


async def position(db: AsyncConnection, lane: Lane) -> str | None:
    """Up to where this listen-lane has told all; None if it never listened."""
    found = await db.execute(
        sa.select(lanes.c.position).where(
            lanes.c.account == lane.account, lanes.c.direction == lane.direction
        )
    )
    told: str | None = found.scalar_one()
    return told


async def move(db: AsyncConnection, lane: Lane, position: str) -> bool:
    """Everything up to there is stored, and the bus answers: False if the claim is over."""
    moved = await db.execute(
        sa.update(lanes)
        .where(
            lanes.c.account == lane.account,
            lanes.c.direction == lane.direction,
            lanes.c.fence == lane.fence,
            lanes.c.lease_until > sa.func.now(),
        )
        .values(
            position=position,
            worked_at=sa.func.now(),
            paused_until=None,
            pause_reason=None,
            failures=0,
        )
    )
    return moved.rowcount > 0


_EARLIEST = {
    "in": """
        select least(
            (select min(due_at) from deliveries where account = :account and state = 'pending'),
            (select min(due_at) from events where account = :account and state = 'pending'))
        """,
    "out": """
        select least(
            (select min(due_at) from outbox where account = :account and state = 'pending'),
            (select min(due_at) from loads where account = :account))
        """,
    "scan": """
        select least(
            (select min(created_at) from resyncs
             where account = :account and state in ('queued', 'running')),
            (select min(created_at) from drifts
             where account = :account and state in ('queued', 'running')),
            (select min(due_at) from catchups where account = :account),
            (select least(callback_due_at, drift_due_at) from accounts where name = :account))
        """,
    "listen": "select now() from accounts where name = :account",  # there is always more to hear
}


async def release(
    db: AsyncConnection,
    lane: Lane,
    owner: str,
    *,
    paused_until: datetime | None = None,
    reason: str | None = None,
    failed: bool = False,
) -> int:
    """Give the lane back, due when its earliest pending row is; the failures that are over now.

    The lane row is locked first and the rows are read in a second statement: a wake-up whose
    transaction was still open when we began is waited for and never lost.
    """
    locked = await db.execute(
        sa.select(lanes.c.failures).where(_ours(lane, owner)).with_for_update()
    )
    failures = locked.scalar_one_or_none()
    if failures is None:
        return 0
    earliest = await db.execute(sa.text(_EARLIEST[lane.direction]), {"account": lane.account})
    due = earliest.scalar_one()
    await db.execute(
        sa.update(lanes)
        .where(_ours(lane, owner))
        .values(
            owner=None,
            lease_until=None,
            due_at=sa.func.least(lanes.c.due_at, sa.cast(due, sa.TIMESTAMP(timezone=True))),
            paused_until=paused_until,
            pause_reason=reason,
            failures=lanes.c.failures + 1 if failed else 0,
        )
    )
    return 0 if failed else int(failures)


async def sweep(db: AsyncConnection) -> None:
    """The second net: lanes with due rows that nobody woke."""
    for direction, query in _EARLIEST.items():
        inner = query.replace(":account", "lanes.account")
        await db.execute(
            sa.text(
                f"update lanes set due_at = ({inner}) where direction = :direction"  # noqa: S608
                f" and owner is null and due_at is null and ({inner}) is not null"
            ),
            {"direction": direction},
        )


async def failures(db: AsyncConnection, lane: Lane) -> int:
    found = await db.execute(
        sa.select(lanes.c.failures).where(
            lanes.c.account == lane.account, lanes.c.direction == lane.direction
        )
    )
    count: int = found.scalar_one()
    return count


async def next_due(
    db: AsyncConnection,
    accounts: Collection[str],
    writers: Collection[str],
    listeners: Collection[str] = (),
) -> float | None:
    """Seconds until the next lane is due; None if nothing waits."""
    found = await db.execute(
        sa.text(
            f"""
            select extract(epoch from min(greatest(due_at, coalesce(paused_until, due_at))) - now())
            from lanes l join accounts a on a.name = account and a.refused_at is null
            where owner is null and due_at is not null and not {WAITS}
              and case direction when 'listen' then account = any(:listeners)
                                 else account = any(:accounts) and not a.paused end
              and (direction <> 'out' or account = any(:writers) and not exists ({_HOLDING}))
            """  # noqa: S608
        ),
        {
            "accounts": sorted(accounts),
            "writers": sorted(writers),
            "listeners": sorted(listeners),
        },
    )
    seconds = found.scalar_one()
    return None if seconds is None else float(seconds)
