"""What the configuration says, as frozen values, and its published JSON Schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Set
from functools import lru_cache
from math import inf
from typing import Annotated, Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from app.config.source import Source

#: The canonical fields of each entity; ``custom.<name>`` belongs to every one.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "company": (
        "name",
        "domain",
        "website",
        "phone",
        "address",
        "industry",
        "employees",
        "annual_revenue",
        "description",
        "owner",
    ),
    "person": (
        "first_name",
        "last_name",
        "email",
        "emails",
        "phone",
        "phones",
        "title",
        "lifecycle_stage",
        "lead_status",
        "owner",
        "company",
        "companies",
        "labels",
    ),
    "deal": (
        "name",
        "amount",
        "currency",
        "stage",
        "pipeline",
        "close_date",
        "probability",
        "description",
        "owner",
        "company",
        "companies",
        "people",
        "labels",
    ),
    "ticket": (
        "subject",
        "description",
        "stage",
        "pipeline",
        "priority",
        "owner",
        "company",
        "companies",
        "people",
        "labels",
    ),
    "note": ("subject", "body", "at", "author", "company", "people", "deals"),
    "call": (
        "subject",
        "body",
        "at",
        "direction",
        "duration",
        "outcome",
        "phone",
        "author",
        "company",
        "people",
        "deals",
    ),
    "email": (
        "subject",
        "body",
        "at",
        "direction",
        "from",
        "to",
        "cc",
        "author",
        "company",
        "people",
        "deals",
    ),
    "meeting": (
        "subject",
        "body",
        "start",
        "end",
        "location",
        "outcome",
        "author",
        "company",
        "people",
        "deals",
    ),
    "task": (
        "subject",
        "body",
        "due",
        "status",
        "priority",
        "owner",
        "company",
        "people",
        "deals",
    ),
}
#: Days for which the most patient vendor repeats a webhook, and one more.
REPEATED = 4
#: For how long something is kept.
Days: TypeAlias = Annotated[int, Field(ge=1)] | Literal["forever"]
#: One word under `sync` for several entities; each may still be configured by itself.
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {"activity": ("note", "call", "email", "meeting")}
#: What travels only where the configuration names it: there is much of it.
QUIET: Final = frozenset({"ticket", "note", "call", "email", "meeting", "task"})
#: What stands in a stage of a pipeline.
STAGED: Final = ("deal", "ticket")
#: The records that anything may be about.
ABOUT: Final = ("company", "people", "deals")
#: The fields that name other records, or what people call the link to one; their mapping is the
#: connector's own.
RELATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "company": (),
    "person": ("company", "companies", "labels"),
    "deal": ("company", "companies", "people", "labels"),
    "ticket": ("company", "companies", "people", "labels"),
    **dict.fromkeys(("note", "call", "email", "meeting", "task"), ABOUT),
}

#: By what two records are recognised as one unless the file says otherwise, strongest first.
DEFAULT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {"company": ("domain",), "person": ("email",)}
#: Fields that are no names: what they hold identifies nobody, or is the vendor's own wording.
NO_KEYS: Final = frozenset({"address", "description", "owner", "companies", "people", "labels"})

UNLINK: Final = "unlink"
PROPAGATE: Final = "propagate"
#: The key of `deletes` that stands for every account that is not named.
EVERYWHERE: Final = "*"

LATEST: Final = "latest"
REVIEW: Final = "review"

Mode: TypeAlias = Literal["live", "observe", "paused"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_CUSTOM: Final = re.compile(r"custom\.\w[\w.-]*")
#: An entity of the operator's own, and a field of one.
_OWN: Final = re.compile(r"custom\.[a-z][a-z0-9_]{0,62}")
_OWN_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: Several values in one, wherever they stand: no field of an entity of one's own is called so.
_LISTS: Final = frozenset({"emails", "phones", "companies", "labels", "to", "cc"})
_DIRECTION: Final = re.compile(r"both|off|(?:from|to) \S+")
#: Text around a single name: what such a template makes can be read back.
_AROUND: Final = re.compile(r"[^{}]*\{\{[^{}|]+\}\}[^{}]*")
_FROM_ENVIRONMENT: Final = {"type": "string", "pattern": r"^\$\{\w+\}$"}

_Whole = Annotated[
    int,
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _FROM_ENVIRONMENT]}),
]
_Flag = Annotated[bool, WithJsonSchema({"anyOf": [{"type": "boolean"}, _FROM_ENVIRONMENT]})]
_Word = Annotated[str, WithJsonSchema({"type": ["string", "integer", "number", "boolean"]})]
_Secret = Annotated[
    SecretStr, Field(min_length=1), WithJsonSchema({"type": "string", "minLength": 1})
]


def _url_safe(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9_-]{20,200}", token.get_secret_value()):
        raise ValueError("needs 20 to 200 letters, digits, - or _: it stands in a URL")
    return token


_Token = Annotated[_Secret, AfterValidator(_url_safe)]


def is_field(entity: str, field: str) -> bool:
    """Whether this is a canonical field of that entity; one of the operator's own has those that
    its mapping names.
    """
    if is_own_entity(entity) and _OWN_FIELD.fullmatch(field) is not None:
        return field not in _LISTS
    return field in FIELDS.get(entity, ()) or _CUSTOM.fullmatch(field) is not None


def relations_of(entity: str) -> tuple[str, ...]:
    """The fields of an entity that name other records."""
    return RELATIONS.get(entity, ABOUT)


def is_own_entity(name: str) -> bool:
    """Whether this names an entity of the operator's own: `custom.<name>`."""
    return _OWN.fullmatch(name) is not None


