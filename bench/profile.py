"""Flame graphs of worker and API during a resync in which HubSpot tells of what we write.

python -m bench.profile --contacts 2000 --to .syncline/profiles

py-spy looks at both processes from outside, so what runs is what runs in production.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench import report
from bench.resync import FAMILY, PEOPLE
from bench.service import Service, running
from tests.full.harness import PATIENCE

RATE = 200  # looks a second


async def profile(contacts: int, folder: Path) -> list[Path]:
    """Resync so many contacts twice, all new, then nothing new; the graphs that were written."""
    async with running(sync=PEOPLE, webhooks=True) as service:
        await service.world.crms.seed(
            close={"leads": contacts // FAMILY, "contacts_per_lead": FAMILY}
        )
        written = []
        for run in ("created", "unchanged"):
            async with contextlib.AsyncExitStack() as looking:
                for name in ("worker", "api"):
                    file = folder / f"resync-{run}-{name}.svg"
                    await looking.enter_async_context(_watching(service.processes[name], file))
                    written.append(file)
                await _resync(service)
    return written


async def _resync(service: Service) -> None:
    await service.world.syncline.post("/api/resyncs", {"account": "close", "entity": "person"})
    await service.idle()
    await service.world.quiet(within=PATIENCE, pause=0.2)


@contextlib.asynccontextmanager
async def _watching(pid: int, file: Path) -> AsyncIterator[None]:
    """Let py-spy draw what this process does in the block."""
    program = Path(sys.executable).with_name("py-spy")
    options = ("record", "--pid", str(pid), "--rate", str(RATE), "--output", str(file))
    spy = await asyncio.create_subprocess_exec(
        str(program), *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            spy.send_signal(signal.SIGINT)
        _, said = await spy.communicate()
        if spy.returncode:
            raise RuntimeError(f"py-spy drew nothing:\n{said.decode()}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench profile", description=__doc__)
    parser.add_argument("--contacts", type=int, default=2_000)
    parser.add_argument("--to", type=Path, default=Path(".syncline/profiles"), metavar="FOLDER")
    given = parser.parse_args(arguments)
    given.to.mkdir(parents=True, exist_ok=True)
    for file in asyncio.run(profile(given.contacts, given.to)):
        report.step(f"{file}")


if __name__ == "__main__":
    main()
