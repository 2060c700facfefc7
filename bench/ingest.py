"""Accepted webhooks per second: ours beside a plain endpoint and beside doing nothing.

Starts one embedded PostgreSQL (fsync on, as in production) and each server in a process of its
own (uvicorn, uvloop, httptools, one worker), then measures them in turn, in short rounds, and
prints medians. On a shared machine only what was measured side by side can be compared: the
ratios are those of each round, and the processor time of a request suffers least from neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from app.db import embedded, migrations

ROOT = Path(__file__).resolve().parents[1]
KEY = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
PLAIN = "plain"
_MEDIANS = ("per_second", "p50_ms", "p99_ms", "cpu_us")


@dataclass
class Peer:
    """One server under load."""

    name: str
    title: str
    target: str
    factory: bool = False
    port: int = 0
    rounds: list[dict[str, Any]] = field(default_factory=list)

    pid: int = 0

    def median(self, what: str) -> float:
        return float(statistics.median(each[what] for each in self.rounds))

    def ratio(self, other: Peer) -> float:
        """How often the other's rate, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return float(statistics.median(a["per_second"] / b["per_second"] for a, b in pairs))


def peers() -> list[Peer]:
    return [
        Peer("ours", "Syncline, all of it", "bench.peers.ours:create", factory=True),
        Peer(PLAIN, "FastAPI, commit each", "bench.peers.asyncpg_commit:app"),
        Peer("noop", "bare ASGI, no-op", "bench.peers.noop:app"),
    ]


@contextmanager
def _serving(peer: Peer, environment: dict[str, str]) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        peer.port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", peer.target, "--port", str(peer.port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--ws", "none"]
    command += ["--no-access-log", "--log-level", "warning"]
    command += ["--factory"] if peer.factory else []
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _wait(peer, server)
            peer.pid = server.pid
            yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode()[-4000:])
            raise
        finally:
            server.terminate()
            server.wait(20)


def _wait(peer: Peer, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"{peer.name} did not start")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{peer.port}/docs", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{peer.name} does not answer")


def _worked(pid: int) -> float | None:
    """The processor seconds of a process so far, where /proc tells (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(peer: Peer, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load", "--port", str(peer.port), "--key", KEY]
    command += ["--connections", str(given.connections), "--size", str(given.size)]
    command += ["--seconds", str(given.seconds)]
    before = _worked(peer.pid)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    after = _worked(peer.pid)
    if done.returncode:
        raise RuntimeError(f"the load generator failed against {peer.name}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        raise RuntimeError(f"{peer.name} did not accept everything: {found['statuses']}")
    if before is not None and after is not None:
        found["cpu_us"] = round((after - before) / found["answers"] * 1e6)
    return found


async def _empty(url: str) -> int:
    """Begin the next round with empty tables; how many rows there were."""
    db = await asyncpg.connect(url)
    try:
        count: int = await db.fetchval(
            "select (select count(*) from deliveries) + (select count(*) from peer_deliveries)"
        )
        await db.execute("truncate deliveries, peer_deliveries")
        await db.execute("checkpoint")
    finally:
        await db.close()
    return count


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure; everything found, as data."""
    console = Console(stderr=True)
    measured = peers()
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="syncline-bench-")))
        home.chmod(0o711)
        console.print("· starting PostgreSQL")
        server = embedded.start(home)
        closing.callback(embedded.stop, home)
        migrations.upgrade(server.url)
        environment = {
            **os.environ,
            "DATABASE_URL": server.url,
            "BENCH_KEY": KEY,
            "SYNCLINE_API_TOKEN": secrets.token_hex(),
            "SYNCLINE_SECRET_KEYS": "zS1Rk6v2RrYgb1kA6dR1x4y6w2tq6C5b0m9Y8vXo3fE=",
            "SYNCLINE_LOG_LEVEL": given.log_level,
        }
        for peer in measured:
            closing.enter_context(_serving(peer, environment))
        for number in range(given.rounds):
            # Each goes first in turn, so that nobody always follows the same neighbour.
            for peer in measured[number % 3 :] + measured[: number % 3]:
                found = _measure(peer, given)
                stored = asyncio.run(_empty(server.url))
                peer.rounds.append({**found, "stored": stored})
                console.print(
                    f"· round {number + 1}: {peer.name:<6}{found['per_second']:>10,.0f}/s"
                    f"   p99 {found['p99_ms']:.1f} ms"
                )
    plain = next(peer for peer in measured if peer.name == PLAIN)
    return {
        "bench": "ingest",
        "peers": {
            peer.name: {
                "title": peer.title,
                **{what: peer.median(what) for what in _MEDIANS if what in peer.rounds[0]},
                "times_plain": round(peer.ratio(plain), 2),
                "rounds": peer.rounds,
            }
            for peer in measured
        },
        "connections": given.connections,
        "bytes": given.size,
        "seconds": given.seconds,
        "postgresql": server.version,
        **_machine(),
    }


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "asyncpg")
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
    }


def _show(found: dict[str, Any]) -> None:
    table = Table(title=f"{found['bytes']}-byte webhooks, {found['connections']} connections")
    for heading in ("", "requests/s", "p50 ms", "p99 ms", "CPU µs each", "× plain"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for peer in found["peers"].values():
        table.add_row(
            peer["title"],
            f"{peer['per_second']:,.0f}",
            f"{peer['p50_ms']:.1f}",
            f"{peer['p99_ms']:.1f}",
            f"{peer['cpu_us']:.0f}" if "cpu_us" in peer else "?",
            f"{peer['times_plain']:.2f}",
        )
    Console(stderr=True).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=2048, help="bytes of a body")
    parser.add_argument("--log-level", default="INFO", help="of ours; INFO as in production")
    found = run(parser.parse_args(arguments))
    _show(found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
