"""People's data and secrets are in no log line, metric, problem document or alert."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, close_headers, until

#: Values that nothing but a leak can show; each names where it entered.
FIRST, LAST = "Zyxwilda", "Quuxington"
FIRM, TITLE = "Plantagenet Widgetry", "Chief Planting Officer"
LOCAL, PHONE, DIGITS = "zyxwilda.planted", "+1 415 555 0177", "5550177"
NOTE = "their-planted-remark"
REFUSED, CRASHED, HANDLED = "planted-in-a-refusal", "planted-in-a-crash", "planted-in-a-handler"
BODY, HEADER, QUERY = "planted-body", "planted-header", "planted-query"
#: A path is in the log, but not the address that may stand in it.
PATH = f"{LOCAL}@planted.example"
TOKEN, ASKED = "planted-token-0123456789", "planted-request"
CONFIG = "planted-config-secret"
PLANTED = (FIRST, LAST, FIRM, TITLE, LOCAL, PHONE, DIGITS, NOTE, REFUSED, CRASHED, HANDLED)
ENTERED = (BODY, HEADER, QUERY, TOKEN, ASKED, CONFIG)

HANDLERS = f'''
"""A handler with a bug."""

from app.sdk import Context, Event, on


@on("close", "lead.updated")
async def stumble(event: Event, ctx: Context) -> None:
    """Raises with a person's data in its words, as careless code does."""
    said = str(event.data["data"].get("description") or "")
    if "{HANDLED}" in said:
        raise ValueError(f"cannot make sense of {{said!r}} of {FIRM}")