def is_account_name(name: str) -> bool:
    """Whether an account may be called this: it stands in URLs and beside the policies."""
    return _NAME.fullmatch(name) is not None and name not in {LATEST, "lww", REVIEW}


def _named_by(*entities: str) -> dict[str, Any]:
    """These entities, and any of the operator's own."""
    return {"anyOf": [{"enum": list(entities)}, {"pattern": f"^{_OWN.pattern}$"}]}


class _Frozen(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """A key with nothing after it is a key that was not written."""
        if isinstance(data, dict):
            return {k: v for k, v in data.items() if v is not None}
        return data


class MappingRow(_Frozen):
    """One row laid over the connector's built-in mapping; a bare text is its path."""

    path: str | None = Field(None, min_length=1, description="Where the value is, remotely.")
    paths: tuple[str, ...] = Field((), description="Several remote paths that make one value.")
    as_: str | None = Field(None, alias="as", description="The transform, such as `phone`.")
    direction: Literal["both", "from", "to", "off"] = Field(
        "both", description="`from` reads this account only, `to` writes it only."
    )
    only_if_blank: _Flag = Field(
        False, description="A stand-in: read only while our record has no value of its own."
    )
    template: str | None = Field(
        None,
        min_length=1,
        description="A text with `{{name|filter:argument}}` in it: our fields in a row that is "
        "written, remote paths in one that is only read.",
    )
    constant: _Word | None = Field(None, description="A fixed text, written or read.")
    values: dict[str, _Word] | None = Field(
        None, description="Our word for a value, then the account's own."
    )
    unmapped: Literal["hold", "default", "pass", "create"] | None = Field(
        None,
        description="What becomes of a value that `values` does not name: `hold` it for a person, "
        "write the `default`, `pass` it as it is, or `create` the option in the CRM.",
    )
    default: _Word | None = Field(None, description="What `unmapped: default` writes.")
    when: str | None = Field(
        None,
        min_length=1,
        description="The row applies while this holds: `field = value`, `!=`, `<`, `>`, `in (…)`, "
        "`is blank`, joined by `and`, `or`, `not`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _written_shortly(cls, row: Any) -> Any:
        """A bare text is a path; what is made goes one way unless it can be undone."""
        if isinstance(row, str):
            return {"path": row}
        made = isinstance(row, dict) and (row.get("template") or row.get("constant"))
        if not made or row.get("direction") is not None:
            return row
        undone = row.get("template") and _AROUND.fullmatch(str(row["template"]))
        direction = "from" if not row.get("path") else "both" if undone else "to"
        return {**row, "direction": direction}

    @model_validator(mode="after")
    def _has_one_place(self) -> MappingRow:
        if self.path and self.paths:
            raise ValueError("names both path and paths; write one of them")
        placeless = self.direction == "from" and (self.template or self.constant)
        if not (self.path or self.paths or placeless or self.direction == "off"):
            raise ValueError("names no path")
        return self


def _for_all(given: Any) -> Any:
    """A bare word counts for deletes in any account."""
    return {EVERYWHERE: given} if isinstance(given, str) else given


def _one_or_many(given: Any) -> Any:
    return (given,) if isinstance(given, str | SecretStr | dict) else given


class OwnersConfig(_Frozen):
    """Who stands for whom where people have no user, or another address, in this account."""

    aliases: dict[str, str] = Field(
        default_factory=dict,
        description="The same person under another address: theirs elsewhere, then theirs here.",
    )
    stand_ins: dict[str, str] = Field(
        default_factory=dict,
        description="Who owns here what belongs to somebody without a user here.",
    )
    default: str | None = Field(
        None, min_length=1, description="Who owns here what belongs to nobody that is known here."
    )

    @field_validator("aliases", "stand_ins")
    @classmethod
    def _folded(cls, people: dict[str, str]) -> dict[str, str]:
        return {
            theirs.strip().casefold(): ours.strip().casefold() for theirs, ours in people.items()
        }

    @field_validator("default")
    @classmethod
    def _folded_too(cls, default: str | None) -> str | None:
        return default and default.strip().casefold()

    @field_validator("aliases")
    @classmethod
    def _one_to_one(cls, aliases: dict[str, str]) -> dict[str, str]:
        twice = [one for one, n in Counter(aliases.values()).items() if n > 1]
        if twice:
            raise ValueError(
                f"gives {twice[0]!r} to several people: an alias is one person; use stand_ins"
            )
        return aliases


def _off(given: Any) -> Any:
    return None if given == "off" else given


_Limit = Annotated[
    Annotated[int, Field(ge=0)] | None,
    BeforeValidator(_off),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "off"}, _FROM_ENVIRONMENT]}
    ),
]


