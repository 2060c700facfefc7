"""News that need no look: a write of ours comes back, and says what the account showed last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.domain.codecs import ABSENT, Context
from app.domain.entities import equal
from app.domain.mapping import EntityMapping, to_canonical
from app.domain.values import Claim, Fields


def is_echo(
    mapping: EntityMapping, base: Fields, claims: Sequence[Claim], context: Context
) -> bool:
    """Whether these events, each the work of our own client, tell nothing that we do not know.

    The mark of our client proves nothing: an automation that our write started bears it too. So
    every field that they name must be one that is compared, whole, and equal what was last seen.
    """
    if not all(claim.by_program and claim.fields for claim in claims):
        return False
    told: dict[str, Any] = {}
    for claim in sorted(claims, key=lambda claim: claim.at):
        told |= claim.fields
    compared: set[str] = set()
    for row in mapping.rows:
        if not told.keys() & set(row.read_paths):
            continue
        partly = not told.keys() >= set(row.read_paths)
        if partly or not row.is_read or row.when or row.codec.remembers:
            return False
        compared |= set(row.read_paths)
    said = to_canonical(mapping, told, context)
    return compared == told.keys() and all(
        equal(base.get(name, ABSENT), value) for name, value in said.items()
    )
