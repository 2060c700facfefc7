"""Catch-up: how far each account's own log was read, and reading it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs
from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DeskDep, known
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_TIME, ErrorShape, error_shape
from app.db import catchups
from app.db.pages import Row

log = logs.get()

router = APIRouter(prefix="/accounts", tags=["accounts"])

EXAMPLE_CATCH_UP: dict[str, Any] = {
    "entity": "person",
    "through": EXAMPLE_TIME,
    "due_at": EXAMPLE_TIME,
    "running": False,
    "reason": "schedule",
    "listed": 400,
    "missed": 5,
    "last": {
        "reason": "outage",
        "since": EXAMPLE_TIME,
        "began": EXAMPLE_TIME,
        "finished": EXAMPLE_TIME,
        "listed": 12,
        "missed": 5,
    },
    "error": None,
}


class LastReading(BaseModel):
    """One reading that is over."""

    reason: str
    since: datetime
    began: datetime
    finished: datetime
    listed: int
    missed: int


class CatchUpShape(BaseModel):
    """How far the log of an account was read for one entity."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_CATCH_UP})

    entity: str
    through: datetime = Field(description="All that happened there until then was taken in")
    due_at: datetime | None = Field(description="When it is read next; null: only after trouble")
    running: bool
    reason: str = Field(
        description="Why it is read next: schedule, start, resumed, outage, webhooks, person …;"
        " moment: what it lists of that second may not be all"
    )
    listed: int = Field(description="Changes that the log told so far")
    missed: int = Field(description="Those of them that no webhook had told in time")
    last: LastReading | None = Field(description="The reading before this one")
    error: ErrorShape | None = Field(description="Why the last one was refused")


class CatchUpState(BaseModel):
    """An account's catch-up."""

    account: str
    done: bool = Field(description="Nothing is due, or read, or must be read again in a moment")
    missed_rate: float | None
    items: list[CatchUpShape]


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class NewCatchUp(BaseModel):
    """How far back to go."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[datetime, AfterValidator(_aware)] | None = Field(
        None, description="Read the log again from then on; without a zone it is UTC"
    )


def _shape(row: Row) -> CatchUpShape:
    return CatchUpShape(
        entity=row["entity"],
        through=row["through"],
        due_at=row["due_at"],
        running=row["run"] is not None,
        reason=row["reason"],
        listed=row["listed"],
        missed=row["missed"],
        last=row["last"],
        error=error_shape(row["error"]),
    )


async def shapes(db: AsyncConnection, names: Sequence[str]) -> Mapping[str, list[CatchUpShape]]:
    """How far the logs of these accounts were read."""
    found: dict[str, list[CatchUpShape]] = {name: [] for name in names}
    for row in await catchups.listed(db):
        if row["account"] in found:
            found[row["account"]].append(_shape(row))
    return found


def missed_rate(read: Sequence[CatchUpShape]) -> float | None:
    """Which share of what the logs told was missed."""
    listed = sum(one.listed for one in read)
    return round(sum(one.missed for one in read) / listed, 4) if listed else None


def _is_due(one: CatchUpShape, now: datetime) -> bool:
    soon = one.due_at is not None and (one.due_at <= now or one.reason == catchups.MOMENT)
    return one.running or soon


async def _state(db: AsyncConnection, name: str, now: datetime) -> CatchUpState:
    read = (await shapes(db, [name]))[name]
    return CatchUpState(
        account=name,
        done=not any(_is_due(one, now) for one in read),
        missed_rate=missed_rate(read),
        items=read,
    )


@router.get(
    "/{name}/catch-up", dependencies=[READ], responses=problems.responses(problems.UNKNOWN_ACCOUNT)
)
async def show(name: str, desk: DeskDep) -> CatchUpState:
    """How far the account's own log was read, and how much no webhook had told."""
    known(desk, name)
    async with desk.database.transaction() as db:
        return await _state(db, name, await catchups.clock(db))


@router.post(
    "/{name}/catch-up",
    dependencies=[OPERATE],
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems.responses(problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
)
async def start(name: str, desk: DeskDep, wanted: NewCatchUp | None = None) -> CatchUpState:
    """Read the account's own log now, for what no webhook has told."""
    known(desk, name)
    since = wanted.since if wanted else None
    async with desk.database.transaction() as db:
        if not await catchups.request(db, name, "person", since=since):
            raise ProblemError(problems.CONFLICT, f"{name} syncs nothing, or no worker ever ran.")
        state = await _state(db, name, await catchups.clock(db))
    log.info("catchup.asked", account=name, since=since and since.isoformat())
    return state
