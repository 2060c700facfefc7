"""Who wins a conflict."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from app.domain.merge import Winner


def settle(
    policy: str,
    *,
    account: str,
    theirs_at: datetime,
    ours_by: str | None,
    ours_at: datetime | None,
) -> tuple[Winner, str]:
    """Decide one clash between what ``account`` shows and what we hold.

    ``policy`` is an account name, ``latest`` or ``review``. ``ours_by`` is the account our value
    came from. Where the named account is neither side, the later edit wins.
    """
    if policy == "review":
        return Winner.NOBODY, "held for a person (review)"
    if policy == account:
        return Winner.THEIRS, f"{policy} wins conflicts"
    if policy == ours_by:
        return Winner.OURS, f"{policy} wins conflicts"
    if ours_at is None or theirs_at > ours_at:
        return Winner.THEIRS, "the latest edit wins"
    return Winner.OURS, "the latest edit wins"


def stamp_of(
    stamps: Mapping[str, Mapping[str, str]], field: str
) -> tuple[str | None, datetime | None]:
    """(account, time) of our present value of a field."""
    stamp = stamps.get(field)
    if stamp is None:
        return None, None
    return stamp["account"], datetime.fromisoformat(stamp["at"])
