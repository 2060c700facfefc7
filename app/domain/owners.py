"""Owners: one person has a user id in each account, and one e-mail address in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.domain.codecs import ABSENT, Codec, Context
from app.domain.values import Value


def _owner_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    if not raw[0]:
        return [None]
    return [context.directory.owners.get(str(raw[0]), ABSENT)]


def _owner_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """The owner id of that e-mail; someone who has no user there changes nothing."""
    if values[0] is None:
        return [None]
    ids = (key for key, mail in context.directory.owners.items() if mail == values[0])
    return [next(ids, ABSENT)]


OWNER = Codec(_owner_get, _owner_put)
