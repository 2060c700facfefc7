"""Two remote records became one: what that means for what we know of both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol, TypeVar

from app.domain.absorb import absorb
from app.domain.codecs import ABSENT
from app.domain.entities import equal
from app.domain.merge import Clash, Take, elements
from app.domain.state import RecordState
from app.domain.values import Fields

#: Why a counterpart is gone that we deleted, as its record was deleted elsewhere.
PROPAGATED = "propagated"
EDITED = "it was edited before it was merged, and nobody else has changed it"


class Met(Protocol):
    """What a link tells: how it stands, and why it is gone if it is."""

    @property
    def state(self) -> str: ...
    @property
    def ended(self) -> str | None: ...


AnyMet = TypeVar("AnyMet", bound=Met)


class Step(StrEnum):
    """What follows from a merge, given what we know of the two."""

    NOTHING = "nothing"
    DISMISS = "dismiss"  # a person said that the lost one is nobody's
    REMEMBER = "remember"  # we never met the lost one: late news must not make it a record
    RENAME = "rename"  # we never met the survivor: our link has a new name
    WAIT = "wait"  # … unless it is what a create of ours makes just now
    FOLLOW = "follow"  # both are known: their records become one


def step_of(lost: Met | None, kept: Met | None, *, making: bool = False) -> Step:
    """``lost`` was merged into ``kept``, told for the first time or again.

    ``making``: creates of ours were on their way there before it was told.
    """
    unknown = kept is None
    if lost is not None and lost.state == "unlinked":
        return Step.DISMISS
    if kept is not None and kept.state == "unlinked" and lost is not None:
        kept = None  # it is somebody's again: of the one that was merged into it
    if lost is None:
        return Step.NOTHING if kept is None else Step.REMEMBER
    if kept is None:
        # Whatever a merged one was merged into has news of its own.
        if lost.ended in ("merged", "purged"):
            return Step.NOTHING
        return Step.WAIT if making and unknown else Step.RENAME
    return Step.NOTHING if "purged" in (lost.ended, kept.ended) else Step.FOLLOW


def state_after_rename(state: str, *, beside: bool) -> str:
    """How a link goes on under its new name; ``beside`` another that stands there, it waits."""
    return "parked" if beside or state in ("parked", "merging") else "live"


def state_after_move(state: str, *, beside: bool) -> str:
    """How a link goes on with the record that its own was merged into."""
    if state in ("gone", "unlinked"):
        return state
    return "parked" if beside or state in ("parked", "merging") else "live"


def promoted(own: Sequence[AnyMet]) -> AnyMet | None:
    """Which parked counterpart in an account takes the place of one that is gone, if any."""
    if any(one.state == "live" for one in own):
        return None
    return next((one for one in own if one.state in ("parked", "merging")), None)


def unmade(own: Sequence[AnyMet]) -> list[AnyMet]:
    """Which counterparts of what became one we have deleted ourselves, for one of the two.

    What that counterpart had become nobody deleted: it is made there anew.
    """
    return [one for one in own if one.ended == PROPAGATED]


def united(
    kept: RecordState, lost: RecordState
) -> tuple[RecordState, tuple[Take, ...], tuple[Clash, ...]]:
    """The survivor with what it takes from the lost record, and what does not fit."""
    takes, clashes = absorb(kept.fields, lost.fields)
    stamps = {t.field: lost.stamps[t.field] for t in takes if t.field in lost.stamps}
    record = replace(
        kept,
        fields={**kept.fields, **{take.field: take.new for take in takes}},
        stamps={**kept.stamps, **stamps},
        version=max(kept.version, lost.version) + 1,
        container=kept.container and lost.container,
        state="live" if "live" in (kept.state, lost.state) else kept.state,
    )
    return record, takes, clashes


def last_words(
    record: RecordState, base: Fields, shown: Fields, *, without: Collection[str] = ()
) -> tuple[RecordState, tuple[Take, ...], tuple[Clash, ...]]:
    """The record with what nobody has told us yet of one that we are about to merge away.

    Who deleted it elsewhere has not seen that: it lives.
    """
    news = {
        name: value
        for name, value in shown.items()
        if name not in without and not equal(value, base.get(name, ABSENT))
    }
    takes, clashes = absorb(record.fields, news)
    # Where ours is still what that one showed last, its edit is an edit like any other.
    alone = {c.field for c in clashes if equal(c.ours, base.get(c.field, ABSENT))}
    takes += tuple(Take(c.field, c.ours, c.theirs, EDITED) for c in clashes if c.field in alone)
    clashes = tuple(clash for clash in clashes if clash.field not in alone)
    fields = {**record.fields, **{take.field: take.new for take in takes}}
    for name, value in news.items():
        removed = elements(base.get(name, ABSENT)) - elements(value)
        if removed & elements(fields.get(name, ABSENT)):
            left = sorted(elements(fields[name]) - removed)
            takes = (
                *(t for t in takes if t.field != name),
                Take(name, record.fields.get(name, ABSENT), left, EDITED),
            )
            fields[name] = left
    if not takes and not clashes:
        return record, (), ()
    state = "live" if record.state == "gone" else record.state
    after = replace(record, fields=fields, state=state, version=record.version + 1)
    return after, takes, clashes
