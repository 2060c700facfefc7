"""What a script or an agent sends stands in every system, as if a person had typed it there."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import API_TOKEN, ROOT, Company, Json, World, until

PAGE = (ROOT / "docs/api.md").read_text()
SECTION = PAGE.partition("### From a script or an agent")[2].partition("\n### ")[0]


def example(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", SECTION, re.S | re.M)
    assert found is not None
    return found[1]


@pytest_asyncio.fixture
async def policies(tmp_path: Path, databases: Databases) -> AsyncIterator[World]:
    """A service with a rule of each kind, and a custom field that both systems hold."""
    tier = {"path": "description", "as": "text"}
    off = {"path": "unused", "direction": "off"}
    rows: Json = {"mapping": {"company": {"custom.tier": tier, "description": off}}}
    accounts = {"close": rows, "hubspot": rows}
    config: Json = {
        "sync": {
            "company": {"conflict": "close"},
            "person": {
                "conflict": "latest",
                "fields": {
                    "first_name": {"conflict": "review"},
                    "title": {"direction": "from close"},
                },
            },
        }
    }
    async with (
        databases() as own,
        harness.world(tmp_path, own, accounts=accounts, config=config) as found,
    ):
        yield found


async def run(world: World, *command: str) -> str:
    environment = {**os.environ, "SYNCLINE": world.syncline.url, "TOKEN": API_TOKEN}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_examples_of_the_page_bring_a_company_to_every_system(world: World) -> None:
    answer = json.loads(await run(world, "sh", "-c", example("bash")))
    assert [one["result"] for one in answer["records"]] == ["created", "created"]
    await world.quiet()
    (company,) = await world.hubspot.find("companies", domain="difference.example")
    (ada,) = await world.hubspot.find("contacts", email="ada@difference.example")
    assert (company["numberofemployees"], ada["lastname"]) == ("12", "King")
    (lead,) = await world.close.find("lead", name="Difference Ltd")
    (contact,) = await world.close.find("contact", lead_id=lead["id"])
    assert contact["name"] == "Ada King"
    assert company["id"] in await world.hubspot.links("contacts", ada["id"], "companies")
    async with world.counting() as writes:
        told = await run(world, sys.executable, "-c", example("python"))
    assert re.findall(r"^\w+", told, re.M) == ["updated", "updated"]
    assert writes == {
        ("hubspot", "company", "updated"): 1,
        ("hubspot", "contact", "updated"): 1,
        ("close", "lead", "updated"): 1,
        ("close", "contact", "updated"): 1,
    }
    assert (await world.close.read("contact", contact["id"]))["title"] == "Countess"
    async with world.counting() as nothing:
        again = json.loads(await run(world, "sh", "-c", example("bash")))
    assert (again, nothing) == (answer, {})
    await world.steady()


async def test_whom_the_systems_know_already_is_linked(world: World, company: Company) -> None:
    """The service has never met them: nobody told of them."""
    await world.crms.weather(vendor="hubspot", lose=True)
    there = await world.hubspot.create("contacts", email=company.email("ada"), lastname="King")
    await world.quiet()
    await world.crms.fair_weather()
    said = {"contacts": [{"email": company.email("ada"), "title": "Countess"}]}
    answer = await world.syncline.http.post(
        "/api/records", json=said, headers={"idempotency-key": company.domain}
    )
    assert answer.status_code == 202, answer.text
    await world.quiet()
    (one,) = await world.hubspot.find("contacts", email=company.email("ada"))
    assert (one["id"], one["lastname"], one["jobtitle"]) == (there, "King", "Countess")
    (contact,) = await world.close.find("contact", title="Countess", name="King")
    assert contact["emails"][0]["email"] == company.email("ada")


async def test_a_conflict_is_settled_as_for_a_webhook(policies: World) -> None:
    world, company = policies, Company.new("Looms")
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace", title="Countess")],
    )
    await world.quiet()
    said: Json = {
        "company": {"domain": company.domain, "name": "Other"},
        "contacts": [
            {
                "email": company.email("ada"),
                "first_name": "Augusta",
                "last_name": "King",
                "title": "Programmer",
            }
        ],
        "tier": "A",
    }

    async def send(key: str, **more: bool) -> Json:
        answer = await world.syncline.http.post(
            "/api/records", json={**said, **more}, headers={"idempotency-key": key}
        )
        assert answer.is_success, answer.text
        return dict(answer.json())

    rehearsed = await send("never", dry_run=True)
    answer = await send("one")
    assert answer["records"] == rehearsed["records"]
    assert answer["writes"] == rehearsed["writes"]
    taken, person = answer["records"]
    assert [(c["field"], c["winner"]) for c in taken["conflicts"]] == [("name", "ours")]
    clashes = {c["field"]: c["winner"] for c in person["conflicts"]}
    assert clashes == {"first_name": "nobody", "last_name": "yours"}
    await world.quiet()
    (contact,) = await world.close.find("contact", lead_id=lead["id"])
    assert (contact["name"], contact["title"]) == ("Ada King", "Countess")
    shown = await world.close.read("lead", lead["id"])
    assert (shown["name"], shown["description"]) == (company.name, "A")
    (there,) = await world.hubspot.find("companies", domain=company.domain)
    assert (there["name"], there["description"]) == (company.name, "A")
    # A person chooses what was said, and it goes everywhere; saying it again changes nothing.
    (card,) = await world.syncline.rows("/api/conflicts")
    assert (card["field"], card["theirs"], card["account"]) == (
        "first_name",
        "Augusta",
        "SYNCLINE_API_TOKEN",
    )
    await world.syncline.post(
        f"/api/conflicts/{card['id']}/resolve", {"account": "SYNCLINE_API_TOKEN"}
    )
    await world.quiet()
    assert (await world.close.read("contact", contact["id"]))["name"] == "Augusta King"
    async with world.counting() as writes:
        again = await send("two")
    assert ([one["result"] for one in again["records"]], writes) == (["unchanged"] * 2, {})


async def test_a_file_is_taken_in_by_the_command(
    world: World, company: Company, tmp_path: Path
) -> None:
    file = tmp_path / "enriched.json"
    file.write_text(json.dumps({"company": {"name": company.name, "domain": company.domain}}))
    code, out, err = await world.syncline.command("intake", str(file), "--dry-run")
    assert (code, "created" in out) == (0, True), err
    code, out, err = await world.syncline.command("intake", str(file), "--json")
    assert code == 0, err
    assert json.loads(out)["records"][0]["result"] == "created"

    async def there() -> list[Json]:
        return await world.hubspot.find("companies", domain=company.domain)

    await until(there, why=world.syncline.explain)
    file.write_text("no JSON")
    code, _, err = await world.syncline.command("intake", str(file))
    assert (code, "is not JSON" in err) == (1, True)
