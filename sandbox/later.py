"""What happens a little later, without anybody's call: automations and slow merges."""

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Callable
from itertools import count

from sandbox.wire import now

Act = Callable[[], None]


class Later:
    """Acts by the Unix time they are due."""

    def __init__(self) -> None:
        self._acts: list[tuple[float, int, Act]] = []
        self._order = count()
        self._wake = asyncio.Event()

    def put(self, after: float, act: Act) -> None:
        heapq.heappush(self._acts, (now().timestamp() + after, next(self._order), act))
        self._wake.set()

    def clear(self) -> None:
        self._acts.clear()

    @property
    def pending(self) -> int:
        return len(self._acts)

    async def run(self) -> AsyncIterator[None]:
        """Do what is due, for ever, and say so after each."""
        while True:
            self._wake.clear()
            while self._acts and self._acts[0][0] <= now().timestamp():
                heapq.heappop(self._acts)[2]()
                yield
            pause = self._acts[0][0] - now().timestamp() if self._acts else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause and max(pause, 0.001))
