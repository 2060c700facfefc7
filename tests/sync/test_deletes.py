"""Deletes: unlinked or carried over as configured, never over an edit, and never invented."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.db import conflicts, guards, links, outbox, records
from app.db.engine import Database
from app.db.journal import Cause
from app.domain.merge import Clash, Winner
from app.domain.values import Op, Outcome, Ref, Write
from app.errors import RejectedError
from app.sync import byhand
from app.sync.cards import begin_merge
from app.sync.deletes import recreate
from app.sync.merges import give_up
from app.sync.purge import purge
from app.sync.relink import unite
from app.sync.trouble import LanePaused
from tests.connectors.conftest import Control, control, sandbox
from tests.full.harness import until
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]


@pytest.fixture
def deletes() -> str:
    """What a delete does."""
    return "unlink"


@pytest.fixture
def more() -> str:
    """Further lines of the configuration."""
    return ""


@pytest.fixture
async def town(
    database: Database, control: Control, deletes: str, more: str
) -> AsyncIterator[Town]:
    async with founded(database, control, deletes=deletes, more=more) as found:
        yield found


PROPAGATE = pytest.mark.parametrize("deletes", ["propagate"])


async def delete_in_close(town: Town, contact: Ref) -> None:
    await town.close("DELETE", f"/contact/{contact.id}/")
    await town.hear_close("contact", "deleted", contact.id)


async def delete_in_hubspot(town: Town, contact: Ref) -> None:
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{contact.id}")
    await town.hear_hubspot("contact.deletion", contact.id)


# --- unlink, the default -----------------------------------------------------------------------


async def test_what_is_deleted_in_one_crm_stays_in_the_other_and_is_told(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    await town.work()
    assert await town.there(hers)
    assert (await town.state_of(ada), await town.state_of(hers)) == ("gone deleted", "live")
    rule = "select rule from journal where field = 'link'"
    assert await town.scalar(rule) == "deleted there; unlink: the others keep theirs"


async def test_an_edit_of_the_copy_that_lives_on_does_not_bring_the_deleted_one_back(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    await town.hear_hubspot("contact.propertyChange", hers.id, propertyName="jobtitle")
    await town.work()
    assert (await town.record_of(hers)).fields["title"] == "Countess"
    assert await town.wrote("close") == []


async def test_a_person_can_ask_for_it_to_be_made_there_anew(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    record = await town.record_of(hers)
    async with town.db.transaction() as db:
        with pytest.raises(RejectedError):
            await recreate(db, record, "hubspot")
        await recreate(db, record, "close")
    await town.work()
    assert await town.wrote("close") == ["create contact"]
    assert await town.scalar("select count(*) from links where state = 'live'") == 4  # with Acme


# --- propagate ---------------------------------------------------------------------------------


@PROPAGATE
@pytest.mark.parametrize("where", ["close", "hubspot"])
async def test_a_delete_is_carried_to_the_others_where_that_is_the_policy(town: Town, where: str):
    ada, hers = await town.ada()
    if where == "close":
        await delete_in_close(town, ada)
    else:
        await delete_in_hubspot(town, hers)
    await town.work()
    assert not await town.there(ada)
    assert not await town.there(hers)
    ended = {await town.state_of(ada), await town.state_of(hers)}
    assert ended == {"gone deleted", "gone propagated"}
    assert await town.scalar("select count(*) from attempts where op = 'delete'") == 1
    assert await town.scalar("select before ->> 'last_name' from attempts where op = 'delete'")
    assert await town.marks() == {}


@pytest.mark.parametrize("deletes", ["{close: unlink, hubspot: propagate}"])
async def test_the_policy_is_that_of_the_account_in_which_it_was_deleted(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    await town.work()
    assert await town.there(hers)


@PROPAGATE
async def test_the_echo_of_our_own_delete_is_silent(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    await town.work()
    await town.hear_hubspot("contact.deletion", hers.id)
    await town.hear_close("contact", "deleted", ada.id)
    await town.work()
    assert await town.scalar("select count(*) from attempts where op = 'delete'") == 1
    assert await town.state_of(hers) == "gone propagated"


@PROPAGATE
async def test_a_delete_of_ours_whose_worker_died_is_still_ours(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    # HubSpot did as we asked, and nobody was left to hear the answer.
    async with town.db.transaction() as db:
        await links.begin_writes(db, {hers: {}})
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{hers.id}")
    await town.hear_hubspot("contact.deletion", hers.id)
    await town.work()
    assert await town.state_of(hers) == "gone propagated"
    assert (await town.record_of(ada)).state == "gone"
    assert await town.marks() == {}


@PROPAGATE
async def test_an_edit_told_before_the_delete_is_carried_out_keeps_the_record(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    await town.hear_hubspot("contact.propertyChange", hers.id, propertyName="jobtitle")
    await town.work()
    assert await town.there(hers)
    assert (await town.record_of(hers)).state == "live"
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"


@PROPAGATE
async def test_an_edit_that_nobody_told_us_of_keeps_the_record_too(town: Town):
    """We look before we delete."""
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    await town.work()
    assert await town.there(hers)
    card = await town.scalar("select detail -> 'fields' ->> 0 from conflicts where state = 'open'")
    assert card == "title"


@PROPAGATE
async def test_an_edit_the_deleter_could_not_have_seen_keeps_the_record(town: Town):
    ada, hers = await town.ada()
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    await town.hear_hubspot("contact.propertyChange", hers.id, propertyName="jobtitle")
    await delete_in_close(town, ada)  # the title has not been written to Close yet
    await town.work()
    assert await town.there(hers)
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"
    assert await town.wrote("close") == []


async def acme_in_both(town: Town) -> tuple[Ref, Ref]:
    lead = await town.close("POST", "/lead/", name="Acme", url="https://acme.example")
    await town.hear_close("lead", "created", lead["id"])
    await town.work()
    made = await town.scalar("select remote_id from links where account = 'hubspot'")
    return Ref("close", "lead", lead["id"]), Ref("hubspot", "companies", made)


async def give_acme_a_phone(town: Town, there: Ref) -> None:
    """Close has no field for the phone of a company."""
    path = f"/crm/v3/objects/companies/{there.id}"
    await town.hubspot("PATCH", path, properties={"phone": "+49302000001"})
    await town.hear_hubspot("company.propertyChange", there.id, propertyName="phone")


@PROPAGATE
async def test_an_edit_after_the_delete_keeps_the_record_though_that_crm_has_no_such_field(
    town: Town,
):
    acme, there = await acme_in_both(town)
    deleted_at = datetime.now(UTC).replace(tzinfo=None).isoformat()
    await town.close("DELETE", f"/lead/{acme.id}/")
    await give_acme_a_phone(town, there)
    await town.hear_close("lead", "deleted", acme.id, date_updated=deleted_at)
    await town.work()
    assert await town.there(there)
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"


@PROPAGATE
async def test_an_edit_before_the_delete_goes_with_it_where_that_crm_has_no_such_field(town: Town):
    acme, there = await acme_in_both(town)
    await give_acme_a_phone(town, there)
    await town.close("DELETE", f"/lead/{acme.id}/")
    await town.hear_close("lead", "deleted", acme.id)
    await town.work()
    assert not await town.there(there)


@PROPAGATE
async def test_a_delete_waits_a_little_for_it_may_prove_to_be_a_merge(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    await town.wait()
    assert await town.there(hers)
    assert await town.marks() == {("hubspot", "person"): 1}


@PROPAGATE
async def test_what_is_deleted_there_already_is_done(town: Town):
    ada, hers = await town.ada()
    await delete_in_close(town, ada)
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{hers.id}")
    await town.work()
    assert await town.marks() == {}
    assert await town.state_of(hers) == "gone deleted"
    assert (await town.record_of(hers)).state == "gone"


@PROPAGATE
async def test_a_record_restored_after_its_delete_was_carried_over_is_made_there_anew(town: Town):
    ada, hers = await town.ada()
    await delete_in_hubspot(town, hers)
    await town.work()
    assert not await town.there(ada)
    await town.hubspot("POST", f"/crm/v3/objects/contacts/{hers.id}/restore")
    await town.hear_hubspot("contact.restore", hers.id)
    await town.work()
    assert await town.state_of(hers) == "live"
    assert (await town.record_of(hers)).state == "live"
    person = "select count(*) from links where state = 'live' and account = 'close'"
    assert await town.scalar(f"{person} and entity = 'person'") == 1
    assert await town.scalar("select count(*) from records where entity = 'person'") == 1


@PROPAGATE
async def test_a_lead_whose_contacts_live_on_is_not_deleted_with_them(town: Town):
    ada, _ = await town.ada()
    (parent,) = records.parents_of(await town.record_of(ada))["company"]
    query = "select remote_id from links where account = :a and record_id = :r"
    hub = await town.scalar(query, a="hubspot", r=parent)
    await town.hubspot("DELETE", f"/crm/v3/objects/companies/{hub}")
    await town.hear_hubspot("company.deletion", hub)
    await town.work()
    assert await town.there(ada)
    lead = Ref("close", "lead", await town.scalar(query, a="close", r=parent))
    assert await town.there(lead)
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"


@PROPAGATE
async def test_a_lead_is_not_deleted_with_a_contact_of_whom_nobody_has_told_us(town: Town):
    made = {"name": "Acme", "domain": "acme.example"}
    company = (await town.hubspot("POST", "/crm/v3/objects/companies", properties=made))["id"]
    await town.hear_hubspot("company.creation", company)
    await town.work()
    id = await town.scalar("select remote_id from links where account = 'close'")
    await town.hubspot("DELETE", f"/crm/v3/objects/companies/{company}")
    await town.hear_hubspot("company.deletion", company)
    grace = await town.close("POST", "/contact/", lead_id=id, name="Grace Hopper")
    await town.work()
    assert await town.there(Ref("close", "lead", id))
    assert await town.there(Ref("close", "contact", grace["id"]))
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"
    assert await town.marks() == {}


# --- children ----------------------------------------------------------------------------------


async def a_deal_of_ada(town: Town) -> tuple[Ref, Ref, Ref, Ref]:
    """Ada in Close and in HubSpot, and a deal of hers in both."""
    ada, hers = await town.ada()
    raw = await town.close("GET", f"/contact/{ada.id}/")
    statuses = (await town.close("GET", "/status/opportunity/"))["data"]
    deal = await town.close(
        "POST",
        "/opportunity/",
        lead_id=raw["lead_id"],
        contact_id=ada.id,
        status_id=statuses[0]["id"],
    )
    here = Ref("close", "opportunity", deal["id"])
    await town.hear_close("opportunity", "created", deal["id"])
    await town.work()
    query = "select remote_id from links where account = 'hubspot' and entity = 'deal'"
    return ada, hers, here, Ref("hubspot", "deals", str(await town.scalar(query)))


@pytest.mark.parametrize("first", ["the contact", "the deal"])
async def test_a_contact_deleted_in_one_crm_stays_with_its_deal_in_the_other(
    town: Town, first: str
):
    ada, hers, here, there = await a_deal_of_ada(town)
    assert (await town.record_of(there)).fields["people"] == [str((await town.record_of(ada)).id)]
    await town.close("DELETE", f"/contact/{ada.id}/")
    await town.close("PUT", f"/opportunity/{here.id}/", note="Engines", contact_id=None)
    if first == "the contact":
        await town.hear_close("contact", "deleted", ada.id)
        await town.hear_close("opportunity", "updated", here.id)
    else:
        await town.hear_close("opportunity", "updated", here.id)
        await town.hear_close("contact", "deleted", ada.id)
        await town.hear_close("opportunity", "updated", here.id)  # it was put off
    await town.work()
    assert (await town.state_of(ada), await town.state_of(hers)) == ("gone deleted", "live")
    record = await town.record_of(there)
    assert record.fields["description"] == "Engines"
    assert record.fields["people"] == [str((await town.record_of(hers)).id)]
    path = f"/crm/v4/objects/deals/{there.id}/associations/contacts"
    assert [row["toObjectId"] for row in (await town.hubspot("GET", path))["results"]] == [
        int(hers.id)
    ]
    # Who is made there anew is with the deal again.
    async with town.db.transaction() as db:
        await recreate(db, await town.record_of(hers), "close")
    await town.work()
    again = await town.close("GET", f"/opportunity/{here.id}/")
    query = "select remote_id from links where state = 'live' and type = 'contact'"
    assert again["contact_id"] == await town.scalar(query)


async def test_a_contact_that_somebody_takes_from_a_deal_leaves_it_everywhere(town: Town):
    _, _, here, there = await a_deal_of_ada(town)
    await town.close("PUT", f"/opportunity/{here.id}/", contact_id=None)
    await town.hear_close("opportunity", "updated", here.id)
    await town.work()
    assert (await town.record_of(there)).fields["people"] == []
    path = f"/crm/v4/objects/deals/{there.id}/associations/contacts"
    assert (await town.hubspot("GET", path))["results"] == []


@PROPAGATE
async def test_a_deal_goes_with_its_company_though_the_company_is_deleted_first(town: Town):
    ada, _, here, there = await a_deal_of_ada(town)
    lead = (await town.close("GET", f"/contact/{ada.id}/"))["lead_id"]
    await town.close("DELETE", f"/lead/{lead}/")
    await town.hear_close("lead", "deleted", lead)
    await town.hear_close("contact", "deleted", ada.id)
    await town.hear_close("opportunity", "deleted", here.id)
    await town.work()
    assert await town.scalar("select count(*) from links where state = 'live'") == 0
    assert await town.scalar("select count(*) from conflicts") == 0
    assert await town.wrote("hubspot") == [
        *("create companies", "create contacts", "create deals"),
        *("delete companies", "delete contacts", "delete deals"),
    ]
    assert not await town.there(there)


# --- merges in a CRM ---------------------------------------------------------------------------


async def a_double(town: Town, *, deletes: int) -> tuple[Ref, Ref]:
    """Ada's contact in HubSpot and her double, which is to be merged there; with that guard."""
    _, hers = await town.ada()
    properties = {"firstname": "Ada", "email": "king@x.example"}
    made = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=properties)
    double = Ref("hubspot", "contacts", made["id"])
    await town.hear_hubspot("contact.creation", double.id)
    await town.work()
    into, record = await town.record_of(hers), await town.record_of(double)
    member = town.house.members["hubspot"]
    guard = member.config.guard.model_copy(update={"deletes": deletes})
    config = member.config.model_copy(update={"guard": guard})
    town.house.members["hubspot"] = replace(member, config=config)
    async with town.db.transaction() as db:
        await byhand.merge(db, town.house, record.id, into.id)
        await begin_merge(db, town.house, into.id, double)
    return hers, double


