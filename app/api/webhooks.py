"""Webhooks: verify, store, commit, answer. Nothing else while the sender waits.

A pure ASGI application in front of FastAPI, which owns /webhooks/ and hands on everything
else: the way through FastAPI's routing would cost most of the throughput. What it answers:

200 the delivery is durable (or was already); 401 not authentic, nothing stored; 404 no such
account; 405; 408 and 413 for a body that is too slow or too large; 429 for a source
of many forgeries; 503 with Retry-After for
whatever is our own trouble, foreseen or not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import clock, logs, metrics
from app.api import problems
from app.api.patience import Watch
from app.api.problems import Kind
from app.api.secrets import Secrets
from app.api.sources import Sources
from app.db import deliveries
from app.db.inbox import Inbox
from app.domain.values import Delivery
from app.errors import BadSignatureError, ReadinessError
from app.sdk.connector import Connector
from app.sdk.signature import path_token

log = logs.get()

PREFIX = "/webhooks/"
READ_PATIENCE = 20.0  # seconds for the whole body
STORE_PATIENCE = 4.0  # noticed up to half a second late; HubSpot hangs up after 5
#: Bodies that arrive in pieces may hold this much together; more is refused for now.
MOST_READING = 256 * 2**20
MOST_DRAINED = 64 * 2**20  # of a body that is too large, before the sender is cut off
DRAIN_PATIENCE = 3.0  # seconds
#: The scheme whose messages carry an id of their own.
NAMED = "standard-webhooks"
#: Never stored: they are credentials of somebody else.
_PRIVATE = ("authorization", "cookie", "proxy-authorization")


class SenderGoneError(Exception):
    """The sender hung up; nobody waits for an answer."""


class RefusedError(Exception):
    """The delivery is answered with a problem; ``reason`` is the label of the metric."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        reason: str,
        *,
        headers: Mapping[str, str] | None = None,
        unread: bool = False,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.reason = reason
        self.headers = dict(headers or {})
        self.unread = unread  # the sender has not sent the whole body yet


@dataclass(frozen=True, slots=True)
class Doors:
    """What the front needs once the service is up."""

    connectors: Mapping[str, Connector]
    secrets: Secrets
    inbox: Inbox
    body_limit: int
    public_url: str | None


def _answer(
    status: int, body: bytes, media_type: str = "application/json"
) -> tuple[Message, Message]:
    """Start and body of an answer, ready to be sent any number of times."""
    head = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": status, "headers": head}
    return start, {"type": "http.response.body", "body": body}


_STORED = _answer(200, b'{"status":"ok","duplicate":false}')
_KNOWN = _answer(200, b'{"status":"ok","duplicate":true}')
_HERE = _answer(200, b'{"status":"ok"}')


