"""What a vendor's own log tells is what its webhooks would have told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson

from app.clock import now
from app.connectors.close.events import as_webhook
from app.domain.values import Change, Event, Op, Ref, Trail
from app.sdk.connector import Connector
from tests.connectors.conftest import CLOSE, HUBSPOT, Control, delivery, make, write

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def trails(
    connector: Connector, entity: str, since: datetime, *, deep: bool = True
) -> list[Trail]:
    """Every page, each asked for with nothing but the cursor of the one before."""
    found = [await connector.catch_up(entity, None, since, deep=deep)]
    while found[-1].cursor is not None:
        found.append(await connector.catch_up(entity, found[-1].cursor, since, deep=deep))
    return found


async def events(
    connector: Connector, entity: str, since: datetime, *, deep: bool = True
) -> list[Event]:
    return [
        event
        for trail in await trails(connector, entity, since, deep=deep)
        for body in trail.bodies
        for event in connector.parse(delivery(body), connector.account)
    ]


async def delete(connector: Connector, entity: str, ref: Ref) -> None:
    (outcome,) = await connector.write([write(connector, entity, {}, ref=ref, op=Op.DELETE)])
    assert outcome.error is None


async def test_the_event_log_tells_every_change_and_who_left_first(close, control: Control):
    before = now()
    kept = await make(close, "company", {"name": "Kept"})
    left = await make(close, "company", {"name": "Left"})
    await control.person("PUT", f"/close/api/v1/lead/{kept.id}/", json={"name": "Renamed"})
    await delete(close, "company", left)
    found = await events(close, "company", before)
    assert (found[0].ref, found[0].change) == (left, Change.GONE)
    assert {(e.type, e.ref) for e in found[1:]} == {
        ("lead.created", kept),
        ("lead.created", left),
        ("lead.updated", kept),
    }
    (renamed,) = [e for e in found if e.type == "lead.updated"]
    assert renamed.snapshot is not None
    assert renamed.fields["name"] == "Renamed"
    assert renamed.before["name"] == "Kept"


async def test_a_long_log_is_read_page_by_page(close):
    before = now()
    made = {await make(close, "company", {"name": f"Number {n}"}) for n in range(60)}
    pages = await trails(close, "company", before)
    assert len(pages) > len({e for e in close.manifest.webhook.events if e.startswith("lead.")})
    assert {e.ref for e in await events(close, "company", before)} == made


async def test_events_grow_so_the_last_minutes_are_read_again(close):
    made = await make(close, "company", {"name": "A moment ago"})
    assert made in {e.ref for e in await events(close, "company", now() + timedelta(minutes=4))}


async def test_a_log_that_is_not_shown_or_too_short_is_a_gap(close, control: Control):
    assert [t.gap for t in await trails(close, "company", now() - timedelta(days=40))][-1]
    await control.fault(
        fault="status", status=403, match={"method": "GET", "path": r"/event/"}, times=1
    )
    (refused,) = await trails(close, "company", now())
    assert refused.gap
    assert refused.bodies == ()


async def test_what_was_modified_is_found_by_its_time_and_what_was_deleted_in_the_bin(
    hubspot, control: Control
):
    old = await make(hubspot, "company", {"name": "Old"})
    before = now() + timedelta(seconds=61)  # a search steps back by a minute
    left = await make(hubspot, "company", {"name": "Left"})
    await delete(hubspot, "company", left)
    assert await events(hubspot, "company", before, deep=False) == []
    (gone,) = await events(hubspot, "company", before)
    assert (gone.ref, gone.change) == (left, Change.GONE)
    found = {e.ref: e for e in await events(hubspot, "company", LONG_AGO, deep=False)}
    assert set(found) == {old}
    (seen,) = await hubspot.read([old])
    assert found[old].at == seen.version
    assert found[old].change is Change.CHANGED
    assert found[old].tenant == "62515"


async def test_the_same_state_is_the_same_event_and_a_newer_one_another(hubspot, control: Control):
    made = await make(hubspot, "company", {"name": "Old"})
    first, again = [(await events(hubspot, "company", LONG_AGO))[0].key for _ in "12"]
    path = f"/hubspot/crm/v3/objects/companies/{made.id}"
    await control.person("PATCH", path, json={"properties": {"name": "New"}})
    (newer,) = await events(hubspot, "company", LONG_AGO)
    assert first == again != newer.key


async def test_more_than_a_search_shows_is_found_in_windows(hubspot, control: Control):
    wanted = {"hubspot": {"companies": 230}, "quiet": True}
    await control.call("POST", "/_sandbox/seed", json=wanted)
    pages = await trails(hubspot, "company", LONG_AGO, deep=False)
    assert len(pages) > 2
    refs = {e.ref for e in await events(hubspot, "company", LONG_AGO, deep=False)}
    assert len(refs) == 230
    offsets = [
        call for call in await control.calls("hubspot") if '"after"' in str(call.get("body", ""))
    ]
    assert offsets == []


async def test_an_account_without_a_portal_id_understands_what_it_found(control: Control):
    account = HUBSPOT.account(control.base)
    connector = HUBSPOT.kind(replace(account, options={}), HUBSPOT.connect(control.base).client)
    made = await make(connector, "company", {"name": "Old"})
    assert {e.ref for e in await events(connector, "company", LONG_AGO)} == {made}
    await connector.aclose()


def test_a_body_of_the_log_is_a_body_of_a_webhook():
    row = {"id": "ev_1", "object_type": "lead", "action": "deleted", "object_id": "lead_1"}
    row["date_updated"] = "2026-01-01T00:00:00"
    (event,) = CLOSE.kind.parse(delivery(as_webhook(row)), CLOSE.account())
    webhook = orjson.dumps({"subscription_id": "whsub_1", "event": row})
    (told,) = CLOSE.kind.parse(delivery(webhook), CLOSE.account())
    assert event.key == told.key
