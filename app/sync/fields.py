"""The fields and options that an account has: compared with its mapping, and added to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from app.config import Config
from app.domain import ties
from app.domain.remote import compare
from app.domain.rows import Row
from app.domain.values import Finding, RemoteField, Write
from app.errors import HeldError, RejectedError, StaleError, SyncError
from app.sync.house import Member


async def check(config: Config, member: Member) -> list[Finding]:
    """Whether every row of the account's mapping has its field there, and may write it.

    Only entities that travel count. A refusal is a finding, never an error.
    """
    title = member.connector.manifest.title
    found: list[Finding] = []
    for entity, mapping in member.mappings.items():
        sync = config.entity(entity)
        if sync is None or member.name not in sync.accounts:
            continue
        try:
            known = await member.connector.fields(entity)
        except SyncError as error:
            remedy = "Let the credentials read the definitions of fields."
            found.append(Finding(f"map {entity}", False, error.reason, remedy))
            continue
        if known is None:
            detail = f"{title} does not tell which fields it has"
            found.append(Finding(f"map {entity}", True, detail))
            continue
        where = partial(config.where, "accounts", member.name, "mapping", entity)
        found += compare(mapping, known, title=title, where=where)
    return found


async def offer(member: Member, writes: Sequence[Write]) -> dict[str, Exception]:
    """Make the options that rows with `unmapped: create` are about to write.

    The answer has the writes, by trace, whose option could not be made.
    """
    refused: dict[str, Exception] = {}
    known: dict[str, Mapping[str, RemoteField]] = {}
    for write in writes:
        try:
            await _offer_labels(member, write)
        except StaleError as error:
            refused[write.trace] = error
        except RejectedError as error:
            reason = f"the label could not be made: {error.reason}"
            refused[write.trace] = HeldError(reason, field=ties.LABELS, value=error.value)
        for row in member.mappings[write.entity].rows:
            if row.values is None or row.values.unmapped != "create":
                continue
            if row.paths[0] not in write.fields:
                continue
            try:
                if write.entity not in known:
                    known[write.entity] = await member.connector.fields(write.entity) or {}
                await _offer(member, write, row, known[write.entity])
            except StaleError as error:
                refused[write.trace] = error
            except RejectedError as error:
                refused[write.trace] = HeldError(
                    f"its option could not be made: {error.reason}",
                    field=row.fields[0],
                    value=error.value,
                )
    return refused


async def _offer(member: Member, write: Write, row: Row, known: Mapping[str, RemoteField]) -> None:
    path = row.paths[0]
    there = known.get(path)
    if there is None:
        return  # the account does not tell; the write itself will
    for word in _words(write.fields[path]):
        if word in there.options or (path, word) in member.offered:
            continue
        try:
            await member.connector.create_option(write.entity, path, word)
        except RejectedError as error:
            raise RejectedError(error.reason, field=path, value=word) from error
        member.offered.add((path, word))


async def _offer_labels(member: Member, write: Write) -> None:
    """Make the labels that the links of a write are about to get, where the account says so."""
    if member.config.labels != "create":
        return
    known: Mapping[str, Sequence[str]] | None = None
    for relation, edit in write.relations.items():
        for word in dict.fromkeys(word for _, word in edit.label):
            if (relation, word) in member.offered:
                continue
            known = known or await member.connector.labels(write.entity)
            if word not in known.get(relation, ()):
                try:
                    await member.connector.create_label(write.entity, relation, word)
                except RejectedError as error:
                    raise RejectedError(error.reason, field=ties.LABELS, value=word) from error
            member.offered.add((relation, word))


def _words(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [str(word) for word in listed if word not in (None, "")]
