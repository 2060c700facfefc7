"""Several requests in one call: composite, graph, batch and tree.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_composite.htm
"""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import orjson

from sandbox.salesforce import rows
from sandbox.salesforce.collections import MOST
from sandbox.salesforce.errors import fate, refuse
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.transaction import transaction
from sandbox.wire import Answer, Call, Json, RefusedError

REQUESTS, QUERIES, NODES, GRAPHS, DEPTH = 25, 5, 500, 75, 5
_REFERENCE = re.compile(r"@\{(\w+)((?:\.\w+|\[\d+\])*)\}")
_NAME = re.compile(r"\w+\Z")
_HALTED = [
    {
        "errorCode": "PROCESSING_HALTED",
        "message": "The transaction was rolled back since another operation in the same "
        "transaction failed.",
    }
]


class _FailedError(Exception):
    """A request failed among those of which all must succeed."""


@routes.on("POST", "/composite")
def composite(org: Salesforce, call: Call) -> Answer:
    body = org.read_json(call)
    given = _requests(body)
    if len(given) > REQUESTS:
        raise refuse("INVALID_INPUT", f"At most {REQUESTS} subrequests are allowed")
    heavy = [row for row in given if re.search(r"/(query|composite)", str(row.get("url")))]
    if len(heavy) > QUERIES:
        raise refuse("INVALID_INPUT", f"At most {QUERIES} queries and collections are allowed")
    answers, _ = _performed(org, call, given, all_or_none=body.get("allOrNone") is True)
    return Answer(200, {"compositeResponse": answers})


@routes.on("POST", "/composite/graph")
def graph(org: Salesforce, call: Call) -> Answer:
    """Graphs of requests, each of which is done completely or not at all."""
    graphs = org.read_json(call).get("graphs") or []
    if len(graphs) > GRAPHS or sum(len(_requests(g)) for g in graphs) > NODES:
        raise refuse("INVALID_INPUT", f"At most {NODES} nodes in {GRAPHS} graphs are allowed")
    found = []
    for given in graphs:
        answers, is_successful = _performed(org, call, _requests(given), all_or_none=True)
        answer = {"compositeResponse": answers}
        known = {"graphId": given.get("graphId"), "isSuccessful": is_successful}
        found.append({**known, "graphResponse": answer})
    return Answer(200, {"graphs": found})


def _requests(body: Json) -> list[Json]:
    given = body.get("compositeRequest")
    names = [str(row.get("referenceId", "")) for row in given or ()]
    if not given or len(set(names)) < len(names) or not all(map(_NAME.match, names)):
        text = "compositeRequest needs a distinct referenceId of letters, digits and _ for each"
        raise refuse("INVALID_INPUT", text)
    return list(given)


def _performed(
    org: Salesforce, call: Call, given: list[Json], *, all_or_none: bool
) -> tuple[list[Json], bool]:
    """What each request is answered; all of them undone if all must succeed and one does not."""
    answers: list[Json] = []
    bodies: Json = {}

    def perform() -> None:
        for row in given:
            answer = _one(org, call, row, bodies)
            bodies[row["referenceId"]] = answer.body if answer.status < 300 else None
            answers.append(
                {
                    "body": answer.body,
                    "httpHeaders": {k.title(): v for k, v in answer.headers.items()},
                    "httpStatusCode": answer.status,
                    "referenceId": row["referenceId"],
                }
            )

    if not all_or_none:
        perform()
        return answers, all(row["httpStatusCode"] < 300 for row in answers)
    try:
        with transaction(org, call):
            perform()
            if any(row["httpStatusCode"] >= 300 for row in answers):
                raise _FailedError
    except _FailedError:
        for row in answers:
            if row["httpStatusCode"] < 300:
                row |= {"body": _HALTED, "httpStatusCode": 400, "httpHeaders": {}}
        return answers, False
    return answers, True


def _one(org: Salesforce, call: Call, row: Json, bodies: Json) -> Answer:
    """The answer to one request, in which references to earlier answers are filled in."""
    try:
        body = _filled(row.get("body"), bodies)
        inner = inner_call(call, str(row.get("method")), _filled(row["url"], bodies), body)
    except LookupError as lacking:
        text = f"Invalid reference specified. No value found for {lacking.args[0]}"
        return Answer(400, [{"errorCode": "PROCESSING_HALTED", "message": text}])
    headers = {name.lower(): str(value) for name, value in row.get("httpHeaders", {}).items()}
    return org.attempt(replace(inner, headers={**inner.headers, **headers}))