'''


@pytest_asyncio.fixture
async def watched(tmp_path: Path, databases: Databases) -> AsyncIterator[tuple[World, list[bytes]]]:
    """A service that logs everything, and the alerts that it sends away."""
    told: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            told.append(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    ear = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = ear.sockets[0].getsockname()[1]
    secret = "whsec_" + base64.b64encode(b"0" * 32).decode()
    config: Json = {
        "handlers": ["our_handlers.py"],
        "alerts": {"webhook": {"url": f"http://127.0.0.1:{port}/", "secret": secret}},
    }
    async with (
        ear,
        databases() as own,
        harness.world(
            tmp_path, own, config=config, files={"our_handlers.py": HANDLERS}, workers=1
        ) as found,
    ):
        yield found, told


async def test_what_people_and_vendors_say_stands_in_no_log_metric_problem_or_alert(
    watched: tuple[World, list[bytes]],
) -> None:
    world, alerts = watched
    service = world.syncline
    company = Company.new(FIRM)
    await _live(world, company)
    await _refused(world, company)
    shown = [*await _strangers(world), *await _clumsy(world), *await _misconfigured(world)]
    shown.append((await service.http.get("/metrics")).text)
    for path in ("/health/lanes", "/health/ready"):
        shown.append((await service.http.get(path)).text)
    await until(lambda: _raised(world), why=service.explain, within=60)
    shown += [json.dumps(await service.rows("/api/alerts")), *(a.decode() for a in alerts)]
    for program in (service.api, *service.workers):
        shown.append(program.said(10**9))
    secrets = world.secrets().values()
    words = (*PLANTED, *ENTERED, company.domain, *secrets)
    leaks = sorted(
        {
            f"{word!r} in: {line[:400]}"
            for text in shown
            for line in text.splitlines()
            for word in words
            if word.lower() in line.lower()
        }
    )
    assert not leaks, "\n".join(leaks)
    # Behind the token, whoever has to mend it sees the vendor's words.
    assert REFUSED in json.dumps(await service.rows("/api/dead-letters"))


async def _raised(world: World) -> bool:
    kinds = {alert["kind"] for alert in await world.syncline.rows("/api/alerts")}
    return "dead letters" in kinds


async def _live(world: World, company: Company) -> None:
    """A family travels, and is edited on both sides at once."""
    contact = {
        "name": f"{FIRST} {LAST}",
        "title": TITLE,
        "emails": [{"email": company.email(LOCAL), "type": "office"}],
        "phones": [{"phone": PHONE, "type": "office"}],
    }
    lead = await world.close.create(
        "lead",
        name=company.name,
        url=f"https://{company.domain}",
        description=NOTE,
        contacts=[contact],
    )
    await world.quiet()
    there = await world.syncline.counterpart("close", lead["id"], "company", "hubspot")
    await asyncio.gather(
        world.close.edit("lead", lead["id"], description=f"{NOTE} here"),
        world.hubspot.edit("companies", there, description=f"{NOTE} there"),
    )
    await world.quiet()
    await world.close.edit("lead", lead["id"], description=f"{HANDLED} {NOTE}")


async def _refused(world: World, company: Company) -> None:
    """HubSpot refuses a value and quotes it, breaks with it, and is rude about a credential."""
    for n, (status, words) in enumerate(
        (
            (400, f"Property values were not valid: {REFUSED} {FIRST} {LAST} {PHONE}"),
            (500, f"{CRASHED} while saving {FIRM}"),
            (403, f"{FIRST} {LAST} has no right to see {FIRM}"),
        )
    ):
        other = Company.new(f"{FIRM} {n}")
        await world.crms.fault(
            "hubspot",
            "status",
            status=status,
            times=1,
            path="companies/batch/create",
            body={"status": "error", "message": words, "category": "VALIDATION_ERROR"},
        )
        await world.close.create("lead", name=other.name, url=f"https://{other.domain}")
        await until(world.crms.struck, why=world.syncline.explain)
    await world.crms.clear_faults()


async def _strangers(world: World) -> list[str]:
    """Webhooks that are forged, unreadable, too much, or for nobody."""
    http = world.syncline.http
    bad = json.dumps({"event": {"data": {"name": BODY, "emails": [f"{LOCAL}@x.example"]}}}).encode()
    unread = f'{{"event": {{"data": {{"name": "{FIRST} {BODY}"'.encode()
    odd = {"x-who": HEADER, "user-agent": HEADER}
    answers = [
        await http.post(
            f"/webhooks/close?who={QUERY}",
            content=bad,
            headers={**close_headers(b"another"), **odd},
        ),
        await http.post("/webhooks/close", content=bad, headers={"close-sig": HEADER}),
        await http.post(f"/webhooks/{PATH}", content=bad),
        await http.post("/webhooks/close", content=unread, headers=close_headers(unread)),
        await http.post("/webhooks/hubspot", content=bad, headers={"x-hubspot-signature": HEADER}),
    ]
    return [answer.text for answer in answers]


async def _clumsy(world: World) -> list[str]:
    """Calls of the API that are wrong in every way."""
    http = world.syncline.http
    wrong = {"authorization": f"Bearer {TOKEN}"}
    answers = [
        await http.get("/api/records", headers=wrong),
        await http.get("/api/records", params={"email": f"{LOCAL}@x.example", "cursor": QUERY}),
        await http.get(f"/api/records/{PATH}"),
        await http.get(f"/api/{PATH}?email={LOCAL}@x.example&name={QUERY}"),
        await http.post("/api/resyncs", json={"account": ASKED, "entity": ASKED, "since": ASKED}),
        await http.post("/api/resyncs", content=f'{{"account": "{ASKED}'.encode()),
        await http.post("/api/conflicts/1/resolve", json={"value": ASKED, "account": ASKED}),
        await http.post("/api/tokens", json={"name": ASKED, "scope": ASKED, "token": TOKEN}),
        await http.post("/api/dead-letters/replay", json={"cause": f"{FIRST} {ASKED}"}),
    ]
    return [answer.text for answer in answers]


async def _misconfigured(world: World) -> list[str]:
    """A configuration with a secret in the wrong place."""
    service = world.syncline
    wrong = service.folder / "wrong.yaml"
    told = []
    for account in (
        {"connector": "close", "credentials": {"api_key": CONFIG, "api_kee": CONFIG}},
        {"connector": "close", "credentials": CONFIG},
        {
            "connector": "close",
            "credentials": {"api_key": [CONFIG]},
            "webhook_secret": {"a": CONFIG},
        },
    ):
        wrong.write_text(yaml.safe_dump({"accounts": {"close": account}}))
        environment = {"SYNCLINE_CONFIG": str(wrong)}
        _, out, err = await service.command("config", "check", environment=environment)
        told += [out, err]
    return told
