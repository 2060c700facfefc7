"""What an operator looks at: health, the views, the commands."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
import yaml

from tests.full.harness import Company, World


async def test_a_healthy_service_says_so_at_every_address(world: World) -> None:
    get = world.syncline.get
    assert await get("/health/live") == await get("/healthz") == {"status": "ok"}
    ready = {"status": "ready", "checks": {"inbox": "ok", "database": "ok", "schema": "ok"}}
    assert await get("/health/ready") == await get("/readyz") == ready
    lanes = await get("/health/lanes")
    assert lanes["status"] == "ok"
    assert {(lane["account"], lane["direction"]) for lane in lanes["lanes"]} == {
        (account, direction)
        for account in ("close", "hubspot")
        for direction in ("in", "out", "scan")
    }
    assert {lane["pending"] for lane in lanes["lanes"]} == {0}
    assert [worker["alive"] for worker in lanes["workers"]] == [True]
    before = await world.syncline.metric("syncline_deliveries_total", outcome="accepted")
    await world.close.create("lead", name="Counted")
    await world.quiet()
    after = await world.syncline.metric("syncline_deliveries_total", outcome="accepted")
    assert after > before
    code, out, err = await world.syncline.command("health", "--json")
    assert code == 0, err
    assert json.loads(out)["ready"]["status"] == "ready"


async def test_the_api_is_closed_without_its_token(world: World) -> None:
    for token in ("", "Bearer wrong", "Basic eDp5"):
        answer = await world.syncline.http.get("/api/records", headers={"authorization": token})
        assert answer.status_code == 401, token
        assert answer.headers["content-type"] == "application/problem+json"
    answer = await world.syncline.http.get("/api/records", params={"cursor": "nonsense"})
    assert answer.status_code == 400
    assert (await world.syncline.http.get("/docs")).status_code == 200
    assert "/webhooks/{account}" in (await world.syncline.get("/openapi.json"))["paths"]


async def test_the_view_for_analysts_shows_one_row_for_each_record(
    world: World, company: Company
) -> None:
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        contacts=[company.contact("Ada Lovelace")],
    )
    deal = await world.close.create("opportunity", lead_id=lead["id"], value=1200)
    await world.quiet()
    wanted = {
        "company": (lead["id"], None),
        "person": (lead["contacts"][0]["id"], company.email("ada")),
        "deal": (deal["id"], None),
    }
    counterparts = {}
    for entity, (remote, email) in wanted.items():
        (row,) = await world.syncline.sql(
            "select * from crm_sync_records where close_id = $1", remote
        )
        assert list(row) == [
            *("id", "entity_type", "close_id", "hubspot_id", "salesforce_id", "email"),
            *("company_name", "last_synced_at", "sync_source", "sync_hash"),
        ]
        assert (row["entity_type"], row["email"]) == (entity, email)
        assert row["company_name"] == company.name
        assert row["salesforce_id"] is None
        assert row["sync_source"] == "close"
        assert len(row["sync_hash"]) == hashlib.sha256().digest_size * 2
        assert row["last_synced_at"] is not None
        counterparts[entity] = row
        there = await world.syncline.counterpart("close", remote, entity, "hubspot")
        assert row["hubspot_id"] == there
        links = await world.syncline.sql(
            "select account, remote_id from crm_sync_links where record_id = $1 and state = 'live'",
            row["id"],
        )
        assert {(r["account"], r["remote_id"]) for r in links} == {
            ("close", remote),
            ("hubspot", there),
        }

    person = counterparts["person"]
    await world.hubspot.edit("contacts", person["hubspot_id"], jobtitle="Countess")
    await world.quiet()
    (after,) = await world.syncline.sql(
        "select * from crm_sync_records where id = $1", person["id"]
    )
    assert after["sync_source"] == "hubspot"
    assert after["sync_hash"] != person["sync_hash"]
    assert after["last_synced_at"] > person["last_synced_at"]
    (untouched,) = await world.syncline.sql(
        "select * from crm_sync_records where close_id = $1", lead["id"]
    )
    assert untouched["sync_hash"] == counterparts["company"]["sync_hash"]


async def test_why_names_where_a_value_came_from_and_what_it_was_before(
    world: World, company: Company
) -> None:
    contact = company.contact("Ada Lovelace", title="Countess")
    lead = await world.close.create("lead", name=company.name, contacts=[contact])
    await world.quiet()
    there = await world.syncline.counterpart(
        "close", lead["contacts"][0]["id"], "person", "hubspot"
    )
    await world.hubspot.edit("contacts", there, jobtitle="Programmer")
    await world.quiet()
    address = company.email("ada")
    code, out, err = await world.syncline.command("why", address, "--field", "title")
    assert code == 0, err
    assert "Programmer" in out
    assert "hubspot" in out
    assert "Countess" in out
    code, out, _ = await world.syncline.command("why", address, "--field", "title", "--json")
    answer = json.loads(out)
    assert answer["value"] == "Programmer"
    steps = [(step["account"], step["old"], step["new"]) for step in answer["journal"]]
    assert steps == [("hubspot", "Countess", "Programmer"), ("close", None, "Countess")]
    assert answer["journal"][0]["event_type"] == "contact.propertyChange"
    code, _, err = await world.syncline.command("why", "nobody@nowhere.example", "--field", "x")
    assert code == 1
    assert "nobody@nowhere.example" in err


@pytest.mark.parametrize("account", ["close", "hubspot"])
async def test_a_test_of_an_account_says_in_words_what_works(world: World, account: str) -> None:
    code, out, err = await world.syncline.command("accounts", "test", account, "--json")
    answer = json.loads(out)
    assert answer["account"] == account
    wrong = [finding for finding in answer["findings"] if not finding["ok"]]
    assert code == (1 if wrong else 0), err
    assert not wrong
    assert all(finding["detail"] for finding in answer["findings"])


async def test_the_lists_of_the_command_line_are_tables_for_people_and_json_for_programs(
    world: World, company: Company
) -> None:
    await world.close.create("lead", name=company.name)
    await world.quiet()
    lists = (("accounts", "list"), ("events",), ("records", "--search", company.name))
    answers = await asyncio.gather(
        *(world.syncline.command(*arguments, "--json") for arguments in lists),
        world.syncline.command("records", "--search", company.name),
    )
    for code, out, err in answers[:-1]:
        assert code == 0, err
        assert json.loads(out)["items"]
    code, out, err = answers[-1]
    assert code == 0, err
    assert company.name in out
    assert "{" not in out


async def test_no_secret_reaches_a_log(world: World, company: Company) -> None:
    await world.close.create("lead", name=company.name)
    await world.quiet()
    secrets = world.secrets()
    text = "".join(program.said(10_000_000) for program in world.programs())
    assert "deliveries.stored" in text or "ingest.finished" in text
    assert [name for name, secret in secrets.items() if secret in text] == []


async def test_a_configuration_is_checked_and_its_mistakes_are_named_by_line(
    world: World,
) -> None:
    code, out, err = await world.syncline.command("config", "check")
    assert code == 0, err
    assert "the configuration is good" in out
    code, out, _ = await world.syncline.command("config", "check", "--json")
    assert set(json.loads(out)["accounts"]) == {"close", "hubspot"}
    for secret in world.secrets().values():
        assert secret not in out

    good = yaml.safe_load((world.syncline.folder / "syncline.yaml").read_text())
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({**good, "acounts": {}}, "acounts"),
        ({**good, "accounts": {**good["accounts"], "x": {"connector": "lotus"}}}, "lotus"),
        ({**good, "body_limit": "${NOT_SET_ANYWHERE}"}, "NOT_SET_ANYWHERE"),
        ({**good, "handlers": ["not_there.py"]}, "not_there"),
    ]
    files = [world.syncline.folder / f"bad-{number}.yaml" for number in range(len(mistakes))]
    for file, (content, _) in zip(files, mistakes, strict=True):
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    answers = await asyncio.gather(
        *(world.syncline.command("config", "check", str(file)) for file in files)
    )
    for file, (_, named), (code, _, err) in zip(files, mistakes, answers, strict=True):
        assert code == 2, named
        assert named in err
        assert f"{file.name}:" in err
