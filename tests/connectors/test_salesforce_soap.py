"""Outbound Messages: SOAP that nothing signs, read by a parser that trusts nobody."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from app.connectors.salesforce import soap
from app.domain.values import Change, Event, Ref
from app.errors import BadPayloadError, BadSignatureError

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ORG = "00D000000000001EAA"
ENTERPRISE = "urn:sobject.enterprise.soap.sforce.com"


def notification(number: int = 1, inner: str = "", *, object: str = "Contact") -> str:
    id = f"<sf:Id>00300000000000{number}</sf:Id>" if "<sf:Id" not in inner else ""
    return (
        f"<Notification><Id>04l00000000000{number}AAA</Id>"
        f'<sObject xsi:type="sf:{object}" xmlns:sf="{ENTERPRISE}">{id}{inner}</sObject>'
        "</Notification>"
    )


def message(*notifications: str, org: str = ORG, before: str = "") -> bytes:
    """As the vendor's page shows it: https://developer.salesforce.com/docs/atlas.en-us.api.meta
    /api/sforce_api_om_outboundmessaging_notifications.htm
    """
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f"<OrganizationId>{org}</OrganizationId><ActionId>04k000000000001AAA</ActionId>"
        '<SessionId xsi:nil="true"/><EnterpriseUrl>https://acme.example/c</EnterpriseUrl>'
        f"<PartnerUrl>https://acme.example/u</PartnerUrl>{''.join(notifications)}"
        "</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


def parse(body: bytes) -> list[Event]:
    return soap.parse(body, "sf", received_at=NOON)


def test_each_notification_is_an_event_and_its_values_only_a_hint():
    stamp = "<sf:SystemModstamp>2026-11-22T11:59:58.000Z</sf:SystemModstamp>"
    whole = stamp + '<sf:LastName>Ada &amp; Co</sf:LastName><sf:Phone xsi:nil="true"/>'
    first, second = parse(message(notification(1, whole), notification(2, object="Lead")))
    assert (first.type, first.ref) == ("Contact.update", Ref("sf", "Contact", "003000000000001AAA"))
    assert (first.change, first.fields, first.snapshot) == (Change.CHANGED, {}, None)
    assert first.at == datetime(2026, 11, 22, 11, 59, 58, tzinfo=UTC)
    assert first.data["LastName"] == "Ada & Co"
    assert first.data["Phone"] is None
    assert (second.type, second.at) == ("Lead.update", NOON)


def test_a_hundred_notifications_are_a_hundred_events():
    many = [notification(1).replace("04l00000000000", f"04l{n:011d}") for n in range(100)]
    assert len({event.key for event in parse(message(*many))}) == 100


def test_a_notification_that_is_sent_again_is_known_whatever_it_holds_by_then():
    first, again = (parse(message(notification(1, f"<sf:Name>{n}</sf:Name>"))) for n in "ab")
    assert [event.key for event in first] == [event.key for event in again]


def test_a_role_is_read_through_its_opportunity():
    inner = "<sf:Id>00K000000000001</sf:Id><sf:OpportunityId>006000000000001</sf:OpportunityId>"
    (event,) = parse(message(notification(1, inner, object="OpportunityContactRole")))
    assert event.ref == Ref("sf", "Opportunity", "006000000000001AAA")


@pytest.mark.parametrize("org", [ORG, ORG[:15]])
@pytest.mark.parametrize("wanted", [ORG, ORG[:15]])
def test_the_organisation_is_the_same_with_15_and_18_characters(org, wanted):
    soap.check_organization(message(notification(), org=org), wanted)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("body", "wanted", "said"),
    [
        (message(notification()), "00D000000000002EAA", "another organisation"),
        (message(notification()), None, "no organization_id"),
        (message(notification(), org=""), ORG, "OrganizationId is not an id"),
        (b"{}", ORG, "not XML"),
        (b"", ORG, "not XML"),
        (b"<a/>", ORG, "names no organisation"),
        (
            message(notification(1, f"<OrganizationId>{ORG}</OrganizationId>")).replace(
                f"<OrganizationId>{ORG}</OrganizationId><Act".encode(), b"<Act"
            ),
            ORG,
            "names no organisation",
        ),
        (message(notification(), before=BOMB), ORG, "document type"),
        (message(notification(), before=FILE), ORG, "document type"),
    ],
)
def test_what_is_not_of_our_organisation_is_not_authentic(body, wanted, said):
    with pytest.raises(BadSignatureError) as caught:
        soap.check_organization(body, wanted)
    assert said in caught.value.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not XML"),
        (b"<a", "the body is not XML"),
        (b"<a/>", "no SOAP 1.1 envelope"),
        (message(), "no notifications"),
        (message(notification(), before=BOMB), "document type"),
        (message(notification(1, "<sf:Name>&a;</sf:Name>"), before=FILE), "document type"),
        (message(notification(), notification(1, "<sf:Id/>")), "notification 1: its sObject's Id"),
        (message("<Notification/>"), "notification 0: it has no Id"),
        (message("<Notification><Id>04l1</Id></Notification>"), "0: it has no sObject"),
        (message(notification(object="")), "0: its sObject has no xsi:type"),
        (message(notification(1, "<sf:SystemModstamp>soon</sf:SystemModstamp>")), "SystemModstamp"),
        (message(notification().replace("04l", "04%")), "0: its Id is not an id"),
    ],
)
def test_what_cannot_be_read_is_named(body, said):
    with pytest.raises(BadPayloadError) as caught:
        parse(body)
    assert said in caught.value.reason


@given(st.integers(0, 900), st.binary(max_size=6))
def test_a_damaged_message_is_read_or_named(at, junk):
    whole = message(notification(1), notification(2))
    with contextlib.suppress(BadPayloadError):
        assert all(event.ref for event in parse(whole[:at] + junk + whole[at + len(junk) :]))


def test_the_ack_is_the_vendors():
    media_type, text = soap.RECEIPT
    assert media_type.startswith("text/xml")
    ack = etree.fromstring(text).find(".//{http://soap.sforce.com/2005/09/outbound}Ack")
    assert ack is not None
    assert ack.text == "true"
