"""Whether what was deleted meanwhile is what a create of ours had made."""

from __future__ import annotations

from collections.abc import Collection

from app.domain.entities import equal, is_blank
from app.domain.values import Fields, Key


def is_ours(
    intended: Fields, mine: Collection[Key], shown: Fields, theirs: Collection[Key]
) -> bool:
    """Whether a record that is gone last showed a key of ours, or all that our create said.

    Where it shows neither, nothing is proved: a person may have changed it before.
    """
    if set(mine) & set(theirs):
        return True
    said = {name: value for name, value in intended.items() if not is_blank(value)}
    return bool(said) and all(equal(shown.get(name), value) for name, value in said.items())
