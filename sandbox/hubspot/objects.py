"""Records of any type: create, read, list, update, archive, merge; one by one and in batches.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.hubspot.app import HubSpot, existing, read_json, routes, typed
from sandbox.hubspot.associations import named_links
from sandbox.hubspot.errors import invalid, missing, refuse
from sandbox.hubspot.events import announce
from sandbox.hubspot.history import PAGE as HISTORY_PAGE
from sandbox.hubspot.history import past
from sandbox.hubspot.links import chosen, set_types, types_between
from sandbox.hubspot.portal import Portal, iso
from sandbox.hubspot.schema import TYPES, ObjectType
from sandbox.hubspot.values import claim, read
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json, RefusedError

PAGE = 100

_ALL = "/crm/v3/objects/{type}"
_ONE = "/crm/v3/objects/{type}/{id}"
Commit = Callable[[], Json]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a read asks to see of each record."""

    properties: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    associations: list[str] = field(default_factory=list)

    @classmethod
    def of_query(cls, call: Call) -> "Wanted":
        names = ("properties", "propertiesWithHistory", "associations")
        return cls(*(call.many(name) for name in names))

    @classmethod
    def of_body(cls, body: Json) -> "Wanted":
        return cls(body.get("properties") or [], body.get("propertiesWithHistory") or [])


def shape(portal: Portal, type: ObjectType, record: Record, wanted: Wanted) -> Json:
    """A record as the API shows it: texts, null if unset, and only what was asked for.

    Asking for properties replaces the defaults, except for the id and the two dates.
    """
    fixed = ("hs_object_id", type.created, type.modified)
    asked = [*wanted.properties, *wanted.history]
    names = (*fixed, *asked) if asked else type.defaults
    known = portal.properties[type.name]
    body: Json = {
        "id": record.id,
        "properties": {n: portal.value(type, record, n) for n in sorted(set(names)) if n in known},
        "createdAt": iso(record.created),
        "updatedAt": iso(record.updated),
        "archived": record.gone is not None,
    }
    if record.gone:
        body["archivedAt"] = iso(record.gone)
    if wanted.history:
        body["propertiesWithHistory"] = {n: past(record, n) for n in wanted.history if n in known}
    links = {
        typed(end).plural: {"results": found}
        for end in wanted.associations
        if (found := named_links(portal, record, typed(end).name))
    }
    if links:
        body["associations"] = links
    return body


def written(portal: Portal, type: ObjectType, record: Record, values: Iterable[str]) -> Json:
    """The answer to a write: what was written and the defaults that are set."""
    names = [n for n in (*type.defaults, *values) if portal.value(type, record, n) is not None]
    return shape(portal, type, record, Wanted(list(names)))


# -- one by one --


