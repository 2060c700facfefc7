"""Hundreds of records that nobody announced: told in advance, done as told, done once."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Json, World, until

LEADS, KNOWN = 140, 20  # a lead, a contact and an opportunity each: 420 records
KINDS = {"company": "company", "person": "contact", "deal": "deal"}
VERBS = {"create": "created", "update": "updated", "link": None}  # to link is to write nothing


@pytest_asyncio.fixture(scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    """CRMs that nobody has looked at before."""
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("resyncs"), own, sandbox=("--search-lag", "0.1")
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture
async def world(apart: World) -> AsyncIterator[World]:
    await apart.quiet(calm=0)
    yield apart
    await apart.crms.fair_weather()


async def _plan(world: World, resync: Json) -> list[Json]:
    return await world.syncline.rows(f"/api/resyncs/{resync['id']}/plan")


@pytest.mark.heavy
async def test_a_dry_run_of_hundreds_of_records_predicts_the_real_run_which_then_has_no_more_to_do(
    world: World,
) -> None:
    made = await world.crms.seed(
        close={"leads": LEADS, "contacts_per_lead": 1, "opportunities_per_lead": 1},
        hubspot={"companies": KNOWN, "contacts_per_company": 1},
    )
    total = sum(made["close"].values())
    assert total >= 400

    async with world.counting() as writes:
        dry = await world.syncline.resync(account="close", dry_run=True)
    assert (dry["state"], dry["errors"]) == ("done", [])
    assert not writes
    assert await world.syncline.rows("/api/records") == []
    plan = await _plan(world, dry)

    async with world.counting() as writes:
        started = await world.syncline.post("/api/resyncs", {"account": "close"})
        seen = []

        async def over() -> bool:
            found = await world.syncline.get(f"/api/resyncs/{started['id']}")
            seen.append((found["counts"]["seen"], found["rate"], found["state"]))
            return bool(found["state"] == "done")

        await until(over, why=world.syncline.explain, within=90)
        await world.quiet(within=120)
    real = await world.syncline.get(f"/api/resyncs/{started['id']}")
    assert real["errors"] == []
    assert real["counts"] == dry["counts"]
    assert real["counts"]["seen"] == total
    # It can be watched on its way.
    numbers = [number for number, _, _ in seen]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) >= 3
    assert any(rate for _, rate, state in seen if state == "running")

    predicted: Counter[tuple[str, str, str]] = Counter()
    for item in plan:
        assert (item["account"], item["op"] in VERBS) == ("hubspot", True), item
        if verb := VERBS[item["op"]]:
            predicted["hubspot", KINDS[item["entity"]], verb] += 1
    del writes["hubspot", "association", "created"]
    assert writes == predicted
    assert writes["hubspot", "company", "created"] == LEADS - KNOWN
    assert writes["hubspot", "contact", "created"] == LEADS - KNOWN
    assert writes["hubspot", "deal", "created"] == LEADS
    linked = {(item["entity"], item["remote_id"]) for item in plan if item["op"] == "link"}
    assert len(linked) == 2 * KNOWN

    # The plan's values are what then stood there.
    there = {row["domain"]: row for row in await world.hubspot.all("companies")}
    assert len(there) == LEADS
    for item in plan:
        if item["entity"] == "company" and item["op"] == "create":
            fields = {name: change["to"] for name, change in item["fields"].items()}
            found = there[fields["domain"]]
            assert (found["name"], found["website"]) == (fields["name"], fields["website"])
    emails = Counter(row["email"] for row in await world.hubspot.all("contacts"))
    assert len(emails) == LEADS
    assert set(emails.values()) == {1}

    async with world.counting() as writes:
        again = await world.syncline.resync(account="close")
        other = await world.syncline.resync(account="hubspot")
    assert not writes
    assert again["counts"] == {**dict.fromkeys(again["counts"], 0), "seen": total} | {
        "unchanged": total
    }
    assert other["counts"]["unchanged"] == other["counts"]["seen"] == total
    dry = await world.syncline.resync(account="close", dry_run=True)
    assert await _plan(world, dry) == []
    assert await world.syncline.dead_letters() == []


async def test_a_resync_can_be_cancelled_on_its_way(world: World) -> None:
    await world.crms.seed(close={"leads": 250, "contacts_per_lead": 0})
    await world.crms.fault("close", "latency", method="GET", path="/lead/$", seconds=0.7)
    started = await world.syncline.post("/api/resyncs", {"account": "close", "dry_run": True})

    async def running() -> bool:
        found = await world.syncline.get(f"/api/resyncs/{started['id']}")
        return bool(found["state"] == "running" and found["counts"]["seen"])

    await until(running, why=world.syncline.explain)
    answer = await world.syncline.http.delete(f"/api/resyncs/{started['id']}")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    await world.quiet()
    found = await world.syncline.get(f"/api/resyncs/{started['id']}")
    assert found["state"] == "cancelled"
    assert 0 < found["counts"]["seen"] < 250 + LEADS
    again = await world.syncline.http.delete(f"/api/resyncs/{started['id']}")
    assert again.status_code == 409


async def test_a_resync_by_ids_touches_these_and_no_others(world: World) -> None:
    before = {lead["id"] for lead in await world.close.all("lead")}
    await world.crms.seed(close={"leads": 4, "contacts_per_lead": 1})
    fresh = [lead for lead in await world.close.all("lead") if lead["id"] not in before]
    wanted = [lead["id"] for lead in fresh[:2]]
    async with world.counting() as writes:
        done = await world.syncline.resync(account="close", entity="company", ids=wanted)
    assert (done["state"], done["total"], done["counts"]["seen"]) == ("done", 2, 2)
    assert writes["hubspot", "company", "created"] == 2
    names = {row["name"] for row in await world.hubspot.all("companies")}
    assert [lead["name"] in names for lead in fresh] == [True, True, False, False]


async def test_a_resync_since_a_time_leaves_what_is_older(world: World) -> None:
    began, later = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    deals = len(await world.close.all("opportunity"))
    for since, seen in ((began, deals), (later, 0)):
        done = await world.syncline.resync(
            account="close", entity="deal", since=since.isoformat(), dry_run=True
        )
        assert (done["state"], done["counts"]["seen"]) == ("done", seen)


async def test_a_resync_from_the_command_line_shows_what_it_did(world: World) -> None:
    code, out, err = await world.syncline.command(
        "resync", "hubspot", "--entity", "deal", "--dry-run", "--json"
    )
    assert code == 0, err
    assert '"state": "done"' in out
    code, _, err = await world.syncline.command("resync", "nobody", "--json")
    assert code == 1
    assert "nobody" in err
