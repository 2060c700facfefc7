"""The outbox: records waiting to be pushed to an account."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import among, any_of, columns, insert_rows, rows_of
from app.db.links import SPELLED
from app.db.pages import Page, page
from app.db.tables import accounts, attempts, links, outbox
from app.domain.state import RecordState
from app.domain.values import Fields
from app.errors import HeldError, NotFoundError, RejectedError


@dataclass(frozen=True, slots=True)
class Mark:
    """This record is ahead of that account, up to version ``wanted``.

    ``intent`` is the trace of a create that was begun and whose outcome is not known yet.
    """

    account: str
    record_id: UUID
    entity: str
    wanted: int
    scan: bool
    marked_at: datetime
    attempts: int
    intent: str | None
    intent_at: datetime | None
    trace: str | None = None
    #: The kind of write that a person let through the account's guard.
    guard: str | None = None
    #: What it holds in words of its own may have better ones now.
    anew: bool = False


_COLUMNS = ("account", "record_id", "entity", "wanted", "scan", "trace")
_ROWS = insert_rows(outbox, *_COLUMNS)
_NEWER = _ROWS.excluded.wanted > outbox.c.wanted
_MARK = _ROWS.on_conflict_do_update(
    index_elements=[outbox.c.account, outbox.c.record_id],
    set_={
        "wanted": sa.func.greatest(outbox.c.wanted, _ROWS.excluded.wanted),
        "scan": sa.and_(outbox.c.scan, _ROWS.excluded.scan),
        "state": sa.case(
            (sa.and_(outbox.c.state == "dead", ~_NEWER), "dead"),
            (outbox.c.state == "loading", "loading"),
            else_="pending",
        ),
        "attempts": sa.case((_NEWER, 0), else_=outbox.c.attempts),
        "due_at": sa.func.least(outbox.c.due_at, sa.func.now()),
        "trace": sa.func.coalesce(_ROWS.excluded.trace, outbox.c.trace),
        # What a guard holds is weighed anew: it may be another kind of write by now.
        "guard": sa.case((outbox.c.state != "held", outbox.c.guard)),
    },
)


async def mark(
    db: AsyncConnection,
    behind: Mapping[tuple[str, UUID], RecordState],
    *,
    scan: bool = False,
    traces: Mapping[UUID, str | None] | None = None,
) -> None:
    """Mark (account, record) pairs as behind; many marks are one.

    A newer version revives a dead letter, an equal one does not. Live work keeps its place
    before scans.
    """
    if not behind:
        return
    rows = [
        {
            "account": account,
            "record_id": record_id,
            "entity": record.entity,
            "wanted": record.version,
            "scan": scan,
            "trace": (traces or {}).get(record_id),
        }
        for (account, record_id), record in sorted(behind.items(), key=lambda item: item[0])
    ]
    await db.execute(_MARK, columns(outbox, _COLUMNS, rows))


async def met(db: AsyncConnection, record_ids: Collection[UUID]) -> set[tuple[UUID, str]]:
    """(record, account): it is there, was there, is to be there, or a person did not want it."""
    ids = set(record_ids)
    dropped = attempts.c.outcome == "discarded"
    found = sa.union(
        sa.select(links.c.record_id, links.c.account).where(any_of(links.c.record_id, ids)),
        sa.select(outbox.c.record_id, outbox.c.account).where(any_of(outbox.c.record_id, ids)),
        sa.select(attempts.c.record_id, attempts.c.account).where(
            any_of(attempts.c.record_id, ids), dropped
        ),
    )
    return {(record_id, account) for record_id, account in await db.execute(found)}


async def tell_anew(db: AsyncConnection, behind: Mapping[tuple[str, UUID], RecordState]) -> None:
    """Mark them, and look again at what the account holds in words of its own."""
    await mark(db, behind)
    if behind:
        these = among([outbox.c.account, outbox.c.record_id], behind)
        await db.execute(sa.update(outbox).where(these).values(anew=True))


_RANK = sa.case({"company": 0, "person": 1, "deal": 2}, value=outbox.c.entity, else_=3)
#: The columns of a `Mark`, in its order.
MARKS = (
    outbox.c.account,
    outbox.c.record_id,
    outbox.c.entity,
    outbox.c.wanted,
    outbox.c.scan,
    outbox.c.marked_at,
    outbox.c.attempts,
    outbox.c.intent,
    outbox.c.intent_at,
    outbox.c.trace,
    outbox.c.guard,
    outbox.c.anew,
)


def _due(account: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        outbox.c.account == account,
        outbox.c.state == "pending",
        outbox.c.due_at <= sa.func.now(),
    )


async def take(db: AsyncConnection, account: str, *, limit: int) -> list[Mark]:
    """Due marks: live before scans, parents before children, oldest first."""
    rows = await db.execute(
        sa.select(*MARKS)
        .where(_due(account))
        .order_by(outbox.c.scan, _RANK, outbox.c.due_at)
        .limit(limit)
    )
    return [Mark(**row._mapping) for row in rows]


def _fresh(account: str) -> sa.ColumnElement[bool]:
    """Due, asked for by a scan, not there yet and never tried."""
    there = sa.exists().where(
        links.c.record_id == outbox.c.record_id,
        links.c.account == account,
        links.c.state == "live",
    )
    untried = sa.and_(outbox.c.scan, outbox.c.attempts == 0, outbox.c.intent.is_(None))
    return sa.and_(_due(account), untried, ~there)


async def take_heap(db: AsyncConnection, account: str, *, at_least: int, limit: int) -> list[Mark]:
    """Due marks of scans for what is not there yet and was never tried, all of one entity;
    nothing unless there are so many of them.
    """
    heaps = await db.execute(
        sa.select(outbox.c.entity)
        .where(_fresh(account))
        .group_by(outbox.c.entity)
        .having(sa.func.count() >= at_least)
        .order_by(_RANK)
        .limit(1)
    )
    if (entity := heaps.scalar_one_or_none()) is None:
        return []
    rows = await db.execute(
        sa.select(*MARKS)
        .where(_fresh(account), outbox.c.entity == entity)
        .order_by(outbox.c.due_at)
        .limit(limit)
    )
    return [Mark(**row._mapping) for row in rows]


async def gather(
    db: AsyncConnection, account: str, *, every: timedelta, at_most: timedelta
) -> None:
    """Let such marks wait for others of their kind: all are due at the same moments, until they
    have waited so long.
    """
    moment = sa.func.date_bin(every, sa.func.now(), sa.text("'epoch'::timestamptz")) + every
    await db.execute(
        sa.update(outbox)
        .where(_fresh(account), outbox.c.marked_at > sa.func.now() - at_most)
        .values(due_at=moment)
    )


async def waiting(
    db: AsyncConnection, account: str, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """What waits to be pushed to an account, the longest first."""
    query = sa.select(
        outbox.c.record_id,
        outbox.c.entity,
        outbox.c.state,
        outbox.c.guard,
        outbox.c.marked_at,
        outbox.c.due_at,
        outbox.c.attempts,
        outbox.c.error,
    ).where(outbox.c.account == account, outbox.c.state != "dead")
    by = [outbox.c.marked_at, outbox.c.record_id]
    return await page(db, query, by=by, cursor=cursor, limit=limit)


async def queued(
    db: AsyncConnection, account: str, record_ids: Collection[UUID]
) -> frozenset[UUID]:
    """Which of these records still wait to be pushed to the account."""
    rows = await db.execute(
        sa.select(outbox.c.record_id).where(
            outbox.c.account == account,
            any_of(outbox.c.record_id, set(record_ids)),
            outbox.c.state.in_(("pending", "loading", "held")),
        )
    )
    return frozenset(rows.scalars())


def _this(account: str, record_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(outbox.c.account == account, outbox.c.record_id == record_id)


#: What was worked out for a load is over with it.
_LANDED: Mapping[str, Any] = {
    "state": sa.case((outbox.c.state == "loading", "pending"), else_=outbox.c.state),
    "load": None,
    "loaded": None,
}

#: Held for want of a place there, or refused there: it goes by itself once that has changed.
_HELD = outbox.c.error["class"].astext.in_((HeldError.__name__, RejectedError.__name__))

_INTENDED = rows_of(outbox, "account", "record_id", "intent", "intended")
_INTEND = (
    sa.update(outbox)
    .where(outbox.c.account == _INTENDED["account"], outbox.c.record_id == _INTENDED["record_id"])
    .values(
        intent=_INTENDED["intent"],
        intent_at=sa.func.clock_timestamp(),
        intended=_INTENDED["intended"],
    )
)


async def intend(db: AsyncConnection, creates: Sequence[tuple[Mark, str, Fields]]) -> None:
    """Commit to creating these records there, with these values, before the first byte is sent."""
    if creates:
        rows = [
            {
                "account": mark.account,
                "record_id": mark.record_id,
                "intent": trace,
                "intended": dict(fields),
            }
            for mark, trace, fields in creates
        ]
        await db.execute(_INTEND, columns(outbox, tuple(_INTENDED), rows))


async def intended(
    db: AsyncConnection, account: str, record_ids: Collection[UUID]
) -> dict[UUID, Fields]:
    """What creates of these records there say, where it is not known yet what became of them."""
    rows = await db.execute(
        sa.select(outbox.c.record_id, outbox.c.intended).where(
            outbox.c.account == account,
            any_of(outbox.c.record_id, set(record_ids)),
            outbox.c.intended != {},
        )
    )
    return {row.record_id: row.intended for row in rows}


_CLEAR = sa.text(
    """
    delete from outbox o
    using unnest(cast(:ids as uuid[]), cast(:wanted as bigint[])) as pushed (record_id, wanted)
    where o.account = :account and o.record_id = pushed.record_id and o.wanted <= pushed.wanted
    """
)


async def clear(db: AsyncConnection, marks: Sequence[Mark]) -> int:
    """Clear only what was pushed: a newer mark survives (and is due), its intent does not.

    All are of one account; the answer is how many survived.
    """
    if not marks:
        return 0
    account, ids = marks[0].account, [mark.record_id for mark in marks]
    wanted = [mark.wanted for mark in marks]
    await db.execute(_CLEAR, {"account": account, "ids": ids, "wanted": wanted})
    left = await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == account, any_of(outbox.c.record_id, ids))
        .values(
            intent=None,
            intent_at=None,
            attempts=0,
            error=None,
            due_at=sa.func.now(),
            guard=None,
            held_at=None,
            **_LANDED,
        )
        .returning(outbox.c.record_id)
    )
    return len(left.all())


async def postpone(
    db: AsyncConnection,
    mark: Mark,
    *,
    until: datetime,
    error: Mapping[str, Any] | None = None,
    keep_intent: bool = False,
) -> None:
    """Try again later; with an error it counts as an attempt.

    ``keep_intent``: it is not known what became of a create; else a refused one has made nothing.
    """
    values: dict[str, Any] = {"due_at": until, "error": error, **_LANDED}
    if error is not None:
        values["attempts"] = outbox.c.attempts + 1
    if not keep_intent:
        values |= {"intent": None, "intent_at": None}
        values |= {"intended": {}} if error is not None else {}
    await db.execute(sa.update(outbox).where(_this(mark.account, mark.record_id)).values(values))


async def wait(
    db: AsyncConnection, mark: Mark, *, until: datetime, error: Mapping[str, Any]
) -> None:
    """Look again later, with the reason; it is no attempt."""
    await db.execute(
        sa.update(outbox)
        .where(_this(mark.account, mark.record_id))
        .values(due_at=until, error=error)
    )


async def end_waits(db: AsyncConnection, account: str, entities: Collection[str]) -> None:
    """What these marks may have waited for is over: they are due now."""
    await db.execute(
        sa.update(outbox)
        .where(
            outbox.c.account == account,
            outbox.c.entity.in_(set(entities)),
            outbox.c.state == "pending",
            outbox.c.error.is_not(None),
        )
        .values(due_at=sa.func.now())
    )


async def cancel(db: AsyncConnection, account: str, record_id: UUID) -> bool:
    """Nothing is to be created there any more; False if that has begun already."""
    await db.execute(sa.delete(outbox).where(_this(account, record_id), outbox.c.intent.is_(None)))
    left = await db.execute(sa.select(outbox.c.record_id).where(_this(account, record_id)))
    return left.first() is None


async def behind(db: AsyncConnection, record_ids: Collection[UUID]) -> list[tuple[str, UUID, int]]:
    """The accounts that are behind these records, and up to which version."""
    rows = await db.execute(
        sa.select(outbox.c.account, outbox.c.record_id, outbox.c.wanted).where(
            any_of(outbox.c.record_id, set(record_ids)), outbox.c.state == "pending"
        )
    )
    return [(account, record_id, wanted) for account, record_id, wanted in rows]


async def bury(
    db: AsyncConnection, mark: Mark, error: Mapping[str, Any], *, in_doubt: bool = False
) -> None:
    """A dead letter, unless the record has moved on meanwhile: then the newer version tries.

    ``in_doubt``: a person is asked what became of a create; it is remembered when that was, so
    that whoever tries again asks again.
    """
    values: dict[str, Any] = {} if in_doubt else {"intent_at": None, "intended": {}}
    await db.execute(
        sa.update(outbox)
        .where(_this(mark.account, mark.record_id))
        .values(
            state=sa.case((outbox.c.wanted > mark.wanted, "pending"), else_="dead"),
            error=error,
            attempts=outbox.c.attempts + 1,
            intent=None,
            load=None,
            loaded=None,
            **values,
        )
    )


async def forget_dead(db: AsyncConnection, account: str, record_id: UUID) -> None:
    """What could not be told to one that is gone there needs nobody; a create in doubt does."""
    dead = sa.and_(outbox.c.state == "dead", outbox.c.intent_at.is_(None))
    await db.execute(sa.delete(outbox).where(_this(account, record_id), dead))


async def wake_unseen(db: AsyncConnection, account: str, record_ids: Collection[UUID]) -> None:
    """What was not shown when it was to be written to is shown again: it is tried anew."""
    if not record_ids:
        return
    unseen = outbox.c.error["class"].astext == NotFoundError.__name__
    await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == account, any_of(outbox.c.record_id, record_ids))
        .where(outbox.c.state == "dead", unseen)
        .values(state="pending", attempts=0, error=None, due_at=sa.func.now())
    )


async def end_doubt(db: AsyncConnection, account: str, record_id: UUID) -> None:
    """A person said that no create has left anything there."""
    await db.execute(
        sa.update(outbox).where(_this(account, record_id)).values(intent=None, intent_at=None)
    )


async def release_held(db: AsyncConnection, account: str) -> int:
    """Make due what waits for another mapping, or other fields there; how many marks."""
    freed = await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == account, outbox.c.state == "dead", _HELD)
        .values(state="pending", attempts=0, error=None, due_at=sa.func.now())
    )
    return freed.rowcount


async def to_learn(db: AsyncConnection, names: Collection[str], age: timedelta) -> list[str]:
    """The accounts that hold marks, or words of their own for our values, and whose directory was
    not looked at for so long.
    """
    held = sa.exists().where(outbox.c.account == accounts.c.name, outbox.c.state == "dead", _HELD)
    spelled = sa.exists().where(links.c.account == accounts.c.name, SPELLED)
    seen = sa.func.coalesce(accounts.c.directory_at, sa.text("'-infinity'::timestamptz"))
    query = sa.select(accounts.c.name).where(
        accounts.c.name.in_(names), seen <= sa.func.now() - age, held | spelled
    )
    return list((await db.execute(query)).scalars())


_HAND_OVER = sa.text(
    """
    update outbox o set record_id = :survivor, wanted = :wanted, due_at = now(),
        state = case state when 'loading' then state else 'pending' end
    where record_id = :lost and not exists (
        select from outbox n where n.account = o.account and n.record_id = :survivor)
    """
)


async def hand_over(db: AsyncConnection, lost: UUID, survivor: RecordState) -> None:
    """The marks of a record that was merged away are the survivor's, begun creates as well."""
    values = {"lost": lost, "survivor": survivor.id, "wanted": survivor.version}
    await db.execute(_HAND_OVER, values)
    await db.execute(sa.delete(outbox).where(outbox.c.record_id == lost))


