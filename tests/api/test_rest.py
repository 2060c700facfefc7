"""The API: who may ask, what a list looks like, and how it says no."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from app.clock import now
from app.db import outbox, records
from app.db.engine import Database
from app.domain.state import RecordState
from app.domain.values import Key
from tests.api.service import Service, event, signed


def routes(service: Service) -> list[tuple[str, str]]:
    """Every call under /api, by the published schema."""
    inner: Any = service.front
    while not hasattr(inner, "openapi"):
        inner = inner.inner
    paths = inner.openapi()["paths"]
    return [(m.upper(), p) for p, calls in paths.items() for m in calls if p.startswith("/api/")]


async def test_every_call_needs_the_token(service: Service, web: httpx.AsyncClient):
    found = routes(service)
    assert len(found) > 15
    for method, path in found:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eA=="}):
            answer = await web.request(
                method, path.replace("{", "").replace("}", ""), headers=headers
            )
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"


async def test_health_and_docs_need_no_token(web: httpx.AsyncClient):
    for path in ("/health/live", "/health/ready", "/health/lanes", "/healthz", "/readyz"):
        assert (await web.get(path)).status_code == 200, path
    assert (await web.get("/docs")).status_code == 200
    assert "syncline_" in (await web.get("/metrics")).text


async def test_the_pages_of_the_api_bring_all_they_need(web: httpx.AsyncClient):
    """A browser without the internet can read them."""
    for page in ("/docs", "/redoc"):
        named = re.findall(r'(?:src|href)="([^"#]+)"', (await web.get(page)).text)
        assert named, page
        for address in named:
            assert (await web.get(address)).status_code == 200, address


async def test_the_webhook_stands_in_the_schema(web: httpx.AsyncClient):
    schema = (await web.get("/openapi.json")).json()
    assert "post" in schema["paths"]["/webhooks/{account}"]
    assert "/api/resyncs" in schema["paths"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/api/nowhere", "/api/records/7", "/api/deliveries/x"]
)
async def test_every_no_is_a_problem_document(path: str, api: httpx.AsyncClient):
    answer = await api.get(path)
    assert answer.status_code in (404, 422)
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert {"type", "title"} <= problem.keys()


async def make(database: Database, number: int) -> RecordState:
    fields = {"email": f"p{number}@x.example", "first_name": "Ada", "emails": []}
    made = RecordState(uuid4(), "person", fields, version=1)  # type: ignore[arg-type]
    async with database.transaction() as db:
        await records.add(db, [made], source="close")
        await records.claim(db, "person", {made.id: [Key("email", f"p{number}@x.example")]})
    return made


async def test_a_list_is_read_page_by_page_without_gaps_or_repeats(
    api: httpx.AsyncClient, database: Database
):
    made = {str((await make(database, n)).id) for n in range(7)}
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = (await api.get("/api/records", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == 7
    assert set(seen) == made


async def test_a_bad_cursor_is_a_400(api: httpx.AsyncClient):
    for cursor in ("nonsense", "W10", "é"):
        answer = await api.get("/api/records", params={"cursor": cursor})
        assert answer.status_code == 400, cursor


async def test_records_are_found_by_e_mail_and_by_remote_id(
    api: httpx.AsyncClient, database: Database
):
    wanted, _ = await make(database, 1), await make(database, 2)
    found = (await api.get("/api/records", params={"email": "P1@x.example"})).json()["items"]
    assert [item["id"] for item in found] == [str(wanted.id)]
    one = (await api.get(f"/api/records/{wanted.id}")).json()
    assert one["fields"]["first_name"] == "Ada"


async def test_a_resync_is_queued_shown_and_cancelled(api: httpx.AsyncClient, database: Database):
    asked = {"account": "close", "entity": "person", "dry_run": True}
    answer = await api.post("/api/resyncs", json=asked)
    assert answer.status_code == 202
    place = answer.headers["location"]
    shown = (await api.get(place)).json()
    assert (shown["state"], shown["dry_run"]) == ("queued", True)
    assert {"seen", "created", "updated", "linked", "unchanged", "held", "failed"} <= shown[
        "counts"
    ].keys()
    async with database.transaction() as db:
        due = sa.text(
            "select due_at <= now() from lanes where account = 'close' and direction = 'scan'"
        )
        assert (await db.execute(due)).scalar_one()
    assert (await api.delete(place)).status_code in (200, 204)
    assert (await api.get(place)).json()["state"] == "cancelled"
    assert (await api.delete(place)).status_code == 409


async def test_a_drift_check_is_queued_shown_and_cancelled(
    api: httpx.AsyncClient, database: Database
):
    asked = {"account": "close", "entity": "person", "repair": True}
    answer = await api.post("/api/drifts", json=asked)
    assert answer.status_code == 202
    place = answer.headers["location"]
    shown = (await api.get(place)).json()
    assert (shown["state"], shown["repair"], shown["equal"]) == ("queued", True, None)
    async with database.transaction() as db:
        due = "select due_at <= now() from lanes where account = 'close' and direction = 'scan'"
        assert (await db.execute(sa.text(due))).scalar_one()
        found = (
            "insert into differences (drift_id, n, entity, record_id, remote_id, field, ours,"
            " theirs, cause, reason) values (:id, :n, 'person', :id, 'cont_1', 'title', 'null',"
            " '\"CEO\"', :cause, 'because')"
        )
        for n, cause in enumerate(("missed_webhook", "held")):
            await db.execute(sa.text(found), {"id": shown["id"], "n": n, "cause": cause})
    (one,) = (await api.get(f"{place}/differences?cause=held")).json()["items"]
    assert (one["field"], one["ours"], one["theirs"]) == ("title", None, "CEO")
    page = (await api.get(f"{place}/differences?limit=1")).json()
    assert page["items"][0]["cause"] == "missed_webhook"
    assert page["next_cursor"]
    assert (await api.get(f"{place}/differences?cause=bad")).status_code == 422
    assert [d["id"] for d in (await api.get("/api/drifts?state=queued")).json()["items"]] == [
        shown["id"]
    ]
    assert (await api.delete(place)).json()["state"] == "cancelled"
    assert (await api.delete(place)).status_code == 409
    for wrong in ({"account": "nobody"}, {"account": "close", "entity": "ticket"}, {}):
        assert (await api.post("/api/drifts", json=wrong)).status_code in (404, 422)


@pytest.mark.parametrize(
    "asked",
    [
        {"account": "nobody"},
        {"account": "close", "entity": "ticket"},
        {},
        {"account": "close", "x": 1},
    ],
)
async def test_a_resync_of_what_is_not_there_is_refused(asked, api: httpx.AsyncClient):
    assert (await api.post("/api/resyncs", json=asked)).status_code in (400, 404, 422)


async def test_a_delivery_can_be_read_and_replayed(api: httpx.AsyncClient, database: Database):
    body = event(1)
    await api.post("/webhooks/close", content=body, headers=signed(body))
    (listed,) = (await api.get("/api/deliveries")).json()["items"]
    shown = (await api.get(f"/api/deliveries/{listed['id']}")).json()
    assert shown["body"] == body.decode()
    async with database.transaction() as db:
        await db.execute(sa.text("update deliveries set state = 'dead'"))
    answer = await api.post(f"/api/deliveries/{listed['id']}/replay")
    assert answer.status_code in (200, 202)
    assert (await api.get(f"/api/deliveries/{listed['id']}")).json()["state"] == "pending"


async def test_dead_letters_are_grouped_by_cause_and_replayed(
    api: httpx.AsyncClient, database: Database
):
    async with database.transaction() as db:
        for number in range(3):
            made = RecordState(uuid4(), "person", {"title": str(number)}, version=1)
            await records.add(db, [made], source="close")
            await outbox.mark(db, {("hubspot", made.id): made})
        for mark in await outbox.take(db, "hubspot", limit=9):
            error = {"cause": "RejectedError: email", "reason": "refused", "next_step": "mend it"}
            await outbox.bury(db, mark, error)
    found = (await api.get("/api/dead-letters")).json()
    assert [(cause["cause"], cause["count"]) for cause in found["causes"]] == [
        ("RejectedError: email", 3)
    ]
    answer = await api.post("/api/dead-letters/replay", json={"cause": "RejectedError: email"})
    assert answer.status_code in (200, 202)
    assert (await api.get("/api/dead-letters")).json()["items"] == []
    async with database.transaction() as db:
        assert len(await outbox.take(db, "hubspot", limit=9)) == 3


async def test_dead_letters_are_replayed_by_account_and_by_time(
    api: httpx.AsyncClient, database: Database
):
    died = {"close": "2026-03-01T08:00:00+00:00", "hubspot": "2026-03-02T08:00:00+00:00"}
    async with database.transaction() as db:
        for account, at in died.items():
            made = RecordState(uuid4(), "person", {"title": account}, version=1)
            await records.add(db, [made], source="close")
            await outbox.mark(db, {(account, made.id): made})
            for mark in await outbox.take(db, account, limit=9):
                await outbox.bury(db, mark, {"cause": "RejectedError: email", "at": at})

    async def replayed(**which: object) -> int:
        answer = await api.post("/api/dead-letters/replay", json=which)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["replayed"])

    day = "2026-03-02T00:00:00Z"
    assert await replayed(account="close", since=day) == 0
    assert await replayed(until="2026-03-01T00:00:00Z") == 0
    assert await replayed(since=day) == 1
    assert await replayed(account="close", cause="RejectedError: email", until=day) == 1
    both = await api.post("/api/dead-letters/replay", json={"all": True, "account": "close"})
    assert both.status_code == 422


async def test_an_account_is_paused_and_resumed(api: httpx.AsyncClient):
    accounts = (await api.get("/api/accounts")).json()["items"]
    assert [account["name"] for account in accounts] == ["close", "hubspot", "second"]
    assert "nobody" not in str(accounts)  # no credential is ever shown
    await api.post("/api/accounts/close/pause", json={"reason": "holiday"})
    paused = (await api.get("/api/accounts")).json()["items"][0]
    assert paused["paused"]
    await api.post("/api/accounts/close/resume")
    assert not (await api.get("/api/accounts")).json()["items"][0]["paused"]
    assert (await api.post("/api/accounts/nobody/pause")).status_code == 404


async def test_resume_brings_forward_what_was_put_off(api: httpx.AsyncClient, database: Database):
    made = RecordState(uuid4(), "person", {"title": "CEO"}, version=1)
    async with database.transaction() as db:
        await records.add(db, [made], source="close")
        await outbox.mark(db, {("hubspot", made.id): made})
        (mark,) = await outbox.take(db, "hubspot", limit=9)
        later = now() + timedelta(hours=1)
        await outbox.postpone(db, mark, until=later, error={"class": "TransientError"})
    async with database.transaction() as db:
        assert await outbox.take(db, "hubspot", limit=9) == []
    await api.post("/api/accounts/hubspot/resume")
    async with database.transaction() as db:
        assert len(await outbox.take(db, "hubspot", limit=9)) == 1


async def test_testing_an_account_that_nobody_answers_for_says_so_in_words(api: httpx.AsyncClient):
    answer = await api.post("/api/accounts/close/test", timeout=30)
    assert answer.status_code == 200
    findings = answer.json()
    assert "nobody" not in str(findings).replace("nobody answers", "")
    assert not all(item["ok"] for item in findings.get("findings", findings.get("items", [])))


async def test_a_conflict_that_is_not_there_is_a_404(api: httpx.AsyncClient):
    answer = await api.post("/api/conflicts/7/resolve", json={"account": "close"})
    assert answer.status_code == 404
