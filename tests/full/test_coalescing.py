"""Many hints, few calls: counted at the vendors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from tests.full.harness import Company, Json, World, until

EDITS = 50
PEOPLE = 30


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _of(calls: list[Json], *paths: str) -> list[tuple[str, bool]]:
    """What was called of these paths, and whether it wrote."""
    return [
        (call["path"], call["write"])
        for call in calls
        if any(call["path"].startswith(path) for path in paths)
    ]


@asynccontextmanager
async def _gathering(world: World, *, marks: int = 0) -> AsyncIterator[None]:
    """What is done in the block waits until all of it is there, and goes together.

    ``marks`` are the records that then wait to be pushed to HubSpot.
    """

    async def all_there() -> bool:
        query = "select count(*) as n from outbox where account = 'hubspot'"
        waiting = (await world.syncline.sql(query))[0]["n"]
        return bool(waiting == marks) and not await world.crms.undelivered()

    await world.syncline.post("/api/accounts/hubspot/pause")
    try:
        yield
        await until(all_there, why=world.syncline.explain)
    finally:
        await world.syncline.post("/api/accounts/hubspot/resume")


async def test_fifty_events_of_one_deal_are_one_read_and_one_write(
    world: World, company: Company
) -> None:
    theirs = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    deal = await world.hubspot.create(
        "deals", company=theirs, dealname=company.name, amount="1", dealstage="appointmentscheduled"
    )
    await world.quiet()
    ours = await world.syncline.counterpart("hubspot", deal, "deal", "close")
    async with _gathering(world):
        for number in range(EDITS // 2):
            await world.hubspot.edit("deals", deal, amount=str(100 + number))
            await world.hubspot.edit("deals", deal, description=f"Edit {number}")
        since = _now()
    await world.quiet()

    kept = await world.close.read("opportunity", ours)
    assert (kept["value"], kept["note"]) == (100 * (100 + EDITS // 2 - 1), f"Edit {EDITS // 2 - 1}")
    # The end of a pause is a reason to search for what no webhook told: that reads no deal again.
    read = _of(await world.crms.calls("hubspot", since=since), "/crm/v3/objects/deals/batch")
    assert read == [("/crm/v3/objects/deals/batch/read", False)]
    # Looked at once more before it is written: an edit there must not be lost.
    written = _of(await world.crms.calls("close", since=since), f"/api/v1/opportunity/{ours}/")
    assert [write for _, write in written] == [False, True]


async def test_what_waits_together_goes_together(world: World, company: Company) -> None:
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact(f"P{number} Example") for number in range(PEOPLE)],
    )
    await world.quiet()
    async with _gathering(world, marks=PEOPLE):
        for contact in lead["contacts"]:
            await world.close.edit("contact", contact["id"], title="CTO")
        since = _now()
    await world.quiet()

    calls = _of(await world.crms.calls("hubspot", since=since), "/crm/v3/objects/contacts/batch")
    # … of which the echo that comes back tells nothing new: nobody reads or writes for it.
    assert calls == [
        ("/crm/v3/objects/contacts/batch/read", False),
        ("/crm/v3/objects/contacts/batch/update", True),
    ]
    people = await world.hubspot.all("contacts")
    titles = [row["jobtitle"] for row in people if (row["email"] or "").endswith(company.domain)]
    assert titles == ["CTO"] * PEOPLE


async def test_an_event_older_than_what_was_seen_since_costs_no_call(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.quiet()
    await world.crms.weather(lose=True)
    since = _now()
    await world.close.edit("lead", lead["id"], description="newer")
    newer = await world.close.event(lead["id"])
    when = datetime.fromisoformat(newer["date_updated"]) - timedelta(milliseconds=1)
    told = {**newer["data"], "description": "older", "date_updated": f"{when.isoformat()}+00:00"}
    older = {**newer, "id": "ev_older", "date_updated": when.isoformat(), "data": told}

    await world.syncline.tell_close(newer)
    await world.quiet()
    await world.syncline.tell_close(older)
    await world.quiet()

    assert not _of(await world.crms.calls("close", since=since), f"/api/v1/lead/{lead['id']}/")
    (company_there,) = await world.hubspot.find("companies", domain=company.domain)
    assert company_there["description"] == "newer"
