"""What the webhooks of an account are known by: signing secrets, and tokens in the path."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.api import problems
from app.api.access import ADMIN, READ
from app.api.deps import ConnectorDep, Desk, DeskDep, known
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_TIME, Listed
from app.db import accounts
from app.sdk.signature import IN_PATH, token_of

router = APIRouter(prefix="/accounts", tags=["accounts"])


class SecretShape(BaseModel):
    """A webhook secret, without what it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "9f86d081884c",
                "source": "configured",
                "stands": "in signatures",
                "since": EXAMPLE_TIME,
                "used_at": EXAMPLE_TIME,
            }
        }
    )

    id: str = Field(description="A keyed hash: the same for as long as the secret is")
    source: Literal["configured", "kept"] = Field(
        description="configured: in the file; kept: added here, or learned when we subscribed"
    )
    stands: Literal["in signatures", "in the path"] = Field(
        description="in the path: a token of the URL, for what its CRM cannot sign"
    )
    since: datetime = Field(description="When it was first seen")
    used_at: datetime | None = Field(description="When a webhook last came that it fits")


class NewSecret(BaseModel):
    """What webhooks may be signed with from now on."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"secret": "whsec_MfKQ9r8GKYqrTwjU"}]}
    )

    secret: SecretStr = Field(min_length=8, max_length=500)


class WantedPath(BaseModel):
    """Which URL."""

    model_config = ConfigDict(extra="forbid")

    new: bool = Field(False, description="Another one beside those there are, to rotate them")


class PathShape(BaseModel):
    """Where a CRM calls that cannot sign: whoever knows it can call."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "path": "/webhooks/salesforce/8Jx…",
                "url": "https://sync.example.com/webhooks/salesforce/8Jx…",
                "made": True,
            }
        }
    )

    path: str
    url: str | None = Field(description="Null while PUBLIC_URL is not set")
    made: bool = Field(description="It is new")


async def _secrets(desk: Desk, name: str) -> Listed[SecretShape]:
    items = [
        SecretShape(
            id=one.id,
            source="configured" if one.configured else "kept",
            stands="in the path" if token_of(one.secret) else "in signatures",
            since=one.since,
            used_at=one.used_at,
        )
        for one in await desk.secrets.shown(name)
    ]
    return Listed(items=items, next_cursor=None)


@router.get(
    "/{name}/secrets",
    dependencies=[READ],
    responses=problems.responses(problems.UNKNOWN_ACCOUNT),
)
async def list_secrets(name: str, desk: DeskDep) -> Listed[SecretShape]:
    """What webhooks of the account may be signed with: how old each is, and its last use."""
    known(desk, name)
    return await _secrets(desk, name)


@router.post(
    "/{name}/secrets",
    dependencies=[ADMIN],
    status_code=status.HTTP_201_CREATED,
    responses=problems.responses(problems.UNKNOWN_ACCOUNT),
)
async def add_secret(name: str, wanted: NewSecret, desk: DeskDep) -> Listed[SecretShape]:
    """Trust a further secret beside the others, at once; it is kept encrypted."""
    known(desk, name)
    async with desk.database.transaction() as db:
        await accounts.add_webhook_secret(db, desk.box, name, wanted.secret)
    return await _secrets(desk, name)


@router.post(
    "/{name}/secrets/path",
    dependencies=[ADMIN],
    responses=problems.responses(problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
)
async def show_path(
    name: str, wanted: WantedPath, connector: ConnectorDep, desk: DeskDep
) -> PathShape:
    """The URL for what the CRM cannot sign, with its secret in it; made where there is none."""
    if not connector.manifest.webhook.in_path:
        title = connector.manifest.title
        raise ProblemError(problems.CONFLICT, f"{title} signs its webhooks: its URL has no secret.")
    tokens = [token for one in await desk.secrets.shown(name) if (token := token_of(one.secret))]
    made = wanted.new or not tokens
    if made:
        tokens.append(secrets.token_urlsafe(32))
        async with desk.database.transaction() as db:
            secret = SecretStr(f"{IN_PATH}{tokens[-1]}")
            await accounts.add_webhook_secret(db, desk.box, name, secret)
        await desk.secrets.refresh()
    path, base = f"/webhooks/{name}/{tokens[-1]}", desk.settings.public_url
    return PathShape(path=path, url=base and f"{base}{path}", made=made)


@router.delete(
    "/{name}/secrets/{secret_id}",
    dependencies=[ADMIN],
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems.responses(problems.UNKNOWN_ACCOUNT, problems.NOT_FOUND, problems.CONFLICT),
)
async def forget_secret(name: str, secret_id: str, desk: DeskDep) -> None:
    """Trust a secret no longer. One of the configuration is removed there."""
    known(desk, name)
    found = next((one for one in await desk.secrets.shown(name) if one.id == secret_id), None)
    if found is None:
        raise ProblemError(problems.NOT_FOUND, f"{name} has no such secret.")
    if found.configured:
        raise ProblemError(
            problems.CONFLICT, "This secret is in the configuration: remove it there and restart."
        )
    async with desk.database.transaction() as db:
        await accounts.forget_webhook_secret(db, desk.box, name, found.secret)
    await desk.secrets.refresh()
