"""Identity by hand over HTTP: what is asked, what is answered, and how it says no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.db import conflicts, journal, links, records
from app.db.engine import Database
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.merge import Take
from app.domain.state import RecordState
from app.domain.unread import Unread
from app.domain.values import Key, Ref

HUB = Ref("hubspot", "contacts", "1")


async def make(database: Database, *refs: Ref, **fields: Any) -> UUID:
    made = RecordState(uuid4(), "person", fields, version=1)
    async with database.transaction() as db:
        await records.add(db, [made], source="close")
        await records.claim(db, "person", {made.id: [Key("email", fields["email"])]})
        await links.add(db, [Link.new(made.id, "person", ref, fields, {}, None) for ref in refs])
    return made.id


@pytest.fixture
async def ada(database: Database) -> UUID:
    contact = Ref("close", "contact", "cont_1")
    return await make(database, contact, HUB, email="ada@x.example", first_name="Ada")


async def test_unlinking_is_rehearsed_and_done_with_the_same_answer(
    api: httpx.AsyncClient, ada: UUID
):
    place = f"/api/records/{ada}/links/hubspot"
    rehearsed = (await api.delete(place, params={"dry_run": True})).json()
    assert rehearsed["dry_run"] is True
    done = (await api.delete(place)).json()
    assert done == {**rehearsed, "dry_run": False}
    (change,) = done["records"][0]["links"]
    assert change == {
        "ref": {"account": "hubspot", "type": "contacts", "id": "1"},
        "from": "live",
        "to": "unlinked",
    }
    shown = (await api.get(f"/api/records/{ada}")).json()
    assert [one["state"] for one in shown["links"]] == ["live", "unlinked"]
    assert shown["journal"][0]["cause"] == "person"
    why = (await api.get(f"/api/records/{ada}/why", params={"field": "links.hubspot"})).json()
    assert (
        why["sentence"]
        == "This links.hubspot was cleared by a person, because a person unlinked it."
    )


async def test_a_record_that_moved_on_is_a_409(api: httpx.AsyncClient, ada: UUID):
    answer = await api.delete(f"/api/records/{ada}/links/hubspot", params={"version": 9})
    assert answer.status_code == 409
    assert "version 1, not 9" in answer.json()["detail"]


async def test_a_split_answers_with_the_new_record(api: httpx.AsyncClient, ada: UUID):
    asked = {"refs": [{"account": "hubspot", "remote_id": "1"}]}
    answer = (await api.post(f"/api/records/{ada}/split", json=asked)).json()
    new = next(one for one in answer["records"] if one["id"] != str(ada))
    assert new["fields"]["first_name"] == {"from": None, "to": "Ada"}
    assert {"account": "close", "record_id": new["id"], "op": "create"} in answer["behind"]


async def test_a_merge_answers_with_both(api: httpx.AsyncClient, database: Database, ada: UUID):
    other = await make(database, email="king@x.example", first_name="Ada", title="CEO")
    answer = (await api.post(f"/api/records/{other}/merge", json={"into": str(ada)})).json()
    by_id = {one["id"]: one for one in answer["records"]}
    assert by_id[str(other)]["merged_into"] == str(ada)
    assert by_id[str(ada)]["fields"]["title"] == {"from": None, "to": "CEO"}
    assert by_id[str(other)]["keys_lost"] == [{"kind": "email", "value": "king@x.example"}]


@pytest.mark.parametrize(
    ("call", "asked", "status", "detail"),
    [
        ("links", {"account": "nobody", "remote_id": "1"}, 404, "no account"),
        ("links", {"account": "hubspot"}, 422, "remote_id"),
        ("links", {"account": "hubspot", "remote_id": "1", "type": "deals"}, 409, "no person"),
        ("split", {"refs": []}, 422, "refs"),
        ("split", {"refs": [{"account": "hubspot", "remote_id": "7"}]}, 409, "not linked to"),
        ("merge", {"into": str(uuid4())}, 404, "no record"),
        ("merge", {"into": "x"}, 422, "into"),
    ],
)
async def test_what_cannot_be_done_is_said(
    api: httpx.AsyncClient, ada: UUID, call: str, asked: Any, status: int, detail: str
):
    answer = await api.post(f"/api/records/{ada}/{call}", json=asked)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


async def test_a_crm_that_is_away_cannot_be_looked_at(api: httpx.AsyncClient, ada: UUID):
    asked = {"account": "hubspot", "remote_id": "2"}
    answer = await api.post(f"/api/records/{ada}/links", json=asked)
    assert answer.status_code in (502, 503)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ({}, "say exactly one of account, value, link, new, keep, merge, unlink, delete"),
        ({"new": True, "merge": True}, "say exactly one of"),
        ({"link": None}, "link must not be null"),
        ({"merge": False}, "merge"),
        ({"link": "x"}, "link"),
    ],
)
async def test_a_word_is_checked_before_anything_else(
    api: httpx.AsyncClient, word: Any, reason: str
):
    answer = await api.post("/api/conflicts/1/resolve", json=word)
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]


async def test_an_identity_card_shows_its_sides_and_is_settled_by_a_word(
    api: httpx.AsyncClient, database: Database, ada: UUID
):
    other = await make(
        database, Ref("close", "contact", "cont_2"), email="king@x.example", first_name="Ada"
    )
    async with database.transaction() as db:
        ref = Ref("close", "contact", "cont_2")
        await conflicts.unsure(db, "person", ref, [ada], "why not", {}, record_id=other)
    (card,) = (await api.get("/api/conflicts")).json()["items"]
    assert [side["record_id"] for side in card["sides"]] == [str(other), str(ada)]
    assert card["sides"][1]["agrees"] == ["first_name"]
    assert card["sides"][1]["differs"] == ["email"]
    place = f"/api/conflicts/{card['id']}/resolve"
    refused = await api.post(place, json={"unlink": True})
    assert refused.status_code == 409
    assert "settled by link or new" in refused.json()["detail"]
    assert (await api.post(place, json={"value": 1})).status_code == 409
    rehearsed = (await api.post(place, json={"link": str(ada), "dry_run": True})).json()
    assert (rehearsed["state"], rehearsed["report"]["dry_run"]) == ("open", True)
    done = (await api.post(place, json={"link": str(ada)})).json()
    assert done["settled"] == {"by": "person", "link": str(ada)}
    assert (await api.post(place, json={"new": True})).status_code == 409
    shown = (await api.get(f"/api/records/{other}")).json()
    assert (shown["state"], shown["merged_into"]) == ("merged", str(ada))


async def test_an_option_that_nothing_names_settles_by_the_configuration_alone(
    api: httpx.AsyncClient, database: Database, ada: UUID
):
    async with database.transaction() as db:
        record = (await records.get(db, [ada]))[ada]
        ref = Ref("hubspot", "contacts", "9")
        await conflicts.cannot_read(db, record, ref, Unread("title", "CHIEF", "title"))
    (card,) = (await api.get("/api/conflicts", params={"kind": "word"})).json()["items"]
    assert (card["field"], card["theirs"]) == ("title", "CHIEF")
    for word in ({"value": "Chief"}, {"new": True}, {"delete": True}):
        refused = await api.post(f"/api/conflicts/{card['id']}/resolve", json=word)
        assert refused.status_code == 409
        assert "name the option in the configuration" in refused.json()["detail"]


async def test_a_value_that_lost_is_restored_and_travels(
    api: httpx.AsyncClient, database: Database, ada: UUID
):
    lost = Take("title", "from hubspot", "from close", "close wins conflicts", "from hubspot")
    async with database.transaction() as db:
        (ours,) = (await records.get(db, [ada])).values()
        changed = replace(ours, fields={**ours.fields, "title": "from close"}, version=2)
        await records.change(db, [changed], source="close")
        await journal.write(db, [Entry(ada, 2, "close", Cause("event", "1"), [lost])])
    (row, *_) = (await api.get(f"/api/records/{ada}")).json()["journal"]

    place, asked = f"/api/records/{ada}/restore", {"journal": row["id"]}
    rehearsed = (await api.post(place, json={**asked, "dry_run": True})).json()
    done = (await api.post(place, json=asked)).json()

    assert done == {**rehearsed, "dry_run": False}
    assert done["records"][0]["fields"] == {"title": {"from": "from close", "to": "from hubspot"}}
    assert {write["account"] for write in done["behind"]} == {"close", "hubspot"}
    shown = (await api.get(f"/api/records/{ada}")).json()
    assert shown["fields"]["title"] == "from hubspot"
    assert (shown["journal"][0]["rule"], shown["journal"][0]["lost"]) == (
        "a person restored it",
        "from close",
    )


async def test_only_a_value_of_this_record_is_restored(api: httpx.AsyncClient, ada: UUID):
    answer = await api.post(f"/api/records/{ada}/restore", json={"journal": 999})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "the record has no row 999 in its journal.",
    )
    await api.delete(f"/api/records/{ada}/links/hubspot")
    (row, *_) = (await api.get(f"/api/records/{ada}")).json()["journal"]
    answer = await api.post(f"/api/records/{ada}/restore", json={"journal": row["id"]})
    assert answer.status_code == 409
    assert "link and unlink" in answer.json()["detail"]
