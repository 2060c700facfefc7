"""Who wrote it: the author's user where the account has one, else a last line of the text.

``(by Ana Lima, via close)`` is put into what is written and taken out of what is read, so that
it never becomes an edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.policy import stamp_of


def told_by(stamps: Mapping[str, Mapping[str, Any]], account: str) -> str | None:
    """The account that told us of a record's author; None if it is this one."""
    source = stamp_of(stamps, "author").account
    return source if source != account else None