class Guard(_Frozen):
    """How much an account takes in any hour before a person is asked; `off` asks nobody."""

    creates: _Limit = Field(10_000, description="Records made there in any hour.")
    updates: _Limit = Field(50_000, description="Records changed there in any hour.")
    deletes: _Limit = Field(50, description="Records deleted there in any hour.")

    def of(self, op: str) -> int | None:
        """The limit of one kind of write: create, update or delete."""
        return {"create": self.creates, "update": self.updates, "delete": self.deletes}[op]


_Positive = Annotated[
    Annotated[int, Field(gt=0)] | None,
    BeforeValidator(_off),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "off"}, _FROM_ENVIRONMENT]}
    ),
]


class CatchUp(_Frozen):
    """How what webhooks did not tell is found."""

    every: _Positive = Field(
        900,
        description="Seconds between two readings of the account's own log; `off`: only after a "
        "pause, an outage or trouble with its webhooks.",
    )
    grace: int = Field(
        300,
        ge=0,
        description="Seconds that a webhook may take before what it should tell counts as missed.",
    )


class DriftConfig(_Frozen):
    """How often all that is linked is compared with what the account shows."""

    every: _Positive = Field(
        None, description="Seconds between two comparisons; `off`: only when somebody asks."
    )
    repair: _Flag = Field(
        False,
        description="Take in what such a comparison finds, as a webhook would have led to it.",
    )


