"""What an observation does to our record, and to whom it is news."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.db import conflicts, links, outbox, records
from app.db.outbox import Mark
from app.domain.state import Plan, RecordState, Result
from app.domain.values import Claim, Edit, Observation, Ref
from app.sync.reconcile import Deferred, Reconciled, known, reconcile
from app.sync.relink import relink
from tests.sync.conftest import NOON, Company, contact, hub_contact, lead


def results(answers: list[Reconciled]) -> list[str]:
    return [
        answer.result if isinstance(answer, Plan) else type(answer).__name__ for answer in answers
    ]


async def test_a_new_record_makes_the_others_behind(company: Company):
    assert results(await company.see(lead(), contact(lead="lead_1"))) == ["created", "created"]
    assert await company.marks() == {("hubspot", "company"): 1, ("hubspot", "person"): 1}


async def test_a_child_of_the_same_batch_finds_its_parent(company: Company):
    await company.see(lead(), contact(lead="lead_1"))
    person = await company.record_of(contact().ref)
    assert person.fields["company"] == str((await company.record_of(lead().ref)).id)
    named = "select string_agg(name, ' ' order by name) from relations"
    assert await company.scalar(named) == "companies company"


async def test_seeing_the_same_again_changes_nothing(company: Company):
    await company.see(contact())
    await company.clear()
    before = await company.record_of(contact().ref)
    assert results(await company.see(contact(), contact())) == ["unchanged", "unchanged"]
    assert await company.record_of(contact().ref) == before
    assert await company.marks() == {}


async def test_a_person_known_by_e_mail_is_linked_and_not_made_twice(company: Company):
    await company.see(contact(email="Ada@X.example"))
    await company.clear()
    found = await company.see(hub_contact(email="ada@x.example", jobtitle="CEO", firstname=None))
    assert results(found) == ["linked"]
    assert await company.scalar("select count(*) from records") == 1
    person = await company.record_of(contact().ref)
    assert person.fields["title"] == "CEO"  # ours was blank
    assert await company.marks() == {
        ("close", "person"): 1,  # for the title
        ("hubspot", "person"): 1,  # for the name
    }


async def test_a_blank_never_overwrites_when_two_records_meet(company: Company):
    await company.see(contact(title="Founder"))
    await company.see(hub_contact(email="ada@x.example", jobtitle=None, lastname=""))
    person = await company.record_of(contact().ref)
    assert (person.fields["title"], person.fields["last_name"]) == ("Founder", "Lovelace")


async def test_two_workers_who_meet_the_same_person_at_once_make_one_record(company: Company):
    answers = await asyncio.gather(
        *(company.see(contact(email=f"p{n}@x.example")) for n in range(8)),
        *(company.see(hub_contact(n, email=f"p{n}@x.example")) for n in range(8)),
    )
    assert not [a for got in answers for a in got if isinstance(a, Exception)]
    assert await company.scalar("select count(*) from keys") == await company.scalar(
        "select count(distinct value) from keys"
    )
    assert (
        await company.scalar(
            "select count(*) from (select record_id, account from links where state = 'live'"
            " group by 1, 2 having count(*) > 1) twice"
        )
        == 0
    )


async def test_the_same_person_from_two_accounts_at_once_is_one_record(company: Company):
    for number in range(10):
        there = hub_contact(number, email=f"q{number}@x.example")
        here = replace(
            contact(number, email=f"q{number}@x.example"),
        )
        answers = await asyncio.gather(company.see(here), company.see(there))
        assert sorted(r for got in answers for r in results(got)) == ["created", "linked"]
    assert await company.scalar("select count(*) from records") == 10


async def test_a_second_contact_with_the_same_e_mail_is_a_card_and_nothing_is_written(
    company: Company,
):
    await company.see(contact(1))
    await company.clear()
    (answer,) = await company.see(contact(2, name="Ada L."))
    assert isinstance(answer, Plan)
    assert answer.result is Result.HELD
    assert "already has email ada@x.example" in answer.reason
    assert await company.scalar("select count(*) from conflicts where kind = 'identity'") == 1
    assert await company.marks() == {}


async def test_the_card_closes_when_the_contact_finds_a_record_of_its_own(company: Company):
    await company.see(contact(1))
    await company.see(contact(2))
    await company.see(contact(2, email="other@x.example"))
    assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0


async def test_an_e_mail_that_belongs_to_another_record_is_not_taken_over(company: Company):
    await company.see(contact(1), contact(2, email="b@x.example"))
    await company.see(contact(2, email="ada@x.example", minute=1))
    assert await company.scalar("select count(*) from keys where value = 'ada@x.example'") == 1
    assert await company.scalar("select count(*) from conflicts where kind = 'identity'") == 1


async def test_a_poison_record_fails_alone(company: Company):
    poison = contact(2, email="b@x.example", title="bad\x00byte")
    good, bad, other = await company.see(contact(1), poison, contact(3, email="c@x.example"))
    assert isinstance(bad, Exception)
    assert results([good, other]) == ["created", "created"]
    assert await company.scalar("select count(*) from records") == 2


# --- what cannot be trusted ------------------------------------------------------------------


async def test_what_was_read_before_our_write_is_not_believed(company: Company):
    await company.see(contact(title="old"))
    _, before = await _now(company)
    async with company.db.transaction() as db:
        await links.begin_writes(db, {contact().ref: {}})
    assert results(await company.see(contact(title="old"))) == ["Deferred"]
    async with company.db.transaction() as db:
        await links.end_writes(db, [contact().ref])
    assert results(await company.see(contact(title="older"), at=before)) == ["Deferred"]
    assert results(await company.see(contact(title="new"))) == ["updated"]


async def test_an_older_snapshot_tells_nothing_of_what_was_seen_since(company: Company):
    await company.see(contact(title="second", minute=2))
    stale = contact(title="first", minute=1)
    assert results(await company.see(stale, fresh=False)) == ["unchanged"]
    assert (await company.record_of(contact().ref)).fields["title"] == "second"
    newer = contact(title="third", minute=3)
    assert results(await company.see(newer, fresh=False)) == ["updated"]


async def test_a_snapshot_of_the_very_moment_that_differs_must_be_read_again(company: Company):
    await company.see(contact(title="one", minute=2))
    twin = contact(title="another", minute=2)
    assert results(await company.see(twin, fresh=False)) == ["Deferred"]


async def test_the_echo_of_our_own_write_is_silent_even_as_a_snapshot(company: Company):
    await company.see(contact(title="second", minute=2))
    echo = contact(title="second", minute=2)
    assert results(await company.see(echo, fresh=False)) == ["unchanged"]


async def test_a_stranger_seen_while_a_create_is_on_its_way_waits(company: Company):
    """It may be our own work, seen before its answer."""
    await company.see(contact())
    person = await company.record_of(contact().ref)
    mark = Mark("hubspot", person.id, "person", 1, False, NOON, 0, None, None)
    async with company.db.transaction() as db:
        await outbox.intend(db, [(mark, "trace", {})])
    stranger = hub_contact(7, firstname="Somebody")
    assert results(await company.see(stranger)) == ["Deferred"]
    known_by_mail = hub_contact(8, email="ada@x.example")
    assert results(await company.see(known_by_mail)) == ["linked"]
    async with company.db.transaction() as db:
        await outbox.clear(db, [mark])
    assert results(await company.see(stranger)) == ["created"]


async def test_a_create_that_settles_while_its_webhook_is_reconciled_stays_ours(
    company: Company, monkeypatch: pytest.MonkeyPatch
):
    await company.see(contact(email=None))
    person = await company.record_of(contact().ref)
    mark = Mark("hubspot", person.id, "person", 1, False, NOON, 0, None, None)
    made = Ref("hubspot", "contacts", "7")
    async with company.db.transaction() as db:
        await outbox.intend(db, [(mark, "trace", {})])
    ask = outbox.creating_since

    async def settle_first(db, account):
        """What push does in its own transaction, committed between two statements of ours."""
        async with company.db.transaction() as other:
            await links.add(other, [links.Link.new(person.id, "person", made, {}, {}, None)])
            await outbox.clear(other, [mark])
        return await ask(db, account)

    monkeypatch.setattr(outbox, "creating_since", settle_first)
    await company.see(hub_contact(7, firstname="Ada", lastname="Lovelace"))
    assert (await company.link_of(made)).record_id == person.id
    assert await company.scalar("select count(*) from records") == 1


async def test_a_link_that_lives_is_never_taken_from_its_record(company: Company):
    await company.see(contact(1), contact(2, email="b@x.example"))
    thief = await company.record_of(contact(2).ref)
    async with company.db.transaction() as db:
        with pytest.raises(links.LinkTaken):
            await links.add(db, [links.Link.new(thief.id, "person", contact(1).ref, {}, {}, None)])


# --- gone, back, merged ----------------------------------------------------------------------


async def test_a_deleted_record_leaves_a_tombstone_and_the_others_alone(company: Company):
    await company.see(contact())
    await company.see(hub_contact(email="ada@x.example"))
    await company.clear()
    gone = Observation(contact().ref, None, gone=True)
    assert results(await company.see(gone)) == ["gone"]
    assert (await company.link_of(contact().ref)).state == "gone"
    assert (await company.link_of(hub_contact().ref)).state == "live"
    assert await company.marks() == {}


async def test_lost_sight_is_not_a_delete(company: Company):
    await company.see(contact())
    assert results(await company.see(Observation(contact().ref, None))) == ["missing"]
    assert (await company.link_of(contact().ref)).state == "live"


async def test_a_late_snapshot_does_not_bring_a_deleted_record_back(company: Company):
    await company.see(contact())
    await company.see(Observation(contact().ref, None, gone=True))
    late = contact(title="late", minute=5)
    assert results(await company.see(late, fresh=False)) == ["Deferred"]
    assert results(await company.see(late)) == ["updated"]  # read there: it was restored
    assert (await company.link_of(contact().ref)).state == "live"


async def test_a_remote_merge_makes_one_record_and_parks_the_second_counterpart(
    company: Company,
):
    await company.see(contact(1), contact(2, email="b@x.example"))
    await company.see(hub_contact(1, email="ada@x.example"), hub_contact(2, email="b@x.example"))
    survivor = await company.record_of(contact(1).ref)
    async with company.db.transaction() as db:
        await relink(db, contact(2).ref, contact(1).ref)
    parked = await company.link_of(hub_contact(2).ref)
    assert (parked.record_id, parked.state) == (survivor.id, "parked")
    assert (await company.link_of(contact(2).ref)).state == "gone"
    assert await company.scalar("select count(*) from conflicts where kind = 'merge'") == 1
    assert await company.scalar("select count(*) from records where state = 'live'") == 1
    async with company.db.transaction() as db:
        owners = await records.owners_of(db, "person", [])
    assert owners == {}


async def test_the_children_of_a_merged_company_follow_the_survivor(company: Company):
    await company.see(lead(1), lead(2, name="Acme Ltd"), contact(lead="lead_2"))
    async with company.db.transaction() as db:
        await relink(db, lead(2).ref, lead(1).ref)
    survivor = await company.record_of(lead(1).ref)
    assert (await company.record_of(contact().ref)).fields["company"] == str(survivor.id)


async def test_a_container_travels_only_after_somebody_edits_it(company: Company):
    box = RecordState(
        (await company.see(lead(9)))[0].record.id,  # type: ignore[union-attr]
        "company",
        {},
        version=1,
        container=True,
    )
    await company.clear()
    async with company.db.transaction() as db:
        await records.change(db, [box], source="close")
        await links.agree(db, [links.Agreement(lead(9).ref, {}, {}, None)])
    await company.see(lead(9, name="Lone Ranger"))
    assert await company.marks() == {}
    await company.see(lead(9, name="Ranger & Sons"))
    assert await company.marks() == {("hubspot", "company"): 1}


# --- conflicts -------------------------------------------------------------------------------


async def _both_edit(company: Company) -> list[Reconciled]:
    """Close says A, HubSpot says B, neither has heard of the other."""
    await company.see(contact(title="base"))
    await company.see(hub_contact(email="ada@x.example", jobtitle="base"))
    await company.see(contact(title="from close", minute=1))
    return await company.see(hub_contact(email="ada@x.example", jobtitle="from hubspot"))


async def test_the_configured_account_wins_and_the_loser_is_in_the_journal(company: Company):
    await _both_edit(company)
    person = await company.record_of(contact().ref)
    assert person.fields["title"] == "from close"
    lost = await company.scalar("select lost #>> '{}' from journal where lost is not null")
    assert lost == "from hubspot"
    assert ("hubspot", "person") in await company.marks()


@pytest.mark.parametrize("policy", ["latest"])
async def test_the_latest_edit_wins_where_that_is_the_policy(company: Company):
    await _both_edit(company)
    assert (await company.record_of(contact().ref)).fields["title"] == "from hubspot"


@pytest.mark.parametrize("policy", ["latest"])
async def test_the_vendors_own_time_decides_not_the_order_of_arrival(company: Company):
    await company.see(contact(title="base"))
    await company.see(hub_contact(email="ada@x.example", jobtitle="base"))
    late = replace(
        contact(title="from close", minute=1), field_times={"title": NOON + timedelta(minutes=9)}
    )
    early = replace(
        hub_contact(email="ada@x.example", jobtitle="from hubspot"),
        field_times={"jobtitle": NOON + timedelta(minutes=5)},
    )
    await company.see(late)
    await company.see(early)
    assert (await company.record_of(contact().ref)).fields["title"] == "from close"


@pytest.mark.parametrize("policy", ["latest"])
@pytest.mark.parametrize("close_minute", [1, 9])
async def test_where_nobody_said_when_the_vendors_are_asked(company: Company, close_minute: int):
    """Both edits are found by a scan; what unrelated edits did to the records' dates is nothing."""
    await company.see(contact(title="base"), contact(2, email="b@x.example"))
    await company.see(hub_contact(email="ada@x.example", jobtitle="base"))
    here, there = contact().ref, hub_contact().ref
    company.edits = {
        here: {"title": (Edit("from close", NOON + timedelta(minutes=close_minute)),)},
        there: {"jobtitle": (Edit("from hubspot", NOON + timedelta(minutes=5)),)},
    }

    await company.see(contact(title="from close", minute=30), contact(2, email="b@x.example"))
    assert company.asked == []  # only we had an edit: nothing to decide
    await company.see(hub_contact(email="ada@x.example", jobtitle="from hubspot"))

    assert sorted(company.asked) == [here, there]
    winner = "close" if close_minute == 9 else "hubspot"
    assert (await company.record_of(here)).fields["title"] == f"from {winner}"


