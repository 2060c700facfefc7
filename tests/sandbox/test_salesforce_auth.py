"""Signing in to the local Salesforce: every flow, and what each refuses."""

import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.sandbox.conftest import QUICK, SALESFORCE, running, signed_in

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
APP = {"client_id": SALESFORCE.client_id, "client_secret": SALESFORCE.client_secret}


def assertion(*, key: str | None = None, algorithm: str = "RS256", **changes: Any) -> str:
    """A JWT as the connector signs it, with some claims changed or, if None, left out."""
    claims = {
        "iss": SALESFORCE.client_id,
        "sub": SALESFORCE.username,
        "aud": "https://login.salesforce.com",
        "exp": int(time.time()) + 180,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    private = RSAKey.import_key(key or SALESFORCE.key.read_text())
    return jwt.encode({"alg": algorithm}, claims, private, algorithms=[algorithm])


async def ask(base: str, **form: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{base}/salesforce/services/oauth2/token", data=form)


async def test_a_jwt_gives_a_session_and_no_refresh_token(base: str):
    answer = await ask(base, grant_type=JWT_BEARER, assertion=assertion())
    assert answer.status_code == 200
    body = answer.json()
    assert body["instance_url"] == f"{base}/salesforce"
    assert body["issued_at"].isdigit()
    assert len(body["issued_at"]) == 13
    assert not {"expires_in", "refresh_token"} & body.keys()
    organization, user = body["id"].rsplit("/", 2)[1:]
    assert (organization[:3], user[:3]) == ("00D", "005")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"iss": "somebody else"}, "invalid_client_id"),
        ({"sub": "nobody@syncline.example"}, "invalid_grant"),
        ({"sub": "barbara@syncline.example"}, "inactive_user"),
        ({"aud": "https://example.org"}, "invalid_grant"),
        ({"exp": int(time.time()) - 1}, "invalid_grant"),
        ({"exp": None}, "invalid_grant"),
        ({"algorithm": "RS512"}, "invalid_grant"),
    ],
)
async def test_a_jwt_that_is_not_right_is_refused(base: str, changes: dict[str, Any], error: str):
    answer = await ask(base, grant_type=JWT_BEARER, assertion=assertion(**changes))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_jwt_signed_by_another_key_is_refused(base: str):
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    answer = await ask(base, grant_type=JWT_BEARER, assertion=assertion(key=pem))
    assert answer.json() == {"error": "invalid_grant", "error_description": "invalid assertion"}
    given = assertion()
    forged = json.dumps({"sub": "grace@syncline.example"}).encode()
    head, _, signature = given.split(".")
    payload = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
    answer = await ask(base, grant_type=JWT_BEARER, assertion=f"{head}.{payload}.{signature}")
    assert answer.status_code == 400


async def test_an_audience_may_be_the_org_itself(base: str):
    answer = await ask(base, grant_type=JWT_BEARER, assertion=assertion(aud=f"{base}/salesforce"))
    assert answer.status_code == 200


async def test_the_web_flow_gives_a_refresh_token(base: str):
    verifier = "v" * 64
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    back = "http://127.0.0.1:1/callback"
    query = {"response_type": "code", "client_id": APP["client_id"], "redirect_uri": back}
    async with httpx.AsyncClient(base_url=f"{base}/salesforce/services/oauth2") as client:
        sent = await client.get(
            "/authorize", params={**query, "state": "s1", "code_challenge": challenge}
        )
    assert sent.status_code == 302
    told = parse_qs(urlsplit(sent.headers["location"]).query)
    assert told["state"] == ["s1"]
    form = {"grant_type": "authorization_code", "code": told["code"][0], "redirect_uri": back}
    answer = await ask(base, client_id=APP["client_id"], code_verifier=verifier, **form)
    assert answer.status_code == 200
    token = answer.json()["refresh_token"]
    again = await ask(base, client_id=APP["client_id"], code_verifier=verifier, **form)
    assert again.json()["error"] == "invalid_grant"
    fresh = await ask(base, grant_type="refresh_token", refresh_token=token, **APP)
    assert fresh.status_code == 200
    assert "refresh_token" not in fresh.json()


async def test_a_refresh_token_may_work_only_once(base: str, control):
    await control.post("/options", json={"salesforce": {"rotate": True}})
    old = SALESFORCE.refresh_token
    first = await ask(base, grant_type="refresh_token", refresh_token=old, **APP)
    fresh = first.json()["refresh_token"]
    assert fresh != old
    again = await ask(base, grant_type="refresh_token", refresh_token=old, **APP)
    assert again.status_code == 400
    assert again.json()["error_description"] == "expired access/refresh token"
    assert (await ask(base, grant_type="refresh_token", refresh_token=fresh, **APP)).is_success


async def test_a_wrong_secret_and_an_unknown_flow_are_refused(base: str):
    wrong = {**APP, "client_secret": "wrong"}
    answer = await ask(base, grant_type="client_credentials", **wrong)
    assert answer.json()["error"] == "invalid_client"
    answer = await ask(base, grant_type="magic", **APP)
    assert answer.json()["error"] == "unsupported_grant_type"


async def test_a_session_ends_when_it_is_revoked_or_idle(salesforce, control):
    assert (await salesforce.get("/limits")).is_success
    home = str(salesforce.base_url).partition("/services")[0]
    token = salesforce.headers["authorization"].removeprefix("Bearer ")
    await salesforce.post(f"{home}/services/oauth2/revoke", data={"token": token})
    ended = await salesforce.get("/limits")
    assert ended.status_code == 401
    assert ended.json() == [
        {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
    ]
    async with signed_in(home) as other:
        assert (await other.get("/limits")).is_success
        await control.post("/options", json={"salesforce": {"session_seconds": 0}})
        assert (await other.get("/limits")).status_code == 401


async def test_it_says_who_is_signed_in(salesforce):
    home = str(salesforce.base_url).partition("/services")[0]
    body = (await salesforce.get(f"{home}/services/oauth2/userinfo")).json()
    assert body["preferred_username"] == SALESFORCE.username
    assert body["organization_id"].startswith("00D")
    token = salesforce.headers["authorization"].removeprefix("Bearer ")
    form = {"token": token, **APP}
    known = (await salesforce.post(f"{home}/services/oauth2/introspect", data=form)).json()
    assert known["active"]


async def test_the_days_calls_are_counted_and_run_out(base: str):
    async with (
        running(*QUICK[:-1], "--salesforce-daily-limit", "3") as url,
        signed_in(f"{url}/salesforce") as client,
    ):
        answers = [await client.get("/limits") for _ in range(4)]
        assert answers[1].headers["sforce-limit-info"] == "api-usage=2/3"
        assert answers[2].json()["DailyApiRequests"] == {"Max": 3, "Remaining": 0}
        assert answers[3].status_code == 403
        assert answers[3].headers["sforce-limit-info"] == "api-usage=3/3"
        assert answers[3].json() == [
            {
                "message": "TotalRequests Limit exceeded.",
                "errorCode": "REQUEST_LIMIT_EXCEEDED",
            }
        ]
        await client.post(f"{url}/_sandbox/options", json={"salesforce": {"daily_limit": 10}})
        assert (await client.get("/limits")).is_success


async def test_versions_are_listed_without_signing_in(base: str):
    async with httpx.AsyncClient() as client:
        found = (await client.get(f"{base}/salesforce/services/data/")).json()
        assert {"version": "66.0", "label": "Version 66", "url": "/services/data/v66.0"} in found
        answer = await client.get(f"{base}/salesforce/services/data/v66.0/limits")
        assert answer.status_code == 401
