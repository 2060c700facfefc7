"""API tokens: kept as hashes, shown once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.pages import Row, first, rows
from app.db.tables import tokens

#: What a token may do; each may do what those before it may.
SCOPES: Final = ("read", "operate", "admin")
#: So that a scanner of secrets, and our own log, know one when they see it.
PREFIX: Final = "syncline_"
#: A token that is used all the time is not written down each time.
_COARSE: Final = timedelta(minutes=1)

_SHOWN = (tokens.c.name, tokens.c.scope, tokens.c.created_at, tokens.c.used_at)


def digest(token: str) -> bytes:
    """What is kept of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def create(db: AsyncConnection, name: str, scope: str) -> str | None:
    """A new token, readable this once; None if the name is taken."""
    token = PREFIX + secrets.token_urlsafe(32)
    made = await db.execute(
        insert(tokens)
        .values(name=name, scope=scope, digest=digest(token))
        .on_conflict_do_nothing(index_elements=[tokens.c.name])
    )
    return token if made.rowcount else None


async def revoke(db: AsyncConnection, name: str) -> bool:
    """From now on nobody has this token; whether there was one."""
    gone = await db.execute(sa.delete(tokens).where(tokens.c.name == name))
    return gone.rowcount > 0


async def named(db: AsyncConnection, token: str) -> Row | None:
    """Whose token this is, noting that it was used; None for nobody's."""
    found = await first(db, sa.select(*_SHOWN).where(tokens.c.digest == digest(token)))
    if found is not None:
        recent = tokens.c.used_at > sa.func.now() - _COARSE
        await db.execute(
            sa.update(tokens)
            .where(tokens.c.name == found["name"], ~sa.func.coalesce(recent, sa.false()))
            .values(used_at=sa.func.now())
        )
    return found


async def listed(db: AsyncConnection) -> Sequence[Row]:
    """Every token, without what it is."""
    return await rows(db, sa.select(*_SHOWN).order_by(tokens.c.name))
