"""Pending writes: what an account would be told, without telling it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.access import READ
from app.api.deps import DeskDep, PagingDep, known
from app.api.shapes import EXAMPLE_RECORD, EXAMPLE_TIME, ErrorShape, Listed, error_shape
from app.sync.pending import pending

router = APIRouter(prefix="/accounts", tags=["accounts"])


class PendingShape(BaseModel):
    """One write that waits."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "op": "update",
                "account": "hubspot",
                "entity": "person",
                "record_id": EXAMPLE_RECORD,
                "remote_id": "33451",
                "name": "Ada Lovelace",
                "fields": {"title": {"from": "CTO", "to": "CEO"}},
                "reason": None,
                "state": "pending",
                "marked_at": EXAMPLE_TIME,
                "attempts": 0,
                "error": None,
            }
        }
    )

    op: str = Field(
        description="create; update; delete; link: it is there already and would be linked; hold: "
        "it would wait for a person; none: nothing would be written"
    )
    account: str
    entity: str
    record_id: UUID
    remote_id: str | None
    name: str | None = Field(description="What a person calls the record")
    fields: dict[str, Any] = Field(description="name: {from, to}")
    reason: str | None = Field(description="Why it would be held, or not written")
    state: str = Field(
        description="pending; waiting; loading: in a file on its way; held by the account's guard"
    )
    marked_at: datetime = Field(description="Since when the account is behind")
    attempts: int
    error: ErrorShape | None


@router.get(
    "/{name}/pending",
    dependencies=[READ],
    responses=problems.responses(
        problems.BAD_CURSOR, problems.UNKNOWN_ACCOUNT, problems.CRM_REFUSED, problems.CRM_FAILED
    ),
)
async def index(name: str, desk: DeskDep, paging: PagingDep) -> Listed[PendingShape]:
    """What a push to this account would write now, worked out by the same code; writes nothing.

    A page has the writes of `limit` records: an account in mode `observe` gets exactly these once
    it is `live`.
    """
    known(desk, name)
    found = await pending(desk.house, name, cursor=paging.cursor, limit=paging.limit)
    items = [
        PendingShape.model_validate({"reason": None, **item, "error": error_shape(item["error"])})
        for item in found.items
    ]
    return Listed(items=items, next_cursor=found.next_cursor)
