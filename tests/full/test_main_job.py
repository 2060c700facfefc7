"""The main job: what a person does in one CRM stands in the other, once, and stays."""

from itertools import zip_longest
from typing import Any, TypeAlias

import pytest

from tests.full.harness import DEAL_TO_CONTACT, PRIMARY, Company, Json, World, flips

ADA_PHONE = "+14155550199"


async def _a_lead(world: World, company: Company) -> Json:
    """A lead with Ada, Charles and an opportunity, and where each stands in HubSpot."""
    statuses = await world.close.statuses()
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        description="Makes engines.",
        addresses=[
            {
                "label": "business",
                "address_1": "12 St James's Square",
                "city": "London",
                "country": "GB",
                "zipcode": "SW1Y 4JH",
            }
        ],
        contacts=[
            company.contact(
                "Ada Lovelace",
                title="Countess",
                phones=[{"phone": "(415) 555-0199", "type": "office"}],
            ),
            company.contact("Charles Babbage"),
        ],
    )
    ada, charles = (contact["id"] for contact in lead["contacts"])
    deal = await world.close.create(
        "opportunity",
        lead_id=lead["id"],
        contact_id=ada,
        status_id=statuses["Qualified"],
        value=123456,
        note="The first order.",
        date_won="2027-03-31",
    )
    await world.quiet()
    found = {"lead": lead["id"], "contact": ada, "charles": charles, "opportunity": deal["id"]}
    found["companies"] = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    found["contacts"] = await world.syncline.counterpart("close", ada, "person", "hubspot")
    found["deals"] = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    return found


async def _a_company(world: World, company: Company) -> Json:
    """A company of HubSpot's with Grace and a deal, and where each stands in Close."""
    found = {
        "companies": await world.hubspot.create(
            "companies",
            name=company.name,
            domain=company.domain,
            description="Makes compilers.",
            address="1 Main Street",
            city="Arlington",
            state="VA",
            zip="22201",
            country="US",
        )
    }
    found["contacts"] = await world.hubspot.create(
        "contacts",
        firstname="Grace",
        lastname="Hopper",
        email=company.email("grace"),
        phone="+1 (703) 555-0147",
        jobtitle="Rear Admiral",
        company=found["companies"],
    )
    found["deals"] = await world.hubspot.create(
        "deals",
        dealname="Compiler",
        amount="2500.50",
        dealstage="presentationscheduled",
        pipeline="default",
        closedate="2027-06-30T00:00:00.000Z",
        description="For the fleet.",
        company=found["companies"],
        contact=found["contacts"],
    )
    await world.quiet()
    for entity, type, own in (
        ("company", "companies", "lead"),
        ("person", "contacts", "contact"),
        ("deal", "deals", "opportunity"),
    ):
        found[own] = await world.syncline.counterpart("hubspot", found[type], entity, "close")
    return found


