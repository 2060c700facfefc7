"""Our webhook subscription in a CRM: exactly one, active and whole, whose key we know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from app import metrics
from app.db import accounts, catchups
from app.db.lanes import Lane
from app.domain.values import Subscription
from app.errors import NotFoundError, RateLimitedError, SyncError, TransientError
from app.sync.house import House
from app.sync.trouble import LanePaused

log = structlog.get_logger()

#: CRMs pause subscriptions without a word, and drop what they had to tell.
WATCH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Mended:
    """The subscription as it is now, and what was amiss before."""

    subscription: Subscription
    troubles: tuple[str, ...]
    key_kept: bool = False


async def watch(house: House, lane: Lane) -> None:
    """Look after the subscription that somebody asked for, when it is time."""
    async with house.database.transaction() as db:
        url = await accounts.callback(db, lane.account, due=True)
    if url is None:
        return
    try:
        await mend(house, lane.account, url)
    except (RateLimitedError, TransientError) as error:
        raise LanePaused(error) from error
    except SyncError as error:  # also of a credential that is good for subscriptions alone
        log.warning("subscription.refused", account=lane.account, reason=error.reason)
        async with house.database.transaction() as db:
            await accounts.keep_callback(db, lane.account, url, look_in=WATCH)


async def mend(house: House, account: str, url: str) -> Mended:
    """Have the one subscription that calls us there; what it did not tell is caught up with.

    Raises RejectedError with instructions where the vendor has no call for it.
    """
    connector = house.members[account].connector
    there = await connector.subscriptions()
    async with house.database.transaction() as db:
        known = await accounts.webhook_keys(db, house.box, account)
        asked = await accounts.callback(db, account)
    ours = [one for one in there if _same(one.url, url)]
    configured = bool(house.members[account].config.webhook_secrets)
    keyed = known | {one.id for one in ours if configured or one.app_signed}
    best = next((one for one in ours if one.id in keyed), None)
    troubles = _troubles(best, ours, connector.wanted_events())
    shown = {one.id for one in there}
    if troubles and asked is not None:  # where nobody had subscribed before, nothing was missed
        async with house.database.transaction() as db:
            await catchups.request(db, account, "webhooks")
    if best is None:
        # A signing key is shown once: a subscription whose key nobody knows is of no use.
        await _remove(house, account, [one.id for one in ours])
        shown -= {one.id for one in ours}
    if best is None or troubles:
        best, key = await connector.subscribe(url)
    else:
        key = None
    async with house.database.transaction() as db:
        if key is not None:
            await accounts.keep_webhook_secret(db, house.box, account, best.id, key)
        await accounts.keep_callback(db, account, url, look_in=WATCH)
    # Whoever else calls us, or did before, and the keys of those that the CRM has dropped.
    others = ({one.id for one in ours} | known) - {best.id}
    await _remove(house, account, sorted(others), shown=shown)
    if asked is not None:
        _tell(account, best, [*troubles, *["double"] * bool(shown & others)])
    return Mended(best, troubles, key is not None)


async def remove(house: House, account: str, subscription_id: str) -> None:
    """Remove a subscription and forget its key; where it was ours, nobody is to renew it."""
    connector = house.members[account].connector
    async with house.database.transaction() as db:
        url = await accounts.callback(db, account)
    there = {one.id: one.url for one in await connector.subscriptions()}
    if url is not None and _same(there.get(subscription_id, url), url):
        async with house.database.transaction() as db:
            await accounts.keep_callback(db, account, None, look_in=WATCH)
    await connector.unsubscribe(subscription_id)
    async with house.database.transaction() as db:
        await accounts.forget_webhook_secrets(db, house.box, account, [subscription_id])


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _troubles(
    best: Subscription | None, ours: Sequence[Subscription], wanted: Collection[str]
) -> tuple[str, ...]:
    """What keeps webhooks from coming; a double is no such trouble."""
    if best is None:
        return ("keyless",) if ours else ("missing",)
    found = [] if best.active else ["paused"]
    if best.events and not set(wanted) <= set(best.events):
        found.append("partial")
    return tuple(found)


async def _remove(
    house: House, account: str, ids: Sequence[str], *, shown: Collection[str] | None = None
) -> None:
    """Remove those that are ``shown`` (all, unless told), and forget the keys of all."""
    for id in ids:
        if shown is not None and id not in shown:
            continue
        try:
            await house.members[account].connector.unsubscribe(id)
        except NotFoundError:
            log.debug("subscription.gone", account=account, subscription=id)
    async with house.database.transaction() as db:
        await accounts.forget_webhook_secrets(db, house.box, account, ids)


def _tell(account: str, best: Subscription, troubles: Sequence[str]) -> None:
    for trouble in troubles:
        metrics.SUBSCRIPTIONS_MENDED.labels(account, trouble).inc()
    if troubles:
        log.warning(
            "subscription.mended",
            account=account,
            subscription=best.id,
            troubles=list(troubles),
        )
