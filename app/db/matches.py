"""Matching reports: what a dry run found of each remote record, and what it adds up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database
from app.db.pages import Row, rows
from app.db.tables import matches, resyncs

#: Rows of each verdict that a report shows.
SAMPLES = 5
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Match:
    """One remote record as it stands against one other account.

    ``verdict`` is ``linked`` (already), ``matched`` (by ``key``), ``new`` (would be created
    there), ``unsure`` (a person decides) or ``stays`` (would not be created there).
    """

    entity: str
    account: str
    remote_id: str
    name: str | None
    verdict: str
    other: str | None = None
    other_id: str | None = None
    other_name: str | None = None
    record_id: UUID | None = None
    key: str | None = None
    reason: str | None = None
    keys: Sequence[str] = ()
    candidates: Sequence[Mapping[str, Any]] | None = None


async def add(db: AsyncConnection, resync_id: UUID, found: Sequence[Match], *, start: int) -> None:
    """Keep the rows of one page."""
    if found:
        await db.execute(
            sa.insert(matches),
            [
                {**asdict(match), "keys": list(match.keys), "resync_id": resync_id, "n": start + i}
                for i, match in enumerate(found)
            ],
        )


_TOGETHER = sa.text(
    """
    with fresh as (
        select m.resync_id, m.n, m.entity, m.account, m.other, m.remote_id, m.name, m.record_id,
               k.key
        from matches m join resyncs r on r.id = m.resync_id, unnest(m.keys) as k (key)
        where r.match_id = :match and m.verdict = 'new'
    ), met as (
        select a.resync_id, a.n, count(distinct b.remote_id) as found,
               string_agg(distinct b.remote_id, ', ') as ids, min(b.name) as name,
               min(a.key) as key,
               jsonb_agg(distinct jsonb_build_object(
                   'account', b.account, 'remote_id', b.remote_id, 'name', b.name,
                   'record_id', null)) as candidates
        from fresh a join fresh b
          on b.entity = a.entity and b.key = a.key and b.account = a.other and b.other = a.account
        group by a.resync_id, a.n
    )
    update matches m set
        verdict = case when met.found = 1 then 'matched' else 'unsure' end,
        other_id = case when met.found = 1 then met.ids end,
        other_name = case when met.found = 1 then met.name end,
        key = met.key,
        candidates = case when met.found > 1 then met.candidates end,
        reason = case when met.found > 1
            then m.other || ' has ' || met.found || ' records that could be this one: ' || met.ids
        end
    from met where m.resync_id = met.resync_id and m.n = met.n
    """
)


async def conclude(db: AsyncConnection, match_id: UUID) -> None:
    """Recognise what only the dry runs together can: records that no CRM can look up by a key.

    Called by each dry run as it ends, in the transaction that keeps its last page.
    """
    await db.execute(_TOGETHER, {"match": match_id})


async def queue(db: AsyncConnection, match_id: UUID) -> None:
    """Let the dry runs of a match end one after the other, so that the last one sees all."""
    await db.execute(
        sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"match {match_id}")))
    )


async def dry_runs(db: AsyncConnection, match_id: UUID) -> Sequence[Row]:
    """The dry runs that are judged together."""
    query = sa.select(resyncs).where(resyncs.c.match_id == match_id).order_by(resyncs.c.id)
    return await rows(db, query)


async def tallies(db: AsyncConnection, ids: Collection[UUID]) -> Sequence[Row]:
    """How many of each verdict, per entity and pair of accounts, and by which kind of key."""
    kind = sa.func.substring(matches.c.key, r"^\S+(?: \+ \S+)*")  # `company + name` is one kind
    query = (
        sa.select(
            matches.c.entity,
            matches.c.account,
            matches.c.other,
            matches.c.verdict,
            sa.case((matches.c.verdict == "matched", kind)).label("kind"),
            sa.func.count().label("count"),
        )
        .where(matches.c.resync_id.in_(set(ids)))
        .group_by(sa.text("1, 2, 3, 4, 5"))
    )
    return await rows(db, query)


async def samples(db: AsyncConnection, ids: Collection[UUID]) -> Sequence[Row]:
    """The first few rows of each verdict."""
    place = sa.func.row_number().over(
        partition_by=(
            matches.c.entity,
            matches.c.account,
            matches.c.other,
            matches.c.verdict,
        ),
        order_by=(matches.c.resync_id, matches.c.n),
    )
    ranked = (
        sa.select(matches, place.label("place"))
        .where(matches.c.resync_id.in_(set(ids)))
        .subquery("ranked")
    )
    query = (
        sa.select(ranked).where(ranked.c.place <= SAMPLES).order_by(ranked.c.resync_id, ranked.c.n)
    )
    return await rows(db, query)


_PAIRS = sa.text(
    """
    with found as (
        select entity, account || '/' || remote_id as here, other || '/' || other_id as there,
               verdict, account, other
        from matches where resync_id = any(:ids)
    ), unsure as (
        select distinct entity, here from found where verdict = 'unsure'
    ), pairs as (
        select distinct entity, least(account, other) as one, greatest(account, other) as two,
               least(here, there) as first, greatest(here, there) as second
        from found where verdict = 'matched'
    )
    select p.entity, p.one, p.two, count(*) as matched,
           count(*) filter (where exists (
               select from unsure u
               where u.entity = p.entity and u.here in (p.first, p.second)
           )) as disputed
    from pairs p group by 1, 2, 3 order by 1, 2, 3
    """
)


async def pairs(db: AsyncConnection, ids: Collection[UUID]) -> Sequence[Row]:
    """Pairs of records that nobody has linked yet, each counted once; ``disputed`` ones have an
    end that could be another record too.
    """
    return await rows(db, _PAIRS.bindparams(ids=list(ids)))


async def every(database: Database, ids: Collection[UUID]) -> AsyncIterator[Row]:
    """All rows in their order, a thousand at a time."""
    place: tuple[UUID, int] | None = None
    while True:
        query = sa.select(matches).where(matches.c.resync_id.in_(set(ids)))
        if place is not None:
            here = sa.tuple_(matches.c.resync_id, matches.c.n)
            query = query.where(here > sa.tuple_(sa.literal(place[0]), sa.literal(place[1])))
        query = query.order_by(matches.c.resync_id, matches.c.n).limit(_PAGE)
        async with database.transaction() as db:
            page = await rows(db, query)
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        place = (page[-1]["resync_id"], page[-1]["n"])
