"""The way into the inbox: group commit. Deliveries that arrive together share one transaction.

There is no timer: while one flush is on its way to the disk the next one gathers, so an idle
service adds no delay and a busy one commits a hundred deliveries at once.

Beyond one PostgreSQL this is the part to replace: `accept` and `trouble` are all that the
webhook front knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence

import asyncpg

from app import logs
from app.db import deliveries, lanes
from app.db.engine import Database
from app.domain.values import Delivery
from app.errors import ReadinessError

log = logs.get()

FLUSHERS = 2
ENOUGH = 64  # rows that are worth a second flight: one of 64 costs half a row what one of 16 does
LATE = 0.05  # seconds after which a flight is waited for no longer
BATCH = 200  # rows; more gains nothing (measured)
BATCH_BYTES = 16 * 2**20
MOST = 10_000  # deliveries waiting at once, and …
MOST_BYTES = 256 * 2**20  # … their bodies
PATIENCE = 4.0  # seconds for one flush: HubSpot hangs up after 5
GATHER = 0.05  # seconds for which late wake-ups are gathered
SLOWEST_RETRY = 2.0  # seconds between attempts to reach a database that is away

_AWAY = "the database cannot be reached"


class _Waiting:
    """A delivery, its key, and the future that its request waits for."""

    __slots__ = ("delivery", "key", "stored")

    def __init__(self, delivery: Delivery, key: bytes, stored: asyncio.Future[bool]) -> None:
        self.delivery = delivery
        self.key = key
        self.stored = stored

    def settle(self, new: bool) -> None:
        if not self.stored.done():
            self.stored.set_result(new)

    def fail(self, reason: str) -> None:
        if not self.stored.done():
            self.stored.set_exception(ReadinessError(reason))


class Inbox:
    """Takes verified deliveries and says when they are durable."""

    def __init__(self, database: Database, *, flushers: int = FLUSHERS, most: int = MOST) -> None:
        self._database = database
        self._flushers = flushers
        self._most = most
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0  # queued and in flight
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._connected = 0
        self._flying = 0  # flushes under way
        self._overdue = False  # one of them is late
        self._unwoken: set[str] = set()
        self._missed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, *, patience: float = PATIENCE) -> None:
        """Start; return when a connection stands, or after ``patience`` without one."""
        self._loop = asyncio.get_running_loop()
        first = asyncio.Event()
        self._tasks = [
            *(asyncio.create_task(self._flush_forever(first)) for _ in range(self._flushers)),
            asyncio.create_task(self._wake_forever()),
        ]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), patience)

    async def close(self) -> None:
        """Store what is still waiting, then stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), PATIENCE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_queue("the service stops")

    @property
    def waiting(self) -> int:
        """Deliveries that are not durable yet."""
        return self._waiting

    @property
    def trouble(self) -> str | None:
        """Why nothing can be accepted now; None if all is well."""
        if not self._connected:
            return _AWAY
        if self._waiting >= self._most or self._bytes >= MOST_BYTES:
            return "too many deliveries are waiting to be stored"
        return None

    async def accept(self, delivery: Delivery, key: bytes) -> bool:
        """Store a delivery; True if it was new. It is committed when this returns.

        ``key`` is what repeats of it share.

        Raises ReadinessError if it could not be stored, or nobody can say: the sender has to
        come back, and a repeat does no harm.
        """
        if trouble := self.trouble:
            raise ReadinessError(trouble)
        stored: asyncio.Future[bool] = self._loop.create_future()
        size = len(delivery.body)
        self._waiting += 1
        self._bytes += size
        self._queue.append(_Waiting(delivery, key, stored))
        self._idle.clear()
        if self._may_fly:
            self._arrived.set()
        try:
            return await stored
        finally:
            self._waiting -= 1
            self._bytes -= size
            if not self._waiting:
                self._idle.set()

    # ----------------------------------------------------------------------- flushing

    async def _flush_forever(self, first: asyncio.Event) -> None:
        """Keep a connection and flush over it; when it breaks, make another."""
        pause = 0.1
        while True:
            try:
                connection = await asyncpg.connect(
                    self._database.url,
                    timeout=PATIENCE,
                    command_timeout=PATIENCE + 0.5,
                    server_settings={
                        "application_name": "syncline inbox",
                        "statement_timeout": str(int(PATIENCE * 1000)),
                    },
                )
            except Exception as error:  # whatever it is: who gives up accepts nothing any more
                log.warning("inbox.unreachable", error=logs.words(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, SLOWEST_RETRY)
                continue
            pause = 0.1
            connection.add_termination_listener(lambda _: self._arrived.set())
            self._connected += 1
            first.set()
            try:
                while True:
                    await self._flush(connection, await self._take(connection))
            except Exception as error:
                log.warning("inbox.disconnected", error=logs.words(error))
            finally:
                self._connected -= 1
                if not self._connected:
                    self._fail_queue(_AWAY)
                connection.terminate()

    @property
    def _may_fly(self) -> bool:
        """Whether another flush should start: fewer and larger ones cost far less."""
        return not self._flying or self._overdue or len(self._queue) >= ENOUGH

    async def _take(self, connection: asyncpg.Connection) -> list[_Waiting]:
        """What is waiting, as soon as there is something and it may fly."""
        await asyncio.sleep(0)  # let those who were just answered say what they have next
        while not (self._queue and self._may_fly):
            if connection.is_closed():
                raise asyncpg.ConnectionDoesNotExistError("the server closed the connection")
            self._arrived.clear()
            await self._arrived.wait()
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
            waiting = self._queue.popleft()
            if not waiting.stored.done():  # else its request has given up
                batch.append(waiting)
                size += len(waiting.delivery.body)
        return batch

    async def _flush(self, connection: asyncpg.Connection, batch: Sequence[_Waiting]) -> None:
        """Store a batch; if the database refuses it, row by row, so that a bad row fails alone.

        Whoever asked has an answer when this ends, however it ends. Raises where the
        connection is of no more use.
        """
        self._flying += 1
        late = self._loop.call_later(LATE, self._call_for_help)
        try:
            try:
                await self._store(connection, batch)
            except asyncpg.PostgresError as error:
                if _is_fatal(error):
                    raise
                for waiting in batch:
                    if not waiting.stored.done():
                        await self._store_alone(connection, waiting)
        except BaseException as error:
            for waiting in batch:
                waiting.fail(f"the delivery could not be stored ({type(error).__name__})")
            raise
        finally:
            late.cancel()
            self._flying -= 1
            self._overdue = False
            self._arrived.set()

    def _call_for_help(self) -> None:
        """A flush takes long (a slow disk, a locked row): the others need not wait for it."""
        self._overdue = True
        self._arrived.set()

    async def _store_alone(self, connection: asyncpg.Connection, waiting: _Waiting) -> None:
        try:
            await self._store(connection, [waiting])
        except asyncpg.PostgresError as error:
            if _is_fatal(error):
                raise
            account = waiting.delivery.account
            log.error("delivery.not_stored", account=account, error=logs.words(error))
            waiting.fail("the database refuses this delivery")

    async def _store(self, connection: asyncpg.Connection, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        stored = await deliveries.store(connection, [(each.delivery, each.key) for each in batch])
        ids = sorted(stored.new.values())
        for waiting in batch:
            # Of two equal ones in a batch the first is the new one.
            place = (waiting.delivery.account, waiting.key)
            waiting.settle(stored.new.pop(place, None) is not None)
        if stored.unwoken:
            self._unwoken |= stored.unwoken
            self._missed.set()
        log.info(
            "deliveries.stored",
            accounts=dict(Counter(waiting.delivery.account for waiting in batch)),
            ids=ids if len(ids) < 3 else [ids[0], "…", ids[-1]],
            duplicates=len(batch) - len(ids),
            ms=round((time.perf_counter() - started) * 1000, 1),
        )

    def _fail_queue(self, reason: str) -> None:
        while self._queue:
            self._queue.popleft().fail(reason)

    # ------------------------------------------------------------------------- waking

    async def _wake_forever(self) -> None:
        """Wake the lanes that were locked when their deliveries were stored.

        A worker that settles holds its lane's row; no sender should wait for that. If we die
        before the lane is awake, its release or the sweeper finds the deliveries.
        """
        while True:
            await self._missed.wait()
            await asyncio.sleep(GATHER)
            self._missed.clear()
            accounts, self._unwoken = sorted(self._unwoken), set()
            try:
                async with self._database.transaction() as db:
                    for account in accounts:
                        await lanes.wake(db, account, "in")
            except Exception as error:
                log.warning("inbox.wake_failed", accounts=accounts, error=logs.words(error))


def _is_fatal(error: asyncpg.PostgresError) -> bool:
    """Not about a row: the connection is gone, the server stops, is full, slow or a standby."""
    classes = ("08", "53", "57", "58", "XX")
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError) or (
        (error.sqlstate or "08")[:2] in classes
    )
