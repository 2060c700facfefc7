"""Notes, calls, e-mails, meetings and tasks as Close keeps them."""

from typing import Any

import closeio_api
import httpx
import pytest
import pytest_asyncio

from tests.sandbox.conftest import CLOSE, Receiver

PERSON = "/as-person/close/api/v1"
HTML = "<body><p>Called <b>Ada</b><br>and left</p><script>x</script><p>a note</p></body>"


@pytest_asyncio.fixture
async def lead(close: httpx.AsyncClient, ada: dict[str, Any]) -> dict[str, Any]:
    return dict((await close.post("/lead/", json=ada)).json())


async def _events(close: httpx.AsyncClient, type: str) -> list[str]:
    events = (await close.get("/event/")).json()["data"]
    return [event["action"] for event in reversed(events) if event["object_type"] == type]


async def test_a_note_is_kept_as_rich_and_as_plain_text(
    close: httpx.AsyncClient, control: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    body = {"lead_id": lead["id"], "note_html": HTML, "note": "not this"}
    note = (await close.post("/activity/note/", json=body)).json()
    wanted = "<body><p>Called <b>Ada</b><br />and left</p><p>a note</p></body>"
    assert (note["note_html"], note["note"]) == (wanted, "Called Ada\nand left\na note")
    assert (note["_type"], note["user_id"], note["users"]) == (
        "Note",
        CLOSE.user_id,
        [CLOSE.user_id],
    )
    assert note["activity_at"] == note["date_created"]
    path = f"/activity/note/{note['id']}/"
    changed = (await close.put(path, json={"note": "a < b\nc", "pinned": True})).json()
    assert changed["note_html"] == "<body><p>a &lt; b</p><p>c</p></body>"
    assert (changed["note"], changed["pinned"]) == ("a < b\nc", True)
    past = (await control.get(f"/history/close/note/{note['id']}")).json()["fields"]["note"]
    assert [version["value"] for version in past] == [note["note"], "a < b\nc"]
    assert (await close.delete(path)).status_code == 200
    assert (await close.get(path)).status_code == 404
    assert await _events(close, "activity.note") == ["created", "updated", "deleted"]


async def test_a_past_activity_keeps_its_own_time_and_author(
    close: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    alan = (await close.get("/user/")).json()["data"][1]["id"]
    body = {
        "lead_id": lead["id"],
        "contact_id": lead["contact_ids"][0],
        "note": "old",
        "user_id": alan,
        "activity_at": "2020-02-03T04:05:06Z",
    }
    note = (await close.post("/activity/note/", json=body)).json()
    assert (note["user_name"], note["contact_id"]) == ("Alan Turing", lead["contact_ids"][0])
    assert note["activity_at"] == "2020-02-03T04:05:06+00:00"
    body |= {"activity_at": None, "date_created": "2019-01-01T00:00:00+01:00"}
    older = (await close.post("/activity/note/", json=body)).json()
    assert older["date_created"] == older["activity_at"] == "2018-12-31T23:00:00.000000+00:00"


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("note", {"note": "x", "lead_id": None}, "lead_id"),
        ("note", {"note": "x", "lead_id": "lead_nope"}, "lead_id"),
        ("note", {"note_html": "<p>bare</p>"}, "note_html"),
        ("note", {"note": "x", "user_id": "user_nope"}, "user_id"),
        ("note", {"note": "x", "contact_id": "cont_nope"}, "contact_id"),
        ("note", {"note": "x", "body": "y"}, "body"),
        ("call", {"direction": "sideways"}, "direction"),
        ("call", {"duration": 1.5}, "duration"),
        ("call", {"phone": "555"}, "phone"),
        ("call", {"recording_url": "http://a.example/r.mp3"}, "recording_url"),
        ("call", {"status": "done"}, "status"),
        ("email", {"subject": "Hi"}, "status"),
        ("email", {"status": "inbox"}, "sender"),
        ("email", {"status": "scheduled", "sender": "a@b.example"}, "date_scheduled"),
        ("email", {"status": "draft", "to": "a@b.example"}, "to"),
    ],
)
async def test_close_refuses_what_an_activity_cannot_be(
    close: httpx.AsyncClient, lead: dict[str, Any], kind: str, body: dict[str, Any], field: str
) -> None:
    answer = await close.post(f"/activity/{kind}/", json={"lead_id": lead["id"], **body})
    assert answer.status_code == 400
    assert field in answer.json()["field-errors"]


