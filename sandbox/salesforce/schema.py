"""What objects there are and what fields they have: the built-in ones, and those made since."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sandbox.salesforce.options import SalesforceOptions
from sandbox.wire import Json, now

TEXTS = ("string", "textarea", "phone", "url", "email", "combobox", "picklist", "multipicklist")
NUMBERS = ("int", "double", "currency", "percent")
LONG = 255  # a textarea above this can be neither filtered nor sorted by

_SPEC = re.compile(
    r"(?P<type>\w+)(?: (?P<size>\d+(?:\.\d+)?))?(?P<words>(?: (?!as |from )[\w@]+)*)"
    r"(?: from (?P<source>\w+))?(?: -> (?P<to>[\w|]+) as (?P<name>\w+))?(?:: (?P<values>.+))?\Z"
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object. `source` is the object whose rows are its values."""

    name: str
    type: str
    label: str
    length: int = 0
    decimals: int = 0
    required: bool = False
    unique: bool = False
    external: bool = False
    restricted: bool = False
    defaulted: bool = False
    createable: bool = True
    updateable: bool = True
    is_name: bool = False
    number: bool = False
    custom: bool = False
    feature: str = ""
    source: str = ""
    values: tuple[str, ...] = ()
    default: Any = None
    targets: tuple[str, ...] = ()
    relation: str = ""

    @property
    def filterable(self) -> bool:
        return self.type != "base64" and not (self.type == "textarea" and self.length > LONG)

    @property
    def is_id(self) -> bool:
        return self.type in ("id", "reference")


@dataclass(frozen=True, slots=True)
class SObject:
    """One object: its fields by their names in lower case, and who points to it."""

    name: str
    prefix: str
    plural: str
    fields: Mapping[str, Field]
    children: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    mergeable: bool = False
    setup: bool = False
    history: str = ""
    tracked: frozenset[str] = frozenset()

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def owned(self) -> bool:
        return "ownerid" in self.fields

    def field(self, name: str) -> Field | None:
        """A field by its name in whatever case."""
        return self.fields.get(name.lower())

    def relation(self, name: str) -> Field | None:
        """The reference that a relationship such as `Account` follows."""
        wanted = name.lower()
        return next((f for f in self.fields.values() if f.relation.lower() == wanted), None)


def parsed(name: str, spec: str, **more: Any) -> Field:
    """A field as `objects.yaml` writes it."""
    match = _SPEC.match(spec)
    if match is None:
        raise ValueError(f"{name}: {spec}")
    words = set(match["words"].split())
    length, _, decimals = (match["size"] or "").partition(".")
    values = (match["values"] or "").split("|") if match["values"] else []
    default = next((value[1:] for value in values if value.startswith("*")), None)
    reads = "read" in words
    return Field(
        name,
        match["type"],
        more.pop("label", _label(name)),
        length=int(length or 0) or _LENGTHS.get(match["type"], 0),
        decimals=int(decimals or 0),
        required="required" in words,
        unique="unique" in words,
        external="external" in words,
        restricted="restricted" in words,
        defaulted="defaulted" in words or default is not None or match["type"] == "boolean",
        createable=not reads,
        updateable=not reads and "once" not in words,
        is_name="name" in words or name == "Name",
        number="number" in words,
        feature=next((word[1:] for word in words if word.startswith("@")), ""),
        source=match["source"] or "",
        values=tuple(value.lstrip("*") for value in values),
        default=False if match["type"] == "boolean" else default,
        targets=tuple((match["to"] or "").split("|")) if match["to"] else (),
        relation=match["name"] or "",
        **more,
    )


_LENGTHS = {"reference": 18, "picklist": 255}


def _label(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("__c")).replace("_", " ")
    return words.removesuffix(" Id") if words != "Id" else "ID"


def system_fields(owner: str) -> dict[str, str]:
    """What every object has."""
    users = "reference read -> User as"
    fields = {
        "Id": "id 18 read",
        "IsDeleted": "boolean read",
        "CreatedDate": "datetime read",
        "CreatedById": f"{users} CreatedBy",
        "LastModifiedDate": "datetime read",
        "LastModifiedById": f"{users} LastModifiedBy",
        "SystemModstamp": "datetime read",
    }
    if owner:
        fields["OwnerId"] = f"reference -> {owner.replace(' ', '|')} as Owner"
    return fields


