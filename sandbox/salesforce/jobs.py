"""Bulk API 2.0: jobs of many rows, in and out, as CSV.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0.htm
"""

import csv
import io
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.salesforce import rows
from sandbox.salesforce.collections import deleted, upserted
from sandbox.salesforce.errors import missing, refuse
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.queries import answered
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.stamps import shown
from sandbox.salesforce.transaction import transaction
from sandbox.wire import Answer, Call, Json, RefusedError

OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
LARGEST = 150 * 1024 * 1024
DELIMITERS = {
    "COMMA": ",",
    "SEMICOLON": ";",
    "TAB": "\t",
    "PIPE": "|",
    "CARET": "^",
    "BACKQUOTE": "`",
}
_CSV = {"content-type": "text/csv"}
_ALL, _ONE = "/jobs/ingest", "/jobs/ingest/{id}"
_QUERIES, _QUERY = "/jobs/query", "/jobs/query/{id}"


@dataclass(slots=True)
class Job:
    """Rows to write, or a query. `done_at` is when its end shows."""

    id: str
    kind: str
    operation: str
    object: str
    user: str | None
    created: datetime
    version: str
    state: str = "Open"
    external: str = ""
    delimiter: str = "COMMA"
    line_ending: str = "LF"
    error: str = ""
    done_at: float = 0.0
    content: str = ""
    header: list[str] = field(default_factory=list)
    good: list[list[str]] = field(default_factory=list)
    bad: list[list[str]] = field(default_factory=list)
    left: list[list[str]] = field(default_factory=list)


def _shape(job: Job, at: datetime) -> Json:
    """A job as it shows: the work of a while is still under way for so long."""
    working = job.state in ("JobComplete", "Failed") and at.timestamp() < job.done_at
    state = "InProgress" if working else job.state
    body: Json = {
        "id": job.id,
        "operation": job.operation,
        "object": job.object,
        "createdById": job.user,
        "createdDate": shown(job.created),
        "systemModstamp": shown(at),
        "state": state,
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": float(job.version),
        "lineEnding": job.line_ending,
        "columnDelimiter": job.delimiter,
        "jobType": "V2Ingest" if job.kind == "ingest" else "V2Query",
    }
    if job.kind == "ingest":
        body["contentUrl"] = f"services/data/v{job.version}/jobs/ingest/{job.id}/batches"
        body |= {"externalIdFieldName": job.external} if job.external else {}
    if state != "Open":
        done = 0 if working else len(job.good) + len(job.bad)
        body |= {"numberRecordsProcessed": done, "retries": 0, "totalProcessingTime": 100}
        if job.kind == "ingest":
            body["numberRecordsFailed"] = 0 if working else len(job.bad)
    return {**body, "errorMessage": job.error} if job.error else body


def _job(org: Salesforce, kind: str, id: str) -> Job:
    job: Job | None = org.jobs.get(id)
    if job is None or job.kind != kind:
        raise missing()
    return job


def _new(org: Salesforce, call: Call, kind: str, operation: str, object: str) -> Job:
    id = f"750{org.next_id('750')[3:]}"
    version = call.base.rpartition("/v")[2]
    job = Job(id, kind, operation, object, call.actor.user, call.at, version)
    org.jobs[id] = job
    return job


# -- rows in --


@routes.on("POST", _ALL)
def create(org: Salesforce, call: Call) -> Answer:
    body = org.read_json(call)
    if body.get("operation") not in OPERATIONS:
        raise refuse("INVALIDJOB", f"Operation must be one of {', '.join(OPERATIONS)}")
    type = org.schema.get(str(body.get("object")), person=call.actor.is_person)
    if type is None:
        raise refuse("INVALIDENTITY", f"Unable to find object: {body.get('object')}")
    key = str(body.get("externalIdFieldName") or "")
    if body["operation"] == "upsert":
        found = type.field(key)
        if found is None or not (found.external or found.name == "Id"):
            raise refuse("INVALIDJOB", f"Field name provided, {key} does not match an External ID")
    if body.get("columnDelimiter", "COMMA") not in DELIMITERS:
        raise refuse("INVALIDJOB", "columnDelimiter is unknown")
    job = _new(org, call, "ingest", body["operation"], type.name)
    job.external = key
    job.delimiter = body.get("columnDelimiter", "COMMA")
    job.line_ending = body.get("lineEnding", "LF")
    return Answer(200, _shape(job, call.at))


