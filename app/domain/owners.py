"""Owners: one person has a user id in each account, and one e-mail address in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.config import OwnersConfig
from app.domain.codecs import ABSENT, Codec, Context
from app.domain.values import Directory, Finding, Value


def _owner_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    """The address of that user, an inactive one too; an unknown id is no opinion."""
    if not raw[0]:
        return [None]
    here = context.directory.owners.get(str(raw[0]))
    if here is None:
        return [ABSENT]
    theirs = (ours for ours, alias in context.owners.aliases.items() if alias == here)
    return [next(theirs, here)]


def _owner_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """The id of that person's user, or of who stands in; without either nothing changes."""
    if values[0] is None:
        return [None]
    rules, ours = context.owners, str(values[0]).casefold()
    for mail in (rules.aliases.get(ours, ours), rules.stand_ins.get(ours), rules.default):
        if mail is not None and (found := user_of(mail, context.directory)) is not None:
            return [found]
    return [ABSENT]


def user_of(mail: str, directory: Directory) -> str | None:
    """The id of the user with that address who may be given something."""
    return next(
        (id for id, own in directory.owners.items() if own == mail and id not in directory.retired),
        None,
    )


OWNER = Codec(_owner_get, _owner_put)


def check(rules: OwnersConfig, directory: Directory) -> list[Finding]:
    """Which of the addresses in an account's `owners` can own nothing there."""
    named = [*rules.aliases.values(), *rules.stand_ins.values(), rules.default]
    absent = [mail for mail in dict.fromkeys(named) if mail and user_of(mail, directory) is None]
    if not absent:
        return []
    detail = f"{', '.join(absent)}: no active user there has this address"
    return [Finding("owners", False, detail, "Correct the account's owners, or invite them there.")]
