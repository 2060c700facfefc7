"""A Pub/Sub API in this process: it keeps events, tells them again, and refuses what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import fastavro
import grpc
import grpc.aio

from app.connectors.salesforce import protocol

HEADER: dict[str, Any] = {
    "type": "record",
    "name": "ChangeEventHeader",
    "namespace": "com.sforce.eventbus",
    "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": {"type": "array", "items": "string"}},
        {
            "name": "changeType",
            "type": {
                "type": "enum",
                "name": "ChangeType",
                "symbols": [
                    "CREATE",
                    "UPDATE",
                    "DELETE",
                    "UNDELETE",
                    "SNAPSHOT",
                    "GAP_CREATE",
                    "GAP_UPDATE",
                    "GAP_DELETE",
                    "GAP_UNDELETE",
                    "GAP_OVERFLOW",
                ],
            },
        },
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": {"type": "array", "items": "string"}},
        {"name": "diffFields", "type": {"type": "array", "items": "string"}},
        {"name": "changedFields", "type": {"type": "array", "items": "string"}},
    ],
}


def optional(name: str, type: Any, doc: str = "") -> dict[str, Any]:
    return {"name": name, "type": ["null", type], "doc": doc, "default": None}


def record(name: str, *fields: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [optional(f, "string") for f in fields]}


ADDRESS = record("Address", "Street", "City", "PostalCode")
CONTACT: dict[str, Any] = {
    "type": "record",
    "name": "ContactChangeEvent",
    "namespace": "com.sforce.eventbus",
    "fields": [
        {"name": "ChangeEventHeader", "type": HEADER},
        optional("AccountId", "string"),
        optional("Name", record("Switchable_PersonName", "FirstName", "LastName")),
        optional("MailingAddress", ADDRESS),
        optional("OtherAddress", "com.sforce.eventbus.Address"),
        optional("Email", "string"),
        optional("Birthdate", "long", "Data:DateOnly:00N000000000001"),
        optional("LastModifiedDate", "long", "CreatedDate:DateTime:00N000000000002"),
        optional("Score__c", "double"),
        optional("Home__c", "com.sforce.eventbus.Address"),
    ],
}
ROLE: dict[str, Any] = {
    "type": "record",
    "name": "OpportunityContactRoleChangeEvent",
    "namespace": "com.sforce.eventbus",
    "fields": [
        {"name": "ChangeEventHeader", "type": HEADER},
        optional("OpportunityId", "string"),
        optional("Role", "string"),
    ],
}
SCHEMAS = {"Contact": CONTACT, "OpportunityContactRole": ROLE, "Campaign": CONTACT}
TOKEN = "00D000000000001!good"
SIGNED = {
    "accesstoken": TOKEN,
    "instanceurl": "https://acme.example",
    "tenantid": "00D000000000001EAA",
}


def bits(*positions: int) -> str:
    return f"0x{sum(1 << position for position in positions):X}"


def change(
    kind: str = "UPDATE",
    *ids: str,
    object: str = "Contact",
    number: int = 1,
    changed: tuple[str, ...] = (),
    nulled: tuple[str, ...] = (),
    origin: str = "",
    at: int = 1_767_225_600_000,  # 2026-01-01
    **fields: Any,
) -> dict[str, Any]:
    """A change event, before it is encoded."""
    header = {
        "entityName": object,
        "recordIds": list(ids),
        "changeType": kind,
        "changeOrigin": origin,
        "transactionKey": f"000{number}-key",
        "sequenceNumber": 1,
        "commitTimestamp": at,
        "commitNumber": number,
        "commitUser": "005000000000001AAA",
        "nulledFields": list(nulled),
        "diffFields": [],
        "changedFields": list(changed),
    }
    return {"ChangeEventHeader": header, **fields}


class Server:
    """What was published, by whom it is asked, and how much was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens = {TOKEN}
        self.oldest = 0  # events before this are kept no more
        self.asked: list[Any] = []
        self.most = 0  # the most that was outstanding at once
        self.schemas_asked = 0
        self.streams = 0
        self._events: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()
        self._hang_up = False
        self.somebody = asyncio.Event()
        self.signed: dict[str, str] = {}  # the metadata of the last call

    def publish(self, *events: dict[str, Any], raw: bytes | None = None) -> None:
        for event in events:
            object = event["ChangeEventHeader"]["entityName"]
            out = io.BytesIO()
            fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[object]), event)
            self._events.append((object, out.getvalue() if raw is None else raw))
        self._tell()

    def beat(self) -> None:
        """Say that we live."""
        self._events.append(("", b""))
        self._tell()

    def hang_up(self) -> None:
        self._hang_up = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def subscribe(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        await self._check(context)
        first = await anext(requests)
        self.asked.append(first)
        self.somebody.set()
        at, room = await self._begin(first, context), first.num_requested
        more = asyncio.create_task(self._more(requests))
        self._room = room
        try:
            while True:
                if self._hang_up:
                    self._hang_up = False
                    return
                await self._check(context)
                self.most = max(self.most, self._room)
                told: list[Any] = []
                while at < len(self._events) and self._room and len(told) < 30:
                    object, payload = self._events[at]
                    at += 1
                    if not object:
                        yield protocol.FetchResponse(
                            latest_replay_id=at.to_bytes(8), pending_num_requested=self._room
                        )
                        continue
                    event = protocol.ProducerEvent(schema_id=object, payload=payload)
                    told.append(protocol.ConsumerEvent(event=event, replay_id=at.to_bytes(8)))
                    self._room -= 1
                if told:
                    yield protocol.FetchResponse(
                        events=told,
                        latest_replay_id=at.to_bytes(8),
                        pending_num_requested=self._room,
                    )
                    continue
                await self._news.wait()
        finally:
            more.cancel()

    async def _more(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            self.asked.append(request)
            self._room += request.num_requested
            self._tell()

    async def _begin(self, request: Any, context: Any) -> int:
        match request.replay_preset:
            case protocol.EARLIEST:
                return self.oldest
            case protocol.LATEST:
                return len(self._events)
        at = int.from_bytes(request.replay_id)
        if len(request.replay_id) != 8:
            await self._refuse(context, "corrupted")
        if at < self.oldest:
            await self._refuse(context, "validation.failed")
        return at

    async def _refuse(self, context: Any, how: str) -> None:
        word = f"sfdc.platform.eventbus.grpc.subscription.fetch.replayid.{how}"
        context.set_trailing_metadata((("error-code", word),))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the replay id is not valid")

    async def _check(self, context: Any) -> None:
        self.signed = given = dict(context.invocation_metadata())
        if given.get("accesstoken") in self.tokens and given.get("tenantid"):
            return
        context.set_trailing_metadata((("error-code", "sfdc.service.auth.error"),))
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication exception")

    async def get_schema(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.schemas_asked += 1
        schema = SCHEMAS[request.schema_id]
        return protocol.SchemaInfo(schema_json=json.dumps(schema), schema_id=request.schema_id)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    told, server = Server(), grpc.aio.server()
    handlers = {
        "Subscribe": grpc.stream_stream_rpc_method_handler(
            told.subscribe,
            request_deserializer=protocol.FetchRequest.FromString,
            response_serializer=protocol.FetchResponse.SerializeToString,
        ),
        "GetSchema": grpc.unary_unary_rpc_method_handler(
            told.get_schema,
            request_deserializer=protocol.SchemaRequest.FromString,
            response_serializer=protocol.SchemaInfo.SerializeToString,
        ),
    }
    service = grpc.method_handlers_generic_handler("eventbus.v1.PubSub", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told.url = f"http://127.0.0.1:{port}"
    try:
        yield told
    finally:
        await server.stop(None)
