"""`syncline.yaml` as a typed, frozen Config; every mistake named by file, line and key."""

from app.config.load import Environment, load, parse
from app.config.model import (
    DEFAULT_KEYS,
    FAMILIES,
    FIELDS,
    QUIET,
    RELATIONS,
    AccountConfig,
    Config,
    EntitySync,
    FieldSync,
    MappingRow,
    Mode,
    OwnersConfig,
    StagePlace,
    is_field,
    key_parts,
    schema,
)

__all__ = [
    "DEFAULT_KEYS",
    "FAMILIES",
    "FIELDS",
    "QUIET",
    "RELATIONS",
    "AccountConfig",
    "Config",
    "EntitySync",
    "Environment",
    "FieldSync",
    "MappingRow",
    "Mode",
    "OwnersConfig",
    "StagePlace",
    "is_field",
    "key_parts",
    "load",
    "parse",
    "schema",
]
