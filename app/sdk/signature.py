"""Signature schemes by name: pure functions over the bytes that were received."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from pydantic import SecretStr

from app.domain.values import Delivery
from app.errors import BadSignatureError


@dataclass(frozen=True, slots=True)
class Claim:
    """What a scheme looks at: the delivery, and the address its sender called."""

    delivery: Delivery
    public_url: str  # without a trailing slash
    tolerance: int
    now: datetime

    def header(self, name: str) -> str:
        """The value of a header; raises where it is missing."""
        value = self.delivery.headers.get(name)
        if not value:
            raise BadSignatureError(f"the header {name} is missing")
        return value

    def fresh(self, name: str, *, per_second: int = 1) -> bytes:
        """The bytes of a timestamp header, near enough to now in either direction."""
        text = self.header(name)
        # `int` would also take signs, blanks, underscores and other alphabets' digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 17):
            raise BadSignatureError(f"the header {name} is not a timestamp")
        if abs(self.now.timestamp() - int(text) / per_second) > self.tolerance:
            raise BadSignatureError(f"the timestamp in {name} is too old or in the future")
        return text.encode("ascii")


#: A secret that begins like this signs nothing: the rest of it stands in the path of the URL.
IN_PATH = "path_"
_PREFIX = "/webhooks/"

#: From one secret to the wanted signature; None where the secret does not serve this scheme.
Sign = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Scheme:
    """``applies`` looks at headers only; ``read`` gives the given signatures and the signer."""

    applies: Callable[[Mapping[str, str]], bool]
    read: Callable[[Claim], tuple[list[bytes], Sign]]


def verify(
    schemes: Sequence[str],
    delivery: Delivery,
    secrets: Sequence[SecretStr],
    *,
    public_url: str,
    tolerance: int,
    now: datetime,
) -> None:
    """Pass if the first scheme whose header is present fits one of the secrets.

    A later scheme is asked only where no secret serves an earlier one (a text secret cannot
    make a Close v1 signature), so a bad genuine signature is never rescued by a weaker header.
    Raises BadSignatureError, and never another error, whatever a stranger sends.
    """
    texts = [secret.get_secret_value() for secret in secrets]
    usable = [text for text in texts if not text.startswith(IN_PATH) and text.strip()]
    if not usable:
        raise BadSignatureError("this account has no webhook secret")
    claim: Claim | None = None
    for name in schemes:
        scheme = SCHEMES[name]
        if not scheme.applies(delivery.headers):
            continue
        claim = claim or Claim(delivery, public_url.rstrip("/"), tolerance, now)
        given, sign = scheme.read(claim)
        wanted = [signed for text in usable if (signed := sign(text)) is not None]
        if not wanted:
            continue
        # No short cut: the time taken must not tell which secret came near.
        fits = [hmac.compare_digest(one, other) for one in wanted for other in given]
        if not any(fits):
            raise BadSignatureError("the signature does not match the body")
        return
    if claim is None:
        raise BadSignatureError(f"no signature header of {', '.join(schemes)} is present")
    raise BadSignatureError("no webhook secret of this account serves this signature")


def path_token(target: str) -> str:
    """What a target holds behind the account's name, as /webhooks/NAME/TOKEN; mostly nothing."""
    path = target.partition("?")[0]
    # What was read from an account's own log comes from no URL.
    return path.removeprefix(_PREFIX).partition("/")[2] if path.startswith(_PREFIX) else ""


def token_of(secret: SecretStr) -> str:
    """The token of a secret that stands in the path; empty for one that signs."""
    text = secret.get_secret_value()
    return text.removeprefix(IN_PATH) if text.startswith(IN_PATH) else ""


def verify_path(given: str, secrets: Sequence[SecretStr]) -> None:
    """Pass if this is the token of one of the secrets. Raises BadSignatureError."""
    wanted = [_text(token) for secret in secrets if (token := token_of(secret))]
    if not wanted:
        raise BadSignatureError("this account has no token for its path")
    # No short cut: the time taken must not tell which token came near.
    fits = [hmac.compare_digest(one, _wire(given)) for one in wanted]
    if not any(fits):
        raise BadSignatureError("the token in the path is another")


