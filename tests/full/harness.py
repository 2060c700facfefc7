"""The whole thing as its users meet it: the real programs, the CRMs' people, and their eyes.

Everything here goes through the outside contract: HTTP, the command line, the SQL views, signals.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import asyncpg
import httpx
import yaml
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 45.0  # seconds; the machine may be busy with other things
POLL = 0.05
#: Where the programs keep their bytecode: they start often.
BYTECODE = str(Path(sys.prefix) / "bytecode")

#: The custom field in which Close keeps our ids, where it does.
CLOSE_STAMP = "Syncline id"
CLOSE_KEY = "api_FullTestsCloseKey000000.full"
CLOSE_SIGNATURE_KEY = "7d0f9b0f6ae94b1c8d3e5f60718293a4b5c6d7e8f90123456789abcdef012345"
HUBSPOT_TOKEN = "pat-na1-full-tests-0001"
HUBSPOT_SECRET = "full-tests-client-secret-0001"
PORTAL = 4711001
SALESFORCE_SECRET = "full-tests-callout-secret-0001"
SALESFORCE_CLIENT = "3MVG9FullTestsConsumerKey"
SALESFORCE_USER = "integration@syncline.example"
SALESFORCE_KEY = ROOT / "sandbox/salesforce/private_key.pem"
API_TOKEN = "full-tests-api-token"
SAME_SANDBOX = "the sandbox's HubSpot"  # stands in for an address that is not known yet

STAGES = {
    "New": {"close": "New", "hubspot": "appointmentscheduled"},
    "Qualified": {"close": "Qualified", "hubspot": "qualifiedtobuy"},
    "Demo": {"close": "Demo", "hubspot": "presentationscheduled"},
    "Proposal": {"close": "Proposal", "hubspot": "contractsent"},
    "Won": {"close": "Won", "hubspot": "closedwon"},
    "Lost": {"close": "Lost", "hubspot": "closedlost"},
}
#: … and where each stands in Salesforce.
THREE_STAGES = {
    ours: {**places, "salesforce": own}
    for (ours, places), own in zip(
        STAGES.items(),
        (
            *("Prospecting", "Qualification", "Needs Analysis"),
            *("Proposal/Price Quote", "Closed Won", "Closed Lost"),
        ),
        strict=True,
    )
}
#: HubSpot's own numbers for the links we look at.
PRIMARY = {"contacts": 1, "deals": 5}
DEAL_TO_CONTACT = 3

SHOWN = {
    "companies": "name domain website phone address city state zip country industry "
    "numberofemployees annualrevenue description hubspot_owner_id",
    "contacts": "email firstname lastname phone mobilephone jobtitle lifecyclestage "
    "hs_lead_status hubspot_owner_id hs_additional_emails",
    "deals": "dealname amount dealstage pipeline closedate description deal_currency_code "
    "hubspot_owner_id",
}
SINGULAR = {"companies": "company", "contacts": "contact", "deals": "deal"}

Json = dict[str, Any]
Writes = Counter[tuple[str, str, str]]
T = TypeVar("T")


async def until(
    ask: Callable[[], Awaitable[T]],
    *,
    why: Callable[[], Awaitable[str]] | None = None,
    within: float = PATIENCE,
    pause: float = POLL,
) -> T:
    """The first answer that is true; after a while, a failure that says how things stand."""
    deadline = time.monotonic() + within
    while True:
        answer = await ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s\n{await why() if why else ''}")
        await asyncio.sleep(pause)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Company:
    """A company that no other test has: its name and its domain."""

    name: str
    domain: str

    @classmethod
    def new(cls, name: str) -> Self:
        mark = secrets.token_hex(3)
        return cls(f"{name} {mark}", f"{name.lower().replace(' ', '-')}-{mark}.example")

    def email(self, local: str) -> str:
        return f"{local}@{self.domain}"

    def contact(self, name: str, **fields: Any) -> Json:
        """A contact as Close takes it, with an address of this company."""
        local = name.split()[0].lower()
        return {"name": name, "emails": [{"email": self.email(local), "type": "office"}], **fields}


def client(url: str, *, token: str | None = None) -> httpx.AsyncClient:
    """A client that keeps no connection: it cannot be the last to notice that one was closed."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=60,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


# ---------------------------------------------------------------------------------- programs


