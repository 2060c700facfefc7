"""The command: what it prints, where its options stand, and what its exit codes mean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from app.cli import app
from app.cli.house import keep, new_key
from app.config import schema
from app.db import accounts
from app.db.engine import Database
from app.db.quotas import Ledger
from app.domain.windows import Day
from app.errors import ConfigError
from app.sdk.quota import DAY
from app.settings import Settings, settings
from app.sync.alerts import look
from tests import postgres
from tests.api.service import TOKEN, Service, config, event, signed
from tests.api.service import settings as service_settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A working directory and an environment without anything of ours."""
    monkeypatch.chdir(tmp_path)
    for info in Settings.model_fields.values():
        monkeypatch.delenv(str(info.alias), raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def run(*args: str) -> Result:
    settings.cache_clear()
    return CliRunner().invoke(app, list(args))


# ------------------------------------------------------------------- without a service


def test_the_version():
    assert run("--version").stdout == "syncline 0.1.0\n"


@pytest.mark.parametrize("args", [["bogus"], ["resync"], ["accounts", "test"], ["why", "x"]])
def test_wrong_usage_is_2(args):
    assert run(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["resync", "close", "--since", "soon"], "--since: 'soon' is no date; write 2026-01-31"),
        (["resync", "close", "--id", "7"], "--id needs --entity"),
        (["replay", "dead-letters"], "say which: ids; --cause"),
        (["replay", "dead-letters", "event:1", "--all"], "say which: ids; --cause"),
        (["conflicts", "resolve", "7"], "say exactly one of --account, --value, --link"),
        (["worker"], "DATABASE_URL is not set"),
    ],
)
def test_what_cannot_be_meant_is_2(args, said):
    result = run(*args)

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "args", [["health"], ["accounts", "list"], ["records"], ["resync", "close"]]
)
def test_a_service_that_is_away_is_3(args):
    result = run(*args, "--url", "http://127.0.0.1:9")

    assert result.exit_code == 3
    assert result.stderr.startswith("✗ no Syncline answers at http://127.0.0.1:9 (connection ref")
    assert "Traceback" not in result.output


def test_errors_are_json_for_programs():
    result = run("accounts", "list", "--json", "--url=http://127.0.0.1:9")

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "no Syncline answers" in json.loads(result.stderr)["error"]


def test_a_bad_environment_is_2(monkeypatch):
    monkeypatch.setenv("SYNCLINE_SECRET_KEYS", "hunter2")

    result = run("health")

    assert result.exit_code == 2
    assert "SYNCLINE_SECRET_KEYS: key 1 is not a Fernet key" in result.stderr
    assert "hunter2" not in result.output


def test_the_schema_is_published():
    assert json.loads(run("config", "schema").stdout) == schema()


def test_a_new_key_can_be_used(monkeypatch):
    key = json.loads(run("keys", "new", "--json").stdout)["key"]
    monkeypatch.setenv("SYNCLINE_SECRET_KEYS", key)

    assert run("config", "check").exit_code == 0


def test_config_check_says_what_the_file_means(at_home):
    (at_home / "syncline.yaml").write_text(
        "accounts:\n"
        "  close: {connector: close, mode: observe, credentials: {api_key: k}}\n"
        "  hubspot: {connector: hubspot, credentials: {access_token: t}, webhook_secret: [a, b]}\n"
        "sync: {person: {conflict: lww, fields: {phone: {direction: from close}}}}\n"
    )

    result = run("config", "check")

    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "close close observe –" in lines
    assert "hubspot hubspot live 2" in lines
    assert "person close, hubspot latest phone: from close" in lines
    assert lines[-1] == "✓ the configuration is good"


def test_config_check_finds_what_only_a_connector_knows(at_home):
    (at_home / "ops.yaml").write_text(
        "accounts:\n"
        "  close:\n"
        "    connector: close\n"
        "    credentials: {token: hunter2}\n"
        "  hubspot:\n"
        "    connector: hubspt\n"
    )

    result = run("config", "check", "ops.yaml")
    assert result.exit_code == 2
    assert "ops.yaml:6: accounts.hubspot.connector: there is no connector 'hubspt'" in result.stderr

    (at_home / "ops.yaml").write_text(
        (at_home / "ops.yaml").read_text().replace("hubspt", "hubspot")
    )
    result = run("config", "check", "ops.yaml")
    assert result.exit_code == 2
    place = "ops.yaml:4: accounts.close.credentials.token"
    assert f"{place}: Close has no such credential; it takes api_key, client_id" in result.stderr
    assert "ops.yaml:5: accounts.hubspot: credentials need access_token" in result.stderr
    assert "hunter2" not in result.output


