"""From a file or the environment to a complete Config, or a ConfigError with every mistake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from app.config.model import (
    DEFAULT_KEYS,
    EVERYWHERE,
    FAMILIES,
    FIELDS,
    LATEST,
    NO_KEYS,
    QUIET,
    REVIEW,
    STAGED,
    AccountConfig,
    AlertsConfig,
    AlertWebhook,
    CatchUp,
    Config,
    EntitySync,
    FieldSync,
    Guard,
    MappingRow,
    ObjectConfig,
    OwnersConfig,
    StagePlace,
    field_names,
    is_account_name,
    is_field,
    is_own_entity,
    key_parts,
    relations_of,
)
from app.config.source import Path as Key
from app.config.source import Source, did_you_mean
from app.config.stages import ambiguities
from app.errors import ConfigError

#: The entities that a connector declares; LookupError or ConfigError for no connector of ours.
EntitiesOf: TypeAlias = Callable[[str], Collection[str]]

DEFAULT_FILE: Final = Path("syncline.yaml")

_Model = TypeVar("_Model", bound=BaseModel)


class Environment(Protocol):
    """The part of the settings that the configuration reads."""

    @property
    def config(self) -> Path | None: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def environment_accounts(self) -> Mapping[str, Mapping[str, Any]]: ...


def load(settings: Environment, entities_of: EntitiesOf) -> Config:
    """The configuration: SYNCLINE_CONFIG, else ./syncline.yaml, else what the environment makes.

    Without any of them it is empty. Raises ConfigError with every mistake, one a line.
    """
    path = settings.config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is None:
        data = {"accounts": dict(settings.environment_accounts)}
        return _build(Source("environment", data), entities_of, Path())
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not UTF-8 text") from None
    except OSError as error:
        named = "SYNCLINE_CONFIG names" if settings.config else "cannot read"
        raise ConfigError(f"{named} {path}: {error.strerror}") from None
    return _build(Source.read(text, str(path), settings.environment), entities_of, path.parent)


def parse(
    text: str | Mapping[str, Any],
    entities_of: EntitiesOf,
    *,
    name: str = "syncline.yaml",
    environment: Mapping[str, str] | None = None,
) -> Config:
    """A configuration from YAML text, or from the same as data; checked like a file."""
    if isinstance(text, str):
        return _build(Source.read(text, name, environment or {}), entities_of, Path())
    return _build(Source(name, dict(text)), entities_of, Path())


def _build(source: Source, entities_of: EntitiesOf, folder: Path) -> Config:
    data = source.data if source.data is not None else {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source.name}: the file must hold keys such as accounts and sync")
    accounts = _Accounts(source, _section(source, data, "accounts"), entities_of)
    sync = _Sync(source, _section(source, data, "sync"), accounts)
    rest = {key: value for key, value in data.items() if key not in ("accounts", "sync")}
    whole = _valid(Config, rest, (), source)
    handlers = _handlers(whole.handlers, folder, source) if whole else ()
    source.check()
    assert whole is not None, "what could not be read was complained of"
    built = whole.model_copy(
        update={"accounts": accounts.built, "sync": sync.built, "handlers": handlers}
    )
    built._source = source
    return built


class _Accounts:
    """The accounts of the file, checked."""

    def __init__(self, source: Source, given: dict[str, Any], entities_of: EntitiesOf) -> None:
        self.source = source
        self.names = list(given)
        self.built: dict[str, AccountConfig] = {}
        #: Account -> the entities its system has; None where its connector is unknown.
        self.entities: dict[str, Collection[str] | None] = dict.fromkeys(given)
        for name, settings in given.items():
            path: Key = ("accounts", name)
            if not is_account_name(name):
                source.blame(
                    path,
                    f"{name!r} cannot name an account: use lower-case letters, digits, - and _ "
                    "(latest, lww and review are taken)",
                )
            if account := _valid(AccountConfig, settings, path, source):
                self.built[name] = account
                declared = self._declared(account.connector, path, entities_of)
                self.entities[name] = declared and [*declared, *account.objects]
                self._check_objects(name, account)
                self._check_mapping(name, settings.get("mapping") or {})
        self._check_portals()

    def of(self, entity: str) -> list[str]:
        """The accounts whose system has this entity, in the order of the file."""
        known = self.entities.items()
        return [name for name, declared in known if declared is None or entity in declared]

    @property
    def own(self) -> list[str]:
        """The entities of the operator's own."""
        return list(dict.fromkeys(n for a in self.built.values() for n in a.objects))

    def _check_objects(self, name: str, account: AccountConfig) -> None:
        for entity in account.objects:
            path: Key = ("accounts", name, "objects", entity)
            if not is_own_entity(entity):
                self.source.blame(
                    path,
                    "an entity of your own is called custom.<name>, in lower-case letters, digits "
                    "and _",
                )
            elif not account.mapping.get(entity):
                self.source.blame(path, f"none of its fields travels: map them, mapping.{entity}")

    def _declared(
        self, connector: str, path: Key, entities_of: EntitiesOf
    ) -> Collection[str] | None:
        path = (*path, "connector")
        try:
            return entities_of(connector)
        except ConfigError as error:
            self.source.blame(path, str(error))
        except LookupError:
            self.source.blame(path, f"{self.source.shown(path, connector)}is no connector")
        return None

    def _check_mapping(self, name: str, mapping: dict[str, Any]) -> None:
        declared = self.entities[name]
        for entity, rows in mapping.items():
            path: Key = ("accounts", name, "mapping", entity)
            if declared is not None and entity not in declared:
                hint = did_you_mean(entity, list(declared))
                self.source.blame(path, f"{self.built[name].connector} has no {entity}{hint}")
                continue
            for key in rows:
                self.source.name_also((*path, key), (*path, ", ".join(field_names(key))))
                for field in field_names(key):
                    if field in relations_of(entity):
                        self.source.blame((*path, key), "relations cannot be mapped anew")
                    else:
                        _check_field(self.source, (*path, key), entity, field)

    def _check_portals(self) -> None:
        seen: dict[tuple[str, int], str] = {}
        for name, account in self.built.items():
            if account.portal_id is not None:
                first = seen.setdefault((account.connector, account.portal_id), name)
                if first != name:
                    path: Key = ("accounts", name, "portal_id")
                    self.source.blame(path, f"is already that of the account {first!r}")


