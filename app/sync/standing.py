"""How each account stands to one field of a record: what it shows, and why it differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from app.db.pages import Row
from app.domain.codecs import ABSENT
from app.domain.decide import writable
from app.domain.entities import equal, is_blank, ties_of
from app.domain.mapping import tailored
from app.domain.state import State
from app.domain.values import Value
from app.sync.house import House, Member


@dataclass(frozen=True, slots=True)
class Standing:
    """One account and one field.

    ``state`` is ``same``, ``differs``, ``held`` (for a person), ``waiting`` (to be written),
    ``refused``, ``not_carried`` (by mapping or direction) or ``missing`` (no counterpart there).
    """

    account: str
    remote_id: str | None
    state: str
    value: Any
    sentence: str


@dataclass(frozen=True, slots=True)
class About:
    """What is known of one record, as `listings.record` loads it."""

    row: Row
    discarded: Mapping[str, Row]
    paused: Collection[str]

    def mark(self, account: str) -> Row | None:
        return next((m for m in self.row["waiting"] if m["account"] == account), None)

    def link(self, account: str) -> Row | None:
        own = [link for link in self.row["links"] if link["account"] == account]
        return next((link for link in own if link["state"] == "live"), own[-1] if own else None)

    def card(self, account: str, field: str, kind: str = "field") -> Row | None:
        for card in self.row["conflicts"]:
            if (card["account"], card["field"], card["kind"]) == (account, field, kind):
                return card  # type: ignore[no-any-return]
        return None


def standings(house: House, about: About, field: str) -> list[Standing]:
    """Every account that takes part in this entity, in the order of the configuration."""
    sync = house.config.entity(about.row["entity"])
    return [
        _standing(house, house.members[account], about, field)
        for account in (sync.accounts if sync else ())
    ]


def _standing(house: House, member: Member, about: About, field: str) -> Standing:
    link = about.link(member.name)
    if link is None or link["state"] != "live":
        why = _why_not_there(house, member, about, link)
        there = link["remote_id"] if link else None
        return Standing(member.name, there, why[0], None, why[1])
    shown = link["base"].get(field, ABSENT)
    state, sentence = _why_differs(house, member, about, link, field)
    value = None if shown is ABSENT else shown
    return Standing(member.name, link["remote_id"], state, value, sentence)


def _why_not_there(house: House, member: Member, about: About, link: Row | None) -> tuple[str, str]:
    """(state, sentence) where the record has no living counterpart."""
    name, entity = member.name, about.row["entity"]
    if link is not None:
        return "missing", _ended(name, link)
    if (mark := about.mark(name)) is not None:
        return _marked(member, about, mark, "it")
    sync, promise = house.sync_of(entity, name), member.connector.manifest.entities.get(entity)
    if promise is None or "create" not in promise.write:
        return "missing", f"{name} cannot be given a new {entity}."
    if sync is None or not sync.receives(name):
        return "missing", f"By the direction of {entity}, nothing is made in {name}."
    if about.row["container"]:
        return "missing", f"It only holds another record, and is not made in {name} by itself."
    if (dropped := about.discarded.get(name)) is not None:
        return "missing", _dropped(name, dropped)
    return "missing", f"It is not in {name}, and nothing waits to be written there."


def _ended(name: str, link: Row) -> str:
    match link["state"]:
        case "unlinked":
            return f"A person unlinked {link['remote_id']} of {name}."
        case "parked" | "merging":
            return f"{link['remote_id']} of {name} is kept aside until a merge is decided."
    when = f" {_at(link['ended_at'])}" if link["ended_at"] else ""
    how = f" ({link['ended']})" if link["ended"] else ""
    return f"{link['remote_id']} of {name} is gone{when}{how}; what is deleted does not return."


def _why_differs(
    house: House, member: Member, about: About, link: Row, field: str
) -> tuple[str, str]:
    """(state, sentence) of a field in a living counterpart."""
    name, entity = member.name, about.row["entity"]
    mapping = member.mappings[entity]
    shown: Value = link["base"].get(field, ABSENT)
    ours: Value = tailored(mapping, about.row["fields"]).get(field, ABSENT)
    if (card := about.card(name, field)) is not None:
        held = f"held for a person since {_at(card['opened_at'])} (conflict {card['id']})"
        theirs, kept = (card[side]["value"] for side in ("theirs", "ours"))
        return "held", f"{name} shows {said(theirs)}, we hold {said(kept)}: {held}."
    if (card := about.card(name, field, "word")) is not None:
        word, since = said(card["theirs"]["value"]), _at(card["opened_at"])
        return "held", (
            f"{name} shows {word} since {since}, which no value map names: it is neither read nor "
            f"written over (conflict {card['id']}). Next: add `{card['detail']['line']}` to "
            f"{card['detail']['key']}."
        )
    if field in ties_of(entity) - mapping.ties:
        return "not_carried", f"{name} has no place for it: it keeps no {field} of a {entity}."
    if mapping.row_of(field) is None and field not in mapping.ties:
        return "not_carried", f"{name} has no place for it: its mapping does not name {field}."
    if equal(shown, ours):
        return "same", f"{name} shows the same."
    if field in link["sent"] and equal(link["sent"][field], ours):
        return "same", f"{name} shows it in its own words: {said(shown)}."
    if shown is ABSENT and (ours is ABSENT or is_blank(ours)):
        return "same", f"{name} has never shown it, and there is nothing to write."
    sync = house.sync_of(entity, name)
    if sync is None or not sync.may_write(name, field):
        return "not_carried", f"By direction, {field} is not written to {name}."
    state = State(entity, mapping, sync, house.context(entity, name))
    if field not in writable(state, name, link["base"]):
        return "not_carried", f"The mapping or `write` of {field} keeps it from being written now."
    if (mark := about.mark(name)) is not None:
        return _marked(member, about, mark, f"this {field} (it shows {said(shown)})")
    if (dropped := about.discarded.get(name)) is not None:
        return "differs", _dropped(name, dropped)
    look = f"`syncline resync {name}` looks again"
    return "differs", f"{name} shows {said(shown)}, and nothing waits to be written: {look}."


def _marked(member: Member, about: About, mark: Row, what: str) -> tuple[str, str]:
    """(state, sentence) of a write that is wanted and has not happened yet."""
    name, error = member.name, mark["error"] or {}
    since = _at(mark["marked_at"])
    if mark["state"] == "dead":
        step = f" Next: {error['next_step']}." if error.get("next_step") else ""
        return "refused", f"{name} does not have {what}: {error.get('reason')}.{step}"
    if mark["state"] == "held":
        ask = f"`syncline guard show {name}`"
        return "waiting", f"The guard of {name} holds {what} since {_at(mark['held_at'])}: {ask}."
    if name in about.paused or member.config.mode == "paused":
        return "waiting", f"{name} is paused; {what} waits since {since}."
    if member.config.mode == "observe":
        return "waiting", f"{name} is only observed; {what} waits since {since}, unwritten."
    if error.get("reason"):
        return "waiting", f"{name} gets {what} later, it waits since {since}: {error['reason']}."
    return "waiting", f"{name} gets {what} any moment; it waits since {since}."


def _dropped(name: str, attempt: Row) -> str:
    when = _at(attempt["at"])
    return f"A person discarded this {attempt['op']} of {name} on {when}; the next edit brings it."


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def said(value: Any) -> str:
    """A value as a sentence says it."""
    return "nothing" if value is None or value is ABSENT else orjson.dumps(value).decode()


def held_cards(cards: Sequence[Row], field: str) -> list[Row]:
    """The open conflicts of this field."""
    return [card for card in cards if card["kind"] == "field" and card["field"] == field]
