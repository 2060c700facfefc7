"""The programs that `syncline serve` starts beside itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from app import logs
from app.errors import SynclineError

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
_STEADY: Final = 60.0  # seconds after which a death is no longer part of a row of deaths


class ChildDiedError(SynclineError):
    """A program that the service needs did not come up."""


class Child:
    """One program, started again with a growing delay whenever it dies."""

    def __init__(self, name: str, module: str, *arguments: str, output: Path | None = None) -> None:
        self.name = name
        self.output = output
        self._command: Sequence[str] = (sys.executable, "-m", "app.cli.minded", module, *arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._turn = threading.Lock()

    def start(self) -> None:
        """Start it, and watch over it from now on."""
        self._process = self._spawn()
        threading.Thread(target=self._watch, name=f"{self.name}-watch", daemon=True).start()

    def wait_for(self, port: int, *, patience: float = 20.0) -> None:
        """Return once it listens. Raises ChildDiedError with its last words."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self._is_alive():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        said = self.output.read_text(errors="replace")[-1500:].strip() if self.output else ""
        raise ChildDiedError(f"the {self.name} does not start" + (f":\n{said}" if said else ""))

    def stop(self, *, patience: float = 30.0) -> None:
        """Ask it to finish, wait, and end it if it does not."""
        self._stopping.set()
        with self._turn:
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            logs.get().warning(f"{self.name}.killed", waited=patience)
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._stopping.set()
        if self._process:
            self._process.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as opened:
            output: IO[bytes] | None = None
            if self.output:
                self.output.unlink(missing_ok=True)
                made = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                output = opened.enter_context(open(made, "wb"))
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is for us alone: we stop it when its turn comes
            )

    def _watch(self) -> None:
        delay = _FIRST_DELAY
        while process := self._process:
            started = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            delay = _FIRST_DELAY if time.monotonic() - started > _STEADY else delay
            logs.get().error(f"{self.name}.died", code=code, restart_in=delay)
            if self._stopping.wait(delay):
                return
            with self._turn:
                if self._stopping.is_set():
                    return
                self._process = self._spawn()
            delay = min(delay * 2, _LONGEST_DELAY)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None