class _Sync:
    """How each entity travels, checked and completed."""

    def __init__(self, source: Source, given: dict[str, Any], accounts: _Accounts) -> None:
        self.source = source
        self.accounts = accounts
        self.built: dict[str, EntitySync] = {}
        known = [*FIELDS, *FAMILIES, *accounts.own]
        for entity in given:
            if entity not in known:
                hint = did_you_mean(entity, known) or f": there are {', '.join(known)}"
                source.blame(("sync", entity), f"is no entity{hint}")
        for entity in dict.fromkeys((*FIELDS, *accounts.own)):
            key = _key_of(entity, given)
            if key is not None:
                settings = given.get(key)
                self._add(entity, key, {} if settings is None else settings)

    def _add(self, entity: str, key: str, settings: Any) -> None:
        able = self.accounts.of(entity)
        found = _valid(EntitySync, settings, ("sync", key), self.source)
        if found is None:
            return
        members = found.accounts if "accounts" in found.model_fields_set else tuple(able)
        self._check(entity, key, found, members)
        if members:
            first = next((name for name in able if name in members), members[0])
            fields = {n: how for n, how in found.fields.items() if is_field(entity, n)}
            self.built[entity] = found.model_copy(
                update={
                    "accounts": members,
                    "conflict": found.conflict or first,
                    "keys": DEFAULT_KEYS.get(entity) if found.keys is None else found.keys,
                    "fields": fields,
                }
            )

    def _check(self, entity: str, key: str, found: EntitySync, members: tuple[str, ...]) -> None:
        here: Key = ("sync", key)
        for number, name in enumerate(found.accounts):
            path: Key = (*here, "accounts", number)
            if name in found.accounts[:number]:
                self.source.blame(path, f"{name!r} is written twice")
            elif self._is_account(path, name, self.accounts.names):
                declared = self.accounts.entities[name]
                if declared is not None and entity not in declared:
                    self.source.blame(path, f"the system of {name!r} has no {entity}")
        self._check_policy((*here, "conflict"), found.conflict, members)
        self._check_direction((*here, "direction"), found.direction, members)
        for number, rule in enumerate(found.keys or ()):
            self._check_key((*here, "keys", number), entity, rule, found.keys or ())
        for field, special in found.fields.items():
            path = (*here, "fields", field)
            if not any(is_field(one, field) for one in FAMILIES.get(key, ())):
                _check_field(self.source, path, entity, field)
            self._check_policy((*path, "conflict"), special.conflict, members)
            self._check_direction((*path, "direction"), special.direction or "both", members)
        for name in found.deletes:
            if name != EVERYWHERE:
                self._is_account((*here, "deletes", name), name, members)
        if entity not in FIELDS:
            self._check_own(key, entity, found, members)
        for key, lines in (("stages", found.stages), ("pipelines", found.pipelines)):
            if lines and entity not in STAGED:
                self.source.blame((*here, key), f"only deals and tickets have {key}")
            for ours, owns in lines.items():
                for name in owns:
                    self._is_account((*here, key, ours, name), name, members)
        for place, complaint in ambiguities(found):
            self.source.blame((*here, *place), complaint)

    def _check_own(
        self, key: str, entity: str, found: EntitySync, members: tuple[str, ...]
    ) -> None:
        """An entity of one's own has the fields that somebody maps."""
        accounts = [self.accounts.built[name] for name in members if name in self.accounts.built]
        mapped = {
            field
            for account in accounts
            for row in account.mapping.get(entity, {})
            for field in field_names(row)
        }
        named: list[tuple[Key, str]] = [(("fields", name), name) for name in found.fields]
        named += [
            (("keys", number), part)
            for number, rule in enumerate(found.keys or ())
            for part in key_parts(rule)
            if part != "external_id"
        ]
        for place, name in named:
            if name not in mapped and name not in relations_of(entity):
                hint = did_you_mean(name, sorted(mapped))
                self.source.blame(("sync", key, *place), f"{name!r} is mapped nowhere{hint}")

    def _check_direction(self, path: Key, direction: str, members: Sequence[str]) -> None:
        _, _, account = direction.partition(" ")
        if account:
            self._is_account(path, account, members, within=direction)

    def _check_key(self, path: Key, entity: str, rule: str, all: Sequence[str]) -> None:
        """Every part of a key rule is a field that can tell one record from another."""
        parts = key_parts(rule)
        for part in parts:
            if part in NO_KEYS:
                self.source.blame(path, f"{part!r} tells nobody from anybody else")
            elif part != "external_id":
                _check_field(self.source, path, entity, part)
        if len(set(parts)) < len(parts) or all.count(rule) > 1:
            self.source.blame(path, f"{rule!r} is written twice")

    def _check_policy(self, path: Key, policy: str | None, members: Sequence[str]) -> None:
        if policy and policy not in (*members, LATEST, REVIEW):
            hint = did_you_mean(policy, [*members, LATEST, "lww", REVIEW])
            shown = self.source.shown(path, policy)
            if policy in self.accounts.names:
                hint = " of this entity"
            self.source.blame(path, f"{shown}is neither an account nor latest/lww/review{hint}")

    def _is_account(
        self, path: Key, name: str, names: Sequence[str], *, within: str | None = None
    ) -> bool:
        if name in names:
            return True
        shown = self.source.shown(path, within or name)
        what = f"{shown}names no account" if within else f"{shown}is no account"
        of_this = " of this entity" if name in self.accounts.names else ""
        self.source.blame(path, f"{what}{of_this}{did_you_mean(name, names)}")
        return False


