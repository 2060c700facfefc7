"""Sessions that are renewed: one renewal, however many workers, kept before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import SecretStr

from app import clock
from app.errors import AccountError, TransientError, UnknownOutcomeError
from app.sdk.client import Answer, Wire, bearer


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave; ``base_url`` is where it says that calls go."""

    access_token: str
    refresh_token: str | None = None
    expires_at: datetime | None = None
    base_url: str | None = None


class StoredTokens(Protocol):
    """The tokens of one account while they are locked.

    ``issued_for`` says for whom they were asked, as whoever saved them put it.
    """

    @property
    def tokens(self) -> Tokens | None: ...
    @property
    def issued_for(self) -> str | None: ...
    def save(self, tokens: Tokens, *, issued_for: str | None) -> None: ...


class TokenStore(Protocol):
    """Tokens that outlive us; whoever holds them locked is alone with them.

    What is saved is durable once the block has ended.
    """

    def locked(self) -> AbstractAsyncContextManager[StoredTokens]: ...


class OwnStore:
    """A store for one process alone: for sessions that can be asked for again at any time."""

    def __init__(self) -> None:
        self.tokens: Tokens | None = None
        self.issued_for: str | None = None
        self._lock = asyncio.Lock()

    def save(self, tokens: Tokens, *, issued_for: str | None) -> None:
        self.tokens, self.issued_for = tokens, issued_for

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[StoredTokens]:
        async with self._lock:
            yield self


class Session:
    """A bearer token that is renewed when it ends or is refused.

    Subclasses say how: `ask`. Tokens that were issued for somebody else than ``issued_for`` (the
    account was configured anew) are not used.
    """

    #: Renew this long before the end, so that no call meets an expired token.
    AHEAD = timedelta(seconds=60)

    def __init__(
        self,
        store: TokenStore,
        *,
        wire: Wire,
        issued_for: str | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._store, self._now = store, now
        self.wire, self._issued_for = wire, issued_for
        self._tokens: Tokens | None = None
        self._one = asyncio.Lock()

    @property
    def base_url(self) -> str | None:
        return self._tokens.base_url if self._tokens else None

    async def header(self) -> dict[str, str]:
        if self._tokens is None or self._is_over(self._tokens):
            await self._renew(refused=None)
        return bearer(self._tokens.access_token if self._tokens else "")

    async def refresh(self, refused: dict[str, str]) -> bool:
        _, _, token = refused.get("authorization", "").partition(" ")
        await self._renew(refused=token)
        return True

    async def ask(self, kept: str | None) -> Tokens:
        """New tokens; ``kept`` is the refresh token that was stored last.

        Raises AccountError where a person must mend something, TransientError where not.
        """
        raise NotImplementedError

    async def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """What a token endpoint answers. Raises TransientError where it does not."""
        try:
            answer = await self.wire.post_form(url, form)
        except UnknownOutcomeError as error:
            raise TransientError(f"the token endpoint did not answer: {error.reason}") from error
        if answer.status == 429 or answer.status >= 500:
            raise TransientError(f"the token endpoint answered {answer.status}")
        return answer

    def _is_over(self, tokens: Tokens) -> bool:
        return tokens.expires_at is not None and tokens.expires_at - self.AHEAD <= self._now()

    def _is_good(self, tokens: Tokens | None, refused: str | None) -> bool:
        return tokens is not None and tokens.access_token != refused and not self._is_over(tokens)

    async def _renew(self, *, refused: str | None) -> None:
        async with self._one:
            if self._is_good(self._tokens, refused):
                return  # another call of ours has just done it
            async with self._store.locked() as stored:
                tokens = stored.tokens if stored.issued_for == self._issued_for else None
                if not self._is_good(tokens, refused):
                    tokens = await self.ask(tokens.refresh_token if tokens else None)
                    stored.save(tokens, issued_for=self._issued_for)
            # Only now is the rotated token durable, and only now may anyone use it.
            if tokens is not None and tokens.base_url is not None:
                self.wire.admit(tokens.base_url)
            self._tokens = tokens


class OAuthRefresh(Session):
    """Access tokens from a refresh token that may rotate."""

    def __init__(
        self,
        token_url: str,
        client_id: SecretStr,
        client_secret: SecretStr,
        *,
        refresh_token: SecretStr,
        store: TokenStore,
        wire: Wire,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        super().__init__(store, wire=wire, now=now)
        self._url, self._seed = token_url, refresh_token
        self._client_id, self._client_secret = client_id, client_secret

    async def ask(self, kept: str | None) -> Tokens:
        seed = self._seed.get_secret_value()
        answer = await self._spend(kept or seed)
        if answer.status in (400, 401) and kept and kept != seed:
            # Somebody connected the account anew: the configured token is the younger one.
            kept, answer = seed, await self._spend(seed)
        data = answer.data if isinstance(answer.data, dict) else {}
        if answer.status != 200 or not isinstance(data.get("access_token"), str):
            raise AccountError(
                f"the refresh token was refused ({answer.status} "
                f"{str(data.get('error') or 'without a reason')[:80]}): connect the account anew"
            )
        life = data.get("expires_in")
        at = self._now() + timedelta(seconds=life) if isinstance(life, int | float) else None
        return Tokens(data["access_token"], data.get("refresh_token") or kept or seed, at)

    async def _spend(self, refresh_token: str) -> Answer:
        form = {
            "grant_type": "refresh_token",
            "client_id": self._client_id.get_secret_value(),
            "client_secret": self._client_secret.get_secret_value(),
            "refresh_token": refresh_token,
        }
        return await self.post(self._url, form)
