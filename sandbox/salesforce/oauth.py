"""Signing in: the OAuth flows of an external client app, and the sessions they give.

https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flows.htm
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from sandbox.records import Record
from sandbox.salesforce.defaults import ORGANIZATION
from sandbox.salesforce.org import NEWEST, OLDEST, Salesforce, plain
from sandbox.wire import Answer, Call, Json, RefusedError

AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "id api refresh_token"
# How far ahead an assertion may reach, and how long a code is good for.
CODE_LIFE = 900

Form = dict[str, str]


def home(call: Call) -> str:
    """The address of this Salesforce, as the caller knows it."""
    return f"http://{call.headers.get('host', '127.0.0.1')}/salesforce"


def _bad(error: str, text: str, *, status: int = 400) -> RefusedError:
    return RefusedError(Answer(status, {"error": error, "error_description": text}))


def _user(org: Salesforce, name: str) -> Record:
    """The active user with this name."""
    users = org.store.all("User")
    found = next((u for u in users if u.get("Username") == name.lower()), None)
    if found is None:
        raise _bad("invalid_grant", "user hasn't approved this consumer")
    if not found.get("IsActive"):
        raise _bad("inactive_user", "user is inactive")
    return found


@plain.on("POST", "/services/oauth2/token")
def token(org: Salesforce, call: Call) -> Answer:
    """A session. There is no `expires_in`; `issued_at` is milliseconds, as a text."""
    form = {**call.form(), **_basic(call)}
    flow = _FLOWS.get(form.get("grant_type", ""))
    if flow is None:
        raise _bad("unsupported_grant_type", "grant type not supported")
    user, more = flow(org, call, form)
    return Answer(200, _session(org, call, user) | more)


def _session(org: Salesforce, call: Call, user: Record) -> Json:
    access = f"{ORGANIZATION}!{secrets.token_urlsafe(48)}"
    at = call.at.timestamp()
    org.sessions[access] = {"user": user.id, "client": org.settings.client_id, "used": at}
    id, issued = f"{home(call)}/id/{ORGANIZATION}/{user.id}", str(int(at * 1000))
    signed = hmac.new(org.settings.client_secret.encode(), (id + issued).encode(), hashlib.sha256)
    return {
        "access_token": access,
        "signature": base64.b64encode(signed.digest()).decode(),
        "scope": SCOPE,
        "instance_url": home(call),
        "id": id,
        "token_type": "Bearer",
        "issued_at": issued,
    }


def _basic(call: Call) -> Form:
    """Client id and secret, where they come as HTTP Basic."""
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        id, _, secret = base64.b64decode(given).decode().partition(":")
    except ValueError:
        return {}
    return {"client_id": id, "client_secret": secret}


def _check_client(org: Salesforce, form: Form, *, secret: bool = True) -> None:
    if form.get("client_id") != org.settings.client_id:
        raise _bad("invalid_client_id", "client identifier invalid")
    given = form.get("client_secret")
    if given != org.settings.client_secret and (secret or given is not None):
        raise _bad("invalid_client", "invalid client credentials")


def _jwt(org: Salesforce, call: Call, form: Form) -> tuple[Record, Json]:
    """A signed statement instead of a secret. Gives no refresh token."""
    try:
        key = RSAKey.import_key(org.settings.key.read_text())
        found = jws.deserialize_compact(form.get("assertion", ""), key, algorithms=["RS256"])
        claims = _claims(found.payload)
    except (JoseError, ValueError):
        raise _bad("invalid_grant", "invalid assertion") from None
    if claims["iss"] != org.settings.client_id:
        raise _bad("invalid_client_id", "client identifier invalid")
    if claims["aud"].rstrip("/") not in (*AUDIENCES, home(call)):
        raise _bad("invalid_grant", "audience is invalid")
    if float(claims["exp"]) <= call.at.timestamp():
        raise _bad("invalid_grant", "assertion has expired")
    return _user(org, claims["sub"]), {}


def _claims(payload: bytes) -> dict[str, str]:
    """The claims that must be there, as texts: clients send `exp` as a number or as a text."""
    claims = orjson.loads(payload)
    found = {name: str(claims.get(name) or "") for name in ("iss", "sub", "aud", "exp")}
    if not all(found.values()):
        raise ValueError("a claim is missing")
    return found


def _refresh(org: Salesforce, call: Call, form: Form) -> tuple[Record, Json]:
    _check_client(org, form, secret=False)
    given = form.get("refresh_token", "")
    if given not in org.refresh_tokens:
        raise _bad("invalid_grant", "expired access/refresh token")
    user = _user(org, org.refresh_tokens[given])
    if not org.options.rotate:
        return user, {}
    del org.refresh_tokens[given]
    return user, {"refresh_token": _refresh_token(org, user)}


def _refresh_token(org: Salesforce, user: Record) -> str:
    fresh = f"5Aep861{secrets.token_urlsafe(48)}"
    org.refresh_tokens[fresh] = user.get("Username")
    return fresh


def _client(org: Salesforce, call: Call, form: Form) -> tuple[Record, Json]:
    """Runs as the user that the app names."""
    _check_client(org, form)
    return _user(org, org.settings.username), {}


def _password(org: Salesforce, call: Call, form: Form) -> tuple[Record, Json]:
    _check_client(org, form)
    config = org.settings
    wanted = (config.username, config.password + config.security_token)
    if (form.get("username", "").lower(), form.get("password")) != wanted:
        raise _bad("invalid_grant", "authentication failure")
    return _user(org, config.username), {}


def _code(org: Salesforce, call: Call, form: Form) -> tuple[Record, Json]:
    known = org.codes.pop(form.get("code", ""), None)
    if known is None or call.at.timestamp() > known["until"]:
        raise _bad("invalid_grant", "expired authorization code")
    _check_client(org, form, secret=not known["challenge"])
    if form.get("redirect_uri") != known["redirect_uri"]:
        raise _bad("redirect_uri_mismatch", "redirect_uri must match configuration")
    if known["challenge"]:
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != known["challenge"]:
            raise _bad("invalid_grant", "invalid code verifier")
    user = _user(org, known["user"])
    return user, {"refresh_token": _refresh_token(org, user)}


_FLOWS: dict[str, Callable[[Salesforce, Call, Form], tuple[Record, Json]]] = {
    JWT_BEARER: _jwt,
    "refresh_token": _refresh,
    "client_credentials": _client,
    "password": _password,
    "authorization_code": _code,
}


@plain.on("GET", "/services/oauth2/authorize")
def authorize(org: Salesforce, call: Call) -> Answer:
    """Whoever looks at this page consents at once, and is sent back with a code."""
    _check_client(org, {"client_id": call.one("client_id")}, secret=False)
    back = call.one("redirect_uri")
    if call.one("response_type") != "code" or not urlsplit(back).scheme:
        raise _bad("invalid_request", "response_type must be code, and redirect_uri is needed")
    code = f"aPrx{secrets.token_urlsafe(32)}"
    org.codes[code] = {
        "user": org.settings.username,
        "redirect_uri": back,
        "challenge": call.one("code_challenge"),
        "until": call.at.timestamp() + CODE_LIFE,
    }
    state = {"state": call.one("state")} if "state" in call.query else {}
    mark = "&" if "?" in back else "?"
    return Answer(302, None, {"location": f"{back}{mark}{urlencode({'code': code, **state})}"})


@plain.on("POST", "/services/oauth2/revoke")
def revoke(org: Salesforce, call: Call) -> Answer:
    """The end of a session, or of a refresh token and all sessions."""
    given = call.form().get("token", "")
    if org.refresh_tokens.pop(given, None):
        org.sessions.clear()
    elif org.sessions.pop(given, None) is None:
        raise _bad("unsupported_token_type", "this token type is not supported")
    return Answer(200)


@plain.on("POST", "/services/oauth2/introspect")
def introspect(org: Salesforce, call: Call) -> Answer:
    form = {**call.form(), **_basic(call)}
    _check_client(org, form)
    session = org.sessions.get(form.get("token", ""))
    if session is None:
        return Answer(200, {"active": False})
    user = org.store.find("User", session["user"])
    name = user.get("Username") if user else None
    body = {"active": True, "scope": SCOPE, "client_id": session["client"], "username": name}
    return Answer(200, {**body, "token_type": "access_token"})


@plain.on("GET", "/services/oauth2/userinfo")
@plain.on("GET", "/id/{organization}/{user}")
def userinfo(org: Salesforce, call: Call, **values: str) -> Answer:
    """Who a session belongs to."""
    _, _, token = call.headers.get("authorization", "").partition(" ")
    session = org.sessions.get(token)
    user = org.store.find("User", session["user"]) if session else None
    if user is None:
        return Answer(403, b"Bad_OAuth_Token", {"content-type": "text/plain"})
    body = {
        "sub": f"{home(call)}/id/{ORGANIZATION}/{user.id}",
        "user_id": user.id,
        "organization_id": ORGANIZATION,
        "preferred_username": user.get("Username"),
        "name": user.get("Name"),
        "email": user.get("Email"),
        "active": user.get("IsActive"),
        "urls": {"rest": f"{home(call)}/services/data/v{{version}}/"},
    }
    return Answer(200, body)


@plain.on("GET", "/services/data")
def versions(org: Salesforce, call: Call) -> Answer:
    """The versions of the API; nobody has to sign in for that."""
    found = [
        {"label": f"Version {n}", "url": f"/services/data/v{n}.0", "version": f"{n}.0"}
        for n in range(OLDEST, NEWEST + 1)
    ]
    return Answer(200, found)
