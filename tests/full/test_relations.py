"""Who belongs to whom: Close keeps one company per contact, HubSpot many, and nothing is lost."""

from __future__ import annotations

from typing import Any

from tests.full.harness import Company, World

PRIMARY, PLAIN = 1, 279


async def _link(world: World, contact: str, company: str, *types: tuple[str, int]) -> None:
    """Exactly these types on the link between a contact and a company."""
    body = [{"associationCategory": c, "associationTypeId": id} for c, id in types]
    path = f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}"
    await world.hubspot.call("PUT" if types else "DELETE", path, body if types else None)


def _defined(*ids: int) -> tuple[tuple[str, int], ...]:
    return tuple(("HUBSPOT_DEFINED", id) for id in ids)


async def _two_companies(world: World, company: Company) -> dict[str, str]:
    """A contact of the first company, and where all three stand in Close."""
    first = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    second = await world.hubspot.create(
        "companies", name=f"{company.name} Two", domain=f"two.{company.domain}"
    )
    contact = await world.hubspot.create(
        "contacts", company=first, firstname="Grace", email=company.email("grace")
    )
    await world.quiet()
    found = {"first": first, "second": second, "contact": contact}
    for name, entity in (("first", "company"), ("second", "company"), ("contact", "person")):
        there = await world.syncline.counterpart("hubspot", found[name], entity, "close")
        found[f"{name} there"] = there
    return found


async def _lead_of(world: World, found: dict[str, str]) -> Any:
    return (await world.close.read("contact", found["contact there"]))["lead_id"]


async def test_a_contact_of_many_companies_lives_with_its_primary_one_and_keeps_the_others(
    world: World, company: Company
) -> None:
    found = await _two_companies(world, company)
    async with world.counting() as writes:
        await _link(world, found["contact"], found["second"], *_defined(PLAIN))
        await world.quiet()
    assert await _lead_of(world, found) == found["first there"]
    assert not [write for write in writes if write[0] == "close"]

    await world.close.edit("contact", found["contact there"], title="Rear Admiral")
    await world.quiet()
    links = await world.hubspot.links("contacts", found["contact"], "companies")
    assert links.keys() == {found["first"], found["second"]}

    await _link(world, found["contact"], found["second"], *_defined(PRIMARY, PLAIN))
    await world.quiet()
    assert await _lead_of(world, found) == found["second there"]
    links = await world.hubspot.links("contacts", found["contact"], "companies")
    assert links.keys() == {found["first"], found["second"]}
    await world.steady()


async def test_a_contact_moved_in_close_moves_in_hubspot_and_its_further_companies_stay(
    world: World, company: Company
) -> None:
    found = await _two_companies(world, company)
    third = await world.close.create("lead", name=f"{company.name} Three")
    await _link(world, found["contact"], found["second"], *_defined(PLAIN))
    await world.quiet()

    await world.close.edit("contact", found["contact there"], lead_id=third["id"])
    await world.quiet()

    there = await world.syncline.counterpart("close", third["id"], "company", "hubspot")
    links = await world.hubspot.links("contacts", found["contact"], "companies")
    assert links.keys() == {there, found["second"]}
    assert PRIMARY in links[there]
    await world.steady()


async def test_a_contact_that_loses_its_company_in_hubspot_stays_in_its_lead(
    world: World, company: Company
) -> None:
    found = await _two_companies(world, company)
    async with world.counting() as writes:
        await _link(world, found["contact"], found["first"])
        await world.quiet()
    assert await _lead_of(world, found) == found["first there"]
    assert not [write for write in writes if write[0] == "close"]

    await world.hubspot.edit("contacts", found["contact"], jobtitle="Rear Admiral")
    await world.quiet()
    contact = await world.close.read("contact", found["contact there"])
    assert (contact["title"], contact["lead_id"]) == ("Rear Admiral", found["first there"])

    await _link(world, found["contact"], found["second"], *_defined(PRIMARY, PLAIN))
    await world.quiet()
    assert await _lead_of(world, found) == found["second there"]
    assert await world.syncline.dead_letters() == []
    await world.steady()


async def test_people_join_and_leave_a_deal(world: World, company: Company) -> None:
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada"), company.contact("Mary")]
    )
    ada, mary = (contact["id"] for contact in lead["contacts"])
    deal = await world.close.create(
        "opportunity", lead_id=lead["id"], contact_id=ada, value=100, note="n"
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", deal["id"], "deal", "hubspot")
    people = {
        name: await world.syncline.counterpart("close", id, "person", "hubspot")
        for name, id in (("ada", ada), ("mary", mary))
    }
    assert (await world.hubspot.links("deals", there, "contacts")).keys() == {people["ada"]}

    join = f"/crm/v4/objects/deals/{there}/associations/default/contacts/{people['mary']}"
    async with world.counting() as writes:
        await world.hubspot.call("PUT", join)
        await world.quiet()
    assert not [write for write in writes if write[0] == "close"]
    assert (await world.close.read("opportunity", deal["id"]))["contact_id"] == ada

    leave = f"/crm/v4/objects/deals/{there}/associations/contacts/{people['ada']}"
    await world.hubspot.call("DELETE", leave)
    await world.quiet()
    assert (await world.close.read("opportunity", deal["id"]))["contact_id"] == mary
    await world.steady()


async def test_a_link_that_no_webhook_told_is_found_by_a_resync(
    world: World, company: Company
) -> None:
    """HubSpot moves no record's date when a link changes."""
    found = await _two_companies(world, company)
    await world.crms.weather(paused=True)
    await _link(world, found["contact"], found["second"], *_defined(PRIMARY, PLAIN))

    done = await world.syncline.resync(account="hubspot", entity="person")

    assert done["state"] == "done"
    await world.crms.weather(paused=False)
    await world.quiet()
    assert await _lead_of(world, found) == found["second there"]
    await world.steady()
