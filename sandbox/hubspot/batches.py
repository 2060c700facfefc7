"""Up to a hundred records in one call: read, create, update, upsert, archive.

https://developers.hubspot.com/docs/api-reference/error-handling
"""

from collections.abc import Callable

from sandbox.hubspot.app import HubSpot, read_json, routes, typed
from sandbox.hubspot.errors import error, invalid
from sandbox.hubspot.history import PAGE as HISTORY_PAGE
from sandbox.hubspot.objects import Commit, Wanted, change, creation, put_away, shape
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import ObjectType
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json, RefusedError

INPUTS = 100
_ALL = "/crm/v3/objects/{type}"


@routes.on("POST", _ALL + "/batch/read")
def batch_read(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """Many records by id or unique property; 207 if some do not exist."""
    kind, body = typed(type), read_json(call)
    id_property = body.get("idProperty") or ""
    if id_property and id_property != "hs_object_id" and not portal.is_unique(kind, id_property):
        raise invalid(f"Property {id_property} is not a unique identifier property")
    wanted, archived = Wanted.of_body(body), call.flag("archived")
    found, lost = [], []
    for row in _inputs(body, HISTORY_PAGE if wanted.history else INPUTS):
        id = str(row.get("id"))
        if archived:
            record = portal.store.find(kind.name, id)
            record = record if record and record.gone else None
        elif id_property and id_property != "hs_object_id":
            record = portal.by_unique(kind, id_property, id)
        else:
            record = portal.store.get(kind.name, id)
        if record is None:
            lost.append(id)
        elif record not in found:
            found.append(record)
    results = [shape(portal, kind, record, wanted) for record in found]
    return _outcome(call, 200, results, [_not_found(kind, lost)] if lost else [])


@routes.on("POST", _ALL + "/batch/create")
def batch_create(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """All or nothing, unless each row has a `objectWriteTraceId` of its own."""
    kind, taken = typed(type), set[tuple[str, str]]()
    rows = _inputs(read_json(call))
    return _write_each(call, 201, rows, lambda row: creation(app, portal, call, kind, row, taken))


@routes.on("POST", _ALL + "/batch/update")
def batch_update(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """Ids that were merged away do not work here; missing ids fail alone."""
    kind, taken = typed(type), set[tuple[str, str]]()
    rows = _inputs(read_json(call))
    found, lost = [], []
    for row in rows:
        record = _exact(portal, kind, row)
        if record is None:
            lost.append(str(row.get("id")))
        else:
            found.append((row, record))
    by_row = {id(row): record for row, record in found}
    return _write_each(
        call,
        200,
        [row for row, _ in found],
        lambda row: change(app, portal, call, kind, by_row[id(row)], row, taken),
        [_not_found(kind, lost)] if lost else [],
    )


@routes.on("POST", _ALL + "/batch/upsert")
def batch_upsert(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """Create or update by a unique property; by e-mail it is all or nothing."""
    kind, taken = typed(type), set[tuple[str, str]]()
    rows = _inputs(read_json(call))
    properties = {row.get("idProperty") for row in rows}
    if len(properties) != 1 or None in properties:
        raise invalid("Every input needs the same idProperty")
    name = str(properties.pop())
    if not portal.is_unique(kind, name):
        raise invalid(f"Property {name} is not a unique identifier property")

    def write(row: Json) -> Commit:
        record = portal.by_unique(kind, name, str(row.get("id")))
        if record:
            alter = change(app, portal, call, kind, record, row, taken)
            return lambda: {**alter(), "new": False}
        whole = {**row, "properties": {name: row.get("id"), **(row.get("properties") or {})}}
        make = creation(app, portal, call, kind, whole, taken)
        return lambda: {**make(), "new": True}

    return _write_each(call, 200, rows, write, whole=name == "email")


@routes.on("POST", _ALL + "/batch/archive")
def batch_archive(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    kind = typed(type)
    for row in _inputs(read_json(call)):
        if record := portal.store.get(kind.name, str(row.get("id"))):
            put_away(app, portal, call, kind, record)
    return Answer(204)


def _write_each(
    call: Call,
    status: int,
    rows: list[Json],
    check: Callable[[Json], Commit],
    errors: list[Json] | None = None,
    *,
    whole: bool = False,
) -> Answer:
    """Check every row, then commit those that are good; see `batch_create` for when one bad
    row refuses all.

    https://developers.hubspot.com/docs/api-reference/error-handling
    """
    traces = [row.get("objectWriteTraceId") for row in rows]
    apart = not whole and None not in traces and len(set(traces)) == len(traces)
    commits: list[Commit] = []
    failed = list(errors or [])
    for row in rows:
        try:
            commits.append(check(row))
        except RefusedError as refusal:
            if not apart:
                raise
            body = refusal.answer.body
            context = {"objectWriteTraceId": [row["objectWriteTraceId"]]}
            failed.append({"errors": [], "links": {}, **body, "context": context})
    return _outcome(call, status, [commit() for commit in commits], failed)


def _outcome(call: Call, status: int, results: list[Json], errors: list[Json]) -> Answer:
    at = iso(call.at)
    body = {"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at}
    if errors:
        return Answer(207, {**body, "numErrors": len(errors), "errors": errors})
    return Answer(status, body)


def _not_found(type: ObjectType, ids: list[str]) -> Json:
    text = f"Could not get some {type.name.upper()} objects, they may be deleted or not exist."
    return error("OBJECT_NOT_FOUND", text, context={"ids": ids}, errors=[], links={})


def _inputs(body: Json, most: int = INPUTS) -> list[Json]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(row, dict) for row in inputs):
        raise invalid("inputs must be a list of objects")
    if len(inputs) > most:
        raise invalid(f"The maximum number of inputs is {most}")
    return inputs


def _exact(portal: Portal, type: ObjectType, row: Json) -> Record | None:
    name, id = row.get("idProperty"), str(row.get("id"))
    if name and name != "hs_object_id":
        return portal.by_unique(type, name, id) if portal.is_unique(type, name) else None
    return portal.store.get(type.name, id)
