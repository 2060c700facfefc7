"""Forgetting a person: every place that holds what they are, and the hash that remains."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.accounts import Box
from app.db.arrays import any_of
from app.db.tables import (
    attempts,
    conflicts,
    deliveries,
    differences,
    drifts,
    events,
    foreseen,
    intake_bases,
    intakes,
    journal,
    keys,
    links,
    matches,
    outbox,
    plan_items,
    purged_keys,
    records,
    relations,
    resyncs,
    seals,
)
from app.domain.decide import fingerprint
from app.domain.values import Ref

_PEPPER = "purged"


async def pepper(
    db: AsyncConnection, box: Box, *, make: bool = False, name: str = _PEPPER
) -> bytes | None:
    """What the purged are hashed with; None where nobody has been purged yet.

    ``name`` is another of our keys: what is hashed for different ends cannot be compared.
    """
    if make:
        fresh = box.close({"key": secrets.token_hex(32)})
        await db.execute(insert(seals).values(name=name, sealed=fresh).on_conflict_do_nothing())
    found = await db.execute(sa.select(seals.c.sealed).where(seals.c.name == name))
    sealed = found.scalar_one_or_none()
    return None if sealed is None else bytes.fromhex(box.open(sealed)["key"])


async def reseal(db: AsyncConnection, box: Box) -> None:
    """Encrypt the secrets of the house anew with the first key."""
    rows = (await db.execute(sa.select(seals).with_for_update())).all()
    for row in rows:
        await db.execute(
            sa.update(seals)
            .where(seals.c.name == row.name)
            .values(sealed=box.close(box.open(row.sealed)))
        )


async def family(db: AsyncConnection, record_id: UUID) -> list[UUID]:
    """A record and those that were merged into it, locked."""
    rows = await db.execute(
        sa.select(records.c.id)
        .where((records.c.id == record_id) | (records.c.merged_into == record_id))
        .order_by(records.c.id)
        .with_for_update()
    )
    return list(rows.scalars())


async def remember(db: AsyncConnection, record_id: UUID, digests: Collection[bytes]) -> None:
    """Keep these hashes, so that the person does not return."""
    if digests:
        row = insert(purged_keys).values(
            [{"digest": digest, "record_id": record_id} for digest in sorted(digests)]
        )
        await db.execute(row.on_conflict_do_nothing())


async def known(db: AsyncConnection, digests: Collection[bytes]) -> set[bytes]:
    """Those of these hashes that belong to somebody who was purged."""
    if not digests:
        return set()
    rows = await db.execute(
        sa.select(purged_keys.c.digest).where(any_of(purged_keys.c.digest, digests))
    )
    return set(rows.scalars())


async def readmit(db: AsyncConnection, digests: Collection[bytes]) -> int:
    """Forget these hashes: who was purged may come back. How many there were."""
    done = await db.execute(
        sa.delete(purged_keys)
        .where(purged_keys.c.digest.in_(set(digests)))
        .returning(purged_keys.c.digest)
    )
    return len(done.all())


async def forget(db: AsyncConnection, ids: Collection[UUID], refs: Collection[Ref]) -> None:
    """Take the values of these records and refs out of everything but the deliveries."""
    names = [str(one) for one in ids]
    nothing: Any = sa.null()
    await db.execute(
        sa.update(records)
        .where(records.c.id.in_(ids))
        .values(
            fields={},
            stamps={},
            hash=fingerprint({}),
            state=sa.case((records.c.state == "merged", "merged"), else_="purged"),
            version=records.c.version + 1,
            changed_at=sa.func.now(),
        )
    )
    for table in (keys, outbox):
        await db.execute(sa.delete(table).where(table.c.record_id.in_(ids)))
    await db.execute(sa.delete(relations).where(relations.c.child_id.in_(ids)))
    await db.execute(
        sa.update(links)
        .where(links.c.record_id.in_(ids))
        .values(base={}, sent={}, written={}, intended={})
    )
    await db.execute(
        sa.update(journal)
        .where(journal.c.record_id.in_(ids), journal.c.field != "link")
        .values(old=nothing, new=nothing, lost=nothing)
    )
    await db.execute(
        sa.update(attempts)
        .where(attempts.c.record_id.in_(ids))
        .values(sent={}, before={}, error=nothing)
    )
    about = sa.or_(
        conflicts.c.record_id.in_(ids),
        sa.tuple_(conflicts.c.account, conflicts.c.ref_type, conflicts.c.ref_id).in_(_named(refs)),
        conflicts.c.detail["candidates"].has_any(sa.cast(names, sa.ARRAY(sa.Text))),
    )
    await db.execute(
        sa.update(conflicts)
        .where(about)
        .values(
            ours=nothing,
            theirs=nothing,
            detail={"reason": "purged"},
            state="settled",
            settled_at=sa.func.coalesce(conflicts.c.settled_at, sa.func.now()),
            settled={"by": "purge"},
        )
    )
    await db.execute(sa.delete(plan_items).where(plan_items.c.item["record_id"].astext.in_(names)))
    await db.execute(sa.delete(intake_bases).where(intake_bases.c.record_id.in_(ids)))
    for name in names:
        told = sa.cast(intakes.c.answer, sa.Text).contains(name, autoescape=True)
        await db.execute(sa.delete(intakes).where(told))
    await db.execute(sa.delete(differences).where(differences.c.record_id.in_(ids)))
    for ref in refs:  # their errors quote values; there are few runs
        for run in (resyncs, drifts):
            told = sa.cast(run.c.errors, sa.Text).contains(ref.id, autoescape=True)
            await db.execute(sa.update(run).where(told).values(errors=nothing))


async def forget_words(db: AsyncConnection, words: Collection[str]) -> list[int]:
    """Take what repeats these words out of planned runs and reports; the deliveries that do.

    They may be about other records: a deal tells the name of its contact. This reads whole
    tables, and people ask to be forgotten seldom.
    """
    if not words:
        return []
    for table in (plan_items, matches, foreseen, differences):
        row = sa.func.lower(sa.cast(sa.text(table.name), sa.Text))
        said = [row.contains(word.lower(), autoescape=True) for word in words]
        await db.execute(sa.delete(table).where(sa.or_(*said)))
    body = sa.func.lower(sa.func.encode(deliveries.c.body, "escape"))
    said = [body.contains(form, autoescape=True) for word in words for form in _spellings(word)]
    rows = await db.execute(sa.select(deliveries.c.id).where(sa.or_(*said)))
    return list(rows.scalars())


def _spellings(word: str) -> set[str]:
    """A word as it may stand in a body, in the notation of PostgreSQL's `encode(…, 'escape')`."""
    forms = {word.lower().encode(), word.encode(), json.dumps(word)[1:-1].lower().encode()}
    return {
        "".join(chr(b) if b < 128 else f"\\{b:03o}" for b in form.replace(b"\\", b"\\\\"))
        for form in forms
    }


