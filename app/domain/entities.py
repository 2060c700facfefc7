"""What each canonical field is, so that merge and comparison can treat it rightly."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from app.domain.values import Value

#: Merged element by element; the value is a list of texts.
SETS = frozenset({"emails", "phones", "companies", "people", "deals", "labels", "to", "cc"})

#: What happened, or is to be done, between people: activities and tasks.
ACTIVITIES = ("note", "call", "email", "meeting", "task")

#: What anything may be about; so may an entity of the operator's own.
ABOUT: dict[str, str] = {"company": "company", "people": "person", "deals": "deal"}
#: Relations of an entity: canonical field -> entity of the parent. The plural ones are sets; a
#: ``company`` is the primary one of the ``companies``.
RELATIONS: dict[str, dict[str, str]] = {
    "company": {},
    "person": {"company": "company", "companies": "company"},
    "deal": {"company": "company", "companies": "company", "people": "person"},
    "ticket": {"company": "company", "companies": "company", "people": "person"},
    **dict.fromkeys(ACTIVITIES, ABOUT),
}

#: Parents before children: the order in which entities are scanned and pushed.
ORDER = ("company", "person", "deal", "ticket", *ACTIVITIES)


def relations_of(entity: str) -> dict[str, str]:
    return RELATIONS.get(entity, ABOUT)


def ties_of(entity: str) -> frozenset[str]:
    """The relations of an entity, and what people call them where that is kept."""
    names = relations_of(entity).keys()
    return frozenset({*names, "labels"} if "companies" in names else names)


def order_of(entity: str) -> int:
    return ORDER.index(entity) if entity in ORDER else len(ORDER)


def is_set(field: str) -> bool:
    return field in SETS


def equal(one: Value, other: Value) -> bool:
    """Equality that keeps 0 and False apart, which Python does not."""
    return one is other or (one == other and isinstance(one, bool) == isinstance(other, bool))


def alike(one: Value, other: Value) -> bool:
    """Whether one is the other as a vendor may keep it: in capitals, trimmed, rounded, or as a
    blank of its own.
    """
    if equal(one, other) or (is_blank(one) and is_blank(other)):
        return True
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    if one.split() and one.casefold().split() == other.casefold().split():
        return True
    try:
        kept, said = Decimal(one), Decimal(other)
        return kept.is_finite() and abs(kept - said) < 1 and kept == kept.to_integral_value()
    except InvalidOperation:
        return False


def is_blank(value: Value) -> bool:
    """Nothing a person would miss: cleared, empty text or an empty set."""
    return value is None or value == "" or value == []


def title_of(fields: Mapping[str, Value]) -> str | None:
    """What a person calls a record: its name, else how it is reached."""
    named = " ".join(str(fields[n]) for n in ("first_name", "last_name") if fields.get(n))
    rest = (fields.get(n) for n in ("name", "subject", "email", "domain", "title"))
    return named or next((str(value) for value in rest if value), None)
