"""Cards for a person, as the database keeps them."""

from __future__ import annotations

import sqlalchemy as sa

from app.db import conflicts
from app.db.engine import Database
from app.domain.values import Ref


async def test_many_cards_open_on_one_connection(database: Database):
    """After five times PostgreSQL plans a prepared statement for any parameters: it must still
    see by which index an open card is known.
    """
    async with database.transaction() as db:
        for number in range(12):
            ref = Ref("close", "contact", f"cont_{number // 2}")
            await conflicts.unsure(db, "person", ref, (), "who is it?", {})
        found = await db.execute(sa.text("select count(*) from conflicts"))
        assert found.scalar_one() == 6