async def test_a_merge_counts_as_a_delete_for_the_guard_of_the_crm(town: Town):
    hers, double = await a_double(town, deletes=0)
    await town.work()
    assert await town.state_of(double) == "merging"
    assert await town.scalar("select guard from outbox where state = 'held'") == "delete"
    async with town.db.transaction() as db:
        assert await guards.approve(db, "hubspot", ["delete"], for_an_hour=False) == 1
    await town.work()
    assert (await town.state_of(hers), await town.state_of(double)) == ("live", "gone merged")


async def test_a_merge_that_is_discarded_is_asked_about_again(town: Town):
    _, double = await a_double(town, deletes=0)
    await town.work()
    async with town.db.transaction() as db:
        await guards.discard(db, "hubspot", ["delete"], types={}, reason="not now")
        await give_up(db, "hubspot")
    assert await town.state_of(double) == "parked"
    card = "select kind from conflicts where state = 'open' and ref_id = :id"
    assert await town.scalar(card, id=double.id) == "merge"


# --- restores ----------------------------------------------------------------------------------


async def test_a_restored_contact_takes_its_old_place(town: Town):
    ada, hers = await town.ada()
    await delete_in_hubspot(town, hers)
    assert await town.state_of(hers) == "gone deleted"
    await town.hubspot("POST", f"/crm/v3/objects/contacts/{hers.id}/restore")
    await town.hear_hubspot("contact.restore", hers.id)
    await town.work()
    assert await town.state_of(hers) == "live"
    assert (await town.record_of(hers)).id == (await town.record_of(ada)).id
    assert await town.scalar("select count(*) from records where entity = 'person'") == 1


