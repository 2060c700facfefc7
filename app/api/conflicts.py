"""Conflicts: cards that wait for a person, and the person's word."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api import problems
from app.api.deps import DatabaseDep, DeskDep, PagingDep, known
from app.api.problems import ProblemError
from app.api.shapes import ConflictShape, Listed, RowId, Text, conflict_shape, listed
from app.db import listings
from app.errors import RejectedError
from app.sync import resolve as sync_resolve

router = APIRouter(prefix="/conflicts", tags=["conflicts"])

Kind = Literal["field", "identity", "merge", "suspect", "delete"]


class Resolution(BaseModel):
    """Whose value wins, or which value: exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"account": "hubspot"}, {"value": "+14155550100"}]},
    )

    account: str | None = Field(None, description="This account's value wins")
    value: Any = Field(None, description="This value wins; null clears the field")

    @model_validator(mode="after")
    def _exactly_one(self) -> Resolution:
        if len(self.model_fields_set & {"account", "value"}) != 1:
            raise ValueError("say exactly one of account and value")
        if "account" in self.model_fields_set and self.account is None:
            raise ValueError("account must name an account")
        return self


@router.get("", responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    state: Annotated[Literal["open", "settled", "all"], Query()] = "open",
    kind: Annotated[Kind | None, Query()] = None,
    entity: Text = None,
    account: Text = None,
    record: Annotated[UUID | None, Query(description="Of this record")] = None,
) -> Listed[ConflictShape]:
    """Cards, newest first; the open ones unless asked otherwise."""
    async with database.transaction() as db:
        page = await listings.list_conflicts(
            db,
            state=None if state == "all" else state,
            kind=kind,
            entity=entity,
            account=account,
            record_id=record,
            cursor=paging.cursor,
            limit=paging.limit,
        )
    return listed(page, conflict_shape)


@router.get("/{conflict_id}", responses=problems.responses(problems.NOT_FOUND))
async def show(conflict_id: RowId, database: DatabaseDep) -> ConflictShape:
    """One card."""
    async with database.transaction() as db:
        row = await listings.conflict(db, conflict_id)
    if row is None:
        raise ProblemError(problems.NOT_FOUND, f"There is no conflict {conflict_id}.")
    return conflict_shape(row)


@router.post(
    "/{conflict_id}/resolve",
    responses=problems.responses(problems.NOT_FOUND, problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
)
async def resolve(conflict_id: RowId, word: Resolution, desk: DeskDep) -> ConflictShape:
    """Settle a card: the value goes to every account, and the field moves freely again."""
    if word.account is not None:
        known(desk, word.account)
    async with desk.database.transaction() as db:
        row = await listings.conflict(db, conflict_id)
        if row is None:
            raise ProblemError(problems.NOT_FOUND, f"There is no conflict {conflict_id}.")
        try:
            await sync_resolve.resolve(db, conflict_id, **word.model_dump(exclude_unset=True))
        except RejectedError as error:
            raise ProblemError(problems.CONFLICT, f"{error.reason}.") from None
        row = await listings.conflict(db, conflict_id)
    assert row is not None, "settling a card does not remove it"
    return conflict_shape(row)
