"""`python -m bench`: all measurements, or the one that is named first.

python -m bench                       all, at sizes that end in ten minutes
python -m bench all --full --json F   all, as docs/performance.md shows them; takes an hour
python -m bench resync --help         one of them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import firstload, grown, ingest, live, report, resync

MEASUREMENTS: dict[str, Callable[[Sequence[str] | None], None]] = {
    "ingest": ingest.main,
    "resync": resync.main,
    "live": live.main,
    "firstload": firstload.main,
    "grown": grown.main,
}
QUICK = (
    "ingest --rounds 3 --seconds 1",
    "resync --contacts 2000 --peer-contacts 300",
    "live --seconds 10 --backlog 2000",
    "firstload --size 0.02",
    "grown --rows 100000",
)
FULL = (
    "ingest --rounds 9 --seconds 2",
    "resync --contacts 5000 --peer-contacts 0",
    "resync --contacts 20000 --peer-contacts 2000",
    "resync --contacts 80000 --peer-contacts 0",
    "live --rate 5 --backlog 0",
    "live --rate 20 --backlog 100000 --seconds 30",
    "live --rate 50 --backlog 0",
    "firstload --size 0.1",
    "firstload --size 0.1 --kill 3",
    "firstload --size 1",
    "grown --rows 100000 1000000 10000000",
)


def main() -> None:
    name, *arguments = sys.argv[1:] or ["all"]
    if name in MEASUREMENTS:
        MEASUREMENTS[name](arguments)
        return
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", *MEASUREMENTS])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the JSON lines to this file")
    given = parser.parse_args([name, *arguments])
    for line in FULL if given.full else QUICK:
        measured, *options = line.split()
        report.step(line)
        kept = ["--json", str(given.json)] if given.json else []
        MEASUREMENTS[measured]([*options, *kept])


if __name__ == "__main__":
    main()
