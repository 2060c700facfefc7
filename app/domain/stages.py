"""Stages of deals and tickets: each account has its own; they meet by map, by name, by class.

Where the configuration maps an account's stages, only what is mapped is written there, and a
stage that nothing maps is never taken for one of ours: it keeps its own name and is held where
it cannot go. The classes won and lost, and closed of a ticket, are alike everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.config import EntitySync, StagePlace
from app.config.stages import fold
from app.domain.codecs import ABSENT, Codec, Context, Held
from app.domain.values import Directory, Fields, Finding, Pipeline, Stage, Value


@dataclass(frozen=True, slots=True)
class Spot:
    """One stage in its pipeline."""

    pipeline: Pipeline
    stage: Stage

    def __str__(self) -> str:
        return f"{self.pipeline.name} / {self.stage.name}"


def _spots(pipelines: Iterable[Pipeline]) -> list[Spot]:
    return [Spot(pipeline, stage) for pipeline in pipelines for stage in pipeline.stages]


def _is(own: Pipeline | Stage, name: str) -> bool:
    return own.id == name or fold(own.name) == fold(name)


def _names(place: StagePlace, spot: Spot) -> bool:
    """Whether the configuration means this stage."""
    within = place.pipeline is None or _is(spot.pipeline, place.pipeline)
    return within and _is(spot.stage, place.stage)


def _mapped(spot: Spot, stages: Mapping[str, Sequence[StagePlace]]) -> str | None:
    """Our stage that the configuration gives this one; an id is more exact than a name."""
    found = [ours for ours, places in stages.items() if any(_names(p, spot) for p in places)]
    exact = (o for o in found if any(p.stage == spot.stage.id for p in stages[o]))
    return next(exact, found[0] if found else None)


def _mapped_pipeline(own: Pipeline, pipelines: Mapping[str, Sequence[str]]) -> str | None:
    return next((o for o, names in pipelines.items() if any(_is(own, n) for n in names)), None)


def _long(pipeline: Pipeline) -> str:
    return f"{pipeline.name} ({pipeline.id})"


def _words_for(own: Spot | Pipeline) -> set[str]:
    """What a stage or a pipeline that nothing maps may be called, folded."""
    if isinstance(own, Pipeline):
        return {fold(own.name), fold(_long(own))}
    return {fold(own.stage.id), fold(own.stage.name), fold(own)}


def _own_word(own: str, longer: str, ours: Iterable[str]) -> str:
    """What nothing maps keeps its own name, unless that is one of ours, which it is not."""
    return longer if fold(own) in {fold(name) for name in ours} else own


def _stage_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """(stage id[, pipeline id]) -> (our stage, our pipeline)."""
    for spot in _spots(context.directory.pipelines):
        if spot.stage.id != raw[0] or (len(raw) > 1 and raw[1] and spot.pipeline.id != raw[1]):
            continue
        pipeline, stage = spot.pipeline, spot.stage
        return [
            _mapped(spot, context.stages) or _own_word(stage.name, str(spot), context.stages),
            _mapped_pipeline(pipeline, context.pipelines)
            or _own_word(pipeline.name, _long(pipeline), context.pipelines),
        ]
    return [ABSENT, ABSENT]


def _stage_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """The account's own stage: as mapped, by name, by class; else it is held."""
    if not context.directory.pipelines:
        raise Held("stage", "the account shows no pipeline with stages")
    stage = _todays("stage", values[0], context)
    wanted, allowed = _pipelines(_todays("pipeline", values[1], context), context)
    entry = next((spot for spot in _spots(allowed) if spot.stage.kind == "open"), None)
    stand_in = _remote(entry) if entry is not None and context.current is None else None
    if stage is None:
        if stand_in is not None:
            return stand_in
        raise Held("stage", f"a {context.entity} cannot be without a stage")
    if not allowed:
        raise Held(
            "pipeline",
            f"no pipeline there is mapped to {values[1]!r}; map it under "
            f"sync.{context.entity}.pipelines",
        )
    name = next((ours for ours in context.stages if fold(ours) == fold(stage)), None)
    if name is not None:
        spot = _configured(context.stages[name], wanted, allowed, context.directory)
        if spot is None:
            own = " or ".join(repr(str(place)) for place in context.stages[name])
            raise Held("stage", f"the configured stage {own} does not exist there", stand_in)
        return _remote(spot)
    named = (
        spot
        for spot in _spots(allowed)
        if fold(stage) in _words_for(spot) and _mapped(spot, context.stages) is None
    )
    if (spot := next(named, None)) is not None:
        return _remote(spot)
    return _by_class(str(stage), allowed, stand_in, context)


