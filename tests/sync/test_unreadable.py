"""A delivery of which a part cannot be read."""

from __future__ import annotations

from tests.connectors.conftest import control, sandbox
from tests.sync.town import Town, town

__all__ = ["control", "sandbox", "town"]


async def test_a_bad_event_waits_for_a_person_and_its_neighbours_do_not(town: Town):
    named = {"name": "Acme", "domain": "acme.example"}
    made = await town.hubspot("POST", "/crm/v3/objects/companies", properties=named)
    event = {"subscriptionType": "company.creation", "portalId": 62515, "subscriptionId": 1}
    bad = {**event, "eventId": 1, "occurredAt": 1700000000000, "objectId": None}
    good = {**bad, "eventId": 2, "objectId": int(made["id"])}
    number = await town.tell("hubspot", [bad, good])
    await town.work()
    assert await town.scalar("select count(*) from links where account = 'close'") == 1
    state = "select state || ': ' || (error ->> 'reason') from deliveries where id = :n"
    assert await town.scalar(state, n=number) == "dead: event 0: it has no objectId"
