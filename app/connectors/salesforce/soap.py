"""What a Salesforce Outbound Message says: SOAP 1.1, up to a hundred notifications, unsigned.

https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_notifications.htm
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

from lxml import etree

from app.connectors.salesforce.events import event, long_id, moment
from app.sdk import BadPayloadError, BadSignatureError, Event, read_each

_SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
_OUT = "{http://soap.sforce.com/2005/09/outbound}"
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"

#: One Ack covers the whole message; without it, or with another status, it is sent again.
ACK = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    "</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)
RECEIPT = ("text/xml; charset=utf-8", ACK)
#: No entities, no DTD, nothing from the network, nothing huge.
_HARDENED: dict[str, Any] = {
    "resolve_entities": False,
    "load_dtd": False,
    "no_network": True,
    "huge_tree": False,
}


def check_organization(body: bytes, wanted: object) -> None:
    """Pass if the message is of this organisation, without reading all of it.

    Raises BadSignatureError: nothing else in it proves whose it is.
    """
    if not wanted:
        raise BadSignatureError("the account has no organization_id to compare with")
    try:
        for _, element in etree.iterparse(
            BytesIO(body), events=("end",), tag=f"{_OUT}OrganizationId", **_HARDENED
        ):
            _refuse_doctype(element)
            parent = element.getparent()
            if parent is None or parent.tag != f"{_OUT}notifications":
                continue
            if long_id(_text(element), "OrganizationId") != long_id(wanted, "organization_id"):
                raise BadSignatureError("the message is of another organisation")
            return
    except etree.XMLSyntaxError:
        raise BadSignatureError("the message is not XML") from None
    except BadPayloadError as error:
        raise BadSignatureError(error.reason) from None
    raise BadSignatureError("the message names no organisation")


def parse(body: bytes, account: str, *, received_at: datetime) -> list[Event]:
    """One event per notification. Raises BadPayloadError naming the notification.

    It carries the latest values, not what changed: they are only a hint to look.
    """
    return read_each(
        "notification",
        _notifications(body),
        lambda _, notification: [_read(notification, account, received_at)],
    )


def _notifications(body: bytes) -> list[Any]:
    parser = etree.XMLParser(remove_comments=True, remove_pis=True, **_HARDENED)
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise BadPayloadError("the body is not XML") from None
    _refuse_doctype(root)
    if root.tag != f"{_SOAP}Envelope":
        raise BadPayloadError("the body is no SOAP 1.1 envelope")
    found: list[Any] = root.findall(f"{_SOAP}Body/{_OUT}notifications/{_OUT}Notification")
    if not found:
        raise BadPayloadError("the message has no notifications")
    return found


def _refuse_doctype(element: Any) -> None:
    if element.getroottree().docinfo.doctype:
        raise BadPayloadError("the body has a document type, which SOAP forbids")


def _read(notification: Any, account: str, received_at: datetime) -> Event:
    id, record = notification.find(f"{_OUT}Id"), notification.find(f"{_OUT}sObject")
    if id is None or not _text(id):
        raise BadPayloadError("it has no Id")
    if record is None:
        raise BadPayloadError("it has no sObject")
    object = record.get(f"{_XSI}type", "").rpartition(":")[2]
    if not object:
        raise BadPayloadError("its sObject has no xsi:type")
    # A field without a value is xsi:nil; those of a related record are left out.
    fields = {
        etree.QName(child).localname: None if child.get(f"{_XSI}nil") == "true" else _text(child)
        for child in record
        if isinstance(child.tag, str) and not len(child)
    }
    stamp = fields.get("SystemModstamp") or fields.get("LastModifiedDate")
    found = event(
        object,
        long_id(fields.get("Id"), "sObject's Id"),
        "update",
        # It is sent again with the same Id and perhaps later values.
        key=f"salesforce:notification:{long_id(_text(id), 'Id')}",
        at=moment(stamp, "SystemModstamp") if stamp else received_at,
        account=account,
        fields=fields,
        data=fields,
    )
    return replace(found, fields={})


def _text(element: Any) -> str:
    return (element.text or "").strip()
