"""Why a field is what it is, in words; and a person's word on a conflict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.db import conflicts, guards, journal, links, outbox, records
from app.db.engine import Database
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.codecs import ABSENT
from app.domain.merge import Clash, Take, Winner
from app.domain.state import RecordState
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


# ------------------------------------------------------------------- how the accounts stand


async def standing(api: httpx.AsyncClient, person: UUID, field: str = "phone") -> dict[str, Any]:
    """(state, sentence) of each account."""
    answer = await api.get(f"/api/records/{person}/why", params={"field": field})
    assert answer.status_code == 200
    return {one["account"]: (one["state"], one["sentence"]) for one in answer.json()["accounts"]}


async def change(database: Database, person: UUID, **fields: Any) -> RecordState:
    """Our record moves on, and HubSpot is behind."""
    async with database.transaction() as db:
        record = (await records.get(db, [person]))[person]
        moved = replace(record, fields={**record.fields, **fields}, version=record.version + 1)
        await records.change(db, [moved], source="close")
        await outbox.mark(db, {("hubspot", person): moved})
    return moved


async def test_why_says_of_each_account_whether_it_shows_the_same(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    found = await standing(api, person)
    assert found["close"] == ("same", "close shows the same.")
    assert found["second"][0] == "missing"
    await change(database, person, phone=NEW)
    state, sentence = (await standing(api, person))["hubspot"]
    assert state == "waiting"
    assert f'hubspot gets this phone (it shows "{OLD}") any moment' in sentence


async def test_why_says_what_keeps_a_value_from_an_account(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    await change(database, person, phone=NEW)
    async with database.transaction() as db:
        (mark,) = await outbox.take(db, "hubspot", limit=1)
        await guards.hold(db, [mark], "update", {"reason": "more than 5 updates in an hour"})
    state, sentence = (await standing(api, person))["hubspot"]
    assert (state, sentence[:30]) == ("waiting", "The guard of hubspot holds thi")

    async with database.transaction() as db:
        await guards.discard(db, "hubspot", ["update"], types={}, reason="a person said so")
    state, sentence = (await standing(api, person))["hubspot"]
    assert (state, "A person discarded this update" in sentence) == ("differs", True)

    await change(database, person, phone=NEW)
    async with database.transaction() as db:
        (mark,) = await outbox.take(db, "hubspot", limit=1)
        refusal = {"reason": "HubSpot says no", "next_step": "correct the value"}
        await outbox.bury(db, mark, refusal)
    state, sentence = (await standing(api, person))["hubspot"]
    assert (state, sentence) == (
        "refused",
        f'hubspot does not have this phone (it shows "{OLD}"): HubSpot says no. '
        "Next: correct the value.",
    )


async def test_why_says_that_a_field_is_held_with_both_values(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    clash = Clash("phone", OLD, NEW, Winner.NOBODY, "held for a person (review)")
    async with database.transaction() as db:
        await conflicts.hold_field(db, person, "person", HUBSPOT, clash)
    answer = (await api.get(f"/api/records/{person}/why", params={"field": "phone"})).json()
    assert answer["sentence"].startswith("This phone is held for a person since ")
    assert f'we keep "{OLD}", hubspot shows "{NEW}"' in answer["sentence"]
    assert (await standing(api, person))["hubspot"][0] == "held"


async def test_why_of_a_field_that_nobody_ever_filled_or_that_has_no_place(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    answer = (await api.get(f"/api/records/{person}/why", params={"field": "title"})).json()
    assert answer["sentence"] == "Nobody has ever said anything of this title."
    await change(database, person, **{"custom.shoe": 42})
    assert (await standing(api, person, "custom.shoe"))["hubspot"] == (
        "not_carried",
        "hubspot has no place for it: its mapping does not name custom.shoe.",
    )


async def test_why_says_that_a_value_won_over_a_cleared_one(
    api: httpx.AsyncClient, database: Database, person: UUID
):
    took = Take("phone", None, NEW, "close wins conflicts", lost=None)
    await tell(database, person, "close", Cause("push", "close"), takes=[took])
    assert await sentences(api, person) == [
        "This phone came from close, seen when we wrote there, because close wins conflicts, "
        "over our nothing."
    ]
