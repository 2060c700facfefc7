"""Bodies of calls: read whole before anything is done, within a size and a time."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.problems import Kind

LARGEST: Final = 1024 * 1024  # bytes; the largest call of ours names some thousands of ids
PATIENCE: Final = 20.0  # seconds
#: Bodies of calls that are being read may hold this much together; more is refused for now.
MOST_READING: Final = 64 * 2**20


class _RefusedError(Exception):
    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Bodies:
    """Wraps the inner application: what it reads is there already, and small."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self.inner(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except _RefusedError as refused:
            await _refuse(scope, send, refused)
            return
        if body is None:
            return  # the caller hung up
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_read() -> Message:
            return given.pop() if given else await receive()

        await self.inner(scope, receive_read, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where nobody waits for an answer. Raises _RefusedError."""
        announced = next((v for n, v in scope["headers"] if n == b"content-length"), b"0")
        too_large = _RefusedError(problems.TOO_LARGE, f"A call may have {LARGEST} bytes.")
        if announced.isdigit() and int(announced) > LARGEST:
            raise too_large
        pieces = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece = message.get("body", b"")
                    more = message.get("more_body", False)
                    pieces += piece
                    self._reading += len(piece)
                    if len(pieces) > LARGEST:
                        raise too_large
                    if more and self._reading > MOST_READING:
                        raise _RefusedError(problems.UNAVAILABLE, "Too much is being read now.")
        except TimeoutError:
            detail = f"The body was not here after {PATIENCE:.0f} seconds."
            raise _RefusedError(problems.TOO_SLOW, detail) from None
        finally:
            self._reading -= len(pieces)
        return bytes(pieces)


def _has_body(scope: Scope) -> bool:
    return any(n in (b"content-length", b"transfer-encoding") for n, _ in scope["headers"])


async def _refuse(scope: Scope, send: Send, refused: _RefusedError) -> None:
    body = problems.document(refused.kind, refused.detail, scope["path"], {})
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if refused.kind.status == 503:
        headers.append((b"retry-after", problems.RETRY_AFTER.encode()))
    await send({"type": "http.response.start", "status": refused.kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
