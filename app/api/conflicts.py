"""Conflicts: cards that wait for a person, and the person's word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, Desk, DeskDep, PagingDep, known
from app.api.identity import ReportShape, report_shape
from app.api.problems import ProblemError
from app.api.shapes import (
    EXAMPLE_RECORD,
    ConflictShape,
    Listed,
    RowId,
    Text,
    conflict_shape,
    listed,
)
from app.db import listings, sides, words
from app.domain.values import NOTHING
from app.errors import RejectedError
from app.sync import cards, deletes
from app.sync import resolve as sync_resolve

router = APIRouter(prefix="/conflicts", tags=["conflicts"])

Kind = Literal["field", "identity", "merge", "suspect", "delete", "word"]


#: What may be said; a card of a field takes the first two, one of a delete the last.
_WORDS = ("account", "value", "link", "new", "keep", "merge", "unlink", "delete")


class Resolution(BaseModel):
    """A person's word about a card: exactly one, by the kind of the card."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"account": "hubspot"},
                {"value": "+14155550100"},
                {"link": EXAMPLE_RECORD},
                {"new": True},
                {"keep": "33451"},
                {"merge": True},
                {"unlink": True},
                {"delete": False},
            ]
        },
    )

    account: str | None = Field(None, description="A field: this account's value wins")
    value: Any = Field(None, description="A field: this value wins; null clears it")
    link: UUID | None = Field(None, description="An identity: it is this record of ours")
    new: Literal[True] | None = Field(None, description="An identity: it is none of them")
    keep: str | None = Field(None, description="Of several remote records, the one that counts")
    merge: Literal[True] | None = Field(None, description="Merge the second one there, too")
    unlink: Literal[True] | None = Field(None, description="Leave the second one there, apart")
    delete: bool | None = Field(None, description="A delete: carry it out, or let the record live")
    dry_run: bool = Field(False, description="Only tell what would change; not for fields, deletes")

    @model_validator(mode="after")
    def _exactly_one(self) -> Resolution:
        said = [name for name in _WORDS if name in self.model_fields_set]
        if len(said) != 1:
            raise ValueError(f"say exactly one of {', '.join(_WORDS)}")
        if said[0] != "value" and getattr(self, said[0]) is None:
            raise ValueError(f"{said[0]} must not be null")
        return self

    @property
    def of_field(self) -> dict[str, Any]:
        """What it says of a field; empty if it speaks of identities."""
        return self.model_dump(include={"account", "value"}, exclude_unset=True)


class Resolved(ConflictShape):
    """The card as it is now, and what its decision changes."""

    report: ReportShape | None = Field(None, description="For the cards of identities")


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
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
        found = await sides.of(db, page.items)
        about = await words.concerned(db, page.items)
    return listed(
        page,
        lambda row: conflict_shape(row, found.get(row["id"], ()), about.get(row["id"], NOTHING)),
    )


@router.get("/{conflict_id}", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND))
async def show(conflict_id: RowId, database: DatabaseDep) -> ConflictShape:
    """One card."""
    async with database.transaction() as db:
        row = await _card(db, conflict_id)
        found = await sides.of(db, [row])
        about = await words.concerned(db, [row])
    return conflict_shape(row, found.get(conflict_id, ()), about.get(conflict_id, NOTHING))


@router.post(
    "/{conflict_id}/resolve",
    dependencies=[OPERATE],
    responses=problems.responses(problems.NOT_FOUND, problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
)
async def resolve(conflict_id: RowId, word: Resolution, desk: DeskDep) -> Resolved:
    """Settle a card. A value goes to every account; an identity is as the person says."""
    async with desk.database.transaction() as db:
        card = await _card(db, conflict_id)
    if word.account not in (None, card["account"]):
        known(desk, word.account)
    report = None
    with problems.refusing():
        if card["kind"] == "field":
            await _choose(desk, conflict_id, word)
        elif card["kind"] == "delete":
            await _carry_out(desk, conflict_id, word)
        elif card["kind"] == "word":
            raise RejectedError("name the option in the configuration, or change it there")
        else:
            report = await _decide(desk, card, word)
    async with desk.database.transaction() as db:
        row = await _card(db, conflict_id)
        found = await sides.of(db, [row])
    shown = conflict_shape(row, found.get(conflict_id, ()))
    return Resolved(**shown.model_dump(), report=report)


async def _choose(desk: Desk, conflict_id: int, word: Resolution) -> None:
    if not word.of_field or word.dry_run:
        raise RejectedError("a card of a field is settled by account or value, and not rehearsed")
    async with desk.database.transaction() as db:
        await sync_resolve.resolve(db, conflict_id, config=desk.config, **word.of_field)


async def _carry_out(desk: Desk, conflict_id: int, word: Resolution) -> None:
    if word.delete is None or word.dry_run:
        raise RejectedError("a card of a delete is settled by delete, and not rehearsed")
    async with desk.database.transaction() as db:
        await deletes.decide(db, conflict_id, delete=word.delete)


async def _decide(desk: Desk, card: Mapping[str, Any], word: Resolution) -> ReportShape:
    if word.of_field or word.delete is not None:
        raise RejectedError(
            f"a card of kind {card['kind']} is settled by link, new, keep, merge or unlink"
        )
    said = cards.Word(
        link=word.link,
        new=bool(word.new),
        keep=word.keep,
        merge=bool(word.merge),
        unlink=bool(word.unlink),
    )
    report = await cards.settle(desk.house, card, said, dry_run=word.dry_run)
    return report_shape(report, dry_run=word.dry_run)


async def _card(db: AsyncConnection, conflict_id: int) -> Mapping[str, Any]:
    row = await listings.conflict(db, conflict_id)
    if row is None:
        raise ProblemError(problems.NOT_FOUND, f"There is no conflict {conflict_id}.")
    return row
