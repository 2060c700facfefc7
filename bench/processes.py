"""What processes cost: processor seconds and memory, as /proc tells them (Linux)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """The processor seconds of a process so far, and of its children and those it buried."""
    fields = _stat(pid)
    if fields is None:
        return 0.0
    own = sum(map(int, fields[11:15])) / _TICK
    return own + sum(map(cpu, _children(pid)))


def peak(pid: int) -> float:
    """The most memory a process has held since it began (or since `reset_peak`), in MiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0")
    return round(int(found.split()[1]) / 1024, 1)


def reset_peak(pid: int) -> None:
    """From now on `peak` counts anew."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Spent:
    """What a stretch of work took: seconds, and of each process processor seconds and memory."""

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def spending(processes: Mapping[str, int]) -> Iterator[Spent]:
    """Measure what these processes, by name, spend in the block."""
    for pid in processes.values():
        reset_peak(pid)
    found, before = Spent(), {name: cpu(pid) for name, pid in processes.items()}
    began = time.perf_counter()
    yield found
    found.seconds = round(time.perf_counter() - began, 3)
    found.cpu = {name: round(cpu(pid) - before[name], 2) for name, pid in processes.items()}
    found.peak = {name: peak(pid) for name, pid in processes.items()}


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
