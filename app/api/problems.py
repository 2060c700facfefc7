"""RFC 9457 problem documents: every error of the API in one shape, on both ASGI paths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import exc
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import clock, logs
from app.db.engine import is_away
from app.db.pages import BadCursorError
from app.errors import (
    AccountError,
    ConfigError,
    RateLimitedError,
    ReadinessError,
    RejectedError,
    SyncError,
)

log = logs.get()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"  # seconds; short enough for a restart, long enough to let it happen


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem; ``slug`` ends its type URI and never changes its meaning."""

    status: int
    slug: str
    title: str

    @property
    def uri(self) -> str:
        return f"urn:syncline:problem:{self.slug}"


BAD_REQUEST = Kind(400, "bad-request", "The request cannot be understood")
BAD_CURSOR = Kind(400, "bad-cursor", "This cursor is not one of ours")
UNAUTHORIZED = Kind(401, "unauthorized", "A bearer token is needed")
BAD_SIGNATURE = Kind(401, "bad-signature", "The delivery is not authentic")
FORBIDDEN = Kind(403, "forbidden", "The token may not do this")
NOT_FOUND = Kind(404, "not-found", "There is no such thing")
UNKNOWN_ACCOUNT = Kind(404, "unknown-account", "There is no account of this name")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "This path does not know the method")
TOO_SLOW = Kind(408, "too-slow", "The body did not arrive in time")
CONFLICT = Kind(409, "conflict", "The present state does not allow this")
TOO_LARGE = Kind(413, "body-too-large", "The body is too large")
TOO_MANY = Kind(429, "too-many", "Too many forged deliveries came from this address")
INVALID = Kind(422, "invalid", "The request has wrong values")
CRM_REFUSED = Kind(422, "crm-refused", "The CRM refuses this")
INTERNAL = Kind(500, "internal", "A bug of ours")
CRM_FAILED = Kind(502, "crm-failed", "The CRM did not do its part")
UNAVAILABLE = Kind(503, "unavailable", "We cannot do this now")

_BY_STATUS = {
    kind.status: kind
    for kind in (BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED)
}


class Problem(BaseModel):
    """What every error of this API looks like (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:syncline:problem:not-found",
                "title": "There is no such thing",
                "status": 404,
                "detail": "There is no resync 0199c0de-0000-7000-8000-000000000000.",
                "instance": "/api/resyncs/0199c0de-0000-7000-8000-000000000000",
            }
        },
    )

    type: str = Field(description="Names the kind of problem; stable")
    title: str = Field(description="The kind of problem in words; the same each time")
    status: int
    detail: str = Field(description="What happened this time, and what to do about it")
    instance: str = Field(description="The path that was asked for")


class ProblemError(Exception):
    """Raised by a route to answer with a problem; ``fields`` are added to the document."""

    def __init__(
        self, kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.fields = fields
        if kind.status == 503:
            self.headers.setdefault("retry-after", RETRY_AFTER)


def document(kind: Kind, detail: str, instance: str, fields: Mapping[str, Any]) -> bytes:
    """The body of a problem."""
    return orjson.dumps(
        {
            "type": kind.uri,
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "instance": logs.scrub(instance),
            **fields,
        },
        default=str,
    )


def respond(request: Request, problem: ProblemError) -> Response:
    """The answer for a problem."""
    body = document(problem.kind, problem.detail, request.url.path, problem.fields)
    return Response(body, problem.kind.status, problem.headers, MEDIA_TYPE)


def responses(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides its success, for OpenAPI."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(kind.status, []).append(kind.title)
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": "; ".join(words), "content": {MEDIA_TYPE: schema}}
        for status, words in titles.items()
    }


@contextmanager
def refusing() -> Iterator[None]:
    """Answer what the present state does not allow with its reason (409)."""
    try:
        yield
    except RejectedError as error:
        raise ProblemError(CONFLICT, f"{error.reason}.") from None


# ------------------------------------------------------------- exceptions to problems


def of(error: Exception) -> ProblemError:
    """The problem that an exception stands for; INTERNAL for what nobody foresaw."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            return ProblemError(INVALID, _first(error), errors=_errors(error))
        case HTTPException():
            return _of_http(error)
        case BadCursorError():
            return ProblemError(BAD_CURSOR, "Take it from `next_cursor` of the page before.")
        case ReadinessError() | ConfigError():
            return ProblemError(UNAVAILABLE, str(error))
        case RateLimitedError():
            wait = math.ceil((error.retry_at - clock.now()).total_seconds())
            headers = {"retry-after": str(max(wait, 1))}
            return ProblemError(UNAVAILABLE, error.reason, headers=headers)
        case RejectedError():
            return ProblemError(CRM_REFUSED, logs.scrub(error.reason), field=error.field)
        case AccountError():
            remedy = "Look at the credentials."
            return ProblemError(CRM_FAILED, logs.scrub(error.reason), remedy=remedy)
        case SyncError():
            return ProblemError(CRM_FAILED, logs.scrub(error.reason))
    if is_away(error):
        return ProblemError(UNAVAILABLE, "The database cannot be reached; try again.")
    return ProblemError(INTERNAL, "It is in the log, under this request's id.")


def _of_http(error: HTTPException) -> ProblemError:
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        phrase = HTTPStatus(error.status_code).phrase
        kind = Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    detail = kind.title + "." if error.detail == HTTPStatus(kind.status).phrase else error.detail
    return ProblemError(kind, str(detail), headers=error.headers)


def _errors(error: RequestValidationError) -> list[dict[str, str]]:
    """Where and why, without echoing the value: it may be a secret."""
    return [
        {"at": _at(found["loc"]), "reason": str(found["msg"]).removeprefix("Value error, ")}
        for found in error.errors()
    ]


def _first(error: RequestValidationError) -> str:
    first, *more = _errors(error)
    rest = f" (and {len(more)} more)" if more else ""
    return f"{first['at']}: {first['reason']}{rest}"


def _at(location: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in location)


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = of(error)
        if problem.kind is UNAVAILABLE and not isinstance(error, ProblemError):
            log.warning("request.unavailable", path=request.url.path, error=logs.words(error))
        elif problem.kind is INTERNAL:
            log.error("request.broke", path=request.url.path, exc_info=error)
        return respond(request, problem)

    known = (
        ProblemError,
        RequestValidationError,
        HTTPException,
        BadCursorError,
        ReadinessError,
        ConfigError,
        SyncError,
        exc.SQLAlchemyError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
        Exception,
    )
    for kind in known:
        app.add_exception_handler(kind, answer)
