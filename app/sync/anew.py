"""Writes that were refused because what they name has left the account since we looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.strangers import listed, vanished
from app.domain.values import Outcome
from app.errors import HeldError, NotFoundError, RejectedError, StaleError, SyncError
from app.sync.house import House, Member


async def look_anew(house: House, member: Member, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, with a refusal as stale where it named a stage, owner or option that is gone.

    The directory is asked once for each of them; what is worked out anew goes elsewhere, or is
    held with its reason.
    """
    return [await _looked_anew(house, member, outcome) for outcome in outcomes]


async def _looked_anew(house: House, member: Member, outcome: Outcome) -> Outcome:
    error, write = outcome.error, outcome.write
    if not isinstance(error, RejectedError) or isinstance(error, HeldError | NotFoundError):
        return outcome
    mapping = member.mappings[write.entity]
    named = listed(mapping, write.fields, house.directory(member.name))
    if not named or (error.field in write.fields and error.field not in {p for p, _ in named}):
        return outcome
    try:
        await house.ask_about(member.name, named)
    except SyncError:
        return outcome  # it goes by itself once the directory is read
    gone = vanished(mapping, write.fields, house.directory(member.name))
    if not gone:
        return outcome
    stale = StaleError(error.reason, field=error.field or min(gone), value=error.value)
    return replace(outcome, error=stale)
