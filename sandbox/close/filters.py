"""Webhook filters: small expressions over an event.

https://developer.close.com/api/resources/webhooks/webhook-filters
"""

from typing import Any

from sandbox.wire import Json

_LEAVES = {"equals", "not_equals", "contains"}
_EMPTY = {"is_null", "non_null"}
_GROUPS = {"and", "or"}


def check(filter: Any) -> None:
    """`ValueError` unless the filter is one Close would accept."""
    if not isinstance(filter, dict):
        raise ValueError("A filter must be an object.")
    kind = filter.get("type")
    if (kind in _LEAVES and "value" in filter) or kind in _EMPTY:
        return
    if kind in _GROUPS and isinstance(filter.get("filters"), list):
        for part in filter["filters"]:
            check(part)
        return
    if kind in ("not", "any_array_value"):
        return check(filter.get("filter"))
    if kind == "field_accessor" and isinstance(filter.get("field"), str):
        return check(filter.get("filter"))
    raise ValueError(f"Invalid filter type {kind!r}.")


def passes(filter: Json | None, value: Any) -> bool:
    """Whether a value satisfies a filter; no filter lets everything through."""
    if not filter:
        return True
    match filter["type"]:
        case "equals":
            return bool(value == filter["value"])
        case "not_equals":
            return bool(value != filter["value"])
        case "contains":
            return isinstance(value, str | list | dict) and filter["value"] in value
        case "is_null":
            return value is None
        case "non_null":
            return value is not None
        case "and":
            return all(passes(part, value) for part in filter["filters"])
        case "or":
            return any(passes(part, value) for part in filter["filters"])
        case "not":
            return not passes(filter["filter"], value)
        case "any_array_value":
            return isinstance(value, list) and any(passes(filter["filter"], v) for v in value)
        case _:
            inner = value.get(filter["field"]) if isinstance(value, dict) else None
            return passes(filter["filter"], inner)
