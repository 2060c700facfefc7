"""`syncline.yaml` as a typed, frozen Config; every mistake named by file, line and key."""

from app.config.load import Environment, load, parse
from app.config.model import (
    FAMILIES,
    FIELDS,
    PROPAGATE,
    QUIET,
    RELATIONS,
    AccountConfig,
    Config,
    EntitySync,
    FieldSync,
    MappingRow,
    Mode,
    is_field,
    schema,
)

__all__ = [
    "FAMILIES",
    "FIELDS",
    "PROPAGATE",
    "QUIET",
    "RELATIONS",
    "AccountConfig",
    "Config",
    "EntitySync",
    "Environment",
    "FieldSync",
    "MappingRow",
    "Mode",
    "is_field",
    "load",
    "parse",
    "schema",
]
