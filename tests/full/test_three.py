"""Three systems in step: what a person does in one stands in the two others, once, and stays."""

import csv
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, flips, until

SYNC = {"sync": {"deal": {"stages": harness.THREE_STAGES}}}
EXTERNAL = {"external_id": "Syncline_Id__c"}


@pytest_asyncio.fixture(scope="module")
async def three(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("three"), own, accounts={"salesforce": EXTERNAL}, config=SYNC
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture
async def world(three: World) -> AsyncIterator[World]:
    await three.quiet(calm=0)
    yield three
    await three.crms.fair_weather()


def without_links(writes: Counter[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """The records that were written; HubSpot counts its links as rows of their own."""
    return {key: n for key, n in writes.items() if key[1] != "association"}


async def everywhere(world: World, lead: Json) -> Json:
    """Where a company and its first contact stand in all three."""
    contact = lead["contacts"][0]["id"]
    found = {"lead": lead["id"], "contact": contact}
    for account, names in (
        ("hubspot", ("companies", "contacts")),
        ("salesforce", ("Account", "Contact")),
    ):
        for own, name, entity in zip(
            ("lead", "contact"), names, ("company", "person"), strict=True
        ):
            found[name] = await world.syncline.counterpart("close", found[own], entity, account)
    return found


async def a_lead(world: World, company: Company) -> Json:
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace", title="Countess")],
    )
    await world.quiet()
    return await everywhere(world, lead)


async def test_a_contact_of_close_reaches_both_others_by_exactly_two_writes(
    world: World, company: Company
):
    there = await a_lead(world, company)
    async with world.counting() as writes:
        await world.close.create("contact", lead_id=there["lead"], **company.contact("Bob Stone"))
    assert without_links(writes) == {
        ("hubspot", "contact", "created"): 1,
        ("salesforce", "Contact", "created"): 1,
    }
    (bob,) = await world.salesforce.find("Contact", Email=company.email("bob"))
    assert (bob["FirstName"], bob["LastName"]) == ("Bob", "Stone")
    assert bob["AccountId"] == there["Account"]
    (twin,) = await world.hubspot.find("contacts", email=company.email("bob"))
    assert twin["lastname"] == "Stone"
    await world.steady()


async def test_an_edit_in_salesforce_reaches_both_others_by_exactly_two_writes(
    world: World, company: Company
):
    there = await a_lead(world, company)
    async with world.counting() as writes:
        await world.salesforce.edit("Contact", there["Contact"], Title="Programmer")
    assert writes == {
        ("close", "contact", "updated"): 1,
        ("hubspot", "contact", "updated"): 1,
    }
    assert (await world.close.read("contact", there["contact"]))["title"] == "Programmer"
    assert (await world.hubspot.read("contacts", there["contacts"]))["jobtitle"] == "Programmer"
    assert not flips(await world.crms.history("salesforce", "Contact", there["Contact"]))
    await world.steady()


async def test_a_company_of_salesforce_with_people_and_a_deal_stands_in_both_others(
    world: World, company: Company
):
    force = world.salesforce
    async with world.counting() as writes:
        account = await force.create(
            "Account",
            Name=company.name,
            Website=f"https://{company.domain}",
            BillingCity="Arlington",
            NumberOfEmployees=12,
        )
        grace = await force.create(
            "Contact",
            FirstName="Grace",
            LastName="Hopper",
            Email=company.email("grace"),
            AccountId=account,
        )
        deal = await force.create(
            "Opportunity",
            Name="Compiler",
            AccountId=account,
            StageName="Needs Analysis",
            Amount=2500.5,
            CloseDate="2027-06-30",
        )
        await force.create(
            "OpportunityContactRole", OpportunityId=deal, ContactId=grace, IsPrimary=True
        )
    created = {key: n for key, n in without_links(writes).items() if key[2] == "created"}
    assert created == {
        ("close", "lead", "created"): 1,
        ("close", "contact", "created"): 1,
        ("close", "opportunity", "created"): 1,
        ("hubspot", "company", "created"): 1,
        ("hubspot", "contact", "created"): 1,
        ("hubspot", "deal", "created"): 1,
    }
    (there,) = await world.hubspot.find("deals", dealname="Compiler", amount="2500.5")
    assert there["dealstage"] == "presentationscheduled"
    assert str(there["closedate"]).startswith("2027-06-30")
    lead = await world.syncline.counterpart("salesforce", account, "company", "close")
    own = await world.syncline.counterpart("salesforce", deal, "deal", "close")
    opportunity = await world.close.read("opportunity", own)
    assert (opportunity["lead_id"], opportunity["value"]) == (lead, 250050)
    assert opportunity["status_label"] == "Demo"
    assert opportunity["contact_name"] == "Grace Hopper"
    await world.steady()


async def test_what_salesforce_demands_never_travels_back(world: World, company: Company):
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Cher")],
    )
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], status_id=statuses["Qualified"], value=100
    )
    await world.quiet()
    cher = await world.syncline.counterpart(
        "close", lead["contacts"][0]["id"], "person", "salesforce"
    )
    own = await world.syncline.counterpart("close", deal["id"], "deal", "salesforce")
    assert (await world.salesforce.read("Contact", cher))["LastName"] == "[not provided]"
    there = await world.salesforce.read("Opportunity", own)
    assert (there["CloseDate"], there["StageName"]) == ("2999-12-31", "Qualification")
    async with world.counting() as writes:
        await world.salesforce.edit("Contact", cher, Title="Singer")
        await world.salesforce.edit("Opportunity", own, Description="Big")
    assert {key: n for key, n in writes.items() if key[0] == "close"} == {
        ("close", "contact", "updated"): 1,
        ("close", "opportunity", "updated"): 1,
    }
    record = await world.syncline.record("salesforce", own, "deal")
    assert record["fields"].get("close_date") is None
    person = await world.syncline.record("salesforce", cher, "person")
    assert person["fields"].get("last_name") is None


