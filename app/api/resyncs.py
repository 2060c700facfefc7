"""Resyncs: start one, follow it, read what a dry run would do, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response, status
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from uuid_utils.compat import uuid7

from app import clock
from app.api import matches, problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, Desk, DeskDep, PagingDep, known
from app.api.matches import MatchReport
from app.api.problems import ProblemError
from app.api.shapes import (
    EXAMPLE_RECORD,
    EXAMPLE_RESYNC,
    EXAMPLE_TIME,
    ErrorShape,
    Listed,
    Text,
    error_shape,
    listed,
)
from app.db import foreseen, lanes, listings

router = APIRouter(prefix="/resyncs", tags=["resyncs"])

State = Literal["queued", "running", "done", "failed", "cancelled"]
COUNTS = ("seen", "created", "updated", "linked", "unchanged", "held", "failed")
MOST_IDS = 10_000


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


RemoteId = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class NewResync(BaseModel):
    """What to look at again."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"account": "close", "dry_run": True},
                {"account": "hubspot", "entity": "person", "ids": ["33451", "33452"]},
                {"account": "hubspot", "entity": "deal", "since": "2026-11-01T00:00:00Z"},
            ]
        },
    )

    account: str = Field(description="The account to scan")
    entity: str | None = Field(
        None, description="company, person, deal …; default: all that this account syncs"
    )
    ids: list[RemoteId] | None = Field(
        None,
        min_length=1,
        max_length=MOST_IDS,
        description="Only these records, by the account's own ids; needs `entity`",
    )
    since: Annotated[datetime, AfterValidator(_aware)] | None = Field(
        None, description="Only what changed since then; without a zone it is UTC"
    )
    dry_run: bool = Field(False, description="Write nothing anywhere; make a plan to read")

    @model_validator(mode="after")
    def _ids_need_an_entity(self) -> NewResync:
        if self.ids is not None and self.entity is None:
            raise ValueError("ids need an entity: say what they are ids of")
        return self


class ResyncShape(BaseModel):
    """A resync and how far it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_RESYNC,
                "account": "close",
                "entities": ["company", "person", "deal"],
                "ids": None,
                "since": None,
                "dry_run": False,
                "match_id": None,
                "state": "running",
                "counts": {
                    "seen": 400,
                    "created": 12,
                    "updated": 3,
                    "linked": 80,
                    "unchanged": 304,
                    "held": 1,
                    "failed": 0,
                },
                "total": 1000,
                "rate": 41.7,
                "eta_seconds": 14.4,
                "errors": [],
                "created_at": EXAMPLE_TIME,
                "started_at": EXAMPLE_TIME,
                "finished_at": None,
            }
        }
    )

    id: UUID
    account: str
    entities: list[str]
    ids: list[str] | None
    since: datetime | None
    dry_run: bool
    match_id: UUID | None = Field(description="The match that this dry run is a part of")
    state: State
    counts: dict[str, int]
    total: int | None = Field(description="How many it will look at, where the CRM tells")
    rate: float | None = Field(description="Records per second so far")
    eta_seconds: float | None
    errors: list[ErrorShape]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class PlanItem(BaseModel):
    """One thing that a run without `dry_run` would do."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "op": "update",
                "account": "hubspot",
                "entity": "person",
                "record_id": EXAMPLE_RECORD,
                "remote_id": "33451",
                "fields": {"title": {"from": "CTO", "to": "CEO"}},
            }
        },
    )

    op: str = Field(description="create, update, link, hold …")
    account: str | None = Field(None, description="Where it would be done")
    entity: str | None = None
    record_id: str | None = Field(None, description="Null for a record that is still to be made")
    remote_id: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict, description="name: {from, to}")
    reason: str | None = Field(None, description="Why it would be held")


_WORKED_OUT = frozenset({"counts", "rate", "eta_seconds", "errors"})


def _shape(row: Mapping[str, Any]) -> ResyncShape:
    counts = {**dict.fromkeys(COUNTS, 0), **row["counts"]}
    rate = eta = None
    if row["started_at"] is not None:
        until = row["finished_at"] or clock.now()
        elapsed = (until - row["started_at"]).total_seconds()
        rate = round(counts["seen"] / elapsed, 1) if elapsed > 0 else None
    if row["state"] == "running" and rate and row["total"] is not None:
        eta = round(max(row["total"] - counts["seen"], 0) / rate, 1)
    errors = [error_shape(error) for error in (row["errors"] or {}).get("items", [])]
    plain = {name: row[name] for name in ResyncShape.model_fields if name not in _WORKED_OUT}
    return ResyncShape(
        **plain,
        counts=counts,
        rate=rate,
        eta_seconds=eta,
        errors=[error for error in errors if error is not None],
    )


def _missing(resync_id: UUID) -> ProblemError:
    return ProblemError(problems.NOT_FOUND, f"There is no resync {resync_id}.")


