"""Accounts: what is connected, whether it works, pause and resume, subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field

from app import logs
from app.api import catchups, guards, problems
from app.api.access import ADMIN, OPERATE, READ
from app.api.catchups import EXAMPLE_CATCH_UP, CatchUpShape
from app.api.deps import ConnectorDep, Desk, DeskDep, known
from app.api.guards import GuardShape
from app.api.health import LaneShape
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_TIME, Listed
from app.config import STAGED
from app.db import accounts, deliveries, events, lanes, outbox, overview, refusals, rereads
from app.db import catchups as overdue
from app.db.refusals import Refusal
from app.db.rereads import Reread
from app.domain import owners, stages
from app.domain.values import Finding, Subscription
from app.errors import SyncError
from app.sync import fields, guardian, refusal

log = logs.get()

router = APIRouter(prefix="/accounts", tags=["accounts"])


class SecretsShape(BaseModel):
    """Which secrets are there, never what they are."""

    credentials: list[str] = Field(description="Names of the configured credentials")
    webhook_configured: int = Field(description="Webhook secrets in the configuration")
    webhook_learned: int = Field(description="Signing keys kept when we subscribed")


class RefusalShape(BaseModel):
    """Why the CRM lets us in no more, and when it is asked next."""

    model_config = ConfigDict(from_attributes=True)

    since: datetime
    reason: str
    asked_at: datetime


class RereadShape(BaseModel):
    """Since when all writes wait for this account's log, and why."""

    model_config = ConfigDict(from_attributes=True)

    since: datetime
    why: str = Field(
        description="silence: nobody was at work; lost, moved, loaded: the database is another"
    )


class AccountShape(BaseModel):
    """One signed-in tenancy of a connector."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "close",
                "connector": "close",
                "title": "Close",
                "mode": "live",
                "paused": False,
                "pause_reason": None,
                "refused": None,
                "reread": None,
                "entities": ["company", "person", "deal"],
                "webhook_path": "/webhooks/close",
                "webhook_url": "https://sync.example.com/webhooks/close",
                "last_delivery_at": EXAMPLE_TIME,
                "secrets": {
                    "credentials": ["api_key"],
                    "webhook_configured": 1,
                    "webhook_learned": 0,
                },
                "lanes": [],
                "catch_ups": [EXAMPLE_CATCH_UP],
                "missed_rate": 0.0125,
                "guards": [],
            }
        }
    )

    name: str
    connector: str
    title: str
    mode: str = Field(description="live; observe: reads and plans, never writes; paused")
    paused: bool = Field(description="A person or the configuration paused it")
    pause_reason: str | None
    refused: RefusalShape | None = Field(
        description="The CRM refuses its credential: all of its work waits"
    )
    reread: RereadShape | None = Field(
        description="Its log must be read to the present before anybody is written to"
    )
    entities: list[str] = Field(description="What it takes part in")
    webhook_path: str
    webhook_url: str | None = Field(description="Null while PUBLIC_URL is not set")
    last_delivery_at: datetime | None = Field(description="Null if nothing came lately")
    secrets: SecretsShape
    lanes: list[LaneShape]
    catch_ups: list[CatchUpShape] = Field(description="How far its own log was read, by entity")
    missed_rate: float | None = Field(
        description="Of the changes that its log told, the share that no webhook had told in "
        "time; null while it told none"
    )
    guards: list[GuardShape] = Field(description="What it takes in an hour, and what waits above")


class FindingShape(BaseModel):
    """One sentence of a test: what was checked, whether it is well, what to do."""

    check: str
    ok: bool
    detail: str
    remedy: str | None


class Findings(BaseModel):
    """What works and what is missing."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "account": "hubspot",
                "ok": False,
                "findings": [
                    {
                        "check": "scopes",
                        "ok": False,
                        "detail": "The token may not write deals.",
                        "remedy": "Add crm.objects.deals.write to the private app.",
                    }
                ],
            }
        }
    )

    account: str
    ok: bool
    findings: list[FindingShape]


class Pause(BaseModel):
    """Why, for the next person who looks."""

    reason: str | None = Field(None, max_length=500, pattern=r"^[^\x00]*$")


class Target(BaseModel):
    """Where the CRM shall call, if not at PUBLIC_URL."""

    url: str | None = Field(None, max_length=2000, pattern=r"^https?://[^/\s]\S*$")


class SubscriptionShape(BaseModel):
    """One webhook subscription as the vendor shows it."""

    id: str
    url: str
    active: bool
    events: list[str]
    ours: bool = Field(description="It points to this service")


