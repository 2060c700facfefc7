"""What came in, and what became of it: events and deliveries."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, PagingDep
from app.api.problems import ProblemError
from app.api.shapes import (
    EXAMPLE_TIME,
    ErrorShape,
    Listed,
    RefShape,
    RowId,
    Text,
    error_shape,
    listed,
)
from app.db import deliveries, listings

router = APIRouter(tags=["events"])

State = Literal["pending", "done", "dead"]
Answer = Literal["handled", "ignored", "unsupported", "foreign"]

_EVENT: JsonDict = {
    "id": 311,
    "account": "close",
    "key": "ev_1:2026-11-22T03:07:12.345000",
    "type": "lead.updated",
    "ref": {"account": "close", "type": "lead", "id": "lead_1"},
    "at": EXAMPLE_TIME,
    "received_at": EXAMPLE_TIME,
    "delivery_id": 208,
    "answer": "handled",
    "state": "done",
    "attempts": 0,
    "error": None,
}
_DELIVERY: JsonDict = {
    "id": 208,
    "account": "close",
    "method": "POST",
    "target": "/webhooks/close",
    "size": 1043,
    "received_at": EXAMPLE_TIME,
    "state": "done",
    "due_at": EXAMPLE_TIME,
    "attempts": 0,
    "error": None,
}


class EventShape(BaseModel):
    """What a connector read in a delivery."""

    model_config = ConfigDict(json_schema_extra={"example": _EVENT})

    id: int
    account: str
    key: str = Field(description="Unique per fact: the same event again has the same key")
    type: str
    ref: RefShape | None = Field(description="The remote record it is about")
    at: datetime = Field(description="When it happened, by the vendor's clock")
    received_at: datetime
    delivery_id: int
    answer: Answer = Field(
        description="handled; ignored knowingly; unsupported: no handler yet, replayable; "
        "foreign: of a portal that no account here has"
    )
    state: State
    attempts: int
    error: ErrorShape | None


class DeliveryShape(BaseModel):
    """One webhook as received, without its body."""

    model_config = ConfigDict(json_schema_extra={"example": _DELIVERY})

    id: int
    account: str
    method: str
    target: str = Field(description="Path and query, exactly as called")
    size: int = Field(description="Bytes of the body")
    received_at: datetime
    state: State = Field(description="pending: to be read; done; dead: needs a person")
    due_at: datetime
    attempts: int
    error: ErrorShape | None


class DeliveryDetail(DeliveryShape):
    """A webhook with its bytes, the events in it and what became of each."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_DELIVERY,
                "headers": {"content-type": "application/json", "close-sig-hash": "dbf50fac…"},
                "body": '{"event":{"id":"ev_1","object_type":"lead","action":"updated"}}',
                "body_encoding": "text",
                "events": [_EVENT],
            }
        }
    )

    headers: dict[str, str] = Field(description="Lower-case names; no authorization, no cookies")
    body: str
    body_encoding: Literal["text", "base64"] = Field(description="base64 if it is not UTF-8")
    events: list[EventShape]


def _event(row: Mapping[str, Any]) -> EventShape:
    ref = None
    if row["ref_type"] is not None and row["ref_id"] is not None:
        ref = RefShape(account=row["account"], type=row["ref_type"], id=row["ref_id"])
    plain = {name: row[name] for name in EventShape.model_fields if name not in ("ref", "error")}
    return EventShape(**plain, ref=ref, error=error_shape(row["error"]))


def _delivery(row: Mapping[str, Any]) -> DeliveryShape:
    plain = {name: row[name] for name in DeliveryShape.model_fields if name != "error"}
    return DeliveryShape(**plain, error=error_shape(row["error"]))


def _detail(row: Mapping[str, Any]) -> DeliveryDetail:
    raw = bytes(row["body"])
    encoding: Literal["text", "base64"] = "text"
    try:
        body = raw.decode()
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(raw).decode(), "base64"
    return DeliveryDetail(
        **_delivery(row).model_dump(),
        headers=row["headers"],
        body=body,
        body_encoding=encoding,
        events=[_event(event) for event in row["events"]],
    )


def _missing(delivery_id: int) -> ProblemError:
    return ProblemError(problems.NOT_FOUND, f"There is no delivery {delivery_id}.")


@router.get("/events", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep,
    paging: PagingDep,
    account: Text = None,
    type: Annotated[Text, Query(description="The vendor's own event type")] = None,
    state: Annotated[State | None, Query()] = None,
    answer: Annotated[Answer | None, Query()] = None,
    delivery: Annotated[
        int | None, Query(description="The delivery they came in", ge=1, le=2**63 - 1)
    ] = None,
) -> Listed[EventShape]:
    """Events, newest first."""
    async with database.transaction() as db:
        page = await listings.list_events(
            db,
            account=account,
            type=type,
            state=state,
            answer=answer,
            delivery=delivery,
            cursor=paging.cursor,
            limit=paging.limit,
        )
    return listed(page, _event)


@router.get("/deliveries", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def list_deliveries(
    database: DatabaseDep,
    paging: PagingDep,
    account: Text = None,
    state: Annotated[State | None, Query()] = None,
) -> Listed[DeliveryShape]:
    """Webhooks as received, newest first."""
    async with database.transaction() as db:
        page = await deliveries.listed(
            db, account=account, state=state, cursor=paging.cursor, limit=paging.limit
        )
    return listed(page, _delivery)


@router.get(
    "/deliveries/{delivery_id}",
    dependencies=[READ],
    responses=problems.responses(problems.NOT_FOUND),
)
async def show(delivery_id: RowId, database: DatabaseDep) -> DeliveryDetail:
    """One webhook: headers, body, its events and what became of each."""
    async with database.transaction() as db:
        row = await deliveries.one(db, delivery_id)
    if row is None:
        raise _missing(delivery_id)
    return _detail(row)


@router.post(
    "/deliveries/{delivery_id}/replay",
    dependencies=[OPERATE],
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems.responses(problems.NOT_FOUND),
)
async def replay(delivery_id: RowId, database: DatabaseDep) -> DeliveryDetail:
    """Read it again and act on its events again, now. What has not changed stays unchanged."""
    async with database.transaction() as db:
        found = await deliveries.replay(db, delivery_id)
        row = await deliveries.one(db, delivery_id) if found else None
    if row is None:
        raise _missing(delivery_id)
    return _detail(row)
