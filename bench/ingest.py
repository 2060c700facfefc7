"""Accepted webhooks per second: ours beside what others do, and how long a sender waits.

Starts one embedded PostgreSQL (fsync on, as in production) and each server in a process of its
own (uvicorn, uvloop, httptools, one worker; ours is `syncline serve`), then measures them in turn,
in short rounds, and prints medians. On a shared machine only what was measured side by side can
be compared: the ratios are those of each round, and the processor time of a request suffers least
from neighbours.

closed   64 connections that send as soon as they are answered, 2 KB, as Close and HubSpot sign
batches  HubSpot's, of 100 events each
open     so many posts a second, whatever became of those before; also while a worker is busy
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from app.db import embedded, migrations
from bench import machine, report
from bench.processes import cpu, peak
from bench.service import running
from bench.serving import Peer, serving, uvicorn
from tests.full.harness import CLOSE_SIGNATURE_KEY, clean_environment

ROOT = machine.ROOT
PEERS = Path(__file__).with_name("peers")
KEY = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
NOWHERE = "http://127.0.0.1:9"
PARTS = ("closed", "batches", "open")
RATES = (100, 400, 1600)
BATCH = 100
#: Contacts of the back-fill that keeps a worker busy.
BACKLOG = 4_000
_MEDIANS = ("per_second", "p50_ms", "p99_ms", "cpu_us", "database_us")

TITLES = {
    "ours": "Syncline, all of it",
    "plain": "FastAPI + asyncpg, commit each",
    "session": "FastAPI + SQLAlchemy session",
    "inline": "the same, other CRM written inline",
    "group": "bare ASGI, group commit, no checks",
    "noop": "bare ASGI, stores nothing",
    "pgbench": "pgbench, single-row inserts",
}

Found = dict[str, Any]


def peers(folder: Path) -> list[Peer]:
    """Ours first."""
    config = {
        "accounts": {
            "close": {
                "connector": "close",
                "credentials": {"api_key": "nobody"},
                "webhook_secret": KEY,
                "base_url": NOWHERE,
            },
            "hubspot": {
                "connector": "hubspot",
                "credentials": {"access_token": "nobody"},
                "webhook_secret": KEY,
                "base_url": NOWHERE,
            },
        }
    }
    file = folder / "syncline.yaml"
    file.write_text(yaml.safe_dump(config))
    own = {
        "SYNCLINE_CONFIG": str(file),
        "SYNCLINE_HOME": str(folder / "home"),
        "SYNCLINE_LOG": "json",
        "SYNCLINE_API_TOKEN": secrets.token_hex(),
        "SYNCLINE_SECRET_KEYS": "zS1Rk6v2RrYgb1kA6dR1x4y6w2tq6C5b0m9Y8vXo3fE=",
    }
    serve = ("-m", "app.cli", "serve", "--no-worker", "--no-migrate")
    return [
        Peer("ours", serve, own),
        Peer("plain", uvicorn("asyncpg_commit")),
        Peer("session", uvicorn("sqlalchemy_session")),
        Peer("inline", uvicorn("sqlalchemy_session")),
        Peer("group", uvicorn("group_commit")),
        Peer("noop", uvicorn("noop")),
    ]


# ------------------------------------------------------------------------------- one reading


@dataclass
class Bench:
    """What is running, and what is asked of it."""

    peers: dict[str, Peer]
    url: str
    database: int  # the postmaster
    seconds: float
    connections: int
    size: int

    def load(self, name: str, account: str = "close", **more: float) -> Found:
        """The peer under load; then its rows are gone."""
        peer = self.peers[name]
        before = cpu(peer.pid), cpu(self.database)
        options = {"connections": self.connections, "size": self.size, "seconds": self.seconds}
        found = generate(peer.port, account, KEY, {**options, **more})
        after = cpu(peer.pid), cpu(self.database)
        spent = [(b - a) / found["answers"] * 1e6 for a, b in zip(before, after, strict=True)]
        found["cpu_us"], found["database_us"] = map(round, spent)
        return {**found, "peak_mib": peak(peer.pid), "stored": asyncio.run(empty(self.url))}

    def pgbench(self) -> Found:
        """Single-row inserts of the same size by as many clients, by PostgreSQL's own program."""
        from bench.load import webhook  # sized like what the others are sent

        body = webhook("close", self.size).decode()
        program = Path(f"/proc/{self.database}/exe").resolve().with_name("pgbench")
        command = [str(program), "--no-vacuum", "--protocol=prepared", f"--define=body={body}"]
        command += [f"--client={self.connections}", "--jobs=2", f"--time={self.seconds:.0f}"]
        command += [f"--file={PEERS / 'insert.sql'}", self.url]
        before = cpu(self.database)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        spent = cpu(self.database) - before
        counted = re.search(r"transactions actually processed: (\d+)", done.stdout)
        rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        latency = re.search(r"latency average = ([\d.]+)", done.stdout)
        if done.returncode or not (counted and rate and latency):
            raise RuntimeError(f"pgbench failed:\n{done.stderr[-2000:]}")
        return {
            "per_second": round(float(rate[1]), 1),
            "p50_ms": float(latency[1]),
            "p99_ms": None,
            "cpu_us": None,
            "database_us": round(spent / int(counted[1]) * 1e6),
            "stored": asyncio.run(empty(self.url)),
        }


