"""What routes ask for: the pieces that live as long as the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from pydantic import BaseModel

from app.api import problems
from app.api.problems import ProblemError
from app.api.secrets import Secrets
from app.config import AccountConfig, Config
from app.db.accounts import Box
from app.db.engine import Database
from app.db.inbox import Inbox
from app.sdk.connector import Connector
from app.settings import Settings
from app.sync.house import House


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that lives as long as the service, for the routes to reach."""

    settings: Settings
    config: Config
    database: Database
    house: House
    connectors: Mapping[str, Connector]
    box: Box
    secrets: Secrets
    inbox: Inbox
    schema: str | None  # the revision that the code was written for


def _desk(request: Request) -> Desk:
    return cast(Desk, request.app.state.desk)


DeskDep = Annotated[Desk, Depends(_desk)]


def _database(desk: DeskDep) -> Database:
    return desk.database


DatabaseDep = Annotated[Database, Depends(_database)]

# ---------------------------------------------------------------------------- accounts


def known(desk: Desk, name: str) -> AccountConfig:
    """The configuration of an account. Raises ProblemError (404)."""
    try:
        return desk.config.accounts[name]
    except KeyError:
        names = ", ".join(sorted(desk.config.accounts)) or "none at all"
        raise ProblemError(
            problems.UNKNOWN_ACCOUNT, f"There is no account {name!r}; configured: {names}."
        ) from None


def connector(desk: DeskDep, name: str) -> Connector:
    """The connector of the account in the path. Raises ProblemError (404)."""
    known(desk, name)
    return desk.connectors[name]


ConnectorDep = Annotated[Connector, Depends(connector)]

# ------------------------------------------------------------------------------- pages


class Paging(BaseModel):
    """Where in a list to begin, and how much of it to answer."""

    cursor: str | None = None
    limit: int = 50


def _paging(
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before; opaque", max_length=1000)
    ] = None,
    limit: Annotated[int, Query(description="How many items", ge=1, le=500)] = 50,
) -> Paging:
    return Paging(cursor=cursor, limit=limit)


PagingDep = Annotated[Paging, Depends(_paging)]