async def test_a_lead_with_contacts_and_an_opportunity_stands_in_hubspot_associated(
    world: World, company: Company
) -> None:
    async with world.counting() as writes:
        found = await _a_lead(world, company)
    hubspot = world.hubspot

    (there,) = await hubspot.find("companies", domain=company.domain)
    assert there["id"] == found["companies"]
    assert (there["name"], there["description"]) == (company.name, "Makes engines.")
    assert there["website"] == f"https://{company.domain}"
    address = (there["address"], there["city"], there["zip"], there["country"])
    assert address == ("12 St James's Square", "London", "SW1Y 4JH", "GB")

    (ada,) = await hubspot.find("contacts", email=company.email("ada"))
    assert (ada["firstname"], ada["lastname"], ada["jobtitle"]) == ("Ada", "Lovelace", "Countess")
    assert ada["phone"] == ADA_PHONE
    (charles,) = await hubspot.find("contacts", email=company.email("charles"))
    assert (charles["firstname"], charles["lastname"]) == ("Charles", "Babbage")
    assert charles["phone"] is None

    deal = await hubspot.read("deals", found["deals"])
    assert (deal["amount"], deal["deal_currency_code"]) == ("1234.56", "USD")
    assert (deal["dealstage"], deal["pipeline"]) == ("qualifiedtobuy", "default")
    assert deal["closedate"] == "2027-03-31T00:00:00.000Z"
    assert deal["description"] == "The first order."
    assert deal["dealname"] == company.name

    for contact in (ada, charles):
        links = await hubspot.links("contacts", contact["id"], "companies")
        assert list(links) == [there["id"]]
        assert PRIMARY["contacts"] in links[there["id"]]
    links = await hubspot.links("deals", deal["id"], "companies")
    assert list(links) == [there["id"]]
    assert PRIMARY["deals"] in links[there["id"]]
    assert await hubspot.links("deals", deal["id"], "contacts") == {ada["id"]: {DEAL_TO_CONTACT}}

    assert {key: n for key, n in writes.items() if key[1] != "association"} == {
        ("hubspot", "company", "created"): 1,
        ("hubspot", "contact", "created"): 2,
        ("hubspot", "deal", "created"): 1,
    }
    await world.steady()


async def test_a_company_with_a_contact_and_a_deal_becomes_a_lead_with_both(
    world: World, company: Company
) -> None:
    async with world.counting() as writes:
        found = await _a_company(world, company)
    (lead,) = await world.close.find("lead", name=company.name)
    assert lead["id"] == found["lead"]
    assert lead["url"].removeprefix("https://").removeprefix("http://") == company.domain
    assert lead["description"] == "Makes compilers."
    (address,) = lead["addresses"]
    assert (address["address_1"], address["city"]) == ("1 Main Street", "Arlington")
    assert (address["state"], address["zipcode"]) == ("VA", "22201")

    (grace,) = lead["contacts"]
    assert (grace["name"], grace["title"]) == ("Grace Hopper", "Rear Admiral")
    assert [email["email"] for email in grace["emails"]] == [company.email("grace")]
    assert [phone["phone"] for phone in grace["phones"]] == ["+17035550147"]

    (deal,) = lead["opportunities"]
    assert (deal["value"], deal["value_currency"]) == (250050, "USD")
    assert deal["status_label"] == "Demo"
    assert deal["date_won"] == "2027-06-30"
    assert deal["note"] == "For the fleet."
    assert deal["contact_id"] == grace["id"]

    created = {key: n for key, n in writes.items() if key[2] == "created"}
    assert created == {
        ("close", "lead", "created"): 1,
        ("close", "contact", "created"): 1,
        ("close", "opportunity", "created"): 1,
    }
    assert set(writes) == set(created)
    await world.steady()


#: Which record, the edit there, which record elsewhere, what then stands there.
Edit: TypeAlias = tuple[str, Json, str, Json]

CLOSE_EDITS: list[Edit] = [
    ("lead", {"name": "Renamed"}, "companies", {"name": "Renamed"}),
    (
        "lead",
        {"url": "https://www.renamed.example/about"},
        "companies",
        {"website": "https://www.renamed.example/about", "domain": "renamed.example"},
    ),
    ("lead", {"description": "Mends them."}, "companies", {"description": "Mends them."}),
    (
        "lead",
        {"addresses": [{"label": "business", "address_1": "2 Dorset St", "city": "Bath"}]},
        "companies",
        {"address": "2 Dorset St", "city": "Bath", "zip": None},
    ),
    (
        "contact",
        {"name": "Augusta Ada King"},
        "contacts",
        {"firstname": "Augusta Ada", "lastname": "King"},
    ),
    ("contact", {"title": "Programmer"}, "contacts", {"jobtitle": "Programmer"}),
    (
        "contact",
        {"phones": [{"phone": "+44 20 7946 0018", "type": "mobile"}]},
        "contacts",
        {"phone": "+442079460018"},
    ),
    ("opportunity", {"value": 99}, "deals", {"amount": "0.99"}),
    ("opportunity", {"status_id": "Proposal"}, "deals", {"dealstage": "contractsent"}),
    ("opportunity", {"note": "The second."}, "deals", {"description": "The second."}),
    (
        "opportunity",
        {"date_won": "2027-12-24"},
        "deals",
        {"closedate": "2027-12-24T00:00:00.000Z"},
    ),
    # Cleared is an edit like any other.
    ("contact", {"title": ""}, "contacts", {"jobtitle": None}),
    ("contact", {"phones": []}, "contacts", {"phone": None}),
    ("lead", {"description": ""}, "companies", {"description": None}),
    ("opportunity", {"note": ""}, "deals", {"description": None}),
    ("opportunity", {"value": None}, "deals", {"amount": None}),
    # What the other has no place for is nobody's business there.
    ("opportunity", {"confidence": 75}, "deals", {}),
]

