"""Outbound Messages: SOAP with the latest values of records, sent again until acknowledged.

https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_notifications.htm
"""

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import httpx
from lxml import etree

from sandbox.salesforce.callouts import GATHER, WATCHED
from sandbox.salesforce.defaults import ORGANIZATION
from sandbox.salesforce.derived import value
from sandbox.salesforce.ids import numbered
from sandbox.salesforce.transaction import Transaction
from sandbox.wire import Json, Post

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce

_ACK = "{http://soap.sforce.com/2005/09/outbound}Ack"
_ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" \
xmlns:xsd="http://www.w3.org/2001/XMLSchema" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <soapenv:Body>
  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
   <OrganizationId>{organization}</OrganizationId>
   <ActionId>{action}</ActionId>
   <SessionId xsi:nil="true"/>
   <EnterpriseUrl>https://sandbox.invalid/services/Soap/c/66.0</EnterpriseUrl>
   <PartnerUrl>https://sandbox.invalid/services/Soap/u/66.0</PartnerUrl>
{notifications}
  </notifications>
 </soapenv:Body>
</soapenv:Envelope>"""
_NOTIFICATION = """   <Notification>
    <Id>{id}</Id>
    <sObject xsi:type="sf:{type}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">
     <sf:Id>{record}</sf:Id>
{fields}
    </sObject>
   </Notification>"""


def announce(org: "Salesforce", transaction: Transaction) -> None:
    """Queue a message for each record that was made or changed; deletions are not told."""
    if not org.settings.outbound or not org.options.outbound_messages:
        return
    at = transaction.call.at
    for change in transaction.changes.values():
        if change.kind in ("create", "update", "undelete") and change.record.type in WATCHED:
            event = {"id": org.next_id("04l"), "record": change.record.id}
            org.outbound.put(change.record.type, event, after=GATHER, since=at)


def post(org: "Salesforce", type: str, events: list[Json]) -> Post | None:
    """One message of one action with up to a hundred notifications; None if all are gone."""
    told = []
    for event in events:
        record = org.store.get(type, event["record"])
        if record is None:
            continue
        names = [f.name for f in org.schema.objects[type].fields.values() if f.filterable]
        fields = {name: value(org, record, name) for name in names if name != "Id"}
        lines = [
            f"     <sf:{name}>{escape(_text(there))}</sf:{name}>"
            for name, there in fields.items()
            if there is not None
        ]
        known = {"id": event["id"], "type": type, "record": record.id}
        told.append(_NOTIFICATION.format(**known, fields="\n".join(lines)))
    if not told or not org.settings.outbound:
        return None
    action = numbered("04k", WATCHED.index(type) + 1)
    body = _ENVELOPE.format(organization=ORGANIZATION, action=action, notifications="\n".join(told))
    headers = {"content-type": "text/xml; charset=utf-8", "soapaction": '""'}
    return Post(org.settings.outbound, body.encode(), headers)


def _text(there: object) -> str:
    return str(there).lower() if isinstance(there, bool) else str(there).replace("+0000", "Z")


def is_acknowledged(answer: httpx.Response) -> bool:
    """200 with an Ack that is true; anything else is sent again."""
    if answer.status_code != 200:
        return False
    try:
        acks = etree.fromstring(answer.content).iter(_ACK)
    except etree.XMLSyntaxError:
        return False
    return any((ack.text or "").strip() == "true" for ack in acks)