class Subscribed(SubscriptionShape):
    """A subscription that was made or repaired."""

    key_kept: bool = Field(description="The vendor gave a new signing key; we keep it encrypted")


# ------------------------------------------------------------------------------- what is


@dataclass(frozen=True, slots=True)
class _Waits:
    """What accounts wait for, and who waits for them."""

    refusals: Mapping[str, Refusal]
    rereads: Mapping[str, Reread]

    def refused(self, name: str) -> RefusalShape | None:
        found = self.refusals.get(name)
        return None if found is None else RefusalShape.model_validate(found)

    def reread(self, name: str) -> RereadShape | None:
        found = self.rereads.get(name)
        return None if found is None else RereadShape.model_validate(found)


async def _show(desk: Desk, names: Sequence[str]) -> list[AccountShape]:
    async with desk.database.transaction() as db:
        paused = await accounts.paused(db)
        waits = _Waits(await refusals.all_of(db), await rereads.all_of(db))
        rows = await overview.list_lanes(db)
        last = await deliveries.last_received(db)
        guarded = await guards.shapes(db, desk, names)
        read = await catchups.shapes(db, names)
    return [
        _shape(desk, name, paused, waits, rows, last.get(name), guarded[name], read[name])
        for name in names
    ]


def _shape(
    desk: Desk,
    name: str,
    paused: Mapping[str, str | None],
    waits: _Waits,
    rows: Sequence[Mapping[str, Any]],
    last: datetime | None,
    guarded: list[GuardShape],
    read: list[CatchUpShape],
) -> AccountShape:
    account = desk.config.accounts[name]
    counts = desk.secrets.counts(name)
    by_config = "paused in the configuration" if account.mode == "paused" else None
    return AccountShape(
        name=name,
        connector=account.connector,
        title=desk.connectors[name].manifest.title,
        mode=account.mode,
        paused=name in paused or by_config is not None,
        pause_reason=paused.get(name) or by_config,
        refused=waits.refused(name),
        reread=waits.reread(name),
        entities=[e for e, how in desk.config.sync.items() if name in how.accounts],
        webhook_path=f"/webhooks/{name}",
        webhook_url=_url(desk, name),
        last_delivery_at=last,
        secrets=SecretsShape(
            credentials=sorted(account.credentials),
            webhook_configured=counts["configured"],
            webhook_learned=counts["learned"],
        ),
        lanes=[LaneShape.model_validate(dict(row)) for row in rows if row["account"] == name],
        catch_ups=read,
        missed_rate=catchups.missed_rate(read),
        guards=guarded,
    )


def _url(desk: Desk, name: str) -> str | None:
    base = desk.settings.public_url
    return f"{base}/webhooks/{name}" if base else None


@router.get("", dependencies=[READ])
async def index(desk: DeskDep) -> Listed[AccountShape]:
    """Every configured account, with its lanes, its pauses and which secrets are there."""
    return Listed(items=await _show(desk, list(desk.config.accounts)), next_cursor=None)


@router.get("/{name}", dependencies=[READ], responses=problems.responses(problems.UNKNOWN_ACCOUNT))
async def show(name: str, desk: DeskDep) -> AccountShape:
    """One account."""
    known(desk, name)
    return (await _show(desk, [name]))[0]


# ------------------------------------------------------------------------------ whether


def _findings(name: str, findings: Sequence[Finding]) -> Findings:
    shown = [
        FindingShape(check=f.check, ok=f.ok, detail=f.detail, remedy=f.remedy) for f in findings
    ]
    return Findings(account=name, ok=all(f.ok for f in findings), findings=shown)


@router.post(
    "/{name}/test", dependencies=[OPERATE], responses=problems.responses(problems.UNKNOWN_ACCOUNT)
)
async def test(name: str, desk: DeskDep, connector: ConnectorDep) -> Findings:
    """Ask the CRM: do credentials, permissions, objects and fields suffice? Writes nothing there.

    An account that waited because its credential was refused goes on if it signs in now.
    What it says of its pipelines, stages and owners is remembered, and compared with the
    configuration; and every row of the mapping with its fields and options.
    """
    found = await connector.check()
    if found[0].ok:
        await refusal.admit(desk.house, name)
    found += await _directory(desk, name)
    if found[0].ok:  # whoever cannot sign in cannot look at fields either
        found += await fields.check(desk.config, desk.house.members[name])
    return _findings(name, found)