def test_an_option_of_another_system_is_named_with_its_line(at_home):
    (at_home / "ops.yaml").write_text(
        "accounts:\n"
        "  close:\n"
        "    connector: close\n"
        "    credentials: {api_key: hunter2}\n"
        "    external_id: custom.cf_1\n"
        "    bulk_threshold: 10\n"
    )
    result = run("config", "check", "ops.yaml")
    assert result.exit_code == 2
    place = "ops.yaml:6: accounts.close.bulk_threshold"
    assert f"{place}: Close has no such option; take it out" in result.stderr


def test_config_check_proves_the_mapping_and_names_the_line(at_home):
    (at_home / "ops.yaml").write_text(
        "accounts:\n"
        "  hubspot:\n"
        "    connector: hubspot\n"
        "    credentials: {access_token: t}\n"
        "    mapping:\n"
        "      company:\n"
        "        employees: numberofemployees\n"
        "  close:\n"
        "    connector: close\n"
        "    credentials: {api_key: k}\n"
        "    mapping:\n"
        "      person:\n"
        "        custom.full,custom.x: {path: x, template: '{{first_name}}'}\n"
    )

    result = run("config", "check", "ops.yaml")
    assert result.exit_code == 2
    assert (
        "ops.yaml:7: accounts.hubspot.mapping.company.employees: `employees`: 0 is written as '0' "
        "and read back as '0'; make the row one-way (direction: to, or from)"
    ) in result.stderr
    assert "ops.yaml:13: accounts.close.mapping.person.custom.full, custom.x: " in result.stderr


