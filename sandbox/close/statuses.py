"""The statuses of leads, and the pipelines whose statuses opportunities take.

https://developer.close.com/api/resources/pipelines and its neighbours
"""

from sandbox.close import defaults
from sandbox.close.ids import record_id
from sandbox.close.org import Close, invalid, refuse, routes
from sandbox.close.setup import listed, named
from sandbox.wire import Answer, Call, Json


@routes.on("GET", "/pipeline/")
def pipelines(org: Close, call: Call) -> Answer:
    return listed(call, org.pipelines)


@routes.on("POST", "/pipeline/")
def create_pipeline(org: Close, call: Call) -> Answer:
    body = org.read_json(call)
    pipeline: Json = {"id": record_id("pipe"), "name": named(body, "name"), "statuses": []}
    for status in body.get("statuses") or []:
        pipeline["statuses"].append(_deal_status(status))
    org.pipelines.append(pipeline)
    return Answer(201, pipeline)


@routes.on("PUT", "/pipeline/{id}/")
def update_pipeline(org: Close, call: Call, id: str) -> Answer:
    """Another name, or another order of the statuses, which may come from other pipelines."""
    pipeline, body = _pipeline(org, id), org.read_json(call)
    if unknown := set(body) - {"name", "statuses"}:
        raise invalid(dict.fromkeys(sorted(unknown), "Cannot be changed."))
    name = named(body, "name") if "name" in body else pipeline["name"]
    if "statuses" in body:
        ids = [row.get("id") for row in body["statuses"]]
        found = [org.deal_status(id) for id in ids]
        lost = {status["id"] for status in pipeline["statuses"]} - set(ids)
        if None in found or lost:
            raise invalid({"statuses": "Every status of the pipeline must be named, by id."})
        for old, status in filter(None, found):
            old["statuses"].remove(status)
        pipeline["statuses"] = [status for _, status in filter(None, found)]
    pipeline["name"] = name
    return Answer(200, pipeline)


@routes.on("DELETE", "/pipeline/{id}/")
def delete_pipeline(org: Close, call: Call, id: str) -> Answer:
    """Only a pipeline without statuses can go."""
    pipeline = _pipeline(org, id)
    if pipeline["statuses"]:
        raise invalid({}, "The pipeline still has statuses.")
    org.pipelines.remove(pipeline)
    return Answer(200, {})


@routes.on("GET", "/status/opportunity/")
def deal_statuses(org: Close, call: Call) -> Answer:
    return listed(call, [_shown(p, s) for p in org.pipelines for s in p["statuses"]])


@routes.on("POST", "/status/opportunity/")
def create_deal_status(org: Close, call: Call) -> Answer:
    body = org.read_json(call)
    wanted = body.get("pipeline_id") or org.pipelines[0]["id"]
    pipeline = next((p for p in org.pipelines if p["id"] == wanted), None)
    if pipeline is None:
        raise invalid({"pipeline_id": "Unknown pipeline."})
    status = _deal_status(body)
    pipeline["statuses"].append(status)
    return Answer(200, _shown(pipeline, status))


@routes.on("PUT", "/status/opportunity/{id}/")
def update_deal_status(org: Close, call: Call, id: str) -> Answer:
    """Another label: the id stays, and so does what the opportunities refer to."""
    pipeline, status = _found(org, id)
    status["label"] = named(org.read_json(call), "label")
    return Answer(200, _shown(pipeline, status))


@routes.on("DELETE", "/status/opportunity/{id}/")
def delete_deal_status(org: Close, call: Call, id: str) -> Answer:
    """Only a status that no opportunity has can go."""
    pipeline, status = _found(org, id)
    _idle(org, "opportunity", id)
    pipeline["statuses"].remove(status)
    return Answer(200, {})


@routes.on("GET", "/status/lead/")
def lead_statuses(org: Close, call: Call) -> Answer:
    return listed(call, org.lead_statuses)


@routes.on("POST", "/status/lead/")
def create_lead_status(org: Close, call: Call) -> Answer:
    status = {"id": record_id("stat"), "label": named(org.read_json(call), "label")}
    org.lead_statuses.append(status)
    return Answer(200, status)


@routes.on("PUT", "/status/lead/{id}/")
def update_lead_status(org: Close, call: Call, id: str) -> Answer:
    status = org.lead_status(id)
    if status is None:
        raise refuse(404, "Not found")
    status["label"] = named(org.read_json(call), "label")
    return Answer(200, status)


@routes.on("DELETE", "/status/lead/{id}/")
def delete_lead_status(org: Close, call: Call, id: str) -> Answer:
    status = org.lead_status(id)
    if status is None:
        raise refuse(404, "Not found")
    _idle(org, "lead", id)
    org.lead_statuses.remove(status)
    return Answer(200, {})


def _pipeline(org: Close, id: str) -> Json:
    found = next((pipeline for pipeline in org.pipelines if pipeline["id"] == id), None)
    if found is None:
        raise refuse(404, "Not found")
    return found


def _found(org: Close, id: str) -> tuple[Json, Json]:
    found = org.deal_status(id)
    if found is None:
        raise refuse(404, "Not found")
    return found


def _shown(pipeline: Json, status: Json) -> Json:
    more = {"pipeline_id": pipeline["id"], "organization_id": defaults.ORGANIZATION}
    return {**status, **more}


def _deal_status(body: Json) -> Json:
    kind = body.get("status_type") or body.get("type") or "active"
    if kind not in ("active", "won", "lost"):
        raise invalid({"status_type": "Must be active, won or lost."})
    return {"id": record_id("stat"), "label": named(body, "label"), "status_type": kind}


def _idle(org: Close, type: str, id: str) -> None:
    if any(record.get("status_id") == id for record in org.store.live(type)):
        raise invalid({}, "The status is in use.")
