"""Dead letters: what needs a person, grouped by cause, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, status
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, PagingDep
from app.api.shapes import (
    EXAMPLE_ERROR,
    EXAMPLE_RECORD,
    EXAMPLE_TIME,
    ErrorShape,
    Listed,
    Text,
    error_shape,
)
from app.db import dead_letters
from app.db.dead_letters import Which

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

_LETTER: JsonDict = {
    "id": f"outbox:hubspot:{EXAMPLE_RECORD}",
    "kind": "outbox",
    "account": "hubspot",
    **EXAMPLE_ERROR,
    "count": 3,
    "attempts": 1,
    "since": EXAMPLE_TIME,
    "died_at": EXAMPLE_TIME,
    "delivery_id": None,
    "record_id": EXAMPLE_RECORD,
}


class Letter(ErrorShape):
    """One row that needs a person."""

    model_config = ConfigDict(json_schema_extra={"example": _LETTER})

    id: str = Field(description="`delivery:12`, `event:34` or `outbox:<account>:<record>`")
    kind: Literal["delivery", "event", "outbox"]
    account: str
    count: int = Field(description="How many letters have the same cause")
    attempts: int
    since: datetime = Field(description="When the row came to be")
    died_at: datetime = Field(description="When it was given up")
    delivery_id: int | None = Field(description="The delivery to look at")
    record_id: UUID | None = Field(description="The record to look at")


class Cause(BaseModel):
    """What several letters have in common."""

    cause: str
    count: int
    accounts: list[str]
    oldest: datetime
    newest: datetime
    next_step: str | None


class Letters(Listed[Letter]):
    """Letters of one cause stand together; ``causes`` counts them all."""

    causes: list[Cause] = Field(description="Every cause, the most frequent first")


CauseText = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
LetterId = Annotated[str, Field(max_length=200, pattern=r"^(delivery|event|outbox):[^\x00]+$")]


class Replay(BaseModel):
    """Which letters go back: these ids; those of a cause, an account and a time; or all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"ids": ["delivery:12", f"outbox:hubspot:{EXAMPLE_RECORD}"]},
                {"cause": "RejectedError: email"},
                {"account": "hubspot", "since": EXAMPLE_TIME},
                {"all": True},
            ]
        },
    )

    ids: list[LetterId] | None = Field(None, min_length=1, max_length=10_000)
    cause: CauseText | None = None
    account: str | None = Field(None, max_length=100, pattern=r"^[^\x00]+$")
    since: AwareDatetime | None = Field(None, description="That died then or later")
    until: AwareDatetime | None = Field(None, description="… and before this")
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Replay:
        some = (self.cause, self.account, self.since, self.until)
        meant = any(given is not None for given in some)
        if sum((self.ids is not None, meant, self.all is not None)) != 1:
            raise ValueError("say ids; or cause, account, since and until; or all")
        return self


class Replayed(BaseModel):
    """What went back."""

    replayed: int
    ids: list[str] = Field(description="At most the first 1,000")
    not_found: list[str] = Field(description="Asked for, but not dead (any more)")


def _letter(row: Mapping[str, Any], counts: Mapping[str, int]) -> Letter:
    error = error_shape(row["error"]) or ErrorShape()
    plain = ("id", "kind", "account", "attempts", "since", "died_at", "delivery_id", "record_id")
    return Letter(
        **error.model_dump(),
        **{name: row[name] for name in plain},
        count=counts.get(row["cause"], 1),
    )


@router.get("", dependencies=[READ], responses=problems.responses(problems.BAD_CURSOR))
async def index(
    database: DatabaseDep, paging: PagingDep, cause: Text = None, account: Text = None
) -> Letters:
    """Letters with record, field, value, the vendor's reason and the next step, by cause."""
    which = Which(cause, account)
    async with database.transaction() as db:
        page = await dead_letters.listed(db, which, cursor=paging.cursor, limit=paging.limit)
        causes = await dead_letters.causes(db, which)
    counts = {row["cause"]: row["count"] for row in causes}
    return Letters(
        items=[_letter(row, counts) for row in page.items],
        next_cursor=page.next_cursor,
        causes=[Cause.model_validate(dict(row)) for row in causes],
    )


@router.post("/replay", dependencies=[OPERATE], status_code=status.HTTP_202_ACCEPTED)
async def replay(which: Replay, database: DatabaseDep) -> Replayed:
    """Try these letters again, now, with their attempts forgotten."""
    async with database.transaction() as db:
        meant = Which(which.cause, which.account, which.since, which.until)
        back = await dead_letters.replay(db, meant, ids=which.ids)
    missing = sorted(set(which.ids or ()) - set(back))
    return Replayed(replayed=len(back), ids=back[:1000], not_found=missing)
