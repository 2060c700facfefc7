"""A create whose answer was lost, and whose record a person has deleted before we could see it."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest

from app.db.tables import conflicts
from app.domain.values import Ref
from app.sync.cards import Word, settle
from app.sync.trouble import LanePaused
from tests.connectors.conftest import control, sandbox
from tests.sync.test_deletes import deletes, more, town
from tests.sync.town import Town

__all__ = ["control", "deletes", "more", "sandbox", "town"]

CONTACTS = {
    "close": "/close/api/v1/contact/",
    "hubspot": "/hubspot/crm/v3/objects/contacts",
}


async def ada_in(town: Town, account: str, *, fault: str = "drop_after_commit") -> Ref:
    """A person in one CRM; her creation in the other reaches it, and nobody hears of it."""
    there, creates = (
        ("hubspot", "contacts/batch/create") if account == "close" else ("close", "/contact/$")
    )
    match = {"method": "POST", "path": creates}
    if account == "close":
        who = {"name": "Ada King", "emails": [{"email": "ada@x.example", "type": "office"}]}
        lead = await town.close("POST", "/lead/", name="Acme", contacts=[who])
        ada = Ref("close", "contact", lead["contacts"][0]["id"])
        await town.hear_close("contact", "created", ada.id)
    else:
        named = {"firstname": "Ada", "lastname": "King", "email": "ada@x.example"}
        company = await town.hubspot("POST", "/crm/v3/objects/companies", properties={"name": "A"})
        made = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=named)
        ends = f"/crm/v4/objects/contacts/{made['id']}/associations/default/companies"
        await town.hubspot("PUT", f"{ends}/{company['id']}")
        ada = Ref("hubspot", "contacts", made["id"])
        await town.hear_hubspot("contact.creation", ada.id)
    await town.control.fault(vendor=there, fault=fault, times=1, match=match)
    await begin_create(town, there)
    return ada


async def begin_create(town: Town, there: str) -> None:
    """Until a create has reached it, and nobody knows."""
    query = "select count(*) from outbox where account = :a and intent is not null"
    for _ in range(9):
        if await town.scalar(query, a=there):
            return
        with contextlib.suppress(LanePaused):  # nothing answered: that pauses the lane
            await town.hurry(there)
    raise AssertionError("the create was never begun")


async def delete_unseen(town: Town, account: str) -> Ref:
    """A person deletes what our create made; the answer is who it was."""
    rows = await town.control.person("GET", CONTACTS[account])
    (row,) = rows.get("results") or rows["data"]
    type = "contact" if account == "close" else "contacts"
    path = f"{CONTACTS[account].rstrip('/')}/{row['id']}" + ("/" if account == "close" else "")
    await town.control.person("DELETE", path)
    return Ref(account, type, row["id"])


async def empty_the_bin(town: Town, departed: Ref) -> None:
    """HubSpot shows it no more, not among the archived either."""
    match = {"method": "GET", "path": f"/objects/{departed.type}/{departed.id}$"}
    await town.control.fault(vendor="hubspot", fault="status", status=404, match=match)


async def there_now(town: Town, account: str) -> int:
    rows = await town.control.person("GET", CONTACTS[account])
    return len(rows.get("results", rows.get("data", ())))


async def card_of(town: Town) -> Any:
    async with town.db.transaction() as db:
        return (await db.execute(conflicts.select())).one()._asdict()


async def test_what_was_deleted_before_its_create_was_answered_does_not_return(town: Town):
    ada = await ada_in(town, "close")
    departed = await delete_unseen(town, "hubspot")
    await town.hear_hubspot("contact.deletion", departed.id)
    await town.work()
    assert await there_now(town, "hubspot") == 0
    assert await town.state_of(departed) == "gone deleted"
    assert (await town.record_of(departed)).id == (await town.record_of(ada)).id
    assert await town.scalar("select count(*) from outbox") == 0
    assert await town.scalar("select count(*) from conflicts") == 0


async def test_where_a_log_tells_of_deletes_the_news_may_come_later(town: Town):
    ada = await ada_in(town, "hubspot")
    departed = await delete_unseen(town, "close")
    async with town.db.transaction() as db:  # until Close's search must have caught up
        await db.exec_driver_sql("update outbox set intent_at = intent_at - interval '40 seconds'")
    await town.work()
    assert await there_now(town, "close") == 0
    assert (await town.record_of(departed)).id == (await town.record_of(ada)).id
    await town.hear_close("contact", "deleted", departed.id)
    await town.work()
    assert await town.state_of(departed) == "gone deleted"


@pytest.mark.parametrize("deletes", ["propagate"])
async def test_such_a_delete_is_carried_to_the_others_where_that_is_the_policy(town: Town):
    ada = await ada_in(town, "close")
    departed = await delete_unseen(town, "hubspot")
    await town.hear_hubspot("contact.deletion", departed.id)
    await town.work()
    assert not await town.there(ada)


@pytest.mark.parametrize("deletes", ["propagate"])
async def test_so_is_one_of_which_a_person_must_tell(town: Town):
    ada = await ada_in(town, "close")
    departed = await delete_unseen(town, "hubspot")
    await empty_the_bin(town, departed)
    await town.hear_hubspot("contact.deletion", departed.id)
    await town.work()
    await settle(town.house, await card_of(town), Word(keep=departed.id))
    await town.go_on()
    assert not await town.there(ada)
    assert await town.scalar("select count(*) from conflicts where state = 'open'") == 0


@pytest.mark.parametrize(("word", "copies"), [("keep", 0), ("new", 1)])
async def test_where_nothing_tells_what_was_deleted_a_person_is_asked(
    town: Town, word: str, copies: int
):
    await ada_in(town, "close")
    departed = await delete_unseen(town, "hubspot")
    await empty_the_bin(town, departed)
    await town.hear_hubspot("contact.deletion", departed.id)
    await town.work()
    assert await there_now(town, "hubspot") == 0
    card = await card_of(town)
    assert departed.id in card["detail"]["reason"]
    said = Word(keep=departed.id) if word == "keep" else Word(new=True)
    await settle(town.house, card, said)
    await town.work()
    assert await there_now(town, "hubspot") == copies
    assert await town.scalar("select count(*) from conflicts where state = 'open'") == 0


@pytest.mark.parametrize("word", [None, "keep", "new"], ids=["known by its stamp", "keep", "new"])
async def test_what_was_merged_away_before_its_create_was_answered_is_not_made_again_unasked(
    town: Town, word: str | None
):
    path = "/crm/v3/objects/companies"
    other = (await town.hubspot("POST", path, properties={"name": "Bell"}))["id"]
    await town.hear_hubspot("company.creation", other)
    await town.work()
    match = {"method": "POST", "path": "companies/batch/create"}
    await town.control.fault(vendor="hubspot", fault="drop_after_commit", times=1, match=match)
    lead = await town.close("POST", "/lead/", name="Acme")
    await town.hear_close("lead", "created", lead["id"])
    await begin_create(town, "hubspot")

    async def there() -> list[str]:
        rows = await town.control.person("GET", f"/hubspot{path}")
        return [row["id"] for row in rows["results"]]

    (made,) = {*await there()} - {other}
    ends = {"primaryObjectId": other, "objectIdToMerge": made}
    await town.control.person("POST", f"/hubspot{path}/merge", json=ends)
    if word is not None:
        await empty_the_bin(town, Ref("hubspot", "companies", made))
    told = {"primaryObjectId": other, "mergedObjectIds": [made], "newObjectId": other}
    await town.hear_hubspot("company.merge", other, numberOfPropertiesMoved=0, **told)
    await town.go_on()
    assert await there() == [other]
    if word is not None:
        card = await card_of(town)
        assert made in card["detail"]["reason"]
        await settle(town.house, card, Word(keep=made) if word == "keep" else Word(new=True))
        await town.go_on()
    acme = await town.record_of(Ref("close", "lead", lead["id"]))
    bell = await town.record_of(Ref("hubspot", "companies", other))
    assert (acme.id == bell.id, len(await there())) == ((True, 1) if word != "new" else (False, 2))


async def test_a_merge_of_others_in_those_seconds_is_no_reason_to_ask(town: Town):
    path = "/crm/v3/objects/companies"
    others = []
    for name in ("bell", "cobb"):
        firm = {"name": name, "domain": f"{name}.example"}
        others.append((await town.hubspot("POST", path, properties=firm))["id"])
    match = {"method": "POST", "path": "companies/batch/create"}
    await town.control.fault(vendor="hubspot", fault="drop_before", times=1, match=match)
    lead = await town.close("POST", "/lead/", name="Acme", url="https://acme.example")
    await town.hear_close("lead", "created", lead["id"])
    await begin_create(town, "hubspot")
    ends = {"primaryObjectId": others[0], "objectIdToMerge": others[1]}
    await town.control.person("POST", f"/hubspot{path}/merge", json=ends)
    told = {"primaryObjectId": others[0], "mergedObjectIds": [others[1]], "newObjectId": others[0]}
    await town.hear_hubspot("company.merge", others[0], numberOfPropertiesMoved=0, **told)
    async with town.db.transaction() as db:  # until HubSpot's search must have caught up
        await db.exec_driver_sql("update outbox set intent_at = intent_at - interval '40 seconds'")
    await town.go_on()
    rows = await town.control.person("GET", f"/hubspot{path}?properties=domain")
    domains = {row["properties"]["domain"] for row in rows["results"]}
    assert domains == {"acme.example", "bell.example"}
    assert await town.scalar("select count(*) from conflicts where state = 'open'") == 0


async def test_an_edit_while_a_person_is_asked_does_not_make_it_anew(town: Town):
    ada = await ada_in(town, "close")
    departed = await delete_unseen(town, "hubspot")
    await empty_the_bin(town, departed)
    await town.hear_hubspot("contact.deletion", departed.id)
    await town.work()
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    await town.hear_close("contact", "updated", ada.id)
    await town.work()
    assert await there_now(town, "hubspot") == 0
    await settle(town.house, await card_of(town), Word(new=True))
    await town.work()
    assert await there_now(town, "hubspot") == 1


async def test_another_delete_of_those_seconds_is_no_reason_to_ask(town: Town):
    named = {"email": "old@x.example"}
    old = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=named)
    await ada_in(town, "close")
    await town.control.person("DELETE", f"{CONTACTS['hubspot']}/{old['id']}")
    await town.work()
    assert await there_now(town, "hubspot") == 1
    assert await town.scalar("select count(*) from conflicts") == 0


async def test_somebody_else_who_came_and_went_in_those_seconds_is_no_reason_to_ask(town: Town):
    await ada_in(town, "hubspot", fault="drop_before")
    who = {"name": "Ada King", "emails": [{"email": "king@y.example", "type": "office"}]}
    lead = await town.close("POST", "/lead/", name="Other", contacts=[who])
    path = f"{CONTACTS['close']}{lead['contacts'][0]['id']}/"
    await town.control.person("DELETE", path)
    async with town.db.transaction() as db:  # until Close's search must have caught up
        await db.exec_driver_sql("update outbox set intent_at = intent_at - interval '40 seconds'")
    await town.work()
    assert await there_now(town, "close") == 1
    assert await town.scalar("select count(*) from conflicts") == 0


async def test_a_delete_told_before_the_create_was_answered_is_not_forgotten(town: Town):
    who = {"name": "Ada King", "emails": [{"email": "ada@x.example", "type": "office"}]}
    lead = await town.close("POST", "/lead/", name="Acme", contacts=[who])
    connector = town.house.members["hubspot"].connector
    write = connector.write
    left: list[Ref] = []

    async def write_slowly(batch: Any) -> Any:
        outcomes = await write(batch)
        if batch[0].entity == "person":
            left.append(await delete_unseen(town, "hubspot"))
            await town.hear_hubspot("contact.deletion", left[0].id)
        return outcomes

    connector.write = write_slowly
    await town.hear_close("lead", "created", lead["id"])
    await town.wait()
    assert await town.state_of(left[0]) == "live"
    async with town.db.transaction() as db:
        await db.exec_driver_sql("update events set due_at = now()")
    await town.listen("hubspot")
    assert await town.state_of(left[0]) == "gone deleted"


async def test_what_was_deleted_and_restored_before_we_met_it_is_met(town: Town):
    named = {"email": "ada@x.example", "firstname": "Ada"}
    made = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=named)
    at = int(datetime.now(UTC).timestamp() * 1000)
    events = [
        {
            "subscriptionType": f"contact.{said}",
            "portalId": 62515,
            "eventId": number,
            "subscriptionId": 1,
            "objectId": int(made["id"]),
            "occurredAt": at + number,
        }
        for number, said in enumerate(("creation", "deletion", "restore"))
    ]
    await town.tell("hubspot", events)
    assert (await town.record_of(Ref("hubspot", "contacts", made["id"]))).fields[
        "first_name"
    ] == "Ada"
