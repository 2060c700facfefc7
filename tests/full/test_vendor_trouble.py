"""The CRM loses answers, asks for patience, is away, or says no: nothing is lost or doubled."""

import asyncio
import time
from collections import Counter
from datetime import datetime

import pytest

from tests.full.harness import Company, Json, World, until

TOO_LONG = "x" * 70_000  # Close takes it; a property of HubSpot's holds 65,536 characters
REFUSED = {
    "status": "error",
    "message": "Property values were not valid",
    "category": "VALIDATION_ERROR",
    "errors": [
        {
            "message": "Lifecycle rules of this portal refuse the address",
            "code": "INVALID_EMAIL",
            "context": {"propertyName": ["email"]},
        }
    ],
}


CREATES = "objects/contacts(/batch/(create|upsert))?$"


async def _lane(world: World, account: str, direction: str) -> Json:
    lanes = (await world.syncline.get("/health/lanes"))["lanes"]
    return next(x for x in lanes if (x["account"], x["direction"]) == (account, direction))


@pytest.mark.heavy
async def test_creates_whose_answer_is_lost_are_found_again_and_not_repeated(
    world: World,
) -> None:
    from_close, nameless = Company.new("Lost answer"), Company.new("Without domain")
    from_hubspot = Company.new("Lost there")
    for path in ("companies/batch/create", "contacts/batch/(create|upsert)", "deals/batch/create"):
        await world.crms.fault("hubspot", "drop_after_commit", method="POST", path=path, times=1)
    for path in ("/lead/$", "/contact/$", "/opportunity/$"):
        await world.crms.fault("close", "drop_after_commit", method="POST", path=path, times=1)

    lead = await world.close.create(
        "lead",
        name=from_close.name,
        url=f"https://{from_close.domain}",
        contacts=[from_close.contact("Ada Lovelace")],
    )
    await world.close.create("opportunity", lead_id=lead["id"], value=77_00, note=from_close.name)
    await world.close.create("lead", name=nameless.name)
    firm = await world.hubspot.create(
        "companies", name=from_hubspot.name, domain=from_hubspot.domain
    )
    await world.hubspot.create(
        "contacts",
        firstname="Grace",
        lastname="Hopper",
        email=from_hubspot.email("grace"),
        company=firm,
    )
    await world.hubspot.create(
        "deals",
        dealname=from_hubspot.name,
        dealstage="contractsent",
        pipeline="default",
        amount="12",
        company=firm,
    )
    await until(world.crms.struck, why=world.syncline.explain, within=100)
    await world.quiet(within=150)

    companies = Counter(row["name"] for row in await world.hubspot.all("companies"))
    assert (companies[from_close.name], companies[nameless.name]) == (1, 1)
    assert len(await world.hubspot.find("contacts", email=from_close.email("ada"))) == 1
    assert len(await world.hubspot.find("deals", description=from_close.name)) == 1
    (at_close,) = await world.close.find("lead", name=from_hubspot.name)
    assert [contact["name"] for contact in at_close["contacts"]] == ["Grace Hopper"]
    assert [deal["value"] for deal in at_close["opportunities"]] == [1200]
    await world.crms.fair_weather()
    await world.steady()