@routes.on("PUT", _ONE + "/batches")
def upload(org: Salesforce, call: Call, id: str) -> Answer:
    """The rows; once."""
    job = _job(org, "ingest", id)
    if job.state != "Open" or job.content:
        raise refuse("INVALIDJOBSTATE", "Found multiple contents for job; one upload per job")
    if not call.headers.get("content-type", "").startswith("text/csv"):
        raise refuse("INVALIDBATCH", "Content-Type must be text/csv", status=415)
    if len(call.body) > LARGEST:
        raise refuse("INVALIDBATCH", "The content is larger than 150 MB")
    job.content = call.body.decode()
    return Answer(201)


@routes.on("PATCH", _ONE)
def close(org: Salesforce, call: Call, id: str) -> Answer:
    """`UploadComplete` starts the work, `Aborted` ends it."""
    job, state = _job(org, "ingest", id), org.read_json(call).get("state")
    if state not in ("UploadComplete", "Aborted") or job.state not in ("Open", "UploadComplete"):
        raise refuse("INVALIDJOBSTATE", f"A job that is {job.state} cannot become {state}")
    job.state = str(state)
    body = _shape(job, call.at)
    if state == "UploadComplete":
        _work(org, call, job)
        job.done_at = call.at.timestamp() + org.options.job_seconds
    return Answer(200, body)


def _work(org: Salesforce, call: Call, job: Job) -> None:
    """Write the rows; each has a fate of its own."""
    type = org.schema.get(job.object, person=call.actor.is_person)
    assert type is not None
    try:
        table = list(csv.reader(io.StringIO(job.content), delimiter=DELIMITERS[job.delimiter]))
    except csv.Error as error:
        table, job.error = [], f"InvalidBatch : {error}"
    job.content = ""
    job.header = table[0] if table else []
    unknown = [name for name in job.header if not _is_column(type, name)]
    if not table or unknown:
        job.error = job.error or f"InvalidBatch : Field name not found : {', '.join(unknown)}"
        job.state, job.left = "Failed", table[1:]
        return
    lines = [cells for cells in table[1:] if cells]
    if org.options.break_jobs:
        org.options.break_jobs -= 1
        job.error = "InternalServerError : The batch was given up after ten tries"
        lines, job.left = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    for cells in lines:
        row = {n: v for n, v in zip(job.header, cells, strict=False) if v != ""}
        try:
            if len(cells) != len(job.header):
                raise refuse("INVALIDBATCHROW", f"{len(cells)} cells in a row of {len(job.header)}")
            with transaction(org, call):
                id, created = _one(org, call, job, type, row)
            job.good.append([id, str(created).lower(), *cells])
        except RefusedError as refusal:
            problem = refusal.answer.body[0]
            names = ",".join(problem.get("fields", ()))
            text = f"{problem['errorCode']}:{problem['message']}:{names} --"
            job.bad.append([row.get("Id", ""), text, *cells])
    job.state = "Failed" if job.error else "JobComplete"


def _is_column(type: SObject, name: str) -> bool:
    first, _, rest = name.partition(".")
    return type.relation(first) is not None if rest else type.field(first) is not None


def _one(
    org: Salesforce, call: Call, job: Job, type: SObject, row: dict[str, str]
) -> tuple[str, bool]:
    """Write one row; its id, and whether it was made."""
    values: Json = {}
    for name, text in row.items():
        value = None if text == "#N/A" else text
        first, _, rest = name.partition(".")
        values[first] = {rest: value} if rest else value
    id = str(values.pop("Id", "")) if job.external.lower() != "id" else ""
    match job.operation:
        case "insert":
            return rows.create(org, call, type, values).id, True
        case "upsert":
            result = upserted(org, call, type, job.external, values)
            return result["id"], result["created"]
        case "update":
            record = rows.existing(org, type, id, many=True)
            rows.change(org, call, type, record, values)
            return record.id, False
    gone = deleted(org, call, id)["id"]
    if job.operation == "hardDelete":
        org.store.forget(type.name, gone)
    return gone, False


@routes.on("GET", _ALL)
def list_jobs(org: Salesforce, call: Call) -> Answer:
    found = [_shape(job, call.at) for job in org.jobs.values() if job.kind == "ingest"]
    return Answer(200, {"done": True, "nextRecordsUrl": None, "records": found})


