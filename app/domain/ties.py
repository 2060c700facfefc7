"""Whom a record belongs to beside its one company, and what people call that.

The company is one of the companies, the primary one. A label is a text of the relation, the id of
the other record and the word of people there: so labels, too, are merged element by element.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from app.domain.codecs import ABSENT
from app.domain.entities import relations_of
from app.domain.merge import Take
from app.domain.values import Fields, Value

COMPANY, COMPANIES, LABELS = "company", "companies", "labels"
FOLLOWS = "it follows from the company and the labels"


class Label(NamedTuple):
    """What a link is called, read from the text of it."""

    relation: str
    parent: str
    word: str

    def __str__(self) -> str:
        return f"{self.relation} {self.parent} {self.word}"


def labels_in(value: Value) -> list[Label]:
    """The labels of a record's field."""
    return [Label(*text.split(" ", 2)) for text in value] if isinstance(value, list) else []


def said(relation: str, parent: UUID | str, word: str) -> str:
    """The text of a label."""
    return str(Label(relation, str(parent), word))


def without(value: Value, gone: Collection[str]) -> list[str]:
    """The labels of links to others than these."""
    return [str(label) for label in labels_in(value) if label.parent not in gone]


def renamed(value: Value, lost: str, kept: str) -> list[str]:
    """The labels of links to a record that lives on under another id."""
    own = labels_in(value)
    moved = (one._replace(parent=kept) if one.parent == lost else one for one in own)
    return sorted({str(label) for label in moved})


def whole(entity: str, fields: Fields, *, left: Value = None) -> dict[str, list[str]]:
    """The sets that follow: the company is one of the companies, and what is labelled is linked.

    ``left`` is the company that an account showed which knows of one alone, and shows no more.
    """
    names = relations_of(entity)
    if COMPANIES not in names:
        return {}
    found = {name: set(_listed(fields.get(name))) for name in names if name != COMPANY}
    found[COMPANIES] -= {left}
    if company := fields.get(COMPANY):
        found[COMPANIES].add(str(company))
    for label in labels_in(fields.get(LABELS)):
        found.get(label.relation, set()).add(label.parent)
    return {
        name: sorted(ids) for name, ids in found.items() if sorted(ids) != _listed(fields.get(name))
    }


def followed(
    entity: str, ours: Fields, takes: Sequence[Take], *, left: Value = None
) -> tuple[Take, ...]:
    """What a merge takes, with the sets that follow from it."""
    taken = {take.field: take for take in takes}
    if not taken.keys() & {COMPANY, LABELS, *relations_of(entity)}:
        return tuple(takes)
    fields = {**ours, **{name: take.new for name, take in taken.items()}}
    more = whole(entity, fields, left=left if COMPANY in taken else None)
    rest = (take for take in takes if take.field not in more)
    mine = {name: ours.get(name, ABSENT) for name in more}
    return (*rest, *(Take(n, mine[n], v, FOLLOWS) for n, v in more.items() if v != mine[n]))


def _listed(value: Value) -> list[str]:
    return value if isinstance(value, list) else []
