"""Every connector there is, an account of it at the sandbox, and its recorded deliveries."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import yaml
from pydantic import SecretStr

from app.domain.manifest import Manifest
from app.domain.values import Delivery, Op, Outcome, Ref, RelationEdit, Write
from app.sdk.connector import Account, Connector
from app.sdk.quota import Quota
from app.sdk.registry import Registry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "app" / "connectors"
REGISTRY = Registry.load()
NOON = datetime(2026, 1, 14, 12, tzinfo=UTC)
AT = "2026-01-13T09:30:00Z"


@dataclass(frozen=True)
class Candidate:
    """One connector with what its exam needs: where the sandbox serves it, and test data."""

    name: str
    path: str
    credentials: Mapping[str, SecretStr]
    options: Mapping[str, object] = field(default_factory=dict)
    #: A name per entity in the vendor's fields, and a field that is refused.
    named: Mapping[str, Callable[[str], dict[str, Any]]] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)
    #: What a create is posted to, and an id of this type that nobody has.
    creates: str = ""
    nobody: Callable[[str], str] = lambda type: "424242424242"
    #: How the sandbox calls companies when it is to make many.
    companies: str = "companies"
    #: What the token endpoint answers, where sign-in begins with a call of its own.
    session: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> type[Connector]:
        return REGISTRY.connector(self.name)

    @property
    def manifest(self) -> Manifest:
        return self.kind.manifest

    def account(self, base: str = "https://crm.example") -> Account:
        return Account("acme", self.name, base + self.path, self.credentials, options=self.options)

    def transport(
        self, answer: Callable[[httpx.Request], httpx.Response]
    ) -> httpx.AsyncBaseTransport:
        """A vendor that lets us sign in, and answers everything else like this."""

        def respond(request: httpx.Request) -> httpx.Response:
            if self.session and request.url.path.endswith("/oauth2/token"):
                return httpx.Response(200, json=self.session)
            return answer(request)

        return httpx.MockTransport(respond)

    @property
    def secrets(self) -> list[str]:
        """What must never be told."""
        given = [value.get_secret_value() for value in self.credentials.values()]
        return [*given, *filter(None, [self.session.get("access_token")])]

    def properties(self) -> dict[str, tuple[str, ...]]:
        """What the built-in mapping reads, by remote type."""
        rows = yaml.safe_load((FOLDER / self.name / "mapping.yaml").read_text())
        paths: dict[str, tuple[str, ...]] = {}
        for entity, promise in self.manifest.entities.items():
            specs = [{"path": r} if isinstance(r, str) else r for r in rows[entity].values()]
            found = [p for s in specs for p in ([s["path"]] if "path" in s else s["paths"])]
            paths[promise.type] = tuple(found)
        return paths

    def connect(self, base: str = "https://crm.example", **more: Any) -> Connector:
        account, properties = self.account(base), self.properties()
        connector = REGISTRY.connect(account, properties=properties, **more)
        # Limits are tried in tests/sdk; the sandbox of these tests has none.
        connector.client.quota = Quota({})
        return connector

    def writes(self, verb: str) -> list[str]:
        """The entities with which this may be done."""
        return [entity for entity, how in self.manifest.entities.items() if verb in how.write]

    def examples(self) -> dict[str, bytes]:
        files = sorted((FOLDER / self.name / "examples").glob("*.json"))
        return {file.stem: file.read_bytes() for file in files}


CLOSE = Candidate(
    "close",
    "/close/api/v1",
    {"api_key": SecretStr("api_SandboxCloseKey0000000.local")},
    creates="/(lead|contact|opportunity|task|activity/[a-z]+)/$",
    companies="leads",
    named={
        "company": lambda n: {"name": n, "url": f"https://{n.lower()}.example"},
        "person": lambda n: {"name": n, "emails[].email": [f"{n.lower()}@people.example"]},
        "deal": lambda n: {"value": 1000 + len(n), "note": n},
        "note": lambda n: {"note_html": f"<body><p>{n}</p></body>", "activity_at": AT},
        "call": lambda n: {"note_html": f"<body><p>{n}</p></body>", "duration": 61},
        "email": lambda n: {"subject": n, "status": "sent", "sender": "ana@people.example"},
        "task": lambda n: {"text": n, "date": "2026-02-01"},
    },
    refused={
        "value": "much",
        "emails[].email": ["no address"],
        "name": ["a list"],
        "note_html": "no body",
        "sender": "nobody",
        "date": "soon",
    },
)
HUBSPOT = Candidate(
    "hubspot",
    "/hubspot",
    {"access_token": SecretStr("pat-na1-sandbox")},
    options={"portal_id": 62515},
    creates="/batch/create",
    named={
        "company": lambda n: {"name": n, "domain": f"{n.lower()}.example"},
        "person": lambda n: {"firstname": n, "email": f"{n.lower()}@people.example"},
        "deal": lambda n: {
            "dealname": n,
            "amount": "10",
            "dealstage": "appointmentscheduled",
            "pipeline": "default",
        },
        "ticket": lambda n: {"subject": n, "hs_pipeline_stage": "1", "hs_pipeline": "0"},
        "note": lambda n: {"hs_note_body": f"<p>{n}</p>", "hs_timestamp": AT},
        "call": lambda n: {"hs_call_body": f"<p>{n}</p>", "hs_timestamp": AT},
        "email": lambda n: {
            "hs_email_subject": n,
            "hs_email_direction": "EMAIL",
            "hs_timestamp": AT,
        },
        "meeting": lambda n: {"hs_meeting_title": n, "hs_timestamp": AT},
        "task": lambda n: {"hs_task_subject": n},
    },
    refused={"no_such_property": "x"},
)
NOBODY: Mapping[str, str] = {
    "Account": "001Sb00000999zzIAA",
    "Contact": "003Sb00000999zzIAA",
    "Opportunity": "006Sb00000999zzIAA",
    "Case": "500Sb00000999zzIAA",
    **dict.fromkeys(("Task", "Call", "Email"), "00TSb00000999zzMAA"),
    "Event": "00USb00000999zzMAA",
    "ContentNote": "069Sb00000999zzIAA",
}
SALESFORCE = Candidate(
    "salesforce",
    "/salesforce",
    {
        "client_id": SecretStr("3MVG9SandboxConsumerKey000000000000000000000"),
        "client_secret": SecretStr("salesforce-sandbox-secret"),
    },
    options={"leads": True},
    named={
        "company": lambda n: {"Name": n, "Website": f"https://{n.lower()}.example"},
        "person": lambda n: {"LastName": n, "Email": f"{n.lower()}@people.example"},
        "deal": lambda n: {"Name": n, "StageName": "Prospecting", "CloseDate": "2026-06-30"},
        "ticket": lambda n: {"Subject": n, "Status": "New"},
        "note": lambda n: {"Title": n, "Content": f"<p>{n}</p>"},
        "call": lambda n: {"Subject": n, "ActivityDate": AT[:10]},
        "email": lambda n: {"Subject": n, "ActivityDate": AT[:10]},
        "meeting": lambda n: {"Subject": n, "StartDateTime": AT},
        "task": lambda n: {"Subject": n, "ActivityDate": AT[:10]},
    },
    refused={"Name": "x" * 300, "Email": "no address", "Subject": "x" * 300, "Title": "x" * 300},
    creates="/composite/sobjects$",
    companies="accounts",
    nobody=lambda type: NOBODY[type],
    session={
        "access_token": "00DSb0000000001!MockedSession",
        "instance_url": "https://crm.example/salesforce",
    },
)
CANDIDATES = {candidate.name: candidate for candidate in (CLOSE, HUBSPOT, SALESFORCE)}


def delivery(body: bytes, headers: Mapping[str, str] | None = None, *, now=NOON) -> Delivery:
    return Delivery("acme", "POST", "/webhooks/acme", headers or {}, body, now)


def write(
    connector: Connector,
    entity: str,
    fields: Mapping[str, Any],
    *,
    ref: Ref | None = None,
    op: Op | None = None,
    external_id: str | None = None,
    **relations: Any,
) -> Write:
    return Write(
        op or (Op.UPDATE if ref else Op.CREATE),
        entity,
        connector.manifest.entities[entity].type,
        uuid4(),
        uuid4().hex,
        ref,
        fields,
        {n: RelationEdit(tuple(refs), tuple(refs)) for n, refs in relations.items()},
        external_id,
    )


async def make(connector: Connector, entity: str, fields, **relations) -> Ref:
    """Create one record; its ref."""
    (outcome,) = await connector.write([write(connector, entity, fields, **relations)])
    assert outcome.error is None, outcome.error
    assert outcome.ref is not None
    return outcome.ref


def good(outcome: Outcome) -> Outcome:
    assert outcome.error is None, outcome.error
    return outcome


# -------------------------------------------------------------------------- the sandbox


@pytest_asyncio.fixture(scope="session")
async def sandbox() -> AsyncIterator[str]:
    """The address of local CRMs, served by a process of their own."""
    if not (ROOT / "sandbox" / "__main__.py").exists():
        pytest.skip("there is no sandbox")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quick = ("--search-lag", "0", "--close-consolidation", "0", "--no-quota")
    more = ("--hubspot-token", "pat-na1-sandbox", "--hubspot-portal-id", "62515")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--port", str(port), *quick, *more, cwd=ROOT
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


class Control:
    """The sandbox's own controls, and a person at the CRM's screen."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.AsyncClient(base_url=base)

    async def call(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.http.request(method, path, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def fault(self, **fault: Any) -> None:
        await self.call("POST", "/_sandbox/faults", json=fault)

    async def person(self, method: str, path: str, **more: Any) -> Any:
        return await self.call(method, f"/_sandbox/as-person{path}", **more)

    async def calls(self, vendor: str) -> list[dict[str, Any]]:
        answer = await self.call("GET", "/_sandbox/calls", params={"vendor": vendor})
        return list(answer["calls"])


@pytest_asyncio.fixture
async def control(sandbox: str) -> AsyncIterator[Control]:
    """A sandbox with nothing in it but what it always has."""
    made = Control(sandbox)
    await made.call("POST", "/_sandbox/reset")
    yield made
    await made.call("DELETE", "/_sandbox/faults")
    await made.http.aclose()


@pytest_asyncio.fixture
async def close(control: Control) -> AsyncIterator[Connector]:
    connector = CLOSE.connect(control.base)
    yield connector
    await connector.aclose()


@pytest_asyncio.fixture
async def hubspot(control: Control) -> AsyncIterator[Connector]:
    connector = HUBSPOT.connect(control.base)
    yield connector
    await connector.aclose()


@pytest_asyncio.fixture
async def salesforce(control: Control) -> AsyncIterator[Connector]:
    connector = SALESFORCE.connect(control.base)
    yield connector
    await connector.aclose()
