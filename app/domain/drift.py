"""Whether an account shows what our record says, field by field, and if not, the likely cause."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

import orjson

from app.domain.bylines import told_by
from app.domain.codecs import ABSENT
from app.domain.decide import in_todays_words, reading, writable
from app.domain.entities import equal, is_blank
from app.domain.mapping import says_the_same, tailored
from app.domain.state import LinkState, RecordState, State
from app.domain.values import NOTHING, Fields, Observation, Value


class Cause(StrEnum):
    """Why an account shows something else, as far as we can tell."""

    MISSED = "missed_webhook"
    UNREAD = "unread_webhook"
    RECENT = "edited_since"
    HELD = "held"
    WORD = "unread_word"
    WAITING = "waiting_write"
    GUARD = "held_by_guard"
    REFUSED = "refused_write"
    MAPPING = "mapping_changed"
    UNMARKED = "nothing_waits"
    DELETED = "deleted_there"
    MERGED = "merged_there"
    HIDDEN = "not_shown"
    MOVING = "moving"


#: What is under way, or waits for a person who was told: no sign that anything was lost.
EXPECTED = frozenset(
    {
        Cause.UNREAD,
        Cause.RECENT,
        Cause.HELD,
        Cause.WORD,
        Cause.WAITING,
        Cause.GUARD,
        Cause.REFUSED,
        Cause.MOVING,
    }
)

#: The state of a mark, and what it means for a value that the account does not show yet.
_MARKED = {"dead": Cause.REFUSED, "held": Cause.GUARD}

_SAYS = {
    Cause.MISSED: "it was changed there, and no webhook told us",
    Cause.UNREAD: "it was changed there; the webhook that told us waits to be read",
    Cause.RECENT: "it was changed there a moment ago; its webhook may still come",
    Cause.HELD: "both sides changed it, and a person has not decided yet",
    Cause.WORD: "no value map names what stands there: it is neither read nor written over",
    Cause.WAITING: "our value waits to be written there",
    Cause.GUARD: "our value waits behind the guard of the account until a person decides",
    Cause.REFUSED: "our value was refused there",
    Cause.MAPPING: "it was not read when we last looked: the mapping or a direction has changed",
    Cause.UNMARKED: "ours is newer, and nothing waits to be written: the mapping or a direction "
    "has changed, or a person has discarded the write",
    Cause.DELETED: "it was deleted there",
    Cause.MERGED: "it was merged into another record there",
    Cause.HIDDEN: "the account does not show it to us, and nothing proves a delete",
    Cause.MOVING: "it kept changing while we looked",
}


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside the record: the state of its mark for this account (``why`` it is not
    written), whether events about it wait to be read, and until when an edit there may still be
    without its webhook: what was edited after ``told_until`` may.
    """

    told_until: datetime
    mark: str | None = None
    why: str | None = None
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One field (None: the whole record) on which we and the account do not agree."""

    field: str | None
    cause: Cause
    reason: str
    ours: Value = ABSENT
    theirs: Value = ABSENT


@dataclass(frozen=True, slots=True)
class Compared:
    """One linked record beside what its account shows.

    ``ours`` and ``theirs`` are the compared fields, with our spelling on both sides where both
    mean the same: equal if and only if nothing differs. ``apart`` are fields that differ because
    the configuration lets them.
    """

    ours: Fields
    theirs: Fields
    differences: tuple[Difference, ...] = ()
    apart: frozenset[str] = field(default_factory=frozenset)


def compare(state: State, observation: Observation, around: Around) -> Compared:
    """What we hold of a linked record beside what was just read of it."""
    state = in_todays_words(state)
    _, record = _sides(state)
    if (whole := _whole(state, observation, around)) is not None:
        return wholly(record, whole)
    theirs = reading(state, observation)
    ours = tailored(state.mapping, record.fields)
    same = _same(state, observation, theirs, ours)
    apart: set[str] = set()
    found: list[Difference] = []
    mine: dict[str, Value] = {}
    shown: dict[str, Value] = {}
    for name in sorted(theirs):
        value, our = theirs[name], ours.get(name, ABSENT)
        if name in same:
            mine[name] = shown[name] = None if our is ABSENT else our
            continue
        cause = _cause(state, observation, around, name, value)
        if cause is None:
            apart.add(name)
            continue
        mine[name] = None if our is ABSENT else our
        shown[name] = value
        found.append(Difference(name, cause, _reason(cause, around), our, value))
    return Compared(mine, shown, tuple(found), frozenset(apart))


def _sides(state: State) -> tuple[LinkState, RecordState]:
    """The link and the record of a ref that has both."""
    assert state.link is not None
    assert state.record is not None
    return state.link, state.record


def _whole(state: State, observation: Observation, around: Around) -> Difference | None:
    """A difference that concerns the record as a whole."""
    if observation.raw is None:
        cause = Cause.DELETED if observation.gone else Cause.HIDDEN
        if observation.gone and around.unread:
            cause = Cause.UNREAD
        return Difference(None, cause, _reason(cause, around))
    if _sides(state)[1].state != "live":
        cause = _marked(around) or Cause.UNMARKED
        return Difference(None, cause, f"it is to be deleted there: {_reason(cause, around)}")
    return None


def _same(state: State, observation: Observation, theirs: Fields, ours: Fields) -> frozenset[str]:
    """The names on which both sides agree, in whatever spelling."""
    link, record = _sides(state)
    raw = observation.raw or {}

    def agrees(name: str, value: Value) -> bool:
        our, base = ours.get(name, ABSENT), link.base.get(name, ABSENT)
        if equal(value, our) or (is_blank(value) and (our is ABSENT or is_blank(our))):
            return True
        told = name in link.sent and equal(link.sent[name], our)
        return told and base is not ABSENT and equal(value, base)

    same = {name for name, value in theirs.items() if agrees(name, value)}
    rest = [name for name in theirs if name not in same and name in record.fields]
    if rest:
        via = told_by(record.stamps, observation.ref.account)
        context = replace(state.context, current=link.base or None, via=via)
        same |= says_the_same(state.mapping, rest, record.fields, raw, context)
    return frozenset(same)


def _cause(
    state: State, observation: Observation, around: Around, name: str, value: Value
) -> Cause | None:
    """Why they differ in this field; None where the configuration lets them."""
    (link, record), account = _sides(state), observation.ref.account
    if name in link.held:
        return Cause.HELD
    if name in link.words:
        return Cause.WORD
    base = link.base.get(name, ABSENT)
    if base is not ABSENT and not equal(value, base):
        return _moved(observation, around)
    if base is ABSENT and not is_blank(value) and state.sync.may_read(account, name):
        moved = _moved(observation, around)
        # What we made ourselves and have not read since was made without it.
        return Cause.MAPPING if moved is Cause.MISSED and link.seen_at else moved
    if name not in record.fields:
        return Cause.MAPPING if state.sync.may_read(account, name) else None
    may_write = name in writable(state, account, link.base)
    return (_marked(around) or Cause.UNMARKED) if may_write else None


def _moved(observation: Observation, around: Around) -> Cause:
    """Why we do not know yet what was changed there."""
    if around.unread:
        return Cause.UNREAD
    at = observation.version
    return Cause.RECENT if at is not None and at > around.told_until else Cause.MISSED


def _marked(around: Around) -> Cause | None:
    return None if around.mark is None else _MARKED.get(around.mark, Cause.WAITING)


def _reason(cause: Cause, around: Around) -> str:
    waits = around.why if cause in (Cause.WAITING, Cause.REFUSED) else None
    return f"{_SAYS[cause]}: {waits}" if waits else _SAYS[cause]


def wholly(record: RecordState, difference: Difference) -> Compared:
    """A record of which nothing can be compared."""
    return Compared(record.fields, NOTHING, (difference,))


def moving() -> Difference:
    """It changed each time we looked: nothing can be said of it now."""
    return Difference(None, Cause.MOVING, _SAYS[Cause.MOVING])


def merged(around: Around) -> Difference:
    """The account answers with another record than we asked for."""
    cause = Cause.UNREAD if around.unread else Cause.MERGED
    return Difference(None, cause, _reason(cause, around))


#: Digests are added up modulo this: in whatever order records are compared, the sum is the same.
_SIZE = 2**256


def add_digest(total: str, *, entity: str, record_id: str, fields: Mapping[str, Value]) -> str:
    """The digest of a set of records with one more in it, as 64 hex digits."""
    said = orjson.dumps([entity, record_id, dict(fields)], option=orjson.OPT_SORT_KEYS)
    one = int.from_bytes(hashlib.sha256(said).digest())
    return f"{(int(total, 16) + one) % _SIZE:064x}"


#: The digest of no records.
EMPTY = f"{0:064x}"