def sobject(name: str, row: Json) -> SObject:
    """An object as `objects.yaml` writes it."""
    specs = system_fields(row.get("owner", "")) | row["fields"]
    if row.get("merge"):
        specs["MasterRecordId"] = f"reference read -> {name} as MasterRecord"
    fields = {field.lower(): parsed(field, spec) for field, spec in specs.items()}
    if "owner" in row:
        fields["ownerid"] = replace(fields["ownerid"], defaulted=True)
    children = {
        relation: (path.partition(".")[0], path.partition(".")[2])
        for relation, path in row.get("children", {}).items()
    }
    return SObject(
        name,
        row["prefix"],
        row["plural"],
        fields,
        children,
        mergeable=row.get("merge", False),
        setup=row.get("setup", False),
        history=row.get("history", ""),
        tracked=frozenset(row.get("tracked", ())),
    )


def history_of(parent: SObject) -> SObject:
    """The object that keeps the old and new values of another's fields.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_opportunityfieldhistory.htm
    """
    rows = {
        f"{parent.name}Id": f"reference read -> {parent.name} as {parent.name}",
        "Field": "picklist read",
        "OldValue": "anyType read",
        "NewValue": "anyType read",
        "DataType": "picklist read",
    }
    return sobject(
        parent.history,
        {"prefix": "017", "plural": f"{parent.name} History", "fields": rows, "setup": True},
    )


@cache
def built_in() -> Mapping[str, SObject]:
    """The objects of a fresh organisation, by name."""
    rows = yaml.safe_load((Path(__file__).parent / "objects.yaml").read_text())
    objects = {name: sobject(name, row) for name, row in rows.items()}
    histories = [history_of(o) for o in objects.values() if o.history]
    return objects | {found.name: found for found in histories}


class Schema:
    """The objects of one organisation, as its users see them and as the API's see them."""

    def __init__(self, options: SalesforceOptions) -> None:
        self.options = options
        self.objects = dict(built_in())
        self.changed = now()
        self._shown: dict[object, dict[str, SObject]] = {}

    def add_field(self, type: str, field: Field) -> None:
        old = self.objects[type]
        self.objects[type] = replace(old, fields={**old.fields, field.name.lower(): field})
        self.changed = now()
        self._shown.clear()

    def add_object(self, found: SObject) -> None:
        self.objects[found.name] = found
        self.changed = now()
        self._shown.clear()

    def get(self, name: str, *, person: bool = True) -> SObject | None:
        """An object by its name in whatever case."""
        return self._view(person).get(name.lower())

    def all(self, *, person: bool) -> Iterable[SObject]:
        return self._view(person).values()

    def of_id(self, id: str) -> SObject | None:
        """The object whose records have such ids."""
        return next((o for o in self.objects.values() if o.prefix == id[:3]), None)

    def _view(self, person: bool) -> dict[str, SObject]:
        """The objects by their names in lower case; field permissions bind the API only."""
        options = self.options
        features = (options.multi_currency, options.person_accounts)
        hidden = {name.lower() for name in options.hidden} if not person else set()
        fixed = {name.lower() for name in options.read_only} if not person else set()
        key = (features, frozenset(hidden), frozenset(fixed))
        if key not in self._shown:
            self._shown[key] = {
                name.lower(): replace(found, fields=self._fields(found, hidden, fixed))
                for name, found in self.objects.items()
            }
        return self._shown[key]

    def _fields(self, found: SObject, hidden: set[str], fixed: set[str]) -> dict[str, Field]:
        fields = {}
        for name, each in found.fields.items():
            path = f"{found.name}.{name}".lower()
            if path in hidden or (each.feature and not getattr(self.options, each.feature)):
                continue
            is_fixed = path in fixed
            fields[name] = replace(each, createable=False, updateable=False) if is_fixed else each
        return fields
