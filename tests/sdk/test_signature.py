"""Signatures: every published vector, and everything that must not pass."""

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.domain.values import Delivery
from app.errors import BadSignatureError
from app.sdk.signature import SCHEMES, path_token, verify, verify_path

CLOSE = ("close-v1", "close-sig")
KEY = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
SIMPLE = "close-simple-secret-123"
BODY_A = b'{"event":{"action":"created"}}'
BODY_B = (
    '{"subscription_id":"whsub_TEST","event":{"id":"ev_TEST1","object_type":"lead",'
    '"action":"updated","object_id":"lead_TEST","lead_id":"lead_TEST","changed_fields":["name"],'
    '"data":{"id":"lead_TEST","name":"Café Ünïcode"},"previous_data":{"name":"Cafe"}}}'
).encode()
HASH_A = "eecc729415062d59ae5d8a6fdd3809211ef6789bcf09f0e3279bbf51d1becee3"
HASH_B = "dbf50fac04473a73141a134442dce7c1e679b3288f3c5fbb75ba57b3bc0ec091"
CLOSE_A = {"close-sig-hash": HASH_A, "close-sig-timestamp": "1544271440"}
CLOSE_B = {"close-sig-hash": HASH_B, "close-sig-timestamp": "1700000000"}
SIG_A = {"close-sig": "35db2fcef300a078aec63691749741d0ab7898f5dfeda73a54582dad8d4e5d81"}
SIG_B = {"close-sig": "054c1a26eb1668797157cd24737e92207a2fb0b14b83b86dd0dbcf597189d670"}

HS_SECRET = "hs-test-client-secret-0001"
HS_BODY = (
    '[{"eventId":1001,"subscriptionId":55,"portalId":62515,"appId":54321,'
    '"occurredAt":1700000000000,"subscriptionType":"contact.propertyChange","attemptNumber":0,'
    '"objectId":123,"propertyName":"firstname","propertyValue":"Zoë",'
    '"changeSource":"INTEGRATION","sourceId":"54321"}]'
).encode()
HS_V3 = {
    "x-hubspot-signature-v3": "29qUbDqRB+0ldtmrn3x6iZ+m62iOtyY9voX2lxt4+pw=",
    "x-hubspot-request-timestamp": "1700000000123",
}
HS_V1 = {
    "x-hubspot-signature": "9860cecd17e499c76e9ec1fbe14ecb7a62c4c9ea1e6390672012952797d24dce",
    "x-hubspot-signature-version": "v1",
}
HS_V2 = {
    "x-hubspot-signature": "80a967fba2a907463b9f9a524edffa23b7445fcf5d7009dcc03a729430d7f8c6",
    "x-hubspot-signature-version": "v2",
}
LEGACY = ("hubspot-v3", "hubspot-v2", "hubspot-v1")


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def check(
    schemes: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *secrets: str,
    now: datetime | None = None,
    tolerance: int = 300,
    target: str = "/webhooks/x",
    method: str = "POST",
    url: str = "https://hooks.example.com/",
) -> None:
    moment = now or at(1700000000)
    delivery = Delivery("x", method, target, headers, body, moment)
    verify(
        schemes,
        delivery,
        [SecretStr(secret) for secret in secrets],
        public_url=url,
        tolerance=tolerance,
        now=moment,
    )


def refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(BadSignatureError) as caught:
        check(*args, **kwargs)
    return caught.value.reason


# ------------------------------------------------------------------------------- vectors


def test_close_vector_a():
    check(CLOSE, CLOSE_A, BODY_A, KEY, now=at(1544271440))


def test_close_vector_b():
    assert len(BODY_B) == 253
    check(CLOSE, CLOSE_B, BODY_B, KEY)


def test_a_close_key_used_as_text_is_refused():
    as_text = "626165a7bb6116c7976cbf3f5668d5387f82252528dffe912ee31b7c7110f232"
    refused(CLOSE, {**CLOSE_B, "close-sig-hash": as_text}, BODY_B, KEY)


def test_close_simple_vectors():
    check(CLOSE, SIG_A, BODY_A, SIMPLE)
    check(CLOSE, SIG_B, BODY_B, SIMPLE)


def test_hubspot_v3_vector():
    check(("hubspot-v3",), HS_V3, HS_BODY, HS_SECRET, target="/webhooks/hubspot")


def test_hubspot_v3_vector_with_a_query():
    headers = {**HS_V3, "x-hubspot-signature-v3": "OaitKvE9wVaId4WjiW2Vh/XlhtHHvWpcbiamDPQjO+c="}
    target = "/webhooks/hubspot?tenant=acme%3Aeu%2F1&note=a%20b%26c"
    check(("hubspot-v3",), headers, HS_BODY, HS_SECRET, target=target)
    undecoded = {
        **HS_V3,
        "x-hubspot-signature-v3": "ja3/CH03SeSEr6VBL78M0KPtLWj8gfwfABRBU4QmF58=",
    }
    refused(("hubspot-v3",), undecoded, HS_BODY, HS_SECRET, target=target)


