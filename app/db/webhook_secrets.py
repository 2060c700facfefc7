"""How old each webhook secret is and when it last fitted: when may the old one go?"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import purges
from app.db.accounts import Box
from app.db.pages import Row, rows
from app.db.tables import webhook_secrets

_KEY = "webhook secrets"


async def key(db: AsyncConnection, box: Box) -> bytes:
    """What secrets are hashed with, so that their ids tell nothing of them."""
    found = await purges.pepper(db, box, name=_KEY)
    if found is None:
        found = await purges.pepper(db, box, name=_KEY, make=True)
    assert found is not None, "it was made just now"
    return found


def name(key: bytes, secret: SecretStr) -> str:
    """The id of a secret."""
    text = secret.get_secret_value().encode("utf-8", "surrogatepass")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:12]


async def note(
    db: AsyncConnection,
    known: Collection[tuple[str, str]],
    used: Mapping[tuple[str, str], datetime],
) -> None:
    """Remember secrets, by account and id, from when they are first seen; and their last use."""
    if known:
        made = [{"account": account, "id": id} for account, id in sorted(known)]
        await db.execute(insert(webhook_secrets).values(made).on_conflict_do_nothing())
    for (account, id), at in sorted(used.items()):
        last = sa.func.greatest(webhook_secrets.c.used_at, at)
        await db.execute(
            sa.update(webhook_secrets)
            .where(webhook_secrets.c.account == account, webhook_secrets.c.id == id)
            .values(used_at=last)
        )


async def of(db: AsyncConnection, account: str) -> dict[str, Row]:
    """What is remembered of an account's secrets, by id."""
    query = sa.select(webhook_secrets).where(webhook_secrets.c.account == account)
    return {row["id"]: row for row in await rows(db, query)}
