"""A thousand random histories over the pure core; `make prove` runs as many as you like."""

from __future__ import annotations

import pytest

from tests.prove.history import draw, prove, shrink

BATCH = 100


@pytest.mark.parametrize("start", range(0, 1000, BATCH))
def test_every_history_keeps_every_promise(start: int) -> None:
    for seed in range(start, start + BATCH):
        if prove(draw(seed)) is not None:
            least = shrink(draw(seed))
            pytest.fail(f"seed {seed}: {prove(least)}\n{least}")