async def test_a_stage_of_one_is_the_stage_of_all(world: World, company: Company):
    there = await a_lead(world, company)
    statuses = await world.close.statuses()
    deal = await world.close.create(
        "opportunity", lead_id=there["lead"], status_id=statuses["New"], value=100
    )
    await world.quiet()
    hub = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    force = await world.syncline.counterpart("close", deal["id"], "deal", "salesforce")
    for stage, places in harness.THREE_STAGES.items():
        if stage == "New":
            continue
        await world.hubspot.edit("deals", hub, dealstage=places["hubspot"])
        await world.quiet()
        assert (await world.salesforce.read("Opportunity", force))["StageName"] == places[
            "salesforce"
        ]
        assert (await world.close.read("opportunity", deal["id"]))["status_label"] == stage
    await world.salesforce.edit("Opportunity", force, StageName="Prospecting")
    await world.quiet()
    assert (await world.close.read("opportunity", deal["id"]))["status_label"] == "New"
    assert (await world.hubspot.read("deals", hub))["dealstage"] == "appointmentscheduled"
    await world.steady()


async def test_one_system_that_is_down_does_not_delay_the_two_others(
    world: World, company: Company
):
    there = await a_lead(world, company)
    await world.crms.fault("salesforce", "outage")
    await world.close.edit("contact", there["contact"], title="While it is down")

    async def told() -> bool:
        found = await world.hubspot.read("contacts", there["contacts"])
        return bool(found["jobtitle"] == "While it is down")

    await until(told, why=world.syncline.explain)
    await world.hubspot.edit("contacts", there["contacts"], jobtitle="Still down")

    async def back() -> bool:
        found = await world.close.read("contact", there["contact"])
        return bool(found["title"] == "Still down")

    await until(back, why=world.syncline.explain)
    assert (await world.salesforce.read("Contact", there["Contact"]))["Title"] == "Countess"
    await world.crms.clear_faults()

    async def caught_up() -> bool:
        found = await world.salesforce.read("Contact", there["Contact"])
        return bool(found["Title"] == "Still down")

    await until(caught_up, why=world.syncline.explain)
    await world.steady()