def _named(refs: Collection[Ref]) -> list[tuple[str, str, str]]:
    return [(ref.account, ref.type, ref.id) for ref in sorted(refs)]


async def deliveries_of(db: AsyncConnection, refs: Collection[Ref]) -> list[int]:
    """The deliveries that named one of these refs."""
    if not refs:
        return []
    named = sa.tuple_(events.c.account, events.c.ref_type, events.c.ref_id).in_(_named(refs))
    rows = await db.execute(sa.select(events.c.delivery_id).distinct().where(named))
    await db.execute(sa.update(events).where(named).values(error=sa.null()))
    return list(rows.scalars())


async def empty(db: AsyncConnection, ids: Collection[int]) -> int:
    """Empty those of these deliveries in which everything is done; how many."""
    unread = sa.exists().where(events.c.delivery_id == deliveries.c.id, events.c.state == "pending")
    done = await db.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_(ids), deliveries.c.body != b"", ~unread)
        .where(deliveries.c.state != "pending")
        .values(body=b"", headers={}, error={"cause": "purged"})
        .returning(deliveries.c.id)
    )
    return len(done.all())


_SCRUB = sa.text(
    """
    update deliveries d set body = '', headers = '{}', error = '{"cause": "purged"}'
    where d.id = any(:ids) and d.body <> '' and exists (
        select from events e join links l on l.account = e.account and l.type = e.ref_type
            and l.remote_id = e.ref_id
        join records r on r.id = l.record_id and r.state = 'purged'
        where e.delivery_id = d.id)
      and not exists (
        select from events e where e.delivery_id = d.id and e.state = 'pending')
    returning d.id
    """
)


async def scrub(db: AsyncConnection, ids: Collection[int]) -> int:
    """Empty those of these deliveries that name somebody purged, once all in them is done.

    They may name others too, whose events have been dealt with: a delivery is kept whole or
    not at all, for its bytes are what the sender signed.
    """
    done = await db.execute(_SCRUB, {"ids": sorted(ids)})
    return len(done.all())
