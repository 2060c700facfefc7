"""What each system tells of its fields, and the options it can be given."""

from typing import Any

import pytest

from app.errors import RejectedError
from app.sdk.connector import Connector
from tests.connectors.conftest import CANDIDATES, Control


@pytest.mark.parametrize("name", CANDIDATES)
async def test_every_path_of_the_built_in_mapping_is_a_field(name: str, control: Control):
    candidate = CANDIDATES[name]
    connector = candidate.connect(control.base)
    for entity, promise in candidate.manifest.entities.items():
        known = await connector.fields(entity)
        if known is None:
            continue
        named = {path.partition("[]")[0] for path in candidate.properties()[promise.type]}
        assert named - known.keys() == set(), entity
    await connector.aclose()


async def test_hubspot_tells_what_is_read_only_and_which_options_there_are(hubspot: Connector):
    deals = await hubspot.fields("deal")
    assert deals is not None
    assert deals["dealname"].writable
    assert not deals["hs_is_closed_won"].writable
    people = await hubspot.fields("person")
    assert people is not None
    assert "NEW" in people["hs_lead_status"].options


async def test_hubspot_can_be_given_an_option(hubspot: Connector):
    for _ in range(2):
        await hubspot.create_option("person", "hs_lead_status", "NURTURE")
    known = await hubspot.fields("person")
    assert known is not None
    assert known["hs_lead_status"].options.count("NURTURE") == 1
    with pytest.raises(RejectedError, match="has no options"):
        await hubspot.create_option("person", "firstname", "Ada")


async def test_close_tells_its_own_fields_and_those_of_the_organisation(
    close: Connector, control: Control
):
    field = await control.person(
        "POST",
        "/close/api/v1/custom_field/contact/",
        json={"name": "Status", "type": "choices", "choices": ["New", "Old"]},
    )
    path = f"custom.{field['id']}"
    known = await close.fields("person")
    assert known is not None
    assert known[path].options == ("New", "Old")
    assert known["title"].writable
    assert not known["date_updated"].writable

    await close.create_option("person", path, "Fresh")
    known = await close.fields("person")
    assert known is not None
    assert known[path].options == ("New", "Old", "Fresh")
    with pytest.raises(RejectedError, match="has no choices"):
        await close.create_option("person", "title", "CEO")


async def test_an_option_that_somebody_writes_over_at_that_moment_is_added_again(
    hubspot: Connector, control: Control, monkeypatch: pytest.MonkeyPatch
):
    path = "/hubspot/crm/v3/properties/contacts/hs_lead_status"
    before = (await control.person("GET", path))["options"]
    theirs = {"label": "Theirs", "value": "THEIRS", "displayOrder": 99, "hidden": False}
    call = hubspot.client.call
    written: list[str] = []

    async def meanwhile(method: str, *args: Any, **more: Any) -> Any:
        answer = await call(method, *args, **more)
        if method == "PATCH" and not written:
            # A person saves the list that was open on the screen.
            written.append(path)
            await control.person("PATCH", path, json={"options": [*before, theirs]})
        return answer

    monkeypatch.setattr(hubspot.client, "call", meanwhile)
    await hubspot.create_option("person", "hs_lead_status", "NURTURE")
    known = await hubspot.fields("person")
    assert known is not None
    assert {"NURTURE", "THEIRS"} <= set(known["hs_lead_status"].options)
    assert {option["value"] for option in before} <= set(known["hs_lead_status"].options)
