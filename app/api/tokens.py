"""API tokens and what was done with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, status
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api import problems
from app.api.access import ADMIN
from app.api.deps import DatabaseDep, PagingDep
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_TIME, Listed, Text, listed
from app.db import audit, tokens

router = APIRouter(tags=["access"])

#: Lower case, so that none can pass for SYNCLINE_API_TOKEN.
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_Scope = Literal["read", "operate", "admin"]
_TOKEN: JsonDict = {
    "name": "grafana",
    "scope": "read",
    "created_at": EXAMPLE_TIME,
    "used_at": EXAMPLE_TIME,
}


class NewToken(BaseModel):
    """What to call the token, and what it may do."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "grafana", "scope": "read"}]}
    )

    name: str = Field(pattern=_NAME, description="Who or what will use it; it stands in the audit")
    scope: _Scope = Field(
        description="read: look; operate: also resync, replay, resolve, pause …; admin: all"
    )


class TokenShape(BaseModel):
    """A token, without what it is."""

    model_config = ConfigDict(json_schema_extra={"example": _TOKEN})

    name: str
    scope: _Scope
    created_at: datetime
    used_at: datetime | None = Field(description="Last use, to the minute; null for never")


class MadeToken(BaseModel):
    """A new token: the only time that it can be read."""

    name: str
    scope: _Scope
    token: str = Field(description="Only its hash is kept")


class ActShape(BaseModel):
    """One act of a person: who did what, when, on what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 41,
                "at": EXAMPLE_TIME,
                "who": "ada",
                "what": "POST /api/accounts/{name}/pause",
                "target": "/api/accounts/close/pause",
                "detail": {"reason": "…"},
                "status": 200,
                "request_id": "5f0c4f6f2b5b4b1e9d2f7f3c1a0b9e8d",
            }
        }
    )

    id: int
    at: datetime
    who: str = Field(description="The token's name; SYNCLINE_API_TOKEN for that of the environment")
    what: str = Field(description="The call by method and path, or the command")
    target: str = Field(description="The path with the names and ids in it")
    detail: dict[str, Any] = Field(description="What was asked for; `…` where that may be personal")
    status: int | None = Field(description="What was answered; null if it broke amid the act")
    request_id: str | None = Field(description="As in the log")


def _act(row: Mapping[str, Any]) -> ActShape:
    return ActShape.model_validate(dict(row))


@router.get("/tokens", dependencies=[ADMIN])
async def index(database: DatabaseDep) -> Listed[TokenShape]:
    """Every token that lives, with its scope and its last use."""
    async with database.transaction() as db:
        found = await tokens.listed(db)
    return Listed(items=[TokenShape.model_validate(dict(row)) for row in found], next_cursor=None)


@router.post(
    "/tokens",
    dependencies=[ADMIN],
    status_code=status.HTTP_201_CREATED,
    responses=problems.responses(problems.CONFLICT),
)
async def create(wanted: NewToken, database: DatabaseDep) -> MadeToken:
    """Make a token. It is answered this once; we keep its hash."""
    async with database.transaction() as db:
        token = await tokens.create(db, wanted.name, wanted.scope)
    if token is None:
        raise ProblemError(
            problems.CONFLICT, f"There is a token {wanted.name!r} already; revoke it first."
        )
    return MadeToken(name=wanted.name, scope=wanted.scope, token=token)


@router.delete(
    "/tokens/{name}",
    dependencies=[ADMIN],
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems.responses(problems.NOT_FOUND),
)
async def revoke(name: Annotated[str, Path(pattern=_NAME)], database: DatabaseDep) -> None:
    """Take a token back: from now on it opens nothing, at any replica."""
    async with database.transaction() as db:
        if not await tokens.revoke(db, name):
            raise ProblemError(problems.NOT_FOUND, f"There is no token {name!r}.")


@router.get("/audit", dependencies=[ADMIN], responses=problems.responses(problems.BAD_CURSOR))
async def acts(
    database: DatabaseDep,
    paging: PagingDep,
    who: Annotated[Text, Query(description="The name of a token")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not before this moment")] = None,
) -> Listed[ActShape]:
    """What people did, the newest first. Looking is not written down."""
    async with database.transaction() as db:
        page = await audit.listed(
            db, who=who, since=since, cursor=paging.cursor, limit=paging.limit
        )
    return listed(page, _act)
