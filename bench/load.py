"""A load generator: signed webhooks, each another event, over kept-open connections.

Run in a process of its own; prints one JSON line. It speaks just enough HTTP/1.1 to cost
little: at 10,000 requests per second it must leave most of a core to those it measures.

Closed loop: each connection sends as soon as it was answered. Open loop (--rate): requests begin
on time, whatever became of those before, and the time of an answer counts from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import json
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

import uvloop

PLACE = b"0000000000000000"  # where each event's own number goes
Stamp = Callable[[bytes], bytes]


class Requests:
    """An endless supply of requests that have never been made before."""

    def __init__(self, body: bytes, head: str, sign: Stamp) -> None:
        self._run = secrets.token_hex(4).encode()
        self._number = 0
        self._before, self._after = body.split(PLACE, 1)
        self._head = f"{head}content-length: {len(body)}\r\n".encode()
        self._sign = sign

    def next(self) -> bytes:
        self._number += 1
        body = b"%b%b%08d%b" % (self._before, self._run, self._number, self._after)
        return b"%b%b\r\n%b" % (self._head, self._sign(body), body)


def requests(account: str, port: int, key: str, *, size: int, events: int) -> Requests:
    """Webhooks of Close or HubSpot; HubSpot's with so many events, or of this size."""
    path, body = f"/webhooks/{account}", webhook(account, size, events)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    if account == "close":
        return Requests(body, f"{head}user-agent: Close Webhooks 2.0\r\n", _by_close(key))
    url = f"http://127.0.0.1:{port}{path}"
    head += "user-agent: HubSpot Connect 2.0 (http://dev.hubspot.com/)\r\n"
    return Requests(body, head, _by_hubspot(key, url))


def webhook(account: str, size: int, events: int = 0) -> bytes:
    """A body of either, with a place where its number goes."""
    return _close(size) if account == "close" else _hubspot(size, events)


def _by_close(key: str) -> Stamp:
    """https://developer.close.com/api/resources/webhooks"""
    secret = bytes.fromhex(key)

    def sign(body: bytes) -> bytes:
        stamp = b"%d" % time.time()
        signature = hmac.digest(secret, stamp + body, "sha256").hex().encode()
        return b"close-sig-timestamp: %b\r\nclose-sig-hash: %b\r\n" % (stamp, signature)

    return sign


def _by_hubspot(key: str, url: str) -> Stamp:
    """Version 3, as app/sdk/signature.py reads it."""
    secret, before = key.encode(), b"POST" + url.encode()

    def sign(body: bytes) -> bytes:
        stamp = b"%d" % (time.time() * 1000)
        signature = base64.b64encode(hmac.digest(secret, before + body + stamp, "sha256"))
        return b"x-hubspot-request-timestamp: %b\r\nx-hubspot-signature-v3: %b\r\n" % (
            stamp,
            signature,
        )

    return sign


def _close(size: int) -> bytes:
    """A lead's event of about this many bytes, half of it text that does not compress."""
    event = {
        "id": f"ev_{PLACE.decode()}",
        "date_created": "2026-11-22T03:07:12.345000",
        "date_updated": "2026-11-22T03:07:12.345000",
        "organization_id": "orga_bwwWG475zqWiQGur0thQshwVXo8rIYecQHDWFanqhen",
        "object_type": "lead",
        "object_id": "lead_7YgqTZUUHQVmGmFwyvt6HWPBSZ1DvWSKEqZ9mLaMPJq",
        "action": "updated",
        "changed_fields": ["description"],
        "data": {"id": "lead_1", "name": "Analytical Engines", "description": ""},
        "previous_data": {"description": None},
    }
    short = size - len(json.dumps({"subscription_id": "whsub_1", "event": event}))
    event["data"] = {
        "id": "lead_1",
        "name": "Analytical Engines",
        "description": _words(short),
    }
    return json.dumps({"subscription_id": "whsub_1", "event": event}).encode()