async def _directory(desk: Desk, name: str) -> list[Finding]:
    """What was held for want of something that is there now is due again by this, too."""
    try:
        directory = await desk.house.learn(name, age=timedelta())
    except SyncError:
        return []  # the check above has said why
    of_stages = [
        finding
        for entity in STAGED
        if (sync := desk.house.sync_of(entity, name)) is not None
        for finding in stages.check(sync, name, stages.seen_by(entity, directory), entity=entity)
    ]
    return [*of_stages, *owners.check(desk.config.accounts[name].owners, directory)]


@router.post(
    "/{name}/prepare",
    dependencies=[ADMIN],
    responses=problems.responses(
        problems.UNKNOWN_ACCOUNT, problems.CRM_REFUSED, problems.CRM_FAILED
    ),
)
async def prepare(name: str, connector: ConnectorDep) -> Findings:
    """Create in the CRM what we need there (a unique id property, a custom field)."""
    log.info("account.prepared", account=name)
    return _findings(name, await connector.prepare())


# -------------------------------------------------------------------------------- pauses


@router.post(
    "/{name}/pause", dependencies=[OPERATE], responses=problems.responses(problems.UNKNOWN_ACCOUNT)
)
async def pause(name: str, desk: DeskDep, why: Pause | None = None) -> AccountShape:
    """Stop working on the account. Its webhooks are still accepted and kept."""
    known(desk, name)
    async with desk.database.transaction() as db:
        await accounts.pause(db, name, reason=why.reason if why else None)
    log.info("account.paused", account=name)
    return (await _show(desk, [name]))[0]


@router.post(
    "/{name}/resume", dependencies=[OPERATE], responses=problems.responses(problems.UNKNOWN_ACCOUNT)
)
async def resume(name: str, desk: DeskDep) -> AccountShape:
    """Work on the account again, at once, whatever had paused it.

    Where nothing had, and all writes wait for its log to be read: let them go.
    """
    known(desk, name)
    async with desk.database.transaction() as db:
        if not await accounts.resume(db, name) and await rereads.forgo(db, name):
            log.warning("account.forgone", account=name)
        await overdue.request(db, name, "resumed")
        await events.end_backoff(db, name)
        await outbox.end_backoff(db, name)
        await lanes.notify(db)
    log.info("account.resumed", account=name)
    return (await _show(desk, [name]))[0]


# ------------------------------------------------------------------------- subscriptions


def _subscription(found: Subscription, url: str | None) -> SubscriptionShape:
    return SubscriptionShape(
        id=found.id,
        url=found.url,
        active=found.active,
        events=list(found.events),
        ours=found.url.rstrip("/") == url,
    )


_CRM = problems.responses(problems.UNKNOWN_ACCOUNT, problems.CRM_REFUSED, problems.CRM_FAILED)


@router.get("/{name}/webhooks", dependencies=[READ], responses=_CRM)
async def list_webhooks(
    name: str, desk: DeskDep, connector: ConnectorDep
) -> Listed[SubscriptionShape]:
    """The account's webhook subscriptions as the CRM has them."""
    url = _url(desk, name)
    found = await connector.subscriptions()
    return Listed(items=[_subscription(one, url) for one in found], next_cursor=None)


@router.post(
    "/{name}/webhooks",
    dependencies=[ADMIN],
    status_code=status.HTTP_201_CREATED,
    responses={**_CRM, **problems.responses(problems.CONFLICT)},
)
async def subscribe(
    name: str, desk: DeskDep, connector: ConnectorDep, where: Target | None = None
) -> Subscribed:
    """Have the CRM send its webhooks to PUBLIC_URL/webhooks/{name}, and keep its signing key."""
    url = where.url if where and where.url else _url(desk, name)
    if url is None:
        raise ProblemError(
            problems.CONFLICT, "PUBLIC_URL is not set: the CRM could not be told where to call."
        )
    mended = await guardian.mend(desk.house, name, url)
    await desk.secrets.refresh()
    found, kept = mended.subscription, mended.key_kept
    log.info("account.subscribed", account=name, subscription=found.id, key_kept=kept)
    return Subscribed(**_subscription(found, url).model_dump(), key_kept=kept)


@router.delete(
    "/{name}/webhooks/{subscription_id}",
    dependencies=[ADMIN],
    status_code=status.HTTP_204_NO_CONTENT,
    responses=_CRM,
)
async def unsubscribe(
    name: str, subscription_id: str, desk: DeskDep, connector: ConnectorDep
) -> None:
    """Remove a subscription at the CRM, forget its signing key, and let nobody renew it."""
    await guardian.remove(desk.house, name, subscription_id)
    await desk.secrets.refresh()
    log.info("account.unsubscribed", account=name, subscription=subscription_id)