@routes.on("GET", _ONE)
def read(org: Salesforce, call: Call, id: str) -> Answer:
    return Answer(200, _shape(_job(org, "ingest", id), call.at))


@routes.on("DELETE", _ONE)
def delete(org: Salesforce, call: Call, id: str) -> Answer:
    job = _job(org, "ingest", id)
    if _shape(job, call.at)["state"] in ("InProgress", "UploadComplete"):
        raise refuse("INVALIDJOBSTATE", "A job under way cannot be deleted")
    del org.jobs[id]
    return Answer(204)


@routes.on("GET", _ONE + "/successfulResults")
def successful(org: Salesforce, call: Call, id: str) -> Answer:
    job = _ended(org, call, id)
    return Answer(200, _written(["sf__Id", "sf__Created", *job.header], job.good), _CSV)


@routes.on("GET", _ONE + "/failedResults")
def failed(org: Salesforce, call: Call, id: str) -> Answer:
    job = _ended(org, call, id)
    return Answer(200, _written(["sf__Id", "sf__Error", *job.header], job.bad), _CSV)


@routes.on("GET", _ONE + "/unprocessedrecords")
def unprocessed(org: Salesforce, call: Call, id: str) -> Answer:
    job = _ended(org, call, id)
    return Answer(200, _written(job.header, job.left), _CSV)


def _ended(org: Salesforce, call: Call, id: str) -> Job:
    job = _job(org, "ingest", id)
    if _shape(job, call.at)["state"] not in ("JobComplete", "Failed", "Aborted"):
        raise refuse("INVALIDJOBSTATE", "The results are there when the job has ended")
    return job


def _written(header: list[str], table: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([header, *table])
    return out.getvalue().encode()


# -- rows out --


@routes.on("POST", _QUERIES)
def ask(org: Salesforce, call: Call) -> Answer:
    body = org.read_json(call)
    if body.get("operation") not in ("query", "queryAll"):
        raise refuse("INVALIDJOB", "operation must be query or queryAll")
    found = answered(org, call, str(body.get("query")), all=body["operation"] == "queryAll")
    records = found["records"]
    while not found["done"]:
        locator, _, start = found["nextRecordsUrl"].rpartition("/")[2].rpartition("-")
        cursor = org.cursors.pop(locator)
        rest = cursor.records[int(start) :]
        records, found = records + [cursor.shape(record) for record in rest], {"done": True}
    flat = [_flat(row) for row in records]
    job = _new(org, call, "query", body["operation"], "")
    job.object = records[0]["attributes"]["type"] if records else ""
    job.header = list(dict.fromkeys(name for row in flat for name in row))
    job.good = [[_cell(row.get(name)) for name in job.header] for row in flat]
    job.state = "UploadComplete"
    shape = _shape(job, call.at)
    job.state, job.done_at = "JobComplete", call.at.timestamp() + org.options.job_seconds
    return Answer(200, shape)


def _flat(row: Json, above: str = "") -> Json:
    """A row with its parents' fields beside its own: `Account.Name`."""
    found: Json = {}
    for name, value in row.items():
        if name == "attributes":
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@routes.on("GET", _QUERY)
def read_query(org: Salesforce, call: Call, id: str) -> Answer:
    return Answer(200, _shape(_job(org, "query", id), call.at))


@routes.on("GET", _QUERY + "/results")
def results(org: Salesforce, call: Call, id: str) -> Answer:
    """A part of what was found; `Sforce-Locator` is `null` at the end."""
    job = _job(org, "query", id)
    if _shape(job, call.at)["state"] != "JobComplete":
        raise refuse("INVALIDJOBSTATE", "The results are there when the job has ended")
    start, most = int(call.one("locator", "0")), int(call.one("maxRecords", "50000"))
    end = start + most
    headers = {
        **_CSV,
        "Sforce-Locator": str(end) if end < len(job.good) else "null",
        "Sforce-NumberOfRecords": str(len(job.good[start:end])),
    }
    return Answer(200, _written(job.header, job.good[start:end]), headers)


@routes.on("DELETE", _QUERY)
def delete_query(org: Salesforce, call: Call, id: str) -> Answer:
    del org.jobs[_job(org, "query", id).id]
    return Answer(204)