def _wire(text: str) -> bytes:
    """The bytes a header or request line had: servers decode them as Latin-1."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _text(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogatepass")


def _has(name: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda headers: bool(headers.get(name))


# --------------------------------------------------------------------------- Close


def _close_v1(claim: Claim) -> tuple[list[bytes], Sign]:
    """https://developer.close.com/api/resources/webhooks: the key is hex, decoded."""
    stamp = claim.fresh("close-sig-timestamp")
    message = stamp + claim.delivery.body

    def sign(secret: str) -> bytes | None:
        try:
            key = bytes.fromhex(secret.strip())
        except ValueError:
            return None
        return hmac.digest(key, message, "sha256").hex().encode() if key else None

    return [_wire(claim.header("close-sig-hash"))], sign


def _close_sig(claim: Claim) -> tuple[list[bytes], Sign]:
    """Our simple form: the secret as text over the body alone; repeats are found by event id."""

    def sign(secret: str) -> bytes:
        return hmac.digest(_text(secret), claim.delivery.body, "sha256").hex().encode()

    return [_wire(claim.header("close-sig"))], sign


# ------------------------------------------------------------------------- HubSpot

# HubSpot decodes exactly these before it signs, and leaves the rest (%20, %26, %3D) alone:
# https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
_DECODED = re.compile(rb"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def _uri(claim: Claim) -> bytes:
    return _wire(claim.public_url) + _wire(claim.delivery.target)


def _hubspot_v3(claim: Claim) -> tuple[list[bytes], Sign]:
    stamp = claim.fresh("x-hubspot-request-timestamp", per_second=1000)
    uri = _DECODED.sub(lambda found: bytes.fromhex(found[1].decode()), _uri(claim))
    message = claim.delivery.method.upper().encode() + uri + claim.delivery.body + stamp

    def sign(secret: str) -> bytes:
        return base64.b64encode(hmac.digest(_text(secret), message, "sha256"))

    return [_wire(claim.header("x-hubspot-signature-v3"))], sign


def _hubspot_legacy(claim: Claim, message: bytes) -> tuple[list[bytes], Sign]:
    def sign(secret: str) -> bytes:
        return hashlib.sha256(_text(secret) + message).hexdigest().encode()

    return [_wire(claim.header("x-hubspot-signature"))], sign


def _hubspot_v1(claim: Claim) -> tuple[list[bytes], Sign]:
    return _hubspot_legacy(claim, claim.delivery.body)


def _hubspot_v2(claim: Claim) -> tuple[list[bytes], Sign]:
    method = claim.delivery.method.upper().encode()
    return _hubspot_legacy(claim, method + _uri(claim) + claim.delivery.body)


def _hubspot_version(version: str) -> Callable[[Mapping[str, str]], bool]:
    def applies(headers: Mapping[str, str]) -> bool:
        said = headers.get("x-hubspot-signature-version", "v1").lower()
        return bool(headers.get("x-hubspot-signature")) and said == version

    return applies


# --------------------------------------------------------------- Standard Webhooks


def _standard(claim: Claim) -> tuple[list[bytes], Sign]:
    """https://www.standardwebhooks.com: several signatures while a secret rotates."""
    stamp = claim.fresh("webhook-timestamp")
    message = b".".join((_wire(claim.header("webhook-id")), stamp, claim.delivery.body))
    given = [
        _wire(signature)
        for part in claim.header("webhook-signature").split()
        for version, _, signature in [part.partition(",")]
        if version == "v1"
    ]

    def sign(secret: str) -> bytes | None:
        key = standard_key(secret)
        return base64.b64encode(hmac.digest(key, message, "sha256")) if key else None

    return given, sign


def standard_key(secret: str) -> bytes:
    """The key of ``whsec_<base64>``, or the plain text; empty where it cannot be read."""
    if not secret.startswith("whsec_"):
        return _text(secret)
    try:
        return base64.b64decode(secret.removeprefix("whsec_").strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def standard_headers(secret: SecretStr, id: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """The headers of a message of our own; ``id`` is the same whenever it is sent again."""
    stamp = str(int(at.timestamp()))
    message = f"{id}.{stamp}.".encode() + body
    digest = hmac.digest(standard_key(secret.get_secret_value()), message, "sha256")
    return {
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "close-v1": Scheme(_has("close-sig-hash"), _close_v1),
        "close-sig": Scheme(_has("close-sig"), _close_sig),
        "hubspot-v3": Scheme(_has("x-hubspot-signature-v3"), _hubspot_v3),
        "hubspot-v2": Scheme(_hubspot_version("v2"), _hubspot_v2),
        "hubspot-v1": Scheme(_hubspot_version("v1"), _hubspot_v1),
        "standard-webhooks": Scheme(_has("webhook-signature"), _standard),
    }
)