def _by_class(
    stage: str, allowed: Sequence[Pipeline], stand_in: Sequence[Any] | None, context: Context
) -> Sequence[Any]:
    kind = context.kinds.get(fold(stage))
    there = context.kinds.get(fold((context.current or {}).get("stage")))
    if kind is not None and kind == there and (kind != "open" or not context.stages):
        return [ABSENT, ABSENT]  # it is in one of that class already
    if kind in ("won", "lost", "closed"):
        spots = [spot for spot in _spots(allowed) if spot.stage.kind == kind]
        if spots:
            return _remote(spots[0])
    if not context.stages:
        if stand_in is not None:
            return stand_in
        entry = next((spot for spot in _spots(allowed) if spot.stage.kind == kind == "open"), None)
        if entry is not None:  # it was closed there and is open again
            return _remote(entry)
    raise Held(
        "stage",
        f"no stage there matches {stage!r}; map it under sync.{context.entity}.stages",
        stand_in,
    )


def _pipelines(ours: Value, context: Context) -> tuple[Sequence[Pipeline], Sequence[Pipeline]]:
    """(those that our pipeline means, those that a record of it may stand in, best first)."""
    every = context.directory.pipelines
    name = next((o for o in context.pipelines if fold(o) == fold(ours)), None)
    if name is not None:
        mapped = [p for own in context.pipelines[name] for p in every if _is(p, own)]
        return mapped, mapped
    free = [p for p in every if _mapped_pipeline(p, context.pipelines) is None]
    named = [p for p in free if fold(ours) in _words_for(p)]
    if context.pipelines and ours is not None:
        return named, named
    return named, [*named, *(p for p in every if p not in named)]


def _configured(
    places: Sequence[StagePlace],
    wanted: Sequence[Pipeline],
    allowed: Sequence[Pipeline],
    directory: Directory,
) -> Spot | None:
    """The first place that exists: in the record's own pipeline, else where it is configured."""
    here = [spot for place in places for spot in _spots(wanted) if _names(place, spot)]
    elsewhere = [
        spot
        for place in places
        for spot in _spots(directory.pipelines if place.pipeline else allowed)
        if _names(place, spot)
    ]
    return next(iter([*here, *elsewhere]), None)


def _remote(spot: Spot) -> Sequence[Any]:
    return [spot.stage.id, spot.pipeline.id]


STAGE = Codec(_stage_get, _stage_put)

#: The pipeline of an account that shows none and of which none is named.
DEFAULT = "default"
_CLASSES: Mapping[str, Literal["won", "lost", "closed"]] = {
    "won": "won",
    "lost": "lost",
    "closed": "closed",
}


# --- words of yesterday -----------------------------------------------------------------------

#: Field -> folded word -> what it is called today.
Words = Mapping[str, Mapping[str, str]]


def _todays(name: str, value: Value, context: Context) -> Value:
    return context.words.get(name, {}).get(fold(value), value)


def todays(fields: Fields, words: Words) -> Fields:
    """The fields with stages and pipelines called as the configuration calls them today."""
    renamed = {
        name: known[fold(fields[name])]
        for name, known in words.items()
        if isinstance(fields.get(name), str) and fold(fields[name]) in known
    }
    return {**fields, **renamed} if renamed else fields


def words_of(deal: EntitySync | None, directories: Mapping[str, Directory]) -> Words:
    """The own names, in these accounts, that the configuration gives one name of ours.

    A name that is read before it was mapped stands in our records as it is. Where some account
    uses it for something else, or for nothing that is mapped, it says nothing.
    """
    if deal is None:
        return {}
    stages: dict[str, set[str | None]] = {}
    pipelines: dict[str, set[str | None]] = {}
    for account, directory in directories.items():
        own, groups = stages_in(deal, account), pipelines_in(deal, account)
        for spot in _spots(directory.pipelines):
            for word in (fold(spot.stage.name), fold(spot)):
                stages.setdefault(word, set()).add(_mapped(spot, own))
        for pipeline in directory.pipelines:
            found = _mapped_pipeline(pipeline, groups)
            for word in _words_for(pipeline):
                pipelines.setdefault(word, set()).add(found)
    return {
        "stage": _certain(stages, deal.stages),
        "pipeline": _certain(pipelines, deal.pipelines),
    }


