"""Dead letters: however many there are, one word brings them back."""

from __future__ import annotations

import sqlalchemy as sa

from app.db import dead_letters
from app.db.engine import Database

#: More than a statement of PostgreSQL has parameters.
MANY = 40_000


async def test_more_letters_than_a_statement_has_parameters_go_back_at_once(database: Database):
    made = f"""
        with made as (
            insert into records (id, entity, hash, source)
            select gen_random_uuid(), 'person', '', 'close'
            from generate_series(1, {MANY}) returning id)
        insert into outbox (account, record_id, entity, wanted, state, attempts, error)
        select 'hubspot', id, 'person', 1, 'dead', 1, '{{"cause": "RejectedError: email"}}'
        from made
    """
    async with database.transaction() as db:
        await db.execute(sa.text(made))
    async with database.transaction() as db:
        assert len(await dead_letters.replay(db)) == MANY
    async with database.transaction() as db:
        assert await dead_letters.causes(db) == []
