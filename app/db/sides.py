"""Cards that ask who is who, with both sides: what a person needs to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import links, records
from app.db.links import Link
from app.db.pages import Row
from app.domain.identity import compare
from app.domain.state import RecordState
from app.domain.values import Fields, Ref


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that may be one: a record of ours, a remote record, or both.

    ``agrees`` and ``differs`` are the fields that both have, against the first side of the card.
    """

    record_id: UUID | None
    refs: tuple[Ref, ...]
    fields: Fields
    agrees: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


async def of(db: AsyncConnection, cards: Sequence[Row]) -> dict[int, list[Side]]:
    """The sides of each card, what it is about first; none for the card of a field."""
    asking = [card for card in cards if card["kind"] in ("identity", "merge", "suspect")]
    ids = {one for card in asking for one in _named(card)}
    if not asking:
        return {}
    known = await records.get(db, ids)
    own: dict[UUID, list[Link]] = {}
    for link in await links.by_record(db, ids):
        own.setdefault(link.record_id, []).append(link)
    return {card["id"]: _compared(list(_sides(card, known, own))) for card in asking}


def _named(card: Row) -> list[UUID]:
    found = [UUID(one) for one in card["detail"].get("candidates") or ()]
    return [*found, card["record_id"]] if card["record_id"] else found


def _sides(
    card: Row, known: Mapping[UUID, RecordState], own: Mapping[UUID, Sequence[Link]]
) -> Iterable[Side]:
    ref = Ref(card["account"], card["ref_type"], card["ref_id"])
    if card["kind"] != "identity":
        there = [one for one in own.get(card["record_id"], ()) if one.ref.account == ref.account]
        for link in sorted(there, key=lambda one: one.ref != ref):
            if link.ref == ref or link.state == "live":
                yield Side(card["record_id"], (link.ref,), link.base)
        return
    if card["record_id"] is None:
        yield Side(None, (ref,), (card["theirs"] or {}).get("fields") or {})
    for record_id in dict.fromkeys([card["record_id"], *_named(card)]):
        if record_id in known:
            refs = tuple(one.ref for one in own.get(record_id, ()) if one.state == "live")
            yield Side(record_id, refs, known[record_id].fields)
    for remote, fields in (card["detail"].get("found") or {}).items():
        yield Side(None, (replace(ref, id=remote),), fields)


def _compared(sides: Sequence[Side]) -> list[Side]:
    if not sides:
        return []
    about, *others = sides
    told = [compare(about.fields, side.fields) for side in others]
    return [
        about,
        *(
            replace(side, agrees=agrees, differs=differs)
            for side, (agrees, differs) in zip(others, told, strict=True)
        ),
    ]
