"""Identity by a person's word: link, unlink, split, merge, and the cards that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.db import keyed, links, listings, records, sides
from app.db.tables import journal, resyncs
from app.domain.values import Observation, Ref
from app.errors import RejectedError
from app.sync import byhand, cards
from app.sync.byhand import CAUSE, Report, expected
from app.sync.cards import Word
from app.sync.reconcile import known
from app.sync.world import Seen
from tests.sync.conftest import Company, contact, hub_contact, lead

CLOSE, HUB = contact().ref, Ref("hubspot", "contacts", "1")


async def linked(company: Company) -> UUID:
    """Ada, in Close and in HubSpot, with a title from there; everything is in step."""
    await company.see(contact(email="ada@x.example"))
    await company.see(hub_contact(1, email="ada@x.example", firstname="Ada", lastname="Lovelace"))
    await company.clear()
    return (await company.record_of(CLOSE)).id


async def seen(company: Company, observation: Observation) -> Seen:
    _, moment = await known(company.house, [])
    return Seen(observation, CAUSE, moment, moment)


async def unlink(company: Company, record_id: UUID, account: str, **how: Any) -> Report:
    async def work(db: Any) -> list[UUID]:
        return await byhand.unlink(db, await expected(db, record_id), account)

    return await byhand.run(company.house, [record_id], work, **how)


async def link(company: Company, record_id: UUID, observation: Observation, **how: Any) -> Report:
    found = await seen(company, observation)

    async def work(db: Any) -> list[UUID]:
        return await byhand.link(db, company.house, await expected(db, record_id), found)

    return await byhand.run(company.house, [record_id], work, **how)


async def split(company: Company, record_id: UUID, *refs: tuple[str, str], **how: Any) -> Report:
    async def work(db: Any) -> list[UUID]:
        return await byhand.split(db, company.house, await expected(db, record_id), refs)

    return await byhand.run(company.house, [record_id], work, **how)


async def merge(company: Company, lost: UUID, into: UUID, **how: Any) -> Report:
    return await byhand.run(
        company.house, [lost, into], lambda db: byhand.merge(db, company.house, lost, into), **how
    )


async def links_of(company: Company, record_id: UUID) -> dict[str, str]:
    async with company.db.transaction() as db:
        return {
            f"{one.ref.account}/{one.ref.id}": one.state
            for one in await links.by_record(db, [record_id])
        }


async def card(company: Company) -> Mapping[str, Any]:
    """The one open card."""
    async with company.db.transaction() as db:
        (found,) = (await listings.list_conflicts(db, state="open")).items
    return found


async def history(company: Company, record_id: UUID) -> list[tuple[str, str, str]]:
    query = sa.select(journal.c.field, journal.c.cause, journal.c.rule).order_by(journal.c.id)
    async with company.db.transaction() as db:
        return [tuple(r) for r in await db.execute(query.where(journal.c.record_id == record_id))]


class TestUnlink:
    async def test_both_stay_and_neither_is_linked_or_made_again(self, company: Company):
        ada = await linked(company)
        report = await unlink(company, ada, "hubspot")
        assert await links_of(company, ada) == {"close/cont_1": "live", "hubspot/1": "unlinked"}
        assert report.changed[0].links == {HUB: ("live", "unlinked")}
        # Whatever either tells later changes nothing of that.
        await company.see(contact(title="CEO", minute=1))
        answers = await company.see(
            hub_contact(1, email="ada@x.example", jobtitle="CFO"),
            hub_contact(1, email="ada@x.example", jobtitle="CTO"),
        )
        assert [a.result for a in answers] == ["unchanged", "unchanged"]  # type: ignore[union-attr]
        assert await links_of(company, ada) == {"close/cont_1": "live", "hubspot/1": "unlinked"}
        assert (await company.record_of(CLOSE)).fields["title"] == "CEO"
        assert await company.scalar("select count(*) from records") == 1

    async def test_a_deleted_stranger_is_still_no_news_of_ours(self, company: Company):
        ada = await linked(company)
        await unlink(company, ada, "hubspot")
        await company.see(Observation(HUB, None, gone=True))
        assert (await links_of(company, ada))["hubspot/1"] == "unlinked"
        assert (await company.record_of(CLOSE)).state == "live"

    async def test_it_is_in_the_journal_as_a_persons_word(self, company: Company):
        ada = await linked(company)
        await unlink(company, ada, "hubspot")
        assert (await history(company, ada))[-1] == (
            "links.hubspot",
            "person",
            "a person unlinked it",
        )

    async def test_a_rehearsal_tells_the_same_and_changes_nothing(self, company: Company):
        ada = await linked(company)
        before = await company.record_of(CLOSE)
        rehearsed = await unlink(company, ada, "hubspot", dry_run=True)
        assert await company.record_of(CLOSE) == before
        assert (await links_of(company, ada))["hubspot/1"] == "live"
        assert (await unlink(company, ada, "hubspot")).changed == rehearsed.changed

    async def test_what_is_not_there_cannot_be_unlinked(self, company: Company):
        await company.see(contact())
        with pytest.raises(RejectedError, match="no counterpart in hubspot"):
            await unlink(company, (await company.record_of(CLOSE)).id, "hubspot")


class TestLink:
    async def test_what_was_unlinked_can_be_linked_again(self, company: Company):
        ada = await linked(company)
        await unlink(company, ada, "hubspot")
        await link(company, ada, hub_contact(1, email="ada@x.example", jobtitle="CFO"))
        assert await links_of(company, ada) == {"close/cont_1": "live", "hubspot/1": "live"}
        assert (await company.record_of(HUB)).fields["title"] == "CFO"

    async def test_strangers_by_all_keys_are_linked_and_their_values_meet(self, company: Company):
        await company.see(contact(email="ada@x.example"))
        ada = (await company.record_of(CLOSE)).id
        report = await link(company, ada, hub_contact(9, email="a.king@y.example", jobtitle="CEO"))
        (changed,) = report.changed
        assert changed.fields["title"] == (None, "CEO")
        assert changed.fields["emails"][1] == ["a.king@y.example", "ada@x.example"]
        assert {key.value for key in changed.keys_gained} == {"a.king@y.example"}
        assert {account for account, _, new in report.behind if not new} == {"close", "hubspot"}
        assert ("title", "person", "only they changed it") in await history(company, ada)

    async def test_a_ref_of_another_record_is_not_taken_from_it(self, company: Company):
        ada = await linked(company)
        await company.see(contact(2, email="bob@x.example"))
        bob = (await company.record_of(contact(2).ref)).id
        with pytest.raises(RejectedError, match=f"belongs to the record {ada}"):
            await link(company, bob, hub_contact(1, email="ada@x.example"))

    async def test_a_record_has_one_counterpart_in_each_account(self, company: Company):
        ada = await linked(company)
        with pytest.raises(RejectedError, match="unlink that first"):
            await link(company, ada, hub_contact(2, email="other@x.example"))

    async def test_a_record_that_moved_on_meanwhile_is_not_touched(self, company: Company):
        ada = await linked(company)
        async with company.db.transaction() as db:
            with pytest.raises(RejectedError, match="look at it again"):
                await expected(db, ada, 7)


class TestSplit:
    async def wrongly_one(self, company: Company) -> UUID:
        """Ada of Close and Bob of HubSpot, taken for one by a person's mistake, and synced."""
        await company.see(contact(email="ada@x.example"))
        ada = (await company.record_of(CLOSE)).id
        await link(company, ada, hub_contact(1, email="bob@x.example", firstname="Bob"))
        await company.clear()
        return ada

    async def test_each_gets_what_its_own_account_shows(self, company: Company):
        ada = await self.wrongly_one(company)
        report = await split(company, ada, ("hubspot", "1"))
        mine, theirs = await company.record_of(CLOSE), await company.record_of(HUB)
        assert mine.id == ada != theirs.id
        assert (mine.fields["first_name"], theirs.fields["first_name"]) == ("Ada", "Bob")
        assert mine.fields["emails"] == ["ada@x.example"]
        assert theirs.fields["emails"] == ["bob@x.example"]
        by_id = {one.record.id: one for one in report.changed}
        assert {k.value for k in by_id[ada].keys_lost} == {"bob@x.example"}
        assert {k.value for k in by_id[theirs.id].keys_gained} == {"bob@x.example"}
        assert ("hubspot", ada, True) in report.behind
        assert ("close", theirs.id, True) in report.behind

    async def test_a_later_webhook_does_not_make_them_one_again(self, company: Company):
        ada = await self.wrongly_one(company)
        await split(company, ada, ("hubspot", "1"))
        await company.see(hub_contact(1, email="ada@x.example", firstname="Bob"))
        assert (await company.record_of(HUB)).id != ada
        assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0

    async def test_its_history_is_told_on_both(self, company: Company):
        ada = await self.wrongly_one(company)
        await split(company, ada, ("hubspot", "1"))
        bob = (await company.record_of(HUB)).id
        assert ("links.hubspot", "person", f"split into {bob}") in await history(company, ada)
        assert ("first_name", "person", f"split from {ada}") in await history(company, bob)

    async def test_children_are_looked_at_again_where_the_parent_left(self, company: Company):
        await company.see(lead(1, url="https://acme.com"), contact(lead="lead_1"))
        acme = (await company.record_of(lead().ref)).id
        hub = Observation(Ref("hubspot", "companies", "5"), {"name": "Acme", "domain": "acme.com"})
        await company.see(hub)
        await company.see(hub_contact(1, email="ada@x.example"))
        await split(company, acme, ("hubspot", "5"))
        query = sa.select(resyncs.c.account, resyncs.c.entities, resyncs.c.ids)
        async with company.db.transaction() as db:
            assert (await db.execute(query)).all() == [("hubspot", ["person"], ["1"])]

    async def test_something_must_leave_and_something_stay(self, company: Company):
        ada = await self.wrongly_one(company)
        with pytest.raises(RejectedError, match="must stay"):
            await split(company, ada, ("hubspot", "1"), ("close", "cont_1"))
        with pytest.raises(RejectedError, match="not linked to hubspot/7"):
            await split(company, ada, ("hubspot", "7"))


