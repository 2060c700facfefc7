"""The writes themselves: each is checked completely before its first change."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sandbox.records import Record
from sandbox.salesforce.derived import defaulted, settled, value
from sandbox.salesforce.duplicates import check_duplicates
from sandbox.salesforce.errors import invalid, missing, refuse
from sandbox.salesforce.ids import is_id
from sandbox.salesforce.org import Salesforce
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.transaction import transaction
from sandbox.salesforce.values import complete, read
from sandbox.wire import Call, Json

# What goes with a record into the recycle bin, and what keeps it out of there.
_CASCADES = {
    "Account": (
        ("Contact", "AccountId"),
        ("Opportunity", "AccountId"),
        ("Task", "WhatId"),
        ("Event", "WhatId"),
        ("Note", "ParentId"),
    ),
    "Contact": (("OpportunityContactRole", "ContactId"), ("Note", "ParentId")),
    "Opportunity": (
        ("OpportunityContactRole", "OpportunityId"),
        ("Task", "WhatId"),
        ("Event", "WhatId"),
        ("Note", "ParentId"),
    ),
    "Lead": (("Task", "WhoId"), ("Event", "WhoId"), ("Note", "ParentId")),
    "ContentNote": (("ContentDocumentLink", "ContentDocumentId"),),
}


def committed_at(org: Salesforce, call: Call) -> datetime:
    """The time that a commit carries: a slow transaction shows with an older one."""
    return call.at - timedelta(seconds=org.options.stamp_lag)


def existing(org: Salesforce, type: SObject, id: str, *, many: bool = False) -> Record:
    """A live record by id. `many`: in the words for a row among others."""
    record = org.find(type.name, id)
    if record is None:
        if many and (not is_id(id) or id[:3] != type.prefix):
            raise invalid("MALFORMED_ID", f"{type.name} ID: id value of incorrect type: {id}", "Id")
        if many:
            raise invalid("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if not is_id(id):
            text = f"Provided external ID field does not exist or is not accessible: {id}"
            raise missing(text)
        raise missing()
    if record.gone:
        raise invalid("ENTITY_IS_DELETED", "entity is deleted", status=400 if many else 404)
    return record


def create(org: Salesforce, call: Call, type: SObject, body: Mapping[str, Any]) -> Record:
    """A new record."""
    _may_write(type)
    if any(name.lower() == "id" for name in body):
        text = "cannot specify Id in an insert call"
        raise invalid("INVALID_FIELD_FOR_INSERT_UPDATE", text, "Id")
    given = read(org, type, body, new=True)
    values = defaulted(org, type.name, given, call.actor.user)
    complete(type, _named(org, type, values), new=True)
    values = settled(org, type.name, values, {})
    _claim(org, type, values, None)
    check_duplicates(org, call, type, values, None)
    with transaction(org, call) as under_way:
        id = org.next_id(type.name)
        _lock(org, id)
        for field in type.fields.values():
            if field.number:
                values[field.name] = f"{org.next_ids[type.name] + 998:08}"
        signed = {"CreatedById": call.actor.user, "LastModifiedById": call.actor.user}
        at = committed_at(org, call)
        record = org.store.create(type.name, id, values | signed, at=at, by=call.actor)
        under_way.touch(record, new=True)
        org.index(record)
        under_way.note(record, "create", {})
        _primary(org, call, record)
    return record


def change(
    org: Salesforce, call: Call, type: SObject, record: Record, body: Mapping[str, Any]
) -> None:
    """A change of an existing record; what is the same is still a modification."""
    _may_write(type)
    given = read(org, type, body, new=False)
    complete(type, given, new=False)
    if record.type == "Lead" and record.get("IsConverted"):
        text = "cannot reference converted lead"
        raise invalid("CANNOT_UPDATE_CONVERTED_LEAD", text)
    values = settled(org, type.name, given, record.fields)
    _claim(org, type, values, record.id)
    check_duplicates(org, call, type, {**record.fields, **values}, record.id)
    write(org, call, record, values)


def write(org: Salesforce, call: Call, record: Record, values: Mapping[str, Any]) -> None:
    """Set values that were checked."""
    with transaction(org, call) as under_way:
        _lock(org, record.id)
        under_way.touch(record)
        org.unindex(record)
        at = committed_at(org, call)
        before = org.store.update(record, values, at=at, by=call.actor)
        record.updated = max(record.updated, at)
        record.fields["LastModifiedById"] = call.actor.user
        org.index(record)
        under_way.note(record, "update", before)
        _primary(org, call, record)


def remove(org: Salesforce, call: Call, record: Record, *, master: str | None = None) -> None:
    """Into the recycle bin, with what belongs to it."""
    _may_write(org.schema.objects[record.type])
    if master is None:
        _may_go(org, record)
    with transaction(org, call) as under_way:
        _lock(org, record.id)
        going = [record, *(_with(org, record) if master is None else ())]
        for each in going:
            under_way.touch(each)
            org.unindex(each)
            org.store.remove(each, at=committed_at(org, call))
            under_way.note(each, "delete", {}, master=master if each is record else None)
            if each is not record:
                org.deleted_with[each.id] = record.id


def restore(org: Salesforce, call: Call, record: Record) -> None:
    """Out of the recycle bin, with what went there together with it."""
    with transaction(org, call) as under_way:
        companions = [id for id, root in org.deleted_with.items() if root == record.id]
        found = [org.of_any_type(id) for id in companions]
        for each in (record, *(one for one in found if one and one.gone)):
            _claim(org, org.schema.objects[each.type], each.fields, each.id)
            under_way.touch(each)
            org.store.restore(each)
            each.fields.pop("MasterRecordId", None)
            each.updated = committed_at(org, call)
            org.index(each)
            org.deleted_with.pop(each.id, None)
            under_way.note(each, "undelete", {})


def upsert(
    org: Salesforce, call: Call, type: SObject, name: str, key: Any, body: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The record with this external id, made or changed; whether it was made."""
    field = type.field(name)
    assert field is not None
    if any(each.lower() in (field.name.lower(), "id") for each in body):
        text = f"The {field.name} field should not be specified in the sobject data."
        raise refuse("INVALID_FIELD", text)
    if field.name == "Id":
        record = existing(org, type, str(key), many=True)
        change(org, call, type, record, body)
        return record, False
    found = org.by_value(type.name, field, key)
    if len(found) > 1:
        text = f"Duplicate external id specified: {key}"
        raise invalid("DUPLICATE_EXTERNAL_ID", text, field.name)
    if found:
        change(org, call, type, found[0], body)
        return found[0], False
    return create(org, call, type, {**body, field.name: key}), True