class WebhookFront:
    """The outermost application: webhooks are its own, the rest is the inner one's."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner
        self.watch = Watch()
        self.sources = Sources()
        self._doors: Doors | None = None
        self._reading = 0

    def open(self, doors: Doors) -> None:
        """Begin to accept."""
        self._doors = doors
        self.watch.open()

    async def close(self) -> None:
        """From now on every delivery is asked to come back."""
        self._doors = None
        await self.watch.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.inner(scope, receive, send)
            return
        account = ""
        try:
            doors = self._doors
            if doors is None:
                raise ReadinessError("the service is starting or stopping")
            account = _account(scope, doors)
            start, body = await self._receive(scope, receive, account, doors)
        except SenderGoneError:
            _count(account, "refused", "hung up").inc()
            return
        except RefusedError as refused:
            if refused.unread:
                await self._drain(receive)
            start, body = self._refuse(scope, account, refused)
        except ReadinessError as error:
            start, body = self._unavailable(scope, account, str(error))
        except Exception as error:
            # Whatever this is, the sender did nothing wrong: it keeps its copy and returns.
            log.error("delivery.broke", account=account, exc_info=error)
            start, body = self._unavailable(scope, account, "something of ours broke")
        await send(start)
        await send(body)

    # ------------------------------------------------------------------- one delivery

    async def _receive(
        self, scope: Scope, receive: Receive, account: str, doors: Doors
    ) -> tuple[Message, Message]:
        """The story of one webhook."""
        if scope["method"] != "POST":
            if scope["method"] in ("GET", "HEAD"):
                return _HERE
            raise RefusedError(
                problems.METHOD_NOT_ALLOWED,
                "A webhook is a POST; GET and HEAD only say that somebody is here.",
                "method",
                headers={"allow": "GET, HEAD, POST"},
            )
        body: bytes | None = None
        try:
            with self.watch.limit(READ_PATIENCE) as limit:
                headers = _headers(scope)
                body = await self._body(headers, receive, doors.body_limit)
                started = time.perf_counter()
                limit.renew(STORE_PATIENCE)
                delivery = Delivery(
                    account, "POST", _target(scope), headers, body, received_at=clock.now()
                )
                connector = doors.connectors[account]
                await self._verify(delivery, scope, connector, doors)
                in_path = bool(path_token(delivery.target))
                if in_path:  # a secret has no place in the database, nor in what shows it
                    delivery = replace(delivery, target=f"{PREFIX}{account}/*")
                named = NAMED in connector.manifest.signature and not in_path
                key = deliveries.key(delivery, named=named)
                new = await doors.inbox.accept(delivery, key)
        except TimeoutError:
            if body is None:
                raise RefusedError(
                    problems.TOO_SLOW,
                    f"The body was not here after {READ_PATIENCE:.0f} seconds.",
                    "too slow",
                    headers={"connection": "close"},
                ) from None
            raise ReadinessError("the database did not store the delivery in time") from None
        _count(account, "accepted" if new else "duplicate", "").inc()
        _seconds(account).observe(time.perf_counter() - started)
        if in_path:
            return _receipt(*connector.receipt)
        return _STORED if new else _KNOWN

    async def _body(self, headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
        """The exact bytes. Refuses by content-length before it reads anything."""
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit, unread=True)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise SenderGoneError
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > limit:
                raise _too_large(limit)
            return body
        return await self._pieces(receive, body, limit)

    async def _pieces(self, receive: Receive, first: bytes, limit: int) -> bytes:
        """The rest of a body that arrives in pieces; all such bodies together are bounded."""
        pieces = bytearray(first)
        self._reading += len(first)
        try:
            while True:
                if len(pieces) > limit:
                    raise _too_large(limit, unread=True)
                if self._reading > MOST_READING:
                    raise ReadinessError("too many large bodies are on their way at once")
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SenderGoneError
                piece = message.get("body", b"")
                pieces += piece
                self._reading += len(piece)
                if not message.get("more_body", False):
                    break
        finally:
            self._reading -= len(pieces)
        if len(pieces) > limit:
            raise _too_large(limit)
        return bytes(pieces)

    async def _drain(self, receive: Receive) -> None:
        """Read the rest of a refused body and forget it, within reason.

        Closing on a sender that is still sending resets the connection, and it never sees why.
        """
        left = MOST_DRAINED
        with contextlib.suppress(TimeoutError), self.watch.limit(DRAIN_PATIENCE):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))

    async def _verify(
        self, delivery: Delivery, scope: Scope, connector: Connector, doors: Doors
    ) -> None:
        """Pass if the delivery is authentic. Raises RefusedError."""
        public_url = doors.public_url or _called(scope, delivery)
        while True:
            secrets = doors.secrets.of(delivery.account)
            try:
                if not secrets:
                    raise BadSignatureError("this account has no webhook secret")
                connector.verify(
                    delivery,
                    connector.account,
                    secrets,
                    public_url=public_url,
                    now=delivery.received_at,
                )
            except BadSignatureError as error:
                if await doors.secrets.refresh_before_refusing(delivery.account):
                    continue
                self._count_forged(scope, delivery.account, error)
                raise RefusedError(
                    problems.BAD_SIGNATURE,
                    "Its signature is missing, does not fit this account's webhook secret, or is "
                    "too old. Nothing was stored.",
                    "signature" if secrets else "no secret",
                ) from None
            _note_use(delivery, connector, secrets, doors, public_url)
            return

    def _count_forged(self, scope: Scope, account: str, error: BadSignatureError) -> None:
        """Raise RefusedError for a source that sends nothing else; whoever signs is let in."""
        source = (scope.get("client") or ("nowhere",))[0]
        wait = self.sources.refused(source)
        if not wait:
            log.warning("delivery.refused", account=account, reason=error.reason)
            return
        # Their line would be in the log as often as they like.
        raise RefusedError(
            problems.TOO_MANY,
            "Too many deliveries with a bad signature came from there. Nothing was stored.",
            "too many",
            headers={"retry-after": str(math.ceil(wait)), "connection": "close"},
        ) from None

    # ----------------------------------------------------------------------- answers

    def _refuse(self, scope: Scope, account: str, refused: RefusedError) -> tuple[Message, Message]:
        _count(account, "refused", refused.reason).inc()
        return _problem(scope, refused.kind, refused.detail, refused.headers)

    def _unavailable(self, scope: Scope, account: str, reason: str) -> tuple[Message, Message]:
        _count(account, "refused", "unavailable").inc()
        log.warning("delivery.put_off", account=account, reason=reason)
        headers = {"retry-after": problems.RETRY_AFTER}
        detail = f"This is our own trouble: {reason}. Please send it again."
        return _problem(scope, problems.UNAVAILABLE, detail, headers)


def _account(scope: Scope, doors: Doors) -> str:
    """The account that the path names. Raises RefusedError."""
    name, _, token = scope["path"][len(PREFIX) :].partition("/")
    connector = doors.connectors.get(name)
    if connector is not None and (not token or connector.manifest.webhook.in_path):
        return str(name)
    log.info("delivery.refused", reason="unknown account", account=name[:80])
    raise RefusedError(
        problems.UNKNOWN_ACCOUNT,
        "No account of this name is configured here; names are case-sensitive.",
        "unknown account",
    )


def _headers(scope: Scope) -> dict[str, str]:
    """The headers to verify and to keep, by lower-case name."""
    raw = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) < len(raw):  # some came more than once
        headers = {}
        for name, value in raw:
            said = headers.get(name.decode("latin-1"))
            text = value.decode("latin-1")
            headers[name.decode("latin-1")] = text if said is None else f"{said}, {text}"
    for name in _PRIVATE:
        headers.pop(name, None)
    return headers


def _target(scope: Scope) -> str:
    """Path and query exactly as on the wire."""
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return target.decode("latin-1")


def _note_use(
    delivery: Delivery,
    connector: Connector,
    secrets: Sequence[SecretStr],
    doors: Doors,
    public_url: str,
) -> None:
    """Remember which of the secrets fitted: when it is rotated, that tells whether it may go.

    That one of them does was decided by all of them together; asked alone, some may fit that
    would not have been asked.
    """
    for secret in secrets:
        if len(secrets) > 1:
            try:
                connector.verify(
                    delivery,
                    connector.account,
                    [secret],
                    public_url=public_url,
                    now=delivery.received_at,
                )
            except BadSignatureError:
                continue
        doors.secrets.used(delivery.account, secret)
        return


def _called(scope: Scope, delivery: Delivery) -> str:
    """The address as the sender wrote it, for those who run without PUBLIC_URL."""
    return f"{scope['scheme']}://{delivery.headers.get('host', '')}"


def _too_large(limit: int, *, unread: bool = False) -> RefusedError:
    return RefusedError(
        problems.TOO_LARGE,
        f"A webhook may have {limit} bytes here (body_limit in the configuration).",
        "too large",
        headers={"connection": "close"},  # spare both of us the rest
        unread=unread,
    )


def _problem(
    scope: Scope, kind: Kind, detail: str, headers: Mapping[str, str]
) -> tuple[Message, Message]:
    # What stands behind the account's name may be a secret.
    name = scope["path"][len(PREFIX) :].partition("/")[0]
    body = problems.document(kind, detail, f"{PREFIX}{name}", {})
    all_headers = {
        "content-type": problems.MEDIA_TYPE,
        "content-length": str(len(body)),
        **headers,
    }
    raw = [(name.encode(), value.encode("latin-1")) for name, value in all_headers.items()]
    return (
        {"type": "http.response.start", "status": kind.status, "headers": raw},
        {"type": "http.response.body", "body": body},
    )


@lru_cache
def _receipt(media_type: str, text: str) -> tuple[Message, Message]:
    return _answer(200, text.encode(), media_type)


@lru_cache(maxsize=1024)
def _count(account: str, outcome: str, reason: str) -> Counter:
    return metrics.DELIVERIES.labels(account, outcome, reason)


@lru_cache(maxsize=1024)
def _seconds(account: str) -> Histogram:
    return metrics.INGEST_SECONDS.labels(account)


# --------------------------------------------------------------------------- OpenAPI


class Receipt(BaseModel):
    """The delivery is durable; ``duplicate`` says that it already was."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok", "duplicate": False}})

    status: Literal["ok"]
    duplicate: bool = Field(description="The same delivery had been stored before")


