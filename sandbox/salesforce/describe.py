"""What the API says of objects and their fields, as far as who asks may see them.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_describe.htm
"""

from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.schema import Field, SObject
from sandbox.salesforce.values import choices
from sandbox.wire import Answer, Call, Json

_SOAP = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "base64": "xsd:base64Binary",
    "anyType": "xsd:anyType",
}


@routes.on("GET", "/")
def resources(org: Salesforce, call: Call) -> Answer:
    names = ("sobjects", "query", "queryAll", "limits", "composite", "jobs", "tooling")
    return Answer(200, {name: f"{call.base}/{name}" for name in names})


@routes.on("GET", "/sobjects")
def everything(org: Salesforce, call: Call) -> Answer:
    found = [_outline(call, type) for type in org.schema.all(person=call.actor.is_person)]
    return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": found})


@routes.on("GET", "/sobjects/{type}")
def basics(org: Salesforce, call: Call, type: str) -> Answer:
    return Answer(
        200, {"objectDescribe": _outline(call, org.sobject(type, call)), "recentItems": []}
    )


@routes.on("GET", "/sobjects/{type}/describe")
def describe(org: Salesforce, call: Call, type: str) -> Answer:
    """All of an object; 304 if nothing of it changed since the time the caller knows."""
    found = org.sobject(type, call)
    since = call.headers.get("if-modified-since")
    changed = org.schema.changed.replace(microsecond=0)
    if since and changed <= parsedate_to_datetime(since):
        return Answer(304)
    body = {
        **_outline(call, found),
        "fields": [_field(org, field) for field in found.fields.values()],
        "childRelationships": [
            {"relationshipName": name, "childSObject": child, "field": field}
            for name, (child, field) in found.children.items()
        ],
        "recordTypeInfos": _record_types(org, found),
    }
    return Answer(200, body, {"last-modified": format_datetime(changed, usegmt=True)})


def _outline(call: Call, type: SObject) -> Json:
    url = f"{call.base}/sobjects/{type.name}"
    label = type.name.removesuffix("__c").replace("_", " ")
    writes = not type.setup
    return {
        "name": type.name,
        "label": label,
        "labelPlural": type.plural,
        "keyPrefix": type.prefix,
        "custom": type.custom,
        "createable": writes,
        "updateable": writes,
        "deletable": writes,
        "undeletable": writes,
        "queryable": True,
        "retrieveable": True,
        "replicateable": writes,
        "mergeable": type.mergeable,
        "triggerable": writes,
        "urls": {
            "sobject": url,
            "describe": f"{url}/describe",
            "rowTemplate": f"{url}/{{ID}}",
        },
    }


def _record_types(org: Salesforce, type: SObject) -> list[Json]:
    own = [r for r in org.store.live("RecordType") if r.get("SobjectType") == type.name]
    master = {"name": "Master", "developerName": "Master", "recordTypeId": "012000000000000AAA"}
    rows = [(r.get("Name"), r.get("DeveloperName"), r.id) for r in own]
    common = {"active": True, "available": True}
    return [
        {**common, **master, "master": True, "defaultRecordTypeMapping": True},
        *(
            {
                **common,
                "name": name,
                "developerName": developer_name,
                "recordTypeId": id,
                "master": False,
                "defaultRecordTypeMapping": False,
            }
            for name, developer_name, id in rows
        ),
    ]


def _field(org: Salesforce, field: Field) -> Json:
    options = choices(org, field) if field.type in ("picklist", "multipicklist") else {}
    number = field.type in ("int", "double", "currency", "percent")
    return {
        "name": field.name,
        "label": field.label,
        "type": field.type,
        "soapType": _SOAP.get(field.type, "xsd:string"),
        "length": 0 if number else field.length,
        "precision": field.length + field.decimals if number and field.type != "int" else 0,
        "digits": field.length if field.type == "int" else 0,
        "scale": field.decimals,
        "nillable": not field.required and field.type not in ("boolean", "id"),
        "createable": field.createable,
        "updateable": field.updateable,
        "defaultedOnCreate": field.defaulted,
        "defaultValue": field.default,
        "filterable": field.filterable,
        "sortable": field.filterable,
        "groupable": field.filterable and not number,
        "custom": field.custom,
        "externalId": field.external,
        "idLookup": field.external or field.name == "Id" or field.type == "email",
        "unique": field.unique,
        "caseSensitive": False,
        "calculated": False,
        "autoNumber": field.number,
        "nameField": field.is_name,
        "permissionable": not field.required and field.createable,
        "restrictedPicklist": field.restricted,
        "picklistValues": [_choice(value, first) for value, first in options.items()],
        "referenceTo": list(field.targets),
        "relationshipName": field.relation or None,
        "polymorphicForeignKey": len(field.targets) > 1,
    }


def _choice(value: str, default: Any) -> Json:
    common = {"active": True, "validFor": None}
    return {**common, "value": value, "label": value, "defaultValue": bool(default)}
