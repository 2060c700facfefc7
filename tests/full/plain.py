"""CRMs as somebody would sketch them who read a page of documentation: the basics and no more.

Nothing of `sandbox` is in here, and whatever is not drawn answers 404, as a sketch does.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.full.harness import close_body, close_headers, hubspot_headers

Json = dict[str, Any]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _lost(_: Request) -> Response:
    return JSONResponse({"error": "Not found", "message": "Not found"}, 404)


@dataclass
class Sketch:
    """What both have: rows by kind and id, a number for the next, and whom to tell."""

    rows: dict[str, dict[str, Json]] = field(default_factory=dict)
    told: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    writes: list[str] = field(default_factory=list)
    last: int = 100

    def next(self) -> int:
        self.last += 1
        return self.last

    def by(self, request: Request, what: str) -> None:
        """Remember the calls of the service; people come without credentials."""
        if "authorization" in request.headers:
            self.writes.append(what)


@dataclass
class PlainClose(Sketch):
    """Leads, contacts and opportunities; no search, no log, no directories."""

    def __post_init__(self) -> None:
        self.rows = {"lead": {}, "contact": {}, "opportunity": {}}

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/me/", self.me),
            Route("/api/v1/{kind}/", self.several, methods=["GET", "POST"]),
            Route("/api/v1/{kind}/{id}/", self.one, methods=["GET", "PUT", "DELETE"]),
        ]

    async def me(self, request: Request) -> Response:
        return JSONResponse({"id": "user_1", "email": "ada@example.com"})

    async def several(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in self.rows:
            return _lost(request)
        if request.method == "GET":
            skip = int(request.query_params.get("_skip", 0))
            limit = int(request.query_params.get("_limit", 100))
            rows = [self.shown(kind, id) for id in self.rows[kind]]
            more = len(rows) > skip + limit
            return JSONResponse({"data": rows[skip : skip + limit], "has_more": more})
        body = await request.json()
        self.by(request, f"create {kind}")
        return JSONResponse(self.create(kind, body))

    async def one(self, request: Request) -> Response:
        kind, id = request.path_params["kind"], request.path_params["id"]
        if id not in self.rows.get(kind, {}):
            return _lost(request)
        if request.method == "PUT":
            self.by(request, f"update {kind}")
            self.change(kind, id, await request.json())
        elif request.method == "DELETE":
            self.by(request, f"delete {kind}")
            del self.rows[kind][id]
            self.tell(kind, id, "deleted", {})
            return JSONResponse({})
        return JSONResponse(self.shown(kind, id))

    def create(self, kind: str, body: Json) -> Json:
        id, at = f"{kind[:4]}_{self.next()}", _iso(time.time())
        inside = body.pop("contacts", [])
        row = {"id": id, "date_created": at, "date_updated": at, **body}
        if kind == "contact":
            row = {"emails": [], "phones": [], "title": None, "name": "", **row}
        self.rows[kind][id] = row
        for contact in inside:
            self.create("contact", {**contact, "lead_id": id})
        self.tell(kind, id, "created", self.rows[kind][id])
        return self.shown(kind, id)

    def change(self, kind: str, id: str, body: Json) -> None:
        row = self.rows[kind][id]
        before = {name: row.get(name) for name in body if row.get(name) != body[name]}
        row |= {**body, "date_updated": _iso(time.time())}
        self.tell(kind, id, "updated", row, changed_fields=list(before), previous_data=before)

    def shown(self, kind: str, id: str) -> Json:
        row = dict(self.rows[kind][id])
        if kind == "lead":
            row["contacts"] = [c for c in self.rows["contact"].values() if c["lead_id"] == id]
        return row

    def tell(self, kind: str, id: str, action: str, data: Json, **more: Any) -> None:
        at = datetime.now(UTC).replace(tzinfo=None).isoformat()
        self.told.put_nowait(
            {
                "id": f"ev_{self.next()}",
                "object_type": kind,
                "object_id": id,
                "action": action,
                "date_created": at,
                "date_updated": at,
                "data": dict(data),
                **more,
            }
        )

    def signed(self, event: Json, url: str) -> tuple[bytes, Json]:
        body = close_body(event)
        return body, close_headers(body)


@dataclass
class PlainHubSpot(Sketch):
    """Companies, contacts and deals by the single calls; ids are numbers. With `batches` those
    that take several and the search as well; what links there are is told by neither.
    """

    batches: bool = False

    def __post_init__(self) -> None:
        self.rows = {"companies": {}, "contacts": {}, "deals": {}}

    def routes(self) -> list[Route]:
        base = "/crm/v3/objects/{kind}"
        several = [
            Route(f"{base}/batch/{{verb}}", self.batch, methods=["POST"]),
            Route(f"{base}/search", self.search, methods=["POST"]),
        ]
        return [
            *(several if self.batches else []),
            Route(base, self.several, methods=["GET", "POST"]),
            Route(f"{base}/{{id}}", self.one, methods=["GET", "PATCH", "DELETE"]),
        ]

    async def several(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in self.rows:
            return _lost(request)
        if request.method == "GET":
            return JSONResponse({"results": list(self.rows[kind].values())})
        self.by(request, f"create {kind}")
        return JSONResponse(self.create(kind, (await request.json())["properties"]), 201)

    async def one(self, request: Request) -> Response:
        kind, id = request.path_params["kind"], request.path_params["id"]
        if (row := self.rows.get(kind, {}).get(id)) is None:
            return _lost(request)
        if request.method == "PATCH":
            self.by(request, f"update {kind}")
            self.change(kind, id, (await request.json())["properties"])
        elif request.method == "DELETE":
            self.by(request, f"delete {kind}")
            del self.rows[kind][id]
            self.tell(kind, id, "deletion")
            return Response(status_code=204)
        return JSONResponse(row)

    async def batch(self, request: Request) -> Response:
        kind, verb = request.path_params["kind"], request.path_params["verb"]
        body = await request.json()
        found: list[Json] = []
        name = body.get("idProperty")

        def key(row: Json) -> str:
            return str(row["properties"].get(name) if name else row["id"])

        for given in body["inputs"]:
            id = str(given.get("id"))
            if verb == "read":
                found += [row for row in self.rows[kind].values() if key(row) == id]
            elif verb == "create":
                self.by(request, f"create {kind}")
                found.append(self.create(kind, given["properties"]))
            elif verb == "update":
                self.by(request, f"update {kind}")
                self.change(kind, id, given["properties"])
                found.append(self.rows[kind][id])
        return JSONResponse({"status": "COMPLETE", "results": found})

    async def search(self, request: Request) -> Response:
        kind, body = request.path_params["kind"], await request.json()

        def fits(row: Json, one: Json) -> bool:
            value = row["properties"].get(one["propertyName"])
            return value in one.get("values", [one.get("value")])

        found = [
            row
            for row in self.rows[kind].values()
            if any(all(fits(row, f) for f in g["filters"]) for g in body["filterGroups"])
        ]
        return JSONResponse({"total": len(found), "results": found})

    def create(self, kind: str, properties: Json) -> Json:
        id = self.next()
        self.rows[kind][str(id)] = {"id": id, "properties": dict(properties)}
        self.tell(kind, str(id), "creation")
        return self.rows[kind][str(id)]

    def change(self, kind: str, id: str, properties: Json) -> None:
        self.rows[kind][id]["properties"] |= properties
        for name, value in properties.items():
            self.tell(kind, id, "propertyChange", propertyName=name, propertyValue=value)

    def tell(self, kind: str, id: str, what: str, **more: Any) -> None:
        word = {"companies": "company", "contacts": "contact", "deals": "deal"}[kind]
        self.told.put_nowait(
            [
                {
                    "eventId": self.next(),
                    "subscriptionId": 1,
                    "portalId": 1,
                    "appId": 1,
                    "occurredAt": int(time.time() * 1000),
                    "subscriptionType": f"{word}.{what}",
                    "attemptNumber": 0,
                    "objectId": int(id),
                    "changeSource": "CRM",
                    **more,
                }
            ]
        )

    def signed(self, events: Any, url: str) -> tuple[bytes, Json]:
        body = json.dumps(events).encode()
        return body, hubspot_headers(body, url)


@contextlib.asynccontextmanager
async def sketched(
    port: int, hooks: str, close: PlainClose, hubspot: PlainHubSpot
) -> AsyncIterator[None]:
    """Both at work: `/close`, `/hubspot`; what happens is told to the webhooks, once it answers."""
    app = Starlette(
        routes=[Mount("/close", routes=close.routes()), Mount("/hubspot", routes=hubspot.routes())]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))

    async def teller(
        name: str, crm: Sketch, sign: Callable[[Any, str], tuple[bytes, Json]]
    ) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                what, url = await crm.told.get(), f"{hooks}/{name}"
                while True:
                    body, headers = sign(what, url)
                    with contextlib.suppress(httpx.HTTPError):
                        if (await http.post(url, content=body, headers=headers)).is_success:
                            break
                    await asyncio.sleep(0.1)

    tasks = [
        asyncio.create_task(server.serve()),
        asyncio.create_task(teller("close", close, close.signed)),
        asyncio.create_task(teller("hubspot", hubspot, hubspot.signed)),
    ]
    try:
        yield
    finally:
        server.should_exit = True
        await tasks[0]
        for task in tasks[1:]:
            task.cancel()