# --- purges ------------------------------------------------------------------------------------


async def erase_in_hubspot(town: Town, contact: Ref, *said: str) -> None:
    """Somebody asks to be forgotten; HubSpot tells so in whatever order."""
    path = "/crm/v3/objects/contacts/gdpr-delete"
    await town.hubspot("POST", path, objectId=contact.id)
    for kind in said or ("privacyDeletion", "deletion"):
        await town.hear_hubspot(f"contact.{kind}", contact.id)


async def traces(town: Town) -> list[str]:
    """The tables in which something of Ada is still to be read."""
    found = []
    for table in (
        *("records", "links", "journal", "attempts", "conflicts", "keys", "outbox"),
        *("deliveries", "events", "plan_items", "resyncs", "drifts", "differences"),
    ):
        body = " || convert_from(body, 'utf8')" if table == "deliveries" else ""
        query = (
            f"select count(*) from {table} t"
            f" where lower(t::text{body}) ~ 'ada@x.example|king|countess'"
        )
        if await town.scalar(query):
            found.append(table)
    return found


async def told_of_her(town: Town, record_id: UUID) -> None:
    """What a drift check may have found: a value of hers, and of another record that names her."""
    found = (
        "with d as (insert into drifts (id, account, entities) values"
        " (gen_random_uuid(), 'hubspot', '{person}') returning id)"
        " insert into differences (drift_id, n, entity, record_id, remote_id, field, theirs,"
        " cause, reason) select d.id, v.n, 'person', v.record_id, '1', 'title', v.said,"
        " 'missed_webhook', '' from d, (values (1, :hers, '\"Countess\"'::jsonb),"
        " (2, gen_random_uuid(), '\"with Ada King\"'::jsonb)) as v (n, record_id, said)"
    )
    async with town.db.transaction() as db:
        await db.execute(sa.text(found).bindparams(sa.bindparam("hers", record_id, sa.UUID())))


