"""Leads, contacts and opportunities: as Close shows them, and as it takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.connectors.close.activities import OBJECTS, TYPES, is_unfinished
from app.sdk import Key, Observation, Raw, Ref, RejectedError, Subscription, Write, normalise

COMPANY, PERSON, DEAL = "lead", "contact", "opportunity"


def type_of(object_type: Any) -> str | None:
    """The path of what an event is about, for what we keep."""
    return object_type if object_type in (COMPANY, PERSON, DEAL) else TYPES.get(object_type)


def object_of(type: str) -> str:
    """The object type that events name."""
    return OBJECTS.get(type, type)


KINDS: Mapping[str, Any] = {"active": "open", "won": "won", "lost": "lost"}


def observed(account: str, type: str, raw: Raw) -> Observation:
    """A record as REST answers and events show it; of a draft nothing is shown yet."""
    if is_unfinished(type, raw):
        return Observation(Ref(account, type, raw["id"]), None)

    def refs(kind: str, ids: Iterable[Any]) -> tuple[Ref, ...]:
        return tuple(Ref(account, kind, id) for id in dict.fromkeys(ids) if id)

    relations: dict[str, tuple[Ref, ...]] = {}
    if type == COMPANY:
        inside = (c.get("id") for c in raw.get("contacts") or ())
        mentions = refs(PERSON, [*(raw.get("contact_ids") or ()), *inside])
        mentions += refs(DEAL, [o.get("id") for o in raw.get("opportunities") or ()])
    else:
        mentions = refs(COMPANY, [raw.get("lead_id")])
        if "lead_id" in raw:
            relations["company"] = mentions
        if type != PERSON and "contact_id" in raw:
            relations["people"] = refs(PERSON, [raw["contact_id"]])
    return Observation(
        Ref(account, type, raw["id"]),
        raw,
        version=time_of(raw.get("date_updated")),
        relations=relations,
        mentions=mentions,
    )


def time_of(text: Any) -> datetime | None:
    """A moment; Close's event times have no offset and are UTC."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def time_in(row: Raw, field: str) -> datetime:
    at = time_of(row.get(field))
    if at is None:
        raise RejectedError(f"Close lists {row.get('id')} without {field}", field=field)
    return at


def keys_of(seen: Observation, stamp: str | None) -> set[Key]:
    """The identity keys that a record really carries; ``stamp`` is the field of our ids."""
    raw = seen.raw or {}
    said = [("email", entry.get("email")) for entry in raw.get("emails") or ()]
    said += [("domain", raw.get("url")), ("external_id", raw.get(stamp or ""))]
    return {
        Key(kind, value)
        for kind, text in said
        if text and (value := normalise(kind, str(text))) is not None
    }


def as_subscription(raw: Raw) -> Subscription:
    events = tuple(
        sorted(f"{e.get('object_type')}.{e.get('action')}" for e in raw.get("events") or ())
    )
    return Subscription(raw["id"], raw["url"], raw.get("status") == "active", events)


def kind_of(status: Raw, kinds: Mapping[str, Any]) -> str:
    return str(status.get("status_type") or kinds.get(status["id"]) or "active")


def full_name(user: Raw) -> str:
    return " ".join(str(user[part]) for part in ("first_name", "last_name") if user.get(part))


def named(write: Write) -> Ref:
    if write.ref is None:
        raise RejectedError(f"a {write.op} without the remote record")
    return write.ref


def contacts(write: Write) -> list[str]:
    """The contacts that a record should name, those it has before those who join."""
    edit = write.relations.get("people")
    if edit is None:
        return []
    return [ref.id for ref in sorted(edit.wanted, key=lambda ref: ref in edit.add)]


def wanted(write: Write, relation: str) -> tuple[Ref, ...]:
    edit = write.relations.get(relation)
    return edit.wanted if edit else ()


def title_of(contact: Raw) -> str:
    """The name of a lead that only holds this contact."""
    for text in (
        contact.get("name"),
        *(entry.get("email") for entry in contact.get("emails") or ()),
        *(entry.get("phone") for entry in contact.get("phones") or ()),
    ):
        if text:
            return str(text)
    return "Unnamed contact"


#: A day and a number, which are no empty text: https://developer.close.com/api/resources/opportunities
_TYPED = frozenset({"date_won", "confidence"})


def body_of(fields: Raw, current: Raw) -> dict[str, Any]:
    """Paths and values as Close takes them; lists are built on what is there now.

    ``emails``, ``phones`` and the like replace the whole list, so entries that stay keep what
    else they hold: https://developer.close.com/api/resources/contacts
    """
    body: dict[str, Any] = {}
    for path, value in fields.items():
        name, brackets, key = path.partition("[]")
        if not brackets:
            body[path] = None if value == "" and path in _TYPED else value
            continue
        have = list(body.get(name) or current.get(name) or [])
        body[name] = _list(have, key[1:], value) if key else _first(have, value)
    return body


def _list(have: Sequence[Raw], key: str, wanted: Sequence[str] | None) -> list[dict[str, Any]]:
    known = {_alike(str(entry.get(key))): entry for entry in reversed(have)}
    new = {"type": "office"}
    return [{**(known.get(_alike(v)) or new), key: v} for v in dict.fromkeys(wanted or ())]


def _first(have: Sequence[Raw], wanted: Raw | None) -> list[dict[str, Any]]:
    """The list with its first entry changed, or without it."""
    rest = [dict(entry) for entry in have[1:]]
    if wanted is None:
        return rest
    return [{**(have[0] if have else {}), **wanted}, *rest]


def _alike(text: str) -> str:
    """Two spellings of one address or number, made equal."""
    return text.casefold() if "@" in text else re.sub(r"[^\d+;=a-z]", "", text.casefold())
