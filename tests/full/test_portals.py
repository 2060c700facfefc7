"""Two portals behind one address, a third that is nobody's, and a Close that we subscribe to."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import HUBSPOT_SECRET, PORTAL, Company, PersonAtHubSpot, World, until

EUROPE, EUROPES_TOKEN = PORTAL + 1, "pat-eu1-full-tests-0002"
STRANGER, STRANGERS_TOKEN = PORTAL + 2, "pat-na1-full-tests-0003"


@pytest_asyncio.fixture(scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """Accounts close, hubspot and europe; only the sandbox knows of the third portal."""
    portals = ((EUROPES_TOKEN, EUROPE), (STRANGERS_TOKEN, STRANGER))
    told = [f"--hubspot-portal={token}={portal}" for token, portal in portals]
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("portals"),
            own,
            accounts={
                "close": {"webhook_secret": None},
                "europe": {
                    "connector": "hubspot",
                    "portal_id": EUROPE,
                    "credentials": {"access_token": EUROPES_TOKEN},
                    "webhook_secret": HUBSPOT_SECRET,
                    "base_url": harness.SAME_SANDBOX,
                    "labels": "create",
                },
            },
            sandbox=told,
            subscribed=False,
            config={"sync": {}},
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture
async def world(apart: World) -> AsyncIterator[World]:
    await apart.quiet(calm=0)
    yield apart
    await apart.crms.fair_weather()


@pytest.fixture
def europe(world: World) -> PersonAtHubSpot:
    return PersonAtHubSpot(world.crms.http, EUROPE)


@pytest.fixture
def stranger(world: World) -> PersonAtHubSpot:
    return PersonAtHubSpot(world.crms.http, STRANGER)


async def test_subscribing_close_keeps_its_key_which_then_verifies_what_it_sends(
    world: World, company: Company
) -> None:
    body = b'{"subscription_id": "whsub_x", "event": {}}'
    assert (await world.syncline.deliver("close", body)).status_code == 401
    code, out, err = await world.syncline.command("webhooks", "subscribe", "close", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["url"], made["key_kept"]) == (f"{world.syncline.url}/webhooks/close", True)
    assert "signature_key" not in out
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet()
    assert await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    assert (await world.crms.control("GET", "webhooks"))["close"]["failed"] == 0

    # A second time repairs the same one.
    code, out, err = await world.syncline.command("webhooks", "subscribe", "close", "--json")
    assert code == 0, err
    assert json.loads(out)["id"] == made["id"]
    code, out, _ = await world.syncline.command("webhooks", "list", "close", "--json")
    assert [(s["id"], s["ours"]) for s in json.loads(out)["items"]] == [(made["id"], True)]
    await world.close.edit("lead", lead["id"], name=f"{company.name} Ltd")
    await world.quiet()
    assert len(await world.hubspot.find("companies", name=f"{company.name} Ltd")) == 1


async def test_each_event_reaches_the_account_of_its_portal(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    """Ids are the same in every portal: only the portal tells them apart."""
    other = Company.new("European")
    here = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    there = await europe.create("companies", name=other.name, domain=other.domain)
    await world.quiet()
    for account, id, name in (("hubspot", here, company.name), ("europe", there, other.name)):
        lead = await world.syncline.counterpart(account, id, "company", "close")
        assert (await world.close.read("lead", lead))["name"] == name
    for portal in (world.hubspot, europe):
        found = {row["name"] for row in await portal.all("companies")}
        assert {company.name, other.name} <= found


async def test_a_change_in_one_of_three_systems_is_two_writes(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    here = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    await world.quiet()
    there = await world.syncline.counterpart("hubspot", here, "company", "europe")
    lead = await world.syncline.counterpart("hubspot", here, "company", "close")
    async with world.counting() as writes:
        await europe.edit("companies", there, description="Makes engines.")
    assert writes == {("close", "lead", "updated"): 1, ("hubspot", "company", "updated"): 1}
    assert (await world.close.read("lead", lead))["description"] == "Makes engines."
    assert (await world.hubspot.read("companies", here))["description"] == "Makes engines."
    async with world.counting() as writes:
        await world.hubspot.edit("companies", here, industry="COMPUTER_SOFTWARE")
    assert writes == {("hubspot", "company", "updated"): 1}
    assert (await europe.read("companies", there))["industry"] == "COMPUTER_SOFTWARE"
    await world.steady()


Shown = dict[str, set[str]]


async def shown(portal: PersonAtHubSpot, type: str, id: str, end: str = "companies") -> Shown:
    """What each linked record is called there: the words of its link, by its own name."""
    answer = await portal.call("GET", f"/crm/v4/objects/{type}/{id}/associations/{end}")
    links = {
        str(row["toObjectId"]): {t["label"] for t in row["associationTypes"] if t["label"]}
        for row in answer["results"]
    }
    field = "name" if end == "companies" else "email"
    return {(await portal.read(end, one))[field]: words for one, words in links.items()}


async def link(
    portal: PersonAtHubSpot, type: str, id: str, end: str, other: str, *words: str
) -> None:
    """Exactly these words on the link of two records; one that nothing calls is plain."""
    path = f"/crm/v4/associations/{type}/{end}/labels"
    known = {t["label"]: t for t in (await portal.call("GET", path))["results"]}
    body = [
        {
            "associationCategory": known[word]["category"],
            "associationTypeId": known[word]["typeId"],
        }
        for word in (None, *words)
    ]
    await portal.call("PUT", f"/crm/v4/objects/{type}/{id}/associations/{end}/{other}", body)


async def unlink(portal: PersonAtHubSpot, type: str, id: str, end: str, other: str) -> None:
    await portal.call("DELETE", f"/crm/v4/objects/{type}/{id}/associations/{end}/{other}")


async def name_links(portal: PersonAtHubSpot, type: str, end: str, *words: str) -> None:
    for word in words:
        body = {"label": word, "name": word.lower().replace(" ", "_")}
        await portal.call("POST", f"/crm/v4/associations/{type}/{end}/labels", body)


@dataclass
class Three:
    """A contact of hubspot, three companies there, and the same in the two others."""

    names: tuple[str, str, str]
    here: list[str]
    contact: str
    there: list[str]
    copy: str
    close: str

    @classmethod
    async def make(cls, world: World, company: Company) -> "Three":
        names = [f"{company.name} {n}" for n in "ABC"]
        here = [
            await world.hubspot.create("companies", name=name, domain=f"{n}.{company.domain}")
            for n, name in zip("abc", names, strict=True)
        ]
        email = company.email("grace")
        contact = await world.hubspot.create("contacts", company=here[0], email=email)
        await world.quiet()
        other = world.syncline.counterpart
        return cls(
            (names[0], names[1], names[2]),
            here,
            contact,
            [await other("hubspot", one, "company", "europe") for one in here],
            await other("hubspot", contact, "person", "europe"),
            await other("hubspot", contact, "person", "close"),
        )

    async def lead(self, world: World) -> str:
        contact = await world.close.read("contact", self.close)
        return str((await world.close.read("lead", contact["lead_id"]))["name"])


async def test_a_contact_of_three_companies_shows_the_same_in_both_portals(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    """In whatever order it is told: links come, get labels, change who is primary, and go."""
    await name_links(world.hubspot, "contacts", "companies", "Decision maker")
    found = await Three.make(world, company)
    a, b, c = found.names

    async with world.counting() as writes:
        await link(world.hubspot, "contacts", found.contact, "companies", found.here[1])
    assert writes == {("hubspot", "association", "created"): 1}
    async with world.counting() as writes:
        await link(
            world.hubspot, "contacts", found.contact, "companies", found.here[1], "Decision maker"
        )
    assert writes == {("hubspot", "association", "updated"): 1}
    plain: set[str] = set()
    assert await shown(europe, "contacts", found.copy) == {a: {"Primary"}, b: {"Decision maker"}}

    # All of it at once, told twice and in no order.
    await world.crms.weather(duplicate=1, shuffle=True, paused=True)
    await link(world.hubspot, "contacts", found.contact, "companies", found.here[2], "Primary")
    await unlink(world.hubspot, "contacts", found.contact, "companies", found.here[1])
    await link(
        europe, "contacts", found.copy, "companies", found.there[0], "Primary", "Decision maker"
    )
    await world.crms.weather(paused=False)
    await world.quiet()
    wanted = {a: {"Decision maker"}, c: {"Primary"}}
    assert await shown(world.hubspot, "contacts", found.contact) == wanted
    assert await shown(europe, "contacts", found.copy) == wanted
    assert await found.lead(world) == c

    # The label goes where it was not given, and nobody's link with it.
    await world.crms.fair_weather()
    async with world.counting() as writes:
        await link(world.hubspot, "contacts", found.contact, "companies", found.here[0])
    assert writes == {("hubspot", "association", "updated"): 1}
    wanted = {a: plain, c: {"Primary"}}
    assert await shown(europe, "contacts", found.copy) == wanted
    await world.steady()


async def test_a_contact_that_moves_in_close_keeps_its_further_companies_and_labels_in_both(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    code, _, err = await world.syncline.command("webhooks", "subscribe", "close")
    assert code == 0, err
    await name_links(world.hubspot, "contacts", "companies", "Advisor")
    found = await Three.make(world, company)
    _, b, c = found.names
    await link(world.hubspot, "contacts", found.contact, "companies", found.here[1], "Advisor")
    await world.quiet()
    lead = await world.syncline.counterpart("hubspot", found.here[2], "company", "close")

    await world.close.edit("contact", found.close, lead_id=lead)
    await world.quiet()

    wanted = {b: {"Advisor"}, c: {"Primary"}}
    assert await shown(world.hubspot, "contacts", found.contact) == wanted
    assert await shown(europe, "contacts", found.copy) == wanted
    assert await found.lead(world) == c
    # Back in HubSpot to one of the further companies: the lead follows, and nothing is lost.
    await link(europe, "contacts", found.copy, "companies", found.there[1], "Primary", "Advisor")
    await world.quiet()
    wanted = {b: {"Advisor", "Primary"}, c: set()}
    assert await shown(world.hubspot, "contacts", found.contact) == wanted
    assert await shown(europe, "contacts", found.copy) == wanted
    assert await found.lead(world) == b
    await world.steady()


async def test_a_new_contact_and_a_new_deal_come_with_their_companies_and_labels(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    await name_links(world.hubspot, "deals", "contacts", "Champion")
    await name_links(world.hubspot, "contacts", "companies", "Founder")
    await world.crms.weather(paused=True, shuffle=True)
    here = [
        await world.hubspot.create(
            "companies", name=f"{company.name} {n}", domain=f"{n}.{company.domain}"
        )
        for n in "de"
    ]
    contact = await world.hubspot.create("contacts", company=here[0], email=company.email("ada"))
    deal = await world.hubspot.create(
        "deals",
        company=here[0],
        contact=contact,
        dealname=f"{company.name} deal",
        dealstage="appointmentscheduled",
        pipeline="default",
    )
    await link(world.hubspot, "contacts", contact, "companies", here[1], "Founder")
    await link(world.hubspot, "deals", deal, "companies", here[1])
    await link(world.hubspot, "deals", deal, "contacts", contact, "Champion")
    await world.crms.weather(paused=False)
    await world.quiet()

    copy = await world.syncline.counterpart("hubspot", contact, "person", "europe")
    twin = await world.syncline.counterpart("hubspot", deal, "deal", "europe")
    names = [f"{company.name} {n}" for n in "de"]
    assert await shown(europe, "contacts", copy) == {names[0]: {"Primary"}, names[1]: {"Founder"}}
    assert await shown(europe, "deals", twin) == {names[0]: {"Primary"}, names[1]: set()}
    assert await shown(europe, "deals", twin, "contacts") == {company.email("ada"): {"Champion"}}
    await world.steady()


async def test_a_label_that_a_portal_does_not_have_is_told_and_goes_once_it_does(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    """europe makes what it lacks; hubspot waits for somebody to make it."""
    await name_links(europe, "contacts", "companies", "Référent")
    found = await Three.make(world, company)
    await link(europe, "contacts", found.copy, "companies", found.there[1], "Référent")
    await europe.edit("contacts", found.copy, jobtitle="Rear Admiral")
    await world.quiet()
    assert (await world.hubspot.read("contacts", found.contact))["jobtitle"] == "Rear Admiral"
    a, b, _ = found.names
    assert await shown(world.hubspot, "contacts", found.contact) == {a: {"Primary"}, b: set()}
    (letter,) = await world.syncline.dead_letters()
    assert (letter["account"], letter["field"]) == ("hubspot", "labels")
    assert "'Référent'" in letter["reason"]
    assert "labels: create" in letter["reason"]

    await name_links(world.hubspot, "contacts", "companies", "Référent")
    await world.syncline.post("/api/accounts/hubspot/test")
    await world.quiet()
    assert await world.syncline.dead_letters() == []
    wanted = {a: {"Primary"}, b: {"Référent"}}
    assert await shown(world.hubspot, "contacts", found.contact) == wanted
    assert await shown(europe, "contacts", found.copy) == wanted
    await world.steady()


async def test_whom_a_person_has_split_nobody_asks_about_again(
    world: World, europe: PersonAtHubSpot, company: Company
) -> None:
    """Though either portal lets only one of them have the address, and says so."""
    email = company.email("ada")
    here = await world.hubspot.create("contacts", email=email, firstname="Ada")
    await world.quiet()
    there = await world.syncline.counterpart("hubspot", here, "person", "europe")
    record = await world.syncline.record("hubspot", here, "person")
    refs = [{"account": "europe", "remote_id": there}]
    await world.syncline.post(f"/api/records/{record['id']}/split", {"refs": refs})
    await world.hubspot.edit("contacts", here, jobtitle="Countess")
    await world.quiet()
    assert (await europe.read("contacts", there))["jobtitle"] is None
    cards = await world.syncline.rows("/api/conflicts", state="open")
    assert [card for card in cards if card["ref"]["id"] in (here, there)] == []
    reasons = {letter["reason"] for letter in await world.syncline.dead_letters()}
    assert f"europe has {there} with the same key, and it belongs to another record" in reasons


async def test_an_unknown_portals_events_are_kept_and_counted_and_touch_nothing(
    world: World, stranger: PersonAtHubSpot, company: Company
) -> None:
    async def counted() -> float:
        return await world.syncline.metric("syncline_events_total", answer="foreign")

    before = await counted()
    async with world.counting() as writes:
        id = await stranger.create("companies", name=company.name, domain=company.domain)
    assert not writes
    kept = await world.syncline.rows("/api/events", answer="foreign")
    assert {"company.creation", "company.propertyChange"} <= {event["type"] for event in kept}
    assert {event["ref"]["id"] for event in kept} == {id}
    assert str(STRANGER) in kept[0]["error"]["reason"]
    assert await counted() - before == len(kept) >= 2
    assert await world.syncline.rows("/api/records", domain=company.domain) == []

    async def none_wait() -> bool:
        return not await world.syncline.pending()

    await until(none_wait)
