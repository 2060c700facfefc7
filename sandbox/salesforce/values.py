"""Values on their way in: what each type of field takes, and how it is kept.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/field_types.htm
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.salesforce.errors import invalid, refuse
from sandbox.salesforce.ids import is_id, whole
from sandbox.salesforce.schema import NUMBERS, TEXTS, Field, SObject
from sandbox.salesforce.stamps import day, moment, shown
from sandbox.wire import Json, RefusedError

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce

_EMAIL = re.compile(r"[^@\s,;<>()\[\]\\\"]+@[^@\s,;<>()\[\]\\\"]+\.[^@\s.,;<>()]{2,}\Z")
_PERMISSION = (
    "Unable to create/update fields: {}. Please check the security settings of this field and "
    "verify that it is read/write for your profile or permission set."
)


def read(org: "Salesforce", type: SObject, given: Mapping[str, Any], *, new: bool) -> Json:
    """The values to keep of a body; raises RefusedError for the first that cannot be kept."""
    values: Json = {}
    denied = []
    for name, value in given.items():
        if name == "attributes":
            continue
        if isinstance(value, dict):
            field, value = _foreign(org, type, name, value)
        else:
            field = known(type, name)
        if not (field.createable if new else field.updateable):
            denied.append(field.name)
            continue
        values[field.name] = kept(org, field, value)
    if denied:
        names = ", ".join(denied)
        raise invalid("INVALID_FIELD_FOR_INSERT_UPDATE", _PERMISSION.format(names), *denied)
    return values


def complete(type: SObject, values: Mapping[str, Any], *, new: bool) -> None:
    """Refuse what lacks a required value, or would lose one."""
    lacking = [
        field.name
        for field in type.fields.values()
        if field.required and values.get(field.name) is None and (new or field.name in values)
    ]
    if lacking:
        text = f"Required fields are missing: [{', '.join(lacking)}]"
        raise invalid("REQUIRED_FIELD_MISSING", text, *lacking)


def known(type: SObject, name: str) -> Field:
    field = type.field(name)
    if field is None:
        raise refuse("INVALID_FIELD", f"No such column '{name}' on sobject of type {type.name}")
    return field


def _foreign(org: "Salesforce", type: SObject, name: str, value: Json) -> tuple[Field, str]:
    """A relationship set through the other record's external id: `{"Account": {"Ext__c": "A"}}`."""
    field = type.relation(name)
    if field is None:
        raise refuse("INVALID_FIELD", f"No such column '{name}' on sobject of type {type.name}")
    keys = [key for key in value if key != "attributes"]
    for target in field.targets:
        found = org.schema.objects[target]
        key = found.field(keys[0]) if len(keys) == 1 else None
        if key is None:
            continue
        if key.name == "Id":
            return field, value[keys[0]]
        records = org.by_value(target, key, value[keys[0]]) if key.external else []
        if len(records) == 1:
            return field, records[0].id
        text = (
            f"Foreign key external ID: {value[keys[0]]} not found for field {key.name} in entity "
            f"{target}"
        )
        raise invalid("INVALID_FIELD", text)
    raise refuse("INVALID_FIELD", f"{name}: exactly one external id field names a {name}")


def kept(org: "Salesforce", field: Field, value: Any) -> Any:
    """A value as it is kept; None for an unset one."""
    if value is None or value == "":
        if field.type == "boolean":
            text = f"{field.name}: value not of required type: {value}"
            raise invalid("INVALID_TYPE_ON_FIELD_IN_RECORD", text, field.name)
        return None
    if field.is_id:
        return _reference(org, field, value)
    if field.type in NUMBERS:
        return _number(org, field, value)
    if field.type == "boolean":
        return _boolean(value)
    if not isinstance(value, str):
        raise _unreadable("string", value)
    try:
        match field.type:
            case "date":
                return day(value)
            case "datetime":
                return shown(moment(value))
            case "base64":
                return base64.b64encode(base64.b64decode(value, validate=True)).decode()
    except (ValueError, binascii.Error):
        raise _unreadable(field.type, value) from None
    return _text(org, field, value)


def _unreadable(type: str, value: Any) -> RefusedError:
    names = {bool: "VALUE_TRUE", int: "VALUE_NUMBER_INT", float: "VALUE_NUMBER_FLOAT"}
    kind = names.get(value.__class__, "VALUE_STRING" if isinstance(value, str) else "START_ARRAY")
    text = f"Cannot deserialize instance of {type} from {kind} value {value}"
    return refuse(
        "JSON_PARSER_ERROR", f"{text} or request may be missing a required field at [line:1]"
    )


def _text(org: "Salesforce", field: Field, value: str) -> str | None:
    assert field.type in TEXTS, field
    # Blanks around a text are not kept.
    text = org.options.spaced(value.strip())
    if not text:
        return None
    most = field.length or 255
    if len(text) > most:
        words = f"{field.label}: data value too large: {text[:255]} (max length={most})"
        raise invalid("STRING_TOO_LONG", words, field.name)
    if field.type == "email" and not _EMAIL.match(text):
        words = f"{field.label}: invalid email address: {text}"
        raise invalid("INVALID_EMAIL_ADDRESS", words, field.name)
    if field.restricted:
        options = choices(org, field)
        for part in text.split(";") if field.type == "multipicklist" else [text]:
            if part not in options:
                words = f"{field.label}: bad value for restricted picklist field: {part}"
                raise invalid("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", words, field.name)
    return text


def choices(org: "Salesforce", field: Field) -> dict[str, bool]:
    """The values of a picklist, and whether each is the default."""
    if not field.source:
        return {value: value == field.default for value in field.values}
    rows = [r for r in org.store.live(field.source) if r.get("IsActive") is not False]
    return {r.get("ApiName"): bool(r.get("IsDefault")) for r in rows}


def _number(org: "Salesforce", field: Field, value: Any) -> int | float:
    if isinstance(value, bool):
        raise _unreadable(field.type, value)
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise _unreadable("double", value) from None
    if not number.is_finite() or (field.type == "int" and number != int(number)):
        raise _unreadable(field.type, value)
    if abs(number) >= 10 ** (field.length or 18):
        text = f"{field.label}: value outside of valid range on numeric field: {value}"
        raise invalid("NUMBER_OUTSIDE_VALID_RANGE", text, field.name)
    if field.type == "int":
        return int(number)
    if field.type == "currency":
        number = org.options.rounded(number)
    # More decimals than the field has are rounded away.
    step = 10**field.decimals
    return math.copysign(math.floor(abs(float(number)) * step + 0.5) / step, float(number))


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _unreadable("boolean", value)


def _reference(org: "Salesforce", field: Field, value: Any) -> str:
    type = org.schema.of_id(value) if is_id(value) else None
    if type is None or type.name not in field.targets:
        text = f"{field.label}: id value of incorrect type: {value}"
        raise invalid("MALFORMED_ID", text, field.name)
    record = org.find(type.name, value)
    if record is None:
        raise invalid("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", field.name)
    if record.gone:
        raise invalid("ENTITY_IS_DELETED", "entity is deleted", field.name)
    if field.relation == "Owner" and type.name == "User" and not record.get("IsActive"):
        text = "operation performed with inactive user [" + record.id + "] as owner of record"
        raise invalid("INACTIVE_OWNER_OR_USER", text, field.name)
    return whole(value)
