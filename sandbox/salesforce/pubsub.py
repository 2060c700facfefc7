"""The Pub/Sub API: change events over gRPC, as many at a time as the subscriber asks for.

https://developer.salesforce.com/docs/platform/pub-sub-api/guide/intro.html
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import grpc
import grpc.aio

from sandbox.faults import Faults
from sandbox.salesforce.avro import Shape
from sandbox.salesforce.bus import ALL, CAPTURED, Told, replay_id, topic
from sandbox.salesforce.defaults import ORGANIZATION
from sandbox.salesforce.messages import CUSTOM, EARLIEST, PACKAGE, messages
from sandbox.salesforce.org import Salesforce
from sandbox.wire import now

MOST = 100
SERVICE = f"{PACKAGE}.PubSub"
_ERROR = "sfdc.platform.eventbus.grpc"
_FETCH = f"{_ERROR}.subscription.fetch"
_LOOK = 0.2  # seconds between looks at the session, and at outages


class PubSub:
    """The gRPC server of one organisation."""

    def __init__(self, org: Salesforce, faults: Faults) -> None:
        self.org, self.faults = org, faults
        self._shapes: dict[object, Shape] = {}
        self._by_id: dict[str, Shape] = {}

    @contextlib.asynccontextmanager
    async def serving(self, address: str) -> AsyncIterator[int]:
        """Serve while inside; the port it listens on."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        port = server.add_insecure_port(address)
        await server.start()
        try:
            yield port
        finally:
            await server.stop(0.1)

    def _handlers(self) -> Any:
        def coded(request: str, answer: str) -> dict[str, Any]:
            return {
                "request_deserializer": messages[request].FromString,
                "response_serializer": messages[answer].SerializeToString,
            }

        topics = coded("TopicRequest", "TopicInfo")
        schemas = coded("SchemaRequest", "SchemaInfo")
        fetches = coded("FetchRequest", "FetchResponse")
        methods = {
            "GetTopic": grpc.unary_unary_rpc_method_handler(self.topic, **topics),
            "GetSchema": grpc.unary_unary_rpc_method_handler(self.schema, **schemas),
            "Subscribe": grpc.stream_stream_rpc_method_handler(self.subscribe, **fetches),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    # -- the calls --

    async def topic(self, request: Any, context: Any) -> Any:
        await self._admit(context, "GetTopic")
        shape = await self._topic_shape(request.topic_name, context)
        return messages["TopicInfo"](
            topic_name=request.topic_name,
            tenant_guid=f"core/sandbox/{ORGANIZATION}",
            can_subscribe=True,
            schema_id=shape.id if shape else "",
            rpc_id=str(uuid.uuid4()),
        )

    async def schema(self, request: Any, context: Any) -> Any:
        await self._admit(context, "GetSchema")
        shape = self._by_id.get(request.schema_id)
        if shape is None:
            code = f"{_ERROR}.schema.not.found"
            await _refuse(context, grpc.StatusCode.NOT_FOUND, code, "There is no such schema")
            raise AssertionError
        return messages["SchemaInfo"](
            schema_json=shape.text, schema_id=shape.id, rpc_id=str(uuid.uuid4())
        )

    async def subscribe(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Events from the position of the first request on, while some are asked for."""
        await self._admit(context, "Subscribe")
        first = await anext(aiter(requests))
        wanted, pending = first.topic_name, await self._asked(first, context)
        await self._topic_shape(wanted, context)
        number = await self._position(first, context)
        more: asyncio.Queue[Any] = asyncio.Queue()
        news = asyncio.Event()
        reading = asyncio.create_task(_read(requests, more, news))
        self.org.bus.waiting.add(news)
        told_at = now()
        try:
            while not (reading.done() and more.empty() and not pending):
                await self._admit(context, "Subscribe")
                news.clear()
                while not more.empty():
                    pending = min(pending + await self._asked(more.get_nowait(), context), MOST)
                events = list(islice(self.org.bus.after(number, wanted), pending))
                silent = (now() - told_at).total_seconds() >= self.org.options.keep_alive
                if events or silent:
                    number = events[-1].number if events else self.org.bus.number
                    pending -= len(events)
                    told_at = now()
                    yield self._response(events, number, pending)
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), _LOOK)
        finally:
            reading.cancel()
            self.org.bus.waiting.discard(news)

    def _response(self, events: list[Told], number: int, pending: int) -> Any:
        consumed = [
            messages["ConsumerEvent"](
                event=messages["ProducerEvent"](
                    id=str(uuid.uuid4()),
                    schema_id=self._shape(event.entity).id,
                    payload=self._shape(event.entity).payload(event),
                ),
                replay_id=event.replay_id,
            )
            for event in events
        ]
        return messages["FetchResponse"](
            events=consumed,
            latest_replay_id=replay_id(number),
            rpc_id=str(uuid.uuid4()),
            pending_num_requested=pending,
        )

    # -- what may be asked --

    async def _admit(self, context: Any, method: str) -> None:
        """Refuse who has no session, and everybody during an outage."""
        # Of the faults only an outage is one of everything.
        path, at = f"/{SERVICE}/{method}", now()
        outages = (fault for fault in self.faults.active if fault.kind == "outage")
        if any(fault.matches("salesforce", "GRPC", path, at) for fault in outages):
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, f"{_ERROR}.service.unavailable")
        given = dict(context.invocation_metadata())
        session = self.org.sessions.get(str(given.get("accesstoken", "")))
        if session is None or given.get("tenantid") != ORGANIZATION or not given.get("instanceurl"):
            code = f"{_ERROR}.service.auth.error"
            text = "Authentication exception occurred. Check the session"
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, code, text)

    async def _topic_shape(self, name: str, context: Any) -> Shape | None:
        """The shape of a topic's events; none where they have several."""
        if name == ALL:
            return None
        custom = [name for name, found in self.org.schema.objects.items() if found.custom]
        for entity in (*CAPTURED, *custom):
            if topic(entity) == name:
                return self._shape(entity)
        code = f"{_ERROR}.topic.not.found"
        await _refuse(context, grpc.StatusCode.NOT_FOUND, code, f"The topic {name} is not there")
        raise AssertionError

    def _shape(self, entity: str) -> Shape:
        key = (entity, self.org.schema.changed)
        if key not in self._shapes:
            type = self.org.schema.get(entity)
            assert type is not None
            self._shapes[key] = shape = Shape(type)
            self._by_id[shape.id] = shape
        return self._shapes[key]

    async def _asked(self, request: Any, context: Any) -> int:
        if request.num_requested <= 0:
            code = f"{_FETCH}.requested.events.invalid"
            text = "num_requested must be greater than 0"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, code, text)
        return min(int(request.num_requested), MOST)

    async def _position(self, request: Any, context: Any) -> int:
        """The number after which to begin."""
        bus = self.org.bus
        if request.replay_preset == EARLIEST:
            return bus.first - 1
        if request.replay_preset != CUSTOM:
            return bus.number
        text = "The Replay ID validation failed. Ensure that the Replay ID is valid."
        if len(request.replay_id) != len(replay_id(0)) or request.replay_id[-2:] != b"\0\0":
            code = f"{_FETCH}.replayid.corrupted"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, code, text)
        number = int.from_bytes(request.replay_id[:8], "big")
        if not bus.first - 1 <= number <= bus.number:
            code = f"{_FETCH}.replayid.validation.failed"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, code, text)
        return number


async def _refuse(context: Any, status: Any, code: str, text: str = "") -> None:
    context.set_trailing_metadata((("error-code", code),))
    await context.abort(status, text or code)


async def _read(requests: Any, into: "asyncio.Queue[Any]", news: asyncio.Event) -> None:
    async for request in requests:
        into.put_nowait(request)
        news.set()
