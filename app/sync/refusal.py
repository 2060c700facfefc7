"""A CRM that refuses our credential, or does not answer: one call asks it until it does."""

from __future__ import annotations

from datetime import timedelta

import structlog

from app.clock import now
from app.db import catchups, events, lanes, outbox, refusals
from app.domain.verdict import retry_at
from app.errors import AccountError, RateLimitedError, SyncError, TransientError
from app.sync.house import House

log = structlog.get_logger()

#: The longest pause between two questions; the first is a second.
LONGEST = timedelta(minutes=10)
#: What could not be asked is asked again after this.
AGAIN = timedelta(seconds=15)
#: The longest pause between two questions while a CRM is away: work resumes soon after it is back.
PROBE = timedelta(seconds=5)
#: After so long webhooks may be lost as well.
OUTAGE = timedelta(seconds=30)


async def is_refused(house: House, account: str, error: AccountError) -> bool:
    """Whether it is the credential that was refused, and not one kind of call alone.

    One cheap call that every working credential passes tells. If that is refused too, all lanes
    of the account wait from now on.
    """
    try:
        await house.members[account].connector.greet()
    except AccountError as refusal:
        await _refuse(house, account, refusal, probes=0)
        return True
    except SyncError as trouble:
        log.info("account.unasked", account=account, reason=str(trouble)[:300])
    return False


async def is_silent(house: House, account: str) -> bool:
    """Whether the CRM answers nothing, and not one kind of call alone.

    If a cheap call is not answered either, what calls it waits from now on.
    """
    async with house.database.transaction() as db:
        if await refusals.is_away(db, account):
            return True  # it is asked by whoever's turn it is
    try:
        await house.members[account].connector.greet()
    except TransientError as trouble:
        return not isinstance(trouble, RateLimitedError) and await _miss(house, account, trouble)
    except SyncError:
        return False  # an answer, all the same
    await admit(house, account)
    return False


async def ask(house: House, account: str, *, probes: int) -> None:
    """See whether an account is let in, or answered; ``probes`` is how often it was asked."""
    try:
        await house.members[account].connector.greet()
    except AccountError as refusal:
        await _refuse(house, account, refusal, probes=probes)
    except SyncError as trouble:
        await _miss(house, account, trouble, probes=probes)
    else:
        await admit(house, account)


async def admit(house: House, account: str) -> bool:
    """It is let in, and answered: all of its work goes on. False if nothing had stopped it."""
    async with house.database.transaction() as db:
        over = await refusals.admit(db, account)
        if over is None:
            return False
        if over.refused_at is not None:
            # An app that was removed there has lost its webhooks as well.
            await catchups.request(db, account, "refused")
        elif over.away_at is not None and now() - over.away_at >= OUTAGE:
            await catchups.request(db, account, "outage")
        await events.end_backoff(db, account)
        await outbox.end_backoff(db, account)
        await lanes.notify(db)
    log.info("account.admitted", account=account)
    return True


async def _refuse(house: House, account: str, error: AccountError, *, probes: int) -> None:
    until = retry_at(probes, now(), cap=LONGEST)
    async with house.database.transaction() as db:
        new = await refusals.refuse(db, account, error.reason[:500], until=until)
    if new:
        log.warning("account.refused", account=account, reason=error.reason[:300])


async def _miss(house: House, account: str, trouble: SyncError, *, probes: int = 0) -> bool:
    async with house.database.transaction() as db:
        if await refusals.put_off(db, account, until=now() + AGAIN):
            log.info("account.unasked", account=account, reason=str(trouble)[:300])
            return False
        until = retry_at(probes, now(), cap=PROBE)
        new = await refusals.miss(db, account, until=until)
    if new:
        log.warning("account.away", account=account, reason=trouble.reason[:300])
    return True
