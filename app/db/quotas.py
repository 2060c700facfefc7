"""The calls of each account's windows, shared by all workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database, is_away
from app.db.tables import quotas
from app.domain.windows import Kept, Standing, standing
from app.errors import TransientError
from app.sdk.quota import Sheet

_LOCK = sa.text(
    """
    select name, taken, landed, told from quotas
    where account = :account and name = any(:names) order by name for update
    """
)
# The clock is read once the rows are ours. A call that the disk forgets with a crash is told
# anew when it lands, so nobody waits for the disk.
_NOW = sa.text(
    "select extract(epoch from clock_timestamp())::float8,"
    " set_config('synchronous_commit', 'off', true)"
)
_KEEP = sa.text(
    """
    insert into quotas (account, name, taken, landed, told)
    values (:account, :name, :taken, :landed, :told)
    on conflict (account, name) do update
    set taken = excluded.taken, landed = excluded.landed, told = excluded.told, seen_at = now()
    """
).bindparams(
    sa.bindparam("taken", type_=quotas.c.taken.type),
    sa.bindparam("landed", type_=quotas.c.landed.type),
    sa.bindparam("told", type_=quotas.c.told.type),
)


class Ledger:
    """Where the windows of one account are kept."""

    def __init__(self, database: Database, account: str) -> None:
        self._database = database
        self._account = account
        self._known: set[str] = set()

    @asynccontextmanager
    async def open(self, names: Sequence[str]) -> AsyncIterator[Sheet]:
        """These windows, locked until the end of the block; what the sheet holds then is kept.

        Raises TransientError while the database is away: nobody may call on a guess.
        """
        try:
            async with self._database.transaction() as db:
                await self._begin(db, names)
                found = await db.execute(_LOCK, {"account": self._account, "names": list(names)})
                kept = {row.name: Kept(row.taken, row.landed, row.told) for row in found}
                ((now, _),) = await db.execute(_NOW)
                sheet = Sheet(now, kept)
                yield sheet
                await db.execute(
                    _KEEP,
                    [
                        {
                            "account": self._account,
                            "name": name,
                            "taken": list(row.taken),
                            "landed": list(row.landed),
                            "told": row.told,
                        }
                        for name, row in sorted(sheet.rows.items())
                    ],
                )
        except Exception as error:
            if is_away(error):
                raise TransientError(f"the quota of {self._account} cannot be asked") from error
            raise

    async def _begin(self, db: AsyncConnection, names: Sequence[str]) -> None:
        """A window has its row before anybody locks it."""
        for name in sorted(set(names) - self._known):
            blank = {"account": self._account, "name": name, "taken": [], "landed": [], "told": {}}
            await db.execute(
                sa.dialects.postgresql.insert(quotas).values(blank).on_conflict_do_nothing()
            )
            self._known.add(name)


async def stand(db: AsyncConnection) -> list[tuple[str, Standing]]:
    """Every account's windows that were used within a day, and its day."""
    now = sa.cast(sa.extract("epoch", sa.func.now()), sa.Double).label("now")
    found = await db.execute(
        sa.select(quotas, now)
        .where(quotas.c.seen_at > sa.text("now() - interval '1 day'"), quotas.c.told != {})
        .order_by(quotas.c.account, quotas.c.name)
    )
    return [
        (row.account, standing(row.name, Kept(row.taken, row.landed, row.told), row.now))
        for row in found
    ]
