"""`/query`, `/queryAll` and the pages that follow.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_query.htm
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sandbox.records import Record
from sandbox.salesforce.errors import refuse
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.rows import attributes, shown_value
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.search import children, column, found, source
from sandbox.salesforce.soql import Aggregate, Query, malformed, parse
from sandbox.wire import Answer, Call, Json

PAGE, SMALLEST = 2000, 200
LONGEST_URI = 16_384
CURSORS = 50
MOST_OFFSET = 2000

Shape = Callable[[Record], Json]


@dataclass(slots=True)
class Cursor:
    """The rest of a long answer: what was found, and how to show it."""

    records: list[Record]
    shape: Shape
    size: int


@routes.on("GET", "/query")
def query(org: Salesforce, call: Call) -> Answer:
    return _answer(org, call, all=False)


@routes.on("GET", "/queryAll")
def query_all(org: Salesforce, call: Call) -> Answer:
    """As `query`, with what is deleted and merged away."""
    return _answer(org, call, all=True)


@routes.on("GET", "/query/{locator}")
@routes.on("GET", "/queryAll/{locator}")
def more(org: Salesforce, call: Call, locator: str) -> Answer:
    id, _, start = locator.rpartition("-")
    cursor = org.cursors.get(id)
    if cursor is None or not start.isdigit():
        raise refuse("INVALID_QUERY_LOCATOR", "invalid query locator")
    return Answer(200, _page(call, id, cursor, int(start)))


def _answer(org: Salesforce, call: Call, *, all: bool) -> Answer:
    text = call.one("q")
    if len(call.base) + len(call.path) + len(quote(text)) > LONGEST_URI:
        page = b"<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>"
        return Answer(414, page, {"content-type": "text/html"})
    return Answer(200, answered(org, call, text, all=all))


def answered(org: Salesforce, call: Call, text: str, *, all: bool) -> Json:
    """The first page of what a query finds."""
    tree = parse(text)
    if tree.offset > MOST_OFFSET:
        text = f"Maximum SOQL offset allowed is {MOST_OFFSET}"
        raise refuse("NUMBER_OUTSIDE_VALID_RANGE", text)
    if tree.counts:
        return {"totalSize": len(found(org, call, tree, all=all)), "done": True, "records": []}
    if tree.group or any(isinstance(column, Aggregate) for column in tree.select):
        rows = _aggregated(org, call, tree, all=all)
        return {"totalSize": len(rows), "done": True, "records": rows}
    shape = shaper(org, call, source(org, call, tree.source), tree)
    cursor = Cursor(found(org, call, tree, all=all), shape, _size(call))
    id = f"01g{org.next_id('01g')[3:]}"
    if len(cursor.records) > cursor.size:
        org.cursors[id] = cursor
        for old in list(org.cursors)[:-CURSORS]:
            del org.cursors[old]
    return _page(call, id, cursor, 0)


def _size(call: Call) -> int:
    match = re.search(r"batchSize\s*=\s*(\d+)", call.headers.get("sforce-query-options", ""))
    return min(max(int(match[1]), SMALLEST), PAGE) if match else PAGE


def _page(call: Call, id: str, cursor: Cursor, start: int) -> Json:
    end = start + cursor.size
    done = end >= len(cursor.records)
    body: Json = {"totalSize": len(cursor.records), "done": done}
    if not done:
        body["nextRecordsUrl"] = f"{call.base}/query/{id}-{end}"
    return {**body, "records": [cursor.shape(record) for record in cursor.records[start:end]]}


def shaper(org: Salesforce, call: Call, type: SObject, tree: Query) -> Shape:
    """How the records of a query are shown: its columns, parents and children nested."""
    plain: list[str] = []
    parents: dict[str, list[str]] = {}
    nested: dict[str, Callable[[Record], Json | None]] = {}
    for part in tree.select:
        if isinstance(part, Query):
            name = next((n for n in type.children if n.lower() == part.source.lower()), "")
            nested[name] = _children(org, call, type, part)
        elif part.startswith("FIELDS("):
            plain += _all_fields(type, part[7:-1], tree)
        elif "." in (path := part.removeprefix(f"{type.name}.")):
            column(org, call, type, path)
            parents.setdefault(path.split(".")[0].lower(), []).append(path.partition(".")[2])
        else:
            field, _ = column(org, call, type, path)
            plain.append(field.name)
    for relation, paths in parents.items():
        link = type.relation(relation)
        assert link is not None
        nested[link.relation] = _parent(org, call, link.name, paths)

    def shape(record: Record) -> Json:
        row: Json = {"attributes": attributes(call, record)}
        row |= {name: shown_value(org, call, record, name) for name in plain}
        return row | {name: show(record) for name, show in nested.items()}

    return shape


def _all_fields(type: SObject, scope: str, tree: Query) -> Iterable[str]:
    if scope in ("all", "custom") and (tree.limit is None or tree.limit > 200):
        text = "The SOQL FIELDS function must have a LIMIT of at most 200"
        raise malformed(text)
    wanted = {"all": (True, False), "custom": (True,), "standard": (False,)}.get(scope)
    if wanted is None:
        raise malformed(f"unexpected token: '{scope}'")
    return [field.name for field in type.fields.values() if field.custom in wanted]


def _parent(
    org: Salesforce, call: Call, link: str, paths: list[str]
) -> Callable[[Record], Json | None]:
    shapes: dict[str, Shape] = {}

    def show(record: Record) -> Json | None:
        id = shown_value(org, call, record, link)
        other = org.of_any_type(id) if id else None
        if other is None:
            return None
        if other.type not in shapes:
            type = source(org, call, other.type)
            # Of a polymorphic relationship only what this one has.
            known = [p for p in paths if "." in p or type.field(p)]
            shapes[other.type] = shaper(org, call, type, Query(select=known, source=type.name))
        row = shapes[other.type](other)
        if any(path.lower() == "type" for path in paths) and "Type" not in row:
            row["Type"] = other.type
        return row

    return show


def _children(
    org: Salesforce, call: Call, type: SObject, tree: Query
) -> Callable[[Record], Json | None]:
    child, of = children(org, call, type, tree)
    shape = shaper(org, call, child, tree)

    def show(record: Record) -> Json | None:
        rows = [shape(each) for each in of(record)]
        return {"totalSize": len(rows), "done": True, "records": rows} if rows else None

    return show


def _aggregated(org: Salesforce, call: Call, tree: Query, *, all: bool) -> list[Json]:
    """One row for each group, or one for everything."""
    type = source(org, call, tree.source)
    keys = [column(org, call, type, path) for path in tree.group]
    inner = Query(source=tree.source, where=tree.where)
    groups: dict[tuple[Any, ...], list[Record]] = {} if keys else {(): []}
    for record in found(org, call, inner, all=all):
        groups.setdefault(tuple(read(record) for _, read in keys), []).append(record)
    rows = []
    for key, records in groups.items():
        row: Json = {"attributes": {"type": "AggregateResult"}}
        number = 0
        for part in tree.select:
            if isinstance(part, Aggregate):
                name = part.alias or f"expr{number}"
                number += not part.alias
                row[name] = _reduced(org, call, type, part, records)
            elif isinstance(part, str) and part in tree.group:
                row[part.rpartition(".")[2]] = key[tree.group.index(part)]
            else:
                raise malformed(f"Field must be grouped or aggregated: {part}")
        rows.append(row)
    return rows[: tree.limit]


def _reduced(
    org: Salesforce, call: Call, type: SObject, part: Aggregate, records: list[Record]
) -> Any:
    _, read = column(org, call, type, part.path)
    values = [found for record in records if (found := read(record)) is not None]
    match part.function:
        case "count":
            return len(values)
        case "count_distinct":
            return len(set(values))
        case "sum":
            return sum(values)
        case "avg":
            return sum(values) / len(values) if values else None
    if not values:
        return None
    return min(values) if part.function == "min" else max(values)
