"""Duplicate rules: a second record that looks like one that is there, if the options ask for it.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_duplicaterules.htm
"""

from collections.abc import Mapping
from typing import Any

from sandbox.records import Record
from sandbox.salesforce.errors import invalid
from sandbox.salesforce.org import Salesforce
from sandbox.salesforce.schema import SObject
from sandbox.wire import Call, Json

_MATCHED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Account": ("Name", ("Account",)),
    "Contact": ("Email", ("Contact", "Lead")),
    "Lead": ("Email", ("Contact", "Lead")),
}


def check_duplicates(
    org: Salesforce, call: Call, type: SObject, values: Mapping[str, Any], own: str | None
) -> None:
    """Refuse a likely duplicate, unless the rule only alerts and the caller saves anyway."""
    rule = org.options.duplicate_rule
    if not rule or type.name not in _MATCHED or own is not None:
        return
    field, types = _MATCHED[type.name]
    wanted = str(values.get(field) or "").casefold()
    alike = [
        record
        for other in types
        for record in org.store.live(other)
        if wanted and str(record.get(field) or "").casefold() == wanted
    ]
    if not alike or (rule == "alert" and _saves_anyway(call)):
        return
    text = "Use one of these records?"
    raise invalid(
        "DUPLICATES_DETECTED", text, duplicateResult=_result(org, call, type, alike, rule, text)
    )


def _saves_anyway(call: Call) -> bool:
    given = call.headers.get("sforce-duplicate-rule-header", "")
    return "allowsave=true" in given.lower().replace(" ", "")


def _result(
    org: Salesforce, call: Call, type: SObject, alike: list[Record], rule: str, text: str
) -> Json:
    matches = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {
                "attributes": {
                    "type": record.type,
                    "url": f"{call.base}/sobjects/{record.type}/{record.id}",
                },
                "Id": record.id,
            },
        }
        for record in alike
    ]
    name = f"Standard_{type.name}_Duplicate_Rule"
    result = {
        "entityType": type.name,
        "errors": [],
        "matchEngine": "ExactMatchEngine",
        "matchRecords": matches,
        "rule": f"Standard_{type.name}_Match_Rule",
        "size": len(matches),
        "success": True,
    }
    return {
        "allowSave": rule == "alert",
        "duplicateRule": name,
        "duplicateRuleEntityType": type.name,
        "errorMessage": text,
        "matchResults": [result],
    }
