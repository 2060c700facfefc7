"""The association endpoints, v4 and v3.

https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
"""

from collections.abc import Callable
from typing import Any

from sandbox.hubspot.app import HubSpot, existing, read_json, routes, typed
from sandbox.hubspot.errors import error, invalid, missing
from sandbox.hubspot.links import (
    PRIMARY,
    chosen,
    default_type,
    link_types,
    linked,
    set_types,
    types_between,
)
from sandbox.hubspot.portal import Portal, iso
from sandbox.records import Record
from sandbox.wire import Answer, Call, Json, RefusedError

PAGE = 500
READ_INPUTS = 1000
WRITE_INPUTS = 2000

_OBJECT = "/crm/v4/objects/{start}/{id}/associations"
_BATCH = "/crm/v4/associations/{start}/{end}/batch"


@routes.on("PUT", _OBJECT + "/default/{end}/{end_id}")
def link_default(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str, end_id: str
) -> Answer:
    """Link two records without a label; labels they have stay."""
    one, two = _ends(portal, start, id, end, end_id)
    plain = default_type(portal, one.type, two.type).id
    set_types(app, portal, call, one, two, types_between(portal, one, two) | {plain})
    return Answer(200, _batched(call, [*_default_rows(portal, one, two)]))


@routes.on("PUT", _OBJECT + "/{end}/{end_id}")
def link_labelled(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str, end_id: str
) -> Answer:
    """Replace the labels of a pair."""
    one, two = _ends(portal, start, id, end, end_id)
    set_types(app, portal, call, one, two, chosen(portal, one.type, two.type, _array(call)))
    return Answer(201, _pair(portal, one, two))


@routes.on("GET", _OBJECT + "/{end}")
def read_links(app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str) -> Answer:
    record, type = existing(portal, typed(start), id), typed(end)
    limit, after = int(call.one("limit", str(PAGE))), int(call.one("after", "0"))
    if not 1 <= limit <= PAGE:
        raise invalid(f"limit must be between 1 and {PAGE}")
    rows = _rows(portal, record, type.name)
    body: Json = {"results": rows[after : after + limit]}
    if len(rows) > after + limit:
        body["paging"] = {"next": {"after": str(after + limit)}}
    return Answer(200, body)


@routes.on("DELETE", _OBJECT + "/{end}/{end_id}")
def unlink(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str, end_id: str
) -> Answer:
    """Remove every link between two records."""
    one, two = _ends(portal, start, id, end, end_id)
    set_types(app, portal, call, one, two, ())
    return Answer(204)


