"""Who is recognised: the key rules of the configuration, and what happens when they change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.config import EntitySync
from app.db import keyed
from app.db.tables import keys
from app.domain.state import Plan
from app.domain.values import Observation, Ref
from app.sync.house import House
from app.sync.rekey import rekey
from tests.sync.conftest import Company, contact, hub_contact, lead


def hub_company(number: int = 1, **properties: str | None) -> Observation:
    return Observation(Ref("hubspot", "companies", str(number)), properties)


def opportunity(number: int = 1, *, name: str, in_lead: str = "lead_1") -> Observation:
    raw = {"cf_name": name, "lead_id": in_lead, "lead_name": "Acme"}
    parent = (Ref("close", "lead", in_lead),)
    return Observation(
        Ref("close", "opportunity", f"oppo_{number}"), raw, relations={"company": parent}
    )


def hub_deal(number: int = 1, *, name: str, company: int | None = 1) -> Observation:
    refs = (Ref("hubspot", "companies", str(company)),) if company else ()
    ref = Ref("hubspot", "deals", str(number))
    return Observation(ref, {"dealname": name}, relations={"company": refs})


async def results(company: Company, *observations: Observation) -> list[str]:
    answers = await company.see(*observations)
    return [a.result if isinstance(a, Plan) else repr(a) for a in answers]


class TestNames:
    @pytest.fixture
    def more_sync(self) -> str:
        return "  company: {keys: [domain, name]}\n  deal: {keys: [company + name]}\n"

    async def test_companies_without_a_domain_are_recognised_by_name(self, company: Company):
        await results(company, lead(name="Acme Ltd"))
        assert await results(company, hub_company(name="ACME  ltd")) == ["linked"]

    async def test_two_accounts_that_meet_the_same_deals_at_once_make_one_of_each(
        self, company: Company
    ):
        numbers = range(1, 9)
        await results(company, *(lead(n, name=f"Firm {n}") for n in numbers))
        await results(company, *(hub_company(n, name=f"Firm {n}") for n in numbers))
        for n in numbers:
            here = opportunity(n, name="Renewal", in_lead=f"lead_{n}")
            there = hub_deal(n, name="acme", company=n)  # as it is called in Close without a name
            found = await asyncio.gather(results(company, here), results(company, there))
            assert sorted(one for own in found for one in own) == ["created", "linked"]
        assert await company.scalar("select count(*) from records where entity = 'deal'") == 8

    async def test_one_name_and_two_domains_is_for_a_person(self, company: Company):
        await results(company, lead(name="Acme", url="https://acme.com"))
        (plan,) = await company.see(hub_company(name="Acme", domain="acme.de"))
        assert isinstance(plan, Plan)
        assert plan.result == "held"
        assert plan.reason == "it has the same name acme, but another domain"

    async def test_one_domain_and_two_names_is_one(self, company: Company):
        await results(company, lead(name="Acme", url="https://acme.com"))
        assert await results(company, hub_company(name="Acme Inc", domain="acme.com")) == ["linked"]

    async def test_namesakes_in_one_account_are_two_and_a_third_is_asked_about(
        self, company: Company
    ):
        assert await results(company, lead(1), lead(2)) == ["created", "held"]

    async def test_a_deal_is_recognised_by_its_name_within_its_company(self, company: Company):
        await results(company, hub_company(name="Acme"), hub_company(2, name="Other"))
        await results(company, hub_deal(1, name="Big"), hub_deal(2, name="Big", company=2))
        found = await company.scalar("select count(*) from keys where entity = 'deal'")
        assert found == 2

    async def test_a_child_of_the_same_batch_is_recognised_through_its_parent(
        self, company: Company
    ):
        await results(company, hub_company(name="Acme"), hub_deal(1, name="Big"))
        again = await results(
            company, hub_company(1, name="Acme"), hub_deal(2, name="big", company=1)
        )
        assert again == ["unchanged", "held"]


class TestWhatHappened:
    """Notes that somebody else had carried over before we were there."""

    @pytest.fixture
    def more_sync(self) -> str:
        return "  company: {keys: [name]}\n  note: {keys: [company + at + body]}\n"

    @staticmethod
    def note(number: int, text: str, at: str = "2026-01-13T09:30:00.000Z") -> Observation:
        said = {"hs_note_body": f"<div><p>{text}</p></div>", "hs_timestamp": at}
        company = (Ref("hubspot", "companies", "1"),)
        return Observation(
            Ref("hubspot", "notes", str(number)), said, relations={"company": company}
        )

    @pytest.fixture
    async def noted(self, company: Company) -> Company:
        """A note on the lead of Acme, which both CRMs have."""
        await results(company, lead(name="Acme"))
        await results(company, hub_company(name="Acme"))
        said = {
            "note_html": "<body><p>She wants  <b>ten</b> &amp; more</p></body>",
            "note": "She wants ten & more",
            "activity_at": "2026-01-13T09:30:00.123000+00:00",
            "date_created": "2026-01-14T10:00:00+00:00",
        }
        there = {"company": (Ref("close", "lead", "lead_1"),)}
        note = Observation(Ref("close", "activity/note", "acti_1"), said, relations=there)
        assert await results(company, note) == ["created"]
        return company

    async def test_the_same_words_at_the_same_time_on_one_company_are_one_note(self, noted):
        assert await results(noted, self.note(1, "She wants ten &amp; more")) == ["linked"]

    async def test_other_words_or_another_time_are_another_note(self, noted):
        later = "2026-01-13T09:31:00.000Z"
        assert await results(
            noted,
            self.note(1, "She wants twelve"),
            self.note(2, "She wants ten &amp; more", later),
        ) == ["created", "created"]

    async def test_a_second_one_of_the_same_is_for_a_person(self, noted):
        await results(noted, self.note(1, "She wants ten &amp; more"))
        assert await results(noted, self.note(2, "She wants ten &amp; more")) == ["held"]


class TestPhones:
    @pytest.fixture
    def policy(self) -> str:
        return "close, keys: [email, phone]"

    async def test_a_shared_switchboard_is_no_proof_against_two_addresses(self, company: Company):
        phones = [{"phone": "+14155550100", "type": "office"}]
        await results(company, contact(phones=phones))
        assert await results(
            company, hub_contact(1, email="bob@x.example", phone="+1 415 555 0100")
        ) == ["held"]
        assert await results(company, hub_contact(2, phone="+1 415 555 0100")) == ["linked"]


async def test_a_change_of_address_keeps_the_identity(company: Company):
    await results(company, contact())
    await results(company, hub_contact(1, email="ada@x.example"))
    before = await company.record_of(contact().ref)
    await results(company, contact(email="ada@new.example", minute=1))
    after = await company.record_of(Ref("hubspot", "contacts", "1"))
    assert after.id == before.id
    assert after.fields["email"] == "ada@new.example"
    # Whoever shows the new address now is a second one of HubSpot's.
    await company.clear()
    assert await results(company, hub_contact(2, email="ada@new.example")) == ["held"]
    assert await company.scalar("select count(*) from records") == 1


async def ruled(company: Company, entity: str, *rules: str) -> House:
    """The same house with other key rules."""
    sync = {**company.house.config.sync}
    sync[entity] = sync[entity].model_copy(update={"keys": rules})
    return replace(company.house, config=company.house.config.model_copy(update={"sync": sync}))


async def all_keys(company: Company, entity: str) -> set[tuple[str, str]]:
    query = sa.select(keys.c.kind, keys.c.value).where(keys.c.entity == entity)
    async with company.db.transaction() as db:
        return {tuple(row) for row in await db.execute(query)}


async def test_records_gain_the_keys_of_new_rules(company: Company):
    await results(company, lead(1, name="Acme", url="https://acme.com"), lead(2, name="Other"))
    await rekey(await ruled(company, "company", "name", "domain"))
    assert await all_keys(company, "company") == {
        ("domain", "acme.com"),
        ("name", "acme"),
        ("name", "other"),
    }
    await rekey(await ruled(company, "company", "domain"))
    assert await all_keys(company, "company") == {("domain", "acme.com")}


async def test_a_change_of_rules_goes_on_where_it_was_stopped(
    company: Company, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.sync.rekey.PAGE", 2)
    await results(company, *(lead(n, name=f"Company {n}") for n in range(5)))
    house = await ruled(company, "company", "name")
    asked = iter([False])  # an order to stop after the first page
    await rekey(house, stopped=lambda: next(asked, True))
    assert len(await all_keys(company, "company")) == 2
    async with company.db.transaction() as db:
        assert (await keyed.progress(db, "company")).cursor is not None
    await rekey(house)
    assert len(await all_keys(company, "company")) == 5
    async with company.db.transaction() as db:
        assert await keyed.progress(db, "company") == keyed.Progress(["name"], None, None)


async def test_doubles_that_a_new_rule_shows_are_cards_and_namesakes_are_not(company: Company):
    await results(company, lead(1, name="Acme"), lead(2, name="Acme"))
    await results(company, hub_company(1, name="acme", domain="acme.com"))
    await rekey(await ruled(company, "company", "domain", "name"))
    async with company.db.transaction() as db:
        rows = (await db.execute(sa.text("select kind, account, ref_id from conflicts"))).all()
    assert rows == [("identity", "hubspot", "1")]


def test_an_entity_has_its_ordinary_keys_unless_told_otherwise(company: Company):
    sync = company.house.config.sync
    assert [sync[e].keys for e in ("company", "person", "deal")] == [("domain",), ("email",), None]
    assert EntitySync().keys is None