@pytest.mark.parametrize(
    "said",
    [("privacyDeletion", "deletion"), ("deletion", "privacyDeletion"), ("privacyDeletion",)],
    ids=" ".join,
)
async def test_nothing_is_kept_of_a_person_whom_a_crm_erased(town: Town, said: tuple[str, ...]):
    ada, hers = await town.ada()
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    change = {"propertyName": "jobtitle", "propertyValue": "Countess"}
    await town.hear_hubspot("contact.propertyChange", hers.id, **change)
    await town.work()
    await told_of_her(town, (await town.record_of(hers)).id)
    kept = {"records", "links", "journal", "attempts", "deliveries", "differences"}
    assert set(await traces(town)) >= kept
    await erase_in_hubspot(town, hers, *said)
    await town.work()
    assert await traces(town) == []
    assert await town.state_of(ada) == "gone purged"
    assert (await town.record_of(ada)).state == "purged"
    assert await town.there(ada)  # `privacy: purge` leaves what others keep


async def test_who_was_purged_does_not_return_with_late_news_or_a_reading(town: Town):
    ada, hers = await town.ada()
    await erase_in_hubspot(town, hers)
    await town.close("PUT", f"/contact/{ada.id}/", title="Countess")
    raw = await town.close("GET", f"/contact/{ada.id}/")
    await town.hear_close("contact", "updated", ada.id, data=raw)
    await town.work()
    assert await traces(town) == []
    assert (await town.record_of(ada)).fields == {}


