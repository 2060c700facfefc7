"""Signing in to Salesforce: each grant, the session that ends without a clock, and its instance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from app import config, settings
from app.connectors.salesforce import auth
from app.errors import AccountError, ConfigError, TransientError
from app.sdk.connector import Account
from app.sdk.oauth import OwnStore
from tests.connectors.conftest import REGISTRY, ROOT, SALESFORCE, Control

KEY = (ROOT / "sandbox/salesforce/private_key.pem").read_text()
USER = "integration@syncline.example"
APP = {name: value.get_secret_value() for name, value in SALESFORCE.credentials.items()}
INSTANCE = "https://acme.my.salesforce.com"
GRANTS = {
    "jwt": {"client_id": APP["client_id"], "username": USER, "private_key": KEY},
    "client credentials": APP,
    "refresh token": {**APP, "refresh_token": "5Aep861SandboxRefreshToken"},
    "password": {
        **APP,
        "username": USER,
        "password": "salesforce-sandbox-password",
        "security_token": "SandboxSecurityToken",
    },
}


def account(credentials: dict[str, str], *, base: str = "", **options: object) -> Account:
    kept = {name: SecretStr(value) for name, value in credentials.items()}
    return Account("acme", "salesforce", base, kept, options=options)


class Vendor:
    """Answers sign-ins with what it is told, and calls with the token that they brought."""

    def __init__(self, **session: Any) -> None:
        self.forms: list[dict[str, str]] = []
        self.calls: list[tuple[str, str]] = []
        self.ended: set[str] = set()
        self.session = {"access_token": "session", "instance_url": INSTANCE, **session}
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/services/oauth2/token"):
            self.forms.append(dict(parse_qsl(request.content.decode())))
            return httpx.Response(self.status, json=self.session)
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.calls.append((str(request.url), token))
        if token in self.ended:
            body = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
            return httpx.Response(401, json=body)
        return httpx.Response(200, json=[])


def connect(vendor: Callable[..., httpx.Response], who: Account, store: Any = None):
    return REGISTRY.connect(who, store, httpx.MockTransport(vendor))


# ------------------------------------------------------------------- against the sandbox


@pytest.mark.parametrize("grant", sorted(GRANTS))
async def test_every_grant_signs_in(grant: str, control: Control):
    who = account(GRANTS[grant], base=f"{control.base}/salesforce")
    connector = REGISTRY.connect(who, OwnStore())
    found = (await connector.check())[0]
    assert found.ok, found
    assert "00DSb0000000001" in found.detail
    await connector.aclose()


async def test_a_session_that_has_ended_is_renewed_once_for_all_workers(control: Control):
    store = OwnStore()
    who = account(GRANTS["jwt"], base=f"{control.base}/salesforce")
    workers = [REGISTRY.connect(who, store) for _ in range(3)]
    for worker in workers:
        await worker.directory()
    first = store.tokens
    await control.person("POST", "/salesforce/expire-sessions", json={})
    for worker in workers:
        assert (await worker.directory()).owners
    assert store.tokens != first
    counted = await control.calls("salesforce")
    assert [c["path"] for c in counted].count("/services/oauth2/token") == 2
    for worker in workers:
        await worker.aclose()


async def test_who_we_are_can_be_asked_with_a_session_that_has_ended(control: Control):
    who = account(GRANTS["jwt"], base=f"{control.base}/salesforce")
    connector = REGISTRY.connect(who)
    await connector.directory()
    await control.person("POST", "/salesforce/expire-sessions", json={})
    answer = await connector.client.call("GET", connector.manifest.whoami)
    assert answer.data["preferred_username"] == USER
    await connector.aclose()


async def test_a_refresh_token_that_rotates_is_kept_and_used_next(control: Control):
    await control.call("POST", "/_sandbox/options", json={"salesforce": {"rotate": True}})
    store = OwnStore()
    who = account(GRANTS["refresh token"], base=f"{control.base}/salesforce")
    connector = REGISTRY.connect(who, store)
    await connector.directory()
    assert store.tokens is not None
    assert store.tokens.refresh_token != GRANTS["refresh token"]["refresh_token"]
    await control.person("POST", "/salesforce/expire-sessions", json={})
    await connector.directory()
    await connector.aclose()


# ------------------------------------------------------------------------ with a stand-in


async def test_an_assertion_names_app_user_and_audience_and_is_signed():
    vendor = Vendor()
    connector = connect(vendor, account(GRANTS["jwt"]))
    await connector.client.call("GET", "/x")
    (form,) = vendor.forms
    assert form["grant_type"] == auth.JWT_BEARER
    token = jwt.decode(form["assertion"], RSAKey.import_key(KEY), algorithms=["RS256"])
    assert (token.claims["iss"], token.claims["sub"]) == (APP["client_id"], USER)
    assert token.claims["aud"] == "https://login.salesforce.com"
    assert vendor.calls == [(f"{INSTANCE}/x", "session")]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "https://login.salesforce.com"),
        ({"login_url": "https://test.salesforce.com"}, "https://test.salesforce.com"),
        (
            {"login_url": "https://acme--qa.sandbox.my.salesforce.com"},
            "https://test.salesforce.com",
        ),
        ({"login_url": "https://acme.my.salesforce.com"}, "https://login.salesforce.com"),
        (
            {"login_url": "http://127.0.0.1:9/salesforce", "audience": "https://a.example"},
            "https://a.example",
        ),
    ],
)
def test_the_audience_goes_by_the_login_host_unless_it_is_configured(options, wanted: str):
    who = account(GRANTS["jwt"], **options)
    assert auth.audience(who, auth.login_url(who, auth.PRODUCTION)) == wanted


async def test_a_key_on_one_line_is_a_key():
    vendor = Vendor()
    flat = {**GRANTS["jwt"], "private_key": KEY.strip().replace("\n", "\\n")}
    await connect(vendor, account(flat)).client.call("GET", "/x")
    assert vendor.calls


async def test_a_password_is_followed_by_the_security_token():
    vendor = Vendor()
    await connect(vendor, account(GRANTS["password"])).client.call("GET", "/x")
    assert vendor.forms[0]["password"] == "salesforce-sandbox-passwordSandboxSecurityToken"
    assert "security_token" not in vendor.forms[0]


async def test_calls_follow_the_instance_of_each_session():
    vendor = Vendor()
    connector = connect(vendor, account(GRANTS["jwt"]))
    await connector.client.call("GET", "/x")
    vendor.ended.add("session")
    vendor.session = {"access_token": "next", "instance_url": "https://acme2.my.salesforce.com"}
    await connector.client.call("GET", "/x")
    assert vendor.calls[-1] == ("https://acme2.my.salesforce.com/x", "next")
    assert len(vendor.forms) == 2


@pytest.mark.parametrize(
    "instance",
    [
        "http://acme.my.salesforce.com",
        "https://acme.my.salesforce.com.evil.example",
        "https://evil.example/.salesforce.com",
        "https://evilsalesforce.com",
        "https://user@evil.example",
        "https://127.0.0.1",
        "ftp://acme.my.salesforce.com",
        "",
    ],
)
async def test_no_session_is_sent_to_a_stranger(instance: str):
    vendor = Vendor(instance_url=instance)
    connector = connect(vendor, account(GRANTS["jwt"]))
    with pytest.raises(AccountError):
        await connector.client.call("GET", "/x")
    assert vendor.calls == []


@pytest.mark.parametrize(
    ("login", "instance"),
    [
        ("http://127.0.0.1:8765/salesforce", "http://127.0.0.1:8765/salesforce"),
        ("https://proxy.acme.example", "https://proxy.acme.example/org"),
        ("https://proxy.acme.example", "https://acme.my.salesforce.com"),
        ("https://login.salesforce.com", "https://acme.my.sfcrmproducts.cn"),
    ],
)
async def test_where_we_signed_in_and_salesforce_itself_are_no_strangers(login, instance):
    vendor = Vendor(instance_url=instance)
    connector = connect(vendor, account(GRANTS["jwt"], login_url=login))
    await connector.client.call("GET", "/x")
    assert vendor.calls == [(f"{instance}/x", "session")]


async def test_a_session_of_another_user_or_app_is_not_used():
    store, vendor = OwnStore(), Vendor()
    await connect(vendor, account(GRANTS["jwt"]), store).client.call("GET", "/x")
    await connect(vendor, account(GRANTS["jwt"]), store).client.call("GET", "/x")
    assert len(vendor.forms) == 1
    other = account({**GRANTS["jwt"], "username": "other@acme.example"})
    await connect(vendor, other, store).client.call("GET", "/x")
    assert len(vendor.forms) == 2


async def test_a_refused_sign_in_says_what_to_do_and_no_secret():
    secret = APP["client_secret"]
    vendor = Vendor()
    vendor.status, vendor.session = 400, {"error": "invalid_grant"}
    vendor.session["error_description"] = f"user hasn't approved this consumer {secret}"
    connector = connect(vendor, account(GRANTS["client credentials"], login_url=INSTANCE))
    with pytest.raises(AccountError) as caught:
        await connector.client.call("GET", "/x")
    assert "permission set" in str(caught.value)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(("status", "error"), [(503, ""), (429, ""), (400, "rate_limit_exceeded")])
async def test_a_sign_in_may_work_later(status: int, error: str):
    vendor = Vendor()
    vendor.status, vendor.session = status, {"error": error}
    with pytest.raises(TransientError):
        await connect(vendor, account(GRANTS["jwt"])).client.call("GET", "/x")


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({}, "credentials need"),
        ({"client_id": "a", "username": "b"}, "credentials need"),
        (APP, "login_url"),
        ({**GRANTS["jwt"], "private_key": "no key"}, "private_key"),
        ({**GRANTS["jwt"], "private_key": "-----BEGIN PUBLIC KEY-----\nAA=="}, "private_key"),
    ],
)
def test_credentials_that_cannot_sign_in_stop_the_start(credentials, words: str):
    with pytest.raises(ConfigError, match=words) as caught:
        connect(Vendor(), account(credentials))
    assert "no key" not in str(caught.value).replace("no key in", "")


def test_a_refresh_token_needs_a_place_to_be_kept():
    with pytest.raises(ConfigError, match="place"):
        connect(Vendor(), account(GRANTS["refresh token"]))


async def test_the_environment_alone_makes_an_account_that_works(
    control: Control, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    flat = KEY.strip().replace("\n", "\\n")
    told = {"CLIENT_ID": APP["client_id"], "USERNAME": USER, "PRIVATE_KEY": flat}
    for name, value in {**told, "LOGIN_URL": f"{control.base}/salesforce"}.items():
        monkeypatch.setenv(f"SALESFORCE_{name}", value)
    found = config.load(settings.read(), lambda name: REGISTRY.connector(name).manifest.entities)
    made = found.accounts["salesforce"]
    who = Account("salesforce", made.connector, "", made.credentials, options=made.options)
    connector = REGISTRY.connect(who)
    assert (await connector.check())[0].ok
    await connector.aclose()
