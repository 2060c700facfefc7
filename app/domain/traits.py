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


def words(fields: Fields) -> set[str]:
    """What others repeat of somebody: addresses, and the name in full."""
    listed = fields.get("emails")
    every = [*(listed if isinstance(listed, list) else ()), fields.get("email")]
    name = " ".join(str(fields[n]) for n in ("first_name", "last_name") if fields.get(n))
    named = [name] if fields.get("first_name") and fields.get("last_name") else []
    return {text for text in (*every, *named) if isinstance(text, str) and len(text) > 3}


def digests(pepper: bytes, entity: str, found: Iterable[str]) -> set[bytes]:
    """HMACs of these traits: equal for equal people, and nothing without the pepper."""
    return {
        hmac.new(pepper, f"{entity}:{trait}".encode(), hashlib.sha256).digest() for trait in found
    }
