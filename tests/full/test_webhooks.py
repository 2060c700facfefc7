"""The door: who is let in, what is kept, and what becomes of the odd ones."""

import json
import time
from typing import Any

import pytest

from tests.full.harness import (
    Company,
    Json,
    World,
    close_body,
    close_headers,
    hubspot_headers,
    until,
)

HOUR = 3600


def _event(**fields: Any) -> bytes:
    """An event of Close's as it would come, of nothing that exists."""
    return close_body(
        {
            "id": f"ev_{time.time_ns()}",
            "date_created": "2026-11-01T10:00:00.000000",
            "date_updated": "2026-11-01T10:00:00.000000",
            "object_type": "lead",
            "object_id": "lead_nowhere",
            "lead_id": "lead_nowhere",
            "action": "updated",
            "changed_fields": ["name"],
            "meta": {},
            "data": {"id": "lead_nowhere", "name": "Nowhere"},
            "previous_data": {"name": "Somewhere"},
            **fields,
        }
    )


async def _newest(world: World) -> int:
    items = (await world.syncline.get("/api/deliveries", limit=1))["items"]
    return int(items[0]["id"]) if items else 0


def _flipped(headers: Json, name: str) -> Json:
    value = headers[name]
    return {**headers, name: ("0" if value[0] != "0" else "1") + value[1:]}


async def test_what_is_not_authentic_is_refused_and_not_stored(world: World) -> None:
    before = await _newest(world)
    body = _event()
    good = close_headers(body)
    url = f"{world.syncline.url}/webhooks/hubspot"
    events = b'[{"eventId": 1, "portalId": 1, "subscriptionType": "contact.creation"}]'
    theirs = hubspot_headers(events, url)
    stale = str(int((time.time() - 400) * 1000))
    attempts: list[tuple[str, bytes, Json]] = [
        ("close", body, {"content-type": "application/json"}),
        ("close", body, _flipped(good, "close-sig-hash")),
        ("close", body + b" ", good),
        ("close", body, {**good, "close-sig-timestamp": str(int(time.time()) + 1)}),
        ("close", body, close_headers(body, key="00" * 32)),
        ("close", body, close_headers(body, at=time.time() - 80 * HOUR)),
        ("close", body, {**good, "close-sig-hash": ""}),
        ("hubspot", events, {"content-type": "application/json"}),
        ("hubspot", events, _flipped(theirs, "x-hubspot-signature-v3")),
        ("hubspot", events + b" ", theirs),
        ("hubspot", events, {**theirs, "x-hubspot-request-timestamp": stale}),
        ("hubspot", events, hubspot_headers(events, url, secret="another")),
        ("hubspot", events, hubspot_headers(events, f"{url}?x=1")),
        ("hubspot", body, good),
    ]
    for account, content, headers in attempts:
        answer = await world.syncline.deliver(account, content, headers=headers)
        assert answer.status_code == 401, (account, headers)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await _newest(world) == before


async def test_an_unknown_account_is_a_404_and_a_handshake_is_answered(world: World) -> None:
    before = await _newest(world)
    body = _event()
    for path in ("nobody", "", "close/more", "Close"):
        answer = await world.syncline.http.post(
            f"/webhooks/{path}", content=body, headers=close_headers(body)
        )
        assert answer.status_code == 404, path
    assert await _newest(world) == before
    assert (await world.syncline.http.get("/webhooks/close")).status_code == 200
    assert (await world.syncline.http.head("/webhooks/close")).status_code == 200
    assert (await world.syncline.http.put("/webhooks/close")).status_code == 405


async def test_a_body_over_the_limit_is_refused_and_one_just_below_is_taken(
    world: World,
) -> None:
    before = await _newest(world)
    limit = 10 * 2**20
    answer = await world.syncline.deliver("close", b"x" * (limit + 1))
    assert answer.status_code == 413

    async def pieces() -> Any:
        for _ in range(11):
            yield b"x" * 2**20

    answer = await world.syncline.http.post(
        "/webhooks/close", content=pieces(), headers={"close-sig-hash": "0"}
    )
    assert answer.status_code == 413
    assert await _newest(world) == before
    answer = await world.syncline.deliver("close", _event(note="x" * (limit - 2000)))
    assert answer.status_code == 200


async def test_a_signed_body_that_cannot_be_read_is_answered_200_and_becomes_a_dead_letter(
    world: World,
) -> None:
    texts = (b"{not json", b"", b"\xff\xfe", b"[]", b'{"event": null}', b"null")
    ids = {}
    for text in texts:
        text += b" " * (time.time_ns() % 999)  # the same bytes would be the same delivery
        answer = await world.syncline.deliver("close", text)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok"), text
        ids[await _newest(world)] = text

    async def buried() -> list[Json]:
        found = [x for x in await world.syncline.dead_letters() if x["delivery_id"] in ids]
        return found if len(found) == len(ids) else []

    letters = await until(buried, why=world.syncline.explain)
    for letter in letters:
        assert (letter["kind"], letter["account"]) == ("delivery", "close")
        assert letter["reason"]
        assert letter["next_step"]
    kept = await world.syncline.get(f"/api/deliveries/{min(ids)}")
    assert kept["body"].encode() == ids[min(ids)]
    # A replay reads it again, and it is as unreadable as it was.
    await world.syncline.post(f"/api/deliveries/{min(ids)}/replay")
    await world.quiet()
    assert len(await buried()) == len(ids)