class TestMerge:
    async def test_everything_goes_to_the_survivor(self, company: Company):
        await company.see(contact(email="ada@x.example"))
        await company.see(hub_contact(1, email="a.king@x.example", firstname="Ada", jobtitle="CEO"))
        ada = (await company.record_of(CLOSE)).id
        king = (await company.record_of(HUB)).id
        report = await merge(company, king, ada)
        assert await links_of(company, ada) == {"close/cont_1": "live", "hubspot/1": "live"}
        record = await company.record_of(HUB)
        assert record.fields["title"] == "CEO"
        assert record.fields["emails"] == ["a.king@x.example", "ada@x.example"]
        gone = next(one for one in report.changed if one.record.id == king)
        assert (gone.record.state, gone.merged_into) == ("merged", ada)
        async with company.db.transaction() as db:
            assert {k.value for k in (await records.keys_of(db, [ada]))[ada]} == {
                "a.king@x.example",
                "ada@x.example",
            }

    async def test_a_second_counterpart_is_parked_with_a_card(self, company: Company):
        ada = await linked(company)
        await company.see(contact(2, email="ada2@x.example"))
        other = (await company.record_of(contact(2).ref)).id
        await merge(company, other, ada)
        assert (await links_of(company, ada))["close/cont_2"] == "parked"
        assert (await card(company))["kind"] == "merge"

    async def test_values_that_lost_are_in_the_journal(self, company: Company):
        await company.see(contact(1, title="CEO"), contact(2, email="b@x.example", title="CFO"))
        one = (await company.record_of(contact(1).ref)).id
        two = (await company.record_of(contact(2).ref)).id
        await merge(company, two, one)
        assert (
            await company.scalar(
                "select lost from journal where field = 'title' and lost is not null"
            )
            == "CFO"
        )

    async def test_what_cannot_be_one_is_refused(self, company: Company):
        await company.see(lead(), contact(lead="lead_1"))
        person = (await company.record_of(CLOSE)).id
        firm = (await company.record_of(lead().ref)).id
        with pytest.raises(RejectedError, match="cannot be merged into a company"):
            await merge(company, person, firm)
        with pytest.raises(RejectedError, match="into itself"):
            await merge(company, person, person)


