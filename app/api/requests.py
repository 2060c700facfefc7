"""One canonical line, one id and two metrics for every request that is not a webhook."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from uuid import uuid4

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from app import logs, metrics

log = logs.get()

_ID = re.compile(rb"[\w.:-]{1,128}")
#: Asked for every few seconds by machines: not worth a line unless something is wrong.
_QUIET = ("/health", "/healthz", "/readyz", "/metrics")


class RequestLog:
    """Wraps the whole inner application, so that it sees even what no route catches."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        given = next((v for n, v in scope["headers"] if n == b"x-request-id"), b"")
        request_id = given.decode() if _ID.fullmatch(given) else uuid4().hex
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        started = time.perf_counter()
        with bound_contextvars(request_id=request_id):
            try:
                await self.inner(scope, receive, send_with_id)
            except Exception as error:
                # Answered already and written down, unless it broke amid an answer.
                if not status:
                    raise
                log.debug("request.raised", error=logs.words(error))
            finally:
                _done(scope, status, time.perf_counter() - started)


def _done(scope: Scope, status: int, seconds: float) -> None:
    path = scope["path"]
    _count(scope["method"], _route(scope), status).inc()
    _seconds(_route(scope)).observe(seconds)
    write = log.debug if path.startswith(_QUIET) and status < 400 else log.info
    write(
        "request.answered",
        method=scope["method"],
        path=path,
        status=status,
        ms=round(seconds * 1000, 1),
    )


def _route(scope: Scope) -> str:
    """The pattern that matched: paths hold ids, and a label must not."""
    return getattr(scope.get("route"), "path", "") or "none"


@lru_cache(maxsize=1024)
def _count(method: str, route: str, status: int) -> Counter:
    return metrics.REQUESTS.labels(method, route, metrics.status_class(status or None))


@lru_cache(maxsize=256)
def _seconds(route: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(route)
