"""What a query finds: the records of an object that meet its conditions, in its order."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sandbox.records import Record
from sandbox.salesforce.derived import value
from sandbox.salesforce.errors import refuse
from sandbox.salesforce.ids import is_id, whole
from sandbox.salesforce.org import Salesforce
from sandbox.salesforce.schema import NUMBERS, Field, SObject
from sandbox.salesforce.soql import Compare, Literal, Logic, Query, characters, malformed
from sandbox.salesforce.stamps import moment, shown
from sandbox.wire import Call, RefusedError

Test = Callable[[Record], bool]
Read = Callable[[Record], Any]
#: Fields of whatever a polymorphic relationship leads to.
_NAMED = ("Id", "Name", "Email", "Username", "FirstName", "LastName", "Phone", "Title", "Type")


def source(org: Salesforce, call: Call, name: str) -> SObject:
    found = org.schema.get(name, person=call.actor.is_person)
    if found is None:
        text = (
            f"sObject type '{name}' is not supported. If you are attempting to use a custom "
            "object, be sure to append the '__c' after the entity name."
        )
        raise refuse("INVALID_TYPE", text)
    return found


def no_column(type: SObject, path: str) -> RefusedError:
    text = (
        f"No such column '{path}' on entity '{type.name}'. If you are attempting to use a custom "
        "field, be sure to append the '__c' after the custom field name. Please reference your "
        "WSDL or the describe call for the appropriate names."
    )
    return refuse("INVALID_FIELD", text)


def column(org: Salesforce, call: Call, type: SObject, path: str) -> tuple[Field, Read]:
    """The field that a path such as `Account.Owner.Name` leads to, and how to read it."""
    first, _, rest = path.partition(".")
    if first.lower() == type.name.lower() and rest and type.relation(first) is None:
        return column(org, call, type, rest)
    if not rest:
        field = type.field(first)
        if field is None:
            raise no_column(type, path)
        name = field.name
        return field, lambda record: value(org, record, name)
    link = type.relation(first)
    if link is None:
        text = f"Didn't understand relationship '{first}' in field path."
        raise refuse("INVALID_FIELD", text)
    return _through(org, call, type, link, rest)


def _through(
    org: Salesforce, call: Call, type: SObject, link: Field, rest: str
) -> tuple[Field, Read]:
    targets = [source(org, call, name) for name in link.targets]
    reads: dict[str, Read] = {}
    field = None
    for target in targets:
        try:
            found, reading = column(org, call, target, rest)
        except RefusedError:
            if len(targets) == 1:
                raise
            continue
        field, reads[target.name] = field or found, reading
    if rest.lower() == "type" and len(targets) > 1:
        field, reads = targets[0].fields["id"], dict.fromkeys(link.targets, lambda r: r.type)
    if field is None or (len(targets) > 1 and rest.title().replace("name", "Name") not in _NAMED):
        raise no_column(type, rest)

    def read(record: Record) -> Any:
        id = record.get(link.name) or value(org, record, link.name)
        other = org.of_any_type(id) if id else None
        return reads[other.type](other) if other and other.type in reads else None

    return field, read


def found(org: Salesforce, call: Call, query: Query, *, all: bool) -> list[Record]:
    """The records that a query finds; deleted ones only if all are asked for."""
    type = source(org, call, query.source)
    _restrict(type, query)
    test = _test(org, call, type, query.where) if query.where else None
    records = [
        record
        for record in _candidates(org, type, query.where)
        if (all or not record.gone) and (test is None or test(record))
    ]
    for order in reversed(query.order):
        field, read = column(org, call, type, order.path)
        if not field.filterable:
            raise refuse("INVALID_FIELD", f"field '{field.name}' can not be sorted in a query call")
        pairs = [(_folded(field, read(record)), record) for record in records]
        blank = [record for there, record in pairs if there is None]
        sorting = sorted((p for p in pairs if p[0] is not None), key=itemgetter(0))
        rest = [record for _, record in (reversed(sorting) if order.down else sorting)]
        records = rest + blank if order.nulls_last else blank + rest
    return records[query.offset :][: query.limit]


def _candidates(org: Salesforce, type: SObject, where: Any) -> Iterable[Record]:
    """The records to look at: few of them, where the ids are given."""
    if parent := next((o for o in org.schema.objects.values() if o.history == type.name), None):
        from sandbox.salesforce.edits import edits

        return edits(org, parent)
    if type.name == "FieldDefinition":
        from sandbox.salesforce.edits import definitions

        return definitions(org)
    parts = where.parts if isinstance(where, Logic) and where.verb == "and" else (where,)
    for part in parts:
        if not isinstance(part, Compare) or part.path.lower() != "id":
            continue
        if part.verb == "=" or (part.verb == "in" and isinstance(part.value, list)):
            given = part.value if isinstance(part.value, list) else [part.value]
            ids = dict.fromkeys(
                whole(v.value) for v in given if v.kind == "text" and is_id(v.value)
            )
            return [r for id in ids if (r := org.store.find(type.name, id))]
    return org.store.all(type.name)


def _restrict(type: SObject, query: Query) -> None:
    """Links of documents are only found by either of their ends."""
    if type.name != "ContentDocumentLink":
        return
    parts = query.where.parts if isinstance(query.where, Logic) else (query.where,)
    ends = ("contentdocumentid", "linkedentityid", "id")
    if not any(
        isinstance(p, Compare) and p.path.lower() in ends and p.verb in ("=", "in") for p in parts
    ):
        raise malformed(
            "Implementation restriction: ContentDocumentLink requires a filter by a single Id on "
            "ContentDocumentId or LinkedEntityId using the equals operator or multiple Id's using "
            "the IN operator."
        )


# -- conditions --


def _test(org: Salesforce, call: Call, type: SObject, where: Any) -> Test:
    if isinstance(where, Logic):
        tests = [_test(org, call, type, part) for part in where.parts]
        if where.verb == "not":
            return lambda record: not tests[0](record)
        join = all if where.verb == "and" else any
        return lambda record: join(test(record) for test in tests)
    field, read = column(org, call, type, where.path)
    if not field.filterable:
        text = f"field '{field.name}' can not be filtered in a query call"
        raise refuse("INVALID_FIELD", text)
    if isinstance(where.value, Query):
        return _semi_join(org, call, where, read)
    if where.verb in ("in", "not in"):
        wanted = {_comparable(field, literal) for literal in where.value}
        inside = where.verb == "in"
        return lambda record: (_folded(field, read(record)) in wanted) == inside
    if where.verb in ("includes", "excludes"):
        return _chosen(field, read, where)
    if where.verb == "like":
        return _like(field, read, where.value.raw)
    return _compared(field, read, where)


def _semi_join(org: Salesforce, call: Call, where: Compare, read: Read) -> Test:
    inner: Query = where.value
    if len(inner.select) != 1 or not isinstance(inner.select[0], str):
        raise malformed("The inner select must select exactly one field")
    type = source(org, call, inner.source)
    _, pick = column(org, call, type, inner.select[0])
    wanted = {pick(record) for record in found(org, call, inner, all=False)}
    inside = where.verb == "in"
    return lambda record: (read(record) in wanted) == inside


def _chosen(field: Field, read: Read, where: Compare) -> Test:
    groups = [set(str(literal.value).split(";")) for literal in where.value]
    inside = where.verb == "includes"
    return lambda record: any(g <= set((read(record) or "").split(";")) for g in groups) == inside


def _like(field: Field, read: Read, raw: str) -> Test:
    if field.is_id or field.type in (*NUMBERS, "boolean", "date", "datetime"):
        text = f"invalid operator on {field.type} field: {field.name}"
        raise refuse("INVALID_QUERY_FILTER_OPERATOR", text)
    wild = {"%": ".*", "_": "."}
    parts = [wild[c] if special else re.escape(c) for c, special in characters(raw, like=True)]
    pattern = re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
    return lambda record: pattern.fullmatch(read(record) or "") is not None


def _compared(field: Field, read: Read, where: Compare) -> Test:
    if where.value.kind == "word" and where.value.value not in ("null", "true", "false"):
        return _in_span(field, read, where)
    wanted = _comparable(field, where.value)
    if where.verb == "=":
        return lambda record: bool(_folded(field, read(record)) == wanted)
    if where.verb == "!=":
        return lambda record: bool(_folded(field, read(record)) != wanted)
    if field.type == "boolean":
        text = f"invalid operator on {field.type} field: {field.name}"
        raise refuse("INVALID_QUERY_FILTER_OPERATOR", text)
    holds = _VERBS[where.verb]

    def test(record: Record) -> bool:
        there = _folded(field, read(record))
        return there is not None and wanted is not None and holds(there, wanted)

    return test


_VERBS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, two: bool(one < two),
    "<=": lambda one, two: bool(one <= two),
    ">": lambda one, two: bool(one > two),
    ">=": lambda one, two: bool(one >= two),
}


def _folded(field: Field, there: Any) -> Any:
    """A value as it is compared: texts without regard to case, ids with it."""
    return there.casefold() if isinstance(there, str) and not field.is_id else there


def _comparable(field: Field, literal: Literal) -> Any:
    """What a literal of a query is to this field; refused if it is of another type."""
    if literal.kind == "word" and literal.value == "null":
        return None
    if field.type == "boolean":
        if literal.kind != "word" or literal.value not in ("true", "false"):
            raise _mistyped(field, "boolean", "not ")
        return literal.value == "true"
    if field.type in NUMBERS:
        if literal.kind != "number":
            raise _mistyped(field, field.type, "not ")
        return literal.value
    if field.type == "date":
        if literal.kind != "day":
            raise _mistyped(field, "date", "not ")
        return literal.raw.casefold()
    if field.type == "datetime":
        if literal.kind != "moment":
            raise _mistyped(field, "dateTime", "not ")
        return shown(moment(literal.raw)).casefold()
    if literal.kind != "text":
        raise _mistyped(field, "string", "")
    if not field.is_id:
        return literal.value.casefold()
    if literal.value and not is_id(literal.value):
        text = f"invalid ID field: {literal.value}"
        raise refuse("INVALID_QUERY_FILTER_OPERATOR", text)
    return whole(literal.value) if literal.value else None


def _mistyped(field: Field, type: str, no: str) -> RefusedError:
    text = (
        f"value of filter criterion for field '{field.name}' must be of type {type} and should "
        f"{no}be enclosed in quotes"
    )
    return refuse("INVALID_FIELD", text)


def _in_span(field: Field, read: Read, where: Compare) -> Test:
    """`CreatedDate = LAST_N_DAYS:3`: a span of days, from its first moment to its last."""
    if field.type not in ("date", "datetime"):
        raise malformed(f"Bind variables only allowed in Apex code: {where.value.raw}")
    first, last = _span(where.value)
    verb = where.verb

    def test(record: Record) -> bool:
        there = read(record)
        if there is None:
            return verb == "!="
        day = there[:10]
        match verb:
            case "=":
                return bool(first <= day <= last)
            case "!=":
                return not first <= day <= last
            case "<":
                return bool(day < first)
            case "<=":
                return bool(day <= last)
            case ">":
                return bool(day > last)
        return bool(day >= first)

    return test


def _span(literal: Literal) -> tuple[str, str]:
    name, _, count = literal.value.partition(":")
    days = int(count or 0)
    spans = {
        "today": (0, 0),
        "yesterday": (-1, -1),
        "tomorrow": (1, 1),
        "last_n_days": (-days, 0),
        "next_n_days": (1, days),
    }
    if name not in spans:
        raise malformed(f"unexpected token: '{literal.raw}'")
    today = datetime.now(UTC).date()
    first, last = (today + timedelta(days=n) for n in spans[name])
    return first.isoformat(), last.isoformat()


def children(
    org: Salesforce, call: Call, parent: SObject, query: Query
) -> tuple[SObject, Callable[[Record], Iterator[Record]]]:
    """The object of a child query, and how to find a record's children."""
    relation = next((n for n in parent.children if n.lower() == query.source.lower()), None)
    if relation is None:
        text = (
            f"Didn't understand relationship '{query.source}' in FROM part of query call. If you "
            "are attempting to use a custom relationship, be sure to append the '__r' after the "
            "custom relationship name."
        )
        raise refuse("INVALID_TYPE", text)
    name, link = parent.children[relation]
    type = source(org, call, name)
    inner = Query(
        select=query.select, source=name, where=query.where, order=query.order, limit=None
    )
    rows: dict[str, list[Record]] = {}
    for record in found(org, call, inner, all=False):
        rows.setdefault(record.get(link), []).append(record)
    return type, lambda record: iter(rows.get(record.id, [])[: query.limit])
