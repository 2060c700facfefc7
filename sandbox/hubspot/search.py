"""`POST /crm/v3/objects/{type}/search`: filters, sorts, pages, and a lagging index.

https://developers.hubspot.com/docs/api-reference/legacy/crm/search-the-crm
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import invalid
from sandbox.hubspot.links import linked
from sandbox.hubspot.objects import Wanted, shape
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import ObjectType
from sandbox.hubspot.values import WrongValueError, moment
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json

PAGE = 200
DEEPEST = 10_000
BODY = 3_000
GROUPS, FILTERS, FILTERS_IN_ALL = 5, 6, 18

Test = Callable[[Record], bool]


@routes.on("POST", "/crm/v3/objects/{type}/search")
def search(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """Records as the index knew them a moment ago; archived ones are not in it."""
    kind, body = typed(type), read_json(call)
    if len(call.body) > BODY:
        raise invalid(f"The request body is longer than {BODY} characters")
    limit, after = _page(body)
    matches = _any_group(portal, kind, body.get("filterGroups") or [])
    words = str(body.get("query") or "").casefold().split()
    order = _order(portal, kind, body.get("sorts") or [])
    at = call.at - timedelta(seconds=app.settings.search_lag)
    seen = (record.as_of(at) for record in portal.store.all(kind.name))
    found = [r for r in seen if r and matches(r) and _mentions(kind, r, words)]
    found = order(found)
    wanted = Wanted(body.get("properties") or [])
    page = found[after : after + limit]
    answer: Json = {
        "total": len(found),
        "results": [shape(portal, kind, record, wanted) for record in page],
    }
    if len(found) > after + limit:
        answer["paging"] = {"next": {"after": str(after + limit)}}
    return Answer(200, answer)


def _page(body: Json) -> tuple[int, int]:
    limit, after = body.get("limit", 10), str(body.get("after") or "0")
    if not isinstance(limit, int) or not 0 <= limit <= PAGE:
        raise invalid(f"limit must be at most {PAGE}")
    if not after.isdigit():
        raise invalid("after must be a number")
    if int(after) + limit > DEEPEST:
        raise invalid(f"A search shows at most {DEEPEST} results; narrow the filters")
    return limit, int(after)


def _any_group(portal: Portal, type: ObjectType, groups: Any) -> Test:
    """Groups are alternatives; the filters of a group hold together."""
    if not isinstance(groups, list) or len(groups) > GROUPS:
        raise invalid(f"At most {GROUPS} filterGroups are allowed")
    filters = [group.get("filters") or [] for group in groups]
    if any(len(f) > FILTERS for f in filters) or sum(map(len, filters)) > FILTERS_IN_ALL:
        raise invalid(f"At most {FILTERS} filters per group and {FILTERS_IN_ALL} in all")
    tests = [[_test(portal, type, filter) for filter in group] for group in filters]
    if not tests:
        return lambda record: True
    return lambda record: any(all(test(record) for test in group) for group in tests)


def _test(portal: Portal, type: ObjectType, filter: Json) -> Test:
    name, operator = str(filter.get("propertyName")), filter.get("operator")
    if name.startswith("associations."):
        end, wanted = typed(name.partition(".")[2]).name, str(filter.get("value"))
        if operator != "EQ":
            raise invalid("associations can only be compared with EQ")
        return lambda record: wanted in linked(portal, record, end)
    definition = portal.properties[type.name].get(name)
    if definition is None:
        raise invalid(f"There was a problem with the request: unknown property {name}")
    read, kept = _reader(definition), _kept_reader(definition)

    def value(record: Record) -> Any:
        text = portal.value(type, record, name)
        return None if text is None else kept(text)

    def given(key: str = "value") -> Any:
        if filter.get(key) is None:
            raise invalid(f"operator {operator} needs {key}")
        try:
            return read(str(filter[key]))
        except (WrongValueError, ValueError):
            raise invalid(f"{filter[key]!r} is not a value of {name}") from None

    if operator in ("IN", "NOT_IN"):
        values = filter.get("values")
        if not isinstance(values, list) or not values:
            raise invalid(f"operator {operator} needs values")
        # Unlike EQ, IN compares strings as they are: send them in lower case.
        among = {read(str(v)) if definition["type"] != "string" else str(v) for v in values}
        if operator == "IN":
            return lambda record: value(record) in among
        return lambda record: value(record) not in among
    if operator == "BETWEEN":
        low, high = given(), given("highValue")
        return lambda record: (v := value(record)) is not None and low <= v <= high
    return _compare(str(operator), value, given)


def _compare(operator: str, value: Callable[[Record], Any], given: Callable[[], Any]) -> Test:
    if operator == "HAS_PROPERTY":
        return lambda record: value(record) is not None
    if operator == "NOT_HAS_PROPERTY":
        return lambda record: value(record) is None
    if operator not in _OPERATORS:
        raise invalid(f"{operator} is not an operator")
    wanted, holds = given(), _OPERATORS[operator]
    if operator in ("NEQ", "NOT_CONTAINS_TOKEN"):
        return lambda record: (v := value(record)) is None or holds(v, wanted)
    return lambda record: (v := value(record)) is not None and holds(v, wanted)


def _contains(value: Any, wanted: Any) -> bool:
    """Whether some word of the text is the token; `*` stands for any characters."""
    pattern = re.compile(".*".join(re.escape(part) for part in str(wanted).split("*")) + r"\Z")
    text = str(value)
    return any(pattern.match(token) for token in (text, *re.findall(r"[^\s@.,;:/-]+", text)))


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda value, wanted: bool(value == wanted),
    "NEQ": lambda value, wanted: bool(value != wanted),
    "LT": lambda value, wanted: bool(value < wanted),
    "LTE": lambda value, wanted: bool(value <= wanted),
    "GT": lambda value, wanted: bool(value > wanted),
    "GTE": lambda value, wanted: bool(value >= wanted),
    "CONTAINS_TOKEN": _contains,
    "NOT_CONTAINS_TOKEN": lambda value, wanted: not _contains(value, wanted),
}


def _reader(definition: Json) -> Callable[[str], Any]:
    """How a property's texts compare: numbers as numbers, dates as dates, texts without case."""
    match definition["type"]:
        case "number":
            return float
        case "date":
            return lambda text: moment(text)[:10]
        case "datetime":
            return moment
        case "enumeration":
            return str
        case _:
            return str.casefold