@dataclass
class Program:
    """One real program as its own process; what it prints goes to a file."""

    name: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> Self:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.arguments,
                cwd=self.folder,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, within: float = 40) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"{self.name} did not stop\n{self.said()}") from None

    def freeze(self) -> None:
        """Let it stall, as a machine that swaps does."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def said(self, last: int = 4000) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.name} ---\n{text[-last:]}"

    async def listens(self, port: int, *, within: float = PATIENCE) -> None:
        """Return once it takes connections."""

        async def connected() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, f"it ended\n{self.said()}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        async def why() -> str:
            return self.said()

        await until(connected, why=why, within=within, pause=0.02)


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without anything that would configure the service."""
    ours = ("DATABASE_URL", "PUBLIC_URL", "PROMETHEUS_MULTIPROC_DIR")
    prefixes = ("SYNCLINE_", "CLOSE_", "HUBSPOT_", "SALESFORCE_", "PYTEST_", "COV_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(prefixes)
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    ours_too = {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPYCACHEPREFIX": BYTECODE,
    }
    return {**kept, **ours_too, **more}


# -------------------------------------------------------------------------------- signatures


def close_body(event: Json) -> bytes:
    """The webhook that tells of an event of Close's log."""
    return json.dumps({"subscription_id": "whsub_full", "event": event}).encode()


def close_headers(body: bytes, *, key: str = CLOSE_SIGNATURE_KEY, at: float | None = None) -> Json:
    """What Close puts on a webhook: the key is hex, nothing stands between time and body."""
    timestamp = str(int(at if at is not None else time.time()))
    signed = hmac.new(bytes.fromhex(key), timestamp.encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "close-sig-hash": signed,
        "close-sig-timestamp": timestamp,
    }


def hubspot_headers(body: bytes, url: str, *, secret: str = HUBSPOT_SECRET) -> Json:
    """What HubSpot puts on a webhook: version 3, milliseconds, the URL as it called it."""
    timestamp = str(int(time.time() * 1000))
    message = b"POST" + url.encode() + body + timestamp.encode()
    signed = base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest())
    return {
        "content-type": "application/json;charset=utf-8",
        "x-hubspot-signature-v3": signed.decode(),
        "x-hubspot-request-timestamp": timestamp,
    }


# ---------------------------------------------------------------------------------- the CRMs


@dataclass
class PersonAtClose:
    """Somebody who works in Close; what they do there counts as nobody's API call."""

    http: httpx.AsyncClient
    path: str = "/_sandbox/as-person/close/api/v1"

    async def create(self, type: str, **fields: Any) -> Json:
        return await self._call("POST", f"/{type}/", fields)

    async def edit(self, type: str, id: str, **fields: Any) -> Json:
        return await self._call("PUT", f"/{type}/{id}/", fields)

    async def delete(self, type: str, id: str) -> None:
        await self._call("DELETE", f"/{type}/{id}/")

    async def read(self, type: str, id: str) -> Json:
        return await self._call("GET", f"/{type}/{id}/")

    async def all(self, type: str) -> list[Json]:
        found: list[Json] = []
        while True:
            page = await self._call("GET", f"/{type}/?_limit=100&_skip={len(found)}")
            found += page["data"]
            if not page["has_more"]:
                return found

    async def find(self, type: str, **fields: Any) -> list[Json]:
        """All that have these values."""
        return [row for row in await self.all(type) if all(row[k] == v for k, v in fields.items())]

    async def event(self, lead: str) -> Json:
        """The newest event of the log about a lead."""
        answer = await self._call("GET", f"/event/?lead_id={lead}&object_type=lead&_limit=1")
        return dict(answer["data"][0])

    async def log(self, lead: str) -> list[Json]:
        """Every event of a lead and of what lives in it, newest first."""
        answer = await self._call("GET", f"/event/?lead_id={lead}&_limit=50")
        return list(answer["data"])

    async def merge(self, survivor: str, loser: str) -> None:
        """Merge one lead into another."""
        await self._call("POST", "/lead/merge/", {"source": loser, "destination": survivor})

    async def keep_ids(self) -> None:
        """Make the custom fields in which our ids are kept."""
        for type in ("lead", "contact", "opportunity"):
            field = {"name": CLOSE_STAMP, "type": "hidden"}
            await self._call("POST", f"/custom_field/{type}/", field)

    async def statuses(self) -> dict[str, str]:
        """The ids of the opportunities' statuses by label."""
        answer = await self._call("GET", "/status/opportunity/")
        return {row["label"]: row["id"] for row in answer["data"]}

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = await self.http.request(method, self.path + path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}


