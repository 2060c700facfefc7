"""What Salesforce's call-outs say, and how they are signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.connectors.salesforce import events
from app.domain.values import Change, Delivery, Event, Ref
from app.errors import BadPayloadError, BadSignatureError
from app.sdk import signature

# The vendor sheet's own message and signatures.
MESSAGE = "msg_2b7f0c4e1a"
SENT = 1_700_000_000
BODY = (
    '{"events":[{"object":"Account","id":"001000000000001AAA","change":"update",'
    '"at":"2026-01-01T00:00:00Z","user":"005000000000001AAA","fields":{"Name":"Acmé"}}]}'
).encode()
SIGNED = {
    "sf-apex-shared-secret-xyz": "v1,fz/s0WijLuXr4nTzn2gRe8VdsY8ZnQnIKGArCEpMYng=",
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=": (
        "v1,Nxpba3UXV8fvE+91nn8KJb2W8g8zWxK+Cwwp3yu08gc="
    ),
}
CONTACT = "003000000000001AAA"
WINNER = "003000000000002AAA"


def verify(signatures: str, *secrets: str, now: float = SENT, body: bytes = BODY) -> None:
    headers = {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(SENT),
        "webhook-signature": signatures,
    }
    moment = datetime.fromtimestamp(now, UTC)
    signature.verify(
        ["standard-webhooks"],
        Delivery("salesforce", "POST", "/webhooks/salesforce", headers, body, moment),
        [SecretStr(secret) for secret in secrets],
        public_url="https://hooks.example",
        tolerance=300,
        now=moment,
    )


@pytest.mark.parametrize("secret", SIGNED)
def test_the_vectors_of_the_scheme_are_accepted(secret):
    verify(SIGNED[secret], secret)
    verify(SIGNED[secret], "another", secret, now=SENT + 300)
    forged: list[dict[str, Any]] = [
        {"now": SENT + 301},
        {"now": SENT - 301},
        {"body": BODY.replace("é".encode(), b"e")},
    ]
    for spoilt in forged:
        with pytest.raises(BadSignatureError):
            verify(SIGNED[secret], secret, **spoilt)
    with pytest.raises(BadSignatureError):
        verify(SIGNED[secret].replace("v1,", "v2,"), secret)


def test_while_a_secret_is_rotated_either_signature_will_do():
    old, new = SIGNED
    both = f"{SIGNED[new]} {SIGNED[old]}"
    verify(both, old)
    verify(both, new)
    verify(SIGNED[old], new, old)


def one(**more: Any) -> dict[str, Any]:
    row = {"object": "Contact", "id": CONTACT, "change": "update", "at": "2026-01-01T00:00:00Z"}
    return {name: value for name, value in {**row, **more}.items() if value is not ...}


def read(*rows: Any, message: str | None = None) -> list[Event]:
    return events.parse(orjson.dumps({"events": list(rows)}), "sf", message=message)


def test_an_update_says_which_fields_changed_and_when():
    (event,) = events.parse(BODY, "sf")
    assert event.type == "Account.update"
    assert event.ref == Ref("sf", "Account", "001000000000001AAA")
    assert (event.change, event.fields) == (Change.CHANGED, {"Name": "Acmé"})
    assert event.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert event.snapshot is None


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("create", Change.CHANGED),
        ("undelete", Change.CHANGED),
        ("delete", Change.GONE),
        ("merge", Change.GONE),
    ],
)
def test_the_other_changes_only_name_the_record(change, wanted):
    (event,) = read(one(change=change, fields={"LastName": "Ada"}))
    assert (event.type, event.change, event.fields) == (f"Contact.{change}", wanted, {})


@pytest.mark.parametrize("change", ["merge", "delete"])
def test_who_was_merged_away_points_to_the_survivor(change):
    (event,) = read(one(change=change, fields={"MasterRecordId": WINNER[:15]}))
    assert (event.change, event.survivor) == (Change.MERGED, Ref("sf", "Contact", WINNER))
    (event,) = read(one(change=change, id=WINNER, fields={"MasterRecordId": WINNER}))
    assert (event.change, event.survivor) == (Change.CHANGED, None)


@pytest.mark.parametrize("change", ["create", "update", "delete"])
def test_a_role_is_read_through_its_opportunity(change):
    role = one(object="OpportunityContactRole", id="00K000000000001", change=change)
    (event,) = read({**role, "fields": {"OpportunityId": "006000000000001"}})
    assert event.type == f"OpportunityContactRole.{change}"
    assert event.ref == Ref("sf", "Opportunity", "006000000000001AAA")
    assert (event.change, event.fields) == (Change.CHANGED, {})
    with pytest.raises(BadPayloadError, match=r"event 0: its fields\.OpportunityId"):
        read(role)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("001000000000001", "001000000000001AAA"),
        ("0013000000xYzAb", "0013000000xYzAbAAK"),
        ("ABCDEABCDEABCDE", "ABCDEABCDEABCDE555"),
    ],
)
def test_an_id_of_15_characters_is_the_one_of_18(short, long):
    assert events.long_id(short) == events.long_id(long) == long


@pytest.mark.parametrize("id", ["003000000000000012", "003" + "0a1b2c3d4e5f6a7"])
def test_an_id_of_18_characters_is_the_name_that_its_org_shows(id):
    assert events.long_id(id) == id


@given(st.text("abcXYZ019", min_size=15, max_size=15))
def test_ids_that_differ_by_case_alone_differ_in_any_case(short):
    other = short.swapcase()
    assert (short == other) == (events.long_id(short).lower() == events.long_id(other).lower())


def test_a_repeat_has_the_same_keys_and_another_message_others():
    rows = one(), one(id=WINNER), one()
    first, again, other = (read(*rows, message=m) for m in ("msg_1", "msg_1", "msg_2"))
    keys = [[event.key for event in told] for told in (first, again, other)]
    assert keys[0] == keys[1]
    assert len({*keys[0], *keys[2]}) == 6


def test_without_a_message_id_a_key_is_all_that_is_said():
    assert read(one())[0].key == read(one())[0].key
    told = [one(), one(change="delete"), one(id=WINNER), one(fields={"Name": "x"}), one(user="005")]
    assert len({read(row)[0].key for row in told}) == len(told)


def test_times_in_salesforces_own_spelling_are_read():
    (event,) = read(one(at="2026-01-01T02:00:00.000+0200"))
    assert event.at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (one(object=...), "event 1: it has no object"),
        (one(object="Contact; drop"), "event 1: it has no object"),
        (one(change="changed"), "event 1: its change is none of create, update, delete"),
        (one(id="0030000"), "event 1: its id is not an id of Salesforce"),
        (one(id=3), "event 1: its id is not an id of Salesforce"),
        (one(at="yesterday"), "event 1: it has no readable at"),
        (one(at="2026-01-01T00:00:00"), "event 1: its at names no time zone"),
        (one(at="0001-01-01T00:00:00+14:00"), "event 1: it has no readable at"),
        (one(fields=[1]), "event 1: its fields are not an object"),
        (one(change="merge", fields={"MasterRecordId": "?"}), "event 1: its fields.MasterRecordId"),
        ([], "event 1: it is not an object"),
    ],
)
def test_what_cannot_be_read_is_named(spoilt, said):
    with pytest.raises(BadPayloadError) as caught:
        read(one(), spoilt)
    assert said in caught.value.reason


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"events":{}}', b'{"events":[]}', b"\xff"])
def test_a_body_without_events_is_refused(body):
    with pytest.raises(BadPayloadError, match="the body"):
        events.parse(body, "sf")


def test_what_was_found_by_looking_reads_like_a_callout():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    (event,) = events.parse(events.as_callout("Lead", "00Q000000000001", "update", at), "sf")
    assert (event.type, event.at, event.fields) == ("Lead.update", at, {})
