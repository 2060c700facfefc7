"""Webhook delivery: grouped, signed afresh for each attempt, retried with back-off."""

import asyncio
import contextlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import count

import httpx

from sandbox.wire import Json, Post, now

_order = count()


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """One event on its way to one target. `due` is a Unix time."""

    due: float
    order: int
    target: str = field(compare=False)
    event: Json = field(compare=False)
    attempt: int = field(compare=False, default=0)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a vendor delivers."""

    batch: int
    timeout: float
    attempts: int
    backoff: float
    ceiling: float = 20.0
    concurrent: int = 10

    def pause_after(self, attempt: int) -> float:
        return min(self.backoff * 2.0 ** min(attempt, 16), self.ceiling)


@dataclass(slots=True)
class Weather:
    """What the control API does to deliveries."""

    paused: bool = False
    duplicate: int = 0
    shuffle: bool = False
    delay: float = 0.0
    lose: bool = False


@dataclass(slots=True)
class Sender:
    """The queue of one vendor's webhooks.

    `post` signs; None means the target is gone. `accepts` says whether an answer will do.
    """

    manner: Manner
    post: Callable[[str, list[Json], int], Post | None]
    accepts: Callable[[httpx.Response], bool] = lambda answer: answer.is_success
    weather: Weather = field(default_factory=Weather)
    queue: list[Delivery] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _flying: dict["asyncio.Task[None]", list[Delivery]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(
        self, target: str, event: Json, *, after: float = 0.0, since: datetime | None = None
    ) -> None:
        """Queue an event for a target; what is queued since the same moment goes together."""
        if self.weather.lose:
            self.counts["dropped"] += 1
            return
        due = (since or now()).timestamp() + after + self.weather.delay
        if self.weather.shuffle:
            due += random.uniform(0, 0.3)
        for _ in range(1 + self.weather.duplicate):
            heapq.heappush(self.queue, Delivery(due, next(_order), target, event))
        self._wake.set()

    def set(self, weather: Weather) -> None:
        self.weather = weather
        self._wake.set()

    @property
    def pending(self) -> int:
        """Events that are queued or on their way."""
        return len(self.queue) + sum(map(len, self._flying.values()))

    def status(self) -> Json:
        return {
            "pending": self.pending,
            **asdict(self.weather),
            **{name: self.counts[name] for name in ("delivered", "failed", "dropped")},
        }

    def clear(self) -> None:
        self.queue.clear()
        self.counts.clear()
        self.weather = Weather()

    async def run(self) -> None:
        """Deliver what is due, for ever."""
        async with httpx.AsyncClient(timeout=self.manner.timeout, trust_env=False) as client:
            while True:
                self._wake.clear()
                for group in self._take():
                    task = asyncio.create_task(self._send(client, group))
                    self._flying[task] = group
                    task.add_done_callback(self._landed)
                pause = self._until_next()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        del self._flying[task]
        self._wake.set()

    def _until_next(self) -> float | None:
        if self.weather.paused or not self.queue or len(self._flying) >= self.manner.concurrent:
            return None
        return max(self.queue[0].due - now().timestamp(), 0.001)

    def _take(self) -> list[list[Delivery]]:
        """Groups of due deliveries with one target and attempt, as many as may fly."""
        room = self.manner.concurrent - len(self._flying)
        if self.weather.paused or room <= 0:
            return []
        at, size = now().timestamp(), self.manner.batch
        by_kind: dict[tuple[str, int], list[Delivery]] = {}
        for _ in range(room * size):
            if not self.queue or self.queue[0].due > at:
                break
            delivery = heapq.heappop(self.queue)
            by_kind.setdefault((delivery.target, delivery.attempt), []).append(delivery)
        groups = [all[i : i + size] for all in by_kind.values() for i in range(0, len(all), size)]
        for delivery in (d for group in groups[room:] for d in group):
            heapq.heappush(self.queue, delivery)
        return groups[:room]

    async def _send(self, client: httpx.AsyncClient, group: list[Delivery]) -> None:
        first = group[0]
        post = self.post(first.target, [d.event for d in group], first.attempt)
        if post is None:
            self.counts["dropped"] += len(group)
            return
        try:
            answer = await client.post(post.url, content=post.body, headers=post.headers)
            delivered = self.accepts(answer)
        except (httpx.HTTPError, httpx.InvalidURL):
            delivered = False
        if delivered:
            self.counts["delivered"] += len(group)
            return
        self.counts["failed"] += len(group)
        if first.attempt + 1 >= self.manner.attempts:
            self.counts["dropped"] += len(group)
            return
        due = now().timestamp() + self.manner.pause_after(first.attempt)
        for delivery in group:
            heapq.heappush(self.queue, replace(delivery, due=due, attempt=delivery.attempt + 1))

    def dump(self) -> list[Json]:
        """What is queued or under way, to be sent after a restart."""
        flying = (delivery for group in self._flying.values() for delivery in group)
        return [asdict(delivery) for delivery in (*self.queue, *flying)]

    def load(self, kept: list[Json]) -> None:
        self.queue = [Delivery(**{**row, "order": next(_order)}) for row in kept]
        heapq.heapify(self.queue)
