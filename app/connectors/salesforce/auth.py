"""Signing in to Salesforce: four grants, one session, and the instance that it belongs to.

https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flows.htm
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from app.sdk import (
    Account,
    AccountError,
    Answer,
    ConfigError,
    Session,
    Tokens,
    TokenStore,
    TransientError,
    Wire,
    now,
    origin_of,
)

PRODUCTION, SANDBOX = "https://login.salesforce.com", "https://test.salesforce.com"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: An assertion is good for so long: three minutes are the most that is taken.
ASSERTION = 180
#: Where instances live, in all the world: https://help.salesforce.com/s/articleView?id=000384136
DOMAINS = (".salesforce.com", ".salesforce.mil", ".sfcrmproducts.cn")

Have = Mapping[str, SecretStr]


@dataclass(frozen=True, slots=True)
class Grant:
    """One way to sign in: the credentials that it needs, and what else it may use."""

    name: str
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()


#: The first whose credentials are all there is used.
GRANTS = (
    Grant("refresh_token", ("client_id", "refresh_token"), ("client_secret",)),
    Grant(JWT_BEARER, ("client_id", "username", "private_key")),
    Grant("password", ("client_id", "client_secret", "username", "password"), ("security_token",)),
    Grant("client_credentials", ("client_id", "client_secret")),
)


def login_url(account: Account, default: str) -> str:
    """Where an account signs in."""
    return str(account.options.get("login_url") or account.base_url or default).rstrip("/")


def audience(account: Account, url: str) -> str:
    """For whom an assertion is: production or the sandboxes, whatever host takes it."""
    if said := account.options.get("audience"):
        return str(said)
    host = urlsplit(url).hostname or ""
    return SANDBOX if host == "test.salesforce.com" or ".sandbox." in host else PRODUCTION


def grant_of(account: Account, url: str) -> Grant:
    """How this account signs in. Raises ConfigError that names what is missing."""
    have = account.credentials
    found = next((one for one in GRANTS if have.keys() >= {*one.needs}), None)
    if found is None:
        ways = "; or ".join(", ".join(one.needs) for one in GRANTS)
        raise ConfigError(f"{account.name}: credentials need {ways}")
    if found.name == "client_credentials" and url in (PRODUCTION, SANDBOX):
        raise ConfigError(
            f"{account.name}: a client secret alone is taken at your own domain only: set "
            "login_url to https://YOUR-DOMAIN.my.salesforce.com, or add another credential"
        )
    return found


class SalesforceSession(Session):
    """A session without a clock: it lives until a call is told that it is over.

    Its instance comes with the token, and is asked for again with each.
    """

    def __init__(self, account: Account, *, url: str, store: TokenStore, wire: Wire) -> None:
        self._account, self._url = account, url
        self._grant = grant_of(account, url)
        self._key = _key(account) if self._grant.name == JWT_BEARER else None
        super().__init__(store, wire=wire, issued_for=_fingerprint(account, self._grant, url))

    async def ask(self, kept: str | None) -> Tokens:
        answer = await self.post(f"{self._url}/services/oauth2/token", self._form(kept))
        data = answer.data if isinstance(answer.data, dict) else {}
        token, instance = data.get("access_token"), data.get("instance_url")
        if answer.status != 200 or not isinstance(token, str) or not isinstance(instance, str):
            raise _refusal(answer, data, self._account.credentials)
        check_instance(instance, self._url, self._account.private_hosts)
        # Where tokens do not rotate, the answer has none, and the old one stays good.
        renewed = data.get("refresh_token") or kept or self._seed()
        return Tokens(token, renewed, base_url=instance.rstrip("/"))

    def _seed(self) -> str | None:
        seed = self._account.credentials.get("refresh_token")
        return seed.get_secret_value() if seed and self._grant.name == "refresh_token" else None

    def _form(self, kept: str | None) -> dict[str, str]:
        have, name = self._account.credentials, self._grant.name
        form = {"grant_type": name}
        if self._key is not None:
            return {**form, "assertion": self._assertion(self._key)}
        known = (*self._grant.needs, *self._grant.uses)
        given = {n: have[n].get_secret_value() for n in known if n in have}
        if name == "refresh_token":
            given["refresh_token"] = kept or given["refresh_token"]
        if name == "password":
            given["password"] += given.pop("security_token", "")
        return form | given

    def _assertion(self, key: RSAKey) -> str:
        have = self._account.credentials
        claims = {
            "iss": have["client_id"].get_secret_value(),
            "sub": have["username"].get_secret_value(),
            "aud": audience(self._account, self._url),
            "exp": int(now().timestamp()) + ASSERTION,
        }
        return jwt.encode({"alg": "RS256"}, claims, key)


def check_instance(instance: str, url: str, private_hosts: Collection[str] = ()) -> None:
    """Raise AccountError unless calls may go there.

    The token answer decides where every call goes, with the session on it: so only to a host of
    Salesforce's own, encrypted, to the host where we signed in, or to one that the operator named.
    """
    there, here = urlsplit(instance), urlsplit(url)
    host = there.hostname or ""
    own = there.scheme == "https" and host.endswith(DOMAINS)
    same = there.scheme == here.scheme and _place(host) == _place(here.hostname or "")
    if not (own or same or host in private_hosts):
        raise AccountError(
            f"{origin_of(url)} names {origin_of(instance)} as the address of the org, which is "
            "no https address of Salesforce: check login_url, or name the host in private_hosts"
        )


def _place(host: str) -> str:
    """This machine has several names."""
    return "localhost" if host in ("127.0.0.1", "::1") else host


def _key(account: Account) -> RSAKey:
    # An environment file keeps a key on one line.
    text = account.credentials["private_key"].get_secret_value().replace("\\n", "\n").strip()
    try:
        key = RSAKey.import_key(text)
        private = key.is_private
    except (ValueError, TypeError, JoseError):
        private = False
    if not private:
        raise ConfigError(
            f"{account.name}: private_key is not an RSA private key in PEM form without a password"
        )
    return key


def _fingerprint(account: Account, grant: Grant, url: str) -> str:
    """For whom a session is: another user, app, secret or host needs one of its own."""
    have = account.credentials
    told = [have[n].get_secret_value() for n in (*grant.needs, *grant.uses) if n in have]
    said = "\0".join((grant.name, url, audience(account, url), *told))
    return hashlib.sha256(said.encode()).hexdigest()


#: https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flow_errors.htm
_ADVICE = (
    ("user hasn't approved", "approve the user: give the app to a permission set of theirs"),
    ("audience", "set audience to https://test.salesforce.com for a sandbox"),
    ("expired", "connect the account anew"),
)


def _refusal(
    answer: Answer, data: Mapping[str, object], have: Have
) -> AccountError | TransientError:
    error, words = str(data.get("error") or ""), str(data.get("error_description") or "")
    for secret in (value.get_secret_value() for value in have.values()):
        words = words.replace(secret, "***")
    text = f"Salesforce refused to sign in ({answer.status} {error or 'without a reason'}"[:100]
    text += f": {words[:150]})" if words else ")"
    if error == "rate_limit_exceeded":
        return TransientError(text)
    advice = next((todo for sign, todo in _ADVICE if sign in words.lower()), None)
    return AccountError(f"{text}: {advice or 'check client_id, user and login_url'}")
