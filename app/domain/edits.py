"""When fields were edited, by the vendors' own news and histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from app.domain.codecs import ABSENT, Context
from app.domain.entities import equal
from app.domain.mapping import EntityMapping, edited, to_canonical
from app.domain.values import Claim, Edit, Raw, Value

#: Before every history.
EVER = datetime.min.replace(tzinfo=UTC)


def made_at(
    mapping: EntityMapping,
    name: str,
    value: Value,
    edits: Mapping[str, Sequence[Edit]],
    *,
    seen_at: datetime,
    context: Context,
) -> datetime:
    """When our value of a field was edited, by the clock of the vendor it came from.

    Its clock may be ahead of ours: the edit that gave this value counts before the time at which
    we saw it.
    """
    every = [(path, edit) for path in edited(mapping, name) for edit in edits.get(path, ())]
    given = [
        edit.at
        for path, edit in every
        if equal(to_canonical(mapping, {path: edit.value}, context).get(name, ABSENT), value)
    ]
    return max(given or (edit.at for _, edit in every if edit.at <= seen_at), default=EVER)


def still_timed(
    times: Mapping[str, datetime], claims: Sequence[Claim], raw: Raw | None
) -> dict[str, datetime]:
    """When these fields were edited, as far as the news tell of what the record shows.

    One that was edited again before it was read has a later time, which nobody has told us.
    """
    told: dict[str, Claim] = {}
    for claim in sorted(claims, key=lambda claim: claim.at):
        told |= dict.fromkeys(claim.fields, claim)

    def is_of_another(name: str) -> bool:
        claim = told.get(name)
        if claim is None or claim.raw is not None or raw is None or name not in raw:
            return False
        return (claim.fields[name] or "") != (raw[name] or "")

    return {name: at for name, at in times.items() if not is_of_another(name)}
