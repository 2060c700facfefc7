"""A throw-away PostgreSQL for the tests, and databases on it that cost next to nothing.

Every test process of a user shares one server, in memory or in the temporary directory. It starts
with the first, and goes, data and all, when the last one is gone, however that one ended: users
hold a shared lock, and a small process waits for the exclusive one.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from app.db import embedded

ROOT = Path(__file__).resolve().parents[1]
# Nothing here outlives the run, so nothing need reach the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
FAST |= {"max_connections": "300", "max_wal_size": "1GB"}
#: Bytes that the databases of a run and their log may take.
ROOM = 4 * 2**30


@cache
def server() -> str:
    """The URL of a server to make databases on: $TEST_DATABASE_URL, else one of our own."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return given
    place = _place()
    _hold(place / "users", fcntl.LOCK_SH)  # until this process is gone
    starting = _hold(place / "starting", fcntl.LOCK_EX)
    try:
        home = place / "home"
        if not embedded.running(home):  # what is left of a crash is not worth mending
            shutil.rmtree(home, ignore_errors=True)
        found = embedded.start(home, settings=FAST)
        if found.started_here:
            subprocess.run([sys.executable, "-m", "tests.postgres"], cwd=ROOT, check=True)
    finally:
        os.close(starting)
    return found.url


def _place() -> Path:
    """One per user and per choice of binaries."""
    choice = sha256(os.environ.get("PG_BIN", "").encode()).hexdigest()[:8]
    place = _ground() / f"syncline-tests-{os.getuid()}-{choice}"
    place.mkdir(mode=0o711, exist_ok=True)
    if place.lstat().st_uid != os.getuid():
        raise RuntimeError(f"{place} belongs to someone else")
    return place


def _ground() -> Path:
    """In memory where there is room: each test has a database, and makes hundreds of files."""
    memory = Path("/dev/shm")  # noqa: S108 - the place itself is ours alone
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM:
            return memory
    return Path(tempfile.gettempdir()).resolve()


def _hold(file: Path, lock: int) -> int:
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(number, lock)
    return number


def _watch() -> None:
    """Leave the caller, wait for the last user to go, and clear away."""
    if os.fork():
        return
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    place = _place()
    _hold(place / "users", fcntl.LOCK_EX)
    embedded.stop(place / "home")
    shutil.rmtree(place / "home", ignore_errors=True)


# ------------------------------------------------------------------------- databases


def database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def run_id() -> str:
    """The same for all processes of one pytest run, and for no other."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or _RUN


_RUN = secrets.token_hex(8)


async def make_template(url: str, prepare: Callable[[str], Awaitable[object]]) -> str:
    """The name of this run's template: made and given to `prepare` (by URL) by whoever is first.

    Drop it at the end of the run with `drop`; on our own server it goes by itself.
    """
    name = f"template_{run_id()[:16]}"
    db = await asyncpg.connect(url)
    try:
        await db.execute("select pg_advisory_lock(hashtext($1))", name)
        if not await db.fetchval("select 1 from pg_database where datname = $1", name):
            await db.execute(f'drop database if exists "{name}_new" with (force)')
            await db.execute(f'create database "{name}_new"')
            await prepare(database(url, f"{name}_new"))
            await db.execute(f'alter database "{name}_new" rename to "{name}"')
    finally:
        await db.close()
    return name


@contextlib.asynccontextmanager
async def clone(url: str, template: str = "template1") -> AsyncIterator[str]:
    """The URL of a new database like the template; it is dropped at the end, in use or not."""
    name = f"test_{secrets.token_hex(8)}"
    db = await asyncpg.connect(url)
    try:
        await db.execute(f'create database "{name}" template "{template}"')
    finally:
        await db.close()
    try:
        yield database(url, name)
    finally:
        await drop(url, name)


async def drop(url: str, name: str) -> None:
    """Drop a database, whoever is still connected."""
    db = await asyncpg.connect(url)
    try:
        await db.execute(f'drop database if exists "{name}" with (force)')
    finally:
        await db.close()


if __name__ == "__main__":
    _watch()