HUBSPOT_EDITS: list[Edit] = [
    ("companies", {"name": "Renamed"}, "lead", {"name": "Renamed"}),
    ("companies", {"description": "Mends them."}, "lead", {"description": "Mends them."}),
    ("contacts", {"firstname": "Amazing"}, "contact", {"name": "Amazing Hopper"}),
    ("contacts", {"lastname": "Murray"}, "contact", {"name": "Amazing Murray"}),
    ("contacts", {"jobtitle": "Professor"}, "contact", {"title": "Professor"}),
    ("contacts", {"phone": "+1 (212) 555-0100"}, "contact", {"phones": ["+12125550100"]}),
    ("deals", {"amount": "10"}, "opportunity", {"value": 1000}),
    ("deals", {"dealstage": "contractsent"}, "opportunity", {"status_label": "Proposal"}),
    ("deals", {"description": "For all."}, "opportunity", {"note": "For all."}),
    (
        "deals",
        {"closedate": "2028-02-29T00:00:00.000Z"},
        "opportunity",
        {"date_won": "2028-02-29"},
    ),
    ("contacts", {"jobtitle": ""}, "contact", {"title": ""}),
    ("contacts", {"phone": ""}, "contact", {"phones": []}),
    ("companies", {"description": ""}, "lead", {"description": ""}),
    ("deals", {"amount": ""}, "opportunity", {"value": None}),
    ("deals", {"dealname": "Compilers"}, "opportunity", {}),
    ("companies", {"industry": "COMPUTER_SOFTWARE"}, "lead", {}),
    ("contacts", {"lifecyclestage": "opportunity"}, "contact", {}),
]


def _rounds(edits: list[Edit]) -> list[list[Edit]]:
    """The same edits in the same order for each record, of several records at a time."""
    lines: dict[str, list[Edit]] = {}
    for edit in edits:
        lines.setdefault(edit[0], []).append(edit)
    return [[edit for edit in together if edit] for together in zip_longest(*lines.values())]


def _plain(value: Any) -> Any:
    """Close's lists of addresses and numbers as the bare values."""
    if isinstance(value, list):
        return [item.get("phone") or item.get("email") for item in value]
    return value


async def test_every_edit_in_close_is_exactly_one_write_in_hubspot_and_never_returns(
    world: World, company: Company
) -> None:
    found = await _a_lead(world, company)
    await world.quiet()
    statuses = await world.close.statuses()
    new_email = f"ada.king@{company.domain}"
    edits = [
        *CLOSE_EDITS,
        (
            "contact",
            {"emails": [{"email": new_email, "type": "office"}]},
            "contacts",
            {"email": new_email},
        ),
        ("contact", {"emails": []}, "contacts", {"email": None}),
    ]
    kinds = {"companies": "company", "contacts": "contact", "deals": "deal"}
    for together in _rounds(edits):
        async with world.counting() as writes:
            for type, change, _, _ in together:
                edit = {k: statuses[v] if k == "status_id" else v for k, v in change.items()}
                await world.close.edit(type, found[type], **edit)
        for _, change, other, wanted in together:
            there = await world.hubspot.read(other, found[other])
            assert {name: there[name] for name in wanted} == wanted, change
        expected = {
            ("hubspot", kinds[other], "updated"): 1 for _, _, other, wanted in together if wanted
        }
        assert writes == expected, together
    for vendor, type, id in (
        ("close", "lead", found["lead"]),
        ("close", "contact", found["contact"]),
        ("close", "opportunity", found["opportunity"]),
        ("hubspot", "company", found["companies"]),
        ("hubspot", "contact", found["contacts"]),
        ("hubspot", "deal", found["deals"]),
    ):
        assert flips(await world.crms.history(vendor, type, id)) == {}
    await world.steady()


