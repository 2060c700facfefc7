"""Whether a webhook is genuine, for peers: as briefly as a careful tutorial has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Mapping

KEY = os.environ.get("BENCH_KEY", "")
TOLERANCE = 300


def is_genuine(account: str, headers: Mapping[str, str], body: bytes, url: str) -> bool:
    """Check the signature that Close or HubSpot (version 3) puts on a webhook."""
    if account == "close":
        stamp, given = headers["close-sig-timestamp"], headers["close-sig-hash"]
        seconds = int(stamp)
        message = stamp.encode() + body
        wanted = hmac.new(bytes.fromhex(KEY), message, hashlib.sha256).hexdigest()
    else:
        stamp, given = headers["x-hubspot-request-timestamp"], headers["x-hubspot-signature-v3"]
        seconds = int(stamp) // 1000
        message = b"POST" + url.encode() + body + stamp.encode()
        digest = hmac.new(KEY.encode(), message, hashlib.sha256).digest()
        wanted = base64.b64encode(digest).decode()
    return hmac.compare_digest(wanted, given) and abs(time.time() - seconds) < TOLERANCE
