"""Alerts: what is wrong, what was, and whether somebody is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, DeskDep, PagingDep
from app.api.shapes import EXAMPLE_TIME, Listed, listed
from app.db import alerts
from app.sync.alerts import try_out

router = APIRouter(prefix="/alerts", tags=["alerts"])


class AlertShape(BaseModel):
    """One thing that is or was wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 3,
                "kind": "dead letters",
                "account": "hubspot",
                "summary": "hubspot has dead letters: RejectedError: email",
                "count": 12,
                "since": EXAMPLE_TIME,
                "raised_at": EXAMPLE_TIME,
                "ended_at": None,
            }
        }
    )

    id: int
    kind: str = Field(
        description="no worker, account paused, account refused, lane paused, lag, dead letters, "
        "guard held, drift, fight, writes held"
    )
    account: str | None
    summary: str
    count: int = Field(description="How many are concerned now, or were at last")
    since: datetime
    raised_at: datetime = Field(description="When it was told")
    ended_at: datetime | None = Field(description="When it was over; null while it lasts")


class ChannelShape(BaseModel):
    """Whether one channel took the test."""

    channel: str = Field(description="log, webhook or slack")
    ok: bool
    reason: str | None = Field(description="Why not")


def _alert(row: Mapping[str, Any]) -> AlertShape:
    return AlertShape(**{name: row[name] for name in AlertShape.model_fields})


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    open: Annotated[
        bool | None, Query(description="Only those that last, or that are over")
    ] = None,
) -> Listed[AlertShape]:
    """Alerts, the newest first."""
    async with database.transaction() as db:
        page = await alerts.listed(db, open=open, cursor=paging.cursor, limit=paging.limit)
    return listed(page, _alert)


@router.post("/test", dependencies=[OPERATE])
async def test(desk: DeskDep) -> Listed[ChannelShape]:
    """Send every channel a test, and say which of them took it."""
    found = await try_out(desk.config)
    items = [ChannelShape(channel=n, ok=said is None, reason=said) for n, said in found.items()]
    return Listed(items=items, next_cursor=None)