def test_hubspot_v3_vector_of_the_python_sdk():
    check(
        ("hubspot-v3",),
        {
            "x-hubspot-signature-v3": "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=",
            "x-hubspot-request-timestamp": "1693657560000",
        },
        b"{'example_field':'example_value'}",
        "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
        target="/webhook_uri",
        url="https://www.example.com",
        now=at(1693657560),
    )


def test_hubspot_legacy_vectors():
    check(LEGACY, HS_V1, HS_BODY, HS_SECRET, target="/webhooks/hubspot")
    check(LEGACY, HS_V2, HS_BODY, HS_SECRET, target="/webhooks/hubspot")
    get = "dcd16867840b8984d351a02b79c272ac6f456236cefc9f029ac12c0a16c7b81a"
    headers = {**HS_V2, "x-hubspot-signature": get}
    check(LEGACY, headers, b"", HS_SECRET, target="/webhooks/hubspot", method="GET")


def test_only_the_listed_codes_are_decoded_and_only_once():
    target = "/a%253A%3a%40%20%2f"
    signed = b"POSThttps://h.example" + b"/a%253A:@%20/" + b"{}" + b"1700000000000"
    signature = base64.b64encode(hmac.new(b"s", signed, hashlib.sha256).digest()).decode()
    headers = {
        "x-hubspot-signature-v3": signature,
        "x-hubspot-request-timestamp": "1700000000000",
    }
    check(("hubspot-v3",), headers, b"{}", "s", target=target, url="https://h.example/")


def standard(body: bytes, key: bytes, *, id="msg_1", stamp="1700000000") -> dict[str, str]:
    signed = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def test_the_published_standard_webhooks_vector():
    # https://github.com/standard-webhooks/standard-webhooks, tests of the reference libraries
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    check(("standard-webhooks",), headers, b'{"test": 2432232314}', secret, now=at(1614265330))


def test_standard_webhooks_take_both_kinds_of_secret_and_several_signatures():
    key = b"\x01\x02key"
    secret = "whsec_" + base64.b64encode(key).decode()
    check(("standard-webhooks",), standard(b"{}", key), b"{}", secret)
    check(("standard-webhooks",), standard(b"{}", b"plain"), b"{}", "plain")
    headers = standard(b"{}", b"new")
    headers["webhook-signature"] = "v1,AAAA v2,BBBB " + headers["webhook-signature"]
    check(("standard-webhooks",), headers, b"{}", "old", "new")
    only_v2 = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}
    refused(("standard-webhooks",), only_v2, b"{}", "old", "new")
    refused(("standard-webhooks",), standard(b"{}", b""), b"{}", "whsec_")
    refused(("standard-webhooks",), standard(b"{}", b""), b"{}", "whsec_not base64!")


# --------------------------------------------------------------------------------- rules

GOOD = [
    pytest.param(CLOSE, CLOSE_B, BODY_B, KEY, "/webhooks/close", id="close-v1"),
    pytest.param(CLOSE, SIG_B, BODY_B, SIMPLE, "/webhooks/close", id="close-sig"),
    pytest.param(("hubspot-v3",), HS_V3, HS_BODY, HS_SECRET, "/webhooks/hubspot", id="hubspot-v3"),
    pytest.param(LEGACY, HS_V2, HS_BODY, HS_SECRET, "/webhooks/hubspot", id="hubspot-v2"),
    pytest.param(LEGACY, HS_V1, HS_BODY, HS_SECRET, "/webhooks/hubspot", id="hubspot-v1"),
    pytest.param(
        ("standard-webhooks",), standard(b"{}", b"k"), b"{}", "k", "/webhooks/x", id="standard"
    ),
]


@pytest.mark.parametrize(("schemes", "headers", "body", "secret", "target"), GOOD)
def test_what_is_wrong_is_refused(schemes, headers, body, secret, target):
    check(schemes, headers, body, secret, target=target)
    check(schemes, headers, body, "other", secret, "", target=target)
    refused(schemes, headers, body + b" ", secret, target=target)
    refused(schemes, headers, bytes([body[0] ^ 1]) + body[1:], secret, target=target)
    refused(schemes, headers, body, target=target)
    refused(schemes, headers, body, "", " ", target=target)
    refused(schemes, headers, body, secret[:-1] + "0", target=target)
    for name in headers:
        if name == "x-hubspot-signature-version":
            continue
        refused(
            schemes, {k: v for k, v in headers.items() if k != name}, body, secret, target=target
        )
        for junk in ("", "é", "\udcff", "NaN", "-1", "9" * 400, "+1", "1_0", "１７", "1e9", "\x00"):
            refused(schemes, {**headers, name: junk}, body, secret, target=target)


