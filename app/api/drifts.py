"""Drifts: compare the linked records of an account with ours; follow it, read what it found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app import clock
from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, DeskDep, PagingDep
from app.api.problems import ProblemError
from app.api.resyncs import entities_of
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
from app.db import drifts, lanes
from app.domain.drift import Cause

router = APIRouter(prefix="/drifts", tags=["drifts"])

State = Literal["queued", "running", "done", "failed", "cancelled"]
COUNTS = ("records", "equal", "differing", "fields", "apart", "repaired")


class NewDrift(BaseModel):
    """What to compare."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"account": "hubspot"},
                {"account": "close", "entity": "deal", "repair": True},
            ]
        },
    )

    account: str = Field(description="The account whose linked records are read")
    entity: str | None = Field(
        None, description="company, person, deal …; default: all that this account syncs"
    )
    repair: bool = Field(
        False, description="Take in what differs, as if a webhook had led to the reading"
    )


class DriftShape(BaseModel):
    """A comparison, how far it is, and whether both sides are equal."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_RESYNC,
                "account": "hubspot",
                "entities": ["company", "person", "deal"],
                "repair": False,
                "reason": "person",
                "state": "done",
                "equal": False,
                "counts": {
                    "records": 1200,
                    "equal": 1198,
                    "differing": 2,
                    "fields": 9600,
                    "apart": 0,
                    "repaired": 0,
                },
                "causes": {"missed_webhook": 1, "waiting_write": 1},
                "unexpected": 1,
                "ours": "5a3c0f1be2d4a6c8907b6d5e4f3021ac5a3c0f1be2d4a6c8907b6d5e4f3021ac",
                "theirs": "77b0c3d5e8fa1246803c9d7e5b1f2a4677b0c3d5e8fa1246803c9d7e5b1f2a46",
                "total": 1200,
                "rate": 80.0,
                "eta_seconds": None,
                "errors": [],
                "created_at": EXAMPLE_TIME,
                "started_at": EXAMPLE_TIME,
                "finished_at": EXAMPLE_TIME,
            }
        }
    )

    id: UUID
    account: str
    entities: list[str]
    repair: bool
    reason: str = Field(description="person, or schedule")
    state: State
    equal: bool | None = Field(description="Whether nothing differs; null before the end")
    counts: dict[str, int] = Field(
        description="records compared; equal and differing ones; fields compared; apart: fields "
        "that differ because the configuration lets them; repaired: records that moved on"
    )
    causes: dict[str, int] = Field(description="Differences by their likely cause")
    unexpected: int = Field(
        description="Differences that nothing explains which is under way or waits for a person"
    )
    ours: str | None = Field(description="Digest of what we hold of the fields compared")
    theirs: str | None = Field(description="The same of what the account shows: equal if all is")
    total: int | None = Field(description="How many records it will compare")
    rate: float | None = Field(description="Records per second so far")
    eta_seconds: float | None
    errors: list[ErrorShape]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class DifferenceShape(BaseModel):
    """One field of one record on which we and the account do not agree."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "entity": "person",
                "record_id": EXAMPLE_RECORD,
                "remote_id": "33451",
                "field": "title",
                "ours": "CTO",
                "theirs": "CEO",
                "cause": "missed_webhook",
                "reason": "it was changed there, and no webhook told us",
            }
        }
    )

    entity: str
    record_id: UUID
    remote_id: str
    field: str | None = Field(description="Null where the whole record is concerned")
    ours: Any
    theirs: Any
    cause: str
    reason: str = Field(description="The cause in words")


_PLAIN = (
    *("id", "account", "entities", "repair", "reason", "state", "causes", "ours", "theirs"),
    *("total", "created_at", "started_at", "finished_at"),
)


def _shape(row: Mapping[str, Any]) -> DriftShape:
    counts = {**dict.fromkeys(COUNTS, 0), **row["counts"]}
    rate = eta = None
    if row["started_at"] is not None:
        until = row["finished_at"] or clock.now()
        elapsed = (until - row["started_at"]).total_seconds()
        rate = round(counts["records"] / elapsed, 1) if elapsed > 0 else None
    if row["state"] == "running" and rate and row["total"] is not None:
        eta = round(max(row["total"] - counts["records"], 0) / rate, 1)
    errors = [error_shape(error) for error in (row["errors"] or {}).get("items", [])]
    return DriftShape(
        **{name: row[name] for name in _PLAIN},
        equal=not counts["differing"] if row["state"] == "done" else None,
        counts=counts,
        unexpected=drifts.unexpected(row["causes"]),
        rate=rate,
        eta_seconds=eta,
        errors=[error for error in errors if error is not None],
    )


def _missing(drift_id: UUID) -> ProblemError:
    return ProblemError(problems.NOT_FOUND, f"There is no drift check {drift_id}.")


@router.post(
    "",
    dependencies=[OPERATE],
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(problems.UNKNOWN_ACCOUNT, problems.CONFLICT, problems.INVALID),
    },
)
async def start(wanted: NewDrift, desk: DeskDep, response: Response) -> DriftShape:
    """Queue a comparison of an account with our records; follow it at `Location`.

    It reads at the pace of scans, and writes nothing unless `repair` is set.
    """
    entities = entities_of(desk, wanted.account, wanted.entity)
    async with desk.database.transaction() as db:
        row = await drifts.begin(db, wanted.account, entities, repair=wanted.repair)
        await lanes.wake(db, wanted.account, "scan")
    response.headers["location"] = f"/api/drifts/{row['id']}"
    return _shape(row)


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    account: Text = None,
    state: Annotated[State | None, Query()] = None,
) -> Listed[DriftShape]:
    """Comparisons, newest first."""
    async with database.transaction() as db:
        page = await drifts.listed(
            db, account=account, state=state, cursor=paging.cursor, limit=paging.limit
        )
    return listed(page, _shape)


@router.get("/{drift_id}", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND))
async def show(drift_id: UUID, database: DatabaseDep) -> DriftShape:
    """One comparison: state, counts, digests, what differs by its cause."""
    async with database.transaction() as db:
        row = await drifts.show(db, drift_id)
    if row is None:
        raise _missing(drift_id)
    return _shape(row)


@router.get(
    "/{drift_id}/differences",
    dependencies=[READ],
    responses=problems.responses(problems.BAD_CURSOR, problems.NOT_FOUND),
)
async def differences(
    drift_id: UUID,
    database: DatabaseDep,
    paging: PagingDep,
    cause: Annotated[Cause | None, Query()] = None,
) -> Listed[DifferenceShape]:
    """What differs, with the likely cause of each; it grows while the comparison is running."""
    async with database.transaction() as db:
        row = await drifts.show(db, drift_id)
        page = await drifts.found(
            db, drift_id, cause=cause, cursor=paging.cursor, limit=paging.limit
        )
    if row is None:
        raise _missing(drift_id)
    return listed(page, DifferenceShape.model_validate)


@router.delete(
    "/{drift_id}",
    dependencies=[OPERATE],
    responses=problems.responses(problems.NOT_FOUND, problems.CONFLICT),
)
async def cancel(drift_id: UUID, database: DatabaseDep) -> DriftShape:
    """Stop it after the page it is at; what was found stays."""
    async with database.transaction() as db:
        cancelled = await drifts.cancel(db, drift_id)
        row = cancelled or await drifts.show(db, drift_id)
    if row is None:
        raise _missing(drift_id)
    if cancelled is None:
        raise ProblemError(problems.CONFLICT, f"It is {row['state']} already.", state=row["state"])
    return _shape(row)