def inner_call(call: Call, method: str, url: str, body: Any) -> Call:
    """A request inside another: as the same caller, at the same time."""
    path, _, query = url.partition("?")
    path = "/" + path.removeprefix("/services/data").strip("/")
    path = re.sub(r"\A/v\d+\.0", "", path)
    names = ("host", "sforce-call-options", "sforce-duplicate-rule-header")
    headers = {name: call.headers[name] for name in names if name in call.headers}
    return replace(
        call,
        method=method,
        path=path or "/",
        query=parse_qs(query, keep_blank_values=True),
        headers=headers,
        body=orjson.dumps(body) if body is not None else b"",
    )


def _filled(given: Any, bodies: Json) -> Any:
    if isinstance(given, dict):
        return {name: _filled(value, bodies) for name, value in given.items()}
    if isinstance(given, list):
        return [_filled(value, bodies) for value in given]
    if not isinstance(given, str):
        return given
    return _REFERENCE.sub(lambda match: str(_looked_up(match, bodies)), given)


def _looked_up(match: re.Match[str], bodies: Json) -> Any:
    """`ref.id`, `ref.records[0].Id`; `LookupError` if that is not there."""
    found: Any = bodies.get(match[1])
    for step in re.findall(r"\w+", match[2]):
        try:
            found = found[int(step) if isinstance(found, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise LookupError(match[1] + match[2]) from None
    if found is None or isinstance(found, dict | list):
        raise LookupError(match[1] + match[2])
    return found


@routes.on("POST", "/composite/batch")
def batch(org: Salesforce, call: Call) -> Answer:
    """Requests that have nothing to do with each other."""
    body = org.read_json(call)
    given = body.get("batchRequests") or []
    if not 1 <= len(given) <= REQUESTS:
        raise refuse("INVALID_INPUT", f"Between 1 and {REQUESTS} batchRequests are allowed")
    results: list[Json] = []
    for row in given:
        inner = inner_call(call, str(row.get("method")), str(row["url"]), row.get("richInput"))
        answer = org.attempt(inner)
        results.append({"statusCode": answer.status, "result": answer.body})
    failed = any(result["statusCode"] >= 300 for result in results)
    return Answer(200, {"hasErrors": failed, "results": results})


@routes.on("POST", "/composite/tree/{type}")
def tree(org: Salesforce, call: Call, type: str) -> Answer:
    """New records with their children, all or nothing.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobject_tree.htm
    """
    given = org.read_json(call).get("records")
    if not isinstance(given, list) or not given:
        raise refuse("REQUIRED_FIELD_MISSING", "Missing required field: records")
    made: list[Json] = []
    failed: list[Json] = []
    try:
        with transaction(org, call):
            for row in given:
                _grow(org, call, org.sobject(type, call), row, {}, made, failed, 1)
            if failed:
                raise _FailedError
    except _FailedError:
        return Answer(400, {"hasErrors": True, "results": failed})
    return Answer(201, {"hasErrors": False, "results": made})


def _grow(
    org: Salesforce,
    call: Call,
    type: SObject,
    row: Json,
    link: Json,
    made: list[Json],
    failed: list[Json],
    depth: int,
) -> None:
    reference = str((row.get("attributes") or {}).get("referenceId", ""))
    if not reference or depth > DEPTH or len(made) >= MOST:
        text = f"Each record needs a referenceId; at most {MOST} records in {DEPTH} levels"
        raise refuse("INVALID_INPUT", text)
    branches = {name: value for name, value in row.items() if _is_branch(value)}
    own = {name: value for name, value in row.items() if name not in branches}
    try:
        record = rows.create(org, call, type, own | link)
    except RefusedError as refusal:
        failed.append({"referenceId": reference, "errors": fate(refusal)["errors"]})
        return
    made.append({"referenceId": reference, "id": record.id})
    for name, children in branches.items():
        if name not in type.children:
            raise refuse("INVALID_FIELD", f"No such relationship '{name}' on {type.name}")
        child, field = type.children[name]
        for each in children["records"]:
            up = {field: record.id}
            _grow(org, call, org.sobject(child, call), each, up, made, failed, depth + 1)


def _is_branch(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("records"), list)
