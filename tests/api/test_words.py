"""Why a field is what it is, in words; and a person's word on a conflict."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.db import conflicts, journal, links, records
from app.db.engine import Database
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.codecs import ABSENT
from app.domain.decide import RecordState
from app.domain.merge import Clash, Take, Winner
from app.domain.values import Ref

OLD, NEW = "+14155550100", "+14155550199"
HUBSPOT = Ref("hubspot", "contacts", "33451")


@pytest.fixture
async def person(database: Database) -> UUID:
    """A person with a phone, known to Close and HubSpot."""
    record = RecordState(uuid4(), "person", {"first_name": "Ada", "phone": OLD}, version=1)
    async with database.transaction() as db:
        await records.add(db, [record], source="close")
        refs = (Ref("close", "contact", "cont_1"), HUBSPOT)
        await links.add(
            db, [Link.new(record.id, "person", ref, record.fields, {}, None) for ref in refs]
        )
    return record.id


async def tell(database: Database, person: UUID, account: str, cause: Cause, **what: Any) -> None:
    async with database.transaction() as db:
        await journal.write(db, [Entry(person, 1, account, cause, **what)])


async def sentences(api: httpx.AsyncClient, person: UUID) -> list[str]:
    answer = await api.get(f"/api/records/{person}/why", params={"field": "phone"})
    assert answer.status_code == 200
    found = answer.json()
    told = [step["sentence"] for step in found["journal"]]
    assert found["sentence"] == told[0]
    return told


async def test_why_says_who_why_and_over_whom(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    first, second = Cause("event", "310"), Cause("event", "311")
    seen = Take("phone", ABSENT, OLD, "first seen")
    took = Take("phone", OLD, NEW, "the latest edit wins", lost=OLD)
    await tell(database, person, "close", first, takes=[seen])
    await tell(database, person, "hubspot", second, takes=[took])
    assert await sentences(api, person) == [
        "This phone came from hubspot, event 311, because the latest edit wins, over close's "
        f'"{OLD}".',
        "This phone came from close, event 310, because it was first seen there.",
    ]


async def test_why_names_a_value_that_lost_and_a_person_who_decided(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    clash = Clash("phone", OLD, NEW, Winner.OURS, "close wins conflicts")
    await tell(database, person, "hubspot", Cause("event", "5"), clashes=[clash])
    cleared = Take("phone", OLD, None, "a person decided")
    await tell(database, person, "person", Cause("person"), takes=[cleared])
    assert await sentences(api, person) == [
        "This phone was cleared by a person, because a person decided.",
        f'This phone "{OLD}" stayed though "{NEW}" was offered by hubspot, event 5, because '
        "close wins conflicts.",
    ]


async def test_why_of_a_field_that_never_was_is_a_404(api: httpx.AsyncClient, person: UUID):
    answer = await api.get(f"/api/records/{person}/why", params={"field": "shoe_size"})
    assert answer.status_code == 404


async def test_a_persons_word_settles_a_conflict_once(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    clash = Clash("phone", OLD, NEW, Winner.NOBODY, "held for a person (review)")
    async with database.transaction() as db:
        await conflicts.hold_field(db, person, "person", HUBSPOT, clash)
    (card,) = (await api.get("/api/conflicts")).json()["items"]
    assert (card["field"], card["ours"], card["theirs"]) == ("phone", OLD, NEW)
    shown = (await api.get(f"/api/records/{person}")).json()
    assert [c["id"] for c in shown["conflicts"]] == [card["id"]]

    place = f"/api/conflicts/{card['id']}/resolve"
    for word in ({}, {"account": "hubspot", "value": 1}, {"account": None}, {"else": 1}):
        assert (await api.post(place, json=word)).status_code == 422
    assert (await api.post(place, json={"account": "nobody"})).status_code == 404

    settled = await api.post(place, json={"account": "hubspot"})
    assert settled.status_code == 200
    assert settled.json()["state"] == "settled"
    assert (await api.post(place, json={"account": "close"})).status_code == 409
    shown = (await api.get(f"/api/records/{person}")).json()
    assert shown["fields"]["phone"] == NEW
    assert shown["conflicts"] == []
    assert (await api.get("/api/conflicts")).json()["items"] == []
    (row,) = (await api.get("/api/conflicts", params={"state": "settled"})).json()["items"]
    assert row["id"] == card["id"]
