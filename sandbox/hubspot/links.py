"""Links between records: typed, labelled, kept from both ends.

https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from sandbox.hubspot.errors import invalid
from sandbox.hubspot.events import ANNOUNCED, announce
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import TYPES
from sandbox.records import Record
from sandbox.wire import Call, Json

if TYPE_CHECKING:
    from sandbox.hubspot.app import HubSpot

PRIMARY = "primary"
# Ids are unique within a category only; here those of a portal's own labels stand apart.
OWN = 1_000_000
# The only labelled pair whose two directions have different labels.
_PARENT_CHILD = {13: 14, 14: 13}


@dataclass(frozen=True, slots=True)
class LinkType:
    """A kind of link in one direction. Unlabelled is the default of its pair."""

    start: str
    end: str
    id: int
    label: str | None
    category: str = "HUBSPOT_DEFINED"
    inverse: int | None = None

    @property
    def public_id(self) -> int:
        """The id as the API knows it, within its category."""
        return self.id - OWN if self.category == "USER_DEFINED" else self.id

    def spec(self) -> Json:
        label = "Primary" if self.label == PRIMARY else self.label
        return {"category": self.category, "typeId": self.public_id, "label": label}


_DATA = Path(__file__).with_name("association_types.json")
_DEFINED: dict[tuple[str, str], dict[int, LinkType]] = {}
for _row in orjson.loads(_DATA.read_bytes())["types"]:
    _DEFINED.setdefault((_row[0], _row[1]), {})[_row[2]] = LinkType(*_row)


def link_types(portal: Portal, start: str, end: str) -> dict[int, LinkType]:
    """The link types from one object type to another, by id."""
    defined = _DEFINED.get((start, end), {})
    own = (LinkType(**{k: v for k, v in row.items() if k != "name"}) for row in portal.labels)
    return {**defined, **{t.id: t for t in own if (t.start, t.end) == (start, end)}}


def default_type(portal: Portal, start: str, end: str) -> LinkType:
    """The unlabelled type of a pair; 400 if the pair cannot be linked."""
    for type in link_types(portal, start, end).values():
        if type.label is None:
            return type
    raise invalid(f"No association type exists from {start} to {end}")


def chosen(portal: Portal, start: str, end: str, specs: object) -> set[int]:
    """The type ids a request names; 400 for one that does not lead from start to end."""
    known = {(t.category, t.public_id): t.id for t in link_types(portal, start, end).values()}
    if not isinstance(specs, list) or not specs:
        raise invalid("At least one association type is required")
    ids = set()
    for spec in specs:
        given = spec if isinstance(spec, dict) else {}
        pair = (given.get("associationCategory"), given.get("associationTypeId"))
        if pair not in known:
            raise invalid(f"Association type {pair[1]} does not link {start} to {end}")
        ids.add(known[pair])
    return ids


def linked(portal: Portal, record: Record, end: str) -> dict[str, list[int]]:
    """The live records of a type that a record is linked to, with the type ids."""
    found = {}
    for key, types in portal.links.get(_key(record.type, record.id), {}).items():
        type, _, id = key.partition(":")
        if type == end and portal.store.get(type, id):
            found[id] = types
    return found


def set_types(
    app: "HubSpot", portal: Portal, call: Call, start: Record, end: Record, ids: Iterable[int]
) -> None:
    """Make these the types of a pair, in both directions; none unlinks it."""
    known = link_types(portal, start.type, end.type)
    wanted = {id for id in ids if id in known}
    if wanted:
        # A labelled link is an unlabelled one as well.
        wanted.add(default_type(portal, start.type, end.type).id)
    key, other = _key(start.type, start.id), _key(end.type, end.id)
    if wanted and portal.options.first_primary:
        wanted |= _first_primary(portal, start, end)
    had = set(portal.links.get(key, {}).get(other, ()))
    _refuse_above_limits(portal, start, end, known, wanted - had)
    for id in sorted(wanted - had):
        if known[id].label == PRIMARY:
            _demote_others(app, portal, call, start, end)
    if wanted == had:
        portal.store.written.append(("unchanged", "association"))
        return
    verb = "deleted" if not wanted else "updated" if had else "created"
    portal.store.written.append((verb, "association"))
    _keep(portal, key, other, wanted)
    _keep(portal, other, key, {_inverse(portal, known[id]) for id in wanted})
    for id in sorted(had - wanted):
        _announce(app, portal, call, start, end, known[id], removed=True)
    for id in sorted(wanted - had):
        _announce(app, portal, call, start, end, known[id], removed=False)


def limit_key(type: LinkType) -> str:
    return f"{type.start}>{type.end}>{type.id}"


def _refuse_above_limits(
    portal: Portal, start: Record, end: Record, known: dict[int, LinkType], new: set[int]
) -> None:
    """No new link beyond what an administrator allows; how HubSpot words that is not published."""
    for id in sorted(new):
        back = link_types(portal, end.type, start.type)[_inverse(portal, known[id])]
        for one, other, type in ((start, end, known[id]), (end, start, back)):
            most = portal.limits.get(limit_key(type))
            if most is None or type.label == PRIMARY:  # a primary one gives way
                continue
            there = [i for i, ids in linked(portal, one, other.type).items() if type.id in ids]
            if len(there) >= most:
                text = f"{one.type} {one.id} has reached its limit of {most} for {other.type}"
                raise invalid(text)


def types_between(portal: Portal, start: Record, end: Record) -> set[int]:
    key, other = _key(start.type, start.id), _key(end.type, end.id)
    return set(portal.links.get(key, {}).get(other, ()))


def move_all(app: "HubSpot", portal: Portal, call: Call, old: Record, new: Record) -> None:
    """Give a merged record's links to the survivor; a primary one only if it has none."""
    for key, types in list(portal.links.get(_key(old.type, old.id), {}).items()):
        type, _, id = key.partition(":")
        end = portal.store.find(type, id)
        if end is None or end is new:
            continue
        known = link_types(portal, old.type, type)
        primary = {i for i in known if known[i].label == PRIMARY}
        # To a child its company is primary, not the other way round.
        taken = new.type != "company" and any(
            primary & set(ids) for ids in linked(portal, new, type).values()
        )
        kept = {i for i in types if i in known and not (taken and i in primary)}
        set_types(app, portal, call, old, end, ())
        set_types(app, portal, call, new, end, kept | types_between(portal, new, end))