@pytest.mark.parametrize("policy", ["latest"])
async def test_a_value_nobody_edited_for_ages_loses_against_an_edit(company: Company):
    company.edits = {
        contact().ref: {},
        hub_contact().ref: {"jobtitle": (Edit("edited", NOON - timedelta(days=9)),)},
    }
    await company.see(contact(title="old"))
    await company.see(hub_contact(email="ada@x.example", jobtitle="edited"))
    assert (await company.record_of(contact().ref)).fields["title"] == "edited"


@pytest.mark.parametrize("policy", ["review"])
async def test_a_field_for_review_is_held_until_a_person_decides(company: Company):
    from app.sync.resolve import resolve

    await _both_edit(company)
    assert (await company.record_of(contact().ref)).fields["title"] == "from close"
    card = await company.scalar("select id from conflicts where state = 'open'")
    person = await company.record_of(contact().ref)
    async with company.db.transaction() as db:
        held = await conflicts.held_fields(db, [person.id], "hubspot")
        assert held == {person.id: frozenset({"title"})}
        await resolve(db, card, account="hubspot")
    assert (await company.record_of(contact().ref)).fields["title"] == "from hubspot"
    assert await company.scalar("select count(*) from conflicts where state = 'open'") == 0


@pytest.mark.parametrize("policy", ["review"])
async def test_the_card_of_a_held_field_shows_what_the_account_shows_now(company: Company):
    await _both_edit(company)
    theirs = "select theirs ->> 'value' from conflicts where state = 'open'"
    assert await company.scalar(theirs) == "from hubspot"
    await company.see(hub_contact(email="ada@x.example", jobtitle="edited again"))
    assert await company.scalar(theirs) == "edited again"