def by_external(org: Salesforce, type: SObject, name: str, key: str) -> list[Record]:
    """The records with this external id; 404 if the field is none."""
    field = type.field(name)
    if field is None or not (field.external or field.name == "Id"):
        raise missing("Provided external ID field does not exist or is not accessible: " + name)
    if field.name == "Id":
        return [existing(org, type, key)]
    return org.by_value(type.name, field, key)


def _named(org: Salesforce, type: SObject, values: Json) -> Json:
    """A person account has no name of its own to ask for."""
    if type.name == "Account" and org.options.person_accounts and values.get("LastName"):
        return {**values, "Name": values["LastName"]}
    return values


def _may_write(type: SObject) -> None:
    if type.setup:
        text = f"entity type {type.name} does not support this operation"
        raise refuse("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", text)


def _lock(org: Salesforce, id: str) -> None:
    if org.options.lock_rows > 0:
        org.options.lock_rows -= 1
        text = f"unable to obtain exclusive access to this record or 1 records: {id}"
        raise invalid("UNABLE_TO_LOCK_ROW", text)


def _claim(org: Salesforce, type: SObject, values: Mapping[str, Any], own: str | None) -> None:
    """Refuse a unique value that another record has."""
    for field in org.schema.objects[type.name].fields.values():
        if not field.unique or values.get(field.name) is None:
            continue
        for other in org.by_value(type.name, field, values[field.name]):
            if other.id != own:
                text = f"duplicate value found: {field.name} duplicates value on record with id: "
                raise invalid("DUPLICATE_VALUE", text + other.id)


def _primary(org: Salesforce, call: Call, record: Record) -> None:
    """Only one contact of a deal is the primary one."""
    if record.type != "OpportunityContactRole" or not record.get("IsPrimary"):
        return
    for other in list(org.store.live(record.type)):
        same = other.get("OpportunityId") == record.get("OpportunityId")
        if same and other is not record and other.get("IsPrimary"):
            write(org, call, other, {"IsPrimary": False})


def _may_go(org: Salesforce, record: Record) -> None:
    reasons = {"Account": "AccountId", "Contact": "ContactId"}
    field = reasons.get(record.type)
    if field is None:
        return
    cases = [c.get("CaseNumber") for c in org.store.live("Case") if c.get(field) == record.id]
    deals = [
        deal.get("Name")
        for deal in (org.store.live("Opportunity") if record.type == "Account" else ())
        if deal.get("AccountId") == record.id and deal.get("IsWon")
    ]
    for names, what in ((cases, "cases"), (deals, "closed won opportunities")):
        if names:
            text = (
                f"Your attempt to delete {record.get('Name')} could not be completed because it is "
                f"associated with the following {what}.: {', '.join(names)}"
            )
            raise invalid("DELETE_FAILED", text)


def _with(org: Salesforce, record: Record) -> Iterator[Record]:
    for type, field in _CASCADES.get(record.type, ()):
        for child in list(org.store.live(type)):
            if child.get(field) == record.id:
                yield child
                yield from _with(org, child)


def shape(org: Salesforce, call: Call, type: SObject, record: Record, names: list[str]) -> Json:
    """A record as a read shows it: all fields that were asked for, null if unset."""
    body: Json = {"attributes": attributes(call, record)}
    for name in names:
        body[name] = shown_value(org, call, record, name)
    return body


def shown_value(org: Salesforce, call: Call, record: Record, name: str) -> Any:
    found = value(org, record, name)
    if name == "Content" and record.type == "ContentNote" and found is not None:
        return f"{call.base}/sobjects/ContentNote/{record.id}/Content"
    return found


def attributes(call: Call, record: Record) -> Json:
    url = f"{call.base}/sobjects/{record.type}/{record.id}"
    return {"type": record.type, "url": url}
