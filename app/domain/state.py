"""What decide may know, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.config import EntitySync
from app.domain.codecs import Context
from app.domain.fights import Written
from app.domain.mapping import EntityMapping
from app.domain.merge import Clash, Take
from app.domain.unread import Unread
from app.domain.values import NOTHING, Fields, Key, Ref

#: The kind of a candidate that is certain: a create of ours found again, or a person's word.
OURS = "ours"

#: Why an observation of somebody who asked to be forgotten is held.
PURGED = "this person was purged"

Stamps = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LinkState:
    """What a link remembers; ``held`` are its fields waiting for a person, ``written`` is our
    last write to each, ``intended`` what a write says whose outcome is not known, ``words`` what
    it showed that no value map names.
    """

    record_id: UUID
    base: Fields = field(default_factory=lambda: NOTHING)
    sent: Fields = field(default_factory=lambda: NOTHING)
    state: str = "live"
    seen_at: datetime | None = None
    held: frozenset[str] = frozenset()
    written: Written = field(default_factory=lambda: NOTHING)
    intended: Fields = field(default_factory=lambda: NOTHING)
    words: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class RecordState:
    id: UUID
    entity: str
    fields: Fields
    stamps: Stamps = field(default_factory=lambda: NOTHING)
    version: int = 0
    container: bool = False
    #: live; merged; gone: to be deleted wherever it still is; purged.
    state: str = "live"


@dataclass(frozen=True, slots=True)
class State:
    """All that decide may know. ``parents`` are the records behind the refs in relations;
    ``ours_at`` tells when values of ours were edited, where that was asked for.
    """

    entity: str
    mapping: EntityMapping
    sync: EntitySync
    context: Context
    link: LinkState | None = None
    record: RecordState | None = None
    parents: Mapping[Ref, UUID] = field(default_factory=dict)
    candidates: Mapping[Key, UUID] = field(default_factory=dict)
    taken: tuple[UUID, ...] = ()
    #: Somebody with one of its addresses was purged.
    purged: bool = False
    #: A person said that this is none of the records we know.
    apart: bool = False
    ours_at: Mapping[str, datetime] = field(default_factory=dict)
    #: What a create of ours said whose outcome is not known: this may be what it made.
    intended: Fields = field(default_factory=lambda: NOTHING)
    #: Accounts that take such records and have never had this one: they joined later.
    absent: frozenset[str] = frozenset()

    @property
    def recognised(self) -> bool:
        """Whether it is known who this is, though creates of ours are on their way there.

        What shows the keys of a record that we are making there just now may be what we make: only
        the answer tells what of it somebody has edited since.
        """
        told = any(key.kind == OURS for key in self.candidates)
        return bool(self.candidates) and not self.taken and (told or not self.intended)


class Result(StrEnum):
    """What became of one observation; the names are those of a resync's counts."""

    CREATED = "created"
    UPDATED = "updated"
    LINKED = "linked"
    UNCHANGED = "unchanged"
    HELD = "held"
    GONE = "gone"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to apply. ``record`` is None where nothing of ours changes.

    ``marks`` are the accounts that are now behind. ``base`` and ``sent`` are None where the link
    keeps what it has. ``settled`` are held fields that agree again, ``waiting`` the others as they
    stand now. ``reason`` says why something is held. ``untimed`` are the fields that the later
    edit won though the vendors were not asked yet when their edits were made. ``unread`` are the
    words that no value map names and we had not seen, ``understood`` the fields whose words are
    none any more.
    """

    result: Result
    ref: Ref
    record: RecordState | None = None
    takes: tuple[Take, ...] = ()
    clashes: tuple[Clash, ...] = ()
    base: Fields | None = None
    sent: Fields | None = None
    marks: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    seen_at: datetime | None = None
    settled: tuple[str, ...] = ()
    waiting: tuple[Clash, ...] = ()
    candidates: tuple[UUID, ...] = ()
    reason: str = ""
    #: A delete is carried to the others; or not, because of edits it cannot have known.
    deletes: bool = False
    unseen: tuple[str, ...] = ()
    #: It was to be deleted here, and somebody has edited it since: it stays.
    kept: bool = False
    #: Its link was gone, and it was seen alive.
    back: bool = False
    #: What we have written there, where a write turned out to be done that was never answered.
    written: Written | None = None
    untimed: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    understood: tuple[str, ...] = ()
