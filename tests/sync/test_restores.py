"""What is deleted, and restored or entered anew, before we have heard of it."""

from __future__ import annotations

from app.db import links, outbox
from app.domain.values import Ref
from app.errors import NotFoundError
from app.sync.trouble import describe
from tests.connectors.conftest import control, sandbox
from tests.sync.town import Town, town

__all__ = ["control", "sandbox", "town"]


async def hear_at_once(town: Town, id: str, *said: str) -> None:
    """One delivery with all of these events of a company."""
    about = {"portalId": 62515, "subscriptionId": 1, "objectId": int(id)}
    events = [
        {**about, "subscriptionType": f"company.{what}", "eventId": number, "occurredAt": number}
        for number, what in enumerate(said, start=1_770_000_000_000)
    ]
    await town.tell("hubspot", events)


async def made(town: Town) -> str:
    properties = {"name": "Acme", "domain": "acme.example"}
    path = "/crm/v3/objects/companies"
    return str((await town.hubspot("POST", path, properties=properties))["id"])


async def test_what_was_restored_before_we_heard_of_it_is_met_all_the_same(town: Town):
    id = await made(town)
    await hear_at_once(town, id, "creation", "deletion", "restore")
    await town.work()
    record = await town.record_of(Ref("hubspot", "companies", id))
    assert record.fields["name"] == "Acme"
    assert await town.wrote("close") == ["create lead"]


async def test_what_came_and_went_before_we_heard_of_it_is_nobodys_business(town: Town):
    id = await made(town)
    await town.hubspot("DELETE", f"/crm/v3/objects/companies/{id}")
    await hear_at_once(town, id, "creation", "deletion")
    await town.work()
    assert await town.wrote("close") == []
    assert await town.scalar("select count(*) from records") == 0


async def test_who_is_entered_anew_before_we_know_of_the_delete_is_no_riddle(town: Town):
    _, there = await town.ada()
    async with town.db.transaction() as db:
        await links.begin_writes(db, {there: {}})  # so that the delete has to wait
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    again = await town.hubspot(
        "POST", "/crm/v3/objects/contacts", properties={"email": "ada@x.example"}
    )
    about = {"portalId": 62515, "subscriptionId": 1, "occurredAt": 1_770_000_000_000}
    news = [("contact.deletion", there.id, 1), ("contact.creation", again["id"], 2)]
    events = [
        {**about, "subscriptionType": said, "objectId": int(id), "eventId": number}
        for said, id, number in news
    ]
    await town.tell("hubspot", events)
    async with town.db.transaction() as db:
        await links.end_writes(db, [there])
    await town.go_on()
    assert await town.scalar("select count(*) from conflicts") == 0
    assert await town.state_of(there) == "gone deleted"
    assert await town.state_of(Ref("hubspot", "contacts", again["id"])) == "live"


async def test_who_is_entered_anew_is_no_riddle_though_the_delete_is_told_after_it(town: Town):
    _, there = await town.ada()
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    properties = {"email": "ada@x.example"}
    again = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=properties)
    await town.hear_hubspot("contact.creation", again["id"])
    assert await town.state_of(Ref("hubspot", "contacts", again["id"])) == "live"
    await town.hear_hubspot("contact.deletion", there.id)
    await town.work()
    assert await town.scalar("select count(*) from conflicts") == 0
    assert await town.state_of(there) == "gone deleted"


async def test_nobody_is_asked_any_more_who_is_entered_anew_once_the_delete_is_told(town: Town):
    """Where nothing is kept of what was deleted, it is not plain before."""
    ada, there = await town.ada()
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    match = {"method": "GET", "path": f"/objects/contacts/{there.id}$"}
    await town.control.fault(vendor="hubspot", fault="status", status=404, match=match)
    properties = {"email": "ada@x.example"}
    again = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=properties)
    await town.hear_hubspot("contact.creation", again["id"])
    assert await town.scalar("select kind from conflicts where state = 'open'") == "identity"
    await town.hear_hubspot("contact.deletion", there.id)
    await town.scan("hubspot")
    found = Ref("hubspot", "contacts", again["id"])
    assert (await town.record_of(found)).id == (await town.record_of(ada)).id
    assert await town.scalar("select count(*) from conflicts where state = 'open'") == 0


async def test_what_could_not_be_told_to_what_was_not_shown_is_told_once_it_is_shown(town: Town):
    ada, there = await town.ada()
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    await town.hear_close("contact", "updated", ada.id)
    path = f"/crm/v3/objects/contacts/{there.id}"
    async with town.db.transaction() as db:
        (mark,) = await outbox.take(db, "hubspot", limit=1)
        await outbox.bury(db, mark, describe(NotFoundError("hubspot does not show it")))
    await town.hubspot("PATCH", path, properties={"city": "London"})
    await town.hear_hubspot("contact.propertyChange", there.id, propertyName="city")
    await town.work()
    shown = await town.hubspot("GET", f"{path}?properties=jobtitle")
    assert shown["properties"]["jobtitle"] == "Countess"
    assert await town.marks() == {}


async def test_a_dead_letter_about_what_was_deleted_does_not_hold_up_who_takes_its_place(
    town: Town,
):
    ada, there = await town.ada()
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    await town.hear_close("contact", "updated", ada.id)
    await town.scalar("update outbox set state = 'dead' returning 1")
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    await town.hear_hubspot("contact.deletion", there.id)
    assert await town.marks() == {}
    properties = {"email": "ada@x.example"}
    again = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=properties)
    await town.hear_hubspot("contact.creation", again["id"])
    await town.work()
    path = f"/crm/v3/objects/contacts/{again['id']}?properties=jobtitle"
    assert (await town.hubspot("GET", path))["properties"]["jobtitle"] == "Countess"


async def test_what_the_crm_does_not_show_is_not_written_to(town: Town):
    """It may come back in that very instant, with an edit that we have never seen."""
    ada, _ = await town.ada()
    before = await town.wrote("hubspot")
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    await town.hear_close("contact", "updated", ada.id)
    hidden = {"vendor": "hubspot", "fault": "status"}
    one = {"path": r"/objects/contacts/\d+", "method": "GET"}
    await town.control.fault(**hidden, status=404, match=one)
    batch = {"path": "/contacts/batch/read"}
    await town.control.fault(**hidden, status=200, body={"results": []}, match=batch)
    await town.work()
    assert await town.wrote("hubspot") == before
    assert await town.scalar("select error ->> 'class' from outbox") == "NotFoundError"