async def test_a_create_whose_answer_is_lost_is_found_again(world: World, company: Company):
    there = await a_lead(world, company)
    await world.crms.fault(
        "salesforce",
        "drop_after_commit",
        times=1,
        path="/composite/sobjects/Contact/Syncline_Id__c",
    )
    await world.close.create("contact", lead_id=there["lead"], **company.contact("Once Only"))
    await world.quiet()
    assert await world.crms.struck()
    assert len(await world.salesforce.find("Contact", Email=company.email("once"))) == 1


async def test_a_session_that_ends_meanwhile_costs_nothing(world: World, company: Company):
    there = await a_lead(world, company)
    await world.salesforce.call("POST", "/expire-sessions", {})
    await world.close.edit("contact", there["contact"], title="Later")
    await world.quiet()
    assert (await world.salesforce.read("Contact", there["Contact"]))["Title"] == "Later"
    health = await world.syncline.get("/health/lanes")
    assert not [lane for lane in health["lanes"] if lane["pause_reason"]]


async def test_a_delete_and_a_merge_in_salesforce_move_links_and_leave_the_others(
    world: World, company: Company
):
    there = await a_lead(world, company)
    twin = await world.salesforce.create("Contact", LastName="Lovelace", AccountId=there["Account"])
    await world.quiet()
    await world.salesforce.merge(twin, there["Contact"])
    await world.quiet()
    await world.salesforce.edit("Contact", twin, Title="Merged")
    await world.quiet()
    # Close keeps both: one of them stands for the record, the other waits for a person.
    record = await world.syncline.record("salesforce", twin, "person")
    states = {(one["account"], one["state"]): one["remote_id"] for one in record["links"]}
    assert states["salesforce", "live"] == twin
    own = {states["close", "live"], states["close", "parked"]}
    assert there["contact"] in own
    assert (await world.close.read("contact", states["close", "live"]))["title"] == "Merged"
    await world.salesforce.delete("Contact", twin)
    await world.quiet()
    for contact in own:
        assert (await world.close.read("contact", contact))["id"] == contact
    assert await world.salesforce.find("Contact", Email=company.email("ada")) == []


@pytest_asyncio.fixture
async def pair(tmp_path: Path, databases: Databases) -> AsyncIterator[World]:
    """Two systems in step, and a Salesforce that nobody has connected yet."""
    config = {"sync": {"deal": {"stages": harness.STAGES}}}
    async with databases() as own, harness.world(tmp_path, own, config=config) as found:
        yield found


async def connect(world: World, **changes: Any) -> None:
    """Add the third account to the configuration and start the service anew."""
    service = world.syncline
    await service.api.stop()
    file = service.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    content["accounts"]["salesforce"] = {
        **harness.salesforce_settings(world.crms.url),
        **EXTERNAL,
        **changes,
    }
    content.update(SYNC)
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    await service.api.start()
    await service.ready()
    await service.works()