class QuotaConfig(_Frozen):
    """What an account's API may be used for, beside what its vendor says."""

    daily: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Calls a day at most; the vendor's own limit holds as well."
    )
    reserve: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="The part of every window and of the day that scans never touch."
    )
    timezone: str = Field("UTC", description="Where the account's day begins, as Europe/Berlin.")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}") from None
        return name


class Retention(_Frozen):
    """How many days things are kept; nothing that waits for somebody is ever dropped."""

    deliveries: Days = Field(
        30,
        description="Webhooks as they came, which is personal data. A repeat is known for as "
        "long, and Close repeats for three days: at least 4.",
    )
    events: Days = Field(90, description="What webhooks named; at least as long as these.")
    attempts: Days = Field(90, description="Each write to a CRM, with what it said.")
    journal: Days = Field(
        "forever",
        description="Changes of fields, with their cause and the values that lost: the history, "
        "and what can be restored.",
    )
    plans: Days = Field(
        30, description="What dry runs and drift checks found, once these have ended."
    )
    conflicts: Days = Field(
        90, description="Cards that are settled, with the values that they were about."
    )
    audit: Days = Field(730, description="What people did.")
    alerts: Days = Field(90, description="Alerts that are over, with their messages.")

    @model_validator(mode="after")
    def _are_kept_long_enough(self) -> Retention:
        least, events = _days(self.deliveries), _days(self.events)
        if least < REPEATED:
            raise ValueError(f"deliveries: a repeat may come for days, so at least {REPEATED}")
        if events < least:
            raise ValueError("events cannot be kept for a shorter time than deliveries")
        return self


def _days(kept: int | Literal["forever"]) -> float:
    return inf if kept == "forever" else kept


class ObjectConfig(_Frozen):
    """An object of the account's own that is an entity of ours; a bare text is its type."""

    type: str = Field(
        pattern=r"^[\w-]+$", description="The vendor's name of it, such as `Project__c`."
    )
    company: str | None = Field(None, min_length=1, description="Its field that names a company.")
    people: str | None = Field(None, min_length=1, description="Its field that names a person.")
    deals: str | None = Field(None, min_length=1, description="Its field that names a deal.")

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_type(cls, given: Any) -> Any:
        return {"type": given} if isinstance(given, str) else given

    @property
    def lookups(self) -> Mapping[str, str]:
        """The fields that name other records, by relation."""
        return {name: path for name in ABOUT if (path := getattr(self, name)) is not None}


#: Settings of an account that connectors read, though not every one; its manifest says which.
_READ: Final = frozenset(
    {
        *("portal_id", "app_id", "legacy_signatures", "lifecycle", "labels"),
        *("login_url", "audience", "api_version", "organization_id", "pubsub_url", "leads"),
    }
)
#: … and with those that we read for it.
OPTIONS: Final = _READ | {"outbound_token", "bulk_threshold"}


