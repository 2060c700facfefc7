"""Servers to measure, each a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.machine import ROOT


@dataclass
class Peer:
    """One server: how it is started, and where it is once it runs."""

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    pid: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def uvicorn(module: str) -> Sequence[str]:
    """The command that serves a module of `bench.peers`, as fast as uvicorn can."""
    arguments = "--loop uvloop --http httptools --ws none --no-access-log --log-level warning"
    return ("-m", "uvicorn", f"bench.peers.{module}:app", *arguments.split())


@contextmanager
def serving(peer: Peer, environment: dict[str, str]) -> Iterator[Peer]:
    """The peer, answering."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        peer.port = free.getsockname()[1]
    command = [sys.executable, *peer.command, "--port", str(peer.port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**environment, **peer.environment}, stdout=log, stderr=log
        )
        try:
            _wait(peer, server)
            peer.pid = server.pid
            yield peer
        except BaseException:
            if server.poll() is not None:
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
