"""What Close does, and what it refuses."""

from typing import Any

import httpx
import pytest

from sandbox.close.events import sign
from tests.sandbox.conftest import CLOSE, QUICK, Receiver, running

KEY = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"


def test_the_signature_equals_the_published_algorithm() -> None:
    body = b'{"event":{"action":"created"}}'
    wanted = "eecc729415062d59ae5d8a6fdd3809211ef6789bcf09f0e3279bbf51d1becee3"
    assert sign(KEY, "1544271440", body) == wanted
    body = (
        '{"subscription_id":"whsub_TEST","event":{"id":"ev_TEST1","object_type":"lead",'
        '"action":"updated","object_id":"lead_TEST","lead_id":"lead_TEST","changed_fields":'
        '["name"],"data":{"id":"lead_TEST","name":"Café Ünïcode"},"previous_data":'
        '{"name":"Cafe"}}}'
    ).encode()
    wanted = "dbf50fac04473a73141a134442dce7c1e679b3288f3c5fbb75ba57b3bc0ec091"
    assert sign(KEY, "1700000000", body) == wanted


async def _subscribe(close: httpx.AsyncClient, url: str, *events: str) -> dict[str, Any]:
    pairs = [event.split(".") for event in events]
    wanted = [{"object_type": type, "action": action} for type, action in pairs]
    answer = await close.post("/webhook/", json={"url": url, "events": wanted})
    assert answer.status_code == 201
    return dict(answer.json())


async def test_a_webhook_arrives_signed_and_is_tried_again_after_a_500(
    close: httpx.AsyncClient, receiver: Receiver, ada: dict[str, Any]
) -> None:
    subscription = await _subscribe(close, receiver.url, "lead.created")
    receiver.answers = [500]
    lead = (await close.post("/lead/", json=ada)).json()
    first, second = await receiver.until(lambda hooks: len(hooks) == 2)
    assert first.body == second.body
    given = second.headers["close-sig-hash"]
    timestamp = second.headers["close-sig-timestamp"]
    assert given == sign(subscription["signature_key"], timestamp, second.body)
    event = httpx.Response(200, content=second.body).json()["event"]
    assert event["object_id"] == lead["id"]
    assert event["data"]["contact_ids"] == lead["contact_ids"]
    assert "contacts" not in event["data"]
    assert (event["api_key_id"], event["oauth_client_id"]) == (CLOSE.api_key_id, None)


async def test_updates_in_quick_succession_become_one_event(
    close: httpx.AsyncClient, receiver: Receiver, ada: dict[str, Any]
) -> None:
    lead = (await close.post("/lead/", json=ada)).json()
    await _subscribe(close, receiver.url, "lead.updated")
    await close.put(f"/lead/{lead['id']}/", json={"name": "B"})
    await close.put(f"/lead/{lead['id']}/", json={"name": "C", "url": "https://c.example"})
    (hook,) = await receiver.until(bool)
    event = httpx.Response(200, content=hook.body).json()["event"]
    assert set(event["changed_fields"]) == {"name", "display_name", "url"}
    assert event["previous_data"]["name"] == "Analytical"
    assert event["data"]["name"] == "C"
    newest = (await close.get("/event/", params={"_limit": 1})).json()["data"][0]
    assert newest["id"] == event["id"]


async def test_a_filter_on_the_own_key_suppresses_echoes(
    close: httpx.AsyncClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    condition = {"type": "not_equals", "value": CLOSE.api_key_id}
    accessor = {"type": "field_accessor", "field": "api_key_id", "filter": condition}
    event = {"object_type": "lead", "action": "created", "extra_filter": accessor}
    await close.post("/webhook/", json={"url": receiver.url, "events": [event]})
    await close.post("/lead/", json={"name": "ours"})
    await control.post("/as-person/close/api/v1/lead/", json={"name": "theirs"})
    (hook,) = await receiver.until(bool)
    seen = httpx.Response(200, content=hook.body).json()["event"]
    assert (seen["data"]["name"], seen["api_key_id"]) == ("theirs", None)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/opportunity/", {"value": 1.5}, "value"),
        ("/opportunity/", {"status_id": "stat_nope"}, "status_id"),
        ("/opportunity/", {"confidence": 101}, "confidence"),
        ("/lead/", {"custom.cf_nope": "x"}, "custom.cf_nope"),
        ("/lead/", {"nmae": "typo"}, "nmae"),
        ("/lead/", {"status": "Potential", "status_id": "x"}, "status"),
        ("/contact/", {"lead_id": "lead_nope"}, "lead_id"),
        ("/contact/", {"emails": [{"email": "nobody"}]}, "emails"),
        ("/webhook/", {"url": "nowhere", "events": []}, "url"),
    ],
)
async def test_close_names_the_field_it_refuses(
    close: httpx.AsyncClient, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await close.post(path, json=body)
    assert answer.status_code == 400
    assert field in answer.json()["field-errors"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/lead/?_limit=101", 400),
        ("/event/?_limit=51", 400),
        ("/event/?object_id=x&user_id=y&object_type=z", 400),
        ("/event/?_cursor=older_3&date_updated__gte=2026-01-01T00:00:00", 400),
        ("/lead/lead_nope/", 404),
        ("/nothing/", 404),
    ],
)
async def test_close_refuses_reads_it_does_not_know(
    close: httpx.AsyncClient, path: str, status: int
) -> None:
    assert (await close.get(path)).status_code == status