def _key_of(entity: str, given: Mapping[str, Any]) -> str | None:
    """The key under `sync` that speaks of this entity; None if it is not to travel."""
    family = next((name for name, members in FAMILIES.items() if entity in members), entity)
    named = next((key for key in (entity, family) if key in given), None)
    return named if named or entity in QUIET or entity not in FIELDS else entity


def _section(source: Source, data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        source.blame((name,), "must be keys with values, one a line")
        return {}
    return section


def _handlers(given: tuple[str, ...], folder: Path, source: Source) -> tuple[str, ...]:
    """Modules as they are; files as full paths, found beside the configuration."""
    found = []
    for number, handler in enumerate(given):
        if handler.endswith(".py"):
            file = (folder / handler).resolve()
            if not file.is_file():
                source.blame(("handlers", number), f"there is no file {handler!r}")
            handler = str(file)
        found.append(handler)
    return tuple(found)


def _check_field(source: Source, path: Key, entity: str, field: str) -> None:
    if is_field(entity, field):
        return
    own = "; your own are called custom.<name>"
    hint = did_you_mean(field, FIELDS[entity]) or own if entity in FIELDS else ""
    source.blame(path, f"{field!r} is no field of {entity}{hint}")


# ---------------------------------------------------------------- pydantic's errors, in words

_KEYS: Final[tuple[tuple[tuple[str | None, ...], type[BaseModel]], ...]] = (
    ((), Config),
    (("alerts",), AlertsConfig),
    (("alerts", "webhook"), AlertWebhook),
    (("accounts", None), AccountConfig),
    (("accounts", None, "guard"), Guard),
    (("accounts", None, "catch_up"), CatchUp),
    (("accounts", None, "mapping", None, None), MappingRow),
    (("accounts", None, "objects", None), ObjectConfig),
    (("sync", None), EntitySync),
    (("sync", None, "fields", None), FieldSync),
    (("sync", None, "stages", None, None, None), StagePlace),
    (("accounts", None, "owners"), OwnersConfig),
)
_WORDS: Final[Mapping[str, str]] = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "greater_than": "must be more than zero",
    "greater_than_equal": "must not be less than zero",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "must be text",
    "string_sub_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "dict_type": "must be keys with values, one a line",
    "model_type": "must be keys with values, one a line",
    "byte_size": "is not a size such as 10 MiB",
    "byte_size_unit": "is not a size such as 10 MiB",
}


