"""Who may ask for what: tokens, their scopes, and a row for every act of a person."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, get_contextvars

from app import logs
from app.api import problems
from app.api.deps import Desk, DeskDep
from app.api.problems import ProblemError
from app.db import audit, tokens
from app.db.engine import Database
from app.db.tokens import SCOPES

log = logs.get()

#: Who the token of the environment is; no other can be called so.
ENVIRONMENT: Final = "SYNCLINE_API_TOKEN"
#: Looking is no act.
_LOOKING: Final = ("GET", "HEAD", "OPTIONS")
#: What of a body or query is written down. All else may be somebody's name or a secret: of
#: that, only that it was there.
_TOLD: Final = frozenset(
    {
        *("account", "accounts", "all", "cause", "delete", "dry_run", "entities", "entity"),
        *("field", "for_an_hour", "id", "ids", "into", "journal_id", "keep", "link", "merge"),
        *("name", "new", "op", "propagate", "record_id", "remote_id", "scope", "since", "unlink"),
    }
)
_LONGEST: Final = 200  # characters of one told value
_ACT: Final = "syncline.act"

_bearer = HTTPBearer(
    auto_error=False,
    description="The value of SYNCLINE_API_TOKEN (an embedded run prints it at its first start), "
    "or a token of `syncline tokens create`.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by the name of the token, and what that token may do."""

    name: str
    scope: str

    def may(self, scope: str) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


async def allowed(
    needs: SecurityScopes,
    request: Request,
    desk: DeskDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Pass if the token may do this. Raises ProblemError (401, 403)."""
    caller = await _caller(desk, credentials.credentials if credentials else "")
    bind_contextvars(who=caller.name)
    for scope in needs.scopes:
        if not caller.may(scope):
            raise ProblemError(
                problems.FORBIDDEN,
                f"This needs a token of the scope {scope}; {caller.name} has {caller.scope}.",
                headers={"www-authenticate": _challenge(scope)},
            )
    if request.method not in _LOOKING:
        request.scope[_ACT] = await _begin(desk.database, request, caller)
    return caller


#: What a route declares in its ``dependencies``: the least that its caller must be allowed.
READ = Security(allowed, scopes=["read"])
OPERATE = Security(allowed, scopes=["operate"])
ADMIN = Security(allowed, scopes=["admin"])


def check(routes: Iterable[BaseRoute]) -> None:
    """Raise if a route would answer without asking who asks."""
    for route in routes:
        if isinstance(route, APIRoute) and not any(
            found.dependency is allowed and getattr(found, "scopes", ())
            for found in route.dependencies
        ):
            raise AssertionError(
                f"{route.path} declares no scope: add dependencies=[READ], [OPERATE] or [ADMIN]"
            )


async def _caller(desk: Desk, token: str) -> Caller:
    """Whose token this is. Raises ProblemError (401)."""
    own = desk.settings.api_token
    if own is not None and hmac.compare_digest(token.encode(), own.get_secret_value().encode()):
        return Caller(ENVIRONMENT, SCOPES[-1])
    if token.startswith(tokens.PREFIX):
        async with desk.database.transaction() as db:
            found = await tokens.named(db, token)
        if found is not None:
            return Caller(found["name"], found["scope"])
    if token:
        detail = "This is not the token of SYNCLINE_API_TOKEN. One that was made may be revoked."
    elif own is None:
        detail = "Send `Authorization: Bearer …`; SYNCLINE_API_TOKEN is not set here."
    else:
        detail = "Send `Authorization: Bearer …` with the value of SYNCLINE_API_TOKEN."
    raise ProblemError(
        problems.UNAUTHORIZED, detail, headers={"www-authenticate": 'Bearer realm="syncline"'}
    )


def _challenge(scope: str) -> str:
    """https://www.rfc-editor.org/rfc/rfc6750#section-3.1"""
    return f'Bearer realm="syncline", error="insufficient_scope", scope="{scope}"'


# ------------------------------------------------------------------------------- acts


async def _begin(database: Database, request: Request, caller: Caller) -> int:
    """Write the act down before it is done: no crash may hide it."""
    route = request.scope.get("route")
    async with database.transaction() as db:
        return await audit.begin(
            db,
            who=caller.name,
            # The route of an included router does not know its prefix.
            what=f"{request.method} /api{getattr(route, 'path', '').removeprefix('/api')}",
            target=logs.scrub(request.url.path.replace("\x00", ""))[:500],
            detail={**_told(dict(request.query_params)), **_told(await _content(request))},
            request_id=get_contextvars().get("request_id"),
        )


async def _content(request: Request) -> Mapping[str, Any]:
    try:
        found = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without what may be personal or secret."""
    return {
        name: _short(value) if name in _TOLD else "…"
        for name, value in given.items()
        if value is not None and name.isidentifier()
    }


def _short(value: Any) -> Any:
    if isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return logs.scrub(text.replace("\x00", "")[:_LONGEST])


class Acts:
    """Wraps the inner application: an act is answered once its answer is written down."""

    def __init__(self, inner: ASGIApp, database: Database) -> None:
        self.inner = inner
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start" and (act := scope.get(_ACT)) is not None:
                await self._end(act, message["status"])
            await send(message)

        await self.inner(scope, receive, send_noted)

    async def _end(self, act: int, status: int) -> None:
        try:
            async with self._database.transaction() as db:
                await audit.end(db, act, status)
        except Exception as error:
            # The act is done, or not, all the same; the row says that nobody knows.
            log.warning("act.unfinished", act=act, status=status, error=logs.words(error))
