"""Records: our merged copies, their counterparts, and why each field is what it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api import problems
from app.api.access import READ
from app.api.deps import DatabaseDep, PagingDep
from app.api.problems import ProblemError
from app.api.shapes import (
    EXAMPLE_LINK,
    EXAMPLE_RECORD,
    EXAMPLE_TIME,
    ConflictShape,
    ErrorShape,
    LinkShape,
    Listed,
    Text,
    conflict_shape,
    error_shape,
    link_shape,
    listed,
)
from app.db import listings

router = APIRouter(prefix="/records", tags=["records"])

_FIELDS: JsonDict = {"first_name": "Ada", "last_name": "Lovelace", "phone": "+14155550199"}
_RECORD: JsonDict = {
    "id": EXAMPLE_RECORD,
    "entity": "person",
    "state": "live",
    "version": 4,
    "fields": _FIELDS,
    "source": "hubspot",
    "container": False,
    "created_at": EXAMPLE_TIME,
    "changed_at": EXAMPLE_TIME,
    "synced_at": EXAMPLE_TIME,
    "links": [EXAMPLE_LINK],
}


class RecordShape(BaseModel):
    """Our merged copy of one real thing, and its counterparts."""

    model_config = ConfigDict(json_schema_extra={"example": _RECORD})

    id: UUID
    entity: str
    state: str = Field(description="live, merged (see `merged_into`) or gone")
    version: int = Field(description="Only grows")
    fields: dict[str, Any] = Field(description="Canonical fields; relations are record ids")
    source: str = Field(description="The account of the last accepted change")
    container: bool = Field(description="Made only to hold another record; does not travel")
    created_at: datetime
    changed_at: datetime
    synced_at: datetime | None
    links: list[LinkShape]


class StampShape(BaseModel):
    """When a field last changed, and through whom."""

    at: datetime
    account: str


class WaitingShape(BaseModel):
    """An account that is behind this record."""

    account: str
    state: str = Field(
        description="pending; waiting for a parent; loading: in a file on its way; dead"
    )
    due_at: datetime
    attempts: int
    error: ErrorShape | None


class JournalShape(BaseModel):
    """One change of one field."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 812,
                "at": EXAMPLE_TIME,
                "version": 4,
                "field": "phone",
                "old": "+14155550100",
                "new": "+14155550199",
                "account": "hubspot",
                "cause": "event",
                "cause_id": "311",
                "rule": "the latest edit wins",
                "lost": "+14155550100",
            }
        }
    )

    id: int
    at: datetime
    version: int
    field: str
    old: Any
    new: Any
    account: str = Field(description="Where the change came from")
    cause: str = Field(description="event, resync, person, push, merge or undo")
    cause_id: str | None
    rule: str = Field(description="What decided")
    lost: Any = Field(description="The value that did not win, if two disagreed")


class RecordDetail(RecordShape):
    """A record with everything that is known about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_RECORD,
                "merged_into": None,
                "hash": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
                "stamps": {"phone": {"at": EXAMPLE_TIME, "account": "hubspot"}},
                "conflicts": [],
                "waiting": [],
                "journal": [],
            }
        }
    )

    merged_into: UUID | None
    hash: str = Field(description="SHA-256 of the canonical fields")
    stamps: dict[str, StampShape]
    conflicts: list[ConflictShape] = Field(description="Open ones")
    waiting: list[WaitingShape] = Field(description="Accounts that do not have it yet")
    journal: list[JournalShape] = Field(description="The latest changes, newest first")


def _shape(row: Mapping[str, Any]) -> RecordShape:
    plain = {name: row[name] for name in RecordShape.model_fields if name != "links"}
    return RecordShape(**plain, links=[link_shape(link) for link in row["links"]])


def _waiting(row: Mapping[str, Any]) -> WaitingShape:
    return WaitingShape(
        account=row["account"],
        state=row["state"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        error=error_shape(row["error"]),
    )


def _missing(record_id: UUID) -> ProblemError:
    return ProblemError(problems.NOT_FOUND, f"There is no record {record_id}.")


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    entity: Annotated[Text, Query(description="company, person, deal …")] = None,
    email: Annotated[Text, Query(description="Compared without regard to case")] = None,
    domain: Annotated[Text, Query(description="A domain or an address of a web page")] = None,
    account: Annotated[Text, Query(description="Has a counterpart there")] = None,
    remote_id: Annotated[Text, Query(description="The id of its counterpart")] = None,
    q: Annotated[Text, Query(description="Part of a name or an address")] = None,
) -> Listed[RecordShape]:
    """Living records, newest first; conditions are joined by *and*."""
    async with database.transaction() as db:
        page = await listings.list_records(
            db,
            entity=entity,
            email=email,
            domain=domain,
            account=account,
            remote_id=remote_id,
            q=q,
            cursor=paging.cursor,
            limit=paging.limit,
        )
    return listed(page, _shape)


@router.get("/{record_id}", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND))
async def show(record_id: UUID, database: DatabaseDep) -> RecordDetail:
    """One record: fields, counterparts, open conflicts, who is behind, recent history."""
    async with database.transaction() as db:
        row = await listings.record(db, record_id)
    if row is None:
        raise _missing(record_id)
    return RecordDetail(
        **_shape(row).model_dump(exclude={"links"}),
        links=[link_shape(link) for link in row["links"]],
        merged_into=row["merged_into"],
        hash=row["hash"],
        stamps=row["stamps"],
        conflicts=[conflict_shape(card) for card in row["conflicts"]],
        waiting=[_waiting(mark) for mark in row["waiting"]],
        journal=[JournalShape.model_validate(dict(line)) for line in row["journal"]],
    )