async def test_a_third_system_joins_a_running_pair_and_nobody_is_doubled(
    pair: World, tmp_path: Path
):
    world = pair
    known, fresh, theirs = (Company.new(name) for name in ("Known", "Fresh", "Theirs"))
    leads = {}
    for company in (known, fresh):
        lead = await world.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            contacts=[company.contact(f"Ada {company.name.split()[0]}")],
        )
        leads[company] = lead
    force = world.salesforce
    account = await force.create("Account", Name="Known Inc.", Website=f"www.{known.domain}")
    await force.create(
        "Contact",
        FirstName="Ada",
        LastName="L.",
        Email=known.email("ada").upper(),
        AccountId=account,
    )
    # Of the same name, and somebody else: a namesake without an address proves nothing.
    await force.create("Contact", FirstName="Ada", LastName="Lovelace", AccountId=account)
    await force.create("Account", Name=theirs.name, Website=f"https://{theirs.domain}")
    await world.quiet()

    # First only look: nothing is written while the report is made.
    await connect(world, mode="observe")
    before = await world.crms.writes()
    code, _, err = await world.syncline.command(
        "match", "--csv", str(tmp_path / "rows.csv"), "--json"
    )
    assert code == 0, err
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = {
        (row["account"], row["other_account"], row["entity"], row["name"]): row["verdict"]
        for row in rows
        if "salesforce" in (row["account"], row["other_account"])
    }
    assert told == {
        ("close", "salesforce", "company", known.name): "matched",
        ("close", "salesforce", "company", fresh.name): "new",
        ("hubspot", "salesforce", "company", known.name): "matched",
        ("hubspot", "salesforce", "company", fresh.name): "new",
        ("salesforce", "close", "company", "Known Inc."): "matched",
        ("salesforce", "hubspot", "company", "Known Inc."): "matched",
        ("salesforce", "close", "company", theirs.name): "new",
        ("salesforce", "hubspot", "company", theirs.name): "new",
        ("close", "salesforce", "person", "Ada Known"): "matched",
        ("close", "salesforce", "person", "Ada Fresh"): "new",
        ("hubspot", "salesforce", "person", "Ada Known"): "matched",
        ("hubspot", "salesforce", "person", "Ada Fresh"): "new",
        ("salesforce", "close", "person", "Ada L."): "matched",
        ("salesforce", "hubspot", "person", "Ada L."): "matched",
        ("salesforce", "close", "person", "Ada Lovelace"): "new",
        ("salesforce", "hubspot", "person", "Ada Lovelace"): "new",
    }
    counted = [row for row in rows if row["account"] == "salesforce"]
    assert len(counted) == 8  # each of four against each of two
    assert await world.crms.writes() == before

    await connect(world)
    for name in ("close", "hubspot", "salesforce"):
        await world.syncline.resync(account=name)
    await world.quiet()
    assert len(await force.all("Account")) == 3
    assert sorted(row["LastName"] for row in await force.all("Contact")) == sorted(
        ["Known", "Lovelace", "Fresh"]  # Close, the first of the file, won over "L."
    )
    assert len(await world.hubspot.find("companies", domain=known.domain)) == 1
    (made,) = await force.find("Account", Name=fresh.name)
    assert made["Syncline_Id__c"]
    link = await world.syncline.counterpart("close", leads[known]["id"], "company", "salesforce")
    assert link == account
    assert [lead["name"] for lead in await world.close.find("lead", name=theirs.name)]
    await world.steady()


@pytest.mark.parametrize("policy", ["salesforce", "close", "latest"])
async def test_any_of_three_can_win_a_conflict(tmp_path: Path, databases: Databases, policy: str):
    sync = {"person": {"conflict": policy}, "deal": {"stages": harness.THREE_STAGES}}
    async with (
        databases() as own,
        harness.world(
            tmp_path, own, accounts={"salesforce": EXTERNAL}, config={"sync": sync}
        ) as world,
    ):
        there = await a_lead(world, Company.new("Contested"))
        await world.crms.weather(paused=True)
        await world.close.edit("contact", there["contact"], title="Of Close")
        await world.hubspot.edit("contacts", there["contacts"], jobtitle="Of HubSpot")
        await world.salesforce.edit("Contact", there["Contact"], Title="Of Salesforce")
        await world.crms.weather(paused=False)
        await world.quiet()
        wanted = {"close": "Of Close"}.get(policy, "Of Salesforce")
        assert (await world.close.read("contact", there["contact"]))["title"] == wanted
        assert (await world.hubspot.read("contacts", there["contacts"]))["jobtitle"] == wanted
        assert (await world.salesforce.read("Contact", there["Contact"]))["Title"] == wanted
        await world.steady()
