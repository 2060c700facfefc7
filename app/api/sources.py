"""How many forged deliveries each source has sent lately."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MINUTE: Final = 60.0
#: Bad signatures that a source may send in a minute: a rotation gone wrong sends fewer.
ENOUGH: Final = 120
#: Sources that are remembered; the one heard of longest ago goes first.
MOST: Final = 10_000


class Sources:
    """Counts by address, and by network of 64 bits where an address is cheap (IPv6)."""

    def __init__(self, *, enough: int = ENOUGH, now: Callable[[], float] = time.monotonic) -> None:
        self._enough, self._now = enough, now
        #: Source -> when its minute began, and how many came since.
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refused(self, address: str) -> float:
        """Count a bad signature; seconds for which the source has had enough, else 0."""
        source, now = network(address), self._now()
        began, count = self._seen.pop(source, (now, 0))
        if now - began >= MINUTE:
            began, count = now, 0
        self._seen[source] = (began, count + 1)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return began + MINUTE - now if count >= self._enough else 0.0


def network(address: str) -> str:
    """Whose address this is, for counting."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
