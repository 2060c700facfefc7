"""What we keep of each account: pause, learned secrets, tokens, directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database
from app.db.tables import accounts, lanes
from app.domain.values import Directory, Pipeline, Stage
from app.errors import ConfigError
from app.sdk.oauth import Tokens

DIRECTIONS = ("in", "out", "scan")
#: A fourth one, of accounts that hear an event bus.
LISTEN = "listen"


class Box:
    """Encrypts what must not lie readable in the database. The first key encrypts, all open."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        if not keys:
            raise ConfigError("SYNCLINE_SECRET_KEYS is empty: set at least one Fernet key")
        try:
            self._fernet = MultiFernet([Fernet(key.get_secret_value()) for key in keys])
        except ValueError as error:
            raise ConfigError(
                "SYNCLINE_SECRET_KEYS: each key must be 32 url-safe base64-encoded bytes"
            ) from error

    def close(self, content: Mapping[str, Any]) -> bytes:
        return self._fernet.encrypt(orjson.dumps(content))

    def open(self, sealed: bytes | None) -> dict[str, Any]:
        """The content; empty for nothing. Raises ConfigError if no key fits."""
        if sealed is None:
            return {}
        try:
            content: dict[str, Any] = orjson.loads(self._fernet.decrypt(sealed))
        except InvalidToken as error:
            raise ConfigError(
                "SYNCLINE_SECRET_KEYS: none of the keys opens the stored secrets; "
                "put the former key back at the end of the list"
            ) from error
        return content


async def register(
    db: AsyncConnection, known: Mapping[str, str], *, listeners: Collection[str] = ()
) -> None:
    """Make sure every configured account (name -> connector, in the file's order) has its row
    and its lanes; ``listeners`` those that hear an event bus.
    """
    places = {name: number for number, name in enumerate(known)}
    for name in sorted(known):
        row = insert(accounts).values(name=name, connector=known[name], position=places[name])
        await db.execute(
            row.on_conflict_do_update(
                index_elements=[accounts.c.name],
                set_={"connector": row.excluded.connector, "position": row.excluded.position},
                where=(accounts.c.connector != row.excluded.connector)
                | (accounts.c.position != row.excluded.position),
            )
        )
        # A lane that was never worked is due: there may be work from before its account.
        directions = (*DIRECTIONS, LISTEN) if name in listeners else DIRECTIONS
        await db.execute(
            insert(lanes)
            .values(
                [{"account": name, "direction": d, "due_at": sa.func.now()} for d in directions]
            )
            .on_conflict_do_nothing()
        )
    await db.execute(
        sa.delete(lanes).where(
            lanes.c.direction == LISTEN, lanes.c.account.in_(known.keys() - set(listeners))
        )
    )


async def paused(db: AsyncConnection) -> dict[str, str | None]:
    """The accounts a person paused, each with the reason."""
    rows = await db.execute(
        sa.select(accounts.c.name, accounts.c.pause_reason).where(accounts.c.paused)
    )
    return {row.name: row.pause_reason for row in rows}


async def pause(db: AsyncConnection, name: str, *, reason: str | None) -> None:
    await db.execute(
        sa.update(accounts).where(accounts.c.name == name).values(paused=True, pause_reason=reason)
    )


async def resume(db: AsyncConnection, name: str) -> bool:
    """Let the account work again, at once, whatever had paused it; False if it was not paused."""
    was = sa.select(accounts.c.paused, accounts.c.refused_at).where(accounts.c.name == name)
    row = (await db.execute(was.with_for_update())).one_or_none()
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(
            paused=False,
            pause_reason=None,
            refused_at=None,
            refused_reason=None,
            away_at=None,
            probe_at=None,
            probes=0,
        )
    )
    await db.execute(
        sa.update(lanes)
        .where(lanes.c.account == name)
        .values(due_at=sa.func.now(), paused_until=None, pause_reason=None, failures=0)
    )
    return row is not None and (row.paused or row.refused_at is not None)


async def _secrets(db: AsyncConnection, name: str) -> bytes | None:
    """The sealed secrets of one account, its row locked."""
    found = await db.execute(
        sa.select(accounts.c.secrets).where(accounts.c.name == name).with_for_update()
    )
    sealed: bytes | None = found.scalar_one()
    return sealed


