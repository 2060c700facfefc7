"""What HubSpot announces, and how it signs and groups it.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide and
https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
"""

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from sandbox.hubspot.schema import TYPES
from sandbox.wire import Call, Json, Post, now

if TYPE_CHECKING:
    from sandbox.hubspot.app import HubSpot
    from sandbox.hubspot.portal import Portal

GATHER = 0.05
ANNOUNCED = ("contact", "company", "deal", "ticket")
# Texts of e-mails travel in no webhook.
UNHEARD = (("email", "hs_email_html"), ("email", "hs_email_subject"))
_DECODED = re.compile(r"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def sign_v1(secret: str, body: bytes) -> str:
    """`X-HubSpot-Signature`, version v1: a plain hash of secret and body."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def sign_v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """`X-HubSpot-Signature-v3`: base64 HMAC of method, URI, body and milliseconds."""
    plain = _DECODED.sub(lambda match: unquote(match.group()), uri)
    message = (method + plain).encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def announce(
    app: "HubSpot",
    portal: "Portal",
    call: Call,
    type: str,
    kind: str,
    *,
    generic: Json | None = None,
    typed: bool = True,
    **more: Any,
) -> None:
    """Queue an event such as `contact` `creation` for every subscription to it.

    `generic` is what only the `object.` form carries; some news has no other form.
    """
    for id, name in _heard(app, type, kind, more.get("propertyName"), typed=typed):
        event = {
            "eventId": secrets.randbelow(2**32),
            "subscriptionId": id,
            "portalId": portal.id,
            "appId": app.settings.app_id,
            "occurredAt": int(call.at.timestamp() * 1000),
            "subscriptionType": name,
            "attemptNumber": 0,
            "changeSource": call.actor.source,
            "sourceId": call.actor.source_id,
            **more,
        }
        if name.startswith("object."):
            event |= {"objectTypeId": TYPES[type].id, **(generic or {})}
        app.sender.put("app", event, after=GATHER, since=call.at)


def _heard(
    app: "HubSpot", type: str, kind: str, property: str | None, *, typed: bool
) -> Iterator[tuple[int, str]]:
    """The subscriptions to an event: id and name.

    A target from the command line is subscribed to everything in one form, one set through the
    API only to what was asked for.
    """
    own = f"{type}.{kind}" if typed and type in ANNOUNCED else None
    if not app.target or (type, property) in UNHEARD:
        return
    if app.settings.target:
        if own or type not in ANNOUNCED:
            name = own or f"object.{kind}"
            yield zlib.crc32(f"{name} {type} {property}".encode()), name
        return
    for id, row in app.subscriptions.items():
        if not row["active"] or row.get("propertyName") != property:
            continue
        generic = row["eventType"] == f"object.{kind}" and row["objectTypeId"] == TYPES[type].id
        if generic or row["eventType"] == own:
            yield int(id), row["eventType"]


def post(app: "HubSpot", batch: list[Json], attempt: int) -> Post | None:
    """One request with up to a hundred events, signed now in both ways."""
    if not app.target:
        return None
    body = orjson.dumps([{**event, "attemptNumber": attempt} for event in batch])
    timestamp = str(int(now().timestamp() * 1000))
    secret = app.settings.client_secret
    headers = {
        "content-type": "application/json;charset=utf-8",
        "user-agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio)",
        "X-HubSpot-Signature": sign_v1(secret, body),
        "X-HubSpot-Signature-Version": "v1",
        "X-HubSpot-Signature-v3": sign_v3(secret, "POST", app.target, body, timestamp),
        "X-HubSpot-Request-Timestamp": timestamp,
    }
    return Post(app.target, body, headers)
