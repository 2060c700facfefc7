"""Deal stages: each account has its own pipelines, ours are matched by map, name and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.domain.codecs import ABSENT, Codec, Context, Held
from app.domain.values import Directory, Stage, Value


def _fold(text: Value) -> str:
    return " ".join(str(text).split()).casefold()


def _stage_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """(stage id[, pipeline id]) -> (canonical stage, pipeline name)."""
    for pipeline in context.directory.pipelines:
        for stage in pipeline.stages:
            if stage.id != raw[0] or (len(raw) > 1 and raw[1] and pipeline.id != raw[1]):
                continue
            ours = (
                c
                for c, own in context.stages.items()
                if own == stage.id or _fold(own) == _fold(stage.name)
            )
            return [next(ours, stage.name), pipeline.name]
    return [ABSENT, ABSENT]


def _stage_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """Find the account's own stage: configured, by name, then by class (open, won, lost)."""
    stage, pipeline_name = values
    named = [p for p in context.directory.pipelines if _fold(p.name) == _fold(pipeline_name)]
    others = [p for p in context.directory.pipelines if p not in named]
    pipelines = [*named, *others]
    if not pipelines:
        raise Held("stage", "the account shows no pipeline with stages")
    creating = context.current is None

    def answer(pipeline_id: str, found: Stage) -> Sequence[Any]:
        return [found.id, pipeline_id]

    entry = next(((p.id, s) for p in pipelines for s in p.stages if s.kind == "open"), None)
    if stage is None:
        if creating and entry:
            return answer(*entry)
        raise Held("stage", "a deal cannot be without a stage")
    own = context.stages.get(str(stage))
    for name in [own] if own is not None else [str(stage)]:
        for p in pipelines:
            for s in p.stages:
                if s.id == name or _fold(s.name) == _fold(name):
                    return answer(p.id, s)
    if own is not None:
        raise Held("stage", f"the configured stage {own!r} does not exist there")
    kind = context.kinds.get(_fold(stage))
    if kind == "open":
        current = _fold((context.current or {}).get("stage"))
        if not creating and context.kinds.get(current) == "open":
            return [ABSENT, ABSENT]
    elif kind is not None:
        for p in pipelines:
            for s in p.stages:
                if s.kind == kind:
                    return answer(p.id, s)
    if entry and (creating or kind == "open"):
        return answer(*entry)
    raise Held("stage", f"no stage there matches {stage!r}; map it under sync.deal.stages")


def kinds_of(directories: Sequence[Directory]) -> dict[str, str]:
    """The class of every stage name known to any account, names folded."""
    return {
        _fold(stage.name): stage.kind
        for directory in reversed(directories)
        for pipeline in directory.pipelines
        for stage in pipeline.stages
    }


STAGE = Codec(_stage_get, _stage_put)