async def _keep(db: AsyncConnection, box: Box, name: str, content: Mapping[str, Any]) -> None:
    await db.execute(
        sa.update(accounts).where(accounts.c.name == name).values(secrets=box.close(content))
    )


async def keep_webhook_secret(
    db: AsyncConnection, box: Box, name: str, subscription_id: str, secret: SecretStr
) -> None:
    """Remember the signing key a vendor gave us for a subscription."""
    content = box.open(await _secrets(db, name))
    content.setdefault("webhooks", {})[subscription_id] = secret.get_secret_value()
    await _keep(db, box, name, content)


async def add_webhook_secret(db: AsyncConnection, box: Box, name: str, secret: SecretStr) -> None:
    """Trust a secret that a person gave us, whatever becomes of subscriptions."""
    content = box.open(await _secrets(db, name))
    added = {*content.get("added", ()), secret.get_secret_value()}
    await _keep(db, box, name, {**content, "added": sorted(added)})


async def forget_webhook_secret(
    db: AsyncConnection, box: Box, name: str, secret: SecretStr
) -> None:
    """Trust this secret no longer, added or learned."""
    content, text = box.open(await _secrets(db, name)), secret.get_secret_value()
    content["added"] = [one for one in content.get("added", ()) if one != text]
    learned = content.get("webhooks", {})
    content["webhooks"] = {id: key for id, key in learned.items() if key != text}
    await _keep(db, box, name, content)


async def webhook_secrets(db: AsyncConnection, box: Box) -> dict[str, list[SecretStr]]:
    """The learned signing keys of every account, and those that a person added."""
    rows = await db.execute(
        sa.select(accounts.c.name, accounts.c.secrets).where(accounts.c.secrets.is_not(None))
    )
    opened = {name: box.open(sealed) for name, sealed in rows}
    return {
        name: [SecretStr(key) for key in (*one.get("webhooks", {}).values(), *one.get("added", ()))]
        for name, one in opened.items()
    }


async def webhook_keys(db: AsyncConnection, box: Box, name: str) -> frozenset[str]:
    """The subscriptions of an account whose signing keys we learned."""
    found = await db.execute(sa.select(accounts.c.secrets).where(accounts.c.name == name))
    return frozenset(box.open(found.scalar_one()).get("webhooks", {}))


async def forget_webhook_secrets(
    db: AsyncConnection, box: Box, name: str, subscription_ids: Collection[str]
) -> None:
    """Forget the signing keys of subscriptions that are no more."""
    content = box.open(await _secrets(db, name))
    learned = content.get("webhooks", {})
    if gone := set(subscription_ids) & set(learned):
        content["webhooks"] = {id: key for id, key in learned.items() if id not in gone}
        await _keep(db, box, name, content)


async def keep_callback(
    db: AsyncConnection, name: str, url: str | None, *, look_in: timedelta
) -> None:
    """Remember where the CRM was told to call, and look again after a while; None: nowhere."""
    later = None if url is None else sa.func.now() + look_in
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(callback=url, callback_due_at=later)
    )


async def callback(db: AsyncConnection, name: str, *, due: bool = False) -> str | None:
    """Where the CRM was told to call; if ``due``, only when it is time to look whether it does."""
    query = sa.select(accounts.c.callback).where(accounts.c.name == name)
    if due:
        query = query.where(accounts.c.callback_due_at <= sa.func.now())
    url: str | None = (await db.execute(query)).scalar_one_or_none()
    return url


async def reseal(db: AsyncConnection, box: Box) -> int:
    """Encrypt everything anew with the first key; how many accounts had secrets."""
    rows = (
        await db.execute(
            sa.select(accounts.c.name, accounts.c.secrets)
            .where(accounts.c.secrets.is_not(None))
            .with_for_update()
        )
    ).all()
    for name, sealed in rows:
        await _keep(db, box, name, box.open(sealed))
    return len(rows)