async def test_who_was_purged_does_not_return_under_another_id(town: Town):
    ada, hers = await town.ada()
    await erase_in_hubspot(town, hers)
    lead = (await town.close("GET", f"/contact/{ada.id}/"))["lead_id"]
    address = [{"email": "ADA@x.example", "type": "office"}]
    again = await town.close("POST", "/contact/", lead_id=lead, name="Ada K", emails=address)
    await town.hear_close("contact", "created", again["id"])
    await town.work()
    assert await town.scalar("select count(*) from records where state = 'live'") == 1  # Acme
    assert await town.wrote("hubspot") == ["create companies", "create contacts"]


@pytest.mark.parametrize("more", ["privacy: propagate"])
async def test_a_person_is_erased_in_the_other_crms_where_that_is_the_policy(town: Town):
    ada, hers = await town.ada()
    await erase_in_hubspot(town, hers)
    assert await traces(town) == []
    await town.work()
    assert not await town.there(ada)
    assert await town.state_of(ada) == "gone purged"
    assert (await town.record_of(ada)).state == "purged"
    assert await traces(town) == []


async def test_a_person_whom_the_crm_still_shows_is_not_purged(town: Town):
    ada, hers = await town.ada()
    await town.hear_hubspot("contact.privacyDeletion", hers.id)
    assert (await town.record_of(ada)).fields["last_name"] == "King"


