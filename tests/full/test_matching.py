"""Two full CRMs before the first sync: who is whom is told before anything is written."""

import csv
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, until

BOTH, CLOSE_ONLY, HUBSPOT_ONLY = 4, 3, 2
#: Those whom either CRM has already.
NOT_TWICE = [(type, "created") for type in ("contact", "deal", "opportunity")]


@pytest_asyncio.fixture
async def apart(tmp_path: Path, databases: Databases) -> AsyncIterator[World]:
    """Two CRMs that were filled by hand, and webhooks that do not come."""
    deals = {"keys": ["company + name"], "stages": harness.STAGES}
    async with (
        databases() as own,
        harness.world(
            tmp_path,
            own,
            config={"sync": {"deal": deals}},
            sandbox=("--search-lag", "0.1"),
        ) as found,
    ):
        await found.crms.weather(paused=True)
        yield found


async def _fill(world: World) -> Json:
    """Companies and people in both, in one only, and one that could be two."""
    shared = [Company.new(f"Shared {n}") for n in range(BOTH)]
    for company in shared:
        lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
        await world.close.create("contact", lead_id=lead["id"], **company.contact("Ada Lovelace"))
        there = await world.hubspot.create(
            "companies", name=f"{company.name} Inc.", domain=company.domain
        )
        await world.hubspot.create(
            "contacts", company=there, email=company.email("ada"), firstname="Ada"
        )
        # A deal of the same name in either: no CRM can be asked for that.
        await world.close.create("opportunity", lead_id=lead["id"], value=100)
        await world.hubspot.create(
            "deals",
            company=there,
            dealname=company.name,
            dealstage="appointmentscheduled",
            pipeline="default",
        )
    for n in range(CLOSE_ONLY):
        company = Company.new(f"Closer {n}")
        await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    for n in range(HUBSPOT_ONLY):
        company = Company.new(f"Hubber {n}")
        await world.hubspot.create("companies", name=company.name, domain=company.domain)
    twice = Company.new("Twice")
    for _ in range(2):
        await world.hubspot.create("companies", name="=HYPERLINK(1)", domain=twice.domain)
    await world.close.create("lead", name=twice.name, url=f"https://{twice.domain}")
    return {"twice": twice}


def _tally(report: Json, entity: str, account: str) -> Json:
    (found,) = [
        row for row in report["entities"] if (row["entity"], row["account"]) == (entity, account)
    ]
    return dict(found)


