"""Tiny CRMs in memory, each with quirks of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Any

from app.domain.codecs import CODECS, Codec, Context
from app.domain.mapping import EntityMapping, Row
from app.domain.values import Edit, Observation, Ref
from tests.prove.oracle import Witness

TYPE = "contact"
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@lru_cache(maxsize=8192)
def moment(tick: int) -> datetime:
    """A tick of the one clock that all share."""
    return _NOON + timedelta(seconds=tick)


def _texts(values: Sequence[Any], _: Context) -> Sequence[Any]:
    return [sorted(values[0] or [])]


#: Text that a CRM may spell otherwise, a number that it may round, a flag, a set; and the key.
MAPPING = EntityMapping(
    "person",
    (
        Row(("email",), ("email",), CODECS["email"]),
        Row(("title",), ("title",), CODECS["text"]),
        Row(("custom.score",), ("score",), CODECS["decimal"]),
        Row(("custom.flag",), ("flag",), CODECS["boolean"]),
        Row(("phones",), ("phones",), Codec(_texts, _texts)),
    ),
)
FIELDS = {row.paths[0]: row.fields[0] for row in MAPPING.rows}


@dataclass(frozen=True, slots=True)
class Quirks:
    """What sets one CRM apart from another."""

    thin: bool = False  # its webhooks only name the record
    times: bool = True  # its events say when each field was edited
    skew: int = 0  # ticks by which its clock is wrong
    coarse: bool = False  # its modification times are too coarse to tell two edits apart
    shouts: bool = False  # it stores text in capitals
    rounds: bool = False  # it stores whole numbers
    blanks: bool = False  # it shows a cleared text as ""
    unique: bool = True  # it refuses a second record with the same address
    lag: int = 0  # ticks until its search finds a new record
    terse: bool = False  # its answers show only what was written
    tells: bool = True  # its events tell what was before, or its fields have a history
    silent: bool = False  # an id that was merged away answers as if it had been deleted
    buries: bool = False  # it also tells of what was merged away as of a delete
    keeps: str = "log"  # what it tells of deleted records: all of them, those named, or nothing


class ExistsError(Exception):
    """A second record with the same address."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id


@dataclass(slots=True)
class Contact:
    """One record as its CRM keeps it."""

    id: str
    thing: int
    values: dict[str, Any]
    version: int
    born: int
    absorbed: tuple[str, ...] = ()  # the ids that it had before


@dataclass(slots=True)
class News:
    """One webhook: what changed where, and the record as it was then where it is not thin."""

    id: str
    at: int
    change: str = "changed"
    fields: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    by_program: bool = False
    snapshot: Observation | None = None
    survivor: str | None = None
    losers: tuple[str, ...] = ()
    received: int = 0

    def again(self, received: int) -> News:
        """The same news, delivered now; it may be delivered again."""
        return News(
            self.id,
            self.at,
            self.change,
            self.fields,
            self.before,
            self.by_program,
            self.snapshot,
            self.survivor,
            self.losers,
            received,
        )


