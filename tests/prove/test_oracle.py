"""The oracle must notice; a proof that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.domain import merge as merging
from app.domain import policy
from app.domain.meeting import Step
from app.domain.merge import Winner
from app.domain.state import RecordState, State
from app.domain.values import Observation
from tests.prove import engine
from tests.prove.history import draw, prove, shrink
from tests.prove.oracle import BrokenError, Witness


def _forgetful(*_args: Any, **_named: Any) -> frozenset[str]:
    """As if an account were never behind."""
    return frozenset()


def _blind(self: engine.Engine, account: str, job: engine.Job, link: engine.Link) -> None:
    """Write without a look."""
    link.writing = True
    job.outcome = self.crms[account].write(link.ref.id, job.fields, self.now)


def _trusting(patch: pytest.MonkeyPatch) -> None:
    """Believe whatever was seen, whenever that was."""
    patch.setattr(engine, "needs_reading", lambda *_: False)
    patch.setattr(engine, "is_outlived", lambda *_: False)


def _hasty(state: State, snapshot: Observation) -> bool:
    """As if all snapshots that are not newer told nothing."""
    seen_at = state.link and state.link.seen_at
    return bool(seen_at and snapshot.version and snapshot.version <= seen_at)


def _whoever_came_last(policy: str, **named: Any) -> tuple[Winner, str]:
    """As if what we see last had been edited last."""
    if policy == "review":
        return Winner.NOBODY, ""
    return (Winner.OURS if policy == named["ours_by"] else Winner.THEIRS), ""


def _barren(kept: RecordState, lost: RecordState) -> tuple[RecordState, tuple[()], tuple[()]]:
    """As if who was merged away had had nothing."""
    return replace(kept, version=max(kept.version, lost.version) + 1), (), ()


def _deaf(*_: Any, **_named: Any) -> Step:
    """As if nobody told of merges."""
    return Step.NOTHING


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "never behind": lambda patch: patch.setattr(engine, "behind", _forgetful),
    "write without a look": lambda patch: patch.setattr(engine.Engine, "_update", _blind),
    "believe old snapshots": _trusting,
    "pass over snapshots of one moment": lambda patch: patch.setattr(engine, "is_outlived", _hasty),
    "forget what was sent": lambda patch: patch.setattr(
        engine, "agreed_after_update", lambda base, sent, ours, **_: ({**base, **ours}, {})
    ),
    "the last to come wins": lambda patch: patch.setattr(policy, "settle", _whoever_came_last),
    "keep no journal": lambda patch: patch.setattr(engine.Engine, "_write_down", lambda *_: None),
    "a merge forgets the lost one": lambda patch: patch.setattr(engine, "united", _barren),
    "merges are not heard": lambda patch: patch.setattr(engine, "step_of", _deaf),
    "sets are values": lambda patch: patch.setattr(merging, "elements", lambda _: set()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_turn_of_the_engine_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRONG[wrong](monkeypatch)
    seed = next(seed for seed in range(1000) if prove(draw(seed)) is not None)
    least = shrink(draw(seed))
    assert prove(least) is not None
    assert len(least.steps) <= len(draw(seed).steps)


def test_a_seed_is_always_the_same_history() -> None:
    assert [draw(seed) for seed in range(20)] == [draw(seed) for seed in range(20)]


def _phone_carried() -> Witness:
    """A phone of one person in A, which our create has just brought to B."""
    witness = Witness()
    witness.created("A", "A1", 1, {"phones": ["+491"]}, 1)
    witness.made("B", "B1", 1, {"phones": ["+491"]})
    return witness


def test_an_element_removed_from_a_create_that_nobody_remembers_may_come_back() -> None:
    witness = _phone_carried()
    witness.edited("B", "B1", 1, "phones", ["+491"], [], 2)
    witness.crashed("B", "B1", ["phones"])
    witness.wrote("B", "B1", 1, "phones", [], ["+491"])


@pytest.mark.parametrize("since", ["no crash", "at rest", "written since", "another element"])
def test_a_removal_that_was_to_be_known_is_noticed_if_it_is_lost(since: str) -> None:
    witness = _phone_carried()
    gone, left = "+491", list[str]()
    if since != "no crash":
        witness.crashed("B", "B1", ["phones"])
    if since == "at rest":
        witness.rested()
    if since in ("written since", "another element"):
        witness.edited("A", "A1", 1, "phones", ["+491"], ["+491", "+492"], 2)
        witness.wrote("B", "B1", 1, "phones", ["+491"], ["+491", "+492"])
    if since == "another element":
        gone, left = "+492", ["+491"]
    witness.edited("B", "B1", 1, "phones", [*left, gone], left, 3)
    with pytest.raises(BrokenError, match="came back"):
        witness.wrote("B", "B1", 1, "phones", left, [*left, gone])