def _valid(model: type[_Model], data: Any, path: Key, source: Source) -> _Model | None:
    """The data as this model, complaints noted.

    What does not fit is left out, so that the rest can be checked too; None if nothing is left.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        rest, smaller = deepcopy(data), False
        for one in error.errors():
            loc: Key = tuple(part for part in one["loc"] if part != "[key]")
            source.blame((*path, *loc), _sentence(source, (*path, *loc), one))
            smaller |= _leave_out(rest, loc)
        return _valid(model, rest, path, source) if smaller else None


def _leave_out(data: Any, loc: Key) -> bool:
    """Remove what stands at this place; False if nothing does."""
    for part in loc[:-1]:
        if isinstance(data, dict) and not isinstance(data.get(str(part)), dict | list):
            return data.pop(str(part), None) is not None  # one value, written without a list
        data = data[part]
    if loc and isinstance(data, dict):
        return data.pop(str(loc[-1]), None) is not None
    if loc and isinstance(data, list):
        data[int(loc[-1])] = None  # its neighbours keep their numbers
    return False


def _sentence(source: Source, path: Key, error: Any) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(path[-1]), _keys_at(path[:-1]))}"
        case "literal_error":
            right = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            shown = source.shown(path, error["input"])
            hint = did_you_mean(str(error["input"]), right)
            return f"{shown}is not one of {', '.join(right)}{hint}"
    words = _WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    return f"{source.shown(path, error['input'])}{words}"


def _keys_at(path: Key) -> list[str]:
    for shape, model in _KEYS:
        if len(shape) == len(path) and all(
            s in (None, p) for s, p in zip(shape, path, strict=True)
        ):
            return [info.alias or name for name, info in model.model_fields.items()]
    return []