class TestCards:
    async def test_a_card_shows_both_sides_and_what_agrees(self, company: Company):
        await linked(company)
        await company.see(hub_contact(2, email="ada@x.example", firstname="Ada", lastname="King"))
        found = await card(company)
        async with company.db.transaction() as db:
            about, other = (await sides.of(db, [found]))[found["id"]]
        assert about.refs == (Ref("hubspot", "contacts", "2"),)
        assert about.fields["last_name"] == "King"
        assert other.record_id == (await company.record_of(CLOSE)).id
        assert set(other.refs) == {CLOSE, HUB}
        assert {"first_name", "email", "emails"} <= set(other.agrees)
        assert other.differs == ("last_name",)

    async def test_a_double_in_one_crm_is_to_be_merged_there(self, company: Company):
        ada = await linked(company)
        await company.see(hub_contact(2, email="ada@x.example"))
        await cards.settle(company.house, await card(company), Word(merge=True))
        assert (await links_of(company, ada))["hubspot/2"] == "merging"
        assert await company.marks() == {("hubspot", "person"): 1}

    async def test_close_cannot_merge_contacts_and_the_card_says_so(self, company: Company):
        await linked(company)
        await company.see(contact(2, email="ada@x.example"))
        found = await card(company)
        with pytest.raises(RejectedError, match="Close cannot merge a person"):
            await cards.settle(company.house, found, Word(merge=True))
        assert (await card(company))["id"] == found["id"]

    async def test_a_parked_counterpart_can_be_left_apart_or_take_the_place(self, company: Company):
        ada = await linked(company)
        await company.see(contact(2, email="ada2@x.example"))
        other = (await company.record_of(contact(2).ref)).id
        await merge(company, other, ada)
        found = await card(company)
        report = await cards.settle(company.house, found, Word(unlink=True), dry_run=True)
        assert report.changed[0].links == {contact(2).ref: ("parked", "unlinked")}
        await cards.settle(company.house, found, Word(keep="cont_2"))
        assert await links_of(company, ada) == {
            "close/cont_1": "unlinked",
            "close/cont_2": "live",
            "hubspot/1": "live",
        }
        with pytest.raises(RejectedError, match="settled already"):
            await cards.settle(company.house, {**found, "state": "settled"}, Word(unlink=True))

    async def test_two_of_ours_are_one_or_two_by_a_persons_word(self, company: Company):
        await company.see(contact(1, email="ada@x.example"), contact(2, email="bob@x.example"))
        one = (await company.record_of(contact(1).ref)).id
        two = (await company.record_of(contact(2).ref)).id
        await company.see(contact(2, email="ada@x.example", minute=1))
        found = await card(company)
        assert found["record_id"] == two
        await cards.settle(company.house, found, Word(new=True))
        async with company.db.transaction() as db:
            assert (await keyed.separated(db, [one]))[one] == {two}
        # Nobody asks again, whatever either shows.
        await company.see(contact(2, email="ada@x.example", title="CEO", minute=2))
        await company.see(contact(2, email="b@x.example", minute=3))
        await company.see(contact(2, email="ada@x.example", minute=4))
        assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0
        assert (await company.record_of(contact(2).ref)).id == two

    async def test_a_word_that_does_not_fit_is_refused_with_those_that_do(self, company: Company):
        await linked(company)
        await company.see(hub_contact(2, email="ada@x.example"))
        with pytest.raises(RejectedError, match="settled by link, new or merge, not by unlink"):
            await cards.settle(company.house, await card(company), Word(unlink=True))

    async def test_the_stranger_of_a_card_becomes_a_record_of_its_own(self, company: Company):
        await linked(company)
        await company.see(hub_contact(2, email="ada@x.example"))
        found = await seen(company, hub_contact(2, email="ada@x.example"))

        async def work(db: Any) -> list[UUID]:
            return await byhand.introduce(db, company.house, found)

        await byhand.run(company.house, [], work)
        second = await company.record_of(Ref("hubspot", "contacts", "2"))
        ada = await company.record_of(HUB)
        assert second.id != ada.id
        assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0
        async with company.db.transaction() as db:
            assert (await keyed.separated(db, [ada.id]))[ada.id] == {second.id}


