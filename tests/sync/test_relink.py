"""Merges in a CRM, told in good order and in bad: one record, every link accounted for."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from app.db import links, outbox
from app.db.outbox import Mark
from app.db.tables import links as link_rows
from app.domain.state import Plan
from app.domain.values import Observation, Ref
from app.sync.relink import relink
from tests.sync.conftest import NOON, Company, contact, hub_contact, lead


async def merged(company: Company, ref: Ref, to: Ref) -> None:
    """The vendor tells of a merge."""
    async with company.db.transaction() as db:
        await relink(db, ref, to)


async def states(company: Company) -> dict[str, str]:
    """Every link with its state, and why it is gone."""
    async with company.db.transaction() as db:
        rows = await db.execute(sa.select(link_rows))
        return {
            f"{row.account}/{row.remote_id}": f"{row.state} {row.ended or ''}".strip()
            for row in rows
        }


async def living(company: Company) -> int:
    return int(await company.scalar("select count(*) from records where state = 'live'"))


async def three(company: Company) -> None:
    """Ada, Ben and Cid, each in both CRMs, in step."""
    for number, name in enumerate(("ada", "ben", "cid"), start=1):
        await company.see(contact(number, email=f"{name}@x.example", title=f"the {name}"))
        await company.see(hub_contact(number, email=f"{name}@x.example", jobtitle=f"the {name}"))
    await company.clear()


async def test_what_only_the_lost_record_had_fills_the_blanks_of_the_survivor(company: Company):
    await company.see(contact(1, title=None), contact(2, email="b@x.example", title="Founder"))
    await merged(company, contact(2).ref, contact(1).ref)
    person = await company.record_of(contact(1).ref)
    assert person.fields["title"] == "Founder"
    assert person.fields["emails"] == ["ada@x.example", "b@x.example"]
    assert ("close", "person") in await company.marks()


async def test_what_was_on_its_way_to_the_lost_one_is_no_edit_of_the_survivor(company: Company):
    await company.see(contact(1, title="CEO"))
    async with company.db.transaction() as db:
        await links.begin_writes(db, {contact(1).ref: {"title": "Founder"}})
    await merged(company, contact(1).ref, contact(2).ref)
    await company.see(contact(2, title="Founder"))
    assert (await company.record_of(contact(2).ref)).fields["title"] == "CEO"


async def test_the_value_that_the_survivor_does_not_keep_is_in_the_journal(company: Company):
    await company.see(contact(1, title="CEO"), contact(2, email="b@x.example", title="Founder"))
    await merged(company, contact(2).ref, contact(1).ref)
    assert (await company.record_of(contact(1).ref)).fields["title"] == "CEO"
    lost = "select lost #>> '{}' from journal where cause = 'merge' and field = 'title'"
    assert await company.scalar(lost) == "Founder"


async def test_what_the_survivor_shows_afterwards_is_an_edit_like_any_other(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    await company.see(contact(1, email="ada@x.example", title="both", minute=1))
    assert (await company.record_of(contact(1).ref)).fields["title"] == "both"


async def test_a_survivor_with_an_id_of_its_own_takes_the_link_with_its_base(company: Company):
    await three(company)
    third = Ref("hubspot", "contacts", "9")
    for loser in (1, 2):
        await merged(company, hub_contact(loser).ref, third)
    assert await living(company) == 2
    link = await company.link_of(third)
    assert (link.state, link.base["title"]) == ("live", "the ada")
    assert (await company.link_of(contact(2).ref)).state == "parked"
    await company.see(replace(hub_contact(9, email="ada@x.example", jobtitle="third")))
    assert (await company.record_of(contact(1).ref)).fields["title"] == "third"


async def test_a_merge_is_learned_from_a_reading_alone(company: Company):
    await three(company)
    third = replace(
        hub_contact(9, email="ada@x.example", hs_additional_emails="ben@x.example"),
        absorbed=(hub_contact(1).ref, hub_contact(2).ref),
    )
    await company.see(third)
    assert await living(company) == 2
    assert (await company.link_of(third.ref)).state == "live"
    assert (await states(company))["hubspot/1"] == "gone merged"


async def test_a_survivor_found_under_a_losers_name_keeps_the_values_it_had_before(
    company: Company,
):
    """Asked for the loser the CRM shows the survivor, which had an id of its own before as well."""
    await three(company)
    third = hub_contact(9, email="ada@x.example", jobtitle="the ada")
    asked, before = hub_contact(2).ref, hub_contact(1).ref
    await company.see(replace(third, asked=asked, absorbed=(before,)))
    person = await company.record_of(third.ref)
    assert person.id == (await company.record_of(contact(1).ref)).id
    assert person.fields["title"] == "the ada"


async def test_a_chain_of_merges_told_backwards_ends_as_told_forwards(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(3).ref)
    await merged(company, contact(1).ref, contact(2).ref)
    assert await living(company) == 1
    assert await states(company) == {
        "close/cont_1": "gone merged",
        "close/cont_2": "gone merged",
        "close/cont_3": "live",
        "hubspot/1": "parked",
        "hubspot/2": "parked",
        "hubspot/3": "live",
    }


async def test_a_merge_told_after_the_loser_was_told_deleted_is_still_a_merge(company: Company):
    await three(company)
    await company.see(Observation(contact(2).ref, None, gone=True))
    await merged(company, contact(2).ref, contact(1).ref)
    found = await states(company)
    assert (found["close/cont_2"], found["hubspot/2"]) == ("gone merged", "parked")
    assert await living(company) == 2


async def test_a_merge_told_twice_changes_nothing_more(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    before = await company.record_of(contact(1).ref), await states(company)
    await merged(company, contact(2).ref, contact(1).ref)
    assert (await company.record_of(contact(1).ref), await states(company)) == before


async def test_a_merge_of_records_nobody_met_is_nothing_to_us(company: Company):
    await merged(company, contact(8).ref, contact(9).ref)
    assert await states(company) == {}


async def test_late_news_of_a_loser_that_was_never_met_makes_no_record(company: Company):
    await company.see(contact(1))
    await merged(company, contact(2).ref, contact(1).ref)
    late = contact(2, email="b@x.example")
    (answer,) = await company.see(late, fresh=False)
    assert type(answer).__name__ == "Deferred"  # only a reading could prove that it lives


async def test_when_the_parked_one_is_merged_there_too_its_card_closes(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    await merged(company, hub_contact(2).ref, hub_contact(1).ref)
    assert (await states(company))["hubspot/2"] == "gone merged"
    assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0


async def test_when_the_parked_one_is_the_survivor_there_it_takes_the_place(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    await merged(company, hub_contact(1).ref, hub_contact(2).ref)
    found = await states(company)
    assert (found["hubspot/1"], found["hubspot/2"]) == ("gone merged", "live")
    assert await living(company) == 2


async def test_when_the_living_one_is_deleted_there_the_parked_one_takes_its_place(
    company: Company,
):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    await company.see(Observation(hub_contact(1).ref, None, gone=True))
    assert (await states(company))["hubspot/2"] == "live"
    assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0


async def test_both_crms_merge_the_same_two_the_other_way_round(company: Company):
    await three(company)
    await merged(company, contact(2).ref, contact(1).ref)
    await merged(company, hub_contact(1).ref, hub_contact(2).ref)
    await company.see(Observation(contact(2).ref, None, gone=True))
    assert await living(company) == 2
    record = await company.record_of(contact(1).ref)
    assert (await company.record_of(hub_contact(2).ref)).id == record.id


async def test_children_are_told_only_where_their_parent_has_not_moved(company: Company):
    """In Close the contacts moved with the merge; HubSpot keeps two companies."""
    await company.see(lead(1, url="a.example"), lead(2, name="Acme Ltd", url="b.example"))
    await company.see(contact(lead="lead_2"))
    hub = [
        Observation(Ref("hubspot", "companies", str(n)), {"name": "Acme", "domain": f"{d}.example"})
        for n, d in ((1, "a"), (2, "b"))
    ]
    person = replace(hub_contact(email="ada@x.example"), relations={"company": (hub[1].ref,)})
    await company.see(*hub, person)
    await company.clear()
    await merged(company, lead(2).ref, lead(1).ref)
    survivor = str((await company.record_of(lead(1).ref)).id)
    assert (await company.record_of(contact().ref)).fields["company"] == survivor
    assert (await company.link_of(contact().ref)).base["company"] == survivor
    assert (await company.link_of(person.ref)).base["company"] != survivor
    assert ("hubspot", "person") in await company.marks()


async def test_a_create_on_its_way_for_the_lost_record_is_the_survivors(company: Company):
    await company.see(contact(1), contact(2, email="b@x.example"))
    lost = await company.record_of(contact(2).ref)
    kept = await company.record_of(contact(1).ref)
    await company.clear()
    mark = Mark("hubspot", lost.id, "person", 1, False, NOON, 0, None, None)
    async with company.db.transaction() as db:
        await outbox.mark(db, {("hubspot", lost.id): lost})
        await outbox.intend(db, [(mark, "trace", {})])
    await merged(company, contact(2).ref, contact(1).ref)
    owner = await company.scalar("select record_id from outbox where account = 'hubspot'")
    assert owner == kept.id
    assert await company.scalar("select intent from outbox where account = 'hubspot'") == "trace"


async def test_a_parked_one_is_heard_though_a_write_to_it_was_never_answered(company: Company):
    await three(company)
    async with company.db.transaction() as db:
        await links.begin_writes(db, {hub_contact(2).ref: {"title": "new"}})
    await merged(company, contact(2).ref, contact(1).ref)
    assert (await states(company))["hubspot/2"] == "parked"
    (answer,) = await company.see(hub_contact(2, email="ben@x.example"))
    assert isinstance(answer, Plan)


async def test_a_card_about_the_lost_record_is_about_the_survivor(company: Company):
    await company.see(contact(1), contact(2, email="b@x.example"))
    await company.see(contact(3, email="b@x.example"))
    await merged(company, contact(2).ref, contact(1).ref)
    async with company.db.transaction() as db:
        assert len(await links.by_record(db, [(await company.record_of(contact(1).ref)).id])) == 2
    assert await company.scalar("select count(*) from records where state = 'merged'") == 1


async def test_a_restored_record_revives_its_link_and_makes_no_double(company: Company):
    await three(company)
    await company.see(Observation(contact(1).ref, None, gone=True))
    await company.see(hub_contact(1, email="ada@x.example", jobtitle="edited meanwhile"))
    await company.clear()
    await company.see(contact(1, email="ada@x.example", title="the ada"))
    assert (await company.link_of(contact(1).ref)).state == "live"
    assert (await company.record_of(contact(1).ref)).fields["title"] == "edited meanwhile"
    assert await company.marks() == {("close", "person"): 1}
    assert await company.scalar("select count(*) from records") == 3


async def test_a_record_restored_beside_its_replacement_is_parked_and_a_person_is_asked(
    company: Company,
):
    await three(company)
    await company.see(Observation(contact(1).ref, None, gone=True))
    await company.see(contact(7, email="ada@x.example"))
    await company.see(contact(1, email="ada@x.example"))
    found = await states(company)
    assert (found["close/cont_7"], found["close/cont_1"]) == ("live", "parked")
    assert await company.scalar("select count(*) from conflicts where kind = 'merge'") == 1


async def test_who_is_deleted_everywhere_frees_the_address_for_somebody_new(company: Company):
    await company.see(contact(1, title="CEO"))
    await company.see(Observation(contact(1).ref, None, gone=True))
    (answer,) = await company.see(hub_contact(5, email="ada@x.example"))
    assert answer.result == "created"  # type: ignore[union-attr]
    assert (await company.record_of(hub_contact(5).ref)).fields.get("title") is None


async def test_a_delete_told_twice_is_told_once(company: Company):
    await three(company)
    gone = Observation(contact(1).ref, None, gone=True)
    for _ in range(2):
        await company.see(gone)
    assert (await company.link_of(contact(1).ref)).state == "gone"


async def test_a_merge_in_one_crm_while_the_other_deletes_the_counterpart(company: Company):
    """In both orders the survivor lives, with the counterpart that is left."""
    for first in ("merge", "delete"):
        async with company.db.transaction() as db:
            await db.execute(sa.text("truncate records, links, keys, conflicts, outbox cascade"))
        await three(company)
        for act in sorted(("merge", "delete"), reverse=first == "merge"):
            if act == "merge":
                await merged(company, contact(2).ref, contact(1).ref)
            else:
                await company.see(Observation(hub_contact(1).ref, None, gone=True))
        found = await states(company)
        assert (found["close/cont_1"], found["close/cont_2"]) == ("live", "gone merged")
        assert (found["hubspot/1"], found["hubspot/2"]) == ("gone deleted", "live")
        assert await living(company) == 2
