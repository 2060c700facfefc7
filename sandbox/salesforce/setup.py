"""Fields and objects that somebody makes, and who may see them.

https://developer.salesforce.com/docs/atlas.en-us.api_tooling.meta/api_tooling/tooling_api_objects_customfield.htm
"""

import re
from typing import TYPE_CHECKING

from sandbox.salesforce.errors import invalid, missing, refuse
from sandbox.salesforce.org import Salesforce, people, routes
from sandbox.salesforce.rows import existing
from sandbox.salesforce.schema import SObject
from sandbox.wire import Answer, Call, Json

if TYPE_CHECKING:
    from sandbox.salesforce.transaction import Transaction

_NAME = re.compile(r"[A-Za-z]\w*__c\Z")
_TYPES = {
    "Text": "string",
    "TextArea": "textarea 255",
    "LongTextArea": "textarea",
    "Checkbox": "boolean",
    "Date": "date",
    "DateTime": "datetime",
    "Email": "email 80",
    "Phone": "phone 40",
    "Url": "url 255",
}
_NUMBERS = {"Number": "double", "Currency": "currency", "Percent": "percent"}
_PICKLISTS = {"Picklist": "picklist", "MultiselectPicklist": "multipicklist"}
_GRANTS = ("FieldPermissions", "PermissionSetAssignment")


@routes.on("POST", "/tooling/sobjects/CustomField")
def create_field(org: Salesforce, call: Call) -> Answer:
    """A new field. What the API made nobody sees until a permission set says so."""
    body = org.read_json(call)
    name, metadata = str(body.get("FullName") or ""), body.get("Metadata") or {}
    type, _, field = name.partition(".")
    found = org.schema.get(type)
    if found is None or not _NAME.match(field):
        raise invalid("INVALID_FULLNAME", f"{name} is no name of a custom field", "FullName")
    if found.field(field):
        text = f"There is already a field named {field.removesuffix('__c')} on {found.name}."
        raise invalid("DUPLICATE_DEVELOPER_NAME", text, "DeveloperName")
    org.add_field(found.name, field, _spec(metadata), label=str(metadata.get("label") or field))
    if not call.actor.is_person:
        org.options.hidden = [*org.options.hidden, f"{found.name}.{field}"]
    id = org.next_id("00N")
    return Answer(201, {"id": id, "success": True, "errors": [], "warnings": [], "infos": []})


def _spec(metadata: Json) -> str:
    """A field as `objects.yaml` writes it."""
    type = str(metadata.get("type"))
    flags = {"externalId": "external", "unique": "unique", "required": "required"}
    words = " ".join(word for flag, word in flags.items() if metadata.get(flag))
    if type in ("Text", "LongTextArea"):
        spec = f"{_TYPES[type]} {int(metadata['length'])}"
    elif type in _TYPES:
        spec = _TYPES[type]
    elif type in _NUMBERS:
        decimals = int(metadata.get("scale", 0))
        spec = f"{_NUMBERS[type]} {int(metadata.get('precision', 18)) - decimals}.{decimals}"
    elif type in _PICKLISTS:
        values = metadata.get("valueSet") or {}
        rows = (values.get("valueSetDefinition") or {}).get("value") or []
        names = "|".join(f"{'*' if row.get('default') else ''}{row['fullName']}" for row in rows)
        words = " ".join(filter(None, (words, "restricted" if values.get("restricted") else "")))
        return f"{_PICKLISTS[type]} {words}".strip() + (f": {names}" if names else "")
    elif type == "Lookup":
        relation = metadata.get("relationshipName") or metadata["referenceTo"]
        return f"reference {words} -> {metadata['referenceTo']} as {relation}__r".replace("  ", " ")
    else:
        raise refuse("FIELD_INTEGRITY_EXCEPTION", f"There is no type {type} of fields here")
    return f"{spec} {words}".strip()


@people.on("POST", "/custom-objects")
def create_object(org: Salesforce, call: Call) -> Answer:
    """A custom object with a name; its fields are made like those of any other."""
    body = org.read_json(call)
    name = str(body.get("name") or "")
    if not _NAME.match(name) or org.schema.get(name):
        raise invalid("INVALID_FULLNAME", f"{name} is no name of a custom object, or taken")
    plural = str(body.get("plural") or f"{name.removesuffix('__c')}s")
    return Answer(201, {"name": name, "keyPrefix": org.add_object(name, plural)})


@people.on("POST", "/setup/{type}")
def add_row(org: Salesforce, call: Call, type: str) -> Answer:
    """A stage, status, queue or record type that an administrator adds."""
    found = _setup(org, call, type)
    id = org.next_id(found.name)
    org.store.create(found.name, id, org.read_json(call), at=call.at, by=call.actor)
    return Answer(201, {"id": id, "success": True, "errors": []})


@people.on("PATCH", "/setup/{type}/{id}")
def change_row(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    """One that is renamed, moved, or (`IsActive`) taken out of use."""
    record = existing(org, _setup(org, call, type), id)
    org.store.update(record, org.read_json(call), at=call.at, by=call.actor)
    return Answer(204)


@people.on("DELETE", "/setup/{type}/{id}")
def remove_row(org: Salesforce, call: Call, type: str, id: str) -> Answer:
    org.store.remove(existing(org, _setup(org, call, type), id), at=call.at)
    return Answer(204)


def _setup(org: Salesforce, call: Call, type: str) -> SObject:
    found = org.sobject(type, call)
    if not found.setup:
        raise missing()
    return found


def grant(org: Salesforce, transaction: "Transaction") -> None:
    """Show the API what the permission sets of its users let them see."""
    if not any(change.record.type in _GRANTS for change in transaction.changes.values()):
        return
    assigned = {r.get("PermissionSetId") for r in org.store.live("PermissionSetAssignment")}
    for row in org.store.live("FieldPermissions"):
        if row.get("ParentId") in assigned and row.get("PermissionsRead"):
            name = row.get("Field")
            org.options.hidden = [each for each in org.options.hidden if each != name]
            if not row.get("PermissionsEdit") and name not in org.options.read_only:
                org.options.read_only = [*org.options.read_only, name]