@routes.on("POST", "/crm/v3/objects/{type}")
def create(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    commit = creation(app, portal, call, typed(type), read_json(call), set())
    return Answer(201, commit())


@routes.on("GET", _ALL)
def list_all(app: HubSpot, portal: Portal, call: Call, type: str) -> Answer:
    """A page by id; `archived=true` lists what was deleted instead."""
    kind, limit, after = typed(type), call.one("limit", "10"), call.one("after", "0")
    most = HISTORY_PAGE if call.many("propertiesWithHistory") else PAGE
    if not limit.isdigit() or not 1 <= int(limit) <= most:
        raise invalid(f"limit must be between 1 and {most}")
    if not after.isdigit():
        raise invalid("after must be a cursor of an earlier page")
    archived = call.flag("archived")
    merged_away = {
        key.partition(":")[2] for key in portal.merged if key.startswith(kind.name + ":")
    }
    found = []
    for record in portal.store.all(kind.name):
        if int(record.id) <= int(after) or bool(record.gone) != archived:
            continue
        if record.id in merged_away or record.get("hs_gdpr_deleted"):
            continue
        found.append(record)
        if len(found) > int(limit):
            break
    wanted = Wanted.of_query(call)
    page = found[: int(limit)]
    body: Json = {"results": [shape(portal, kind, record, wanted) for record in page]}
    if len(found) > len(page):
        body["paging"] = {"next": {"after": page[-1].id}}
    return Answer(200, body)


@routes.on("GET", _ONE)
def read_one(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    kind = typed(type)
    if call.flag("archived"):
        record = portal.store.find(kind.name, id)
        if record is None or not record.gone or record.get("hs_gdpr_deleted"):
            raise missing(id)
    else:
        record = existing(portal, kind, id, call.one("idProperty"))
    return Answer(200, shape(portal, kind, record, Wanted.of_query(call)))


@routes.on("PATCH", _ONE)
def update(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    """Change what is sent; an empty text clears. An id that was merged away still works here."""
    kind = typed(type)
    record = existing(portal, kind, id, call.one("idProperty"))
    return Answer(200, change(app, portal, call, kind, record, read_json(call), set())())


@routes.on("DELETE", _ONE)
def archive(app: HubSpot, portal: Portal, call: Call, type: str, id: str) -> Answer:
    """Into the recycle bin. Archiving what is already there, or never was, is no error."""
    kind = typed(type)
    if record := portal.store.get(kind.name, id):
        put_away(app, portal, call, kind, record)
    return Answer(204)


# -- the writes themselves: first checked, then committed --


def creation(
    app: HubSpot,
    portal: Portal,
    call: Call,
    type: ObjectType,
    row: Json,
    taken: set[tuple[str, str]],
) -> Commit:
    """Check a new record and its links; the result creates it."""
    values = read(portal, type, row.get("properties") or {}, {}, new=True)
    claim(portal, type, values, None, taken)
    links = [_link(portal, type, link) for link in row.get("associations") or []]

    def commit() -> Json:
        record = portal.create(type, values, call)
        id = int(record.id)
        announce(app, portal, call, type.name, "creation", objectId=id, changeFlag="CREATED")
        _announce_changes(app, portal, call, type, record, values)
        for end, ids in links:
            set_types(app, portal, call, record, end, ids | types_between(portal, record, end))
        app.follow(portal, call, record, list(values))
        return _traced(row, written(portal, type, record, values))

    return commit


def change(
    app: HubSpot,
    portal: Portal,
    call: Call,
    type: ObjectType,
    record: Record,
    row: Json,
    taken: set[tuple[str, str]],
) -> Commit:
    """Check a change; the result makes it."""
    values = read(portal, type, row.get("properties") or {}, record.fields, new=False)
    claim(portal, type, values, record.id, taken)

    def commit() -> Json:
        changed = portal.update(record, values, call)
        _announce_changes(app, portal, call, type, record, changed)
        app.follow(portal, call, record, list(changed))
        return _traced(row, written(portal, type, record, values))

    return commit


def put_away(app: HubSpot, portal: Portal, call: Call, type: ObjectType, record: Record) -> None:
    portal.unindex(record)
    portal.store.remove(record, at=call.at)
    announce(app, portal, call, type.name, "deletion", objectId=int(record.id))


def _announce_changes(
    app: HubSpot,
    portal: Portal,
    call: Call,
    type: ObjectType,
    record: Record,
    names: Iterable[str],
) -> None:
    """One event per property."""
    for name in names:
        announce(
            app,
            portal,
            call,
            type.name,
            "propertyChange",
            objectId=int(record.id),
            propertyName=name,
            propertyValue=record.get(name) or "",
        )


def _link(portal: Portal, type: ObjectType, link: Any) -> tuple[Record, set[int]]:
    """The other end of an inline association; its object type follows from the type id."""
    specs = link.get("types") if isinstance(link, dict) else None
    to = link.get("to") if isinstance(link, dict) else None
    if not specs or not isinstance(to, dict):
        raise invalid("An association needs to.id and types")
    for end in TYPES:
        try:
            ids = chosen(portal, type.name, end, specs)
        except RefusedError:
            continue
        record = portal.get(TYPES[end], str(to.get("id")))
        if record is None:
            text = f"{end.upper()} with id {to.get('id')} does not exist"
            raise refuse(404, "OBJECT_NOT_FOUND", text)
        return record, ids
    raise invalid(f"One or more association types are not valid for {type.plural}: {specs}")


def _traced(row: Json, body: Json) -> Json:
    trace = row.get("objectWriteTraceId")
    return {**body, "objectWriteTraceId": trace} if trace else body
