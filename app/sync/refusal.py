"""A credential that the CRM refuses: the whole account waits, and is asked until it is let in."""

from __future__ import annotations

from datetime import timedelta

import structlog

from app.clock import now
from app.db import catchups, events, lanes, outbox, refusals
from app.domain.verdict import retry_at
from app.errors import AccountError, SyncError
from app.sync.house import House

log = structlog.get_logger()

#: The longest pause between two questions; the first is a second.
LONGEST = timedelta(minutes=10)
#: What could not be asked is asked again after this.
AGAIN = timedelta(seconds=15)


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


async def ask(house: House, account: str, *, probes: int) -> None:
    """See whether a refused account is let in again; ``probes`` is how often that was asked."""
    try:
        await house.members[account].connector.greet()
    except AccountError as refusal:
        await _refuse(house, account, refusal, probes=probes)
    except SyncError as trouble:
        log.info("account.unasked", account=account, reason=str(trouble)[:300])
        async with house.database.transaction() as db:
            await refusals.put_off(db, account, until=now() + AGAIN)
    else:
        await admit(house, account)


async def admit(house: House, account: str) -> bool:
    """It is let in: all of its work goes on, and its log is read. False if it was not refused."""
    async with house.database.transaction() as db:
        if not await refusals.admit(db, account):
            return False
        # An app that was removed there has lost its webhooks as well.
        await catchups.request(db, account, "refused")
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
