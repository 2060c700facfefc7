"""Alerts and the messages about them: what is wrong, what was said of it, and to whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs
from app.db import dead_letters, drifts, overview, refusals, rereads
from app.db.pages import Page, Row, first, page, rows
from app.db.tables import accounts, alerts, conflicts, lanes, messages, outbox
from app.domain.alerts import Alert, Trouble, Word
from app.domain.fights import SAYS

#: Seconds of silence after which a worker counts as gone.
SILENT: Final = 30
#: So long a message that was taken is nobody else's.
_LEASE: Final = timedelta(minutes=2)
_LOCK: Final = 7_365_001
_BATCH: Final = 1000
_LONGEST: Final = 400  # characters of a summary


async def alone(db: AsyncConnection) -> bool:
    """Whether nobody else looks at this moment; until the transaction ends."""
    found = await db.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK)))
    return bool(found.scalar_one())


# ------------------------------------------------------------------------- what is wrong


async def troubles(db: AsyncConnection, known: Collection[str], *, lag: float) -> list[Trouble]:
    """Everything that is wrong now with these accounts, one for each cause."""
    found = [*await _no_worker(db), *await _paused(db), *await _refused(db)]
    found += [*await _reread(db), *await _lanes(db, lag)]
    found += [*await _dead(db), *await _held(db), *await _fights(db), *await _drift(db)]
    # A vendor's words may quote a person; alerts leave the house.
    plain: dict[str, Trouble] = {}
    for one in found:
        if one.account is None or one.account in known:
            key, summary = logs.scrub(one.key), logs.scrub(one.summary)[:_LONGEST]
            count = one.count + (plain[key].count if key in plain else 0)
            plain[key] = replace(one, key=key, summary=summary, count=count)
    return list(plain.values())


async def _no_worker(db: AsyncConnection) -> list[Trouble]:
    living = [w for w in await overview.list_workers(db) if w["silent_seconds"] < SILENT]
    text = "no worker is alive: nothing moves, and webhooks wait"
    return [] if living else [Trouble("no worker", "no worker", None, text, passing=True)]


async def _paused(db: AsyncConnection) -> list[Trouble]:
    query = sa.select(accounts.c.name, accounts.c.pause_reason).where(accounts.c.paused)
    return [
        Trouble(
            f"account paused:{row['name']}",
            "account paused",
            row["name"],
            f"{row['name']} is paused: {row['pause_reason'] or 'by a person'}",
        )
        for row in await rows(db, query)
    ]


async def _refused(db: AsyncConnection) -> list[Trouble]:
    return [
        Trouble(
            f"account refused:{name}",
            "account refused",
            name,
            f"{name} refuses our credential, and all of its work waits: {refusal.reason}",
        )
        for name, refusal in (await refusals.all_of(db)).items()
    ]


async def _reread(db: AsyncConnection) -> list[Trouble]:
    waited = await rereads.all_of(db, waited_for=True)
    if not waited:
        return []
    said = next(iter(waited.values())).sentence
    text = f"nothing is written until the logs of {', '.join(sorted(waited))} are read: {said}"
    return [Trouble("writes held", "writes held", None, text, passing=True)]


async def _lanes(db: AsyncConnection, lag: float) -> list[Trouble]:
    """Accounts whose lanes fail, and lanes that are late though nothing stops them."""
    query = (
        sa.select(lanes.c.account, lanes.c.direction, lanes.c.pause_reason)
        .join(accounts, accounts.c.name == lanes.c.account)
        .where(
            lanes.c.failures > 0,
            lanes.c.pause_reason.is_not(None),
            accounts.c.refused_at.is_(None),
        )
        .order_by(lanes.c.account, lanes.c.direction)
    )
    # One for each account: what stops one direction mostly stops the others too.
    failing = {
        row["account"]: Trouble(
            f"lane paused:{row['account']}",
            "lane paused",
            row["account"],
            f"{row['account']}/{row['direction']} is paused: {row['pause_reason']}",
            passing=True,
        )
        for row in await rows(db, query)
    }
    late = [
        Trouble(
            f"lag:{row['account']}/{row['direction']}",
            "lag",
            row["account"],
            f"{row['account']}/{row['direction']} is more than {lag:.0f} seconds late",
            row["pending"],
            passing=True,
        )
        for row in await overview.list_lanes(db)
        if row["lag_seconds"] > lag and row["direction"] != "scan" and not row["paused"]
        if row["account"] not in failing
    ]
    return [*failing.values(), *late]


async def _dead(db: AsyncConnection) -> list[Trouble]:
    return [
        Trouble(
            f"dead letters:{row['account']}:{row['cause']}",
            "dead letters",
            row["account"],
            f"{row['account']} has dead letters: {row['cause']}",
            row["count"],
        )
        for row in await dead_letters.by_account(db)
    ]


async def _held(db: AsyncConnection) -> list[Trouble]:
    query = (
        sa.select(outbox.c.account, outbox.c.guard, sa.func.count().label("held"))
        .where(outbox.c.state == "held")
        .group_by(outbox.c.account, outbox.c.guard)
    )
    return [
        Trouble(
            f"guard held:{row['account']}:{row['guard']}",
            "guard held",
            row["account"],
            f"the guard of {row['account']} holds {row['guard']}s until a person decides",
            row["held"],
        )
        for row in await rows(db, query)
    ]


async def _drift(db: AsyncConnection) -> list[Trouble]:
    return [
        Trouble(
            f"drift:{account}",
            "drift",
            account,
            f"{account} shows something else than we hold, and nothing under way explains it",
            count,
        )
        for account, count in (await drifts.last(db)).items()
        if count
    ]


async def _fights(db: AsyncConnection) -> list[Trouble]:
    reason = conflicts.c.detail["reason"].astext
    query = (
        sa.select(
            conflicts.c.account,
            conflicts.c.entity,
            conflicts.c.field,
            sa.func.count().label("count"),
        )
        .where(
            conflicts.c.state == "open",
            conflicts.c.kind == "field",
            sa.or_(*(reason.startswith(text) for text in SAYS)),
        )
        .group_by(conflicts.c.account, conflicts.c.entity, conflicts.c.field)
    )
    return [
        Trouble(
            f"fight:{row['account']}:{row['entity']}.{row['field']}",
            "fight",
            row["account"],
            f"something in {row['account']} keeps changing {row['entity']}.{row['field']} back",
            row["count"],
        )
        for row in await rows(db, query)
    ]


# --------------------------------------------------------------------------- what we know


async def living(db: AsyncConnection) -> dict[str, Alert]:
    """The alerts that are not over, told or not, by key."""
    query = sa.select(
        alerts.c.key, alerts.c.since, alerts.c.raised_at, alerts.c.told_at, alerts.c.told
    ).where(alerts.c.ended_at.is_(None))
    return {row["key"]: Alert(**row) for row in await rows(db, query)}


async def begin(db: AsyncConnection, trouble: Trouble) -> Alert:
    """Remember trouble that was not there before."""
    made = sa.insert(alerts).values(
        key=trouble.key,
        kind=trouble.kind,
        account=trouble.account,
        summary=trouble.summary,
        count=trouble.count,
    )
    since = (await db.execute(made.returning(alerts.c.since))).scalar_one()
    return Alert(trouble.key, since)


async def update(db: AsyncConnection, trouble: Trouble) -> None:
    """How it stands now."""
    await db.execute(
        sa.update(alerts)
        .where(_living(trouble.key))
        .values(summary=trouble.summary, count=trouble.count)
    )


async def forget(db: AsyncConnection, key: str) -> None:
    """It passed before anybody was told."""
    await db.execute(sa.delete(alerts).where(_living(key)))


async def say(db: AsyncConnection, key: str, word: Word, channels: Sequence[str]) -> None:
    """Note what is said, and one message of it for each channel."""
    now = sa.func.now()
    values: dict[str, Any] = {"told_at": now, "told": alerts.c.count}
    values |= {"raised_at": now} if word is Word.RAISED else {}
    values |= {"ended_at": now} if word is Word.RECOVERED else {}
    change = sa.update(alerts).where(_living(key)).values(values).returning(alerts)
    told = (await db.execute(change)).one()._asdict()
    made = {"alert_id": told["id"], "word": str(word), "content": _content(told, word)}
    await db.execute(sa.insert(messages).values([{**made, "channel": one} for one in channels]))


async def forget_over(db: AsyncConnection, before: datetime) -> int:
    """Delete alerts that were over before this, up to a batch, with what was said of them."""
    old = sa.select(alerts.c.id).where(alerts.c.ended_at < before).limit(_BATCH)
    ids = list((await db.execute(old)).scalars())
    await db.execute(sa.delete(messages).where(messages.c.alert_id.in_(ids)))
    await db.execute(sa.delete(alerts).where(alerts.c.id.in_(ids)))
    return len(ids)


def _content(told: Mapping[str, Any], word: Word) -> dict[str, Any]:
    times = {
        name: told[name] and told[name].isoformat() for name in ("since", "raised_at", "ended_at")
    }
    plain = {name: told[name] for name in ("id", "kind", "account", "summary", "count")}
    return {**plain, **times, "word": str(word), "at": told["told_at"].isoformat()}


def _living(key: str) -> sa.ColumnElement[bool]:
    return sa.and_(alerts.c.key == key, alerts.c.ended_at.is_(None))


async def listed(
    db: AsyncConnection, *, open: bool | None = None, cursor: str | None = None, limit: int = 50
) -> Page:
    """Alerts that were raised, the newest first."""
    wanted = sa.select(alerts).where(alerts.c.raised_at.is_not(None))
    if open is not None:
        over = alerts.c.ended_at.is_not(None)
        wanted = wanted.where(~over if open else over)
    return await page(db, wanted, by=[alerts.c.id.desc()], cursor=cursor, limit=limit)


# ------------------------------------------------------------------------ what is carried


async def take(db: AsyncConnection, channels: Collection[str]) -> Row | None:
    """A message that is due, ours alone for a while.

    None overtakes what was said before to the same channel of the same alert.
    """
    earlier = messages.alias("earlier")
    overtakes = sa.exists().where(
        earlier.c.alert_id == messages.c.alert_id,
        earlier.c.channel == messages.c.channel,
        earlier.c.id < messages.c.id,
        earlier.c.sent_at.is_(None),
    )
    query = (
        sa.select(messages)
        .where(
            messages.c.sent_at.is_(None),
            messages.c.channel.in_(channels),
            messages.c.due_at <= sa.func.now(),
            ~overtakes,
        )
        .order_by(messages.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=messages)
    )
    found = await first(db, query)
    if found is not None:
        await db.execute(
            sa.update(messages)
            .where(messages.c.id == found["id"])
            .values(due_at=sa.func.now() + _LEASE, attempts=messages.c.attempts + 1)
        )
    return found


async def sent(db: AsyncConnection, id: int) -> None:
    """The channel has it."""
    await db.execute(
        sa.update(messages).where(messages.c.id == id).values(sent_at=sa.func.now(), error=None)
    )


async def unsent(db: AsyncConnection, id: int, error: str, again: timedelta) -> None:
    """The channel did not take it: try again after a while."""
    await db.execute(
        sa.update(messages)
        .where(messages.c.id == id)
        .values(due_at=sa.func.now() + again, error=error[:500])
    )