async def test_every_edit_in_hubspot_is_exactly_one_write_in_close_and_never_returns(
    world: World, company: Company
) -> None:
    found = await _a_company(world, company)
    new_email = f"grace.murray@{company.domain}"
    new_domain = f"new.{company.domain}"
    edits = [
        *HUBSPOT_EDITS,
        ("contacts", {"email": new_email}, "contact", {"emails": [new_email]}),
        ("companies", {"domain": new_domain}, "lead", {"url": f"https://{new_domain}"}),
        (
            "companies",
            {"address": "2 Side Street", "city": "Alexandria"},
            "lead",
            {"addresses": [("2 Side Street", "Alexandria", "VA", "22201")]},
        ),
    ]
    for together in _rounds(edits):
        async with world.counting() as writes:
            for type, change, _, _ in together:
                await world.hubspot.edit(type, found[type], **change)
        for _, change, other, wanted in together:
            there = await world.close.read(other, found[other])
            there["addresses"] = [
                (a["address_1"], a["city"], a["state"], a["zipcode"])
                for a in there.get("addresses") or []
            ]
            for name in ("phones", "emails"):
                there[name] = _plain(there.get(name))
            assert {name: there[name] for name in wanted} == wanted, change
        expected = {("close", other, "updated"): 1 for _, _, other, wanted in together if wanted}
        assert writes == expected, together
    for vendor, type, id in (
        ("close", "lead", found["lead"]),
        ("close", "contact", found["contact"]),
        ("close", "opportunity", found["opportunity"]),
        ("hubspot", "company", found["companies"]),
        ("hubspot", "contact", found["contacts"]),
        ("hubspot", "deal", found["deals"]),
    ):
        assert flips(await world.crms.history(vendor, type, id)) == {}
    await world.steady()


async def test_edits_of_different_fields_on_both_sides_at_once_all_survive(
    world: World, company: Company
) -> None:
    found = await _a_lead(world, company)
    async with world.counting() as writes:
        await world.crms.weather(pause=True)
        await world.close.edit("contact", found["contact"], title="Analyst")
        await world.hubspot.edit("contacts", found["contacts"], phone="+442079460018")
        await world.close.edit("opportunity", found["opportunity"], note="From Close.")
        await world.hubspot.edit("deals", found["deals"], amount="7")
        await world.crms.weather(resume=True)
    ada = await world.close.read("contact", found["contact"])
    there = await world.hubspot.read("contacts", found["contacts"])
    assert (ada["title"], _plain(ada["phones"])) == ("Analyst", ["+442079460018"])
    assert (there["jobtitle"], there["phone"]) == ("Analyst", "+442079460018")
    deal = await world.close.read("opportunity", found["opportunity"])
    there = await world.hubspot.read("deals", found["deals"])
    assert (deal["note"], deal["value"]) == ("From Close.", 700)
    assert (there["description"], there["amount"]) == ("From Close.", "7")
    assert writes == {
        ("close", "contact", "updated"): 1,
        ("close", "opportunity", "updated"): 1,
        ("hubspot", "contact", "updated"): 1,
        ("hubspot", "deal", "updated"): 1,
    }