def _certain(words: Mapping[str, set[str | None]], ours: Iterable[str]) -> dict[str, str]:
    taken = {fold(name) for name in ours}
    one = {word: next(iter(found)) for word, found in words.items() if len(found) == 1}
    return {word: only for word, only in one.items() if only is not None and word not in taken}


# --- for the house ----------------------------------------------------------------------------


def stages_in(deal: EntitySync, account: str) -> dict[str, tuple[StagePlace, ...]]:
    """Our stages that the configuration maps in this account."""
    return {ours: places[account] for ours, places in deal.stages.items() if account in places}


def pipelines_in(deal: EntitySync, account: str) -> dict[str, tuple[str, ...]]:
    return {ours: names[account] for ours, names in deal.pipelines.items() if account in names}


def seen_by(entity: str, directory: Directory) -> Directory:
    """The directory with the pipelines of this entity."""
    return replace(directory, pipelines=directory.tickets) if entity == "ticket" else directory


def completed(directory: Directory, deal: EntitySync, account: str) -> Directory:
    """The directory; of an account that shows no pipelines, with those that the configuration
    names, taken for ids.
    """
    if directory.pipelines:
        return directory
    found: dict[str, dict[str, Stage]] = {}
    for ours, places in stages_in(deal, account).items():
        for place in places:
            stage = Stage(place.stage, place.stage, _CLASSES.get(fold(ours)) or "open")
            found.setdefault(place.pipeline or DEFAULT, {}).setdefault(place.stage, stage)
    return replace(
        directory,
        pipelines=tuple(Pipeline(id, id, tuple(own.values())) for id, own in found.items()),
    )


def kinds_of(
    directories: Mapping[str, Directory], deal: EntitySync | None = None
) -> dict[str, str]:
    """The class of every stage name of any account, and of ours, names folded."""
    own: dict[str, str] = {}
    ours: dict[str, str] = {}
    for account, directory in reversed(list(directories.items())):
        stages = stages_in(deal, account) if deal else {}
        for spot in reversed(_spots(directory.pipelines)):
            own |= dict.fromkeys((fold(spot), fold(spot.stage.name)), spot.stage.kind)
            if (name := _mapped(spot, stages)) is not None:
                ours[fold(name)] = spot.stage.kind
    return own | ours


#: It may be left out on purpose; what gets there says so by itself.
_UNMAPPED = "is mapped by nothing, so a {entity} in it is held"


def check(
    deal: EntitySync, account: str, directory: Directory, *, entity: str = "deal"
) -> list[Finding]:
    """What of the maps does not exist there, and what there is mapped by nothing."""
    stages, pipelines = stages_in(deal, account), pipelines_in(deal, account)
    spots = _spots(directory.pipelines)
    missing = [
        f"{place} ({ours})"
        for ours, places in stages.items()
        for place in places
        if not any(_names(place, spot) for spot in spots)
    ]
    lost = [
        f"{name} ({ours})"
        for ours, names in pipelines.items()
        for name in names
        if not any(_is(pipeline, name) for pipeline in directory.pipelines)
    ]
    twice = [
        f"{spot} ({', '.join(ours)})"
        for spot in spots
        if len(ours := [o for o, places in stages.items() if any(_names(p, spot) for p in places)])
        > 1
    ]
    open_spots = (spot for spot in spots if spot.stage.kind == "open")
    bare = [str(spot) for spot in open_spots if _mapped(spot, stages) is None] if stages else []
    free = [p.name for p in directory.pipelines if _mapped_pipeline(p, pipelines) is None]
    unmapped = _UNMAPPED.format(entity=entity)
    double = "stands for several, and is read as one of them"
    found = [
        *_finding("stages", missing, "does not exist there", "Correct"),
        *_finding("stages", twice, double, "Correct"),
        *_finding("pipelines", lost, "does not exist there", "Correct"),
        *_finding("stages", bare, unmapped, "Add to", ok=True),
        *_finding("pipelines", free if pipelines else [], unmapped, "Add to", ok=True),
    ]
    return [replace(one, remedy=f"{one.remedy} sync.{entity}.{one.check}.") for one in found]


def _finding(
    check: str, names: Sequence[str], what: str, remedy: str, *, ok: bool = False
) -> list[Finding]:
    return [Finding(check, ok, f"{', '.join(names)}: {what}", remedy)] if names else []
