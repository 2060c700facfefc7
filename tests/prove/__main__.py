"""make prove N=1000000: random histories over the pure core, on all cores.

Ends with 0 if every promise was kept; else it prints the seed and the smallest history that
breaks the promise too, and ends with 1.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
import traceback

from tests.prove.history import History, draw, prove, shrink

CHUNK = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100_000, help="how many histories")
    parser.add_argument("--start", type=int, help="the first seed; default: one never used before")
    parser.add_argument("--seed", type=int, help="live through this one, step by step")
    parser.add_argument("--least", action="store_true", help="with --seed: cut it down first")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if "PYTHONHASHSEED" not in os.environ:  # else a seed would not always be the same history
        again = [sys.executable, "-m", "tests.prove", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    if asked.seed is not None:
        return replay(asked.seed, least=asked.least)
    start = asked.start if asked.start is not None else time.time_ns() // 1000
    return search(start, asked.count, asked.workers)


def replay(seed: int, *, least: bool) -> int:
    history = draw(seed)
    if least and _trouble(history):
        history = shrink(history)
    print(history)
    wrong = prove(history, print)
    print(f"✗ {wrong}" if wrong else "✓ every promise was kept")
    return 1 if wrong else 0


def search(start: int, count: int, workers: int) -> int:
    began = told = time.monotonic()
    done = 0
    chunks = [(at, min(at + CHUNK, start + count)) for at in range(start, start + count, CHUNK)]
    print(f"{count:,} histories from seed {start} on {workers} workers", flush=True)
    with multiprocessing.Pool(workers) as pool:
        for lived, failed in pool.imap_unordered(_live, chunks):
            done += lived
            if failed is not None:
                pool.terminate()
                return _tell_failure(failed)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                rate = done / (told - began)
                left = f"{(count - done) / rate / 60:.0f} min left"
                print(f"  {done:,} of {count:,} · {rate:,.0f}/s · {left}", flush=True)
    seconds = time.monotonic() - began
    print(f"✓ {done:,} histories in {seconds:.0f} s ({done / seconds:,.0f}/s)")
    return 0


def _live(seeds: tuple[int, int]) -> tuple[int, int | None]:
    """How many histories were lived, and the seed of the first that broke a promise."""
    gc.disable()  # histories make no garbage that lasts
    for seed in range(*seeds):
        if _trouble(draw(seed)):
            return seed - seeds[0], seed
    gc.enable()
    return seeds[1] - seeds[0], None


def _trouble(history: History) -> str | None:
    try:
        return prove(history)
    except Exception:
        return traceback.format_exc()


def _tell_failure(seed: int) -> int:
    least = shrink(draw(seed))
    print(f"✗ seed {seed}: {_trouble(draw(seed))}")
    print(f"  the least that fails too: {_trouble(least)}\n{least}")
    print(f"  step by step: make prove ARGS='--seed {seed} --least'")
    return 1


if __name__ == "__main__":
    sys.exit(main())
