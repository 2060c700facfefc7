"""An account that joins later: a scan finds what it never had, and nothing that it has lost."""

from __future__ import annotations

import sqlalchemy as sa

from app.db import links, records
from app.db.journal import Cause
from app.db.tables import attempts
from app.domain.values import Observation
from app.sync.reconcile import known, reconcile
from app.sync.world import Seen
from tests.sync.conftest import Company, contact, hub_contact

HERE = {("hubspot", "person"): 1}


async def scan(company: Company, *observations: Observation) -> None:
    """Go through what is there, as a resync does."""
    _, at = await known(company.house, [])
    cause = Cause("resync", "1", "resync:1")
    await reconcile(company.house, [Seen(o, cause, at, at) for o in observations], scan=True)


async def test_a_scan_marks_who_never_had_a_record_and_nobody_else(company: Company):
    await company.see(contact())
    await company.clear()  # as if hubspot had not been there yet
    await company.see(contact(minute=1))
    assert await company.marks() == {}  # live traffic has no time to ask
    await scan(company, contact(minute=2))
    assert await company.marks() == HERE


async def test_who_has_it_gets_nothing(company: Company):
    await company.see(contact())
    await company.see(hub_contact(firstname="Ada", lastname="Lovelace", email="ada@x.example"))
    await company.clear()
    await scan(company, contact(minute=2))
    assert await company.marks() == {}


async def test_what_was_deleted_or_unlinked_there_is_not_made_again(company: Company):
    for state in ("gone", "unlinked"):
        ada = hub_contact(firstname="Ada", lastname="Lovelace", email="ada@x.example")
        await company.see(contact())
        await company.see(ada)
        async with company.db.transaction() as db:
            await links.set_state(db, [ada.ref], state)
        await company.clear()
        await scan(company, contact(minute=2))
        assert await company.marks() == {}


async def test_what_a_person_discarded_is_not_made_again(company: Company):
    await company.see(contact())
    record = await company.record_of(contact().ref)
    await company.clear()
    async with company.db.transaction() as db:
        row = {"account": "hubspot", "record_id": record.id, "trace": "t", "op": "create"}
        dropped = {**row, "ref_type": "contacts", "outcome": "discarded"}
        await db.execute(sa.insert(attempts).values(**dropped))
    await scan(company, contact(minute=2))
    assert await company.marks() == {}


async def test_a_container_is_no_company_to_be_made(company: Company):
    await company.see(contact())
    record = await company.record_of(contact().ref)
    await company.clear()
    async with company.db.transaction() as db:
        await db.execute(
            sa.text("update records set container = true where id = :id"), {"id": record.id}
        )
        assert (await records.get(db, [record.id]))[record.id].container
    await scan(company, contact(minute=2))
    assert await company.marks() == {}