async def test_deferred_names_its_ref(company: Company):
    await company.see(contact())
    async with company.db.transaction() as db:
        await links.begin_writes(db, {contact().ref: {}})
    (answer,) = await company.see(contact())
    assert isinstance(answer, Deferred)
    assert answer.ref == Ref("close", "contact", "cont_1")


async def _now(company: Company):
    from app.sync.reconcile import known

    return await known(company.house, [])


async def test_nothing_to_reconcile_is_no_trouble(company: Company):
    assert await reconcile(company.house, []) == []


@pytest.mark.parametrize("policy", ["close, direction: from close"])
async def test_a_one_way_entity_is_introduced_by_its_source_alone(company: Company):
    assert results(await company.see(hub_contact(email="ada@x.example"))) == ["unchanged"]
    assert await company.scalar("select count(*) from records") == 0
    await company.see(contact(title="Founder"))
    assert await company.marks() == {("hubspot", "person"): 1}
    await company.clear()

    found = await company.see(hub_contact(email="ada@x.example", jobtitle="CEO"))

    assert results(found) == ["linked"]
    assert (await company.record_of(contact().ref)).fields["title"] == "Founder"
    assert await company.marks() == {("hubspot", "person"): 1}  # it still shows CEO


async def test_a_fight_is_held_with_a_card_that_says_who_and_nobody_is_behind(company: Company):
    await company.see(contact(title="ours"))
    ada: Any = {"email": "ada@x.example", "firstname": "Ada", "lastname": "Lovelace"}
    await company.see(hub_contact(**ada, jobtitle="ours"))
    at = (await company.record_of(contact().ref)).stamps["title"]["at"]
    insisting: dict[str, Any] = {"was": "theirs", "now": "ours", "at": at, "rounds": 3}
    insisting |= {"known": [], "ours": ["ours"], "answers": 0}
    async with company.db.transaction() as db:
        agreed = links.Agreement(hub_contact().ref, None, None, None, {"title": insisting})
        await links.agree(db, [agreed])
    await company.clear()

    found = await company.see(hub_contact(**ada, jobtitle="theirs"))

    assert results(found) == ["held"]
    assert (await company.record_of(contact().ref)).fields["title"] == "ours"
    assert await company.marks() == {}
    card = "select detail->>'reason' from conflicts where kind = 'field' and account = 'hubspot'"
    assert "set back 4 times" in await company.scalar(card)