def generate(port: int, account: str, key: str, options: dict[str, float]) -> Found:
    """Let the load generator run, a process of its own; what it found."""
    command = [sys.executable, "-m", "bench.load", "--port", str(port), "--account", account]
    command += ["--key", key]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator failed:\n{done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        raise RuntimeError(f"not everything was accepted: {found['statuses']}")
    return found


async def empty(url: str) -> int:
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


# ---------------------------------------------------------------------------------- the parts


def in_turn(ways: dict[str, Callable[[], Found]], rounds: int, title: str) -> Found:
    """Each way once a round, each going first in turn; medians, and how often ours is each."""
    found: dict[str, list[Found]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        # … so that nobody always follows the same neighbour.
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(ways[name]())
        told = "  ".join(f"{name} {found[name][-1]['per_second']:,.0f}" for name in names)
        report.step(f"{title}, round {number + 1}: {told}")
    return {
        name: {
            **{what: _median(what, each) for what in _MEDIANS},
            "ours_times": _ratio(found["ours"], each),
            "rounds": each,
        }
        for name, each in found.items()
    }


def _median(what: str, rounds: Sequence[Found]) -> float | None:
    known = [each[what] for each in rounds if each.get(what) is not None]
    return float(statistics.median(known)) if known else None


def _ratio(ours: Sequence[Found], theirs: Sequence[Found]) -> float:
    """How often ours is theirs, round by round."""
    pairs = zip(ours, theirs, strict=True)
    times: float = statistics.median(a["per_second"] / b["per_second"] for a, b in pairs)
    return round(times, 3)


def closed(bench: Bench, rounds: int) -> Found:
    """Requests per second of everybody, by sender."""
    found: Found = {}
    for account in ("close", "hubspot"):
        ways: dict[str, Callable[[], Found]] = {
            name: partial(bench.load, name, account) for name in bench.peers
        }
        if account == "close":
            ways["pgbench"] = bench.pgbench
        found[account] = in_turn(ways, rounds, account)
    return found


def batches(bench: Bench, rounds: int) -> Found:
    """HubSpot's events per second, a hundred in each request."""
    ways: dict[str, Callable[[], Found]] = {
        name: partial(bench.load, name, "hubspot", events=BATCH) for name in ("ours", "plain")
    }
    found = in_turn(ways, rounds, f"batches of {BATCH}")
    return {
        name: {**each, "events_per_second": each["per_second"] * BATCH}
        for name, each in found.items()
    }


def open_loop(bench: Bench, rounds: int) -> Found:
    """How long a sender waits at a steady rate, whoever is measured."""
    found: Found = {}
    for rate in RATES:
        ways: dict[str, Callable[[], Found]] = {
            name: partial(bench.load, name, rate=rate) for name in ("ours", "plain")
        }
        found[str(rate)] = in_turn(ways, rounds, f"{rate} a second")
    return found


async def while_busy(rounds: int, seconds: float) -> Found:
    """The same of ours while its worker takes in contacts and writes them elsewhere."""
    found: dict[str, list[Found]] = {str(rate): [] for rate in RATES}
    async with running() as service:
        world = service.world
        await world.crms.seed(close={"leads": BACKLOG // 4, "contacts_per_lead": 4})
        for _ in range(rounds):
            for rate in RATES:
                # One after the other, so that there is one as long as we look.
                (_, done) = await asyncio.gather(
                    _keep_busy(service.world.syncline.post, service.db, seconds),
                    asyncio.to_thread(
                        generate,
                        world.syncline.port,
                        "close",
                        CLOSE_SIGNATURE_KEY,
                        {"rate": rate, "seconds": seconds},
                    ),
                )
                found[str(rate)].append(done)
                report.step(f"busy, {rate} a second: p99 {done['p99_ms']:.1f} ms")
    return {
        rate: {**{what: _median(what, each) for what in _MEDIANS[:3]}, "rounds": each}
        for rate, each in found.items()
    }


async def _keep_busy(post: Callable[..., Any], db: asyncpg.Connection, seconds: float) -> None:
    until = time.monotonic() + seconds
    open_one = "select exists (select from resyncs where state in ('queued', 'running'))"
    while time.monotonic() < until:
        if not await db.fetchval(open_one):
            await post("/api/resyncs", {"account": "close"})
        await asyncio.sleep(0.2)


def run(given: argparse.Namespace) -> Found:
    """Measure; everything found, as data."""
    found: Found = {
        "bench": "ingest",
        "connections": given.connections,
        "bytes": given.size,
        "seconds": given.seconds,
        **machine.about(),
    }
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="syncline-bench-")))
        folder.chmod(0o711)
        server = embedded.start(folder, settings={"max_connections": "200"})
        closing.callback(embedded.stop, folder)
        migrations.upgrade(server.url)
        asyncio.run(_prepare(server.url))
        found["postgresql"] = server.version
        environment = clean_environment(DATABASE_URL=server.url, BENCH_KEY=KEY)
        everybody = {peer.name: peer for peer in peers(folder)}
        for peer in reversed(everybody.values()):
            if peer.name == "inline":
                other = everybody["noop"].port
                peer.environment["BENCH_PROPAGATE"] = f"http://127.0.0.1:{other}"
            closing.enter_context(serving(peer, environment))
        postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
        bench = Bench(
            everybody, server.url, postmaster, given.seconds, given.connections, given.size
        )
        for name, part in (("closed", closed), ("batches", batches), ("open", open_loop)):
            if name in given.part:
                found[name] = part(bench, given.rounds)
    if "open" in given.part:
        found["busy"] = asyncio.run(while_busy(given.rounds, given.seconds))
    return found


async def _prepare(url: str) -> None:
    db = await asyncpg.connect(url)
    try:
        await db.execute((PEERS / "tables.sql").read_text())
    finally:
        await db.close()


# ------------------------------------------------------------------------------------ telling


def show(found: Found) -> None:
    headings = ("", "requests/s", "p50 ms", "p99 ms", "CPU µs each", "database µs", "ours ×")
    for account, each in found.get("closed", {}).items():
        title = f"{account}: {found['bytes']} bytes, {found['connections']} connections"
        report.table(title, headings, [_row(TITLES[name], peer) for name, peer in each.items()])
    if "batches" in found:
        report.table(
            f"hubspot: batches of {BATCH} events, {found['connections']} connections",
            (*headings, "events/s"),
            [
                (*_row(TITLES[name], peer), f"{peer['events_per_second']:,.0f}")
                for name, peer in found["batches"].items()
            ],
        )
    if "open" in found:
        rows = [
            (f"{TITLES[name]}, {rate}/s", _ms(peer["p50_ms"]), _ms(peer["p99_ms"]))
            for rate, each in found["open"].items()
            for name, peer in each.items()
        ]
        rows += [
            (f"Syncline while its worker is busy, {rate}/s", _ms(o["p50_ms"]), _ms(o["p99_ms"]))
            for rate, o in found["busy"].items()
        ]
        report.table("open loop: how long a sender waits", ("", "p50 ms", "p99 ms"), rows)


def _row(title: str, peer: Found) -> tuple[str, ...]:
    spent = ["–" if peer[what] is None else f"{peer[what]:.0f}" for what in _MEDIANS[3:]]
    times = (_ms(peer["p50_ms"]), _ms(peer["p99_ms"]))
    return (title, f"{peer['per_second']:,.0f}", *times, *spent, f"{peer['ours_times']:.2f}")


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = report.parser("ingest", __doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=2048, help="bytes of a body")
    given = parser.parse_args(arguments)
    found = run(given)
    show(found)
    report.write(found, given.json)


if __name__ == "__main__":
    main()