async def test_a_wrong_key_is_refused(base: str) -> None:
    async with httpx.AsyncClient(base_url=base) as client:
        answer = await client.get("/close/api/v1/me/", auth=("api_wrong", ""))
    assert answer.status_code == 401


async def test_refresh_tokens_rotate(base: str) -> None:
    form = {
        "grant_type": "refresh_token",
        "client_id": CLOSE.client_id,
        "client_secret": CLOSE.client_secret,
        "refresh_token": CLOSE.refresh_token,
    }
    async with httpx.AsyncClient(base_url=f"{base}/close") as client:
        token = (await client.post("/oauth2/token/", data=form)).json()
        headers = {"authorization": f"Bearer {token['access_token']}"}
        assert (await client.get("/api/v1/me/", headers=headers)).status_code == 200
        assert (await client.post("/oauth2/token/", data=form)).status_code == 400
        form["refresh_token"] = token["refresh_token"]
        assert (await client.post("/oauth2/token/", data=form)).status_code == 200


async def test_a_won_status_fills_the_date_and_leaving_it_keeps_the_date(
    close: httpx.AsyncClient,
) -> None:
    statuses = (await close.get("/status/opportunity/")).json()["data"]
    ids = {status["label"]: status["id"] for status in statuses}
    deal = (await close.post("/opportunity/", json={"value": 5})).json()
    assert (deal["status_label"], deal["date_won"], deal["lead_name"]) == ("New", None, "Untitled")
    path = f"/opportunity/{deal['id']}/"
    won = (await close.put(path, json={"status_id": ids["Won"]})).json()
    back = (await close.put(path, json={"status_id": ids["Demo"]})).json()
    assert won["date_won"] == back["date_won"] is not None


async def test_a_deal_has_a_rich_note_once_it_was_given_one(close: httpx.AsyncClient) -> None:
    deal = (await close.post("/opportunity/", json={"note": "plain"})).json()
    assert (deal["note"], deal["note_html"]) == ("plain", None)
    path = f"/opportunity/{deal['id']}/"

    async def change(**values: str | None) -> tuple[str, str | None]:
        changed = (await close.put(path, json=values)).json()
        return changed["note"], changed["note_html"]

    html = "<body><p>rich</p></body>"
    assert await change(note_html=html, note="ignored") == ("rich", html)
    assert await change(note="again") == ("again", "<body><p>again</p></body>")
    assert await change(note_html=None) == ("", None)


async def test_custom_fields_are_flat_keys(close: httpx.AsyncClient) -> None:
    wanted = {
        "name": "Regions",
        "type": "choices",
        "choices": ["North", "South"],
        "accepts_multiple_values": True,
    }
    key = f"custom.{(await close.post('/custom_field/lead/', json=wanted)).json()['id']}"
    lead = (await close.post("/lead/", json={"name": "A", key: ["North"]})).json()
    path = f"/lead/{lead['id']}/"
    assert (await close.put(path, json={f"{key}.add": "South"})).json()[key] == ["North", "South"]
    assert (await close.put(path, json={key: ["West"]})).status_code == 400
    assert key not in (await close.put(path, json={key: None})).json()


