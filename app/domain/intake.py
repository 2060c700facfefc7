"""What a script or an agent says of a company and its people, in the words of a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.config.model import FIELDS
from app.domain.entities import is_set, relations_of
from app.domain.mapping import EntityMapping, compile_mapping
from app.domain.values import Raw

_PARTS = ("street", "city", "state", "postal_code", "country")

#: What is not read as it is: canonical fields, where they stand, and how they are read.
_ROWS: Mapping[str, Mapping[str, Any]] = {
    "company": {
        "domain": {"path": "domain", "as": "domain"},
        "phone": {"path": "phone", "as": "phone"},
        "address": {
            "paths": list(_PARTS),
            "as": "address",
        },
        "employees": {"path": "employees", "as": "integer"},
        "annual_revenue": {"path": "annual_revenue", "as": "decimal"},
        "owner": {"path": "owner", "as": "email"},
    },
    "person": {
        "email, emails": {"path": "emails", "as": "emails"},
        "phone, phones": {"path": "phones", "as": "phones"},
        "owner": {"path": "owner", "as": "email"},
    },
}
#: Of what a person may have several, the first is the one that is used.
_SEVERAL = (("email", "emails"), ("phone", "phones"))


def mapping_of(entity: str, raw: Raw) -> EntityMapping:
    """How what was said is read: custom fields by the kind of their values."""
    rows = dict(_ROWS[entity])
    told = {name.strip() for key in rows for name in key.split(",")}
    for name in FIELDS[entity]:
        if name not in told and name not in relations_of(entity) and not is_set(name):
            rows[name] = {"path": name, "as": "text"}
    rows |= {
        path: {"path": path, "as": _kind(value)}
        for path, value in raw.items()
        if path.startswith("custom.")
    }
    return compile_mapping(entity, rows, where="POST /api/records")


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case list():
            return "multi_select"
    return "text"


def as_raw(entity: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The flat record that such a mapping reads; what was not said is not there."""
    raw = {name: v for name, v in said.items() if name not in ("address", "custom")}
    if "address" in said:
        raw |= {part: (said["address"] or {}).get(part) for part in _PARTS}
    if raw.get("website") and "domain" not in said:
        raw["domain"] = raw["website"]
    for one, several in _SEVERAL if entity == "person" else ():
        if one in said or several in said:
            every = (said.get(one), *(said.get(several) or ()))
            raw[several] = [value for value in every if value]
    return raw | {f"custom.{name}": value for name, value in (said.get("custom") or {}).items()}
