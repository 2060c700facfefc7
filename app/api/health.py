"""Health for orchestrators and people, and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs, metrics
from app.api import problems
from app.api.deps import Desk, DeskDep
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_TIME
from app.db import guards, migrations, overview, quotas
from app.db.engine import is_away

log = logs.get()

PATIENCE = 2.0  # seconds; a health check that hangs is worse than one that fails
NEWER = "newer"  # the schema of a program that replaces this one
ALIVE = 30.0  # seconds of silence after which a worker counts as gone

router = APIRouter(tags=["health"])


class Live(BaseModel):
    """The process runs and its loop turns."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Webhooks and calls can be accepted."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ready",
                "checks": {"database": "ok", "schema": "ok", "inbox": "ok"},
            }
        }
    )

    status: Literal["ready"] = "ready"
    checks: dict[str, str]


@router.get("/health/live")
@router.get("/healthz", summary="Live (alias)")
async def live() -> Live:
    """Whether the process runs. Looks at nothing else: a restart would not mend a database."""
    return Live()


@router.get("/health/ready", responses=problems.responses(problems.UNAVAILABLE))
@router.get("/readyz", summary="Ready (alias)", responses=problems.responses(problems.UNAVAILABLE))
async def ready(desk: DeskDep) -> Ready:
    """Whether webhooks can be accepted: database reachable, schema current, room in the queue.

    Otherwise 503, with the same `checks`. A schema that a newer program has migrated is `newer`:
    during a rolling upgrade the older one goes on.
    """
    checks = await _checks(desk)
    wrong = {name: word for name, word in checks.items() if word not in ("ok", NEWER)}
    if wrong:
        why = "; ".join(f"{name}: {word}" for name, word in wrong.items())
        raise ProblemError(problems.UNAVAILABLE, f"Not ready: {why}.", checks=checks)
    return Ready(checks=checks)


async def _checks(desk: Desk) -> dict[str, str]:
    checks = {"inbox": desk.inbox.trouble or "ok"}
    try:
        async with asyncio.timeout(PATIENCE), desk.database.transaction() as db:
            at = await overview.revision(db)
    except TimeoutError:
        return {"database": f"no answer within {PATIENCE:.0f} s", "schema": "unknown", **checks}
    except Exception as error:
        if not is_away(error):
            raise
        if getattr(getattr(error, "orig", None), "sqlstate", None) == "42P01":
            return {"database": "ok", "schema": "not migrated", **checks}
        return {"database": "unreachable", "schema": "unknown", **checks}
    return {"database": "ok", "schema": _standing(desk, at), **checks}


def _standing(desk: Desk, at: str | None) -> str:
    """How the schema suits this program; one that a newer program has expanded suits it too."""
    if at == desk.schema:
        return "ok"
    if at is not None and at not in migrations.known():
        return NEWER
    return f"at {at}, the code needs {desk.schema}: `syncline migrate`"


# --------------------------------------------------------------------------------- lanes


class WorkerShape(BaseModel):
    """One worker process."""

    id: str
    started_at: datetime
    seen_at: datetime = Field(description="Its last heartbeat")
    alive: bool


class LaneShape(BaseModel):
    """The right to work on one account in one direction."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "account": "hubspot",
                "direction": "out",
                "pending": 3,
                "held": 0,
                "lag_seconds": 0.4,
                "owner": "worker-1",
                "worked_at": EXAMPLE_TIME,
                "failures": 0,
                "paused": False,
                "paused_until": None,
                "pause_reason": None,
            }
        }
    )

    account: str
    direction: str = Field(
        description="in: reading what came; out: writing; scan: resyncs; listen: an event bus"
    )
    pending: int = Field(description="Rows that wait")
    held: int = Field(description="Rows that the account's guard holds until a person decides")
    lag_seconds: float = Field(description="How long the oldest of them has waited")
    owner: str | None = Field(description="The worker that holds it now")
    worked_at: datetime | None
    failures: int = Field(description="Failures in a row")
    paused: bool
    paused_until: datetime | None
    pause_reason: str | None = Field(description="Why it is paused")


class QuotaShape(BaseModel):
    """What may be called in one rolling window, or in a day."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "account": "hubspot",
                "window": "day",
                "calls": 250000,
                "per": None,
                "used": 91730,
                "left": 158270,
                "paused_until": None,
                "resets_at": EXAMPLE_TIME,
                "ends_at": None,
            }
        },
    )

    account: str
    window: str = Field(description="A group of calls, with its path where each counts; or `day`")
    calls: int | None = Field(description="The most it may have; null if nobody says")
    per: float | None = Field(description="Seconds in which; null for the day")
    used: int
    left: float | None
    paused_until: datetime | None = Field(description="The vendor said so")
    resets_at: datetime | None = Field(description="When the day is over")
    ends_at: datetime | None = Field(
        description="When the day's calls are used up, at the pace of the last hour; "
        "null if the day is over before"
    )


