"""The search, and where a scan stands.

https://developers.hubspot.com/docs/api-reference/legacy/crm/search-the-crm
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from app.connectors.hubspot.shapes import millis
from app.sdk import RejectedError

#: https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
BATCH = 100
#: … and 50 where the history of properties is asked for:
#: https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
HISTORY_BATCH = 50


#: The search index follows a write after up to half a minute; scans step back by more.
LAG = timedelta(seconds=60)


#: Alternatives that a search takes: https://developers.hubspot.com/docs/api-reference/legacy/crm/search-the-crm
GROUPS = 5


#: https://developers.hubspot.com/docs/api-reference/legacy/crm/search-the-crm, with some room.
SEARCH_BODY = 2_800


def filter_of(name: str, operator: str, value: str) -> dict[str, Any]:
    return {"propertyName": name, "operator": operator, "value": value}


def in_domain(domains: Sequence[str]) -> dict[str, Any]:
    # IN compares text as it is, and HubSpot keeps domains in lower case.
    names = [domain.lower() for domain in domains]
    groups = [[filter_of("domain", "EQ", name)] for name in names]
    if len(names) > GROUPS:
        groups = [[{"propertyName": "domain", "operator": "IN", "values": names}]]
    return {
        "filterGroups": [{"filters": filters} for filters in groups],
        "properties": ["domain"],
        "limit": 100,
    }


def modified_since(name: str, low: int) -> dict[str, Any]:
    return {
        "filterGroups": [{"filters": [filter_of(name, "GTE", str(low))]}],
        "sorts": [{"propertyName": name, "direction": "ASCENDING"}],
        "properties": [name],
        "limit": BATCH,
    }


def moment_after(name: str, moment: int, last: str) -> dict[str, Any]:
    filters = [filter_of(name, "EQ", str(moment)), filter_of("hs_object_id", "GT", last)]
    return {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": [name],
        "limit": BATCH,
    }


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a scan stands: after an id of the list, or at a moment (ms) of the changes."""

    since: int | None = None
    after: str | None = None

    @classmethod
    def read(cls, text: str | None, since: datetime | None) -> Cursor:
        if text is None:
            return cls(int(millis(since - LAG))) if since else cls()
        try:
            data = orjson.loads(text)
            return cls(data["since"], data["after"])
        except (ValueError, TypeError, KeyError) as error:
            raise RejectedError("this is not a cursor of a HubSpot scan") from error

    def write(self) -> str:
        return orjson.dumps({"since": self.since, "after": self.after}).decode()