@dataclass(slots=True)
class Crm:
    """A CRM: its records, and the webhooks that are on their way."""

    name: str
    quirks: Quirks
    witness: Witness
    contacts: dict[str, Contact] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    bin: dict[str, Contact] = field(default_factory=dict)
    underway: list[News] = field(default_factory=list)
    writes: int = 0
    made: int = 0
    things: dict[str, int] = field(default_factory=dict)
    history: dict[str, dict[str, list[Edit]]] = field(default_factory=dict)

    def edits(self, id: str) -> dict[str, tuple[Edit, ...]] | None:
        """What its fields were given and when, newest first; None if it remembers nothing."""
        if not (self.quirks.thin and self.quirks.tells):
            return None
        return {path: tuple(past) for path, past in self.history.get(id, {}).items()}

    def thing_of(self, id: str) -> int:
        return self.things[id]

    # --- what its people do

    def create(self, thing: int, values: Mapping[str, Any], now: int) -> str:
        self._refuse_twins(values, None)
        contact = self._add(thing, values, now)
        self.witness.created(self.name, contact.id, thing, contact.values, now + self.quirks.skew)
        return contact.id

    def edit(self, id: str, path: str, value: Any, now: int) -> bool:
        """Whether it is another value than before."""
        contact = self.contacts[id]
        stored = self._stored(path, value)
        if contact.values.get(path) == stored and type(contact.values.get(path)) is type(stored):
            return False
        self.witness.edited(
            self.name,
            id,
            contact.thing,
            path,
            contact.values.get(path),
            stored,
            now + self.quirks.skew,
        )
        before = {path: contact.values[path]}
        contact.values[path] = stored
        self._tell(contact, before, now)
        return True

    def delete(self, id: str, now: int, *, ours: bool = False) -> None:
        """``ours``: no person does it, but the engine."""
        contact = self.bin[id] = self.contacts.pop(id)
        (self.witness.erased if ours else self.witness.deleted)(self.name, id, contact.thing)
        self.underway.append(News(id, now + self.quirks.skew, "gone"))

    def restore(self, id: str, now: int) -> None:
        """Out of the recycle bin, as it was."""
        self._refuse_twins(self.bin[id].values, id)
        contact = self.contacts[id] = self.bin.pop(id)
        self.witness.restored(self.name, id, contact.thing)
        self._tell(contact, {}, now)

    def merge(
        self,
        id: str,
        loser: str,
        now: int,
        *,
        third: bool = False,
        ours: bool = False,
        parked: bool = False,
    ) -> str:
        """The second goes into the first, which keeps what it has; the id that lives on.

        ``third``: that is a new one; ``ours``: no person does it, but the engine; ``parked``: the
        loser waited to be merged, and nobody listened to it.
        """
        gone, kept = self.contacts.pop(loser), self.contacts.pop(id)
        filled = {
            path: value
            for path, value in gone.values.items()
            if value not in (None, []) and kept.values[path] in (None, [])
        }
        before = {path: kept.values[path] for path in filled}
        if third:
            self.made += 1
            kept.id, kept.absorbed = f"{self.name}{self.made}", (*kept.absorbed, id)
            self.things[kept.id] = kept.thing
        losers = [id, loser] if third else [loser]
        self.witness.merged(
            self.name,
            id,
            loser,
            (kept.thing, gone.thing),
            filled,
            now=kept.id,
            ours=ours,
            known=not (third or parked),
        )
        kept.values |= filled
        self.contacts[kept.id] = kept
        self.history[kept.id] = self.history.get(id, {})
        at = now + self.quirks.skew
        self.merged |= dict.fromkeys(losers, kept.id)
        news = News(loser, at, "merged", survivor=kept.id, losers=tuple(losers))
        self.underway.append(news)
        if self.quirks.buries:
            self.underway += [News(lost, at, "gone") for lost in losers]
        self._tell(kept, before, now, by_program=ours)
        return kept.id

    # --- what the engine asks for

    def read(self, id: str, *, proven: bool = False) -> Observation:
        """``proven``: what was deleted is looked for in the bin as well, where there is one."""
        asked = Ref(self.name, TYPE, id)
        while id in self.merged and not self.quirks.silent:
            id = self.merged[id]
        ref = Ref(self.name, TYPE, id)
        contact = self.contacts.get(id)
        if contact is None:
            gone = proven and self.quirks.keeps == "log" and id in self.bin
            return Observation(asked, None, gone=gone)
        return Observation(
            ref,
            self._shown(contact),
            moment(contact.version),
            asked=asked if asked != ref else None,
            absorbed=tuple(Ref(self.name, TYPE, former) for former in contact.absorbed),
        )

    def find(self, address: str, now: int) -> list[Observation]:
        """Those its search knows already."""
        return [
            self.read(c.id)
            for c in self.contacts.values()
            if c.values.get("email") == address and c.born + self.quirks.lag <= now
        ]

    def probe(self, thing: int, since: int, now: int) -> list[Observation]:
        """What a create of that moment has left behind, as far as its search knows."""
        return [
            self.read(c.id)
            for c in self.contacts.values()
            if c.thing == thing and since <= c.born and c.born + self.quirks.lag <= now
        ]

    def recall(self, since: int, told: Collection[str]) -> list[Observation]:
        """What was made since then and is deleted, as it was; the others without their values."""
        return [
            Observation(Ref(self.name, TYPE, c.id), self._shown(c) if c.born >= since else None)
            for c in self.bin.values()
            if self.quirks.keeps == "log" or (self.quirks.keeps == "told" and c.id in told)
        ]

    def scan(self) -> list[Observation]:
        return [self.read(id) for id in self.contacts]

    def write(self, id: str, fields: Mapping[str, Any], now: int) -> Observation | None:
        """What it says it stored; None if there is no such record."""
        contact = self.contacts.get(id)
        if contact is None:
            return None
        self._refuse_twins(fields, id)
        self.writes += 1
        before = {path: contact.values[path] for path in fields}
        for path, value in fields.items():
            stored = self._stored(path, value)
            self.witness.wrote(self.name, id, contact.thing, path, contact.values.get(path), stored)
            contact.values[path] = stored
        self._tell(contact, before, now, by_program=True)
        return self._answer(contact, fields)

    def make(self, thing: int, fields: Mapping[str, Any], now: int) -> Observation:
        self._refuse_twins(fields, None)
        self.writes += 1
        contact = self._add(thing, fields, now)
        # Where nothing is kept of what was deleted, nobody can know of it before it is told.
        untold = self.quirks.keeps != "log" and any(
            news.change == "gone" and self.things[news.id] == thing for news in self.underway
        )
        self.witness.made(self.name, contact.id, thing, contact.values, untold=untold)
        return self._answer(contact, fields)

    # --- its own ways

    def _add(self, thing: int, values: Mapping[str, Any], now: int) -> Contact:
        self.made += 1
        id = f"{self.name}{self.made}"
        blank: dict[str, Any] = {
            "email": None,
            "title": None,
            "score": None,
            "flag": None,
            "phones": [],
        }
        given = {path: self._stored(path, value) for path, value in values.items()}
        contact = Contact(id, thing, {**blank, **given}, 0, now)
        self.contacts[id] = contact
        self.things[id] = thing
        self._tell(contact, dict.fromkeys(values), now)
        return contact

    def _tell(
        self,
        contact: Contact,
        before: Mapping[str, Any],
        now: int,
        *,
        by_program: bool = False,
    ) -> None:
        """A webhook about fields that were other before."""
        at = now + self.quirks.skew
        contact.version = at - at % 8 if self.quirks.coarse else at
        shown = self._shown(contact)
        fields = {path: shown[path] for path in before}
        past = self.history.setdefault(contact.id, {})
        for path, value in fields.items():
            past.setdefault(path, []).insert(0, Edit(value, moment(at), by_program))
        snapshot = None if self.quirks.thin else self.read(contact.id)
        blank = "" if self.quirks.blanks else None
        if "title" in before and before["title"] is None:
            before = {**before, "title": blank}
        told = before if self.quirks.tells and not self.quirks.thin else {}
        self.underway.append(News(contact.id, at, "changed", fields, told, by_program, snapshot))

    def _stored(self, path: str, value: Any) -> Any:
        if path == "title" and self.quirks.shouts and value:
            return value.upper()
        if path == "score" and self.quirks.rounds and value is not None:
            return str(int(Decimal(value).to_integral_value(ROUND_FLOOR)))
        if path == "title" and value == "":
            return None
        return sorted(value) if path == "phones" else value

    def _shown(self, contact: Contact) -> dict[str, Any]:
        if self.quirks.blanks and contact.values["title"] is None:
            return {**contact.values, "title": ""}
        return dict(contact.values)

    def _answer(self, contact: Contact, written: Mapping[str, Any]) -> Observation:
        seen = self.read(contact.id)
        if not self.quirks.terse:
            return seen
        assert seen.raw is not None
        shown = {path: value for path, value in seen.raw.items() if path in written}
        return Observation(seen.ref, shown, seen.version, partial=True)

    def _refuse_twins(self, fields: Mapping[str, Any], id: str | None) -> None:
        address = fields.get("email")
        if not self.quirks.unique or not address:
            return
        for other in self.contacts.values():
            if other.values["email"] == address and other.id != id:
                raise ExistsError(other.id)