class Lanes(BaseModel):
    """Who works, on what, and how far behind."""

    status: Literal["ok", "no worker"]
    workers: list[WorkerShape]
    lanes: list[LaneShape]
    quotas: list[QuotaShape]


def _plain(lane: Mapping[str, Any]) -> dict[str, Any]:
    """A lane as anybody may see it: without what a vendor said of somebody's record."""
    reason = lane["pause_reason"]
    return {**lane, "pause_reason": reason and logs.scrub(reason)}


@router.get("/health/lanes", responses=problems.responses(problems.UNAVAILABLE))
async def lanes(desk: DeskDep) -> Lanes:
    """Workers' heartbeats, each lane's backlog, lag and pause, and what the quotas leave."""
    async with asyncio.timeout(PATIENCE), desk.database.transaction() as db:
        workers = await overview.list_workers(db)
        rows = await overview.list_lanes(db)
        windows = await quotas.stand(db)
    shown = [
        WorkerShape(
            id=row["id"],
            started_at=row["started_at"],
            seen_at=row["seen_at"],
            alive=row["silent_seconds"] < ALIVE,
        )
        for row in workers
    ]
    return Lanes(
        status="ok" if any(worker.alive for worker in shown) else "no worker",
        workers=shown,
        lanes=[LaneShape.model_validate(_plain(row)) for row in rows],
        quotas=[QuotaShape(account=name, **asdict(window)) for name, window in windows],
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
)
async def exposed(desk: DeskDep) -> Response:
    """Prometheus metrics. Backlogs are read from the database now, so every replica agrees."""
    try:
        async with asyncio.timeout(PATIENCE), desk.database.transaction() as db:
            await _gauge(desk, db)
    except Exception as error:
        # The counters of this process are worth reading, above all on a bad day.
        if not is_away(error):
            raise
        log.warning("metrics.incomplete", error=logs.words(error))
    body, media_type = metrics.expose()
    return Response(body, media_type=media_type)


async def _gauge(desk: Desk, db: AsyncConnection) -> None:
    dead = await overview.dead_letters(db)
    for account in {*dead, *desk.config.accounts}:
        metrics.DEAD_LETTERS.labels(account).set(dead.get(account, 0))
    for lane in await overview.list_lanes(db):
        lag = metrics.LANE_LAG_SECONDS.labels(lane["account"], lane["direction"])
        lag.set(lane["lag_seconds"])
        if lane["direction"] == "out":
            metrics.OUTBOX_DEPTH.labels(lane["account"]).set(lane["pending"])
    for (account, op), guard in (await guards.states(db)).items():
        metrics.GUARD_HELD.labels(account, op).set(guard["held"])
    for account, window in await quotas.stand(db):
        metrics.QUOTA_USED.labels(account, window.window).set(window.used)
        if window.calls is not None:
            metrics.QUOTA_CALLS.labels(account, window.window).set(window.calls)
        if window.resets_at is not None:
            ends = window.ends_at or window.resets_at
            metrics.QUOTA_ENDS.labels(account).set(ends.timestamp())
    for worker in await overview.list_workers(db):
        metrics.WORKER_HEARTBEAT.labels(worker["id"]).set(worker["seen_at"].timestamp())