@dataclass
class PersonAtHubSpot:
    """Somebody who works in a portal of HubSpot; None is the sandbox's first."""

    http: httpx.AsyncClient
    portal: int | None = PORTAL
    path: str = "/_sandbox/as-person/hubspot"

    async def create(
        self, type: str, *, company: str = "", contact: str = "", **properties: Any
    ) -> str:
        """A new record's id; it is linked at once, as when it is made on a company's page."""
        ends = ((company, PRIMARY.get(type)), (contact, DEAL_TO_CONTACT))
        links = [
            {
                "to": {"id": id},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": number}],
            }
            for id, number in ends
            if id
        ]
        body = {"properties": properties, "associations": links}
        return str((await self.call("POST", f"/crm/v3/objects/{type}", body))["id"])

    async def edit(self, type: str, id: str, **properties: Any) -> None:
        await self.call("PATCH", f"/crm/v3/objects/{type}/{id}", {"properties": properties})

    async def delete(self, type: str, id: str) -> None:
        await self.call("DELETE", f"/crm/v3/objects/{type}/{id}")

    async def read(self, type: str, id: str) -> Json:
        """Its properties; unset ones are None."""
        query = f"properties={SHOWN[type].replace(' ', ',')}"
        answer = await self.call("GET", f"/crm/v3/objects/{type}/{id}?{query}")
        return {"id": answer["id"], **answer["properties"]}

    async def all(self, type: str) -> list[Json]:
        found: list[Json] = []
        after = "0"
        query = f"properties={SHOWN[type].replace(' ', ',')}&limit=100"
        while True:
            page = await self.call("GET", f"/crm/v3/objects/{type}?{query}&after={after}")
            found += [{"id": row["id"], **row["properties"]} for row in page["results"]]
            if "paging" not in page:
                return found
            after = page["paging"]["next"]["after"]

    async def find(self, type: str, **properties: Any) -> list[Json]:
        wanted = properties.items()
        return [row for row in await self.all(type) if all(row[k] == v for k, v in wanted)]

    async def links(self, type: str, id: str, end: str) -> dict[str, set[int]]:
        """The records of that type it is linked to, each with the link's type ids."""
        answer = await self.call("GET", f"/crm/v4/objects/{type}/{id}/associations/{end}")
        return {
            str(row["toObjectId"]): {t["typeId"] for t in row["associationTypes"]}
            for row in answer["results"]
        }

    async def merge(self, type: str, survivor: str, loser: str) -> None:
        body = {"primaryObjectId": survivor, "objectIdToMerge": loser}
        await self.call("POST", f"/crm/v3/objects/{type}/merge", body)

    async def call(self, method: str, path: str, body: Any = None) -> Json:
        mark = "&" if "?" in path else "?"
        address = f"{self.path}{path}" + (f"{mark}portal={self.portal}" if self.portal else "")
        answer = await self.http.request(method, address, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}


@dataclass
class PersonAtSalesforce:
    """Somebody who works in Salesforce, with what its pages can do and its API cannot."""

    http: httpx.AsyncClient
    path: str = "/_sandbox/as-person/salesforce"
    data: str = "/services/data/v66.0"

    async def create(self, type: str, **fields: Any) -> str:
        made = await self.call("POST", f"{self.data}/sobjects/{type}", fields)
        return str(made["id"])

    async def edit(self, type: str, id: str, **fields: Any) -> None:
        await self.call("PATCH", f"{self.data}/sobjects/{type}/{id}", fields)

    async def delete(self, type: str, id: str) -> None:
        await self.call("DELETE", f"{self.data}/sobjects/{type}/{id}")

    async def read(self, type: str, id: str) -> Json:
        """Its fields; unset ones are None."""
        return dict(await self.call("GET", f"{self.data}/sobjects/{type}/{id}"))

    async def query(self, text: str) -> list[Json]:
        found: list[Json] = []
        path = f"{self.data}/query?{urlencode({'q': text})}"
        while path:
            page = await self.call("GET", path)
            found += page["records"]
            path = page.get("nextRecordsUrl", "")
        return found

    async def all(self, type: str) -> list[Json]:
        ids = [row["Id"] for row in await self.query(f"SELECT Id FROM {type}")]
        return [await self.read(type, id) for id in ids]

    async def find(self, type: str, **fields: Any) -> list[Json]:
        return [row for row in await self.all(type) if all(row[k] == v for k, v in fields.items())]

    async def merge(self, master: str, *others: str, **fields: Any) -> None:
        await self.call("POST", "/merge", {"master": master, "others": others, "fields": fields})

    async def convert(self, lead: str, **more: Any) -> Json:
        """The ids of account, contact and deal that a lead became; `opportunity=None` for none."""
        return dict(await self.call("POST", "/convert", {"lead": lead, **more}))

    async def undelete(self, *ids: str) -> None:
        await self.call("POST", "/undelete", {"ids": ids})

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, f"{self.path}{path}", json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}


