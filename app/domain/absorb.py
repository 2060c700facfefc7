"""Two records that became one: what the survivor takes from the lost one."""

from __future__ import annotations

from app.domain import ties
from app.domain.codecs import ABSENT
from app.domain.entities import equal, is_blank, is_set
from app.domain.merge import Clash, Take, Winner
from app.domain.values import Fields

FILLED = "only the record that was merged into it had one"
KEPT = "the survivor of a merge keeps its own"


def absorb(ours: Fields, lost: Fields) -> tuple[tuple[Take, ...], tuple[Clash, ...]]:
    """What only the lost record had is taken, sets are joined, and where both have a value the
    survivor's stays and the other is told as a clash, so that a person can put it back.
    """
    takes: list[Take] = []
    clashes: list[Clash] = []
    for name, value in lost.items():
        mine = ours.get(name, ABSENT)
        if is_blank(value) or equal(mine, value):
            continue
        if is_set(name) or (isinstance(mine, list) and isinstance(value, list)):
            joined = sorted({*(mine if isinstance(mine, list) else ()), *_listed(value)})
            if joined != mine:
                takes.append(Take(name, mine, joined, "sets merge element by element"))
        elif mine is ABSENT or is_blank(mine):
            takes.append(Take(name, mine, value, FILLED))
        else:
            clashes.append(Clash(name, mine, value, Winner.OURS, KEPT))
    return tuple(takes), tuple(clashes)


def _listed(value: object) -> list[str]:
    return value if isinstance(value, list) else [str(value)]


def renamed(fields: Fields, names: tuple[str, ...], lost: str, kept: str) -> tuple[Take, ...]:
    """How relations change when the record they name lives on under another id."""
    takes = []
    for name in names:
        value = fields.get(name)
        if isinstance(value, list) and lost in value:
            joined = sorted({kept if one == lost else one for one in value})
            takes.append(Take(name, value, joined, "it was merged into another"))
        elif value is not None and value == lost:
            takes.append(Take(name, value, kept, "it was merged into another"))
    labels = fields.get(ties.LABELS)
    if (moved := ties.renamed(labels, lost, kept)) != labels and moved:
        takes.append(Take(ties.LABELS, labels, moved, "it was merged into another"))
    return tuple(takes)
