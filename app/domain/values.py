"""The frozen values that every floor passes around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from uuid import UUID

#: A canonical value. Sets (e-mails, people) are sorted lists; decimals and dates are text.
Value: TypeAlias = str | int | float | bool | None | list[str]
#: Canonical fields. A missing name is "no opinion"; None is "cleared".
Fields: TypeAlias = Mapping[str, Value]
#: A record in the vendor's own shape.
Raw: TypeAlias = Mapping[str, Any]

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of something in someone else's system.

    ``type`` is the vendor's own word (``lead``, ``contacts``), ``id`` opaque text.
    """

    account: str
    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.account}/{self.type}/{self.id}"


#: The method of a delivery that no request brought, but an event bus.
BUS = "BUS"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP webhook as received.

    ``target`` is the raw path and query exactly as on the wire; ``headers`` have lower-case
    names; ``body`` is the exact bytes.
    """

    account: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    id: int | None = None

    def with_body(self, body: bytes) -> Delivery:
        return replace(self, body=body)


class Change(StrEnum):
    """What an event says happened; it chooses the house handler."""

    CHANGED = "changed"
    GONE = "gone"
    MERGED = "merged"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Edit:
    """One value that a remote field was given, and when; ``by_program`` if through the API."""

    value: Any
    at: datetime
    by_program: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What one event said of remote fields: their values then, and what they replaced.

    ``raw`` is the whole record of that moment, where the vendor sent it; ``by_program`` says
    that it was changed through the API; ``names`` whom it names since, by canonical relation.
    """

    at: datetime
    fields: Mapping[str, Any]
    before: Mapping[str, Any]
    raw: Raw | None = None
    by_program: bool = False
    names: Mapping[str, Ref] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Event:
    """What a connector reads in a delivery.

    ``key`` is unique per fact: the same event delivered again has the same key.
    ``tenant`` names the vendor's own account (a portal) where one URL serves several.
    ``snapshot`` is present where the vendor sent the full record. ``survivor`` is the ref
    that lives on after a merge. ``fields`` are the remote fields the event says changed,
    each with the value it claims (thin vendors) or None (unknown). ``before`` are the values
    that they replaced, where the vendor tells; ``by_program`` says that it was done through the
    API, by us perhaps. ``names`` is whom the record names from then on, by canonical relation
    that has one end. ``born`` says that the record was made, and nothing else: what it was made
    with, other events tell.
    """

    key: str
    type: str
    at: datetime
    ref: Ref | None = None
    change: Change = Change.CHANGED
    snapshot: Observation | None = None
    survivor: Ref | None = None
    tenant: str | None = None
    fields: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    before: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    by_program: bool = False
    names: Mapping[str, Ref] = field(default_factory=lambda: NOTHING)
    born: bool = False
    data: Raw = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of one ref at a time.

    ``raw`` is the record in the vendor's shape, or None when it is *gone* (a second source
    agreed) or *missing* (the vendor does not show it, and nothing proves a delete).
    ``version`` is the vendor's own modification time where it has one; of what is gone, when it was
    deleted, if an event told that. ``relations`` map a canonical relation (``company``, ``people``)
    to the refs it names: a missing name is no opinion, an empty tuple says "none". ``mentions``
    are other refs this record shows to exist and that should be looked at if we do not know them.
    ``labels`` are what people there call the links to refs, None where that is not told.
    ``claims`` are what the events that led here said; ``histories`` the edits of remote fields,
    where they were asked for.
    ``ref`` may differ from the ref asked for: then the asked one was merged into it
    (``asked``). ``absorbed`` are the refs that the vendor says were merged into this one.
    ``partial`` marks an answer that shows only some fields.
    """

    ref: Ref
    raw: Raw | None
    version: datetime | None = None
    relations: Mapping[str, tuple[Ref, ...]] = field(default_factory=lambda: NOTHING)
    labels: Mapping[Ref, tuple[str, ...]] | None = None
    mentions: tuple[Ref, ...] = ()
    asked: Ref | None = None
    absorbed: tuple[Ref, ...] = ()
    gone: bool = False
    partial: bool = False
    field_times: Mapping[str, datetime] = field(default_factory=lambda: NOTHING)
    claims: tuple[Claim, ...] = ()
    histories: Mapping[str, tuple[Edit, ...]] | None = None


class Op(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RelationEdit:
    """How a relation of a remote record must change.

    ``wanted`` is the whole wanted set, first the primary; ``add`` and ``remove`` are the
    difference from what that account last had, ``label`` and ``unlabel`` that of the labels of
    its links.
    """

    wanted: tuple[Ref, ...] = ()
    add: tuple[Ref, ...] = ()
    remove: tuple[Ref, ...] = ()
    label: tuple[tuple[Ref, str], ...] = ()
    unlabel: tuple[tuple[Ref, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """One change to carry to a CRM.

    ``fields`` are in the vendor's shape (path -> value; None clears) and hold only what
    changes. ``trace`` is a unique text of this attempt that vendors with per-row fates echo.
    ``external_id`` is our record id, for accounts that keep it in a unique property. ``erase``
    makes of a delete one that leaves nothing, where the vendor has such a thing.
    """

    op: Op
    entity: str
    type: str
    record_id: UUID
    trace: str
    ref: Ref | None = None
    fields: Raw = field(default_factory=lambda: NOTHING)
    relations: Mapping[str, RelationEdit] = field(default_factory=lambda: NOTHING)
    external_id: str | None = None
    erase: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one write.

    ``ref`` names the remote record after success; ``stored`` is what the vendor says it now
    holds (``partial`` if it shows only some fields); ``error`` is set when it failed. ``held``
    are paths of a write that succeeded which the vendor does not take, with the reason.
    """

    write: Write
    ref: Ref | None = None
    stored: Observation | None = None
    error: Exception | None = None
    held: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object of an account's own: the vendor's word for it, and its fields that name other
    records, by relation.
    """

    type: str
    lookups: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Load:
    """Creates that go as one file, which the account works through by itself.

    ``id`` is its own word for it, by which it is asked later what became of the rows.
    """

    id: str
    writes: tuple[Write, ...]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A normalised identity key: ``email``, ``domain`` or ``external_id``."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scan; ``cursor`` is None after the last page.

    ``total`` is the vendor's count of what the scan will visit, where it tells.
    """

    observations: tuple[Observation, ...]
    cursor: str | None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Trail:
    """One page of what an account's own log tells, each in the body of the webhook that would
    have told it; ``cursor`` is None after the last page.

    ``states`` says that these are present states and not events: who has looked at the record
    since knows them. ``gap`` says why the log does not reach as far back as was asked.
    """

    bodies: tuple[bytes, ...] = ()
    cursor: str | None = None
    states: bool = False
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What an account's event bus told since the last time, each event in a body of its own.

    ``position`` is up to where it told, in a text of its own. ``unnamed`` are entities of which
    something changed since a time that the bus does not name. ``lost`` says why it may have left
    out what was before.
    """

    position: str
    bodies: tuple[bytes, ...] = ()
    unnamed: Mapping[str, datetime] = field(default_factory=lambda: NOTHING)
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a deal or a ticket in an account; ``kind`` is its class."""

    id: str
    name: str
    kind: Literal["open", "won", "lost", "closed"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    id: str
    name: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """What mapping needs to know of an account: pipelines with stages in order, and owners.

    ``pipelines`` are those of deals, ``tickets`` those of tickets; ``owners`` maps the vendor's
    owner id to a lower-case e-mail address, ``names`` that address to the name of its owner;
    ``retired`` are the ids of those who can own nothing new; ``currency`` is the ISO 4217 code
    where the account has one for all deals; ``options`` are, by entity and path, the values that
    a field takes, where those are fixed; ``zone`` is the time zone in which the account shows
    its days (``Europe/Berlin``), UTC unless it says; ``schema`` is a digest of the definitions
    of all fields, to see that they changed; ``labels`` are, by entity and relation, those that a
    link can carry; ``stamps`` are, by type, the fields that keep our ids, where a type has a path
    of its own for them.
    """

    pipelines: tuple[Pipeline, ...] = ()
    owners: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    names: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    currency: str | None = None
    retired: frozenset[str] = frozenset()
    options: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=lambda: NOTHING)
    zone: str | None = None
    schema: str | None = None
    tickets: tuple[Pipeline, ...] = ()
    labels: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=lambda: NOTHING)
    stamps: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class RemoteField:
    """One field of a remote entity as the vendor defines it.

    ``type`` is the vendor's own word; ``options`` are the values it takes, in the form in which
    they are written, empty if it takes any.
    """

    path: str
    type: str = "text"
    writable: bool = True
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence of `accounts test`: what was checked, whether it is well, what to do."""

    check: str
    ok: bool
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """One webhook subscription as the vendor shows it.

    ``app_signed`` says that its deliveries are signed with a secret of the app, which only the
    configuration knows: there is no key to be learned.
    """

    id: str
    url: str
    active: bool
    events: tuple[str, ...] = ()
    app_signed: bool = False