class StoredTokens:
    """The tokens of one account while its row is locked."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self.changed = False

    @property
    def tokens(self) -> Tokens | None:
        kept = self._content.get("tokens")
        if not kept:
            return None
        ends = kept["expires_at"]
        return Tokens(
            kept["access_token"],
            kept["refresh_token"],
            datetime.fromisoformat(ends) if ends else None,
            kept.get("base_url"),
        )

    @property
    def issued_for(self) -> str | None:
        found: str | None = self._content.get("tokens", {}).get("issued_for")
        return found

    def save(self, tokens: Tokens, *, issued_for: str | None) -> None:
        ends = tokens.expires_at
        self._content["tokens"] = {
            **asdict(tokens),
            "expires_at": ends.isoformat() if ends else None,
            "issued_for": issued_for,
        }
        self.changed = True


class TokenStore:
    """Tokens under a row lock, so that one refresh serves however many workers."""

    def __init__(self, database: Database, box: Box, account: str) -> None:
        self._database, self._box, self._account = database, box, account

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[StoredTokens]:
        """The stored tokens; what is saved is committed when the block ends.

        The one place where a transaction stays open over a vendor call: the lock is what
        keeps a second worker from spending the same refresh token.
        """
        async with self._database.transaction() as db:
            content = self._box.open(await _secrets(db, self._account))
            tokens = StoredTokens(content)
            yield tokens
            if tokens.changed:
                await _keep(db, self._box, self._account, content)


async def keep_directory(db: AsyncConnection, name: str, directory: Directory) -> None:
    content = {
        "pipelines": _as_json(directory.pipelines),
        "tickets": _as_json(directory.tickets),
        "owners": dict(directory.owners),
        "names": dict(directory.names),
        "currency": directory.currency,
        "retired": sorted(directory.retired),
        "zone": directory.zone,
        "schema": directory.schema,
        "labels": {entity: dict(own) for entity, own in directory.labels.items()},
        "options": {entity: dict(paths) for entity, paths in directory.options.items()},
        "stamps": dict(directory.stamps),
    }
    await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name)
        .values(directory=content, directory_at=sa.func.now())
    )


async def mapped_as(db: AsyncConnection, name: str, digest: str) -> bool:
    """Remember what the account is mapped by; whether that is new."""
    changed = await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name, accounts.c.mapped.is_distinct_from(digest))
        .values(mapped=digest)
    )
    return changed.rowcount > 0


async def told_as(db: AsyncConnection, name: str, digest: str) -> bool:
    """Remember by what the account was told; whether that is new."""
    changed = await db.execute(
        sa.update(accounts)
        .where(accounts.c.name == name, accounts.c.told_as.is_distinct_from(digest))
        .values(told_as=digest)
    )
    return changed.rowcount > 0


async def directories(
    db: AsyncConnection, names: Collection[str]
) -> dict[str, tuple[Directory, datetime]]:
    """The last known directory of each account, and when it was fetched."""
    rows = await db.execute(
        sa.select(accounts.c.name, accounts.c.directory, accounts.c.directory_at).where(
            accounts.c.name.in_(names), accounts.c.directory.is_not(None)
        )
    )
    return {name: (_directory(content), at) for name, content, at in rows}


def _as_json(pipelines: Sequence[Pipeline]) -> list[dict[str, Any]]:
    return [
        {
            "id": p.id,
            "name": p.name,
            "stages": [{"id": s.id, "name": s.name, "kind": s.kind} for s in p.stages],
        }
        for p in pipelines
    ]


def _pipelines(listed: Sequence[Mapping[str, Any]]) -> tuple[Pipeline, ...]:
    return tuple(
        Pipeline(p["id"], p["name"], tuple(Stage(**s) for s in p["stages"])) for p in listed
    )


def _directory(content: Mapping[str, Any]) -> Directory:
    return Directory(
        pipelines=_pipelines(content["pipelines"]),
        tickets=_pipelines(content.get("tickets") or ()),
        owners=content["owners"],
        names=content.get("names") or {},
        currency=content["currency"],
        retired=frozenset(content["retired"]),
        zone=content.get("zone"),
        schema=content.get("schema"),
        labels=content.get("labels") or {},
        options=content["options"],
        stamps=content.get("stamps") or {},
    )
