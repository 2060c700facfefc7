"""Salesforce's Pub/Sub API: a stream of changes over gRPC, asked for a hundred at a time.

https://developer.salesforce.com/docs/platform/pub-sub-api/guide/intro.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import fastavro
import grpc
import grpc.aio
import orjson

from app.connectors.salesforce import capture, protocol
from app.connectors.salesforce.protocol import CUSTOM, EARLIEST, LATEST
from app.sdk import AccountError, BadPayloadError, Heard, TransientError

URL = "https://api.pubsub.salesforce.com:7443"
#: Everything that is selected for Change Data Capture.
TOPIC = "/data/ChangeEvents"
#: Events that may be outstanding; who asks for more is treated as if it were this.
MOST = 100
#: A stream without events says within 270 seconds that it lives.
SILENCE = 330.0
PATIENCE = 30.0

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A connection that died without a word is found by these.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_receive_message_length", 32 * 2**20),
)
#: It is older than what is kept, or is none of this topic:
#: https://developer.salesforce.com/docs/platform/pub-sub-api/guide/handling-errors.html
_BAD_POSITION = "subscription.fetch.replayid"
_DENIED = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
)

#: The metadata of a call: `accesstoken`, `instanceurl`, `tenantid`.
SignIn = Mapping[str, str]


class SignedOutError(Exception):
    """The session is over."""


class LostPositionError(Exception):
    """What came after this position is not kept any more."""


async def listen(
    url: str,
    wanted: Mapping[str, str],
    position: str | None,
    sign_in: Callable[[SignIn | None], Awaitable[SignIn]],
    look_up: Callable[[str], Awaitable[Sequence[str]]],
) -> AsyncGenerator[Heard, None]:
    """What changes from a position on, else from now on; ends only by an error.

    ``wanted`` are the objects that concern us with their entities. ``sign_in`` is told what was
    refused, ``look_up`` says at which addresses we may call. Raises AccountError and
    TransientError.
    """
    refused: SignIn | None = None
    lost: str | None = None
    while True:
        signed = await sign_in(refused)
        bus = Bus(url, await look_up(url), signed, wanted)
        try:
            async with aclosing(bus.listen(position, lost=lost)) as told:
                async for heard in told:
                    position, lost, refused = heard.position, None, None
                    yield heard
        except SignedOutError:
            if refused is not None:
                raise AccountError("the Pub/Sub API does not take our session") from None
            refused = signed
        except LostPositionError as error:
            if lost is not None:
                raise TransientError(str(error)) from None
            # Whatever is kept is told again; what was before, a reading of the log finds.
            lost = str(error)
        finally:
            await bus.aclose()


class Bus:
    """One connection of one account."""

    def __init__(
        self, url: str, addresses: Sequence[str], signed: SignIn, wanted: Mapping[str, str]
    ) -> None:
        self._wanted = wanted
        self._metadata = tuple(signed.items())
        self._channel = _channel(url, addresses)
        self._subscribe = self._channel.stream_stream(
            "/eventbus.v1.PubSub/Subscribe",
            request_serializer=protocol.FetchRequest.SerializeToString,
            response_deserializer=protocol.FetchResponse.FromString,
        )
        self._get_schema = self._channel.unary_unary(
            "/eventbus.v1.PubSub/GetSchema",
            request_serializer=protocol.SchemaRequest.SerializeToString,
            response_deserializer=protocol.SchemaInfo.FromString,
        )
        self._schemas: dict[str, tuple[Any, Any]] = {}

    async def aclose(self) -> None:
        await self._channel.close()

    async def listen(
        self, position: str | None, *, lost: str | None = None
    ) -> AsyncGenerator[Heard, None]:
        """All that is kept where something was ``lost``, else what is new."""
        call = self._subscribe(metadata=self._metadata)
        first: dict[str, Any] = {"replay_preset": LATEST}
        if lost is not None:
            first = {"replay_preset": EARLIEST}
        elif position is not None:
            first = {"replay_preset": CUSTOM, "replay_id": bytes.fromhex(position)}
        asked = protocol.FetchRequest(topic_name=TOPIC, num_requested=MOST, **first)
        outstanding = MOST
        try:
            await call.write(asked)
            while True:
                async with asyncio.timeout(SILENCE):
                    told = await call.read()
                if told is grpc.aio.EOF:
                    await _raise_why(call)
                if heard := await self._heard(told, lost):
                    lost = None
                    yield heard  # it comes back for more once this is stored
                outstanding -= len(told.events)
                if not told.events:  # nothing is on its way: it knows better
                    outstanding = told.pending_num_requested
                if outstanding <= MOST // 2:
                    room = MOST - outstanding
                    await call.write(protocol.FetchRequest(topic_name=TOPIC, num_requested=room))
                    outstanding = MOST
        except TimeoutError:
            raise TransientError("the Pub/Sub API has been silent for too long") from None
        except asyncio.InvalidStateError:
            await _raise_why(call)  # it had ended before we wrote
        except grpc.aio.AioRpcError as error:
            raise _sorted(error) from None
        finally:
            call.cancel()

    async def _heard(self, told: Any, lost: str | None) -> Heard | None:
        bodies: list[bytes] = []
        unnamed: dict[str, datetime] = {}
        for one in told.events:
            try:
                schema, record = await self._decoded(one.event)
                header = record[capture.HEADER]
                entity = self._wanted.get(header["entityName"])
                if entity is None:
                    continue
                bodies.append(capture.told(schema, record))
                if capture.names_nobody(header, record):
                    since = capture.since(header)
                    unnamed[entity] = min(since, unnamed.get(entity, since))
            except (BadPayloadError, LookupError, ValueError, TypeError, EOFError) as error:
                # Nobody could read it tomorrow either; what it told is found by looking.
                lost = lost or f"an event cannot be decoded: {error}"
        position = told.events[-1].replay_id if told.events else told.latest_replay_id
        if not position:
            return None
        return Heard(position.hex(), tuple(bodies), unnamed, lost)

    async def _decoded(self, event: Any) -> tuple[Any, Any]:
        """The schema of an event, and what it says."""
        known = self._schemas.get(event.schema_id)
        if known is None:
            asked = protocol.SchemaRequest(schema_id=event.schema_id)
            answer = await self._get_schema(asked, metadata=self._metadata, timeout=PATIENCE)
            raw = orjson.loads(answer.schema_json)
            known = (capture.spelled_out(raw), fastavro.parse_schema(raw))
            self._schemas[event.schema_id] = known
        spelled_out, parsed = known
        return spelled_out, fastavro.schemaless_reader(BytesIO(event.payload), parsed, None)


def _channel(url: str, addresses: Sequence[str]) -> Any:
    """A channel to these addresses, and to nobody who cannot prove to be the host of the URL."""
    parts = urlsplit(url)
    options = (*_OPTIONS, ("grpc.default_authority", parts.netloc))
    target = _target(parts.hostname or "", addresses, parts.port or 443)
    if parts.scheme == "http":  # a sandbox on this machine
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options)


def _target(host: str, addresses: Sequence[str], port: int) -> str:
    """As gRPC names addresses; a name it would look up by itself, and call what nobody looked at.

    https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    fourth = [f"{one}:{port}" for one in addresses if ":" not in one]
    sixth = [f"[{one}]:{port}" for one in addresses if ":" in one]
    if list(addresses) == [host]:  # it is written, or may lead anywhere
        return (fourth or sixth)[0]
    return f"ipv4:{','.join(fourth)}" if fourth else f"ipv6:{','.join(sixth)}"


async def _raise_why(call: Any) -> None:
    """Raise what ended the stream."""
    code, details = await call.code(), await call.details()
    if code is grpc.StatusCode.OK:
        raise TransientError("the Pub/Sub API ended the stream")
    trailing = await call.trailing_metadata()
    raise _sorted(grpc.aio.AioRpcError(code, (), trailing, details))


def _sorted(error: Any) -> Exception:
    """A refusal by its remedy. The vendor's own word for it is in the trailer."""
    trailer = dict(error.trailing_metadata() or ())
    word = str(trailer.get("error-code", ""))
    said = f"the Pub/Sub API refuses: {word or error.code().name}: {error.details() or ''}"[:300]
    if _BAD_POSITION in word:
        return LostPositionError(said)
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return SignedOutError(said)
    if error.code() in _DENIED:
        return AccountError(f"{said}: is Change Data Capture on, and may our user see all?")
    return TransientError(said)
