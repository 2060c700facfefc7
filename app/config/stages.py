"""The stage map of the deals: what in it could be read in two ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from app.config.model import EntitySync, StagePlace

#: Where in `sync.deal`, and what is wrong there.
Complaint: TypeAlias = tuple[tuple[str, ...], str]


def ambiguities(deal: EntitySync) -> Iterator[Complaint]:
    """Everything in the maps of stages and pipelines that is no map."""
    yield from _same_word("stages", deal.stages)
    yield from _same_word("pipelines", deal.pipelines)
    seen: list[tuple[str, str, StagePlace]] = []
    for ours, accounts in deal.stages.items():
        for account, places in accounts.items():
            for place in places:
                other = next(
                    (o for o, a, p in seen if a == account and o != ours and _meet(p, place)), None
                )
                if other is not None:
                    yield ("stages", ours, account), f"{str(place)!r} is {other!r} already"
                seen.append((ours, account, place))
    taken: dict[tuple[str, str], str] = {}
    for ours, owns in deal.pipelines.items():
        for account, names in owns.items():
            for name in names:
                first = taken.setdefault((account, fold(name)), ours)
                if first != ours:
                    yield ("pipelines", ours, account), f"{name!r} is {first!r} already"


def _same_word(key: str, names: Iterable[str]) -> Iterator[Complaint]:
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(fold(name), name)
        if other != name:
            yield (key, name), f"is the same word as {other!r}"


def _meet(one: StagePlace, other: StagePlace) -> bool:
    """Whether some stage could be meant by both."""
    pipelines = {fold(place.pipeline) for place in (one, other) if place.pipeline}
    return fold(one.stage) == fold(other.stage) and len(pipelines) < 2


def fold(text: object) -> str:
    """A name as it is compared: whatever its case and its blanks."""
    return " ".join(str(text).split()).casefold()
