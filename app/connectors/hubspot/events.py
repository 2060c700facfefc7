"""What HubSpot's webhooks say.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import orjson

from app.connectors.hubspot import activities, tickets
from app.connectors.hubspot.shapes import LINKS
from app.sdk import NOTHING, BadPayloadError, Change, Event, Raw, Ref, read_each

#: The word of an event type, of a generic event's objectTypeId and of an association's ends,
#: each with our remote type.
OBJECTS: Mapping[str, str] = {
    "contact": "contacts",
    "company": "companies",
    "deal": "deals",
    "ticket": tickets.TICKETS,
    **activities.OBJECTS,
}
TYPE_IDS: Mapping[str, str] = {
    "0-1": "contact",
    "0-2": "company",
    "0-3": "deal",
    tickets.TYPE_ID: "ticket",
    **activities.TYPE_IDS,
}
#: A record that names others, and what it may name: the one whose relation changed comes first.
_CHILDREN: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(activities.OBJECTS, ("contact", "company", "deal")),
    "deal": ("contact", "company"),
    "ticket": ("contact", "company"),
    "contact": ("company",),
}
_CHANGES: Mapping[str, Change] = {
    "deletion": Change.GONE,
    "privacyDeletion": Change.PURGED,
    "merge": Change.MERGED,
}
_WORD = "|".join(word.upper() for word in OBJECTS)
_ENDS = re.compile(rf"({_WORD})_TO_({_WORD})")


def parse(body: bytes, account: str) -> list[Event]:
    """The events of a delivery, in its order. Raises BadPayloadError naming the row."""
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadPayloadError("the body is not JSON") from None
    if not isinstance(rows, list):
        raise BadPayloadError("the body is not a list of events")
    primary = {_linked(row) for row in rows if isinstance(row, dict) and _is_primary(row)}

    def read(_: int, row: Any) -> Iterator[Event]:
        if not isinstance(row, dict):
            raise BadPayloadError("it is not an object")
        return _read(row, account, primary)

    return read_each("event", rows, read)


def as_webhook(
    type: str, id: str, kind: str, at: int, portal: object, name: str = "", value: str = ""
) -> bytes:
    """A change that was found by looking, in the shape of the webhook that did not tell it.

    Nobody can subscribe to the property that says when a record was modified: no event of
    HubSpot's own has the same key.
    """
    word = next(word for word, own in OBJECTS.items() if own == type)
    row: dict[str, Any] = {
        "portalId": portal,
        "subscriptionType": f"{word}.{kind}",
        "objectId": int(id),
        "occurredAt": at,
        "changeSource": "CATCH_UP",
    }
    if name:
        row |= {"propertyName": name, "propertyValue": value}
    return orjson.dumps([row])


def _is_primary(row: Raw) -> bool:
    return row.get("isPrimaryAssociation") is True and not row.get("associationRemoved")


def _linked(row: Raw) -> tuple[str, ...]:
    """Which two were linked, and when; the news goes to both ends."""
    ends = (row.get("fromObjectId"), row.get("toObjectId"))
    return (*sorted(map(str, ends)), str(row.get("occurredAt")))


def _read(row: Raw, account: str, primary: Collection[tuple[str, ...]]) -> Iterator[Event]:
    said = row.get("subscriptionType") or row.get("eventType")  # payloads and docs differ
    if not isinstance(said, str) or "." not in said:
        raise BadPayloadError("it has no subscriptionType")
    word, _, kind = said.partition(".")
    if word == "object":
        word = TYPE_IDS.get(str(row.get("objectTypeId")), word)
    child, parent = _ends(row, account) if kind == "associationChange" else (None, None)
    if child is not None and word == "object":  # such an event names its ends alone
        word = next(word for word, type in OBJECTS.items() if type == child.type)
    type = OBJECTS.get(word)
    ref, fields, names = child if type is not None else None, NOTHING, NOTHING
    if type is not None and kind not in ("associationChange", "merge"):
        ref = Ref(account, type, _id(row, "objectId"))
    if type is not None and kind == "propertyChange":
        fields = _changed(row)
    # A primary link is an unlabelled one as well, and both are told.
    if not row.get("associationRemoved") and _linked(row) in primary:
        names = _named(child, parent)
    event = Event(
        key=_key(row, said),
        type=f"{word}.{kind}",
        at=_moment(row.get("occurredAt")),
        ref=ref,
        change=_CHANGES.get(kind, Change.CHANGED),
        tenant=None if row.get("portalId") is None else _id(row, "portalId"),
        fields=fields,
        by_program=_by_our_app(row),
        names=names,
        # Who reads a person's new record late may find more in it than what it was made with.
        born=kind == "creation" and row.get("changeSource") in (None, "INTEGRATION"),
        data=row,
    )
    if type is not None and kind == "merge":
        yield from _merged(event, row, account, type)
    else:
        yield event


def _by_our_app(row: Raw) -> bool:
    """Whether the app that is told of this has done it.

    https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
    """
    app = row.get("appId")
    return (
        app is not None
        and row.get("changeSource") == "INTEGRATION"
        and row.get("sourceId") == str(app)
    )


def _key(row: Raw, said: str) -> str:
    """The parts that HubSpot's own advice makes a fact of; never attemptNumber, and eventId
    alone is not unique. Nor are they where a clock is coarse: two values are two facts. Of the
    value it keeps no more than tells them apart.
    """
    value = row.get("propertyValue")
    parts = (
        row.get("portalId"),
        row.get("subscriptionId") or said,
        row.get("objectId"),
        row.get("eventId"),
        row.get("occurredAt"),
        row.get("propertyName"),
        None if value is None else f"{crc32(str(value).encode()):08x}",
        row.get("fromObjectId"),
        row.get("toObjectId"),
        row.get("associationType"),
        row.get("associationRemoved"),
        row.get("isPrimaryAssociation"),
    )
    text = ":".join(["" if part is None else str(part) for part in parts])
    return f"hubspot:{text}".rstrip(":")


def _changed(row: Raw) -> dict[str, Any]:
    name = row.get("propertyName")
    if not isinstance(name, str) or not name:
        raise BadPayloadError("it has no propertyName")
    # Sensitive values arrive as the word "REDACTED".
    hidden = row.get("isSensitive") or row.get("propertyValue") == "REDACTED"
    return {name: None if hidden else row.get("propertyValue")}


def _ends(row: Raw, account: str) -> tuple[Ref | None, Ref | None]:
    """The record whose relation changed (the activity, the deal, the ticket, the contact of a
    company) and whom it names. Nobody for links that we do not keep.
    """
    ends = _ENDS.search(str(row.get("associationType") or ""))
    if ends:
        words = [ends[1].lower(), ends[2].lower()]
    else:
        ids = (row.get("fromObjectTypeId"), row.get("toObjectTypeId"))
        words = [TYPE_IDS.get(str(id), "") for id in ids]
    sides = dict(zip(words, ("fromObjectId", "toObjectId"), strict=True))
    for child, parents in _CHILDREN.items():
        for parent in parents:
            if child in sides and parent in sides:
                one, other = (
                    Ref(account, OBJECTS[word], _id(row, sides[word])) for word in (child, parent)
                )
                return one, other
    return None, None


def _named(child: Ref | None, parent: Ref | None) -> Mapping[str, Ref]:
    """The relation that has this one end."""
    if child is None or parent is None:
        return {}
    links = (link for link in LINKS[child.type] if link.single and link.to == parent.type)
    return {link.relation: parent for link in links}


def _merged(event: Event, row: Raw, account: str, type: str) -> Iterator[Event]:
    """One event per loser, and one to look at the survivor, whose id may be a new one.

    Then the primary is a loser too, the first: it is its link that gets the new name.
    """
    name = "newObjectId" if row.get("newObjectId") is not None else "primaryObjectId"
    survivor = Ref(account, type, _id(row, name))
    losers = row.get("mergedObjectIds")
    if not isinstance(losers, list) or not losers:
        raise BadPayloadError("it has no mergedObjectIds")
    ids = [_as_id(loser, "mergedObjectIds") for loser in losers]
    if row.get("primaryObjectId") is not None:
        ids.insert(0, _id(row, "primaryObjectId"))
    for id in dict.fromkeys(ids):
        if id != survivor.id:
            yield replace(
                event,
                key=f"{event.key}:loser:{id}",
                ref=Ref(account, type, id),
                survivor=survivor,
            )
    yield replace(event, key=f"{event.key}:survivor", ref=survivor, change=Change.CHANGED)


def _id(row: Raw, name: str) -> str:
    return _as_id(row.get(name), name)


def _as_id(value: Any, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return value
    raise BadPayloadError(f"it has no {name}")


def _moment(value: Any) -> datetime:
    try:
        if isinstance(value, bool):
            raise TypeError
        return datetime.fromtimestamp(value / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BadPayloadError("it has no readable occurredAt") from None
