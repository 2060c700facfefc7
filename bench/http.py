"""Requests by the thousand over kept-open connections, for little more than their bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 4


def request(method: str, path: str, body: Any) -> bytes:
    """A request with a JSON body."""
    content = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def send(url: str, requests: Sequence[bytes], *, connections: int = CONNECTIONS) -> None:
    """Send all of these. Raises RuntimeError for the first that is refused."""
    waiting = iter(requests)
    await asyncio.gather(*(_send_from(waiting, url) for _ in range(connections)))


async def _send_from(waiting: Iterator[bytes], url: str) -> None:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        for one in waiting:
            writer.write(one)
            head = await reader.readuntil(b"\r\n\r\n")
            start = head.lower().index(b"content-length:") + 15
            body = await reader.readexactly(int(head[start:].split(b"\r\n", 1)[0]))
            if head[9:10] != b"2":
                raise RuntimeError(f"{one[:80]!r}: {head[9:12].decode()} {body[:200].decode()}")
    finally:
        writer.close()
