"""One record at a time: create, read, change, delete; by id or by an external id.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_basic_info.htm
"""

import base64
from email.utils import parsedate_to_datetime

from sandbox.records import Record
from sandbox.salesforce import rows
from sandbox.salesforce.errors import missing, refuse
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.schema import SObject
from sandbox.wire import Answer, Call, RefusedError

_ALL = "/sobjects/{type}"
_ONE = "/sobjects/{type}/{id}"
_EXTERNAL = "/sobjects/{type}/{field}/{key}"


def asked(type: SObject, call: Call) -> list[str]:
    """The fields that `?fields=` names; all of them if it is not there."""
    if "fields" not in call.query:
        return [field.name for field in type.fields.values()]
    names = []
    for name in call.many("fields"):
        field = type.field(name.strip())
        if field is None:
            text = f"No such column '{name}' on sobject of type {type.name}"
            raise refuse("INVALID_FIELD", text)
        names.append(field.name)
    return list(dict.fromkeys([*names, "Id"]))


@routes.on("POST", _ALL)
def create(org: Salesforce, call: Call, type: str) -> Answer:
    record = rows.create(org, call, org.sobject(type, call), org.read_json(call))
    location = f"{call.base}/sobjects/{record.type}/{record.id}"
    return Answer(201, {"id": record.id, "success": True, "errors": []}, {"location": location})


@routes.on("GET", _ONE)
def read_one(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    found = org.sobject(type, call)
    record = rows.existing(org, found, id)
    return Answer(200, rows.shape(org, call, found, record, asked(found, call)))


@routes.on("PATCH", _ONE)
def update(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    """204 and nothing else: Salesforce does not say what it stored."""
    found, body = org.sobject(type, call), org.read_json(call)
    if any(name.lower() == "id" for name in body):
        raise refuse("INVALID_FIELD", "The Id field should not be specified in the sobject data.")
    record = rows.existing(org, found, id)
    _unmodified(record, call)
    rows.change(org, call, found, record, body)
    return Answer(204)


@routes.on("DELETE", _ONE)
def delete(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    record = rows.existing(org, org.sobject(type, call), id)
    _unmodified(record, call)
    rows.remove(org, call, record)
    return Answer(204)


def _unmodified(record: Record, call: Call) -> None:
    """412 if the record was changed after the time the caller knows of.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_conditional.htm
    """
    since = call.headers.get("if-unmodified-since")
    if since and record.updated.replace(microsecond=0) > parsedate_to_datetime(since):
        raise RefusedError(Answer(412))


@routes.on("GET", "/sobjects/{type}/{id}/Content")
def content(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    """The text of a note, raw."""
    record = rows.existing(org, org.sobject(type, call), id)
    body = base64.b64decode(record.get("Content") or "")
    return Answer(200, body, {"content-type": "application/octetstream"})


@routes.on("GET", _EXTERNAL)
def read_external(org: Salesforce, call: Call, type: str, field: str, key: str) -> Answer:
    found = org.sobject(type, call)
    records = _one_of(call, rows.by_external(org, found, field, key))
    if not records:
        raise missing()
    return Answer(200, rows.shape(org, call, found, records[0], asked(found, call)))


@routes.on("PATCH", _EXTERNAL)
def upsert(org: Salesforce, call: Call, type: str, field: str, key: str) -> Answer:
    """201 for a new record, 200 for one that was there.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/dome_upsert.htm
    """
    found, body = org.sobject(type, call), org.read_json(call)
    records = _one_of(call, rows.by_external(org, found, field, key))
    if not records and call.flag("updateOnly"):
        raise missing()
    record, created = rows.upsert(org, call, found, field, key, body)
    answer = {"id": record.id, "success": True, "errors": [], "created": created}
    return Answer(201 if created else 200, answer)


@routes.on("DELETE", _EXTERNAL)
def delete_external(org: Salesforce, call: Call, type: str, field: str, key: str) -> Answer:
    records = _one_of(call, rows.by_external(org, org.sobject(type, call), field, key))
    if not records:
        raise missing()
    rows.remove(org, call, records[0])
    return Answer(204)


def _one_of(call: Call, records: list[Record]) -> list[Record]:
    """300 with the addresses of the records if there are several."""
    if len(records) > 1:
        urls = [f"{call.base}/sobjects/{r.type}/{r.id}" for r in records]
        raise RefusedError(Answer(300, urls))
    return records
