"""Programs die, answers are lost, CRMs are away: `make chaos`, in short."""

from pathlib import Path

import pytest

from tests.chaos.kills import kills
from tests.chaos.outage import day, refusals
from tests.chaos.result import Result, table
from tests.chaos.storms import storms
from tests.chaos.versions import versions

pytestmark = pytest.mark.timeout(600)


async def test_whatever_dies_nothing_accepted_is_lost_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    found = await kills(tmp_path, posts=200, kills=3, firms=12, seed=1)
    assert not found.broken, table([found])
    assert set(found.kills) == {"api", "worker", "database"}
    assert found.accepted == 200


async def test_creates_whose_answers_are_lost_are_made_once(tmp_path: Path) -> None:
    found = await storms(tmp_path, creates=40, share=0.2)
    assert not found.broken, table([found])


@pytest.mark.heavy
async def test_a_day_without_a_crm_ends_without_a_difference(tmp_path: Path) -> None:
    found = await day(tmp_path, changes=2_000, companies=100, limit=100)
    assert (found.lost, found.doubled) == (0, 0), table([found])


@pytest.mark.heavy
async def test_while_all_is_refused_only_probes_are_made(tmp_path: Path) -> None:
    found = await refusals(tmp_path, companies=60)
    assert not found.broken, table([found])


async def test_an_older_program_goes_on_beside_a_newer_one(tmp_path: Path) -> None:
    found = await versions(tmp_path, posts=100, firms=8, seed=1)
    assert not found.broken, table([found])


def test_a_broken_promise_is_told(tmp_path: Path) -> None:
    found = Result("of a test", lost=1)
    found.judge()
    assert "✗ 1 accepted and lost" in table([found])
