"""What was deleted where, as the API shows it, and how a person brings it back."""

from __future__ import annotations

from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.db import conflicts, links, purges, records
from app.db.accounts import Box
from app.db.engine import Database
from app.db.links import Link
from app.domain.state import RecordState
from app.domain.values import Ref


@pytest.fixture
async def ada(database: Database) -> UUID:
    """Somebody who lives in HubSpot and was deleted in Close."""
    ada = RecordState(uuid4(), "person", {"first_name": "Ada"}, version=1)
    gone, left = Ref("close", "contact", "cont_1"), Ref("hubspot", "contacts", "1")
    async with database.transaction() as db:
        await records.add(db, [ada], source="close")
        await links.add(db, [Link.new(ada.id, "person", ref, {}, {}, None) for ref in (gone, left)])
        await links.end(db, [gone], "deleted")
    return ada.id


async def test_deletes_are_listed_with_who_still_has_the_record(ada: UUID, api: httpx.AsyncClient):
    (row,) = (await api.get("/api/deletes")).json()["items"]
    assert row["record_id"] == str(ada)
    assert (row["account"], row["remote_id"], row["ended"]) == ("close", "cont_1", "deleted")
    assert row["left"] == ["hubspot"]
    assert row["ended_at"] is not None


@pytest.mark.parametrize("query", ["account=hubspot", "entity=deal", "ended=merged"])
async def test_the_list_of_deletes_can_be_narrowed(ada: UUID, api: httpx.AsyncClient, query: str):
    assert (await api.get(f"/api/deletes?{query}")).json()["items"] == []


async def test_what_was_deleted_is_made_anew_on_a_persons_word(
    ada: UUID, api: httpx.AsyncClient, database: Database
):
    wanted = f"/api/records/{ada}/recreate"
    assert (await api.post(wanted, json={"account": "hubspot"})).status_code == 409
    assert (await api.post(wanted, json={"account": "nobody"})).status_code == 404
    assert (await api.post(wanted, json={"account": "close"})).status_code == 202
    async with database.transaction() as db:
        marked = await db.execute(sa.text("select account, record_id from outbox"))
        assert [tuple(row) for row in marked] == [("close", ada)]


async def test_nobody_is_made_anew_who_was_never_there(api: httpx.AsyncClient):
    answer = await api.post(f"/api/records/{uuid4()}/recreate", json={"account": "close"})
    assert answer.status_code == 404


async def test_a_person_is_forgotten_on_a_persons_word(
    ada: UUID, api: httpx.AsyncClient, database: Database
):
    answer = await api.post(f"/api/records/{ada}/purge", json={})
    assert answer.json() == {"record_id": str(ada), "deliveries": 0, "deleting": []}
    shown = (await api.get(f"/api/records/{ada}")).json()
    assert (shown["state"], shown["fields"]) == ("purged", {})
    assert (await api.post(f"/api/records/{ada}/purge", json={})).status_code == 409
    assert (await api.post(f"/api/records/{uuid4()}/purge", json={})).status_code == 404


async def test_a_person_is_erased_in_the_crms_where_that_is_wanted(
    ada: UUID, api: httpx.AsyncClient
):
    answer = await api.post(f"/api/records/{ada}/purge", json={"propagate": True})
    assert answer.json()["deleting"] == ["hubspot"]


async def test_who_was_purged_can_be_let_in_again(database: Database, api: httpx.AsyncClient):
    who = RecordState(uuid4(), "person", {"email": "Ada@x.example"}, version=1)
    async with database.transaction() as db:
        await records.add(db, [who], source="close")
    await api.post(f"/api/records/{who.id}/purge", json={})
    readmit = "/api/readmissions"
    assert (await api.post(readmit, json={"email": "bob@x.example"})).json() == {"removed": 0}
    assert (await api.post(readmit, json={"email": "ada@X.example"})).json() == {"removed": 1}
    assert (await api.post(readmit, json={"email": "ada@x.example"})).json() == {"removed": 0}


async def test_the_pepper_of_the_purged_survives_a_rotation_of_keys(database: Database):
    old, new = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
    async with database.transaction() as db:
        before = await purges.pepper(db, Box([old]), make=True)
        await purges.reseal(db, Box([new, old]))
        assert await purges.pepper(db, Box([new])) == before


@pytest.mark.parametrize("call", ["delete", "resolve"])
@pytest.mark.parametrize("delete", [True, False])
async def test_a_delete_that_was_not_carried_over_is_decided_by_a_person(
    ada: UUID, api: httpx.AsyncClient, database: Database, delete: bool, call: str
):
    async with database.transaction() as db:
        ref = Ref("hubspot", "contacts", "1")
        await conflicts.kept(db, "person", ada, ref, "it was edited since", ["title"])
        card = (await db.execute(sa.text("select id from conflicts"))).scalar_one()
    word = f"/api/conflicts/{card}/{call}"
    assert (await api.post(word, json={"delete": delete})).json()["state"] == "settled"
    assert (await api.post(word, json={"delete": delete})).status_code == 409
    assert (await api.post(f"/api/conflicts/999/{call}", json={"delete": True})).status_code == 404
    async with database.transaction() as db:
        state = (await records.get(db, [ada]))[ada].state
        marked = (await db.execute(sa.text("select count(*) from outbox"))).scalar_one()
    assert (state, marked) == (("gone", 1) if delete else ("live", 0))