async def hurry(db: AsyncConnection, account: str, record_ids: Collection[UUID]) -> None:
    """What these records waited for has happened: they are due now."""
    await db.execute(
        sa.update(outbox)
        .where(
            outbox.c.account == account,
            any_of(outbox.c.record_id, set(record_ids)),
            outbox.c.state == "pending",
        )
        .values(due_at=sa.func.now())
    )


#: Put off because something went wrong, and not only until its turn comes.
_BACKED_OFF = sa.and_(outbox.c.state == "pending", outbox.c.attempts > 0)


async def end_backoff(db: AsyncConnection, account: str) -> None:
    """What kept these marks waiting is over: they are due now."""
    await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == account, _BACKED_OFF, outbox.c.due_at > sa.func.now())
        .values(due_at=sa.func.now())
    )


async def is_live_due(db: AsyncConnection, account: str) -> bool:
    """Whether something waits that no scan has asked for."""
    found = await db.execute(
        sa.select(
            sa.exists().where(
                outbox.c.account == account,
                outbox.c.state == "pending",
                ~outbox.c.scan,
                outbox.c.due_at <= sa.func.now(),
            )
        )
    )
    return bool(found.scalar_one())


async def put_off_scans(db: AsyncConnection, account: str, until: datetime) -> None:
    """What scans have asked for waits so long; it is no attempt."""
    await db.execute(
        sa.update(outbox)
        .where(outbox.c.account == account, outbox.c.state == "pending", outbox.c.scan)
        .values(due_at=sa.func.greatest(outbox.c.due_at, until))
    )


async def delay(db: AsyncConnection, record_id: UUID, until: datetime) -> None:
    """Whatever waits of this record waits at least so long."""
    await db.execute(
        sa.update(outbox)
        .where(outbox.c.record_id == record_id, outbox.c.state == "pending")
        .values(due_at=sa.func.greatest(outbox.c.due_at, until))
    )


async def begun(db: AsyncConnection, record_id: UUID) -> list[str]:
    """The accounts in which a create of this record was begun and is not settled yet."""
    found = await db.execute(
        sa.select(outbox.c.account)
        .where(outbox.c.record_id == record_id, outbox.c.intent.is_not(None))
        .order_by(outbox.c.account)
    )
    return list(found.scalars())


async def creating_since(db: AsyncConnection, account: str) -> datetime | None:
    """When the oldest create that has not been settled yet was begun.

    A ref that we do not know, and that was known to exist after that, may be our own work,
    seen before its answer. What goes as a file carries our id: it is known without that.
    """
    found = await db.execute(
        sa.select(sa.func.min(outbox.c.intent_at)).where(
            outbox.c.account == account,
            outbox.c.intent.is_not(None),
            outbox.c.state != "loading",
        )
    )
    moment: datetime | None = found.scalar_one()
    return moment
