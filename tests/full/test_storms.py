"""Webhooks doubled, shuffled, replayed, all at once: one record each on both sides."""

import asyncio
import json
import random
import time
from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest

from tests.full.harness import (
    Company,
    Json,
    World,
    close_headers,
    flips,
    hubspot_headers,
)

LEADS = 100
TOGETHER = 20  # calls of people at the same time
STORM = {"duplicate": 1, "shuffle": True}


async def _at_once(jobs: Iterable[Any]) -> list[Any]:
    """All of these, twenty at a time."""
    gate = asyncio.Semaphore(TOGETHER)

    async def one(job: Any) -> Any:
        async with gate:
            return await job

    return await asyncio.gather(*map(one, jobs))


def _of(rows: Iterable[Json], name: str, companies: Iterable[Company]) -> list[Json]:
    """The rows whose field ends with one of the companies' domains."""
    domains = {company.domain for company in companies}
    return [
        row for row in rows if row[name] and row[name].split("@")[-1].split("//")[-1] in domains
    ]


@pytest.mark.heavy
async def test_a_hundred_leads_created_and_edited_at_once_make_one_record_each(
    world: World,
) -> None:
    companies = [Company.new("Storm") for _ in range(LEADS)]

    async def create_and_edit(company: Company) -> Json:
        contacts = [company.contact("Ada Lovelace")]
        lead = await world.close.create(
            "lead", name="Not yet", url=f"https://{company.domain}", contacts=contacts
        )
        await world.close.edit("lead", lead["id"], name=company.name)
        await world.close.edit("contact", lead["contacts"][0]["id"], title="CTO")
        return lead

    await world.crms.weather(**STORM)
    async with world.counting() as writes:
        leads = await _at_once(create_and_edit(company) for company in companies)
        await world.quiet(within=120)

    there = _of(await world.hubspot.all("companies"), "domain", companies)
    assert sorted((row["name"], row["domain"]) for row in there) == sorted(
        (company.name, company.domain) for company in companies
    )
    people = _of(await world.hubspot.all("contacts"), "email", companies)
    assert sorted((row["email"], row["jobtitle"]) for row in people) == sorted(
        (company.email("ada"), "CTO") for company in companies
    )
    by_domain = {row["domain"]: row["id"] for row in there}
    for person in random.sample(people, 20):
        links = await world.hubspot.links("contacts", person["id"], "companies")
        assert list(links) == [by_domain[person["email"].split("@")[1]]]

    assert writes["hubspot", "company", "created"] == LEADS
    assert writes["hubspot", "contact", "created"] == LEADS
    # What was edited after we had carried it is carried once more, not oftener.
    assert writes["hubspot", "company", "updated"] <= LEADS
    assert writes["hubspot", "contact", "updated"] <= LEADS
    assert not [key for key in writes if key[0] == "close"]
    for row in random.sample(there, 10):
        assert flips(await world.crms.history("hubspot", "company", row["id"])) == {}
    for lead in random.sample(leads, 5):
        assert len((await world.close.read("lead", lead["id"]))["contact_ids"]) == 1
    await world.crms.fair_weather()
    await world.steady()


@pytest.mark.heavy
async def test_a_storm_from_hubspot_makes_one_lead_each_with_its_contact_and_deal(
    world: World,
) -> None:
    companies = [Company.new("Gale") for _ in range(20)]

    async def create(company: Company) -> None:
        here = world.hubspot
        firm = await here.create("companies", name=company.name, domain=company.domain)
        grace = await here.create(
            "contacts", firstname="Grace", email=company.email("grace"), company=firm
        )
        await here.create(
            "deals",
            dealname=company.name,
            dealstage="closedwon",
            pipeline="default",
            amount="12",
            company=firm,
        )
        await here.edit("contacts", grace, lastname="Hopper")

    await world.crms.weather(**STORM)
    async with world.counting() as writes:
        await _at_once(create(company) for company in companies)
        await world.quiet(within=120)

    names = {company.name for company in companies}
    leads = [lead for lead in await world.close.all("lead") if lead["name"] in names]
    assert len(leads) == len(companies)
    for lead in leads:
        assert [contact["name"] for contact in lead["contacts"]] == ["Grace Hopper"]
        deals = [(deal["status_label"], deal["value"]) for deal in lead["opportunities"]]
        assert deals == [("Won", 1200)]
    made = {type: writes["close", type, "created"] for type in ("lead", "contact", "opportunity")}
    assert made == dict.fromkeys(made, len(companies))
    assert not [key for key in writes if key[0] == "hubspot"]
    await world.crms.fair_weather()
    await world.steady()