def entities_of(desk: Desk, account: str, entity: str | None) -> list[str]:
    """The entities to scan. Raises ProblemError for an account or entity that does not sync."""
    known(desk, account)
    syncs = [name for name, how in desk.config.sync.items() if account in how.accounts]
    if entity is None:
        if not syncs:
            raise ProblemError(problems.CONFLICT, f"{account} syncs nothing at all.")
        return syncs
    if entity not in syncs:
        raise ProblemError(
            problems.INVALID,
            f"{account} does not sync {entity!r}; it syncs {', '.join(syncs) or 'nothing'}.",
            errors=[{"at": "body.entity", "reason": "not an entity of this account"}],
        )
    return [entity]


@router.post(
    "",
    dependencies=[OPERATE],
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(problems.UNKNOWN_ACCOUNT, problems.CONFLICT, problems.INVALID),
    },
)
async def start(wanted: NewResync, desk: DeskDep, response: Response) -> ResyncShape:
    """Queue a scan of an account; follow it at `Location`.

    A paused account's resync waits until it is resumed.
    """
    entities = entities_of(desk, wanted.account, wanted.entity)
    async with desk.database.transaction() as db:
        row = await listings.begin_resync(
            db,
            id=uuid7(),
            account=wanted.account,
            entities=entities,
            ids=wanted.ids,
            since=wanted.since,
            dry_run=wanted.dry_run,
        )
        await lanes.wake(db, wanted.account, "scan")
    response.headers["location"] = f"/api/resyncs/{row['id']}"
    return _shape(row)


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    account: Text = None,
    state: Annotated[State | None, Query()] = None,
) -> Listed[ResyncShape]:
    """Resyncs, newest first."""
    async with database.transaction() as db:
        page = await listings.list_resyncs(
            db, account=account, state=state, cursor=paging.cursor, limit=paging.limit
        )
    return listed(page, _shape)


@router.get("/{resync_id}", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND))
async def show(resync_id: UUID, database: DatabaseDep) -> ResyncShape:
    """One resync: state, counts, rate, when it will be done, what went wrong."""
    async with database.transaction() as db:
        row = await listings.resync(db, resync_id)
    if row is None:
        raise _missing(resync_id)
    return _shape(row)


@router.get(
    "/{resync_id}/plan",
    dependencies=[READ],
    responses=problems.responses(problems.BAD_CURSOR, problems.NOT_FOUND, problems.CONFLICT),
)
async def plan(resync_id: UUID, database: DatabaseDep, paging: PagingDep) -> Listed[PlanItem]:
    """What a dry run found that a real run would do; it grows while the dry run is running."""
    async with database.transaction() as db:
        row = await listings.resync(db, resync_id)
        page = await listings.list_plan(db, resync_id, cursor=paging.cursor, limit=paging.limit)
    if row is None:
        raise _missing(resync_id)
    if not row["dry_run"]:
        raise ProblemError(problems.CONFLICT, "Only a dry run has a plan; this one did the work.")
    return listed(page, lambda found: PlanItem.model_validate(found["item"]))


_ONLY_DRY = problems.responses(problems.NOT_FOUND, problems.CONFLICT)


@router.get("/{resync_id}/report", dependencies=[READ], responses=_ONLY_DRY)
async def report(resync_id: UUID, desk: DeskDep) -> MatchReport:
    """Whom a dry run recognised: counts and samples; it grows while the dry run is running."""
    async with desk.database.transaction() as db:
        row = _dry(resync_id, await listings.resync(db, resync_id))
        return await matches.report(db, desk.config, [row])


@router.get(
    "/{resync_id}/report.csv",
    dependencies=[READ],
    response_class=StreamingResponse,
    responses=_ONLY_DRY,
)
async def report_csv(resync_id: UUID, database: DatabaseDep) -> StreamingResponse:
    """Every row of the matching report, for a spreadsheet."""
    async with database.transaction() as db:
        _dry(resync_id, await listings.resync(db, resync_id))
    return matches.csv(database, [resync_id], name=f"matching-{resync_id}.csv")


def _dry(resync_id: UUID, row: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if row is None:
        raise _missing(resync_id)
    if not row["dry_run"]:
        raise ProblemError(problems.CONFLICT, "Only a dry run has a report; this one did the work.")
    return row


@router.delete(
    "/{resync_id}",
    dependencies=[OPERATE],
    responses=problems.responses(problems.NOT_FOUND, problems.CONFLICT),
)
async def cancel(resync_id: UUID, database: DatabaseDep) -> ResyncShape:
    """Stop it after the page it is at; what was done stays done."""
    async with database.transaction() as db:
        cancelled = await listings.cancel_resync(db, resync_id)
        await foreseen.forget(db, resync_id)
        row = cancelled or await listings.resync(db, resync_id)
    if row is None:
        raise _missing(resync_id)
    if cancelled is None:
        raise ProblemError(problems.CONFLICT, f"It is {row['state']} already.", state=row["state"])
    return _shape(row)
