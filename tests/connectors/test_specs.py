"""The manifests against the vendors' own machine-readable facts, where a developer has them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.domain.manifest import Manifest
from app.sdk.registry import Registry

SPECS = os.environ.get("VENDOR_SPECS")
pytestmark = pytest.mark.skipif(
    not SPECS, reason="VENDOR_SPECS does not name a directory with the vendors' specifications"
)


def spec(name: str) -> Any:
    return json.loads((Path(str(SPECS)) / name).read_text())


def manifest(name: str) -> Manifest:
    return Registry.load().connector(name).manifest


def known(found: Manifest) -> set[str]:
    return {*found.webhook.events, *found.webhook.ignores}


def test_every_event_that_close_can_send_is_handled_or_knowingly_ignored():
    facts = spec("close/event_types.json")
    sent = {
        f"{kind.replace('<subtype>', subtype)}.{action}"
        for kind, actions in facts["events"].items()
        for action in actions
        for subtype in (facts["task_subtypes"] if "<subtype>" in kind else [""])
    }
    assert sent - known(manifest("close")) == set()


def test_every_event_that_hubspot_can_send_is_handled_or_knowingly_ignored():
    schema = spec("hubspot/webhook_delivery.schema.json")
    sent = set(schema["items"]["properties"]["subscriptionType"]["enum"])
    generic = {name for name in sent if name.startswith("object.")}
    assert sent - generic - known(manifest("hubspot")) == set()


@pytest.mark.parametrize("file", ["contacts", "companies", "deals"])
def test_the_batch_calls_of_hubspot_stand_in_its_description(file: str):
    paths = spec(f"hubspot/{file}.openapi.json")["paths"]
    for call in ("batch/read", "batch/create", "batch/update", "search"):
        assert f"/crm/v3/objects/{file}/{call}" in paths


def test_the_calls_of_close_stand_in_its_description():
    paths = spec("close/close-rest.facts.openapi.json")["paths"]
    for path in ("/lead/", "/contact/", "/opportunity/", "/event/", "/webhook/", "/pipeline/"):
        assert path in paths
    for entity in manifest("close").entities.values():
        assert {"get", "put"} <= paths[f"/{entity.type}/{{id}}/"].keys()
