"""The Apex class of the docs: what it signs, and what it says, is what we verify and read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.connectors.salesforce import events
from app.domain.values import Delivery
from app.sdk import signature
from tests.connectors.test_salesforce_events import BODY, MESSAGE, SENT, SIGNED

PAGE = (Path(__file__).parents[2] / "docs" / "salesforce.md").read_text(encoding="utf-8")
CLASS, TRIGGER, TEST = re.findall(r"^```apex\n(.*?)^```$", PAGE, re.S | re.M)


def one(pattern: str, text: str = CLASS) -> str:
    (found,) = re.findall(pattern, text)
    return str(found)


def signed(secret: str) -> str:
    """What the class computes: its own expressions, evaluated with the vector's values."""
    assert one(r"Crypto\.generateMac\('(\w+)'") == "HmacSHA256"
    names = {"message": MESSAGE, "stamp": str(SENT), "body": BODY.decode()}
    expression = one(r"Blob\.valueOf\((message .*?)\), key\)")
    assert re.fullmatch(r"\w+( \+ ('[^']*'|\w+))*", expression)
    content = eval(expression, {"__builtins__": {}}, names)  # noqa: S307
    prefix = one(r"secret\.startsWith\('(\w+)'\)")
    assert one(r"secret\.removeStart\('(\w+)'\)") == prefix
    key = (
        base64.b64decode(secret.removeprefix(prefix))
        if secret.startswith(prefix)
        else secret.encode()
    )
    return base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("secret", SIGNED)
def test_its_signature_is_the_one_we_verify(secret):
    values = {"message": MESSAGE, "stamp": str(SENT), "content": ""}
    headers = {
        name: prefix + values.get(value, signed(secret))
        for name, prefix, value in re.findall(
            r"setHeader\('(webhook-\w+)', (?:'([^']*)' \+ )?(\w+)", CLASS
        )
    }
    assert headers["webhook-signature"] == SIGNED[secret]
    moment = datetime.fromtimestamp(SENT, UTC)
    signature.verify(
        ["standard-webhooks"],
        Delivery("salesforce", "POST", "/webhooks/salesforce", headers, BODY, moment),
        [SecretStr(secret)],
        public_url="",
        tolerance=300,
        now=moment,
    )


def test_its_own_test_expects_the_same():
    body = one(r"String body = '(.*)';", TEST)
    assert body.encode() == BODY
    vectors = re.findall(r"'([\w/+=]{44})',\s+SynclineCallout\.signature\('(\S+?)', '(\S+?)'", TEST)
    assert [(f"v1,{given}", secret) for given, secret, _ in vectors] == [
        (given, secret) for secret, given in SIGNED.items()
    ]
    assert {message for _, _, message in vectors} == {MESSAGE}


def test_it_says_what_we_read():
    told = one(r"return new Map<String, Object>\{([^}]*)\};")
    keys = set(re.findall(r"'(\w+)' =>", told))
    assert keys == {"object", "id", "change", "at", "user", "fields"}
    assert one(r"JSON\.serialize\(new Map<String, Object>\{ '(\w+)'") == "events"
    words = set(re.findall(r"'(create|update|undelete|delete|merge)'", CLASS))
    assert words == set(events.CHANGES)
    assert f"'{events.MASTER}'" in CLASS
    assert f"'{events.READ_THROUGH['OpportunityContactRole'][1]}'" in CLASS


def test_the_trigger_calls_it_for_every_change_after_it_happened():
    assert one(r"SynclineCallout\.(\w+)\(\)", TRIGGER) in re.findall(r"static void (\w+)\(", CLASS)
    for moment in ("insert", "update", "delete", "undelete"):
        assert f"after {moment}" in TRIGGER