@dataclass
class Crms:
    """The sandbox: its people, its controls, and what it remembers."""

    url: str
    program: Program
    http: httpx.AsyncClient
    close: PersonAtClose = field(init=False)
    hubspot: PersonAtHubSpot = field(init=False)
    salesforce: PersonAtSalesforce = field(init=False)

    def __post_init__(self) -> None:
        self.close = PersonAtClose(self.http)
        self.hubspot = PersonAtHubSpot(self.http)
        self.salesforce = PersonAtSalesforce(self.http)

    async def control(self, method: str, path: str, body: Json | None = None) -> Any:
        answer = await self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def counts(self) -> Json:
        return dict(await self.control("GET", "counts"))

    async def writes(self) -> Writes:
        """How many rows the service wrote: vendor, type, verb → number. Associations too."""
        found: Writes = Counter()
        for vendor, totals in (await self.counts()).items():
            for type, verbs in totals["rows"].items():
                found.update({(vendor, type, verb): n for verb, n in verbs.items()})
        return found

    async def calls(self, vendor: str, *, since: float = 0) -> list[Json]:
        """The service's own calls."""
        found = await self.control("GET", f"calls?vendor={vendor}&since={since}")
        return [call for call in found["calls"] if not call["person"]]

    async def history(self, vendor: str, type: str, id: str) -> dict[str, list[Any]]:
        """Every value each field ever had, in order."""
        found = await self.control("GET", f"history/{vendor}/{type}/{id}")
        return {name: [v["value"] for v in past] for name, past in found["fields"].items()}

    async def fault(self, vendor: str, kind: str, **more: Any) -> None:
        """`method` and `path` say which calls it hits."""
        match = {name: more.pop(name) for name in ("method", "path") if name in more}
        await self.control(
            "POST", "faults", {"vendor": vendor, "fault": kind, "match": match, **more}
        )

    async def clear_faults(self) -> None:
        await self.control("DELETE", "faults")

    async def struck(self) -> bool:
        """Whether the faults of a limited number are used up."""
        found = (await self.control("GET", "faults"))["faults"]
        return not any(fault["times"] for fault in found)

    async def weather(self, **changes: Any) -> None:
        """How webhooks travel: duplicate, shuffle, delay, lose, pause, resume; vendor."""
        await self.control("POST", "webhooks", changes)

    async def fair_weather(self) -> None:
        """No faults, and webhooks that travel as they should."""
        await self.clear_faults()
        await self.weather(paused=False, duplicate=0, shuffle=False, delay=0, lose=False)

    async def undelivered(self) -> int:
        found = await self.control("GET", "webhooks")
        return sum(status["pending"] for status in found.values())

    async def dropped(self) -> int:
        found = await self.control("GET", "webhooks")
        return sum(status["dropped"] for status in found.values())

    async def seed(self, **vendors: Json) -> Json:
        return dict(await self.control("POST", "seed", {**vendors, "quiet": True}))