class AccountConfig(_Frozen):
    """One signed-in tenancy of a connector."""

    connector: str = Field(description="The system it speaks: close, hubspot …")
    credentials: dict[str, _Secret] = Field(
        default_factory=dict, description="How to sign in; which names, the connector says."
    )
    webhook_secret: Annotated[
        tuple[_Secret, ...],
        BeforeValidator(_one_or_many),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "items": {"type": "string", "minLength": 1}},
                ]
            }
        ),
    ] = Field((), description="What webhooks are signed with; a list while rotating.")
    base_url: str | None = Field(None, description="Another address of the vendor's API.")
    mode: Mode = Field(
        "live", description="live; observe: reads and plans, never writes; paused: only listens."
    )
    guard: Guard = Field(
        default_factory=Guard,
        description="How many writes an hour it takes before a person is asked.",
    )
    catch_up: CatchUp = Field(
        default_factory=CatchUp, description="How often it is asked what webhooks did not tell."
    )
    drift: DriftConfig = Field(
        default_factory=DriftConfig,
        description="How often its linked records are compared with ours.",
    )
    quota: QuotaConfig = Field(
        default_factory=QuotaConfig,
        description="Calls a day, and what scans leave of them.",
    )
    portal_id: _Whole | None = Field(
        None, description="HubSpot: which portal, where several share one target URL."
    )
    app_id: _Whole | None = Field(
        None,
        description="HubSpot: the app whose webhook subscriptions are made and looked after; needs "
        "`developer_key` among the credentials.",
    )
    webhook_tolerance: _Whole | None = Field(
        None, description="Seconds a signed timestamp stays good; default by scheme."
    )
    external_id: str | None = Field(
        None,
        min_length=1,
        description="The field that holds our record id: a unique property of HubSpot, an External "
        "ID of Salesforce, the name of a custom field of Close.",
    )
    legacy_signatures: _Flag = Field(
        False, description="HubSpot: accept a delivery signed by v1 or v2 alone."
    )
    lifecycle: Literal["hold", "clear"] = Field(
        "hold",
        description="HubSpot: what to do with an earlier lifecycle stage: `hold` it for a person, "
        "or `clear` the present one first, in a write of its own.",
    )
    labels: Literal["hold", "create"] = Field(
        "hold",
        description="HubSpot: what to do with a label of a link that this portal does not have: "
        "`hold` it for a person, or `create` it.",
    )
    owners: OwnersConfig = Field(
        default_factory=OwnersConfig, description="Owners without a user here: who stands in."
    )
    bulk_threshold: _Positive = Field(
        2_000,
        description="Salesforce: so many creates of one object that a resync has asked for go by "
        "Bulk API 2.0; `off`: never. Needs `external_id`.",
    )
    push: Literal["webhooks", "pubsub"] = Field(
        "webhooks",
        description="How it tells of changes: `webhooks`, or Salesforce's Change Data Capture "
        "through its Pub/Sub API (`pubsub`), which a worker listens to.",
    )
    pubsub_url: str | None = Field(
        None, description="Salesforce: another address of its Pub/Sub API."
    )
    organization_id: str | None = Field(
        None,
        pattern=r"^00D[0-9A-Za-z]{12}(?:[A-Z0-5]{3})?$",
        description="Salesforce: whose Outbound Messages these are; 15 or 18 characters.",
    )
    outbound_token: Annotated[
        tuple[_Token, ...],
        BeforeValidator(_one_or_many),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 20},
                    {"type": "array", "items": {"type": "string", "minLength": 20}},
                ]
            }
        ),
    ] = Field(
        (),
        description="Salesforce: the secret in the URL of Outbound Messages, or several.",
    )
    login_url: str | None = Field(None, description="Salesforce: where to sign in.")
    audience: str | None = Field(None, description="Salesforce: the JWT's audience.")
    api_version: _Word | None = Field(
        None, pattern=r"^[1-9]\d{1,2}\.0$", description="Salesforce: the version of its API, 62.0."
    )
    leads: _Flag = Field(
        False, description="Salesforce: leads are people too; one that is converted is its contact."
    )
    objects: dict[str, ObjectConfig] = Field(
        default_factory=dict,
        description="Entities of your own, `custom.<name>`, each with the object that it is here.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_OWN.pattern}$"}},
    )
    mapping: dict[str, dict[str, MappingRow]] = Field(
        default_factory=dict,
        description="Entity, then canonical field (or several, comma-separated), then its row.",
    )

    @property
    def webhook_secrets(self) -> tuple[SecretStr, ...]:
        """Every secret a webhook of this account may be signed with, or have in its path."""
        in_path = (SecretStr(f"path_{t.get_secret_value()}") for t in self.outbound_token)
        return (*self.webhook_secret, *in_path)

    @property
    def options(self) -> Mapping[str, object]:
        """The further settings that only some connectors read."""
        return {name: value for name in _READ if (value := getattr(self, name)) is not None}

    @property
    def chosen(self) -> Set[str]:
        """The options that are written down for this account."""
        return self.model_fields_set & OPTIONS

    @field_validator("base_url", "pubsub_url", "login_url", "audience")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not re.match(r"https?://[^/\s]+(/\S*)?$", url):
            raise ValueError("must be a URL that starts with https:// or http://")
        return url.rstrip("/")

    @field_validator("mapping")
    @classmethod
    def _one_comma(cls, mapping: dict[str, dict[str, MappingRow]]) -> dict[str, Any]:
        return {
            entity: {", ".join(field_names(key)): row for key, row in rows.items()}
            for entity, rows in mapping.items()
        }