async def test_a_429_is_obeyed_to_the_second_and_the_work_then_goes_on(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    started = time.time()
    await world.crms.fault("hubspot", "retry_after", seconds=2, times=1)
    await world.close.edit("lead", lead["id"], name=f"{company.name} Ltd")
    await until(world.crms.struck, why=world.syncline.explain)

    await world.quiet()
    calls = await world.crms.calls("hubspot", since=started)
    times = [datetime.fromisoformat(call["at"]).timestamp() for call in calls]
    (refused,) = [at for at, call in zip(times, calls, strict=True) if call["status"] == 429]
    after = [at for at in times if at > refused]
    assert after, calls
    assert min(after) - refused >= 1.95
    assert min(after) - refused < 7
    assert (await world.hubspot.read("companies", there))["name"] == f"{company.name} Ltd"


async def test_after_an_outage_work_resumes_within_ten_seconds(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.crms.fault("hubspot", "outage", until=2)
    await world.crms.fault("hubspot", "status", status=503)
    for number in range(1, 6):  # the failures add up, the patience must not
        await world.close.edit("lead", lead["id"], name=f"{company.name} {number}")
        await asyncio.sleep(1)
    assert (await world.hubspot.read("companies", there))["name"] == company.name
    async with world.counting() as writes:
        await world.crms.clear_faults()

        async def arrived() -> bool:
            found = await world.hubspot.read("companies", there)
            return bool(found["name"] == f"{company.name} 5")

        await until(arrived, why=world.syncline.explain, within=10)
    assert writes == {("hubspot", "company", "updated"): 1}
    assert (await _lane(world, "hubspot", "out"))["failures"] == 0


async def test_an_outage_of_the_sender_does_not_hide_what_was_edited_meanwhile(
    world: World, company: Company
) -> None:
    """HubSpot's webhooks are thin: while it cannot be read, its news waits and is not lost."""
    firm = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    await world.quiet()
    lead = await world.syncline.counterpart("hubspot", firm, "company", "close")
    await world.crms.fault("hubspot", "status", status=500, until=2.5)
    await world.hubspot.edit("companies", firm, name=f"{company.name} Ltd")
    await world.quiet(within=30)
    assert (await world.close.read("lead", lead))["name"] == f"{company.name} Ltd"


async def test_a_record_that_hubspot_refuses_is_a_dead_letter_and_its_neighbours_pass(
    world: World,
) -> None:
    companies = [Company.new("Neighbour") for _ in range(8)]
    poison = companies[3]
    before = {letter["id"] for letter in await world.syncline.dead_letters()}
    await world.crms.weather(pause=True)
    leads = {}
    for company in companies:
        description = TOO_LONG if company is poison else "Quite short."
        leads[company] = await world.close.create(
            "lead",
            name=company.name,
            url=f"https://{company.domain}",
            description=description,
            contacts=[company.contact("Ada Lovelace")],
        )
    await world.crms.weather(resume=True)
    others = [company.domain for company in companies if company is not poison]

    async def passed() -> bool:
        there = {row["domain"] for row in await world.hubspot.all("companies")}
        return there >= set(others)

    await until(passed, why=world.syncline.explain)

    async def buried() -> list[Json]:
        return [x for x in await world.syncline.dead_letters() if x["id"] not in before]

    (letter,) = await until(buried, why=world.syncline.explain)
    record = await world.syncline.record("close", leads[poison]["id"], "company")
    assert (letter["kind"], letter["account"]) == ("outbox", "hubspot")
    assert letter["record_id"] == letter["record"] == record["id"]
    assert letter["field"] == "description"
    assert "65,536" in letter["reason"]
    assert letter["next_step"]
    assert str(letter["value"]).startswith("xxx")
    assert poison.domain not in {row["domain"] for row in await world.hubspot.all("companies")}

    # Who corrects it need not tell us: the correction itself is the news.
    await world.close.edit("lead", leads[poison]["id"], description="Corrected.")
    await world.quiet(within=60)
    (there,) = await world.hubspot.find("companies", domain=poison.domain)
    assert there["description"] == "Corrected."
    (ada,) = await world.hubspot.find("contacts", email=poison.email("ada"))
    assert list(await world.hubspot.links("contacts", ada["id"], "companies")) == [there["id"]]
    assert not await buried()
    await world.steady()


async def test_an_update_that_hubspot_refuses_leaves_what_is_there_and_passes_when_corrected(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name, description="Short.")
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await world.close.edit("lead", lead["id"], description=TOO_LONG)

    async def buried() -> list[Json]:
        record = await world.syncline.record("close", lead["id"], "company")
        return [x for x in await world.syncline.dead_letters() if x["record_id"] == record["id"]]

    (letter,) = await until(buried, why=world.syncline.explain)
    assert letter["field"] == "description"
    assert (await world.hubspot.read("companies", there))["description"] == "Short."
    async with world.counting() as writes:
        await world.close.edit("lead", lead["id"], description="Short again.")
    assert (await world.hubspot.read("companies", there))["description"] == "Short again."
    assert writes == {("hubspot", "company", "updated"): 1}
    assert not await buried()


async def test_a_dead_letter_goes_through_when_it_is_replayed_after_its_cause_is_gone(
    world: World, company: Company
) -> None:
    await world.crms.fault(
        "hubspot", "status", status=400, body=REFUSED, method="POST", path=CREATES
    )
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace"), company.contact("Mary Somerville")],
    )
    people = {contact["id"] for contact in lead["contacts"]}

    async def buried() -> list[Json]:
        records = {(await world.syncline.record("close", id, "person"))["id"] for id in people}
        found = [x for x in await world.syncline.dead_letters() if x["record_id"] in records]
        return found if len(found) == 2 else []

    async def known() -> bool:
        found = await world.syncline.rows("/api/records", account="close", entity="person")
        linked = {link["remote_id"] for record in found for link in record["links"]}
        return people <= linked

    await until(known, why=world.syncline.explain)
    one, two = await until(buried, why=world.syncline.explain)
    assert one["field"] == "email"
    assert one["cause"] == two["cause"]
    causes = (await world.syncline.get("/api/dead-letters"))["causes"]
    assert [c["count"] for c in causes if c["cause"] == one["cause"]] == [2]
    assert not await world.hubspot.find("contacts", email=company.email("ada"))

    await world.crms.clear_faults()
    wanted = {"ids": [one["id"], "delivery:999999"]}
    answer = await world.syncline.post("/api/dead-letters/replay", wanted)
    assert answer == {"replayed": 1, "ids": [one["id"]], "not_found": ["delivery:999999"]}
    answer = await world.syncline.post("/api/dead-letters/replay", {"cause": two["cause"]})
    assert answer["replayed"] >= 1
    await world.quiet()
    for name in ("ada", "mary"):
        assert len(await world.hubspot.find("contacts", email=company.email(name))) == 1
    assert not await buried()


async def test_a_look_up_that_is_refused_before_a_create_is_a_dead_letter_and_not_the_end(
    world: World, company: Company
) -> None:
    other = Company.new("Neighbour")
    await world.crms.fault(
        "hubspot", "status", status=400, body=REFUSED, path="objects/contacts/(batch/read|search)"
    )
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    await world.close.create("lead", name=other.name, url=f"https://{other.domain}")
    await until(lambda: world.hubspot.find("companies", domain=other.domain))

    async def buried() -> list[Json]:
        found = await world.syncline.rows(
            "/api/records", account="close", remote_id=lead["contacts"][0]["id"]
        )
        ids = {record["id"] for record in found}
        return [x for x in await world.syncline.dead_letters() if x["record_id"] in ids]

    (letter,) = await until(buried, why=world.syncline.explain, within=20)
    assert letter["next_step"]
    await world.crms.clear_faults()
    await world.syncline.post("/api/dead-letters/replay", {"ids": [letter["id"]]})
    await world.quiet()
    assert len(await world.hubspot.find("contacts", email=company.email("ada"))) == 1


async def test_an_account_whose_key_is_refused_waits_with_one_alert_and_resumes_by_itself(
    world: World, company: Company
) -> None:
    lead = await world.close.create("lead", name=company.name)
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    body = {"status": "error", "message": "The token was revoked.", "category": "UNAUTHORIZED"}
    await world.crms.fault("hubspot", "status", status=401, body=body)
    await world.close.edit("lead", lead["id"], name=f"{company.name} Ltd")

    async def rests() -> bool:
        lanes = (await world.syncline.get("/health/lanes"))["lanes"]
        own = [lane for lane in lanes if lane["account"] == "hubspot"]
        return all(lane["paused"] and "401" in (lane["pause_reason"] or "") for lane in own)

    await until(rests, why=world.syncline.explain)
    account = await world.syncline.get("/api/accounts/hubspot")
    assert "revoked" in account["refused"]["reason"]
    assert not account["paused"]
    # Another account goes on: what is edited there is taken in.
    await world.close.edit("lead", lead["id"], description="Meanwhile")

    async def taken_in() -> bool:
        found = await world.syncline.record("close", lead["id"], "company")
        return bool(found["fields"].get("description") == "Meanwhile")

    await until(taken_in, why=world.syncline.explain)
    assert (await _lane(world, "hubspot", "out"))["pending"] == 1
    code, out, _ = await world.syncline.command("accounts", "test", "hubspot")
    assert code == 1
    assert "revoked" in out

    async def alerts() -> list[str]:
        raised = await world.syncline.rows("/api/alerts", open="true")
        own = [alert["kind"] for alert in raised if alert["account"] == "hubspot"]
        return [kind for kind in own if kind == "account refused"]

    assert len(await until(alerts, why=world.syncline.explain)) == 1

    await world.crms.clear_faults()
    await world.quiet()
    assert (await world.hubspot.read("companies", there))["name"] == f"{company.name} Ltd"
    assert (await world.syncline.get("/api/accounts/hubspot"))["refused"] is None


async def test_a_refused_account_goes_on_at_once_when_its_test_signs_in(
    world: World, company: Company
) -> None:
    await world.crms.fault("hubspot", "status", status=401)
    await world.close.create("lead", name=company.name)

    async def refused() -> bool:
        return bool((await world.syncline.get("/api/accounts/hubspot"))["refused"])

    await until(refused, why=world.syncline.explain)
    await world.crms.clear_faults()
    await world.syncline.sql("update accounts set probe_at = now() + interval '1 hour'")
    code, out, _ = await world.syncline.command("accounts", "test", "hubspot")
    assert code == 0, out
    assert not await refused()
    await world.quiet()
    assert len(await world.hubspot.find("companies", name=company.name)) == 1