async def test_a_merge_of_what_a_person_parted_does_not_join_the_records(company: Company):
    ada = await linked(company)
    await company.see(hub_contact(2, email="bob@x.example"))
    bob = (await company.record_of(Ref("hubspot", "contacts", "2"))).id
    await unlink(company, ada, "hubspot")
    merged = hub_contact(2, email="bob@x.example")
    await company.see(Observation(merged.ref, merged.raw, asked=HUB))
    assert (await company.record_of(CLOSE)).id == ada
    assert (await links_of(company, bob))["hubspot/2"] == "live"
    assert (await links_of(company, ada))["hubspot/1"] == "gone"


async def test_what_is_merged_into_a_parted_one_takes_it_along(company: Company):
    ada = await linked(company)
    await unlink(company, ada, "hubspot")
    await company.see(hub_contact(2, email="bob@x.example"))
    bob = (await company.record_of(Ref("hubspot", "contacts", "2"))).id
    survivor = hub_contact(1, email="bob@x.example")
    await company.see(
        Observation(survivor.ref, survivor.raw, asked=Ref("hubspot", "contacts", "2"))
    )
    assert (await links_of(company, bob))["hubspot/1"] == "live"


class TestFollowing:
    @pytest.fixture
    def policy(self) -> str:
        return "close, follow_merges: merge"

    async def test_a_merge_elsewhere_is_done_here_too_where_the_configuration_says_so(
        self, company: Company
    ):
        ada = await linked(company)
        await company.see(contact(2, email="bob@x.example"))
        await company.see(hub_contact(2, email="bob@x.example"))
        await company.clear()
        survivor = contact(1, email="ada@x.example", minute=1)
        await company.see(replace(survivor, asked=contact(2).ref))
        assert (await links_of(company, ada))["hubspot/2"] == "merging"
        assert ("hubspot", "person") in await company.marks()
        assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0