def _hubspot(size: int, events: int) -> bytes:
    """A batch of so many events; of one event where the size is all that matters."""
    batch: list[dict[str, Any]] = [
        {
            "eventId": secrets.randbits(31),
            "subscriptionId": 3_217_433,
            "portalId": 4_711_001,
            "appId": 1_160_452,
            "occurredAt": int(time.time() * 1000),
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": 100_000_000 + number,
            "propertyName": "jobtitle",
            "propertyValue": f"Countess {number}",
            "changeSource": "CRM_UI",
            "sourceId": "userId:9586504",
        }
        for number in range(events or 1)
    ]
    batch[0]["propertyValue"] = PLACE.decode()
    if not events:
        short = size - len(json.dumps(batch))
        batch[0]["propertyValue"] += _words(short)
    return json.dumps(batch).encode()


def _words(size: int) -> str:
    return (secrets.token_hex(max(size, 0) // 4) + " lorem ipsum " * max(size, 0))[: max(size, 0)]


class Sender(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.due = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.load.free(self)

    def send(self, due: float) -> None:
        self.due = due
        self.transport.write(self.load.requests.next())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        place = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[place:].split(b"\r\n", 1)[0]):
            return
        self.buffer = b""
        self.load.note(int(head[9:12]), time.perf_counter() - self.due)
        self.load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.left(error)


class Load:
    """All connections together, and what they have seen."""

    def __init__(self, requests: Requests, connections: int, rate: float) -> None:
        self.requests = requests
        self.connections = connections
        self.rate = rate
        self.over = False
        self.measuring = False
        self.seconds: list[float] = []
        self._first = asyncio.Event()
        self.statuses: Counter[str] = Counter()
        self.answers = 0  # the warm-up's too
        self._idle: deque[Sender] = deque()
        self._due: deque[float] = deque()  # of an open loop: what nobody was free to send
        self._gone = 0
        self._all_gone = asyncio.Event()

    def free(self, sender: Sender) -> None:
        """A connection has nothing to do."""
        if self.over:
            sender.transport.close()
        elif not self.rate:
            sender.send(time.perf_counter())
        elif self._due:
            sender.send(self._due.popleft())
        else:
            self._idle.append(sender)

    def note(self, status: int, seconds: float) -> None:
        self.answers += 1
        if self.measuring:
            self.seconds.append(seconds)
            self._first.set()
            self.statuses[str(status)] += 1

    def left(self, error: Exception | None) -> None:
        if not self.over or error:
            self.statuses["broken"] += 1
        self._gone += 1
        if self._gone == self.connections:
            self._all_gone.set()

    async def _begin(self) -> None:
        """Let requests begin at a steady rate, on time even if we are late."""
        began, number = time.perf_counter(), 0
        while not self.over:
            due = began + number / self.rate
            number += 1
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if self._idle:
                self._idle.popleft().send(due)
            else:
                self._due.append(due)

    async def run(self, port: int, *, warm_up: float, seconds: float) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Sender(self), "127.0.0.1", port)
        beginning = asyncio.create_task(self._begin()) if self.rate else None
        await asyncio.sleep(warm_up)
        self.measuring = True
        started, worked = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        await self._first.wait()  # of somebody who is slower than that
        self.measuring = False
        took, cpu = time.perf_counter() - started, time.process_time() - worked
        self.over = True
        if beginning:
            await beginning
        for sender in self._idle:
            sender.transport.close()
        await asyncio.wait_for(self._all_gone.wait(), 30)
        found = sorted(self.seconds)
        return {
            "per_second": round(len(found) / took, 1),
            "p50_ms": round(found[len(found) // 2] * 1000, 2),
            "p99_ms": round(found[int(len(found) * 0.99)] * 1000, 2),
            "max_ms": round(found[-1] * 1000, 2),
            "statuses": dict(self.statuses),
            "answers": self.answers,
            "generator_cpu": round(cpu / took, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--account", choices=("close", "hubspot"), default="close")
    parser.add_argument("--key", required=True, help="what signs: Close's is hex")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0, help="requests that begin in a second")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--events", type=int, default=0, help="of HubSpot, in each request")
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    made = requests(given.account, given.port, given.key, size=given.size, events=given.events)
    load = Load(made, given.connections, given.rate)
    running = load.run(given.port, warm_up=given.warm_up, seconds=given.seconds)
    print(json.dumps(uvloop.run(running)))


if __name__ == "__main__":
    main()
