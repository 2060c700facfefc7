"""sObject Collections: up to 200 records in a call, each with a fate of its own.

https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections.html
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

from sandbox.salesforce import rows
from sandbox.salesforce.errors import fate, invalid, missing, refuse
from sandbox.salesforce.ids import is_id
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.transaction import transaction
from sandbox.wire import Answer, Call, Json, RefusedError

MOST, CHUNKS, MOST_READ = 200, 10, 2000
_ALL = "/composite/sobjects"
_ROLLED_BACK = {
    "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "message": "Record rolled back because not all records were valid and the request was using "
    "AllOrNone header",
    "fields": [],
}
Act = Callable[[], Json]


class _FailedError(Exception):
    """A row failed in a request of which all must succeed."""


def fates(org: Salesforce, call: Call, acts: list[Act], *, all_or_none: bool) -> list[Json]:
    """Do each, and say what became of it; if all must succeed and one does not, undo all."""
    done: list[Json] = []
    try:
        with transaction(org, call):
            for act in acts:
                try:
                    done.append({"success": True, "errors": [], **act()})
                except RefusedError as refusal:
                    done.append(fate(refusal))
            if all_or_none and not all(row["success"] for row in done):
                raise _FailedError
    except _FailedError:
        return [
            {"success": False, "errors": [_ROLLED_BACK]} if row["success"] else row for row in done
        ]
    return done


def _rows(org: Salesforce, call: Call) -> tuple[list[Json], bool]:
    body = org.read_json(call)
    given = body.get("records")
    if not isinstance(given, list) or not given:
        raise refuse("REQUIRED_FIELD_MISSING", "Missing required field: records")
    _few(len(given))
    kinds = [str((row.get("attributes") or {}).get("type")) for row in given]
    chunks = len(list(groupby(kinds)))
    if chunks > CHUNKS:
        text = f"The request has {chunks} chunks of one type; at most {CHUNKS} are allowed"
        raise refuse("EXCEEDED_MAX_TYPES_LIMIT", text)
    return given, body.get("allOrNone") is True


def _few(count: int) -> None:
    if count > MOST:
        text = f"record limit reached. cannot submit more than {MOST} records into this call"
        raise refuse("EXCEEDED_ID_LIMIT", text)


def _typed(org: Salesforce, call: Call, row: Json) -> SObject:
    name = str((row.get("attributes") or {}).get("type"))
    found = org.schema.get(name, person=call.actor.is_person)
    if found is None:
        raise invalid("INVALID_TYPE", f"sObject type '{name}' is not supported.")
    return found


@routes.on("POST", _ALL)
def create(org: Salesforce, call: Call) -> Answer:
    given, all_or_none = _rows(org, call)

    def creation(row: Json) -> Act:
        return lambda: {"id": rows.create(org, call, _typed(org, call, row), row).id}

    return Answer(200, fates(org, call, [creation(r) for r in given], all_or_none=all_or_none))


@routes.on("PATCH", _ALL)
def update(org: Salesforce, call: Call) -> Answer:
    """Each record names itself by its id."""
    given, all_or_none = _rows(org, call)

    def changing(row: Json) -> Act:
        def act() -> Json:
            type, (id, rest) = _typed(org, call, row), _identified(row)
            record = rows.existing(org, type, id, many=True)
            rows.change(org, call, type, record, rest)
            return {"id": record.id}

        return act

    return Answer(200, fates(org, call, [changing(r) for r in given], all_or_none=all_or_none))


def _identified(row: Json) -> tuple[str, Json]:
    ids = [str(value) for name, value in row.items() if name.lower() == "id"]
    if not ids:
        raise invalid("MISSING_ARGUMENT", "Id not specified in an update call")
    return ids[0], {name: value for name, value in row.items() if name.lower() != "id"}


@routes.on("PATCH", _ALL + "/{type}/{field}")
def upsert(org: Salesforce, call: Call, type: str, field: str) -> Answer:
    """Records of one type, found or made by an external id; each result says which."""
    given, all_or_none = _rows(org, call)
    found = org.sobject(type, call)
    key = found.field(field)
    if key is None or not (key.external or key.name == "Id"):
        raise missing("Provided external ID field does not exist or is not accessible: " + field)

    def upserting(row: Json) -> Act:
        return lambda: upserted(org, call, found, key.name, row)

    return Answer(200, fates(org, call, [upserting(r) for r in given], all_or_none=all_or_none))


def upserted(org: Salesforce, call: Call, type: SObject, key: str, row: Json) -> Json:
    """Make or change one record by the external id among its values."""
    given = {name: value for name, value in row.items() if name.lower() == key.lower()}
    rest = {name: value for name, value in row.items() if name not in given}
    value = next(iter(given.values()), None)
    if value in (None, ""):
        raise invalid("MISSING_ARGUMENT", f"{key} not specified")
    record, created = rows.upsert(org, call, type, key, value, rest)
    return {"id": record.id, "created": created}


@routes.on("DELETE", _ALL)
def delete(org: Salesforce, call: Call) -> Answer:
    ids = call.many("ids")
    _few(len(ids))

    def deletion(id: str) -> Act:
        return lambda: deleted(org, call, id)

    acts = [deletion(id) for id in ids]
    return Answer(200, fates(org, call, acts, all_or_none=call.flag("allOrNone")))


def deleted(org: Salesforce, call: Call, id: str) -> Json:
    type = org.schema.of_id(id) if is_id(id) else None
    if type is None:
        raise invalid("MALFORMED_ID", f"malformed id {id}")
    record = rows.existing(org, type, id, many=True)
    rows.remove(org, call, record)
    return {"id": record.id}


@routes.on("POST", _ALL + "/{type}")
def read(org: Salesforce, call: Call, type: str) -> Answer:
    body = org.read_json(call)
    ids, fields = body.get("ids"), body.get("fields")
    if not isinstance(ids, list) or not isinstance(fields, list):
        raise refuse("REQUIRED_FIELD_MISSING", "ids and fields are required")
    return Answer(200, _many(org, call, org.sobject(type, call), ids, fields))


@routes.on("GET", _ALL + "/{type}")
def read_by_url(org: Salesforce, call: Call, type: str) -> Answer:
    ids, fields = call.many("ids"), call.many("fields")
    return Answer(200, _many(org, call, org.sobject(type, call), ids, fields))


def _many(org: Salesforce, call: Call, type: SObject, ids: list[Any], fields: list[Any]) -> Any:
    """The records in the order of their ids; null for one that is not there."""
    if len(ids) > MOST_READ:
        raise refuse("EXCEEDED_ID_LIMIT", f"At most {MOST_READ} ids are allowed")
    names = []
    for name in fields:
        field = type.field(str(name))
        if field is None:
            text = f"No such column '{name}' on sobject of type {type.name}"
            raise refuse("INVALID_FIELD", text)
        names.append(field.name)
    records = [org.find(type.name, str(id)) for id in ids]
    return [rows.shape(org, call, type, r, names) if r and not r.gone else None for r in records]
