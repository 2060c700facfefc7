"""Programs die at random while webhooks come in: `make chaos`, in short."""

from pathlib import Path

import pytest

from tests.full.chaos import chaos


@pytest.mark.timeout(600)
async def test_whatever_dies_nothing_accepted_is_lost_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    tally = await chaos(tmp_path, posts=20, kills=3, seed=1)
    assert set(tally.kills) == {"api", "worker", "database"}
    assert (len(tally.accepted), tally.lost, tally.doubled) == (20, 0, 0), tally
