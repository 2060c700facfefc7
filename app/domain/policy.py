"""Who wins a conflict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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


def by_time(policy: str, *, account: str, ours_by: str | None) -> bool:
    """Whether the times of the two edits decide: `latest`, or neither side is the named one."""
    return policy not in ("review", account, ours_by)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Through whom our present value of a field came, and when it was edited.

    ``seen`` says that the time is when we first saw it: the vendor may know better.
    """

    account: str | None = None
    at: datetime | None = None
    seen: bool = False


def stamp_of(stamps: Mapping[str, Mapping[str, Any]], field: str) -> Stamp:
    stamp = stamps.get(field)
    if stamp is None:
        return Stamp()
    at = datetime.fromisoformat(stamp["at"])
    return Stamp(stamp["account"], at, stamp.get("seen", False))
