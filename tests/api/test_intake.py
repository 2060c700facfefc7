"""A company and its people from a script: recognised, merged, explained; once for each key."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from app.db.engine import Database

COMPANY = {
    "name": "Difference Ltd",
    "website": "https://www.difference.example",
    "employees": 0,
    "address": {"street": "1 Dorset St", "city": "London"},
}
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "Ada@Difference.example"}


async def send(api: httpx.AsyncClient, body: dict[str, Any], key: str | None = None):
    headers = {"idempotency-key": key or uuid4().hex}
    return await api.post("/api/records", json=body, headers=headers)


async def fields(api: httpx.AsyncClient, answer: httpx.Response, n: int = 0) -> dict[str, Any]:
    assert answer.is_success, answer.text
    record = answer.json()["records"][n]["record_id"]
    return dict((await api.get(f"/api/records/{record}")).json()["fields"])


async def test_a_company_with_its_people_is_taken_in_and_goes_to_every_account(
    api: httpx.AsyncClient,
):
    asked = {"company": COMPANY, "contacts": [ADA], "tier": "A", "source": "enrichment"}
    answer = await send(api, asked)
    assert answer.status_code == 202, answer.text
    company, ada = answer.json()["records"]
    assert (company["result"], ada["result"]) == ("created", "created")
    known = await fields(api, answer)
    assert known["domain"] == "difference.example"
    assert (known["employees"], known["custom.tier"]) == (0, "A")
    assert known["custom.source"] == "enrichment"
    person = await fields(api, answer, 1)
    assert person["email"] == "ada@difference.example"
    assert person["company"] == company["record_id"]
    assert company["untold"] == ["custom.source", "custom.tier"]
    writes = {(w["op"], w["account"], w["entity"]) for w in answer.json()["writes"]}
    assert writes == {
        ("create", account, entity)
        for account in ("close", "hubspot", "second")
        for entity in ("company", "person")
    }
    shown = (await api.get(f"/api/records/{ada['record_id']}")).json()
    assert shown["source"] == "SYNCLINE_API_TOKEN"
    why = await api.get(f"/api/records/{ada['record_id']}/why", params={"field": "email"})
    assert "SYNCLINE_API_TOKEN, intake" in why.json()["sentence"]


async def test_a_repeat_is_answered_as_the_first_was(api: httpx.AsyncClient):
    asked = {"company": COMPANY}
    first = await send(api, asked, "one")
    again = await send(api, {"company": dict(reversed(COMPANY.items()))}, "one")
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await send(api, {"company": {**COMPANY, "name": "Other"}}, "one")
    assert other.status_code == 422
    assert "another body" in other.json()["detail"]


async def test_repeats_at_the_same_time_make_one(api: httpx.AsyncClient, database: Database):
    asked = {"company": COMPANY, "contacts": [ADA]}
    answers = await asyncio.gather(*(send(api, asked, "at-once") for _ in range(8)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1
    records = (await api.get("/api/records")).json()["items"]
    assert sorted(r["entity"] for r in records) == ["company", "person"]


async def test_many_keys_at_the_same_time_make_one_company(api: httpx.AsyncClient):
    bodies = [
        {"company": COMPANY, "contacts": [{"email": f"p{n}@difference.example"}]} for n in range(6)
    ]
    answers = await asyncio.gather(*(send(api, body) for body in bodies))
    assert all(a.is_success for a in answers), [a.text for a in answers]
    assert len({a.json()["records"][0]["record_id"] for a in answers}) == 1


async def test_without_a_key_nothing_is_taken_in(api: httpx.AsyncClient):
    answer = await api.post("/api/records", json={"company": COMPANY})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]
    assert (await api.get("/api/records")).json()["items"] == []


async def test_a_rehearsal_tells_the_same_and_keeps_nothing(api: httpx.AsyncClient):
    asked = {"company": COMPANY, "contacts": [ADA]}
    rehearsed = await api.post("/api/records", json={**asked, "dry_run": True})
    assert rehearsed.status_code == 200
    assert (await api.get("/api/records")).json()["items"] == []
    done = (await send(api, asked)).json()

    def told(answer: dict[str, Any]) -> list[Any]:
        rows = [{n: v for n, v in r.items() if n != "record_id"} for r in answer["records"]]
        for row in rows:
            for relation in ("company", "companies"):
                row["fields"].pop(relation, None)
        return rows

    assert told(done) == told(rehearsed.json())


async def test_what_is_not_said_stays_and_null_clears(api: httpx.AsyncClient):
    first = await send(api, {"company": {**COMPANY, "industry": "Engines"}})
    await send(api, {"company": {"domain": "difference.example", "industry": None}})
    known = await fields(api, first)
    assert (known["industry"], known["name"], known["employees"]) == (None, "Difference Ltd", 0)


async def test_what_is_said_again_undoes_nobodys_edit(api: httpx.AsyncClient, database: Database):
    asked = {"company": {**COMPANY, "industry": "Engines"}}
    record = (await send(api, asked)).json()["records"][0]["record_id"]
    rows = (await api.get(f"/api/records/{record}")).json()["journal"]
    assert rows
    other = {"authorization": f"Bearer {await token(api, 'other')}", "idempotency-key": "x"}
    edit = {"company": {"domain": "difference.example", "industry": "Computing"}}
    assert (await api.post("/api/records", json=edit, headers=other)).status_code == 202
    again = await send(api, asked)
    assert (again.status_code, again.json()["records"][0]["result"]) == (200, "unchanged")
    assert (await fields(api, again))["industry"] == "Computing"


async def token(api: httpx.AsyncClient, name: str, scope: str = "operate") -> str:
    answer = await api.post("/api/tokens", json={"name": name, "scope": scope})
    assert answer.is_success, answer.text
    return str(answer.json()["token"])


async def test_whoever_may_only_look_is_refused(api: httpx.AsyncClient):
    headers = {
        "authorization": f"Bearer {await token(api, 'eyes', 'read')}",
        "idempotency-key": "x",
    }
    answer = await api.post("/api/records", json={"company": COMPANY}, headers=headers)
    assert answer.status_code == 403


async def test_a_token_that_is_called_as_an_account_is_not_that_account(api: httpx.AsyncClient):
    headers = {"authorization": f"Bearer {await token(api, 'close')}", "idempotency-key": "x"}
    answer = await api.post("/api/records", json={"company": COMPANY}, headers=headers)
    assert answer.json()["source"] == "token:close"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "company, or contacts"),
        ({"company": {"name": "Nameless"}}, 409, "nothing to be recognised by (domain)"),
        ({"contacts": [{"first_name": "A"}]}, 409, "contacts[0]: it has nothing to be recognised"),
        ({"company": {"domain": "x.example", "colour": "red"}}, 422, "colour"),
        ({"company": {"domain": "a\x00.example"}}, 422, "NUL"),
        ({"company": {"record_id": str(uuid4()), "name": "X"}}, 409, "there is no company"),
        ({"contacts": [{"email": "a@b.example"}], "tier": "A"}, 422, "those of a company"),
    ],
)
async def test_what_cannot_be_taken_in_is_refused_whole(
    api: httpx.AsyncClient, body: dict[str, Any], status: int, said: str
):
    answer = await send(api, body)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert (await api.get("/api/records")).json()["items"] == []


async def test_whom_it_is_about_must_be_certain(api: httpx.AsyncClient):
    await send(api, {"contacts": [{"email": "a@x.example"}]})
    await send(api, {"contacts": [{"email": "b@x.example"}]})
    both = {"email": "a@x.example", "emails": ["b@x.example"], "title": "CEO"}
    answer = await send(api, {"company": COMPANY, "contacts": [both]}, "both")
    assert answer.status_code == 409
    assert answer.json()["place"] == "contacts[0]"
    assert len(answer.json()["candidates"]) == 2
    assert len((await api.get("/api/records")).json()["items"]) == 2
    # The key is free: nothing was taken in under it.
    named = {"record_id": answer.json()["candidates"][0], "title": "CEO"}
    told = await send(api, {"company": COMPANY, "contacts": [named]}, "both")
    assert told.status_code == 202
    assert (await fields(api, told, 1))["title"] == "CEO"


async def test_of_who_is_purged_no_intake_keeps_anything(
    api: httpx.AsyncClient, database: Database
):
    answer = await send(api, {"company": COMPANY, "contacts": [ADA]}, "one")
    ada = answer.json()["records"][1]["record_id"]
    assert (await api.post(f"/api/records/{ada}/purge", json={})).is_success
    async with database.transaction() as db:
        for table in ("intakes", "intake_bases"):
            rows = (await db.execute(sa.text(f"select {table}::text from {table}"))).scalars()
            assert not [row for row in rows if "lovelace" in row.lower()]
    again = await send(api, {"contacts": [ADA]})
    assert (again.status_code, "purged" in again.json()["detail"]) == (409, True)
