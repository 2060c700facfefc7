"""Properties as fields with options.

https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.sdk import Raw, RemoteField


def as_fields(rows: Iterable[Raw]) -> dict[str, RemoteField]:
    """The properties of an object, by name."""
    return {row["name"]: _field(row) for row in rows}


def _field(row: Raw) -> RemoteField:
    limits = row.get("modificationMetadata") or {}
    fixed = bool(limits.get("readOnlyValue") or row.get("calculated"))
    # Owners, users and the like come from elsewhere: their options are not listed.
    options = () if row.get("externalOptions") else row.get("options") or ()
    return RemoteField(
        row["name"],
        str(row.get("type") or "string"),
        writable=not fixed,
        options=tuple(str(option["value"]) for option in options),
    )


def with_option(row: Raw, value: str) -> dict[str, Any]:
    """The change that adds an option: they are replaced as a whole."""
    options = [dict(option) for option in row.get("options") or ()]
    new = {"label": value, "value": value, "displayOrder": len(options), "hidden": False}
    return {"options": [*options, new]}