async def test_somebody_purged_is_erased_in_hubspot_not_only_archived(town: Town):
    _, hers = await town.ada()
    record = await town.record_of(hers)
    async with town.db.transaction() as db:
        await purge(
            db,
            town.house.box,
            record.id,
            cause=Cause("person"),
            by="person",
            deletes=lambda link: link.ref.account == "hubspot",
        )
    await town.work()
    assert not await town.there(hers)
    calls = [call["path"] for call in await town.control.calls("hubspot")]
    assert any(path.endswith("/gdpr-delete") for path in calls)


# --- what only looks like a delete -------------------------------------------------------------


@PROPAGATE
@pytest.mark.parametrize("status", [404, 500])
async def test_a_record_that_is_merely_not_shown_is_deleted_nowhere(town: Town, status: int):
    ada, hers = await town.ada()
    await town.control.fault(vendor="hubspot", fault="status", status=status)
    change = {"propertyName": "jobtitle", "propertyValue": "Countess"}
    with contextlib.suppress(LanePaused):
        await town.hear_hubspot("contact.propertyChange", hers.id, **change)
    await town.control.call("DELETE", "/_sandbox/faults")
    await town.work()
    assert await town.state_of(hers) == "live"
    assert await town.there(ada)


@PROPAGATE
async def test_an_old_word_of_a_delete_proves_nothing_of_a_record_seen_since(town: Town):
    ada, hers = await town.ada()
    path = f"/crm/v3/objects/contacts/{hers.id}"
    await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
    await town.hear_hubspot("contact.propertyChange", hers.id, propertyName="jobtitle")
    hidden = {"vendor": "hubspot", "fault": "status"}
    one = {"path": r"/objects/contacts/\d+", "method": "GET"}
    await town.control.fault(**hidden, status=404, match=one)
    batch = {"path": "/contacts/batch/read"}
    await town.control.fault(**hidden, status=200, body={"results": []}, match=batch)
    await town.hear_hubspot("contact.deletion", hers.id, occurredAt=1_500_000_000_000)
    await town.control.call("DELETE", "/_sandbox/faults")
    await town.work()
    assert await town.state_of(hers) == "live"
    assert await town.there(ada)