async def test_a_call_that_close_made_keeps_its_facts(
    close: httpx.AsyncClient, control: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    body = {"lead_id": lead["id"], "direction": "inbound", "duration": 60, "phone": "+14155550100"}
    logged = (await close.post("/activity/call/", json=body)).json()
    assert (logged["source"], logged["status"]) == ("External", "completed")
    path = f"/activity/call/{logged['id']}/"
    assert (await close.put(path, json={"duration": 90})).json()["duration"] == 90
    made = (await control.post(f"{PERSON}/activity/call/", json=body)).json()
    path = f"/activity/call/{made['id']}/"
    refused = await close.put(path, json={"duration": 90, "note": "x"})
    assert (made["source"], refused.status_code) == ("Close.io", 400)
    same = await close.put(path, json={"duration": 60, "note": "Busy"})
    assert (same.json()["note"], same.json()["note_html"]) == ("Busy", "<body><p>Busy</p></body>")


async def test_only_drafts_can_be_changed_and_only_the_outbox_sends(
    close: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    body = {"lead_id": lead["id"], "subject": "Hello", "body_html": "<p>Dear <i>Ada</i></p>"}
    logged = (await close.post("/activity/email/", json={**body, "status": "sent"})).json()
    assert (logged["body_text"], logged["direction"]) == ("Dear Ada", "outgoing")
    path = f"/activity/email/{logged['id']}/"
    assert (await close.put(path, json={"subject": "x"})).status_code == 400
    draft = (await close.post("/activity/email/", json={**body, "status": "draft"})).json()
    assert (draft["status"], draft["date_sent"]) == ("draft", None)
    assert await _events(close, "activity.email") == ["created", "created"]
    path, sender = f"/activity/email/{draft['id']}/", '"Grace" <grace@syncline.example>'
    sent = (await close.put(path, json={"status": "outbox", "sender": sender})).json()
    assert sent["status"] == "sent"
    assert (await _events(close, "activity.email"))[-1] == "sent"


async def test_meetings_come_from_calendars(
    close: httpx.AsyncClient, control: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    body = {
        "lead_id": lead["id"],
        "title": "Demo",
        "starts_at": "2030-01-01T10:00:00+01:00",
        "ends_at": "2030-01-01T10:45:00+01:00",
    }
    assert (await close.post("/activity/meeting/", json=body)).status_code == 405
    made = (await control.post(f"{PERSON}/activity/meeting/", json=body)).json()
    assert (made["duration"], made["status"]) == (2700, "upcoming")
    assert made["activity_at"] == made["starts_at"]
    path = f"/activity/meeting/{made['id']}/"
    assert (await close.put(path, json={"title": "Other"})).status_code == 400
    noted = await close.put(path, json={"user_note_html": "<body><p>Went well</p></body>"})
    assert noted.json()["note"] == "Went well"
    await control.put(f"/as-person/close/api/v1{path}", json={"status": "canceled"})
    assert await _events(close, "activity.meeting") == [
        "created",
        "updated",
        "updated",
        "canceled",
    ]
    assert (await close.delete(path)).status_code == 200


async def test_activities_are_listed_together_and_by_kind(
    close: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    other = (await close.post("/lead/", json={"name": "Other"})).json()["id"]
    for number, id in enumerate((lead["id"], lead["id"], other)):
        body = {"lead_id": id, "activity_at": f"2020-01-0{3 - number}T00:00:00Z"}
        await close.post("/activity/note/", json={**body, "note": f"n{number}"})
    call = (await close.post("/activity/call/", json={"lead_id": lead["id"]})).json()

    async def listed(path: str, **query: str | int) -> list[str]:
        answer = await close.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return [row.get("note") or row["_type"] for row in answer.json()["data"]]

    assert await listed("/activity/") == ["Call", "n2", "n1", "n0"]
    assert await listed("/activity/", lead_id=lead["id"], _type="Note") == ["n1", "n0"]
    both = {"lead_id": lead["id"], "_type__in": "Note,Call", "_order_by": "-activity_at"}
    assert await listed("/activity/", **both) == ["Call", "n0", "n1"]
    assert await listed("/activity/note/", activity_at__lt="2020-01-02T00:00:00Z") == ["n2"]
    assert await listed("/activity/note/", _limit=1, _skip=1) == ["n1"]
    assert await listed("/activity/", date_created__gte=call["date_created"]) == ["Call"]
    narrow = (await close.get("/activity/call/", params={"_fields": "id"})).json()["data"]
    assert narrow == [{"id": call["id"]}]
    for query in ({"_type": "Note"}, {"_order_by": "-activity_at"}, {"date_updated__gt": "2020"}):
        assert (await close.get("/activity/", params=query)).status_code == 400


async def test_a_task_is_made_changed_and_completed(
    close: httpx.AsyncClient, receiver: Receiver, lead: dict[str, Any]
) -> None:
    events = [{"object_type": "task.lead", "action": "completed"}]
    await close.post("/webhook/", json={"url": receiver.url, "events": events})
    body = {"_type": "lead", "lead_id": lead["id"], "text": "Call back", "date": "2026-01-02"}
    task = (await close.post("/task/", json=body)).json()
    assert (task["assigned_to"], task["is_complete"]) == (CLOSE.user_id, False)
    assert (task["date"], task["due_date"], task["is_dateless"]) == (
        "2026-01-02",
        "2026-01-02",
        False,
    )
    shown = (await close.get(f"/lead/{lead['id']}/")).json()["tasks"]
    assert [row["id"] for row in shown] == [task["id"]]
    path = f"/task/{task['id']}/"
    moved = (await close.put(path, json={"date": "2026-01-02T09:00:00+01:00"})).json()
    assert moved["date"] == "2026-01-02T08:00:00+00:00"
    assert (await close.put(path, json={"date": None})).json()["is_dateless"]
    assert (await close.put(path, json={"_type": "outgoing_call"})).status_code == 400
    assert (await close.put(path, json={"is_complete": True})).json()["is_complete"]
    (hook,) = await receiver.until(bool)
    assert httpx.Response(200, content=hook.body).json()["event"]["object_id"] == task["id"]
    assert not (await close.get(f"/lead/{lead['id']}/")).json()["tasks"]
    assert await _events(close, "task.lead") == ["created", "updated", "completed"]


async def test_tasks_hide_other_types_and_change_in_bulk(
    close: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    for type in ("lead", "lead", "outgoing_call"):
        body = {"_type": type, "lead_id": lead["id"], "text": type, "date": "2020-01-01"}
        assert (await close.post("/task/", json=body)).status_code == 200
    for wrong in ({"_type": "missed_call"}, {}):
        answer = await close.post("/task/", json={"lead_id": lead["id"], **wrong})
        assert answer.status_code == 400
    assert len((await close.get("/task/")).json()["data"]) == 2
    rows = (await close.get("/task/", params={"_type": "all"})).json()["data"]
    assert [row["text"] for row in rows] == ["lead", "lead", "outgoing_call"]
    ids = ",".join(row["id"] for row in rows[:1])
    bulk = await close.put("/task/", params={"id__in": ids}, json={"is_complete": True})
    assert bulk.status_code == 200
    assert (await close.put("/task/", json={"text": "x"})).status_code == 400
    due = (await close.get("/task/", params={"view": "inbox", "_type": "all"})).json()["data"]
    assert [row["id"] for row in due] == [row["id"] for row in rows[1:]]


async def test_a_leads_activities_move_and_go_with_it(
    close: httpx.AsyncClient, lead: dict[str, Any]
) -> None:
    target = (await close.post("/lead/", json={"name": "Stays"})).json()["id"]
    note = (await close.post("/activity/note/", json={"lead_id": lead["id"], "note": "n"})).json()
    task = {"_type": "lead", "lead_id": lead["id"], "text": "t"}
    task = (await close.post("/task/", json=task)).json()
    both = {"source": lead["id"], "destination": target}
    assert (await close.post("/lead/merge/", json=both)).status_code == 200
    assert (await close.get(f"/activity/note/{note['id']}/")).json()["lead_id"] == target
    assert (await close.get(f"/task/{task['id']}/")).json()["lead_id"] == target
    await close.delete(f"/lead/{target}/")
    assert (await close.get(f"/activity/note/{note['id']}/")).status_code == 404
    assert (await _events(close, "task.lead"))[-1] == "deleted"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_closeio_handles_activities_and_tasks(base: str) -> None:
    api = closeio_api.API(f"{base}/close/api/v1/", CLOSE.api_key, max_retries=1)
    lead = api.post("lead", {"name": "A"})["id"]
    note = api.post("activity/note", {"lead_id": lead, "note": "Hello"})
    assert api.get("activity", {"lead_id": lead, "_type": "Note"})["data"][0]["id"] == note["id"]
    task = api.post("task", {"_type": "lead", "lead_id": lead, "text": "Do"})
    assert api.put(f"task/{task['id']}", {"is_complete": True})["is_complete"]
    with pytest.raises(closeio_api.ValidationError) as refused:
        api.post("activity/email", {"lead_id": lead})
    assert refused.value.field_errors == {"status": "This field is required."}
    assert api.delete(f"activity/note/{note['id']}") == {}
    api.session.close()