async def test_an_unsupported_event_is_kept_and_counted_and_an_ignored_one_is_called_so(
    world: World,
) -> None:
    async def counted(answer: str) -> float:
        return await world.syncline.metric("syncline_events_total", answer=answer)

    before = await counted("unsupported"), await counted("ignored")
    for type, action in (("activity.hologram", "sent"), ("task.lead", "created")):
        answer = await world.syncline.deliver("close", _event(object_type=type, action=action))
        assert answer.status_code == 200
    await world.quiet()
    after = await counted("unsupported"), await counted("ignored")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    (kept,) = await world.syncline.rows("/api/events", type="activity.hologram.sent")
    assert (kept["answer"], kept["state"]) == ("unsupported", "done")
    assert kept["error"]["next_step"]
    delivery = await world.syncline.get(f"/api/deliveries/{kept['delivery_id']}")
    assert "activity.hologram" in delivery["body"]
    (known,) = await world.syncline.rows("/api/events", type="task.lead.created")
    assert known["answer"] == "ignored"


async def test_a_paused_account_keeps_what_comes_and_works_on_it_when_it_is_resumed(
    world: World, company: Company
) -> None:
    await world.syncline.post("/api/accounts/close/pause", {"reason": "Spring cleaning"})
    try:
        before = await _newest(world)
        lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")

        async def stored() -> bool:
            return not await world.crms.undelivered()

        await until(stored)
        assert await _newest(world) == before + 1
        answer = await world.syncline.deliver("close", _event())
        assert answer.status_code == 200
        lanes = (await world.syncline.get("/health/lanes"))["lanes"]
        lane = next(x for x in lanes if (x["account"], x["direction"]) == ("close", "in"))
        assert (lane["pending"], lane["paused"]) == (2, True)
        assert lane["pause_reason"] == "Spring cleaning"
        assert not await world.hubspot.find("companies", domain=company.domain)
    finally:
        await world.syncline.post("/api/accounts/close/resume")
    await world.quiet()
    assert len(await world.hubspot.find("companies", domain=company.domain)) == 1
    assert await world.syncline.record("close", lead["id"], "company")


async def test_what_is_meant_for_a_paused_account_waits_and_goes_as_one_write(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.syncline.post("/api/accounts/hubspot/pause")
    async with world.counting() as writes:
        try:
            for number in range(3):
                await world.close.edit("lead", lead["id"], description=f"{number} engines")

                async def waits(number: int = number) -> bool:
                    record = await world.syncline.record("close", lead["id"], "company")
                    return bool(record["fields"]["description"] == f"{number} engines")

                await until(waits, why=world.syncline.explain)
            assert (await world.hubspot.read("companies", there))["description"] is None
        finally:
            await world.syncline.post("/api/accounts/hubspot/resume")
    assert (await world.hubspot.read("companies", there))["description"] == "2 engines"
    assert writes == {("hubspot", "company", "updated"): 1}


async def test_a_delivery_can_be_replayed_and_what_has_not_changed_stays(
    world: World, company: Company
) -> None:
    await world.close.create("lead", name=company.name)
    await world.quiet()
    deliveries = await world.syncline.rows("/api/deliveries", account="close")
    async with world.counting() as writes:
        answer = await world.syncline.post(f"/api/deliveries/{deliveries[0]['id']}/replay")
        assert answer["state"] == "pending"
    assert not writes
    done = await world.syncline.get(f"/api/deliveries/{deliveries[0]['id']}")
    assert done["state"] == "done"
    assert {event["state"] for event in done["events"]} == {"done"}


@pytest.mark.parametrize("account", ["close", "hubspot"])
async def test_a_delivery_tells_what_became_of_it(
    world: World, company: Company, account: str
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    remote = lead["id"] if account == "close" else there
    events = await world.syncline.rows("/api/events", account=account)
    mine = [event for event in events if event["ref"] and event["ref"]["id"] == remote]
    assert {(event["answer"], event["state"]) for event in mine} == {("handled", "done")}
    delivery = await world.syncline.get(f"/api/deliveries/{mine[0]['delivery_id']}")
    assert (delivery["account"], delivery["method"]) == (account, "POST")
    assert delivery["target"] == f"/webhooks/{account}"
    assert remote in delivery["body"]
    assert not {"authorization", "cookie"} & set(delivery["headers"])


async def test_handlers_that_the_configuration_names_are_called(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")

    # Ours says: leads whose name begins so do not travel …
    async with world.counting() as writes:
        await world.close.edit("lead", lead["id"], name=f"[test] {company.name}")
    assert not writes
    assert (await world.hubspot.read("companies", there))["name"] == company.name

    # … and a note means that the lead is worth a look.
    async with world.counting() as writes:
        note = _event(object_type="activity.note", action="created", lead_id=lead["id"])
        assert (await world.syncline.deliver("close", note)).status_code == 200
    assert writes == {("hubspot", "company", "updated"): 1}
    found = await world.hubspot.read("companies", there)
    assert found["name"] == f"[test] {company.name}"
    (event,) = [
        e
        for e in await world.syncline.rows("/api/events", type="activity.note.created")
        if json.loads((await world.syncline.get(f"/api/deliveries/{e['delivery_id']}"))["body"])[
            "event"
        ]["lead_id"]
        == lead["id"]
    ]
    assert event["answer"] == "handled"
