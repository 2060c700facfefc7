"""Three-way merge, field by field: base, ours, theirs.

Absent (a missing name), None, "", 0 and False are five different things. A field they did
not send is no opinion; a cleared field is an edit like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from app.domain.codecs import ABSENT
from app.domain.entities import equal, is_blank, is_set
from app.domain.values import Fields, Value


class Winner(StrEnum):
    OURS = "ours"
    THEIRS = "theirs"
    NOBODY = "nobody"  # hold for a person


@dataclass(frozen=True, slots=True)
class Take:
    """One field of ours that changes, why, and the value that lost if two disagreed."""

    field: str
    old: Value
    new: Value
    rule: str
    lost: Value = ABSENT


@dataclass(frozen=True, slots=True)
class Clash:
    """A field that both sides moved, differently, and who won it."""

    field: str
    ours: Value
    theirs: Value
    winner: Winner
    rule: str


@dataclass(frozen=True, slots=True)
class Merged:
    """``base``/``sent`` are what the link must remember afterwards, ``takes`` what changes."""

    base: dict[str, Value]
    sent: dict[str, Value]
    takes: tuple[Take, ...]
    clashes: tuple[Clash, ...]

    def onto(self, ours: Fields) -> dict[str, Value]:
        return {**ours, **{take.field: take.new for take in self.takes}}


#: (field, ours, theirs) -> who wins, and the rule in words.
Policy = Callable[[str, Value, Value], tuple[Winner, str]]


def elements(value: Value) -> set[str]:
    """Those of a set-valued field."""
    return set(value) if isinstance(value, list) else set()


def merge(
    base: Fields,
    sent: Fields,
    ours: Fields,
    theirs: Fields,
    *,
    policy: Policy,
    same: Collection[str] = (),
    readable: Callable[[str], bool] = lambda _: True,
    fight: Callable[[str, Value], str | None] = lambda _name, _theirs: None,
) -> Merged:
    """Merge what an account shows into our record.

    ``base`` is what the account last showed and ``sent`` what ours was then, where it
    differed. ``same`` names fields whose two spellings mean one value. A field that is not
    ``readable`` from this account is remembered but never taken; one with a ``fight`` is held.
    """
    new_base, new_sent = dict(base), dict(sent)
    takes: list[Take] = []
    clashes: list[Clash] = []

    def agree(name: str, theirs_now: Value, ours_now: Value) -> None:
        new_base[name] = theirs_now
        if ours_now is ABSENT or equal(ours_now, theirs_now):
            new_sent.pop(name, None)
        else:
            new_sent[name] = ours_now

    for name, value in theirs.items():
        agreed, mine = base.get(name, ABSENT), ours.get(name, ABSENT)
        if agreed is not ABSENT and equal(value, agreed):
            continue
        if equal(value, mine) or (name in same and mine is not ABSENT):
            agree(name, value, mine)
            continue
        if not readable(name):
            new_base[name] = value
            new_sent.pop(name, None)
            continue
        if (reason := fight(name, value)) is not None:
            clashes.append(Clash(name, mine, value, Winner.NOBODY, reason))
            continue
        unmoved = mine is ABSENT or (
            agreed is not ABSENT
            and (equal(mine, agreed) or (name in sent and equal(mine, sent[name])))
        )
        if is_set(name) or (isinstance(value, list) and isinstance(mine, list)):
            before, there = elements(agreed), elements(value)
            merged = sorted((elements(mine) | (there - before)) - (before - there))
            new_base[name] = value
            new_sent.pop(name, None)
            if merged != (mine if isinstance(mine, list) else []):
                takes.append(Take(name, mine, merged, "sets merge element by element"))
        elif agreed is ABSENT and is_blank(value):
            # A blank in a record just met says nothing; two kinds of blank are no difference.
            agree(name, value, mine if is_blank(mine) else ABSENT)
        elif unmoved or (agreed is ABSENT and is_blank(mine)):
            new_base[name] = value
            new_sent.pop(name, None)
            takes.append(Take(name, mine, value, "only they changed it"))
        elif is_blank(mine) and is_blank(value):
            agree(name, value, mine)  # both cleared it, each in their own way
        else:
            winner, rule = policy(name, mine, value)
            clashes.append(Clash(name, mine, value, winner, rule))
            if winner is Winner.NOBODY:
                continue  # the base of a held field does not move
            new_base[name] = value
            new_sent.pop(name, None)
            if winner is Winner.THEIRS:
                takes.append(Take(name, mine, value, rule, lost=mine))
    return Merged(new_base, new_sent, tuple(takes), tuple(clashes))


def behind(base: Fields, sent: Fields, ours: Fields, names: Collection[str]) -> frozenset[str]:
    """The names where our value has moved since the account last agreed with us."""
    found = []
    for name in names:
        if name not in ours or equal(mine := ours[name], base.get(name, ABSENT)):
            continue
        told = name in sent and equal(mine, sent[name])
        if not told and (name in base or not is_blank(mine)):
            found.append(name)
    return frozenset(found)