async def test_when_both_edit_the_same_field_the_configured_account_wins_and_the_other_is_kept(
    world: World, company: Company
) -> None:
    found = await _a_lead(world, company)
    await world.crms.weather(pause=True)
    await world.hubspot.edit("contacts", found["contacts"], jobtitle="From HubSpot")
    await world.close.edit("contact", found["contact"], title="From Close")
    await world.crms.weather(resume=True)
    await world.quiet()
    assert (await world.close.read("contact", found["contact"]))["title"] == "From Close"
    there = await world.hubspot.read("contacts", found["contacts"])
    assert there["jobtitle"] == "From Close"
    record = await world.syncline.record("close", found["contact"], "person")
    lost = [line["lost"] for line in record["journal"] if line["field"] == "title"]
    assert "From HubSpot" in lost
    await world.steady()


async def test_a_contact_that_stands_alone_in_hubspot_gets_a_lead_that_does_not_travel_back(
    world: World, company: Company
) -> None:
    before = len(await world.hubspot.all("companies"))
    contact = await world.hubspot.create(
        "contacts", firstname="Radia", lastname="Perlman", email=company.email("radia")
    )
    await world.quiet()
    there = await world.syncline.counterpart("hubspot", contact, "person", "close")
    radia = await world.close.read("contact", there)
    assert (radia["name"], _plain(radia["emails"])) == ("Radia Perlman", [company.email("radia")])
    assert len(await world.hubspot.all("companies")) == before
    await world.steady()


async def test_a_second_contact_and_deal_added_later_join_the_company(
    world: World, company: Company
) -> None:
    found = await _a_lead(world, company)
    late = await world.close.create(
        "contact", lead_id=found["lead"], **company.contact("Mary Somerville")
    )
    deal = await world.close.create("opportunity", lead_id=found["lead"], value=100)
    await world.quiet()
    for remote, entity, type in (
        (late["id"], "person", "contacts"),
        (deal["id"], "deal", "deals"),
    ):
        there = await world.syncline.counterpart("close", remote, entity, "hubspot")
        assert list(await world.hubspot.links(type, there, "companies")) == [found["companies"]]
    assert len(await world.hubspot.find("companies", domain=company.domain)) == 1


async def test_what_is_deleted_in_one_crm_stays_in_the_other_and_does_not_return(
    world: World, company: Company
) -> None:
    found = await _a_lead(world, company)
    await world.close.delete("contact", found["charles"])
    await world.quiet()
    (charles,) = await world.hubspot.find("contacts", email=company.email("charles"))
    async with world.counting() as writes:
        await world.hubspot.edit("contacts", charles["id"], jobtitle="Retired")
    assert not writes
    names = {
        contact["name"] for contact in (await world.close.read("lead", found["lead"]))["contacts"]
    }
    assert names == {"Ada Lovelace"}


@pytest.mark.parametrize("stage", ["Won", "Lost"])
async def test_a_deal_that_ends_in_close_ends_in_hubspot_and_keeps_its_day(
    world: World, company: Company, stage: str
) -> None:
    found = await _a_lead(world, company)
    statuses = await world.close.statuses()
    async with world.counting() as writes:
        await world.close.edit("opportunity", found["opportunity"], status_id=statuses[stage])
    deal = await world.hubspot.read("deals", found["deals"])
    assert deal["dealstage"] == f"closed{stage.lower()}"
    assert deal["closedate"] == "2027-03-31T00:00:00.000Z"
    assert writes == {("hubspot", "deal", "updated"): 1}
    await world.steady()


@pytest.mark.parametrize("stage", ["Won", "Lost"])
async def test_a_deal_that_ends_in_hubspot_ends_in_close(
    world: World, company: Company, stage: str
) -> None:
    found = await _a_lead(world, company)
    async with world.counting() as writes:
        await world.hubspot.edit("deals", found["deals"], dealstage=f"closed{stage.lower()}")
    deal = await world.close.read("opportunity", found["opportunity"])
    assert (deal["status_label"], deal["status_type"]) == (stage, stage.lower())
    assert writes["close", "opportunity", "updated"] == 1
    await world.steady()