def flips(history: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The fields in which a value came back after it had been left."""
    found = {}
    for name, values in history.items():
        steps = [repr(v) for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
        if len(set(steps)) < len(steps):
            found[name] = values
    return found


# ------------------------------------------------------------------------------- the service


def account_settings(sandbox: str, **changes: Json) -> Json:
    """The accounts of a syncline.yaml whose CRMs are the sandbox."""
    accounts: Json = {
        "close": {
            "connector": "close",
            "credentials": {"api_key": CLOSE_KEY},
            "webhook_secret": CLOSE_SIGNATURE_KEY,
            "base_url": f"{sandbox}/close/api/v1",
        },
        "hubspot": {
            "connector": "hubspot",
            "portal_id": PORTAL,
            "credentials": {"access_token": HUBSPOT_TOKEN},
            "webhook_secret": HUBSPOT_SECRET,
            "base_url": f"{sandbox}/hubspot",
        },
    }
    for name, change in changes.items():
        vendor = change.get("connector", name)
        own = salesforce_settings(sandbox) if vendor == "salesforce" else accounts.get(name, {})
        merged = {**own, **change}
        if merged.get("base_url") == SAME_SANDBOX:
            merged["base_url"] = f"{sandbox}/hubspot"
        accounts[name] = {key: value for key, value in merged.items() if value is not None}
    return accounts


def salesforce_settings(sandbox: str) -> Json:
    """The account of a syncline.yaml that is the sandbox's Salesforce."""
    return {
        "connector": "salesforce",
        "credentials": {
            "client_id": SALESFORCE_CLIENT,
            "username": SALESFORCE_USER,
            "private_key": SALESFORCE_KEY.read_text(),
        },
        "webhook_secret": SALESFORCE_SECRET,
        "login_url": f"{sandbox}/salesforce",
    }


@dataclass
class Syncline:
    """The service: its programs, its API as an operator uses it, its SQL views."""

    folder: Path
    port: int
    database_url: str
    environment: dict[str, str]
    http: httpx.AsyncClient
    api: Program
    workers: list[Program] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def worker(self, number: int) -> Program:
        return Program(
            f"worker-{number}", ["-m", "app.cli", "worker"], self.folder, self.environment
        )

    async def add_workers(self, count: int) -> None:
        for _ in range(count):
            self.workers.append(await self.worker(len(self.workers) + 1).start())

    async def dismiss(self) -> None:
        """Stop all workers that were added."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        self.workers.clear()

    async def ready(self) -> None:
        await self.api.listens(self.port)

        async def answers() -> bool:
            return (await self.http.get("/health/ready")).is_success

        await until(answers, why=self.explain)

    async def works(self) -> None:
        """Return once a worker is at work."""

        async def alive() -> bool:
            return bool((await self.get("/health/lanes"))["status"] == "ok")

        await until(alive, why=self.explain)

    # --- the API

    async def get(self, path: str, **query: Any) -> Json:
        answer = await self.http.get(path, params=query)
        assert answer.is_success, f"GET {path}: {answer.status_code} {answer.text}"
        return dict(answer.json())

    async def post(self, path: str, body: Json | None = None) -> Json:
        answer = await self.http.post(path, json=body or {})
        assert answer.is_success, f"POST {path}: {answer.status_code} {answer.text}"
        return dict(answer.json())

    async def rows(self, path: str, **query: Any) -> list[Json]:
        """All rows of a paged list."""
        found: list[Json] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=100, **query, **cursor)
            found += page["items"]
            if not page["next_cursor"]:
                return found
            cursor = {"cursor": page["next_cursor"]}

    async def record(self, account: str, remote_id: str, entity: str) -> Json:
        """Our record of something remote, in full."""
        (found,) = await self.rows(
            "/api/records", account=account, remote_id=remote_id, entity=entity
        )
        return await self.get(f"/api/records/{found['id']}")

    async def counterpart(self, account: str, remote_id: str, entity: str, other: str) -> str:
        """The id that the other account has for it."""
        found = await self.record(account, remote_id, entity)
        (id,) = [link["remote_id"] for link in found["links"] if link["account"] == other]
        return str(id)

    async def dead_letters(self) -> list[Json]:
        return await self.rows("/api/dead-letters")

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = (await self.http.get("/metrics")).text.splitlines()
        found = [
            line
            for line in lines
            if line.startswith(f"{name}{{") and all(text in line for text in wanted)
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    async def pending(self, *directions: str) -> int:
        """What waits in any lane, or in those of these directions, plus the lanes that are being
        worked on; who listens is idle.
        """
        lanes = (await self.get("/health/lanes"))["lanes"]
        wanted = directions or ("in", "out", "scan")
        busy = [lane for lane in lanes if lane["direction"] in wanted]
        return sum(lane["pending"] + (lane["owner"] is not None) for lane in busy)

    async def resync(self, **wanted: Any) -> Json:
        """Start one and see it end."""
        return await self.finished((await self.post("/api/resyncs", wanted))["id"])

    async def finished(self, resync: str) -> Json:
        async def ended() -> Json:
            found = await self.get(f"/api/resyncs/{resync}")
            return found if found["state"] in ("done", "failed", "cancelled") else {}

        return await until(ended, why=self.explain, within=120)

    # --- webhooks of our own

    async def deliver(
        self, account: str, content: Any, *, headers: Json | None = None
    ) -> httpx.Response:
        """Post a webhook, signed as the account's CRM signs unless headers are given."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = f"/webhooks/{account}"
        if headers is None:
            if account.startswith("close"):
                headers = close_headers(body)
            else:
                headers = hubspot_headers(body, self.url + path)
        return await self.http.post(path, content=body, headers=headers)

    async def tell_close(self, *events: Json) -> None:
        """Deliver events of Close's log by hand, in this order."""
        for event in events:
            answer = await self.deliver("close", close_body(event))
            assert answer.is_success, answer.text

    async def tell_hubspot(self, kind: str, id: str, **more: Any) -> None:
        """Deliver an event of HubSpot by hand, as of now unless it says `occurredAt`."""
        told = {
            "eventId": secrets.randbits(31),
            "subscriptionId": 1,
            "portalId": PORTAL,
            "occurredAt": int(time.time() * 1000),
            "subscriptionType": kind,
            "attemptNumber": 0,
            "objectId": int(id),
            **more,
        }
        answer = await self.deliver("hubspot", [told])
        assert answer.is_success, answer.text

    # --- the command line, the SQL views

    async def command(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Run `syncline …`; its exit code, what it printed, what it complained."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "app.cli", *arguments),
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def sql(self, query: str, *arguments: Any) -> list[Json]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def explain(self) -> str:
        """How things stand, for whoever reads a failure."""
        parts = []
        for path in ("/health/lanes", "/api/dead-letters", "/api/conflicts"):
            with contextlib.suppress(httpx.HTTPError):
                parts.append(f"{path}: {(await self.http.get(path)).text[:3000]}")
        return "\n".join([*parts, *(p.said() for p in (self.api, *self.workers))])


@dataclass
class World:
    """A service and the CRMs it keeps in step."""

    crms: Crms
    syncline: Syncline

    @property
    def close(self) -> PersonAtClose:
        return self.crms.close

    @property
    def hubspot(self) -> PersonAtHubSpot:
        return self.crms.hubspot

    @property
    def salesforce(self) -> PersonAtSalesforce:
        return self.crms.salesforce

    def programs(self) -> list[Program]:
        return [self.crms.program, self.syncline.api, *self.syncline.workers]

    def secrets(self) -> dict[str, str]:
        """What may stand in no log and in no answer."""
        return {
            "api token": API_TOKEN,
            "close key": CLOSE_KEY,
            "close signature key": CLOSE_SIGNATURE_KEY,
            "hubspot token": HUBSPOT_TOKEN,
            "hubspot secret": HUBSPOT_SECRET,
            "salesforce secret": SALESFORCE_SECRET,
            "secret key": self.syncline.environment["SYNCLINE_SECRET_KEYS"],
            "database password": urlsplit(self.syncline.database_url).password or API_TOKEN,
        }

    async def quiet(
        self, *, within: float = PATIENCE, calm: float = 0, pause: float = POLL
    ) -> None:
        """Return once nothing is under way anywhere: webhooks, lanes, calls; and for so long.

        The CRMs are asked before and after the service: if nothing was to come from them, and
        nobody called them in between, then all of it was still at one and the same time.
        """
        since: float | None = None
        before: Json = {}

        async def still() -> bool:
            nonlocal since, before
            last, before = before, await self.crms.counts()
            busy = any(totals["pending"] for totals in before.values())
            if busy or await self.syncline.pending() or await self.crms.counts() != before:
                since = None
                return False
            since = time.monotonic() if since is None or last != before else since
            return time.monotonic() - since >= calm

        async def why() -> str:
            left = await self.crms.control("GET", "webhooks")
            return f"webhooks: {left}\ncounts: {before}\n{await self.syncline.explain()}"

        await until(still, why=why, within=within, pause=pause)

    async def worked(self) -> None:
        """Return once the service has nothing to do, whatever the CRMs hold back."""

        async def idle() -> bool:
            return not await self.syncline.pending()

        await until(idle, why=self.syncline.explain)

    @contextlib.asynccontextmanager
    async def counting(
        self, *, within: float = PATIENCE, pause: float = POLL
    ) -> AsyncIterator[Writes]:
        """What the service wrote meanwhile, once all is quiet; empty until then."""
        found: Writes = Counter()
        before = await self.crms.writes()
        yield found
        await self.quiet(within=within, pause=pause)
        found.update(await self.crms.writes() - before)

    async def steady(self) -> None:
        """Fails if anything is still written although all is quiet."""
        await self.quiet()
        before = await self.crms.writes()
        await self.quiet(calm=0.5)
        assert await self.crms.writes() == before


@contextlib.asynccontextmanager
async def crms(folder: Path, port: int, *options: str) -> AsyncIterator[Crms]:
    """The sandbox on this port."""
    url = f"http://127.0.0.1:{port}"
    program = Program(
        "sandbox",
        ["-m", "sandbox", "--port", str(port), *options],
        folder,
        clean_environment(),
    )
    async with client(url) as http:
        await program.start()
        try:
            await program.listens(port)
            yield Crms(url, program, http)
        finally:
            await program.stop()


@contextlib.asynccontextmanager
async def syncline(
    folder: Path,
    port: int,
    database_url: str,
    config: Json,
    *,
    workers: int | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator[Syncline]:
    """`syncline serve` with its own worker, or without it and beside as many as said."""
    (folder / "syncline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    url = f"http://127.0.0.1:{port}"
    environment = clean_environment(
        DATABASE_URL=database_url,
        SYNCLINE_HOME=str(folder / "home"),
        SYNCLINE_API_TOKEN=API_TOKEN,
        SYNCLINE_SECRET_KEYS=Fernet.generate_key().decode(),
        SYNCLINE_LOG="json",
        PUBLIC_URL=url,
    )
    alone = ["--no-worker"] if workers is not None else []
    api = Program(
        "api",
        ["-m", "app.cli", "serve", "--port", str(port), *alone, *options],
        folder,
        environment,
    )
    async with client(url, token=API_TOKEN) as http:
        service = Syncline(folder, port, database_url, environment, http, api)
        await api.start()
        try:
            await service.ready()
            await service.add_workers(workers or 0)
            if workers != 0:
                await service.works()
            yield service
        finally:
            for program in (*service.workers, api):
                if program.process and program.process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        program.thaw()
                    await program.stop()


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    database_url: str,
    *,
    accounts: Mapping[str, Json] | None = None,
    config: Json | None = None,
    files: Mapping[str, str] | None = None,
    sandbox: Sequence[str] = (),
    subscribed: bool = True,
    targeted: bool = True,
    workers: int | None = None,
    prepare: Callable[[Crms], Awaitable[None]] | None = None,
) -> AsyncIterator[World]:
    """The sandbox, and a service whose accounts `close` and `hubspot` live there.

    `files` lie beside its configuration. `subscribed` says that Close calls us from the start,
    `targeted` that HubSpot's app does. `prepare` is what people do in the CRMs before the
    service starts.
    """
    crm_port, port = free_port(), free_port()
    hooks = f"http://127.0.0.1:{port}/webhooks"
    told = (
        *("--close-api-key", CLOSE_KEY, "--close-signature-key", CLOSE_SIGNATURE_KEY),
        *(("--close-webhook", f"{hooks}/close") if subscribed else ()),
        *("--hubspot-token", HUBSPOT_TOKEN, "--hubspot-portal-id", str(PORTAL)),
        *("--hubspot-client-secret", HUBSPOT_SECRET),
        *(("--hubspot-target", f"{hooks}/hubspot") if targeted else ()),
        *("--salesforce-client-id", SALESFORCE_CLIENT, "--salesforce-secret", SALESFORCE_SECRET),
        *("--salesforce-webhook", f"{hooks}/salesforce"),
        *("--close-consolidation", "0.1"),
    )
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    async with crms(folder, crm_port, *told, *sandbox) as found:
        if prepare:
            await prepare(found)
        content = {
            "accounts": account_settings(found.url, **(accounts or {})),
            "sync": {"deal": {"stages": STAGES}},
            **(config or {}),
        }
        async with syncline(folder, port, database_url, content, workers=workers) as service:
            yield World(found, service)