@routes.on("POST", _BATCH + "/read")
def batch_read(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    """The links of many records, a page of each; 207 names the records that have none."""
    results: list[Json] = []
    errors = []
    for row in _inputs(call, READ_INPUTS):
        id, after = str(row.get("id")), int(row.get("after") or 0)
        record = portal.get(typed(start), id)
        rows = _rows(portal, record, typed(end).name) if record else []
        if rows:
            results.append({"from": {"id": id}, "to": rows[after : after + PAGE]})
            if len(rows) > after + PAGE:
                results[-1]["paging"] = {"next": {"after": str(after + PAGE)}}
        else:
            text = f"No {typed(end).name} is associated with {typed(start).name} {id}."
            more = {"subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND", "errors": []}
            context = {"fromObjectId": [id], "fromObjectType": [start], "toObjectType": [end]}
            errors.append(error("OBJECT_NOT_FOUND", text, context=context, links={}, **more))
    return _outcome(call, 200, results, errors)


@routes.on("POST", _BATCH + "/create")
def batch_create(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    """Add labelled links; rows that fail do not stop the others."""

    def link(row: Json) -> list[Json]:
        one, two = _row_ends(portal, start, end, row, row.get("to"))
        ids = chosen(portal, one.type, two.type, row.get("types"))
        set_types(app, portal, call, one, two, ids | types_between(portal, one, two))
        return [_pair(portal, one, two)]

    return _each(call, 201, link)


@routes.on("POST", _BATCH + "/associate/default")
def batch_default(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    def link(row: Json) -> list[Json]:
        one, two = _row_ends(portal, start, end, row, row.get("to"))
        plain = default_type(portal, one.type, two.type).id
        set_types(app, portal, call, one, two, types_between(portal, one, two) | {plain})
        return _default_rows(portal, one, two)

    return _each(call, 200, link)


@routes.on("POST", _BATCH + "/archive")
def batch_archive(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    """Unlink each `from` from each of its `to`."""
    for row in _inputs(call, WRITE_INPUTS):
        for to in row.get("to") or []:
            try:
                one, two = _row_ends(portal, start, end, row, to)
            except RefusedError:
                continue
            set_types(app, portal, call, one, two, ())
    return Answer(204)


@routes.on("POST", _BATCH + "/labels/archive")
def batch_archive_labels(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    """Remove some labels; removing the unlabelled type removes every label."""
    for row in _inputs(call, WRITE_INPUTS):
        one, two = _row_ends(portal, start, end, row, row.get("to"))
        _remove(app, portal, call, one, two, chosen(portal, one.type, two.type, row.get("types")))
    return Answer(204)


# -- v3 --


@routes.on("GET", "/crm/v3/objects/{start}/{id}/associations/{end}")
def read_links_v3(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str
) -> Answer:
    record = existing(portal, typed(start), id)
    return Answer(200, {"results": named_links(portal, record, typed(end).name)})


@routes.on("PUT", "/crm/v3/objects/{start}/{id}/associations/{end}/{end_id}/{type}")
def link_v3(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str, end_id: str, type: str
) -> Answer:
    one, two = _ends(portal, start, id, end, end_id)
    wanted = {_named_type(portal, one.type, two.type, type)}
    set_types(app, portal, call, one, two, types_between(portal, one, two) | wanted)
    return Answer(200, {"id": one.id, "associations": {end: {"results": [{"id": two.id}]}}})


@routes.on("DELETE", "/crm/v3/objects/{start}/{id}/associations/{end}/{end_id}/{type}")
def unlink_v3(
    app: HubSpot, portal: Portal, call: Call, start: str, id: str, end: str, end_id: str, type: str
) -> Answer:
    one, two = _ends(portal, start, id, end, end_id)
    _remove(app, portal, call, one, two, {_named_type(portal, one.type, two.type, type)})
    return Answer(204)


@routes.on("POST", "/crm/v3/associations/{start}/{end}/batch/read")
def batch_read_v3(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    results, errors = [], []
    for row in _inputs(call, READ_INPUTS):
        id = str(row.get("id"))
        record = portal.get(typed(start), id)
        rows = named_links(portal, record, typed(end).name) if record else []
        if rows:
            results.append({"from": {"id": id}, "to": rows})
        else:
            text = f"No {typed(end).name} is associated with {typed(start).name} {id}."
            errors.append(error("OBJECT_NOT_FOUND", text, context={}, links={}, errors=[]))
    return _outcome(call, 200, results, errors)


@routes.on("POST", "/crm/v3/associations/{start}/{end}/batch/create")
def batch_create_v3(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    def link(row: Json) -> list[Json]:
        one, two = _row_ends(portal, start, end, row, row.get("to"))
        wanted = {_named_type(portal, one.type, two.type, str(row.get("type")))}
        set_types(app, portal, call, one, two, types_between(portal, one, two) | wanted)
        return [{"from": {"id": one.id}, "to": {"id": two.id}, "type": row.get("type")}]

    return _each(call, 201, link)


@routes.on("POST", "/crm/v3/associations/{start}/{end}/batch/archive")
def batch_archive_v3(app: HubSpot, portal: Portal, call: Call, start: str, end: str) -> Answer:
    for row in _inputs(call, WRITE_INPUTS):
        one, two = _row_ends(portal, start, end, row, row.get("to"))
        type = _named_type(portal, one.type, two.type, str(row.get("type")))
        _remove(app, portal, call, one, two, {type})
    return Answer(204)


def named_links(portal: Portal, record: Record, end: str) -> list[Json]:
    """Links with names such as `contact_to_company_unlabeled`, one row per type."""
    known = link_types(portal, record.type, end)
    has_primary = any(type.label == PRIMARY for type in known.values())
    rows = []
    for id, types in linked(portal, record, end).items():
        for type_id in types:
            label = known[type_id].label
            name = f"{record.type}_to_{end}"
            if label is None and has_primary:
                name += "_unlabeled"
            elif label not in (None, PRIMARY):
                name = str(label)
            rows.append({"id": id, "type": name})
    return rows


def _named_type(portal: Portal, start: str, end: str, text: str) -> int:
    """A type by id or by name; `contact_to_company` is the primary one where there is one."""
    known = link_types(portal, start, end)
    if text.isdigit() and int(text) in known:
        return int(text)
    plain = default_type(portal, start, end).id
    primary = next((type.id for type in known.values() if type.label == PRIMARY), plain)
    names = {f"{start}_to_{end}": primary, f"{start}_to_{end}_unlabeled": plain}
    if text not in names:
        raise invalid(f"{text} is not a valid association type between {start} and {end}")
    return names[text]


def _remove(
    app: HubSpot, portal: Portal, call: Call, one: Record, two: Record, ids: set[int]
) -> None:
    plain = default_type(portal, one.type, two.type).id
    kept = set() if plain in ids else types_between(portal, one, two) - ids
    set_types(app, portal, call, one, two, kept)


def _ends(portal: Portal, start: str, id: str, end: str, end_id: str) -> tuple[Record, Record]:
    return existing(portal, typed(start), id), existing(portal, typed(end), end_id)


def _row_ends(portal: Portal, start: str, end: str, row: Json, to: Any) -> tuple[Record, Record]:
    ids = [side.get("id") if isinstance(side, dict) else None for side in (row.get("from"), to)]
    if None in ids:
        raise invalid("Each input needs from.id and to.id")
    return _ends(portal, start, str(ids[0]), end, str(ids[1]))


def _rows(portal: Portal, record: Record, end: str) -> list[Json]:
    known = link_types(portal, record.type, end)
    return [
        {"toObjectId": int(id), "associationTypes": [known[type].spec() for type in types]}
        for id, types in linked(portal, record, end).items()
    ]


def _pair(portal: Portal, one: Record, two: Record) -> Json:
    known = link_types(portal, one.type, two.type)
    ids = types_between(portal, one, two)
    return {
        "fromObjectTypeId": typed(one.type).id,
        "fromObjectId": int(one.id),
        "toObjectTypeId": typed(two.type).id,
        "toObjectId": int(two.id),
        "labels": [known[id].spec()["label"] for id in sorted(ids) if known[id].label],
    }


def _default_rows(portal: Portal, one: Record, two: Record) -> list[Json]:
    """A default link as HubSpot reports it: once from each side."""
    return [
        {
            "from": {"id": a.id},
            "to": {"id": b.id},
            "associationSpec": {
                "associationCategory": "HUBSPOT_DEFINED",
                "associationTypeId": default_type(portal, a.type, b.type).id,
            },
        }
        for a, b in ((one, two), (two, one))
    ]


def _array(call: Call) -> Any:
    try:
        return call.json()
    except ValueError:
        raise invalid("Invalid input JSON") from None


def _inputs(call: Call, most: int) -> list[Json]:
    inputs = read_json(call).get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(row, dict) for row in inputs):
        raise invalid("inputs must be a list of objects")
    if len(inputs) > most:
        raise invalid(f"The maximum number of inputs is {most}")
    return inputs


def _each(call: Call, status: int, act: Callable[[Json], list[Json]]) -> Answer:
    results: list[Json] = []
    errors: list[Json] = []
    for row in _inputs(call, WRITE_INPUTS):
        try:
            results += act(row)
        except RefusedError as refusal:
            errors.append({**refusal.answer.body, "context": {}, "links": {}, "errors": []})
    if errors and not results:
        raise (
            missing()
            if errors[0]["category"] == "OBJECT_NOT_FOUND"
            else invalid(errors[0]["message"])
        )
    return _outcome(call, status, results, errors)


def _outcome(call: Call, status: int, results: list[Json], errors: list[Json]) -> Answer:
    body = _batched(call, results)
    if errors:
        return Answer(207, {**body, "numErrors": len(errors), "errors": errors})
    return Answer(status, body)


def _batched(call: Call, results: list[Json]) -> Json:
    at = iso(call.at)
    return {"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at}
