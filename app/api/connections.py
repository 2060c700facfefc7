"""Connections that may not be held or filled by headers that never end, and that answer at once."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_PATIENCE: Final = 10.0  # seconds for request line and headers, from the first byte or before
MOST_HEAD: Final = 64 * 1024  # bytes of them; CRMs send two or three KiB
_LATE: Final = "408 Request Timeout"
_LONG: Final = "431 Request Header Fields Too Large"


class Corked:
    """A transport that sends the head of an answer together with what is written right after it.

    Uvicorn writes head and body one after the other, and uvloop sends each of them at once: two
    system calls, two packets, and a client that wakes up twice.
    """

    __slots__ = ("_head", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)  # the body may take its time, or never come
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CarefulProtocol(HttpToolsProtocol):
    """Uvicorn's own, with a time and a size for the head of a request.

    Uvicorn limits neither with httptools (its limit of the size is h11's alone), so one open
    socket could fill the memory, and idle ones could take every file descriptor.
    """

    _head: int = 0
    _in_head: bool = False
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, Corked(transport, self.loop))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._in_head
        super().data_received(data)
        if not self._in_head:
            self._unwatch()
            return
        # A head that began in this read counts with all of it: near enough.
        self._head = self._head + len(data) if before else len(data)
        if self._head > MOST_HEAD:
            self._refuse(_LONG)
        elif self._limit is None:
            self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def _watch(self) -> None:
        self._limit = self.loop.call_later(HEAD_PATIENCE, self._refuse, _LATE)

    def _unwatch(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _refuse(self, status: str) -> None:
        self._unwatch()
        if not self.transport.is_closing():
            head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head.encode())
            self.transport.close()