def field_names(key: str) -> list[str]:
    """The canonical fields that one key of a mapping names: `amount, currency` names two."""
    return [name.strip() for name in key.split(",")]


_POLICY = "An account that wins; `latest` (or `lww`): the newest edit; `review`: a person."
_DIRECTION_WORDS = (
    "`both`, `from ACCOUNT` (only its value counts), `to ACCOUNT` (only it is written) or `off`."
)


def _direction(text: str) -> str:
    plain = " ".join(text.split())
    if not _DIRECTION.fullmatch(plain):
        raise ValueError("is not both, off, from ACCOUNT or to ACCOUNT")
    return plain


_Direction = Annotated[
    str,
    AfterValidator(_direction),
    WithJsonSchema({"type": "string", "pattern": rf"^({_DIRECTION.pattern})$"}),
]


class FieldSync(_Frozen):
    """What differs for one field."""

    conflict: str | None = Field(None, min_length=1, description=_POLICY)
    direction: _Direction | None = Field(
        None, description=f"{_DIRECTION_WORDS} Default: that of the entity."
    )
    write: Literal["always", "if_blank", "once"] = Field(
        "always",
        description="When it is carried to an account: `if_blank`, only where it has no value; "
        "`once`, only with the record's creation there.",
    )

    @field_validator("conflict")
    @classmethod
    def _one_word(cls, policy: str | None) -> str | None:
        return LATEST if policy == "lww" else policy


class StagePlace(_Frozen):
    """One stage of an account; a bare text is its id or its name, in whatever pipeline."""

    stage: str = Field(min_length=1, description="Its id or its name there.")
    pipeline: str | None = Field(
        None, min_length=1, description="The id or name of the pipeline it stands in."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_stage(cls, place: Any) -> Any:
        return {"stage": place} if isinstance(place, str) else place

    def __str__(self) -> str:
        return f"{self.pipeline} / {self.stage}" if self.pipeline else self.stage


_NAMED: Final = {"type": ["string", "integer"]}
_PLACE: Final = {
    "type": "object",
    "properties": {"pipeline": _NAMED, "stage": _NAMED},
    "required": ["stage"],
    "additionalProperties": False,
}


def _one_or_more(given: Any) -> Any:
    if given == []:
        raise ValueError("must not be empty")
    return _one_or_many(given)


_Places = Annotated[
    tuple[StagePlace, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                _NAMED,
                _PLACE,
                {"type": "array", "minItems": 1, "items": {"anyOf": [_NAMED, _PLACE]}},
            ]
        }
    ),
]
_Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [_NAMED, {"type": "array", "minItems": 1, "items": _NAMED}]}),
]


def key_parts(rule: str) -> list[str]:
    """The canonical fields of a key rule: `company + name` has two."""
    return [part.strip() for part in rule.split("+")]


def _key_rule(rule: str) -> str:
    """A rule in its one spelling; the list of all addresses is known by its singular."""
    plural = {"emails": "email", "phones": "phone"}
    return " + ".join(plural.get(part, part) for part in key_parts(rule))


