"""Deletes: what was deleted, merged away or purged in which account, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.access import ADMIN, OPERATE, READ
from app.api.deps import DatabaseDep, DeskDep, PagingDep, known
from app.api.problems import ProblemError
from app.api.shapes import (
    EXAMPLE_RECORD,
    EXAMPLE_TIME,
    ConflictShape,
    Listed,
    RowId,
    Text,
    conflict_shape,
    listed,
)
from app.db import listings, purges, records
from app.db.journal import Cause
from app.db.links import Link
from app.domain.traits import digests, traits
from app.errors import RejectedError
from app.sync import deletes
from app.sync import purge as forget

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


class Purge(BaseModel):
    """Whether the counterparts are to be erased in their CRMs too."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{}, {"propagate": True}]}
    )

    propagate: bool | None = Field(None, description="By default as `privacy` is configured")


class PurgedShape(BaseModel):
    """What became of a purge."""

    record_id: UUID
    deliveries: int = Field(description="Webhooks of which only the fact is kept")
    deleting: list[str] = Field(description="Accounts in which the counterpart is erased next")


class Readmission(BaseModel):
    """Who may come back after a purge: exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "ada@analytical.example"}]}
    )

    email: str | None = Field(None, min_length=3, max_length=500)
    domain: str | None = Field(None, min_length=3, max_length=500)


class Readmitted(BaseModel):
    """How many entries of the list of the purged were removed."""

    removed: int


class Word(BaseModel):
    """What is to become of a record whose delete was not carried over."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"delete": True}]})

    delete: bool = Field(description="true: delete it wherever it still is; false: it lives")


class Recreated(BaseModel):
    """The record is made there anew with the next turn of its lane."""

    record_id: UUID
    account: str


def _shape(row: Mapping[str, Any]) -> DeleteShape:
    return DeleteShape(**{name: row[name] for name in DeleteShape.model_fields})


@router.get("/deletes", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
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
    dependencies=[OPERATE],
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


@router.post(
    "/records/{record_id}/purge",
    dependencies=[ADMIN],
    responses=problems.responses(problems.NOT_FOUND, problems.CONFLICT),
)
async def purge(record_id: UUID, wish: Purge, desk: DeskDep) -> PurgedShape:
    """Forget a person: every value we keep of them, for good. They do not come back."""
    everywhere = wish.propagate
    if everywhere is None:
        everywhere = desk.config.privacy == "propagate"

    def erases(link: Link) -> bool:
        connector = desk.connectors.get(link.ref.account)
        promise = connector and connector.manifest.entities.get(link.entity)
        return bool(everywhere and promise and "delete" in promise.write)

    async with desk.database.transaction() as db:
        record = (await records.get(db, [record_id])).get(record_id)
        if record is None:
            raise ProblemError(problems.NOT_FOUND, f"There is no record {record_id}.")
        if record.state in ("merged", "purged"):
            detail = f"This record is {record.state}; `merged_into` says where it lives on."
            raise ProblemError(problems.CONFLICT, detail)
        cause = Cause("person")
        done = await forget.purge(db, desk.box, record_id, cause=cause, by="person", deletes=erases)
    return PurgedShape(
        record_id=record_id, deliveries=done.deliveries, deleting=list(done.deleting)
    )


@router.post("/readmissions", dependencies=[ADMIN], responses=problems.responses(problems.INVALID))
async def readmit(who: Readmission, database: DatabaseDep, desk: DeskDep) -> Readmitted:
    """Let somebody in again who was purged, as after a new consent."""
    found = traits({"email": who.email, "domain": who.domain})
    async with database.transaction() as db:
        pepper = await purges.pepper(db, desk.box)
        wanted = {
            one
            for entity in ("person", "company")
            for one in (digests(pepper, entity, found) if pepper else ())
        }
        return Readmitted(removed=await purges.readmit(db, wanted))


@router.post(
    "/conflicts/{conflict_id}/delete",
    dependencies=[OPERATE],
    responses=problems.responses(problems.NOT_FOUND, problems.CONFLICT),
)
async def decide(conflict_id: RowId, word: Word, database: DatabaseDep) -> ConflictShape:
    """Settle a card of kind `delete`: carry the delete out after all, or let the record live."""
    async with database.transaction() as db:
        try:
            await deletes.decide(db, conflict_id, delete=word.delete)
        except KeyError:
            detail = f"There is no conflict {conflict_id}."
            raise ProblemError(problems.NOT_FOUND, detail) from None
        except RejectedError as error:
            raise ProblemError(problems.CONFLICT, f"{error.reason}.") from None
        row = await listings.conflict(db, conflict_id)
    assert row is not None, "settling a card does not remove it"
    return conflict_shape(row)