@pytest.mark.parametrize("seconds", [-301, 301, -math.inf, math.inf])
@pytest.mark.parametrize(
    ("schemes", "headers", "body", "secret", "target"), [GOOD[0], GOOD[2], GOOD[5]]
)
def test_a_timestamp_far_from_now_is_refused(schemes, headers, body, secret, target, seconds):
    shift = timedelta(days=9000) if math.isinf(seconds) else timedelta(seconds=abs(seconds) + 1)
    moment = at(1700000000) + (shift if seconds > 0 else -shift)
    reason = refused(schemes, headers, body, secret, target=target, now=moment)
    assert "too old or in the future" in reason


def test_a_timestamp_at_the_edge_is_accepted():
    check(CLOSE, CLOSE_B, BODY_B, KEY, now=at(1700000300))
    check(CLOSE, CLOSE_B, BODY_B, KEY, now=at(1699999700))
    refused(CLOSE, CLOSE_B, BODY_B, KEY, now=at(1700000301))


def test_a_bad_genuine_signature_is_not_rescued_by_the_simple_one():
    both = {**CLOSE_B, **SIG_B, "close-sig-hash": "0" * 64}
    refused(CLOSE, both, BODY_B, KEY, SIMPLE)


def test_a_text_secret_leaves_the_decision_to_the_simple_form_if_that_is_there():
    check(CLOSE, {**CLOSE_B, **SIG_B}, BODY_B, SIMPLE)
    refused(CLOSE, CLOSE_B, BODY_B, SIMPLE)


def test_v3_decides_whenever_its_header_is_present():
    wrong = {**HS_V3, **HS_V1, "x-hubspot-signature-v3": "AAAA"}
    refused(LEGACY, wrong, HS_BODY, HS_SECRET, target="/webhooks/hubspot")


def test_a_legacy_signature_of_another_version_is_refused():
    refused(LEGACY, {**HS_V1, "x-hubspot-signature-version": "v9"}, HS_BODY, HS_SECRET)
    refused(("hubspot-v3",), HS_V1, HS_BODY, HS_SECRET)


def test_reasons_never_show_a_secret():
    for reason in (
        refused(CLOSE, CLOSE_B, BODY_A, KEY),
        refused(CLOSE, SIG_B, BODY_A, SIMPLE),
        refused(("hubspot-v3",), HS_V3, b"", HS_SECRET),
    ):
        assert not any(secret in reason for secret in (KEY, SIMPLE, HS_SECRET))


HEADERS = sorted({*CLOSE_B, *SIG_B, *HS_V3, *HS_V1, *standard(b"", b"k")})


@given(
    headers=st.dictionaries(st.sampled_from(HEADERS), st.text(max_size=40)),
    body=st.binary(max_size=40),
    secret=st.text(max_size=20),
    target=st.text(max_size=20),
)
def test_whatever_a_stranger_sends_is_only_ever_refused(headers, body, secret, target):
    refused(tuple(SCHEMES), headers, body, secret, target=target)


# ---------------------------------------------------------------------- tokens in the path

TOKEN = "8JxkP0aVQm3nT6bYwZrC"


def in_path(given: str, *secrets: str) -> None:
    verify_path(given, [SecretStr(secret) for secret in secrets])


def test_a_token_in_the_path_is_one_of_the_accounts():
    in_path(TOKEN, f"path_{TOKEN}")
    in_path(TOKEN, "whsec_abcd", "path_another", f"path_{TOKEN}")
    for wrong in ("", "*", TOKEN[:-1], f"{TOKEN}/", f"path_{TOKEN}", "é", "whsec_abcd"):
        with pytest.raises(BadSignatureError):
            in_path(wrong, "whsec_abcd", f"path_{TOKEN}")
    for none in ([], ["whsec_abcd"], ["path_"], [TOKEN]):
        with pytest.raises(BadSignatureError, match="no token"):
            in_path(TOKEN, *none)


def test_a_token_of_the_path_signs_nothing():
    secret = f"path_{TOKEN}"
    signed = {"close-sig": hmac.new(secret.encode(), BODY_A, hashlib.sha256).hexdigest()}
    assert "no webhook secret" in refused(CLOSE, signed, BODY_A, secret)
    refused(CLOSE, signed, BODY_A, secret, SIMPLE)


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/webhooks/x", ""),
        ("/webhooks/x/", ""),
        ("/webhooks/x?y=/z", ""),
        (f"/webhooks/x/{TOKEN}", TOKEN),
        (f"/webhooks/x/{TOKEN}?a=b", TOKEN),
        ("/webhooks/x/a/b", "a/b"),
    ],
)
def test_the_token_is_what_stands_behind_the_account(target, token):
    assert path_token(target) == token