async def test_two_full_crms_are_judged_as_a_whole_and_the_first_sync_does_as_told(
    apart: World, tmp_path: Path
) -> None:
    world = apart
    filled = await _fill(world)
    before = await world.crms.counts()
    code, out, err = await world.syncline.command(
        "match", "--csv", str(tmp_path / "rows.csv"), "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["state"] == "done"
    assert await world.crms.writes() == _writes(before)
    assert await world.syncline.rows("/api/records") == []

    close, hubspot = _tally(report, "company", "close"), _tally(report, "company", "hubspot")
    assert close["counts"] == {
        "linked": 0,
        "matched": BOTH,
        "new": CLOSE_ONLY,
        "unsure": 1,
        "stays": 0,
    }
    assert hubspot["counts"]["new"] == HUBSPOT_ONLY
    assert hubspot["counts"]["unsure"] == 1  # the second of the two that share a domain
    assert close["keys"] == {"domain": BOTH}
    (unsure,) = close["samples"]["unsure"]
    assert unsure["key"] == f"domain {filled['twice'].domain}"
    assert len(unsure["candidates"]) == 2
    assert report["creates"] == [
        {"account": "close", "new": HUBSPOT_ONLY, "limit": 10_000},
        {"account": "hubspot", "new": CLOSE_ONLY, "limit": 10_000},
    ]
    people = _tally(report, "person", "close")
    assert people["counts"]["matched"] == BOTH
    pairs = {row["entity"]: (row["matched"], row["disputed"]) for row in report["pairs"]}
    assert pairs == {"company": (BOTH + 1, 1), "person": (BOTH, 0), "deal": (BOTH, 0)}
    deals = _tally(report, "deal", "close")
    assert deals["keys"] == {"company + name": BOTH}

    code, out, err = await world.syncline.command("resync", "close", "--dry-run", "--report")
    assert (code, filled["twice"].name in out) == (0, True), err

    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = Counter((row["entity"], row["account"], row["verdict"]) for row in rows)
    assert told["company", "close", "matched"] == BOTH
    assert len(rows) == sum(sum(row["counts"].values()) for row in report["entities"])
    assert {row["name"] for row in rows if "HYPERLINK" in row["name"]} == {"'=HYPERLINK(1)"}
    assert not [v for row in rows for v in row.values() if v[:1] in "=+-@" and v]

    # What was told is what the first sync does.
    writes = await _resync(world, "close", "hubspot")
    assert writes["hubspot", "company", "created"] == CLOSE_ONLY
    assert writes["close", "lead", "created"] == HUBSPOT_ONLY
    assert not [kind for kind in writes if kind[1:] in NOT_TWICE]
    after = await world.syncline.post("/api/matches", {"entity": "person"})

    async def over() -> Json:
        found = await world.syncline.get(f"/api/matches/{after['id']}")
        return found if found["state"] == "done" else {}

    again = await until(over, why=world.syncline.explain)
    assert _tally(again, "person", "close")["counts"]["linked"] == BOTH


async def _resync(world: World, *accounts: str) -> Counter[tuple[str, str, str]]:
    """Real runs; what they wrote once nothing waits. No webhook comes meanwhile."""
    before = await world.crms.writes()
    for account in accounts:
        await world.syncline.resync(account=account)

    async def idle() -> bool:
        return not await world.syncline.pending()

    await until(idle, why=world.syncline.explain)
    return await world.crms.writes() - before


def _writes(counts: Json) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for vendor, totals in counts.items():
        for type, verbs in totals["rows"].items():
            found.update({(vendor, type, verb): n for verb, n in verbs.items()})
    return found


@pytest_asyncio.fixture
async def observed(tmp_path: Path, databases: Databases) -> AsyncIterator[World]:
    """A HubSpot that is only looked at."""
    modes = {"hubspot": {"mode": "observe", "external_id": "syncline_id"}}
    async with (
        databases() as own,
        harness.world(tmp_path, own, accounts=modes) as found,
    ):
        yield found


async def test_an_observed_account_gets_no_write_until_it_is_live_and_then_what_was_told(
    observed: World,
) -> None:
    world = observed
    company = Company.new("Observed")
    there = await world.hubspot.create("companies", name="Old name", domain=company.domain)
    gone = Company.new("Elsewhere")
    lead = await world.close.create("lead", name=company.name, url=f"https://{company.domain}")
    await world.close.create("contact", lead_id=lead["id"], **company.contact("Ada Lovelace"))
    await world.close.create("lead", name=gone.name, url=f"https://{gone.domain}")

    async def told() -> list[Json]:
        rows = await world.syncline.rows("/api/accounts/hubspot/pending")
        kinds = {(row["entity"], row["op"]) for row in rows}
        wanted = {("company", "create"), ("company", "update"), ("person", "create")}
        return rows if wanted <= kinds else []

    await until(told, why=world.syncline.explain)
    await world.syncline.resync(account="close")
    await world.syncline.resync(account="hubspot")
    code, out, err = await world.syncline.command("pending", "hubspot")
    assert code == 0, err
    assert (company.name in out, "Old name" in out, gone.name in out) == (True, True, True)
    rows = await told()
    calls = await world.crms.calls("hubspot")
    read_only = ("/search", "/batch/read")
    assert [
        call for call in calls if call["method"] != "GET" and not call["path"].endswith(read_only)
    ] == []
    (lane,) = [
        lane
        for lane in (await world.syncline.get("/health/lanes"))["lanes"]
        if (lane["account"], lane["direction"]) == ("hubspot", "out")
    ]
    assert lane["pending"] == len({row["record_id"] for row in rows})

    # Live: exactly what was told is sent.
    before = await world.crms.writes()
    await _live(world)
    await world.quiet()
    made = await world.crms.writes() - before
    del made["hubspot", "association", "created"]
    assert made == {
        ("hubspot", "company", "created"): 1,
        ("hubspot", "company", "updated"): 1,
        ("hubspot", "contact", "created"): 1,
    }
    (update,) = [row for row in rows if row["op"] == "update"]
    (now,) = [row for row in await world.hubspot.all("companies") if row["id"] == there]
    assert {n: change["to"] for n, change in update["fields"].items()}.items() <= now.items()
    assert await world.syncline.rows("/api/accounts/hubspot/pending") == []


async def _live(world: World) -> None:
    """Change the mode in the configuration and start the service anew."""
    service = world.syncline
    await service.api.stop()
    file = service.folder / "syncline.yaml"
    content = yaml.safe_load(file.read_text())
    content["accounts"]["hubspot"]["mode"] = "live"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    await service.api.start()
    await service.ready()
    await service.works()


@pytest.mark.parametrize("arguments", [("--report",), ("--csv", "rows.csv")])
async def test_a_report_is_of_a_dry_run_only(apart: World, arguments: tuple[str, ...]) -> None:
    code, _, err = await apart.syncline.command("resync", "close", *arguments)
    assert (code, "--dry-run" in err) == (2, True)
