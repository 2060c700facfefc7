"""The local CRMs against the vendors' machine-readable facts, where a developer has them."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.close.checks import FIELDS
from sandbox.close.event_types import ACTIONS
from sandbox.close.org import routes as close_routes
from sandbox.hubspot.app import routes as hubspot_routes
from sandbox.hubspot.links import link_types
from sandbox.hubspot.options import HubSpotOptions
from sandbox.hubspot.portal import Portal
from sandbox.hubspot.schema import TYPES
from sandbox.salesforce.avro import Shape
from sandbox.salesforce.bus import CAPTURED
from sandbox.salesforce.messages import messages
from sandbox.salesforce.org import plain as salesforce_plain
from sandbox.salesforce.org import routes as salesforce_routes
from sandbox.salesforce.schema import built_in
from sandbox.wire import Routes

SPECS = os.environ.get("VENDOR_SPECS")
pytestmark = pytest.mark.skipif(
    not SPECS, reason="VENDOR_SPECS does not name a directory with the vendors' specifications"
)

VERBS = ("get", "post", "put", "patch", "delete")
# What Syncline has no use for.
LEFT_OUT = re.compile(
    r"/audit\Z|/high-usage-report/|/definitions/configurations/(all|.*/batch/(update|purge))|"
    r"/crm/v3/pipelines/.* put\Z|/groups/\{groupName\} (delete|patch)\Z|"
    r"/activity/(sms|whatsapp_message|custom|created|form_submission|emailthread|status_change|"
    r"task_completed)/|/meeting/\{id\}/integration/|/shared/\{scf_id\}/|/organization/\{id\}/ put\Z"
)
OF_CLOSE = re.compile(
    r"/(lead|contact|opportunity|task|activity|webhook|event|custom_field|custom_field_schema|"
    r"user|me|organization|pipeline|status)/"
)


def spec(name: str) -> Any:
    return json.loads((Path(str(SPECS)) / name).read_text())


def unknown(paths: dict[str, Any], routes: Routes, type: str) -> Iterator[str]:
    """The calls of a specification that nothing answers."""
    for path, verbs in paths.items():
        filled = re.sub(r"\{\w*[tT]ype\}", type, path)
        filled = re.sub(r"\{\w+\}", "1", filled)
        for verb in VERBS:
            call = f"{path} {verb}"
            if verb not in verbs or LEFT_OUT.search(call) or LEFT_OUT.search(path):
                continue
            try:
                route, _ = routes.find(verb.upper(), filled)
            except LookupError:
                route = None
            if route is None:
                yield call


@pytest.mark.parametrize(
    "file",
    [
        *("contacts", "companies", "deals", "tickets", "notes", "calls", "emails", "meetings"),
        *("tasks", "owners", "pipelines", "properties", "associations_v3", "associations_v4"),
        *("associations_v4_schema", "webhooks_v3"),
    ],
)
def test_every_call_of_hubspot_is_answered(file: str) -> None:
    paths = spec(f"hubspot/{file}.openapi.json")["paths"]
    plain = {path.rstrip("/"): verbs for path, verbs in paths.items()}
    assert list(unknown(plain, hubspot_routes, "contacts")) == []


def test_every_call_of_close_is_answered() -> None:
    paths = spec("close/close-rest.facts.openapi.json")["paths"]
    ours = {path: verbs for path, verbs in paths.items() if OF_CLOSE.match(path)}
    assert list(unknown(ours, close_routes, "lead")) == []


def test_every_call_of_salesforce_is_answered() -> None:
    """But for SOSL: its index lags, and nobody may decide by it whether a record is there."""
    for row in spec("salesforce/rest_core.endpoints.json")["endpoints"]:
        path = row["path"].partition("?")[0]
        if path.endswith(("/search/", "/parameterizedSearch", "{nextRecordsUrl}")):
            continue
        known = salesforce_routes if "v{version}" in path else salesforce_plain
        path = re.sub(r"\{\w+\}", "1", path.rpartition("v{version}")[2]).rstrip("/")
        route, _ = known.find(row["method"], path)
        assert route is not None, row


def test_the_messages_of_salesforces_bus_are_the_documented_ones() -> None:
    contract = spec("salesforce/pubsub_api.contract.json")["messages"]
    for name, message in messages.items():
        fields = {(f.name, f.number, f.is_repeated) for f in message.DESCRIPTOR.fields}
        assert fields == {(f["name"], f["number"], f["repeated"]) for f in contract[name]}


def test_the_headers_of_salesforces_events_are_the_documented_ones() -> None:
    documented = spec("salesforce/change_event_header.schema.json")["properties"]
    for name in CAPTURED:
        header = Shape(built_in()[name]).schema["fields"][0]["type"]["fields"]
        assert {field["name"] for field in header} == documented.keys()
        (changes,) = [field["type"]["symbols"] for field in header if field["name"] == "changeType"]
        assert set(changes) == set(documented["changeType"]["enum"])


def test_the_events_of_close_are_the_documented_ones() -> None:
    facts = spec("close/event_types.json")
    known = {
        kind.replace("<subtype>", subtype): set(actions)
        for kind, actions in facts["events"].items()
        for subtype in (facts["task_subtypes"] if "<subtype>" in kind else [""])
    }
    assert known == ACTIONS


def test_the_link_types_of_hubspot_are_the_documented_ones() -> None:
    rows = spec("hubspot/association_types.json")["associationTypes"]
    portal = Portal(1, HubSpotOptions())
    missing = [
        row
        for row in rows
        if {row["from"], row["to"]} <= set(TYPES)
        and row["typeId"] not in link_types(portal, row["from"], row["to"])
    ]
    assert missing == []


async def test_activities_of_close_have_all_their_fields(close: httpx.AsyncClient) -> None:
    schemas = spec("close/close-rest.facts.openapi.json")["components"]["schemas"]
    lead = (await close.post("/lead/", json={"name": "A"})).json()["id"]
    for kind, more in (("note", {}), ("call", {}), ("email", {"status": "draft"})):
        body = {"lead_id": lead, **more}
        made = (await close.post(f"/activity/{kind}/", json=body)).json()
        schema = schemas.get(f"{kind.capitalize()}Activity") or schemas["ActivityBase"]
        assert set(schema["required"]) <= set(made)


@pytest.mark.parametrize("kind", ["Note", "Call", "Email"])
def test_the_fields_of_new_activities_are_the_documented_ones(kind: str) -> None:
    schemas = spec("close/close-rest.facts.openapi.json")["components"]["schemas"]
    documented = set(schemas[f"Create{kind}Activity"]["properties"])
    # The documentation page knows two more than the specification, and one by another name.
    documented |= {"disposition", "date_scheduled", "created_by"}
    assert set(FIELDS[f"activity.{kind.lower()}"]) <= documented
