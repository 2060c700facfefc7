"""A load generator: signed Close webhooks, each another event, over kept-open connections.

Run in a process of its own; prints one JSON line. It speaks just enough HTTP/1.1 to cost
little: at 10,000 requests per second it must leave most of a core to those it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import secrets
import time
from collections import Counter
from typing import cast

import uvloop

PLACE = b"0000000000000000"  # where each event's own number goes


class Requests:
    """An endless supply of requests that have never been made before."""

    def __init__(self, path: str, key: bytes, size: int) -> None:
        self._key = key
        self._run = secrets.token_hex(4).encode()
        self._number = 0
        body = json.dumps(_content(size)).encode()
        self._before, self._after = body.split(PLACE)
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"user-agent: Close Webhooks 2.0\r\ncontent-length: {len(body)}\r\n"
            "close-sig-timestamp: "
        ).encode()

    def next(self) -> bytes:
        self._number += 1
        body = b"%b%b%08d%b" % (self._before, self._run, self._number, self._after)
        stamp = b"%d" % time.time()
        signature = hmac.digest(self._key, stamp + body, "sha256").hex().encode()
        return b"%b%b\r\nclose-sig-hash: %b\r\n\r\n%b" % (self._head, stamp, signature, body)


def _content(size: int) -> dict[str, object]:
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
        "description": (secrets.token_hex(size) + " lorem ipsum " * size)[: max(short, 0)],
    }
    return {"subscription_id": "whsub_1", "event": event}


class Sender(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.sent_at = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
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
        self.load.note(int(head[9:12]), time.perf_counter() - self.sent_at)
        if self.load.over:
            self.transport.close()
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.load.left(error)


class Load:
    """All connections together, and what they have seen."""

    def __init__(self, requests: Requests, connections: int) -> None:
        self.requests = requests
        self.connections = connections
        self.over = False
        self.measuring = False
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.answers = 0  # the warm-up's too
        self._gone = 0
        self._all_gone = asyncio.Event()

    def note(self, status: int, seconds: float) -> None:
        self.answers += 1
        if self.measuring:
            self.seconds.append(seconds)
            self.statuses[str(status)] += 1

    def left(self, error: Exception | None) -> None:
        if not self.over or error:
            self.statuses["broken"] += 1
        self._gone += 1
        if self._gone == self.connections:
            self._all_gone.set()

    async def run(self, port: int, *, warm_up: float, seconds: float) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Sender(self), "127.0.0.1", port)
        await asyncio.sleep(warm_up)
        self.measuring = True
        started, worked = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        self.measuring = False
        took, cpu = time.perf_counter() - started, time.process_time() - worked
        self.over = True
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
    parser.add_argument("--path", default="/webhooks/close")
    parser.add_argument("--key", required=True, help="Close's signature key, hex")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    requests = Requests(given.path, bytes.fromhex(given.key), given.size)
    load = Load(requests, given.connections)
    running = load.run(given.port, warm_up=given.warm_up, seconds=given.seconds)
    print(json.dumps(uvloop.run(running)))


if __name__ == "__main__":
    main()
