"""Claim due lanes, run the verb of each, release; drain on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import logs
from app.clock import now
from app.config import Config
from app.db import accounts, catchups, lanes, outbox, refusals, rereads
from app.db.accounts import Box
from app.db.engine import Database, is_away
from app.db.lanes import CHANNEL, Lane
from app.domain.verdict import retry_at
from app.errors import AccountError, ConfigError, RateLimitedError, TransientError
from app.sdk.quota import background
from app.sdk.registry import Registry
from app.settings import Settings
from app.sync.alerts import keep_watch
from app.sync.house import DIRECTORY_AGE, House, build
from app.sync.ingest import ingest
from app.sync.listen import listen
from app.sync.push import push
from app.sync.refusal import PROBE, ask, is_refused, is_silent
from app.sync.rekey import rekey
from app.sync.scan import scan
from app.sync.trouble import LanePaused
from app.worker.tidy import tidy_forever

log = structlog.get_logger()

#: Seconds a claim lasts unless renewed; a dead worker's lanes are free after that.
LEASE = 30
#: Seconds between renewals, heartbeats and sweeps.
BEAT = 10
#: Seconds between looks for workers that are gone; who is not seen twice in a row is.
LOOK = 2.0
#: Seconds between looks when no notification came: the net under NOTIFY.
POLL = 1.0
#: Lanes one process works on at the same time.
LANES = 12
#: Seconds that work in hand may take after SIGTERM.
DRAIN = 20
#: While one kind of call is refused it is tried this often; somebody may have mended that.
REFUSED = timedelta(seconds=60)
#: After so many failures in a row (half a minute) webhooks may be lost as well.
OUTAGE = 6
#: What a database that is away may raise.
AWAY = (
    *(DBAPIError, PoolTimeoutError, OSError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)

_VERBS: dict[str, Callable[[House, Lane], Awaitable[None]]] = {
    "in": ingest,
    "out": push,
    "scan": scan,
    "listen": listen,
}


async def run(settings: Settings, config: Config, *, stop: asyncio.Event | None = None) -> None:
    """Work until SIGTERM (or ``stop``), then finish what is in hand and leave."""
    stop = stop or _on_signals()
    if settings.database_url is None:
        raise ConfigError("DATABASE_URL is not set: `syncline serve` brings its own database")
    database = Database(settings.database_url, pool_size=LANES + 4)
    registry = Registry.load(config.handlers)
    house = build(database, config, registry, Box(settings.secret_keys))
    worker = Worker(house)
    # What has been made by now lives as long as we do; of what comes and goes little is in
    # circles. Looking for those less often is a tenth of all that a resync costs.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        await worker.work(stop)
    finally:
        for member in house.members.values():
            await member.connector.aclose()
        await database.close()


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


class Worker:
    """One process at work. ``id`` names it in lanes and heartbeats."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.id = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"
        self._held: dict[tuple[str, str], Lane] = {}
        #: Lanes that could not be given back while the database was away.
        self._owed: list[Lane] = []
        self._tasks: set[asyncio.Task[None]] = set()
        #: Those that listen: they never end by themselves, and are no burden to the others.
        self._listening: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        #: When the database last answered that somebody is at work.
        self._felt: datetime | None = None
        #: It was away: nobody may be claimed before it is known that it is the same.
        self._unsure = False

    async def work(self, stop: asyncio.Event) -> None:
        """Claim and run until told to stop; outlive a database that is away."""
        background = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._bury()),
            asyncio.create_task(tidy_forever(self.house.database, self.house.config.retention)),
            asyncio.create_task(self._wake_on(stop)),
            asyncio.create_task(keep_watch(self.house.database, self.house.config)),
        ]
        await self._join(stop)
        log.info("worker.started", worker=self.id, accounts=sorted(self.house.members))
        while not stop.is_set():
            try:
                wait = await self._claim()
            except AWAY as error:
                log.warning("worker.waiting", worker=self.id, reason=logs.words(error))
                self._unsure = True
                wait = POLL
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)
            self._wake.clear()
        await self._drain()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        with contextlib.suppress(*AWAY):
            async with self.house.database.transaction() as db:
                await lanes.leave(db, self.id)
        log.info("worker.stopped", worker=self.id)

    async def _join(self, stop: asyncio.Event) -> None:
        """Register our accounts and mend the keys, as soon as the database is there."""
        known = {name: m.config.connector for name, m in self.house.members.items()}
        while not stop.is_set():
            try:
                async with self.house.database.transaction() as db:
                    await accounts.register(db, known, listeners=self.house.listeners())
                    for name, member in self.house.members.items():
                        synced = self.house.entities_of(name)
                        await catchups.register(
                            db, name, synced, every=member.config.catch_up.every
                        )
                    await lanes.beat(db, self.id)
                    # Perhaps somebody has changed a credential.
                    await refusals.hurry(db, self._workable())
                    # The configuration may have changed while nobody was at work.
                    for name in await outbox.to_learn(db, self._writers(), timedelta()):
                        await lanes.wake(db, name, "out")
                await self._feel()
                await rekey(self.house, stopped=stop.is_set)
            except AWAY as error:
                log.warning("worker.waiting", worker=self.id, reason=logs.words(error))
                await asyncio.sleep(POLL)
            else:
                return

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _feel(self) -> None:
        """Say that we are at work; if the database may be an older one, hold all writes."""
        # What the configuration pauses is read by nobody, and must not be waited for.
        names = self._workable()
        async with self.house.database.transaction() as db:
            why, moment = await rereads.feel(db, seen=self._felt)
            if why is not None:
                await rereads.begin(db, names, why)
        self._felt, self._unsure = moment, False
        if why is not None:
            log.warning("writes.held", accounts=names, why=str(why), reason=rereads.SAYS[why])

    # --- claiming

    def _workable(self) -> list[str]:
        return [n for n, m in self.house.members.items() if m.config.mode != "paused"]

    def _writers(self) -> list[str]:
        """An observed account reads and plans; what waits to be pushed to it goes on waiting."""
        return [n for n, m in self.house.members.items() if m.config.mode == "live"]

    def _unheard(self) -> list[str]:
        """The accounts with an event bus that we do not listen to."""
        return [n for n in self.house.listeners() if (n, "listen") not in self._held]

    async def _claim(self) -> float:
        """Start a task for each lane that is due; seconds to wait before the next look."""
        free = LANES - len(self._tasks)
        if free <= 0:
            return POLL
        async with self.house.database.transaction() as db:
            for lane in self._owed:
                await lanes.release(db, lane, self.id, failed=True)
        self._owed.clear()
        if self._unsure:
            await self._feel()
        async with self.house.database.transaction() as db:
            refused = await refusals.take(db, self._workable())
            read = await rereads.settle(db, self._workable())
            claimed = await lanes.claim(
                db,
                self.id,
                accounts=self._workable(),
                writers=self._writers(),
                limit=free,
                lease=LEASE,
            )
            if deaf := self._unheard():
                claimed += await lanes.claim(
                    db, self.id, accounts=deaf, limit=len(deaf), lease=LEASE, listening=True
                )
            due = await lanes.next_due(db, self._workable(), self._writers(), deaf)
        for name in read:
            log.info("account.reread", account=name)
        for name, probes in refused.items():
            self._start(self._ask(name, probes), self._tasks)
        for lane in claimed:
            self._held[lane.account, lane.direction] = lane
            listens = lane.direction == "listen"
            self._start(self._run(lane), self._listening if listens else self._tasks)
        return POLL if due is None else min(POLL, max(due, 0.005))

    def _start(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._listening.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lane.lost", worker=self.id, reason=logs.words(error))

    # --- running

    async def _run(self, lane: Lane) -> None:
        """One turn of a lane: its verb, then release, whatever happened."""
        paused_until: datetime | None = None
        reason: str | None = None
        failed = False
        with structlog.contextvars.bound_contextvars(lane=f"{lane.account}/{lane.direction}"):
            try:
                with background() if lane.direction == "scan" else contextlib.nullcontext():
                    await _VERBS[lane.direction](self.house, lane)
            except LanePaused as pause:
                failed, reason = True, str(pause)[:500]
                paused_until = await self._until(lane, pause)
            except Exception as error:
                if is_away(error):
                    # The lease runs out, or we release when the database is back.
                    log.warning("lane.interrupted", reason=logs.words(error))
                    await self._release(lane, None, None, failed=True)
                    return
                log.exception("lane.failed")
                failed, reason = True, logs.words(error)
                paused_until = await self._until(lane, error)
            await self._release(lane, paused_until, reason, failed=failed)

    async def _ask(self, account: str, probes: int) -> None:
        """See whether an account is let in, or answered, again."""
        with contextlib.suppress(*AWAY):  # then somebody asks in a minute
            await ask(self.house, account, probes=probes)

    async def _until(self, lane: Lane, error: Exception) -> datetime:
        """How long the lane rests, by the remedy of what went wrong."""
        failures = 0
        with contextlib.suppress(*AWAY):
            async with self.house.database.transaction() as db:
                failures = await lanes.failures(db, lane)
        cause: Exception = error.cause if isinstance(error, LanePaused) else error
        match cause:
            case RateLimitedError(retry_at=until):
                pass
            case AccountError():
                until = min(retry_at(failures, now()), now() + REFUSED)
                if await is_refused(self.house, lane.account, cause):
                    until = now()  # the account waits, and not the lane
            case TransientError():
                until = min(retry_at(failures, now()), now() + PROBE)
                with contextlib.suppress(*AWAY):
                    await is_silent(self.house, lane.account)
            case _:
                until = min(retry_at(failures, now()), now() + PROBE)
        log.warning(
            "lane.paused", until=until.isoformat(timespec="seconds"), reason=logs.words(cause)
        )
        return until

    async def _release(
        self, lane: Lane, paused_until: datetime | None, reason: str | None, *, failed: bool
    ) -> None:
        self._held.pop((lane.account, lane.direction), None)
        try:
            async with self.house.database.transaction() as db:
                over = await lanes.release(
                    db, lane, self.id, paused_until=paused_until, reason=reason, failed=failed
                )
                if over >= OUTAGE:
                    await catchups.request(db, lane.account, "outage")
        except AWAY as error:
            log.warning("lane.unreleased", reason=logs.words(error))
            self._owed.append(lane)

    async def _drain(self) -> None:
        """Let the work in hand finish; what does not is taken up by another worker."""
        for task in set(self._listening):
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        for lane in [lane for lane in self._held.values() if lane.direction == "listen"]:
            await self._release(lane, None, None, failed=False)
        if not self._tasks:
            return
        log.info("worker.draining", worker=self.id, lanes=len(self._tasks))
        _, late = await asyncio.wait(set(self._tasks), timeout=DRAIN)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=2)

    # --- in the background

    async def _beat(self) -> None:
        """Keep the leases, show that we live, sweep for lanes that nobody woke."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                async with self.house.database.transaction() as db:
                    await lanes.renew(db, self.id, list(self._held.values()), lease=LEASE)
                    await lanes.beat(db, self.id)
                await self._feel()
                async with self.house.database.transaction() as db:
                    await lanes.sweep(db)
                    for name in await outbox.to_learn(db, self._writers(), DIRECTORY_AGE):
                        await lanes.wake(db, name, "out")
            except AWAY as error:
                log.warning("worker.waiting", worker=self.id, reason=logs.words(error))

    async def _bury(self) -> None:
        """Take over at once from workers whose session is gone: a lease is for those that stall."""
        missed: set[tuple[str, int]] = set()
        while True:
            await asyncio.sleep(LOOK)
            try:
                async with self.house.database.transaction() as db:
                    absent = await lanes.absent(db, self.id)
                    for worker, _ in absent & missed:
                        await lanes.leave(db, worker)
                for worker, _ in absent & missed:
                    log.warning("worker.missed", worker=worker)
                missed = absent
            except AWAY:
                missed = set()  # then all of them have lost their sessions

    async def _listen(self) -> None:
        """Wake when somebody notifies; polling is the net while the connection is away."""
        while True:
            with contextlib.suppress(*AWAY):
                connection = await asyncpg.connect(self.house.database.url, timeout=5)
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, lost=lost: lost.set())
                try:
                    await connection.add_listener(CHANNEL, lambda *_: self._wake.set())
                    await lanes.attend(connection, self.id)
                    self._wake.set()
                    await lost.wait()
                    self._unsure = True
                finally:
                    await connection.close(timeout=2)
            await asyncio.sleep(POLL)
