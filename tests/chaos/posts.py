"""Genuine webhooks, and senders who keep at it until each was taken."""

import asyncio
import json
import random
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tests.full.harness import (
    PORTAL,
    Json,
    close_body,
    close_headers,
    hubspot_headers,
)

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
#: Seconds that a sender waits for an answer, and before it tries again.
_PATIENCE, _PAUSE = 10, 0.05


@dataclass(frozen=True, slots=True)
class Post:
    """One webhook: what it says, and to whom."""

    account: str
    body: bytes

    @classmethod
    def of_close(cls, event: Json) -> "Post":
        return cls("close", close_body(event))

    @classmethod
    def of_hubspot(cls, events: Sequence[Json]) -> "Post":
        return cls("hubspot", json.dumps(list(events)).encode())

    @property
    def key(self) -> bytes:
        """What the inbox knows it by."""
        return sha256(self.body).digest()


def told_by_hubspot(kind: str, id: str, **more: object) -> Json:
    """An event as HubSpot tells it."""
    return {
        "eventId": secrets.randbits(31),
        "subscriptionId": 1,
        "portalId": PORTAL,
        "occurredAt": int(time.time() * 1000),
        "subscriptionType": kind,
        "attemptNumber": 0,
        "objectId": int(id),
        **more,
    }


@dataclass
class Senders:
    """Several connections that post a list of webhooks, in order, and repeat what was refused.

    What may be sent is released in portions, so that it lasts as long as the trouble.
    """

    port: int
    posts: Sequence[Post]
    #: Posts that were answered with success, and webhooks that were.
    taken: int = 0
    refused: int = 0
    accepted: set[bytes] = field(default_factory=set)
    _released: int = 0
    _begun: int = 0
    _left: list[Post] = field(init=False)
    _turned: list[Post] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(reversed(self.posts))

    def release(self, upto: int) -> None:
        """Let so many be sent in all."""
        self._released = max(self._released, upto)

    async def run(self, connections: int) -> None:
        """Return once every webhook was accepted."""
        await asyncio.gather(*(self._send() for _ in range(connections)))

    def _next(self) -> Post | None:
        if self._turned:
            return self._turned.pop()
        if not self._left or self._begun >= self._released:
            return None
        self._begun += 1
        return self._left.pop()

    async def _send(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.taken < len(self.posts):
            post = self._next()
            if post is None:
                await asyncio.sleep(_PAUSE)
                continue
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                status = await asyncio.wait_for(self._post(*connection, post), _PATIENCE)
            except (OSError, EOFError, TimeoutError):
                status = 0
            if 200 <= status < 300:
                self.taken += 1
                self.accepted.add(post.key)
                continue
            assert status in (0, 503), status
            if status == 0 and connection is not None:
                connection[1].close()
                connection = None
            self.refused += 1
            self._turned.append(post)
            await asyncio.sleep(_PAUSE * random.uniform(0.5, 2))
        if connection is not None:
            connection[1].close()

    async def _post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, post: Post
    ) -> int:
        """The status of the answer. Raises OSError or EOFError if there was none."""
        path = f"/webhooks/{post.account}"
        if post.account == "close":
            signed = close_headers(post.body)
        else:
            signed = hubspot_headers(post.body, f"http://127.0.0.1:{self.port}{path}")
        lines = [
            f"POST {path} HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            f"content-length: {len(post.body)}",
            *(f"{name}: {value}" for name, value in signed.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + post.body)
        head = await reader.readuntil(b"\r\n\r\n")
        if length := _LENGTH.search(head):
            await reader.readexactly(int(length[1]))
        return int(head.split(b" ", 2)[1])
