"""The tables that are cut by time: their parts are made ahead, and dropped when their time is over.

A part is a table of its own for a week, a month or a quarter (UTC), so that it goes at once and
leaves nothing to be cleaned up. What no part was made for lands in ``…_rest``: nothing that came
in is ever refused for want of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

#: Rows that one statement deletes where a whole part cannot go.
BATCH = 10_000
#: Parts that are there before they are needed, the present one among them.
AHEAD = 3
#: Whoever waits for a lock on a table makes all behind it wait: give up early, try again later.
_LOCK_TIMEOUT = "set local lock_timeout = '2s'"


@dataclass(frozen=True, slots=True)
class Cut:
    """A table, the time it is cut by, how wide its parts are, and what is unique in each.

    ``open`` is true of a row that somebody still has to deal with, and outlives its time.
    """

    table: str
    column: str
    width: str
    unique: tuple[str, ...] = ()
    open: str = "false"

    @property
    def rest(self) -> str:
        return f"{self.table}_rest"

    def part(self, start: datetime) -> str:
        """The name of the part that begins then."""
        return f"{self.table}_{start:%Y%m%d}"


_UNFINISHED = (
    "t.state <> 'done' or exists (select from events e where e.received_at = t.received_at"
    " and e.delivery_id = t.id and e.state <> 'done')"
)
DELIVERIES = Cut("deliveries", "received_at", "week", ("account", "key"), open=_UNFINISHED)
EVENTS = Cut("events", "received_at", "month", ("account", "key"), open="t.state <> 'done'")
ATTEMPTS = Cut("attempts", "at", "month")
JOURNAL = Cut("journal", "at", "quarter")
CUTS = (DELIVERIES, EVENTS, ATTEMPTS, JOURNAL)


def is_part(name: str | None) -> bool:
    """Whether this is a part of a table and no table that the code knows of."""
    return any(name is not None and name.startswith(f"{cut.table}_") for cut in CUTS)


async def alone(db: AsyncConnection, lock: int) -> bool:
    """Whether nobody else holds this lock; it is ours until the transaction ends."""
    found = await db.execute(sa.text("select pg_try_advisory_xact_lock(:lock)"), {"lock": lock})
    return bool(found.scalar_one())


# ---------------------------------------------------------------------------------- periods


def begun(width: str, moment: datetime) -> datetime:
    """When the period began that this moment is in."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match width:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
    return day.replace(day=1, month=day.month - (day.month - 1) % 3)


def after(width: str, start: datetime) -> datetime:
    """When the next period begins."""
    longest = {"week": 7, "month": 31, "quarter": 92}[width]
    return begun(width, start + timedelta(days=longest))


def _periods(width: str, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
    start = begun(width, moment)
    for _ in range(AHEAD):
        end = after(width, start)
        yield start, end
        start = end


# ----------------------------------------------------------------------------------- making


async def make(db: AsyncConnection, cut: Cut, moment: datetime) -> list[str]:
    """Have the part of this moment and those that follow; the names of the new ones."""
    await db.execute(sa.text(_LOCK_TIMEOUT))
    there = await parts(db, cut)
    if cut.rest not in there:
        await db.execute(sa.text(f"create table {cut.rest} partition of {cut.table} default"))
        await _unique(db, cut, cut.rest)
    made = []
    for start, end in _periods(cut.width, moment):
        name = cut.part(start)
        if name in there or await _in_rest(db, cut, start, end):
            continue
        # Attaching lets others go on writing; `partition of` would lock the whole table.
        like = f"create table {name} (like {cut.table} including defaults including constraints)"
        await db.execute(sa.text(like))
        await _unique(db, cut, name)
        await db.execute(
            sa.text(
                f"alter table {cut.table} attach partition {name}"
                f" for values from ('{start.isoformat()}') to ('{end.isoformat()}')"
            )
        )
        made.append(name)
    return made


async def _unique(db: AsyncConnection, cut: Cut, name: str) -> None:
    if cut.unique:
        columns = ", ".join(cut.unique)
        await db.execute(sa.text(f"create unique index uq_{name}_key on {name} ({columns})"))


async def _in_rest(db: AsyncConnection, cut: Cut, start: datetime, end: datetime) -> bool:
    """Whether rows of this period have landed in the rest already; they stay there."""
    query = f"select exists (select from {cut.rest} where {cut.column} >= :a and {cut.column} < :b)"  # noqa: S608
    return bool((await db.execute(sa.text(query), {"a": start, "b": end})).scalar_one())


async def parts(db: AsyncConnection, cut: Cut) -> list[str]:
    """The names of the parts there are, the oldest first."""
    rows = await db.execute(
        sa.text(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = to_regclass(:name) order by 1"
        ),
        {"name": cut.table},
    )
    return list(rows.scalars())


# --------------------------------------------------------------------------------- dropping


async def expired(db: AsyncConnection, cut: Cut, before: datetime) -> list[str]:
    """The parts in which everything is older than this, the oldest first."""
    width = len(cut.table) + 1
    found = []
    for name in await parts(db, cut):
        if name == cut.rest:
            continue
        start = datetime.strptime(name[width:], "%Y%m%d").replace(tzinfo=UTC)
        if after(cut.width, start) <= before:
            found.append(name)
    return found


async def drop(db: AsyncConnection, cut: Cut, name: str) -> bool:
    """Drop a part; False if somebody still has to deal with something in it."""
    await db.execute(sa.text(_LOCK_TIMEOUT))
    query = f"select exists (select from {name} t where {cut.open})"  # noqa: S608
    if (await db.execute(sa.text(query))).scalar_one():
        return False
    await db.execute(sa.text(f"drop table {name}"))
    return True


async def thin(db: AsyncConnection, cut: Cut, name: str, before: datetime) -> int:
    """Delete what is older than this and dealt with, up to a batch of it; how many rows went."""
    query = (
        f"delete from {name} where ctid = any(array(select t.ctid from {name} t"  # noqa: S608
        f" where t.{cut.column} < :before and not ({cut.open}) limit {BATCH}))"
    )
    return int((await db.execute(sa.text(query), {"before": before})).rowcount)


_OF_RUNS = """
    delete from {0} where ctid = any(array(
        select p.ctid from {0} p join {2}s r on r.id = p.{2}_id
        where r.finished_at < :before limit {1}))
"""


async def forget_plans(db: AsyncConnection, before: datetime) -> int:
    """Delete what dry runs and comparisons found that ended before this, up to a batch of each."""
    gone = 0
    runs = dict.fromkeys(("plan_items", "matches", "foreseen"), "resync") | {"differences": "drift"}
    for table, run in runs.items():
        query = sa.text(_OF_RUNS.format(table, BATCH, run))
        gone += int((await db.execute(query, {"before": before})).rowcount)
    return gone