ADA: Any = {"email": "ada@x.example", "firstname": "Ada", "lastname": "Lovelace"}


def _history(*values: str) -> tuple[Edit, ...]:
    """The last value came through the API, those before from people."""
    return tuple(Edit(v, NOON - timedelta(seconds=n), n == 0) for n, v in enumerate(values))


async def _we_wrote_over_an_edit(company: Company) -> tuple[Observation, Observation]:
    """Close's edit was carried to HubSpot in the instant in which HubSpot's was made."""
    await company.see(contact(title="base"))
    await company.see(hub_contact(**ADA, jobtitle="base"))
    await company.see(contact(title="from close", minute=1))
    _, moment = await known(company.house, [])
    ours: dict[str, Any] = {"was": "base", "now": "from close", "ours": ["from close"], "known": []}
    ours |= {"rounds": 0, "answers": 0}
    written = {"title": {**ours, "at": moment.isoformat()}}
    link = await company.link_of(hub_contact().ref)
    async with company.db.transaction() as db:
        base = {**link.base, "title": "from close"}
        await links.agree(db, [links.Agreement(link.ref, base, {}, None, written)])
    await company.clear()
    there = hub_contact(**ADA, jobtitle="from close")
    claim = Claim(moment, {"jobtitle": "from hubspot"}, {})
    return there, replace(there, claims=(claim,))


