"""Shapes that several routes answer with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.db.pages import Page
from app.db.sides import Side
from app.domain.values import NOTHING, Ref

Item = TypeVar("Item", bound=BaseModel)

#: The id of a row: what PostgreSQL can hold, and nothing it would choke on.
RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]
#: Text to look for; a NUL is no text to PostgreSQL.
Text = Annotated[str | None, Query(max_length=500, pattern=r"^[^\x00]*$")]

EXAMPLE_RECORD = "019aa3c5-8f4e-7c31-9d52-3f0a6b1c2d4e"
EXAMPLE_RESYNC = "019aa3c6-0b7a-7e10-8a44-5c1d2e3f4a5b"
EXAMPLE_TIME = "2026-11-22T03:07:12.412Z"


class Listed(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Give it as `cursor` to get the next page; null on the last"
    )


def listed(page: Page, show: Callable[[Mapping[str, Any]], Item]) -> Listed[Item]:
    """A page of rows, each in the shape of the API."""
    return Listed(items=[show(row) for row in page.items], next_cursor=page.next_cursor)


EXAMPLE_ERROR: JsonDict = {
    "cause": "HubSpot refuses the e-mail address",
    "class": "RejectedError",
    "reason": "Email address ada@@acme.example is invalid",
    "record": EXAMPLE_RECORD,
    "field": "email",
    "value": "ada@@acme.example",
    "next_step": "correct the value in either system, or change the mapping or the field there; "
    "it then goes by itself, or replay it",
}
EXAMPLE_LINK: JsonDict = {
    "account": "hubspot",
    "type": "contacts",
    "remote_id": "33451",
    "state": "live",
    "synced_at": EXAMPLE_TIME,
}


class ErrorShape(BaseModel):
    """Why a row could not be worked on, for a person: what, whose words, and what to do."""

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
        json_schema_extra={"example": EXAMPLE_ERROR},
    )

    cause: str = Field("unknown", description="What equal failures have in common")
    class_: str | None = Field(None, alias="class", description="The class of the error")
    reason: str | None = Field(None, description="The vendor's own words")
    record: str | None = Field(None, description="The record or ref it is about")
    field: str | None = None
    value: Any = None
    next_step: str | None = Field(None, description="What to do about it")
    traceback: str | None = Field(None, description="Only for a bug of ours")


def error_shape(error: Mapping[str, Any] | None) -> ErrorShape | None:
    return None if error is None else ErrorShape.model_validate(dict(error))


class RefShape(BaseModel):
    """The name of something in an account."""

    account: str
    type: str = Field(description="The vendor's own word: lead, contacts …")
    id: str


class LinkShape(BaseModel):
    """A record's counterpart in an account."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_LINK})

    account: str
    type: str
    remote_id: str
    state: str = Field(
        description="live; parked: waits for a merge to be decided; merging: is being merged "
        "there; unlinked by a person; gone"
    )
    synced_at: datetime = Field(description="When both sides last agreed")


def link_shape(row: Mapping[str, Any]) -> LinkShape:
    return LinkShape(
        account=row["account"],
        type=row["type"],
        remote_id=row["remote_id"],
        state=row["state"],
        synced_at=row["synced_at"],
    )


class SideShape(BaseModel):
    """One of those that may be one: a record of ours, a remote record, or both."""

    record_id: UUID | None = Field(description="Our record, if it is one")
    refs: list[RefShape] = Field(description="The remote records that it is, or is linked to")
    fields: dict[str, Any]
    agrees: list[str] = Field(description="Fields that it shares with the first side")
    differs: list[str] = Field(description="Fields in which it differs from the first side")


def ref_shape(ref: Ref) -> RefShape:
    return RefShape(account=ref.account, type=ref.type, id=ref.id)


def side_shape(side: Side) -> SideShape:
    return SideShape(
        record_id=side.record_id,
        refs=[ref_shape(ref) for ref in side.refs],
        fields=dict(side.fields),
        agrees=list(side.agrees),
        differs=list(side.differs),
    )


class ConflictShape(BaseModel):
    """A card for a person: something that nobody but a person can decide."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 7,
                "kind": "field",
                "entity": "person",
                "record_id": EXAMPLE_RECORD,
                "ref": {"account": "hubspot", "type": "contacts", "id": "33451"},
                "field": "phone",
                "ours": "+14155550100",
                "theirs": "+14155550199",
                "detail": {},
                "state": "open",
                "opened_at": EXAMPLE_TIME,
                "settled_at": None,
                "settled": None,
            }
        }
    )

    id: int
    kind: str = Field(description="field, identity, merge, suspect, delete or word")
    entity: str
    record_id: UUID | None
    account: str
    ref: RefShape | None
    field: str | None
    ours: Any = Field(description="Our value, for a field")
    theirs: Any = Field(description="What the account shows")
    detail: dict[str, Any] = Field(
        description="The reason, candidates, the survivor; of a word the line to add, and how "
        "many records show it, with samples"
    )
    sides: list[SideShape] = Field(
        [], description="Who may be one, side by side; what the card is about comes first"
    )
    state: str
    opened_at: datetime
    settled_at: datetime | None
    settled: dict[str, Any] | None = Field(description="How it was settled")


def conflict_shape(
    row: Mapping[str, Any],
    sides: Sequence[Side] = (),
    concerned: Mapping[str, Any] = NOTHING,
) -> ConflictShape:
    ref = None
    if row["ref_type"] is not None and row["ref_id"] is not None:
        ref = RefShape(account=row["account"], type=row["ref_type"], id=row["ref_id"])
    by_field = row["kind"] in ("field", "word")
    return ConflictShape(
        id=row["id"],
        kind=row["kind"],
        entity=row["entity"],
        record_id=row["record_id"],
        account=row["account"],
        ref=ref,
        field=row["field"],
        ours=(row["ours"] or {}).get("value") if by_field else row["ours"],
        theirs=(row["theirs"] or {}).get("value") if by_field else row["theirs"],
        detail={**row["detail"], **concerned},
        sides=[side_shape(side) for side in sides],
        state=row["state"],
        opened_at=row["opened_at"],
        settled_at=row["settled_at"],
        settled=row["settled"],
    )