router = APIRouter(tags=["webhooks"])

_REFUSALS = problems.responses(
    problems.BAD_SIGNATURE,
    problems.UNKNOWN_ACCOUNT,
    problems.METHOD_NOT_ALLOWED,
    problems.TOO_SLOW,
    problems.TOO_LARGE,
    problems.TOO_MANY,
    problems.UNAVAILABLE,
)


@router.post(
    "/webhooks/{account}",
    responses=_REFUSALS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The vendor's own bytes, signed the vendor's own way",
            "content": {"application/json": {"schema": {}}},
        },
        "security": [],
    },
)
async def receive(account: str) -> Receipt:
    """Where a CRM sends its webhooks.

    The signature is checked over the exact bytes; 200 is said only once the delivery is
    durable. Whatever is our own trouble is a 503 with `Retry-After`. `GET` and `HEAD` answer
    200 for a known account, for CRMs that look whether somebody is here.
    """
    # The front answers before FastAPI is asked; this is here for the documentation.
    raise ReadinessError(f"no webhook front stands before {account}")


@router.post(
    "/webhooks/{account}/{token}",
    response_class=Response,
    responses={
        200: {
            "description": "It is durable; Salesforce's Ack",
            "content": {"text/xml": {"schema": {"type": "string"}}},
        },
        **_REFUSALS,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "An Outbound Message of Salesforce: SOAP 1.1",
            "content": {"text/xml": {"schema": {"type": "string"}}},
        },
        "security": [],
    },
)
async def receive_unsigned(account: str, token: str) -> Response:
    """Where a CRM sends what nothing signs: the token in the path stands for the signature.

    Salesforce's Outbound Messages: their organisation must be that of the account, too, and the
    answer is an XML Ack, which is sent only once the delivery is durable. Otherwise as above.
    """
    raise ReadinessError(f"no webhook front stands before {account}")
