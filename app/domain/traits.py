"""What a purged person is known by, without keeping it: keyed hashes of addresses."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from app.domain.identity import normalise
from app.domain.values import Fields


def traits(fields: Fields) -> set[str]:
    """What says who somebody is whatever the configured keys: addresses, or a domain."""
    listed = fields.get("emails")
    every = [*(listed if isinstance(listed, list) else ()), fields.get("email")]
    said = [("email", text) for text in every] + [("domain", fields.get("domain"))]
    return {
        f"{kind}:{value}"
        for kind, text in said
        if isinstance(text, str) and (value := normalise(kind, text))
    }


def digests(pepper: bytes, entity: str, found: Iterable[str]) -> set[bytes]:
    """HMACs of these traits: equal for equal people, and nothing without the pepper."""
    return {
        hmac.new(pepper, f"{entity}:{trait}".encode(), hashlib.sha256).digest() for trait in found
    }
