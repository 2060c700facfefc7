"""Field history: who changed a tracked field, when, from what to what.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_opportunityfieldhistory.htm
"""

from collections.abc import Iterator

from sandbox.records import Record
from sandbox.salesforce.ids import numbered
from sandbox.salesforce.org import Salesforce
from sandbox.salesforce.schema import SObject


def edits(org: Salesforce, parent: SObject) -> Iterator[Record]:
    """The rows of an object's history: one when it was made, one for each change since."""
    number = 0
    for record in org.store.all(parent.name):
        rows = [("created", None, None, record.created, record.get("CreatedById"))]
        for name in sorted(parent.tracked & record.history.keys()):
            versions = record.history[name]
            first = versions[0].at == record.created
            was = versions[0].value if first else None
            for version in versions[1:] if first else versions:
                rows.append((name, was, version.value, version.at, version.source_id))
                was = version.value
        for name, old, new, at, user in sorted(rows, key=lambda row: row[3]):
            number += 1
            fields = {f"{parent.name}Id": record.id, "Field": name, "CreatedById": user}
            fields |= {"OldValue": old, "NewValue": new, "DataType": "Text"}
            known = {key: value for key, value in fields.items() if value is not None}
            yield Record(numbered("017", number), parent.history, known, at, at, record.gone)


def definitions(org: Salesforce) -> Iterator[Record]:
    """The fields of every object that can keep a history, and whether theirs is kept.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_fielddefinition.htm
    """
    number = 0
    for parent in org.schema.objects.values():
        for field in parent.fields.values() if parent.history else ():
            number += 1
            fields = {
                "EntityDefinitionId": parent.name,
                "QualifiedApiName": field.name,
                "IsFieldHistoryTracked": field.name in parent.tracked,
            }
            at = org.schema.changed
            yield Record(numbered("FLD", number), "FieldDefinition", fields, at, at, None)
