"""What a write says, and what is known after it; the answer of a vendor may differ from both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from app.domain.codecs import ABSENT, Context
from app.domain.entities import equal, is_blank
from app.domain.mapping import EntityMapping, to_remote
from app.domain.owners import OWNER
from app.domain.picklists import fitting
from app.domain.stages import STAGE
from app.domain.values import Fields, Value


def outgoing(
    mapping: EntityMapping,
    names: Iterable[str],
    ours: Fields,
    base: Fields | None,
    context: Context,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The remote paths to write for these names, and the names held with a reason.

    ``base`` is what the account last showed, None before a create: only what differs from it
    is written, and blanks are not written at all into a record that is new.
    """
    names = list(names)
    fields, held = to_remote(mapping, names, ours, context)
    options = context.directory.options.get(mapping.entity, {})
    if base is None:
        news = {path: v for path, v in fields.items() if v not in (None, "", [])}
        taken, strange = fitting(mapping, names, news, options)
        return taken, held | strange
    there, _ = to_remote(mapping, names, {**ours, **base}, context)
    known = {
        path
        for row in mapping.rows
        if all(name in base for name in row.fields)
        for path in row.paths
    }
    differing = {
        path: value
        for path, value in fields.items()
        if path not in known or there.get(path, ABSENT) != value
    }
    taken, strange = fitting(mapping, names, differing, options)
    return taken, held | strange


def wordless(
    mapping: EntityMapping, names: Collection[str], ours: Fields, context: Context
) -> frozenset[str]:
    """The names whose value cannot be said there, so that nothing is written: an owner without a
    user. What the account shows of them stays what was agreed.
    """
    names = [name for name in names if ours.get(name) is not None]
    remote, held = to_remote(mapping, names, ours, context)
    rows = [row for row in mapping.rows if row.is_written and not remote.keys() & {*row.paths}]
    return frozenset(n for row in rows for n in row.fields if n in names and n not in held)


def outdated(
    mapping: EntityMapping,
    names: Collection[str],
    ours: Fields,
    base: Fields,
    sent: Fields,
    context: Context,
) -> frozenset[str]:
    """The names that the account was told in words that would be others today: somebody stood in
    for an owner who has a user now, a stage was met by its class and is mapped.

    Where anybody has changed the value since, the link does not say so any more.
    """
    told = frozenset(
        name
        for row in mapping.rows
        if row.is_written and row.codec in (STAGE, OWNER)
        for name in row.fields
        if name in names and name in sent and name in ours and equal(ours[name], sent[name])
    )
    fields, _ = outgoing(mapping, told, ours, base, context) if told else ({}, {})
    return told if fields else frozenset()


def agreed_after_update(
    base: Fields,
    sent: Fields,
    ours: Fields,
    *,
    told: Collection[str],
    stored: Fields,
    fills: Collection[str] = (),
    unsaid: Collection[str] = (),
    without: Mapping[str, Value] | None = None,
) -> tuple[dict[str, Value], dict[str, Value]]:
    """(base, sent) of a link after an update: the base becomes what the vendor says it stored.

    ``told`` are the names it was told, ``stored`` what its answer shows. ``fills`` are names
    that it fills by itself because of such a write, which is no edit; ``unsaid`` those that it
    has no word for. ``without`` is what it knows of relations that could not be told in full.
    """
    filled = {name for name in fills if name in stored and name not in told}
    filled = {name for name in filled if is_blank(base.get(name))}
    news = {name: stored.get(name, ours.get(name)) for name in {*told, *filled}}
    after = {**base, **(without or {}), **news}
    return after, _sent(sent, after, ours, {*told, *filled, *unsaid})


def agreed_after_create(
    ours: Fields,
    *,
    told: Collection[str],
    stored: Fields,
    untold: Collection[str] = (),
    unsaid: Collection[str] = (),
    without: Mapping[str, Value] | None = None,
) -> tuple[dict[str, Value], dict[str, Value]]:
    """(base, sent) of the link to what was just created; what is ``untold`` still has to travel,
    and what is ``unsaid`` has no word there: it shows nothing.
    """
    news = {**dict.fromkeys(unsaid), **{name: ours[name] for name in told}}
    after = {**news, **(without or {}), **stored}
    return after, _sent({}, after, ours, after.keys() - set(untold))


def _sent(sent: Fields, base: Fields, ours: Fields, settled: Collection[str]) -> dict[str, Value]:
    """Our value of each settled name, where the account holds it in another spelling."""
    after = dict(sent)
    for name in settled:
        if name not in ours:
            continue
        after.pop(name, None)
        if not equal(base.get(name, ABSENT), ours[name]):
            after[name] = ours[name]
    return after
