"""Change events as Avro: a schema for each object, and bitmaps for what changed.

https://developer.salesforce.com/docs/platform/pub-sub-api/guide/event-deserialization-considerations.html
"""

import hashlib
import io
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import fastavro
import orjson

from sandbox.salesforce.bus import Told
from sandbox.salesforce.schema import NUMBERS, Field, SObject
from sandbox.salesforce.stamps import moment
from sandbox.wire import Json

_ADDRESS = ("Street", "City", "State", "PostalCode", "Country")
_PERSON = ("Salutation", "FirstName", "LastName")
_UNTOLD = ("id", "isdeleted", "systemmodstamp", "masterrecordid")
_CHANGES = (
    "CREATE UPDATE DELETE UNDELETE GAP_CREATE GAP_UPDATE GAP_DELETE GAP_UNDELETE GAP_OVERFLOW "
    "SNAPSHOT"
).split()


def _strings(name: str) -> Json:
    return {"name": name, "type": {"type": "array", "items": "string"}}


_HEADER: Json = {
    "type": "record",
    "name": "ChangeEventHeader",
    "fields": [
        {"name": "entityName", "type": "string"},
        _strings("recordIds"),
        {
            "name": "changeType",
            "type": {"type": "enum", "name": "ChangeType", "symbols": _CHANGES},
        },
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        _strings("nulledFields"),
        _strings("diffFields"),
        _strings("changedFields"),
    ],
}


class Shape:
    """How the events of one object look. A compound such as an address holds several fields."""

    def __init__(self, type: SObject) -> None:
        self.compounds = dict(_compounds(type))
        inside = {name for parts in self.compounds.values() for name in parts}
        plain = [
            field
            for key, field in type.fields.items()
            if key not in _UNTOLD and field.name not in inside and field.type != "base64"
        ]
        fields: list[Json] = [{"name": "ChangeEventHeader", "type": _HEADER}]
        known: set[str] = set()
        fields += [
            _member(f.name, _type(type, f), f) for f in plain if f.name not in self.compounds
        ]
        fields += [_member(name, _compound(name, known), None) for name in self.compounds]
        entity = type.name.removesuffix("c") if type.custom else type.name
        self.schema: Json = {
            "type": "record",
            "name": f"{entity}ChangeEvent",
            "namespace": "com.sforce.eventbus",
            "fields": fields,
        }
        self.text = orjson.dumps(self.schema).decode()
        self.id = hashlib.sha256(self.text.encode()).hexdigest()[:22]
        self._positions = {field["name"]: at for at, field in enumerate(fields)}
        self._types = {field.name: field for field in type.fields.values()}
        self._parsed = fastavro.parse_schema(orjson.loads(self.text))

    def payload(self, told: Told) -> bytes:
        """An event without its schema."""
        record: Json = {}
        compound_of = {part: whole for whole, parts in self.compounds.items() for part in parts}
        for name, value in told.fields.items():
            if name in compound_of:
                whole = compound_of[name]
                inner = record.setdefault(whole, {})
                if isinstance(inner, dict):
                    inner[self._inner(whole, name)] = value
            elif name in self._positions and name not in self.compounds:
                record[name] = _encoded(self._types[name], value)
        for whole in self.compounds:
            if isinstance(record.get(whole), dict) and not any(record[whole].values()):
                record[whole] = None
        nulled = [name for name in told.changed if told.fields.get(name) is None]
        lists = {
            "nulledFields": self._bitmaps(nulled),
            "diffFields": [],
            "changedFields": self._bitmaps(told.changed),
        }
        record["ChangeEventHeader"] = {**told.header, **lists}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._parsed, record)
        return out.getvalue()

    def _inner(self, whole: str, name: str) -> str:
        return name.removeprefix(whole.removesuffix("Address")) if whole != "Name" else name

    def _bitmaps(self, names: Iterable[str]) -> list[str]:
        """Names as bits of their positions: `0x12`, and `7-0x3` inside the compound at 7."""
        top, nested = 0, dict[int, int]()
        for name in names:
            whole = next((w for w, parts in self.compounds.items() if name in parts), None)
            if whole is not None:
                parts = _PERSON if whole == "Name" else _ADDRESS
                at, inner = self._positions[whole], parts.index(self._inner(whole, name))
                nested[at] = nested.get(at, 0) | 1 << inner
            elif name in self._positions and name not in self.compounds:
                top |= 1 << self._positions[name]
        found = [_hex(top)] if top else []
        return found + [f"{at}-{_hex(bits)}" for at, bits in nested.items()]


def _compound(name: str, known: set[str]) -> Any:
    """A record type: written out the first time, only named after that."""
    record, parts = ("PersonName", _PERSON) if name == "Name" else ("Address", _ADDRESS)
    if record in known:
        return ["null", record]
    known.add(record)
    return ["null", _record(record, parts)]


def _record(name: str, parts: Iterable[str]) -> Json:
    fields = [{"name": part, "type": ["null", "string"], "default": None} for part in parts]
    return {"type": "record", "name": name, "fields": fields}


def _hex(bits: int) -> str:
    text = f"{bits:X}"
    return "0x" + text.zfill(len(text) + len(text) % 2)


def _compounds(type: SObject) -> Iterable[tuple[str, tuple[str, ...]]]:
    if type.field("LastName") and type.name != "Account":
        yield "Name", _PERSON
    for prefix in ("Billing", "Shipping", "Mailing", ""):
        if type.field(f"{prefix}PostalCode"):
            yield f"{prefix}Address", tuple(f"{prefix}{part}" for part in _ADDRESS)


def _member(name: str, kind: Any, field: Field | None) -> Json:
    doc = f"Data:{_DOCS.get(field.type, 'Text')}" if field else "Data:Address"
    return {"name": name, "type": kind, "doc": doc, "default": None}


_DOCS = {
    "reference": "EntityId",
    "picklist": "DynamicEnum",
    "date": "DateOnly",
    "datetime": "DateTime",
    "currency": "Currency",
    "percent": "Percent",
    "boolean": "Boolean",
}


def _type(type: SObject, field: Field) -> Any:
    if (type.name, field.name) == ("Account", "Name"):
        # A company has a text here, a person account its parts.
        return ["null", "string", _record("Switchable_PersonName", _PERSON)]
    if field.type in ("date", "datetime"):
        return ["null", "long"]
    if field.type == "int":
        return ["null", "int"]
    if field.type in NUMBERS:
        return ["null", "double"]
    return ["null", "boolean" if field.type == "boolean" else "string"]


def _encoded(field: Field, value: Any) -> Any:
    """Dates and times are milliseconds since 1970."""
    if value is None:
        return None
    if field.type == "datetime":
        return int(moment(value).timestamp() * 1000)
    if field.type == "date":
        midnight = datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
        return int(midnight.timestamp() * 1000)
    return float(value) if field.type in NUMBERS and field.type != "int" else value
