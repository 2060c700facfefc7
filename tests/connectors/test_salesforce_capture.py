"""Change Data Capture: what a change event says, and how the stream is kept."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.salesforce import capture, pubsub
from app.domain.values import BUS, Change, Delivery, Heard, Ref
from app.errors import AccountError, BadPayloadError, ConfigError, TransientError
from tests.connectors.conftest import CLOSE, HUBSPOT, SALESFORCE
from tests.connectors.pubsub import (
    CONTACT,
    ROLE,
    SIGNED,
    TOKEN,
    Server,
    bits,
    change,
    serving,
)

ADA, BOB = "003000000000001AAA", "003000000000002AAA"
DEAL = "006000000000001AAA"
SCHEMA = capture.spelled_out(CONTACT)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
WANTED = {"Contact": "person", "OpportunityContactRole": "deal"}


def fields_of(event: dict[str, Any], schema: Any = SCHEMA) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(capture.told(schema, event))["fields"]
    return fields


def parse(event: dict[str, Any], schema: Any = SCHEMA):
    return capture.parse(capture.told(schema, event), "sf")


# ------------------------------------------------------------------------------- one event


def test_only_what_the_bitmaps_name_has_changed():
    event = change(
        "UPDATE", ADA, changed=(bits(5, 7),), Email="ada@acme.example", LastModifiedDate=1
    )
    (read,) = parse(event)
    assert (read.type, read.ref, read.change) == (
        "Contact.update",
        Ref("sf", "Contact", ADA),
        Change.CHANGED,
    )
    assert read.fields == {"Email": "ada@acme.example"}
    assert (read.at, read.by_program, read.snapshot) == (NEW_YEAR, False, None)


def test_the_vendors_own_bitmap_is_read_from_its_last_bit():
    fields = [{"name": f"F{n}", "type": "string"} for n in range(31)]
    listed = capture._listed({"fields": fields}, ["0x650004E0"])
    assert [name for (name,) in listed] == [f"F{n}" for n in (5, 6, 7, 10, 24, 26, 29, 30)]


def test_what_was_cleared_is_told_as_such_and_what_is_merely_null_is_not():
    event = change("UPDATE", ADA, changed=(bits(5),), nulled=(bits(1),), Email=None)
    assert fields_of(event) == {"Email": None, "AccountId": None}
    assert fields_of(change("UPDATE", ADA, changed=(bits(5),), Email="x")) == {"Email": "x"}


def test_parts_of_names_and_addresses_have_their_names_of_rest():
    event = change(
        "UPDATE",
        ADA,
        changed=(bits(2, 3), "2-0x2", f"3-{bits(0, 1)}", "9-0x2"),
        nulled=("4-0x4",),
        Name={"LastName": "Lovelace", "FirstName": None},
        MailingAddress={"Street": "1 High St", "City": "London", "PostalCode": None},
        Home__c={"City": "Bath"},
    )
    assert fields_of(event) == {
        "LastName": "Lovelace",
        "MailingStreet": "1 High St",
        "MailingCity": "London",
        "OtherPostalCode": None,
        "Home__City__s": "Bath",
    }


def test_days_and_moments_are_spelled_as_rest_spells_them():
    event = change(
        "UPDATE",
        ADA,
        changed=(bits(6, 7, 8),),
        Birthdate=-86_400_000,
        LastModifiedDate=1_767_225_600_123,
        Score__c=2.5,
    )
    assert fields_of(event) == {
        "Birthdate": "1969-12-31",
        "LastModifiedDate": "2026-01-01T00:00:00.123+0000",
        "Score__c": 2.5,
    }


@pytest.mark.parametrize(
    ("kind", "word", "meaning"),
    [
        ("CREATE", "create", Change.CHANGED),
        ("DELETE", "delete", Change.GONE),
        ("UNDELETE", "undelete", Change.CHANGED),
        ("GAP_CREATE", "create", Change.CHANGED),
        ("GAP_UPDATE", "update", Change.CHANGED),
        ("GAP_DELETE", "delete", Change.GONE),
        ("GAP_UNDELETE", "undelete", Change.CHANGED),
    ],
)
def test_the_other_kinds_are_hints_to_look(kind, word, meaning):
    (read,) = parse(change(kind, ADA))
    assert (read.type, read.change, read.fields) == (f"Contact.{word}", meaning, {})


def test_one_event_may_name_several_records():
    told = parse(change("UPDATE", ADA, BOB, changed=(bits(5),), Email="x@acme.example"))
    assert [event.ref.id for event in told if event.ref] == [ADA, BOB]
    assert len({event.key for event in told}) == 2


@pytest.mark.parametrize(
    "event", [change("GAP_OVERFLOW"), change("UPDATE", "003*"), change("GAP_UPDATE")]
)
def test_what_names_nobody_has_no_events(event):
    assert parse(event) == []
    assert capture.names_nobody(event["ChangeEventHeader"], {})


def test_a_role_is_read_through_its_opportunity_where_it_names_it():
    schema = capture.spelled_out(ROLE)
    role, object = "00K000000000001EAA", "OpportunityContactRole"
    (read,) = parse(change("CREATE", role, OpportunityId=DEAL, object=object), schema)
    assert (read.type, read.ref) == (
        "OpportunityContactRole.create",
        Ref("sf", "Opportunity", DEAL),
    )
    assert parse(change("DELETE", role, object=object), schema) == []


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("com/salesforce/api/rest/66.0;client=syncline", True),
        ("com/salesforce/api/rest/66.0;client=syncline2", False),
        ("com/salesforce/api/soap/66.0;client=other", False),
        ("", False),
    ],
)
def test_what_our_own_client_changed_is_marked(origin, ours):
    (read,) = parse(change("UPDATE", ADA, origin=origin))
    assert read.by_program is ours


def test_the_same_event_has_the_same_body_and_keys():
    event = change("UPDATE", ADA, changed=(bits(5),), Email="x")
    assert capture.told(SCHEMA, event) == capture.told(SCHEMA, dict(reversed(event.items())))
    assert parse(event)[0].key != parse(change("UPDATE", ADA, number=2))[0].key


@pytest.mark.parametrize("wrong", ["0x10000", "7-0x1", "99-0x1", "x", "", "-", "0x", "-1-0x1"])
def test_a_list_of_fields_that_does_not_fit_is_named(wrong):
    with pytest.raises(BadPayloadError, match="does not fit the schema"):
        capture.told(SCHEMA, change("UPDATE", ADA, changed=(wrong,)))


@given(st.sets(st.integers(0, 9)))
def test_every_bitmap_names_exactly_its_fields(positions):
    names = [field["name"] for field in CONTACT["fields"]]
    listed = capture._listed(SCHEMA, [bits(*positions)])
    assert {name for (name,) in listed} == {names[n] for n in positions}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"change":{},"fields":{}}', b'{"events":[]}']
)
def test_what_is_no_change_event_is_refused(body):
    with pytest.raises(BadPayloadError):
        capture.parse(body, "sf")


# ------------------------------------------------------------------------------- the stream


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


class Listener:
    """Who listens, and what it was told."""

    def __init__(self, server: Server, position: str | None = None) -> None:
        self.server = server
        self.signs: list[str] = [TOKEN]
        self.refused: list[Any] = []
        self.told = pubsub.listen(server.url, WANTED, position, self._sign_in, self._look_up)

    async def _sign_in(self, refused: Any) -> Any:
        if refused is not None:
            self.refused.append(refused)
        token = self.signs[min(len(self.refused), len(self.signs) - 1)]
        return {**SIGNED, "accesstoken": token}

    async def _look_up(self, url: str) -> list[str]:
        return ["127.0.0.1"]

    async def next(self) -> Heard:
        async with asyncio.timeout(20):
            return await anext(self.told)

    async def begin(self) -> None:
        """Be there before anything happens."""
        self.waiting = asyncio.ensure_future(self.next())
        await self.server.somebody.wait()


def ids(heard: Heard) -> list[str]:
    return [id for body in heard.bodies for id in orjson.loads(body)["change"]["recordIds"]]


def numbers(heard: Heard) -> list[int]:
    return [orjson.loads(body)["change"]["commitNumber"] for body in heard.bodies]


async def test_it_hears_what_happens_from_now_on(server):
    server.publish(change("CREATE", ADA))
    listener = Listener(server)
    async with aclosing(listener.told):
        await listener.begin()
        server.publish(change("CREATE", BOB))
        heard = await listener.waiting
        assert ids(heard) == [BOB]
        assert heard.position == (2).to_bytes(8).hex()
        assert heard.lost is None


async def test_it_goes_on_where_it_was(server):
    server.publish(*(change("CREATE", ADA, number=n) for n in range(5)))
    listener = Listener(server, position=(2).to_bytes(8).hex())
    async with aclosing(listener.told):
        heard = await listener.next()
    assert numbers(heard) == [2, 3, 4]


async def test_never_more_than_a_hundred_are_outstanding_and_none_is_left_out(server):
    server.publish(*(change("CREATE", ADA, number=n) for n in range(500)))
    listener = Listener(server, position=(0).to_bytes(8).hex())
    found: list[int] = []
    async with aclosing(listener.told):
        while len(found) < 500:
            found += numbers(await listener.next())
    assert found == list(range(500))
    assert server.most == 100
    assert server.schemas_asked == 1


async def test_a_quiet_stream_moves_the_position_too(server):
    listener = Listener(server)
    async with aclosing(listener.told):
        await listener.begin()
        server.beat()
        heard = await listener.waiting
    assert (heard.bodies, heard.position) == ((), (1).to_bytes(8).hex())


async def test_other_objects_pass_by(server):
    server.publish(change("CREATE", "701000000000001AAA", object="Campaign"))
    listener = Listener(server, position=(0).to_bytes(8).hex())
    async with aclosing(listener.told):
        heard = await listener.next()
    assert (heard.bodies, heard.position) == ((), (1).to_bytes(8).hex())


@pytest.mark.parametrize("position", [(1).to_bytes(8).hex(), "00ff"])
async def test_a_position_that_is_kept_no_more_is_followed_by_all_that_is(server, position):
    server.publish(*(change("CREATE", ADA, number=n) for n in range(5)))
    server.oldest = 3
    listener = Listener(server, position=position)
    async with aclosing(listener.told):
        heard = await listener.next()
        assert numbers(heard) == [3, 4]
        assert heard.lost is not None
        assert "replayid" in heard.lost
        server.publish(change("CREATE", BOB, number=5))
        assert (await listener.next()).lost is None


async def test_what_names_nobody_is_told_by_its_entity_and_time(server):
    server.publish(
        change("GAP_OVERFLOW", at=1_767_225_600_000),
        change("DELETE", "00K000000000001EAA", object="OpportunityContactRole", number=2),
    )
    listener = Listener(server, position=(0).to_bytes(8).hex())
    async with aclosing(listener.told):
        heard = await listener.next()
    early = NEW_YEAR - capture.TRANSACTION
    assert heard.unnamed == {"person": early, "deal": early}
    assert len(heard.bodies) == 2


async def test_what_cannot_be_decoded_stops_nothing_and_is_said(server):
    server.publish(change("CREATE", ADA), raw=b"\xff\xff")
    server.publish(
        change("UPDATE", ADA, changed=("0xFFFFFFFF",), number=2), change("CREATE", BOB, number=3)
    )
    listener = Listener(server, position=(0).to_bytes(8).hex())
    async with aclosing(listener.told):
        heard = await listener.next()
    assert ids(heard) == [BOB]
    assert heard.position == (3).to_bytes(8).hex()
    assert heard.lost is not None
    assert "cannot be decoded" in heard.lost


async def test_a_session_that_ends_is_renewed_and_nothing_is_missed(server):
    listener = Listener(server, position=(0).to_bytes(8).hex())
    listener.signs = [TOKEN, "00D000000000001!new"]
    async with aclosing(listener.told):
        server.publish(change("CREATE", ADA, number=1))
        assert numbers(await listener.next()) == [1]
        server.tokens = {"00D000000000001!new"}
        server.publish(change("CREATE", ADA, number=2))
        assert numbers(await listener.next()) == [2]
    assert len(listener.refused) == 1


async def test_a_session_that_is_refused_anew_needs_a_person(server):
    server.tokens = set()
    listener = Listener(server)
    with pytest.raises(AccountError, match="session"):
        await listener.next()
    assert len(listener.refused) == 1


async def test_a_stream_that_ends_is_trouble_that_passes(server):
    listener = Listener(server)
    await listener.begin()
    server.hang_up()
    with pytest.raises(TransientError, match="ended the stream"):
        await listener.waiting


async def test_nobody_there_is_trouble_that_passes(server):
    server.url = "http://127.0.0.1:9"
    with pytest.raises(TransientError):
        await Listener(server).next()


async def test_the_address_that_was_looked_at_is_the_one_that_is_called(server):
    server.url = server.url.replace("127.0.0.1", "bus.example")
    server.publish(change("CREATE", ADA))
    assert ids(await Listener(server, position=(0).to_bytes(8).hex()).next()) == [ADA]


# ------------------------------------------------------------------------------ the connector


async def test_a_bus_whose_name_leads_into_a_private_network_is_not_called(server, monkeypatch):
    async def getaddrinfo(_loop: Any, host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    at = dict(SALESFORCE.options, pubsub_url=server.url.replace("127.0.0.1", "bus.example"))
    transport = SALESFORCE.transport(lambda _: httpx.Response(500))
    connector = replace(SALESFORCE, options=at).connect(transport=transport)
    told = connector.listen(None)
    async with aclosing(told):
        with pytest.raises(AccountError, match=r"private network.*private_hosts"):
            await anext(told)
    assert not server.signed
    await connector.aclose()


async def test_the_connector_signs_in_as_its_org_and_hears_what_travels(server):
    at = dict(SALESFORCE.options, pubsub_url=server.url)
    transport = SALESFORCE.transport(lambda _: httpx.Response(500))
    connector = replace(SALESFORCE, options=at).connect(transport=transport)
    connector.may_listen()
    server.tokens = {SALESFORCE.session["access_token"]}
    server.publish(
        change("CREATE", ADA),
        change("CREATE", "701000000000001AAA", object="Campaign", number=2),
        change("CREATE", "00K000000000001EAA", object="OpportunityContactRole", number=3),
    )
    told = connector.listen((0).to_bytes(8).hex())
    async with aclosing(told), asyncio.timeout(20):
        heard = await anext(told)
    assert server.signed["instanceurl"] == SALESFORCE.session["instance_url"]
    assert server.signed["tenantid"] == "00DSb0000000001MAA"
    assert heard.unnamed.keys() == {"deal"}
    first, _ = heard.bodies
    (event,) = connector.parse(
        Delivery("acme", BUS, "bus/acme", {}, first, NEW_YEAR), connector.account
    )
    assert event.ref == Ref("acme", "Contact", ADA)
    await connector.aclose()


def test_who_has_not_the_packages_is_told_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "app.connectors.salesforce.pubsub", None)
    connector = SALESFORCE.connect(transport=SALESFORCE.transport(lambda _: httpx.Response(500)))
    with pytest.raises(ConfigError, match=r"pip install 'syncline\[salesforce\]'"):
        connector.may_listen()


@pytest.mark.parametrize("candidate", [CLOSE, HUBSPOT], ids=lambda c: c.name)
def test_systems_without_a_bus_say_so(candidate):
    with pytest.raises(ConfigError, match="has no event bus"):
        candidate.connect().may_listen()