@PROPAGATE
async def test_what_is_deleted_while_its_copy_is_made_is_deleted_there_too(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    companies = "/crm/v3/objects/companies"
    properties = {"name": "Acme", "domain": "acme.example"}
    id = (await town.hubspot("POST", companies, properties=properties))["id"]
    await town.hear_hubspot("company.creation", id)
    connector = town.house.members["close"].connector
    write = connector.write

    async def made_and_deleted(batch: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = await write(batch)
        if batch[0].op is Op.CREATE:
            await town.hubspot("DELETE", f"{companies}/{id}")
            await town.hear_hubspot("company.deletion", id)
        return outcomes

    monkeypatch.setattr(connector, "write", made_and_deleted)
    await town.work()
    await town.go_on()
    assert await town.wrote("close") == ["create lead", "delete lead"]
    assert (await town.close("GET", "/lead/"))["data"] == []


@PROPAGATE
@pytest.mark.parametrize("made", [True, False])
async def test_what_is_deleted_after_the_worker_that_made_its_copy_has_died_is_deleted_there_too(
    town: Town, monkeypatch: pytest.MonkeyPatch, made: bool
):
    companies = "/crm/v3/objects/companies"
    properties = {"name": "Acme", "domain": "acme.example"}
    id = (await town.hubspot("POST", companies, properties=properties))["id"]
    await town.hear_hubspot("company.creation", id)
    connector = town.house.members["close"].connector
    write = connector.write

    async def die(batch: Sequence[Write]) -> list[Outcome]:
        if made:
            await write(batch)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch, contextlib.suppress(asyncio.CancelledError):
        patch.setattr(connector, "write", die)
        await town.work()
    await town.hubspot("DELETE", f"{companies}/{id}")
    await town.hear_hubspot("company.deletion", id)
    await town.work()
    await town.go_on()
    # Of the create no answer was kept.
    assert await town.wrote("close") == (["delete lead"] if made else [])
    assert (await town.close("GET", "/lead/"))["data"] == []
    assert await town.scalar("select count(*) from outbox") == 0
    assert await town.scalar("select count(*) from keys") == 0  # who comes with one is new


@PROPAGATE
async def test_no_card_asks_about_a_field_of_what_was_deleted(town: Town):
    ada, hers = await town.ada()
    async with town.db.transaction() as db:
        record = await town.record_of(ada)
        clash = Clash("title", "ours", "theirs", Winner.NOBODY, "held")
        await conflicts.hold_field(db, record.id, "person", hers, clash)
    await delete_in_close(town, ada)
    await town.go_on()
    assert not await town.there(hers)
    assert await town.scalar("select count(*) from conflicts where state = 'open'") == 0


@PROPAGATE
@pytest.mark.parametrize("joined", [False, True], ids=["", "a person has joined the two before"])
async def test_what_a_merge_has_put_into_one_that_we_deleted_just_then_is_made_anew(
    town: Town, joined: bool
):
    companies = "/crm/v3/objects/companies"
    firms, leads = [], []
    for name in ("acme", "bell"):
        properties = {"name": name, "domain": f"{name}.example"}
        firms.append((await town.hubspot("POST", companies, properties=properties))["id"])
        await town.hear_hubspot("company.creation", firms[-1])
        await town.work()
        query = "select remote_id from links where account = 'close' order by id desc limit 1"
        leads.append(Ref("close", "lead", await town.scalar(query)))
    await town.hubspot("DELETE", f"{companies}/{firms[0]}")
    await town.hear_hubspot("company.deletion", firms[0])
    await town.close("POST", "/lead/merge/", source=leads[1].id, destination=leads[0].id)
    await town.work()
    assert await town.state_of(leads[0]) == "gone propagated"
    if joined:
        lost, kept = [await town.record_of(lead) for lead in leads]
        async with town.db.transaction() as db:
            await unite(db, lost.id, kept.id, into=None)
        await town.work()
    ends = {"merge_source_lead_id": leads[1].id, "merge_destination_lead_id": leads[0].id}
    await town.hear_close("lead", "merged", leads[0].id, meta=ends)
    await town.go_on()
    record = await town.record_of(Ref("hubspot", "companies", firms[1]))
    assert record.state == "live"
    (left,) = (await town.close("GET", "/lead/"))["data"]
    assert (await town.record_of(Ref("close", "lead", left["id"]))).id == record.id


@PROPAGATE
async def test_a_person_is_asked_though_the_only_copy_left_is_just_being_made(town: Town):
    properties = {"name": "Acme", "domain": "acme.example"}
    id = (await town.hubspot("POST", "/crm/v3/objects/companies", properties=properties))["id"]
    await town.hear_hubspot("company.creation", id)
    ref = Ref("hubspot", "companies", id)
    record = await town.record_of(ref)
    async with town.db.transaction() as db:
        (mark,) = await outbox.take(db, "close", limit=1)
        await outbox.intend(db, [(mark, "trace", {"name": "Acme"})])
        fields = {**record.fields, "description": "edited elsewhere"}
        await records.change(
            db, [replace(record, fields=fields, version=record.version + 1)], source="close"
        )
    await town.hubspot("DELETE", f"/crm/v3/objects/companies/{id}")
    await town.hear_hubspot("company.deletion", id)
    assert await town.scalar("select kind from conflicts where state = 'open'") == "delete"
    assert (await town.record_of(ref)).state == "live"


async def test_what_is_deleted_in_the_instant_before_its_create_is_not_made(town: Town):
    properties = {"name": "Acme", "domain": "acme.example"}
    path = "/crm/v3/objects/companies"
    id = (await town.hubspot("POST", path, properties=properties))["id"]
    await town.hear_hubspot("company.creation", id)
    record = await town.record_of(Ref("hubspot", "companies", id))
    async with town.db.transaction() as db:
        await records.get(db, [record.id], lock=True)
        await records.bury(db, [record.id])
        making = asyncio.create_task(town.work("close"))

        async def waits_or_is_done() -> bool:
            return making.done() or await town.anybody_waits()

        await until(waits_or_is_done)
    await making
    assert await town.wrote("close") == []