def test_what_is_kept_is_for_its_owner_alone(at_home):
    file = at_home / "kept"

    assert keep(file, lambda: "first") == ("first", True)
    assert keep(file, lambda: "second") == ("first", False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# ---------------------------------------------------------------------- with a service


@pytest.fixture
async def service(
    database_url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """Ours, up and ready, and found by the commands."""
    found = service_settings(database_url, tmp_path)
    async with Service.running(found, config(), database) as service:
        monkeypatch.setenv("SYNCLINE_URL", service.url)
        monkeypatch.setenv("SYNCLINE_API_TOKEN", TOKEN)
        yield service


async def ask(*args: str) -> Result:
    """Run a command beside the service."""
    return await asyncio.to_thread(run, *args)


async def answer(*args: str) -> Any:
    result = await ask(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def deliver(service: Service, *numbers: int) -> None:
    async with httpx.AsyncClient(base_url=service.url) as web:
        for number in numbers:
            body = event(number)
            response = await web.post("/webhooks/close", content=body, headers=signed(body))
            assert response.status_code == 200


async def test_stored_secrets_are_encrypted_anew_with_the_first_key(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    old, new = (json.loads(run("keys", "new", "--json").stdout)["key"] for _ in range(2))
    async with database.transaction() as db:
        await accounts.register(db, {"close": "close"})
        former = accounts.Box([SecretStr(old)])
        await accounts.keep_webhook_secret(db, former, "close", "whsub_1", SecretStr("a-key"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SYNCLINE_SECRET_KEYS", f"{new},{old}")
    assert await answer("keys", "rotate") == {"accounts": 1}
    async with database.transaction() as db:
        found = await accounts.webhook_secrets(db, accounts.Box([SecretStr(new)]))
        with pytest.raises(ConfigError, match="none of the keys"):
            await accounts.webhook_secrets(db, former)
        acts = (await db.execute(sa.text("select what from audit"))).scalars().all()
    assert [key.get_secret_value() for key in found["close"]] == ["a-key"]
    assert acts == ["keys rotate"]


async def test_accounts_are_listed(service):
    assert [row["name"] for row in (await answer("accounts", "list"))["items"]] == [
        "close",
        "hubspot",
        "second",
    ]
    shown = (await ask("accounts", "list")).stdout
    assert "https://hooks.example.com/webhooks/close" in shown


async def test_an_account_is_paused_and_resumed(service):
    paused = await answer("accounts", "pause", "close", "--reason", "the audit")
    assert (paused["paused"], paused["pause_reason"]) == (True, "the audit")
    assert "the audit" in (await ask("accounts", "list")).stdout

    result = await ask("accounts", "resume", "close")
    assert result.stdout == "✓ close works again\n"


async def test_what_the_service_refuses_is_1(service):
    result = await ask("accounts", "pause", "clsoe")

    assert result.exit_code == 1
    assert "There is no account 'clsoe'" in result.stderr


async def test_a_test_that_finds_something_amiss_is_1(service):
    result = await ask("accounts", "test", "close")

    assert result.exit_code == 1
    assert "✗ " in result.stdout


async def test_a_wrong_token_is_a_matter_of_configuration(service, monkeypatch):
    monkeypatch.setenv("SYNCLINE_API_TOKEN", "hunter2")

    result = await ask("accounts", "list")

    assert result.exit_code == 2
    assert "This is not the token of SYNCLINE_API_TOKEN." in result.stderr
    assert "hunter2" not in result.output


async def test_the_token_is_found_at_home(service, monkeypatch, at_home):
    monkeypatch.delenv("SYNCLINE_API_TOKEN")
    assert (await ask("accounts", "list")).exit_code == 2

    keep_at = at_home / ".syncline"
    keep_at.mkdir()
    keep(keep_at / "api-token", lambda: TOKEN)
    assert (await ask("accounts", "list")).exit_code == 0


async def test_a_service_that_runs_here_is_found_without_a_name(service, monkeypatch, at_home):
    monkeypatch.delenv("SYNCLINE_URL")
    monkeypatch.setenv("PUBLIC_URL", "http://127.0.0.1:9")
    assert (await ask("accounts", "list")).exit_code == 3

    (at_home / ".syncline").mkdir()
    (at_home / ".syncline" / "service-url").write_text(service.url + "\n")
    assert (await ask("accounts", "list")).exit_code == 0


async def test_health_names_the_lanes_and_misses_the_worker(service):
    result = await ask("health")

    assert result.exit_code == 0
    assert "is ready" in result.stdout
    assert "No worker is alive" in result.stdout
    assert len((await answer("health"))["lanes"]["lanes"]) == 9


async def test_whoever_watches_is_told_when_the_days_calls_will_end(service, database: Database):
    async with Ledger(database, "close").open([DAY]) as sheet:
        day = Day(ends=sheet.now + 86_400, own=10)
        for _ in range(8):
            day.take(sheet.now)
        sheet.rows[DAY] = day.kept()

    (told,) = (await answer("health"))["lanes"]["quotas"]
    assert (told["window"], told["used"], told["calls"], told["left"]) == ("day", 8, 10, 2)
    assert datetime.fromisoformat(told["ends_at"]) < datetime.fromisoformat(told["resets_at"])
    shown = (await ask("health")).stdout
    assert "will end" in shown
    assert "not today" not in shown
    async with httpx.AsyncClient(base_url=service.url) as web:
        lines = (await web.get("/metrics")).text.splitlines()
    name = 'syncline_quota_ends_timestamp_seconds{account="close"} '
    (gauge,) = [line.removeprefix(name) for line in lines if line.startswith(name)]
    assert float(gauge) < day.ends


async def test_deliveries_are_shown_and_replayed(service):
    await deliver(service, 1)

    shown = await answer("deliveries", "show", "1")
    assert (shown["account"], shown["state"]) == ("close", "pending")
    assert "/webhooks/close" in (await ask("deliveries", "show", "1")).stdout
    assert (await ask("replay", "deliveries", "1")).stdout == "✓ 1 will be read again\n"
    assert (await ask("deliveries", "show", "99")).exit_code == 1


async def test_empty_lists_say_so(service):
    said = {
        "records": "No such record.",
        "events": "No event yet.",
        "dead-letters": "Nothing needs you.",
        "conflicts list": "No conflict.",
    }
    for command, sentence in said.items():
        assert (await ask(*command.split())).stdout == sentence + "\n"
        assert (await answer(*command.split()))["items"] == []


async def test_dead_letters_are_replayed(service):
    assert await answer("replay", "dead-letters", "--all") == {
        "replayed": 0,
        "ids": [],
        "not_found": [],
    }
    result = await ask("replay", "dead-letters", "delivery:7")
    assert result.exit_code == 1
    assert "delivery:7" in result.stderr


async def test_a_resync_is_begun_watched_and_cancelled(service):
    begun = await answer(
        *("resync", "close", "--entity", "person", "--id", "cont_1", "--id", "cont_2"),
        *("--since", "2026-01-31", "--dry-run", "--no-wait"),
    )

    assert begun["entities"] == ["person"]
    assert begun["ids"] == ["cont_1", "cont_2"]
    assert begun["since"] == "2026-01-31T00:00:00Z"
    assert begun["dry_run"] is True

    cancelled = await answer("resyncs", "cancel", begun["id"])
    assert cancelled["state"] == "cancelled"
    result = await ask("resyncs", "show", begun["id"])
    assert result.exit_code == 1
    assert "Nothing would change." in result.stdout
    assert "Resync cancelled" in result.stdout


async def test_a_record_that_nobody_has_is_1(service):
    for name in ("ada@example.com", "example.com", "close/cont_1"):
        result = await ask("why", name, "--field", "email")
        assert result.exit_code == 1
        assert f"there is no record {name!r}" in result.stderr


# ---------------------------------------------------------------------- as a program


def start(home: Path, *args: str, **environment: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *args],
        cwd=home,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def document(output: Any) -> Any:
    """The first JSON document that a program prints."""
    lines: list[str] = []
    for line in output:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_one_sentence(at_home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start(at_home, "serve", "--port", port)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 2
    assert said == (
        f"✗ cannot listen on 127.0.0.1:{port}: address already in use. --port chooses another "
        "port, --host another address.\n"
    )


def test_a_database_that_is_away_is_one_sentence(at_home):
    url = "postgresql://syncline:hunter2@127.0.0.1:9/syncline"
    process = start(at_home, "migrate", DATABASE_URL=url)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 2
    assert said.startswith("✗ the database of DATABASE_URL (127.0.0.1:9/syncline) cannot be used: ")
    assert said.count("\n") == 1
    assert "hunter2" not in said


async def test_who_brings_the_schema_up_to_date_is_in_the_audit_once(at_home, database_url):
    async with postgres.clone(database_url) as empty:
        for _ in range(2):
            process = start(at_home, "migrate", DATABASE_URL=empty)
            said = await asyncio.to_thread(process.communicate, timeout=60)
            assert process.returncode == 0, said
        database = Database(empty, pool_size=1)
        try:
            async with database.transaction() as db:
                acts = (await db.execute(sa.text("select who, what, status from audit"))).all()
        finally:
            await database.close()
    assert acts == [("command line", "migrate", 200)]


def test_a_public_service_does_not_invent_its_keys(at_home):
    everywhere = "0.0.0.0"  # noqa: S104 - it ends before anybody could call
    process = start(
        at_home, "serve", "--host", everywhere, "--port", "0", DATABASE_URL="postgresql://x@y/z"
    )
    _, said = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "SYNCLINE_SECRET_KEYS is not set" in said


async def test_a_database_of_real_accounts_gets_no_sandbox(at_home, database_url, database):
    from app.db.accounts import register

    async with database.transaction() as db:
        await register(db, {"close": "close"})
    process = start(at_home, "serve", "--port", "0", DATABASE_URL=database_url)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)

    assert process.returncode == 2
    assert "has worked for close" in said
    assert not (at_home / ".syncline" / "sandbox.yaml").exists()


async def test_the_whole_service_starts_works_and_stops(at_home):
    """From nothing to a contact that crossed three CRMs, and everything gone after SIGTERM."""
    async with postgres.clone(postgres.server()) as url:
        process = start(
            at_home, "--json", "serve", "--port", "0", DATABASE_URL=url, SYNCLINE_LOG_LEVEL="ERROR"
        )
        with stopped(process):
            up = await asyncio.to_thread(document, process.stdout)
            keys = json.loads((at_home / ".syncline" / "sandbox-keys.json").read_text())
            token = (at_home / ".syncline" / "api-token").read_text().strip()
            found = await follow_a_lead(up, keys, token)
            await look_around(found["id"])
            children = processes_below(process.pid)
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.to_thread(process.communicate, timeout=60)

    assert {link["account"] for link in found["links"]} == {"close", "hubspot", "salesforce"}
    assert process.returncode == 0, said
    assert len(children) == 2
    assert not any(is_alive(child) for child in children)
    assert not (at_home / ".syncline" / "service-url").exists()
    for name in ("api-token", "secret-keys", "sandbox.yaml", "sandbox-keys.json"):
        assert stat.S_IMODE((at_home / ".syncline" / name).stat().st_mode) == 0o600


async def follow_a_lead(up: Any, keys: Any, token: str) -> Any:
    """Make a lead in the sandbox's Close; its contact once all accounts have it."""
    lead = {"name": "Acme", "contacts": [{"name": "Ada L", "emails": [{"email": "a@acme.test"}]}]}
    async with httpx.AsyncClient(timeout=30) as web:
        made = await web.post(
            f"{up['sandbox']}/close/api/v1/lead/", json=lead, auth=(keys["close_api_key"], "")
        )
        assert made.status_code == 200, made.text
        async with asyncio.timeout(60):
            while True:
                page = await web.get(
                    f"{up['url']}/api/records",
                    params={"email": "a@acme.test"},
                    headers={"authorization": f"Bearer {token}"},
                )
                for record in page.json()["items"]:
                    if len(record["links"]) == 3:
                        return record
                await asyncio.sleep(0.1)


async def look_around(record: str) -> None:
    """What the commands say about it, found through the home of the service."""
    shown = (await ask("records", "a@acme.test")).stdout
    assert f"person {record}" in shown
    assert "Ada" in shown
    assert "came from close" in (await ask("why", "a@acme.test", "--field", "email")).stdout
    assert (await answer("records", "--search", "nobody"))["items"] == []
    dry = await answer("resync", "hubspot", "--dry-run")
    assert (dry["state"], dry["counts"]["seen"], dry["plan"]) == ("done", 2, [])
    wet = await ask("resync", "close", "--entity", "person")
    assert wet.exit_code == 0
    assert "Resync done" in wet.stdout


def processes_below(parent: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=True)
    return [int(child) for child in done.stdout.split()]


def is_alive(number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


def test_a_key_is_a_fernet_key():
    assert len(new_key()) == 44


async def test_a_token_is_made_used_and_revoked_and_the_audit_says_by_whom(service, monkeypatch):
    token = (await ask("tokens", "create", "ada", "--scope", "operate")).stdout.strip()
    monkeypatch.setenv("SYNCLINE_API_TOKEN", token)
    assert (await ask("accounts", "pause", "close")).exit_code == 0
    refused = await ask("tokens", "list")
    assert refused.exit_code == 1
    assert "This needs a token of the scope admin; ada has operate." in refused.stderr

    monkeypatch.setenv("SYNCLINE_API_TOKEN", TOKEN)
    assert [row["name"] for row in (await answer("tokens", "list"))["items"]] == ["ada"]
    (act,) = (await answer("audit", "--who", "ada"))["items"]
    assert act["target"] == "/api/accounts/close/pause"
    assert (await ask("tokens", "revoke", "ada")).stdout == "✓ ada is revoked\n"
    assert (await ask("tokens", "revoke", "ada")).exit_code == 1


async def test_what_is_wrong_is_listed_and_the_channels_are_tried_out(service, database):
    assert (await ask("alerts", "list")).stdout.strip() == "Nothing is wrong."
    async with database.transaction() as db:
        await db.execute(sa.text("update accounts set paused = true where name = 'close'"))
    found: list[Any] = []
    while not found:  # the service looks too, and of two at once only one does
        await look(database, config())
        found = [a for a in (await answer("alerts", "list"))["items"] if a["account"]]
    assert [(a["kind"], a["account"]) for a in found] == [("account paused", "close")]
    (channel,) = (await answer("alerts", "test"))["items"]
    assert (channel["channel"], channel["ok"]) == ("log", True)


async def test_a_webhook_secret_is_added_shown_and_forgotten(service):
    result = await ask("webhooks", "add-secret", "second", "--secret", "bb" * 32)
    assert result.stdout == "✓ second takes webhooks signed with any of 1 secrets\n"
    (shown,) = (await answer("webhooks", "secrets", "second"))["items"]
    assert (shown["source"], shown["used_at"]) == ("kept", None)
    assert "bb" * 32 not in json.dumps(shown)
    result = await ask("webhooks", "forget-secret", "second", shown["id"])
    assert result.stdout == f"✓ second trusts {shown['id']} no longer\n"
    assert (await answer("webhooks", "secrets", "second"))["items"] == []
