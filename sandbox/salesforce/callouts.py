"""Call-outs: what a trigger of the customer's posts, signed after https://www.standardwebhooks.com.

Salesforce has no signed webhook of its own; the shape is the one that Syncline's Apex class sends.
"""

import base64
import hashlib
import hmac
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from sandbox.salesforce.derived import value
from sandbox.salesforce.transaction import Change, Transaction
from sandbox.wire import Json, Post, now

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce

GATHER = 0.05
WATCHED = (
    "Account",
    "Contact",
    "Lead",
    "Opportunity",
    "OpportunityContactRole",
    "Task",
    "Event",
    "Case",
)


def sign(secret: str, id: str, timestamp: str, body: bytes) -> str:
    """`webhook-signature` of the Standard Webhooks scheme, version 1."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def announce(org: "Salesforce", transaction: Transaction) -> None:
    """Queue a call-out for what a transaction changed, if there is somebody to call."""
    if not org.settings.webhook or not org.options.callouts:
        return
    call = transaction.call
    for change in transaction.changes.values():
        if change.record.type in WATCHED or change.record.type.endswith("__c"):
            event = _event(org, change, call.at, call.actor.user)
            org.sender.put("callout", event, after=GATHER, since=call.at)


def _event(org: "Salesforce", change: Change, at: datetime, user: str | None) -> Json:
    record = change.record
    event: Json = {
        "object": record.type,
        "id": record.id,
        "change": "merge" if change.master else change.kind,
        "at": at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "user": user,
    }
    if change.master:
        return {**event, "fields": {"MasterRecordId": change.master}}
    if record.type == "OpportunityContactRole":  # it is read through its opportunity
        event["fields"] = {"OpportunityId": value(org, record, "OpportunityId")}
    if org.options.callout_fields and change.kind in ("create", "update"):
        names = change.before if change.kind == "update" else record.fields
        told = {name: value(org, record, name) for name in names}
        event["fields"] = {**event.get("fields", {}), **told}
    return event


def post(org: "Salesforce", events: list[Json]) -> Post | None:
    """One request with up to a hundred events, signed now."""
    if not org.settings.webhook:
        return None
    body = orjson.dumps({"events": events})
    id, timestamp = f"msg_{uuid.uuid4().hex}", str(int(now().timestamp()))
    headers = {
        "content-type": "application/json",
        "user-agent": "SFDC-Callout/66.0",
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(org.settings.webhook_secret, id, timestamp, body),
    }
    return Post(org.settings.webhook, body, headers)