async def test_search_by_email_finds_near_misses_too(close: httpx.AsyncClient) -> None:
    for email in ("jane@acme.example", "mary.jane@acme.example", "jane@other.example"):
        await close.post("/contact/", json={"name": email, "emails": [{"email": email}]})
    field = {"type": "regular_field", "object_type": "contact_email", "field_name": "email"}
    condition = {"type": "text", "mode": "phrase", "value": "jane@acme.example"}
    related = {
        "type": "has_related",
        "this_object_type": "contact",
        "related_object_type": "contact_email",
        "related_query": {"type": "field_condition", "field": field, "condition": condition},
    }
    kind = {"type": "object_type", "object_type": "contact"}
    body = {
        "query": {"type": "and", "queries": [kind, related]},
        "_fields": {"contact": ["name"]},
        "_limit": 1,
        "include_counts": True,
    }
    first = (await close.post("/data/search/", json=body)).json()
    second = (await close.post("/data/search/", json={**body, "cursor": first["cursor"]})).json()
    names = [row["name"] for row in first["data"] + second["data"]]
    assert names == ["jane@acme.example", "mary.jane@acme.example"]
    assert (first["count"]["total"], second["cursor"]) == (2, None)


async def test_search_by_change_date(close: httpx.AsyncClient) -> None:
    await close.post("/lead/", json={"name": "old"})
    new = (await close.post("/lead/", json={"name": "new"})).json()
    field = {"type": "regular_field", "object_type": "lead", "field_name": "date_updated"}
    since = {"type": "fixed_utc", "value": new["date_updated"]}
    condition = {"type": "moment_range", "on_or_after": since, "before": None}
    query = {
        "type": "and",
        "queries": [
            {"type": "object_type", "object_type": "lead"},
            {"type": "field_condition", "field": field, "condition": condition},
        ],
    }
    found = (await close.post("/data/search/", json={"query": query})).json()["data"]
    assert [row["id"] for row in found] == [new["id"]]


async def test_deleting_a_lead_announces_its_children(
    close: httpx.AsyncClient, ada: dict[str, Any]
) -> None:
    lead = (await close.post("/lead/", json=ada)).json()
    await close.delete(f"/lead/{lead['id']}/")
    events = (await close.get("/event/", params={"lead_id": lead["id"]})).json()["data"]
    gone = [e for e in events if e["action"] == "deleted"]
    assert {e["object_type"] for e in gone} == {"lead", "contact"}
    assert all(e["data"] is None and e["previous_data"]["id"] for e in gone)
    assert (await close.get(f"/contact/{lead['contact_ids'][0]}/")).status_code == 404


async def test_merging_moves_the_children(close: httpx.AsyncClient, ada: dict[str, Any]) -> None:
    source = (await close.post("/lead/", json=ada)).json()
    target = (await close.post("/lead/", json={"name": "Stays"})).json()
    both = {"source": source["id"], "destination": target["id"]}
    assert (await close.post("/lead/merge/", json=both)).status_code == 200
    merged = (await close.get(f"/lead/{target['id']}/")).json()
    assert (merged["name"], merged["contact_ids"]) == ("Stays", source["contact_ids"])
    assert (await close.get(f"/lead/{source['id']}/")).status_code == 404
    wanted = {"object_type": "lead", "action": "merged"}
    (event,) = (await close.get("/event/", params=wanted)).json()["data"]
    assert event["meta"]["merge_source_lead_id"] == source["id"]


async def test_the_event_log_pages_both_ways(close: httpx.AsyncClient) -> None:
    for number in range(5):
        await close.post("/lead/", json={"name": str(number)})

    async def page(**query: str | int) -> tuple[str, dict[str, Any]]:
        body = (await close.get("/event/", params={"_limit": 2, **query})).json()
        return "".join(event["data"]["name"] for event in body["data"]), body

    names, first = await page()
    assert (names, first["cursor_previous"]) == ("43", None)
    names, second = await page(_cursor=first["cursor_next"])
    assert names == "21"
    names, last = await page(_cursor=second["cursor_next"])
    assert (names, last["cursor_next"]) == ("0", None)
    names, back = await page(_cursor=last["cursor_previous"])
    assert (names, back["cursor_next"] is not None) == ("21", True)


async def test_opportunities_can_be_listed_by_change(close: httpx.AsyncClient) -> None:
    deals = [(await close.post("/opportunity/", json={"value": n})).json() for n in range(3)]
    query = {"date_updated__gte": deals[1]["date_updated"], "_order_by": "-date_updated"}
    found = (await close.get("/opportunity/", params=query)).json()["data"]
    assert [deal["id"] for deal in found] == [deals[2]["id"], deals[1]["id"]]


async def test_quotas_are_counted_and_announced() -> None:
    async with running("--close-limit", "3", *QUICK[:-1]) as url:
        auth = (CLOSE.api_key, "")
        async with httpx.AsyncClient(base_url=f"{url}/close/api/v1", auth=auth) as client:
            answers = [await client.get("/me/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith("limit=3, remaining=2, reset=")
    assert int(answers[3].headers["retry-after"]) >= 1