@pytest.mark.parametrize(("policy", "winner"), [("hubspot", "hubspot"), ("close", "close")])
async def test_an_edit_that_our_write_replaced_unseen_is_settled_by_the_policy(
    company: Company, winner: str
):
    there, told = await _we_wrote_over_an_edit(company)
    values = ["from close", "from hubspot", "base"]
    edits = _history(*values)
    company.edits = {there.ref: {"jobtitle": edits}}

    await company.see(told)

    assert (await company.record_of(contact().ref)).fields["title"] == f"from {winner}"
    loser = "close" if winner == "hubspot" else "hubspot"
    lost = "select lost #>> '{}' from journal where lost is not null"
    assert await company.scalar(lost) == f"from {loser}"
    behind = {("close", "person"): 1, ("hubspot", "person"): 1}
    assert await company.marks() == (behind if winner == "hubspot" else {})


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_an_edit_is_found_that_a_write_replaced_whose_worker_died(company: Company):
    await company.see(contact(title="base"))
    await company.see(hub_contact(**ADA, jobtitle="base"))
    await company.see(contact(title="from close", minute=1))
    there = hub_contact(**ADA, jobtitle="from close")
    async with company.db.transaction() as db:
        await links.begin_writes(db, {there.ref: {"title": "from close"}})
        await links.forget_writes(db, [there.ref])
    await company.see(there)
    _, moment = await known(company.house, [])
    claim = Claim(moment, {"jobtitle": "from hubspot"}, {})
    company.edits = {there.ref: {"jobtitle": _history("from close", "from hubspot", "base")}}
    await company.see(replace(there, claims=(claim,)))
    assert (await company.record_of(contact().ref)).fields["title"] == "from hubspot"


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_an_old_edit_told_late_is_no_edit_that_we_replaced(company: Company):
    there, told = await _we_wrote_over_an_edit(company)
    values = ["from close", "base", "from hubspot"]
    edits = _history(*values)
    company.edits = {there.ref: {"jobtitle": edits}}

    assert results(await company.see(told)) == ["unchanged"]
    assert (await company.record_of(contact().ref)).fields["title"] == "from close"