def _demote_others(app: "HubSpot", portal: Portal, call: Call, start: Record, end: Record) -> None:
    """A record has one primary company: the former one stays linked without the label."""
    child, company = (end, start) if start.type == "company" else (start, end)
    known = link_types(portal, child.type, "company")
    primary = {type.id for type in known.values() if type.label == PRIMARY}
    for id, types in linked(portal, child, "company").items():
        other = portal.store.get("company", id)
        if other and other.id != company.id and primary & set(types):
            set_types(app, portal, call, child, other, set(types) - primary)


def _first_primary(portal: Portal, start: Record, end: Record) -> set[int]:
    """The primary type, if this is the first company of a record that has none."""
    child = end if start.type == "company" else start
    known = link_types(portal, child.type, "company").values()
    primary = {type.id for type in known if type.label == PRIMARY}
    companies = linked(portal, child, "company").values()
    if child.type == "company" or any(primary & set(ids) for ids in companies):
        return set()
    return {t.id for t in link_types(portal, start.type, end.type).values() if t.label == PRIMARY}


def _inverse(portal: Portal, type: LinkType) -> int:
    if type.inverse or type.id in _PARENT_CHILD:
        return type.inverse or _PARENT_CHILD[type.id]
    back = link_types(portal, type.end, type.start).values()
    return next(t.id for t in back if t.label == type.label and t.category == type.category)


def _keep(portal: Portal, key: str, other: str, ids: set[int]) -> None:
    ends = portal.links.setdefault(key, {})
    if ids:
        ends[other] = sorted(ids)
    else:
        ends.pop(other, None)


def _announce(
    app: "HubSpot",
    portal: Portal,
    call: Call,
    start: Record,
    end: Record,
    type: LinkType,
    *,
    removed: bool,
) -> None:
    """Both ends hear of a link; the typed form knows no activities."""
    typed = start.type in ANNOUNCED and end.type in ANNOUNCED
    back = link_types(portal, end.type, start.type)[_inverse(portal, type)]
    for one, two, id in ((start, end, type.public_id), (end, start, back.public_id)):
        announce(
            app,
            portal,
            call,
            one.type,
            "associationChange",
            generic={
                "fromObjectTypeId": TYPES[one.type].id,
                "toObjectTypeId": TYPES[two.type].id,
                "associationTypeId": id,
                "associationCategory": type.category,
            },
            typed=typed,
            associationType=f"{one.type}_to_{two.type}".upper(),
            fromObjectId=int(one.id),
            toObjectId=int(two.id),
            associationRemoved=removed,
            isPrimaryAssociation=type.label == PRIMARY,
        )


def _key(type: str, id: str) -> str:
    return f"{type}:{id}"
