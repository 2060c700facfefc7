"""Deletes: what was deleted, merged away or purged in which account, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.deps import DatabaseDep, DeskDep, PagingDep, known
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_RECORD, EXAMPLE_TIME, Listed, Text, listed
from app.db import listings, records
from app.errors import RejectedError
from app.sync import deletes

router = APIRouter(tags=["deletes"])

Ended = Literal["deleted", "merged", "propagated", "purged", "waived"]


class DeleteShape(BaseModel):
    """One counterpart that is gone."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "record_id": EXAMPLE_RECORD,
                "entity": "person",
                "account": "close",
                "type": "contact",
                "remote_id": "cont_8fMqX1",
                "ended": "deleted",
                "ended_at": EXAMPLE_TIME,
                "left": ["hubspot"],
            }
        }
    )

    record_id: UUID
    entity: str
    account: str
    type: str
    remote_id: str
    ended: str | None = Field(description="deleted, merged, propagated (by us), purged, waived")
    ended_at: datetime | None
    left: list[str] = Field(description="The accounts that still have the record")


class Wanted(BaseModel):
    """Where the record is wanted again."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"account": "close"}]}
    )

    account: str


class Recreated(BaseModel):
    """The record is made there anew with the next turn of its lane."""

    record_id: UUID
    account: str


def _shape(row: Mapping[str, Any]) -> DeleteShape:
    return DeleteShape(**{name: row[name] for name in DeleteShape.model_fields})


@router.get("/deletes", responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    account: Text = None,
    entity: Text = None,
    ended: Annotated[Ended | None, Query(description="Why it is gone")] = None,
) -> Listed[DeleteShape]:
    """Counterparts that are gone, the latest link first."""
    async with database.transaction() as db:
        page = await listings.list_deletes(
            db,
            account=account,
            entity=entity,
            ended=ended,
            cursor=paging.cursor,
            limit=paging.limit,
        )
    return listed(page, _shape)


@router.post(
    "/records/{record_id}/recreate",
    status_code=202,
    responses=problems.responses(problems.NOT_FOUND, problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
)
async def recreate(record_id: UUID, wanted: Wanted, desk: DeskDep) -> Recreated:
    """Make a record anew in an account where it was deleted: a person wants it back."""
    known(desk, wanted.account)
    async with desk.database.transaction() as db:
        record = (await records.get(db, [record_id], lock=True)).get(record_id)
        if record is None:
            raise ProblemError(problems.NOT_FOUND, f"There is no record {record_id}.")
        try:
            await deletes.recreate(db, record, wanted.account)
        except RejectedError as error:
            raise ProblemError(problems.CONFLICT, f"{error.reason}.") from None
    return Recreated(record_id=record_id, account=wanted.account)
