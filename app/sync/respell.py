"""What an account was told in words of its own, told anew once there are better words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import links, outbox, records
from app.db.links import Link
from app.domain.bylines import told_by
from app.domain.decide import writable
from app.domain.draft import outdated
from app.domain.mapping import tailored
from app.domain.state import RecordState, State

#: How many links are looked at in one go.
_PAGE = 500


async def respell(db: AsyncConnection, account: str, states: Sequence[State]) -> int:
    """Mark the records that would be told otherwise today; how many."""
    count = 0
    for state in states:
        after: int | None = 0
        while after is not None:
            page = await links.spelled(db, account, state.entity, after=after, limit=_PAGE)
            found = await records.get(db, [link.record_id for link in page])
            behind = {
                (account, record.id): record
                for link in page
                if (record := found.get(link.record_id)) is not None
                and record.state == "live"
                and _is_outdated(state, link, record)
            }
            await outbox.tell_anew(db, behind)
            count += len(behind)
            after = page[-1].id if len(page) == _PAGE else None
    return count


def _is_outdated(state: State, link: Link, record: RecordState) -> bool:
    account = link.ref.account
    context = replace(state.context, current=link.base, via=told_by(record.stamps, account))
    names = writable(state, account, link.base)
    ours = tailored(state.mapping, record.fields)
    return bool(outdated(state.mapping, names, ours, link.base, link.sent, context))