@lru_cache
def _reads(accounts: tuple[str, ...], account: str, direction: str) -> bool:
    """Whether what this account shows counts."""
    match direction.split():
        case ["both"]:
            return account in accounts
        case ["from", source]:
            return account == source
        case ["to", target]:
            return account in accounts and account != target
    return False


@lru_cache
def _writes(accounts: tuple[str, ...], account: str, direction: str) -> bool:
    """Whether this account is told."""
    match direction.split():
        case ["both"]:
            return account in accounts
        case ["from", source]:
            return account in accounts and account != source
        case ["to", target]:
            return account == target
    return False


class EntitySync(_Frozen):
    """How one entity travels between accounts."""

    accounts: tuple[str, ...] = Field(
        (), description="Who takes part; default: every account whose system has this entity."
    )
    conflict: str = Field("", description=f"{_POLICY} Default: the first account of the file.")
    direction: _Direction = Field("both", description=_DIRECTION_WORDS)
    keys: tuple[str, ...] | None = Field(
        None,
        description="By what records of two accounts are recognised as one, strongest first: "
        "`email`, `domain`, `phone`, `external_id`, any field, or several: `company + name`. "
        "Default: `email` for a person, `domain` for a company, nothing for the rest.",
    )
    fields: dict[str, FieldSync] = Field(
        default_factory=dict, description="Canonical fields that differ from the rest."
    )
    deletes: Annotated[
        dict[str, Literal["unlink", "propagate"]],
        BeforeValidator(_for_all),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": [UNLINK, PROPAGATE]},
                    {"type": "object", "additionalProperties": {"enum": [UNLINK, PROPAGATE]}},
                ]
            }
        ),
    ] = Field(
        default_factory=dict,
        description="What a delete does: `unlink`: the others keep theirs; `propagate`: they are "
        "deleted too. One word, or an account each: what a delete *in* that account does.",
    )
    stages: dict[str, dict[str, _Places]] = Field(
        default_factory=dict,
        description="Deals and tickets: canonical stage, then each account's own, by id or by "
        "name, or as `{pipeline, stage}`; of several, all are read as it, the first is written.",
    )
    pipelines: dict[str, dict[str, _Names]] = Field(
        default_factory=dict,
        description="Deals and tickets: canonical pipeline, then each account's own, by id or by "
        "name.",
    )

    @field_validator("conflict")
    @classmethod
    def _one_word(cls, policy: str) -> str:
        return LATEST if policy == "lww" else policy

    follow_merges: Literal["review", "merge"] = Field(
        "review",
        description="Where two records became one in one CRM and are two in another: `review` "
        "asks a person, `merge` merges them there too, where that CRM can.",
    )

    @field_validator("keys")
    @classmethod
    def _one_spelling(cls, rules: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if rules is None else tuple(map(_key_rule, rules))

    def policy(self, field: str) -> str:
        """Who settles a conflict of this field: an account, `latest` or `review`."""
        special = self.fields.get(field)
        return (special and special.conflict) or self.conflict

    def on_delete(self, account: str) -> str:
        """What a delete in this account means for the others: `unlink` or `propagate`."""
        return self.deletes.get(account) or self.deletes.get(EVERYWHERE) or UNLINK

    def may_read(self, account: str, field: str) -> bool:
        """Whether this account's value of the field counts."""
        return _reads(self.accounts, account, self._direction(field))

    def may_write(self, account: str, field: str) -> bool:
        """Whether the field is carried to this account at all; `write_mode` says when."""
        return _writes(self.accounts, account, self._direction(field))

    def introduces(self, account: str) -> bool:
        """Whether a record that appears in this account is made elsewhere too."""
        return _reads(self.accounts, account, self.direction)

    def receives(self, account: str) -> bool:
        """Whether records are made in this account."""
        return _writes(self.accounts, account, self.direction)

    def write_mode(self, field: str) -> str:
        """When the field is carried: `always`, `if_blank` or `once`."""
        special = self.fields.get(field)
        return special.write if special else "always"

    def _direction(self, field: str) -> str:
        special = self.fields.get(field)
        return (special and special.direction) or self.direction


def _is_web(url: SecretStr) -> SecretStr:
    if not re.match(r"https?://[^/\s]+/\S*$", url.get_secret_value()):
        raise ValueError("must be a URL that starts with https:// or http://, with a path")
    return url


#: Whoever knows such an address may write there.
_SecretUrl = Annotated[_Secret, AfterValidator(_is_web)]


class AlertWebhook(_Frozen):
    """Where alerts are posted, signed by Standard Webhooks."""

    url: _SecretUrl = Field(description="Where alerts are posted.")
    secret: _Secret = Field(
        description="What they are signed with: `whsec_` and base64, or plain text."
    )


class AlertsConfig(_Frozen):
    """Who is told when something is wrong; the log always is."""

    webhook: AlertWebhook | None = Field(
        None, description="Post alerts here, signed by Standard Webhooks."
    )
    slack: _SecretUrl | None = Field(None, description="The URL of a Slack incoming webhook.")
    lag: _Whole = Field(300, description="Seconds that a lane may be late before it is an alert.")
    after: _Whole = Field(
        60, description="Seconds that trouble which may pass by itself lasts before it is one."
    )
    summary: _Whole = Field(
        3600, description="Seconds before a change in how many are concerned is told again."
    )


class Config(_Frozen):
    """The whole configuration, complete: every default is filled in."""

    accounts: dict[str, AccountConfig] = Field(
        default_factory=dict,
        description="Account name, then its settings. The name is part of its webhook URL.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_NAME.pattern}$"}},
    )
    sync: dict[str, EntitySync] = Field(
        default_factory=dict,
        description="Entity, then how it travels. Company, person and deal sync two-way everywhere "
        "unless named; tickets, activities, tasks and entities of your own only where named.",
        json_schema_extra={"propertyNames": _named_by(*FIELDS, *FAMILIES)},
    )
    privacy: Literal["purge", "propagate"] = Field(
        "purge",
        description="When a CRM erases a person: `purge`: we forget them; `propagate`: they are "
        "erased in the other CRMs too.",
    )
    alerts: AlertsConfig = Field(
        default_factory=AlertsConfig, description="Who is told when something is wrong."
    )
    private_hosts: tuple[str, ...] = Field(
        (), description="Names of hosts that may have a private address."
    )
    handlers: tuple[str, ...] = Field(
        (), description="Your own handlers: modules, or .py files beside this file."
    )
    body_limit: Annotated[
        ByteSize,
        Field(gt=0),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
    ] = Field(
        ByteSize(10 * 1024 * 1024), description="The largest webhook accepted, such as 10 MiB."
    )
    retention: Retention = Field(
        default_factory=Retention, description="How long what has been dealt with is kept."
    )

    _source: Source = PrivateAttr(default_factory=Source)

    def entity(self, name: str) -> EntitySync | None:
        """How this entity travels; None if nobody takes part."""
        return self.sync.get(name)

    def where(self, *path: str | int) -> str:
        """`syncline.yaml:14: accounts.close.credentials`, for later complaints about a key."""
        return self._source.where(path)

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the secrets: equal digests, equal behaviour."""
        content = self.model_dump(mode="json", by_alias=True)  # secrets dump as asterisks
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `syncline.yaml`."""
    row = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/MappingRow"}]}
    found = Config.model_json_schema(by_alias=True)
    mapping = found["$defs"]["AccountConfig"]["properties"]["mapping"]
    mapping["propertyNames"] = _named_by(*FIELDS)
    mapping["additionalProperties"]["additionalProperties"] = row
    objects = found["$defs"]["AccountConfig"]["properties"]["objects"]
    objects["additionalProperties"] = {
        "anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/ObjectConfig"}]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "Syncline configuration",
    }
