"""News that need no look: a write of ours comes back, and says what the account showed last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.codecs import ABSENT, Context
from app.domain.entities import equal
from app.domain.mapping import EntityMapping, to_canonical
from app.domain.values import Claim, Event, Fields, Ref


def may_be_echo(event: Event) -> bool:
    """Whether all that an event tells can be compared with what we know."""
    return event.born or bool(event.names) or (event.by_program and bool(event.fields))


def is_echo(
    mapping: EntityMapping,
    base: Fields,
    claims: Sequence[Claim],
    context: Context,
    ends: Mapping[Ref, UUID],
) -> bool:
    """Whether these events tell nothing that we do not know. ``ends`` are the records of the refs
    that they name.

    The mark of our client proves nothing: an automation that our write started bears it too. So
    every field that they name must be one that is compared, and equal what was last seen; and
    whom they name, the one whom we know. What makes a field together with others is compared as
    if these were blank: only where they are can it be equal. A value that is not told, or of which
    two are told of one moment, in any order, may be any other.
    """
    told: dict[str, Any] = {}
    times: dict[str, datetime] = {}
    for claim in sorted(claims, key=lambda claim: claim.at):
        if claim.fields and not claim.by_program:
            return False
        if any(base.get(name, ABSENT) != str(ends.get(ref)) for name, ref in claim.names.items()):
            return False
        for name, value in claim.fields.items():
            if value is None or (times.get(name) == claim.at and told[name] != value):
                return False
            told[name], times[name] = value, claim.at
    compared: set[str] = set()
    for row in mapping.rows:
        if not told.keys() & set(row.read_paths):
            continue
        unread = row.paths[0] not in told or not row.is_read
        if unread or row.when or row.codec.remembers:
            return False
        compared |= set(row.read_paths)
    said = to_canonical(mapping, told, context)
    return compared >= told.keys() and all(
        equal(base.get(name, ABSENT), value) for name, value in said.items()
    )