@pytest.mark.parametrize("policy", ["hubspot"])
async def test_a_person_who_comes_back_to_what_we_wrote_is_believed(company: Company):
    there, told = await _we_wrote_over_an_edit(company)
    edits = _history("from close", "from hubspot", "from close", "base")
    by_hand = (replace(edits[0], by_program=False), *edits[1:])
    company.edits = {there.ref: {"jobtitle": by_hand}}

    assert results(await company.see(told)) == ["unchanged"]
    assert (await company.record_of(contact().ref)).fields["title"] == "from close"


@pytest.mark.parametrize("policy", ["close"])
@pytest.mark.parametrize("by_program", [True, False])
async def test_a_vendor_that_tells_what_was_before_needs_no_history(
    company: Company, by_program: bool
):
    """A person who comes back to the value that we wrote has replaced an edit of their own."""
    await company.see(contact(title="base"))
    await company.see(hub_contact(**ADA, jobtitle="base"))
    await company.see(hub_contact(**ADA, jobtitle="from hubspot"))
    _, moment = await known(company.house, [])
    ours: dict[str, Any] = {
        "was": "base",
        "now": "from hubspot",
        "ours": ["from hubspot"],
        "known": [],
    }
    ours |= {"rounds": 0, "answers": 0}
    link = await company.link_of(contact().ref)
    async with company.db.transaction() as db:
        written = {"title": {**ours, "at": moment.isoformat()}}
        base = {**link.base, "title": "from hubspot"}
        await links.agree(db, [links.Agreement(link.ref, base, {}, None, written)])
    now = contact(title="from hubspot", minute=1)
    claim = Claim(moment, {"title": "from hubspot"}, {"title": "from close"}, now.raw, by_program)

    await company.see(replace(now, claims=(claim,)))

    title = "from close" if by_program else "from hubspot"
    assert (await company.record_of(contact().ref)).fields["title"] == title
    assert company.asked == []