def _kept_reader(definition: Json) -> Callable[[str], Any]:
    """The same for texts that are stored: their dates are ISO already."""
    return str if definition["type"] in ("date", "datetime") else _reader(definition)


def _mentions(type: ObjectType, record: Record, words: list[str]) -> bool:
    if not words:
        return True
    text = " ".join(str(record.get(name) or "") for name in type.searchable).casefold()
    return all(word in text for word in words)


def _order(portal: Portal, type: ObjectType, sorts: Any) -> Callable[[list[Record]], list[Record]]:
    """One sort, by name or by `{propertyName, direction}`; records without a value come last."""
    if not isinstance(sorts, list) or len(sorts) > 1:
        raise invalid("At most one sort is allowed")
    if not sorts:
        return lambda found: sorted(found, key=lambda record: int(record.id))
    sort = sorts[0]
    if isinstance(sort, str):
        name, descending = sort.removeprefix("-"), sort.startswith("-")
    else:
        name, descending = sort.get("propertyName"), sort.get("direction") == "DESCENDING"
    definition = portal.properties[type.name].get(name)
    if definition is None:
        raise invalid(f"Cannot sort by unknown property {name}")
    read = _kept_reader(definition)

    def arranged(found: list[Record]) -> list[Record]:
        keyed = [(portal.value(type, r, name), r) for r in found]
        some = [(read(text), int(r.id), r) for text, r in keyed if text is not None]
        some.sort(key=lambda item: item[:2], reverse=descending)
        return [r for _, _, r in some] + [r for text, r in keyed if text is None]

    return arranged
