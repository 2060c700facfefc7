"""What could never be read or written is said before a customer's edit meets it."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.mapping import compile_mapping
from app.domain.remote import compare
from app.domain.values import Finding, RemoteField

KNOWN = {
    field.path: field
    for field in (
        RemoteField("jobtitle"),
        RemoteField("status", options=("NEW", "OPEN", "LOST")),
        RemoteField("created", writable=False),
        RemoteField("emails"),
        RemoteField("value"),
        RemoteField("value_currency", writable=False),
    )
}


def findings(entity: str = "person", **rows: Any) -> list[Finding]:
    named = {
        key.replace("__", ", ").replace("custom_", "custom."): row for key, row in rows.items()
    }
    mapping = compile_mapping(entity, named, where="here")
    return compare(mapping, KNOWN, title="Acme", where=lambda key: f"syncline.yaml:7: {key}")


def trouble(**rows: Any) -> Finding:
    (found,) = [finding for finding in findings(**rows) if not finding.ok]
    assert found.check == "map person"
    assert found.remedy is not None
    return found


def test_a_field_that_is_not_there_is_named_with_its_row_and_the_nearest_one():
    found = trouble(title="jobtitel")
    assert found.detail == "`title`: Acme has no field 'jobtitel' (did you mean 'jobtitle'?)"
    assert "syncline.yaml:7: title" in str(found.remedy)


def test_a_field_that_nobody_may_write_can_only_be_read():
    found = trouble(custom_since="created")
    assert found.detail == "`custom.since`: 'created' is read-only in Acme"
    assert "direction: from at syncline.yaml:7: custom.since" in str(found.remedy)
    row = {"path": "created", "direction": "from"}
    assert all(finding.ok for finding in findings(custom_since=row))


def test_what_a_transform_only_reads_may_be_read_only():
    row = {"paths": ["value", "value_currency"], "as": "cents"}
    assert all(finding.ok for finding in findings("deal", amount__currency=row))


def test_a_list_is_the_field_it_is_in():
    row = {"path": "emails[].email", "as": "emails"}
    assert all(finding.ok for finding in findings(email__emails=row))


def test_words_of_a_value_map_must_be_options():
    found = trouble(lead_status={"path": "status", "values": {"New": "NEW", "Gone": "AWAY"}})
    assert "'AWAY' is no option of 'status' in Acme; it has 'NEW', 'OPEN', 'LOST'" in found.detail


def test_options_without_a_word_of_ours_are_told():
    told = findings(lead_status={"path": "status", "values": {"New": "NEW"}})
    assert [finding.ok for finding in told] == [True, True]
    assert "'OPEN', 'LOST' of 'status' has no value and is not read" in told[1].detail


@pytest.mark.parametrize("policy", ["pass", "create"])
def test_what_passes_needs_no_word(policy):
    row = {"path": "status", "values": {"New": "NEW"}, "unmapped": policy}
    assert [finding.ok for finding in findings(lead_status=row)] == [True]


def test_what_a_template_reads_must_be_there_too():
    found = trouble(title={"template": "{{jobtitle}} {{level}}", "direction": "from"})
    assert "Acme has no field 'level'" in found.detail