async def test_replayed_deliveries_are_known_and_change_nothing(
    world: World, company: Company
) -> None:
    seen = max([d["id"] for d in await world.syncline.rows("/api/deliveries")], default=0)
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    await world.close.edit("lead", lead["id"], name=f"{company.name} Ltd")
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.hubspot.edit("companies", there, description="Makes engines.")
    await world.quiet()
    ids = [d["id"] for d in await world.syncline.rows("/api/deliveries") if d["id"] > seen]
    recorded = [await world.syncline.get(f"/api/deliveries/{id}") for id in ids]
    assert {d["account"] for d in recorded} == {"close", "hubspot"}

    async with world.counting() as writes:
        for _ in range(3):
            random.shuffle(recorded)
            for delivery in recorded:
                answer = await world.syncline.deliver(
                    delivery["account"], delivery["body"].encode(), headers=delivery["headers"]
                )
                assert (answer.status_code, answer.json()["duplicate"]) == (200, True)
    assert not writes
    after = await world.syncline.rows("/api/deliveries")
    assert [d["id"] for d in after if d["id"] > seen] == ids


async def test_a_repeat_that_is_signed_anew_changes_nothing(world: World, company: Company) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.hubspot.edit("companies", there, description="Makes engines.")
    await world.quiet()
    newest = await world.syncline.rows("/api/deliveries")
    found = [await world.syncline.get(f"/api/deliveries/{d['id']}") for d in newest[:10]]
    of_close = next(d for d in found if d["account"] == "close" and lead["id"] in d["body"])
    of_hubspot = next(d for d in found if d["account"] == "hubspot" and there in d["body"])
    again = json.loads(of_hubspot["body"])
    for event in again:
        event["attemptNumber"] += 1
    body = json.dumps(again).encode()
    url = f"{world.syncline.url}/webhooks/hubspot"
    async with world.counting() as writes:
        answer = await world.syncline.deliver(
            "close",
            of_close["body"].encode(),
            headers=close_headers(of_close["body"].encode(), at=time.time() - 3600),
        )
        assert answer.json() == {"status": "ok", "duplicate": True}
        answer = await world.syncline.deliver("hubspot", body, headers=hubspot_headers(body, url))
        assert answer.status_code == 200
    assert not writes


@pytest.mark.heavy
async def test_the_same_people_created_in_both_crms_at_the_same_instant_become_one_each(
    world: World,
) -> None:
    companies = [Company.new("Twin") for _ in range(10)]

    async def at_close(company: Company) -> None:
        await world.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            contacts=[company.contact("Ada Lovelace", title="CTO")],
        )

    async def at_hubspot(company: Company) -> None:
        firm = await world.hubspot.create("companies", name=company.name, domain=company.domain)
        await world.hubspot.create(
            "contacts",
            firstname="Ada",
            lastname="Lovelace",
            email=company.email("ADA"),
            phone="+14155550199",
            company=firm,
        )

    await asyncio.gather(
        *(make(company) for company in companies for make in (at_close, at_hubspot))
    )
    await world.quiet(within=120)

    at_home = _of(await world.close.all("lead"), "url", companies)
    assert sorted(lead["name"] for lead in at_home) == sorted(c.name for c in companies)
    contacts = [contact for lead in at_home for contact in lead["contacts"]]
    emails = sorted(contact["emails"][0]["email"].lower() for contact in contacts)
    wanted = sorted(company.email("ada") for company in companies)
    assert emails == wanted
    everywhere = [c for c in await world.close.all("contact") if c["emails"]]
    assert len([c for c in everywhere if c["emails"][0]["email"].lower() in wanted]) == 10
    assert [(c["title"], c["phones"][0]["phone"]) for c in contacts] == [
        ("CTO", "+14155550199")
    ] * 10

    there = _of(await world.hubspot.all("contacts"), "email", companies)
    assert sorted(row["email"] for row in there) == wanted
    assert {(row["jobtitle"], row["phone"]) for row in there} == {("CTO", "+14155550199")}
    assert len(_of(await world.hubspot.all("companies"), "domain", companies)) == 10

    for row in there:
        record = await world.syncline.record("hubspot", row["id"], "person")
        assert sorted(link["account"] for link in record["links"]) == ["close", "hubspot"]
    await world.steady()


async def test_a_field_edited_twenty_times_in_a_second_ends_the_same_everywhere(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.crms.weather(**STORM)
    numbers = count(1)
    async with world.counting() as writes:
        for _ in range(20):
            await world.close.edit("lead", lead["id"], name=f"{company.name} {next(numbers)}")
    assert (await world.hubspot.read("companies", there))["name"] == f"{company.name} 20"
    assert (await world.close.read("lead", lead["id"]))["name"] == f"{company.name} 20"
    assert not [key for key in writes if key[0] == "close"]
    assert flips(await world.crms.history("hubspot", "company", there)) == {}
