"""Discover connectors and handlers, check them, freeze them; then dispatch."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType

import yaml
from pydantic import ValidationError

from app.domain.manifest import Manifest
from app.domain.values import NOTHING, Change, Event
from app.errors import ConfigError, TransientError
from app.sdk.client import Client, Transport, Wire
from app.sdk.connector import Account, Connector
from app.sdk.handler import MARKS, Context, Handler, Mark, Wishes
from app.sdk.oauth import TokenStore
from app.sdk.quota import Allowance, Ledger, Quota
from app.sdk.signature import SCHEMES

CONNECTORS = "app.connectors"
HOUSE = "app.handlers.house"
ENTRY_POINTS = "syncline.handlers"
#: Seconds that one handler may take.
TIME_LIMIT = 10.0


class Verdict(StrEnum):
    """The answer to an event; the third one, unknown, is UnsupportedEventError."""

    HANDLED = "handled"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What became of one event."""

    answer: Verdict
    wishes: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True, slots=True)
class _Routes:
    """The users' handlers of one event type."""

    instead: Handler | None = None
    also: tuple[Handler, ...] = ()


@dataclass(frozen=True)
class Registry:
    """Every connector and handler of this installation; nothing is added after the start."""

    connectors: Mapping[str, type[Connector]]
    _house: Mapping[Change, Handler]
    _routes: Mapping[tuple[str, str], _Routes]
    _quotas: dict[tuple[str, str], Quota] = field(default_factory=dict)

    @classmethod
    def load(cls, handlers: Sequence[str] = (), *, folder: Path | None = None) -> Registry:
        """Everything there is, checked. ``handlers`` are dotted module names or ``.py`` files,
        relative to ``folder``. Raises ConfigError for whatever cannot work.
        """
        connectors = dict(_connectors(CONNECTORS))
        modules = [_module(name, folder or Path()) for name in handlers]
        modules += [_entry_point(entry) for entry in entry_points(group=ENTRY_POINTS)]
        house = importlib.import_module(HOUSE)
        return cls(
            MappingProxyType(connectors),
            MappingProxyType({change: getattr(house, change.value) for change in Change}),
            MappingProxyType(_collect(modules, connectors)),
        )

    def connector(self, name: str) -> type[Connector]:
        """The class that speaks this system. Raises ConfigError with the nearest name."""
        try:
            return self.connectors[name]
        except KeyError:
            raise ConfigError(
                f"there is no connector {name!r}{nearest(name, self.connectors)}"
            ) from None

    def connect(
        self,
        account: Account,
        store: TokenStore | None = None,
        transport: Transport | None = None,
        *,
        properties: Mapping[str, Sequence[str]] = NOTHING,
        ledger: Ledger | None = None,
        allowance: Allowance | None = None,
    ) -> Connector:
        """The connector of an account, signed in on its first call.

        ``properties`` are the remote fields that the mapping reads, by remote type. All
        connectors of one account in this process share one quota, and with a ``ledger`` all
        processes do. Raises ConfigError for missing credentials.
        """
        kind = self.connector(account.connector)
        wire = Wire(kind.home(account), transport, private_hosts=account.private_hosts)
        quota = self._quotas.setdefault(
            (account.name, wire.base_url),
            Quota(kind.manifest.limits, ledger=ledger, allowance=allowance),
        )
        client = Client(
            wire,
            kind.sign_in(account, wire, store),
            kind.manifest,
            quota,
            account=account.name,
            dialect=kind.dialect,
            secrets=tuple(account.credentials.values()),
        )
        return kind(account, client, properties)

    def answer(
        self,
        manifest: Manifest,
        event_type: str,
        *,
        travels: Callable[[str], bool] = lambda _: True,
    ) -> Verdict:
        """Which answer an event will get, before anybody is asked what it means.

        ``travels`` says whether an entity does: the others' events are for users' handlers alone.
        Raises UnsupportedEventError for an event that the manifest does not name.
        """
        entity = manifest.route(event_type)
        handled = entity is not None and travels(entity)
        wanted = handled or (manifest.name, event_type) in self._routes
        return Verdict.HANDLED if wanted else Verdict.IGNORED

    async def dispatch(self, event: Event, ctx: Context) -> Dispatched:
        """Ask the handlers of an event what it means.

        A user's `instead` handler replaces the house's; the others add to it. Raises
        UnsupportedEventError for an event that the manifest does not name.
        """
        manifest = ctx.connector.manifest
        routes = self._routes.get((manifest.name, event.type), _Routes())
        handlers = [*routes.also]
        ours = routes.instead is None and _is_handled(manifest, event.type)
        if ours:
            await self._house[event.change](event, ctx)  # it has nothing to wait for
        elif routes.instead is not None:
            handlers.insert(0, routes.instead)
        if not ours and not handlers:
            return Dispatched(Verdict.IGNORED)
        for handler in handlers:
            await _run(handler, event, ctx)
        return Dispatched(Verdict.HANDLED, ctx.wishes)


def _is_handled(manifest: Manifest, event_type: str) -> bool:
    return manifest.route(event_type) is not None


async def _run(handler: Handler, event: Event, ctx: Context) -> None:
    # A TimeoutError of the handler's own must keep its traceback: look whose limit it was.
    limit = asyncio.timeout(TIME_LIMIT)
    try:
        async with limit:
            await handler(event, ctx)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TransientError(
            f"the handler {_name(handler)} took longer than {TIME_LIMIT:.0f} s"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing where none is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _name(handler: Handler) -> str:
    return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


# ------------------------------------------------------------------------------ connectors


def _connectors(package: str) -> Iterable[tuple[str, type[Connector]]]:
    """Every folder of the package: its manifest, and the Connector in its connector.py."""
    root = importlib.import_module(package)
    for found in pkgutil.iter_modules(root.__path__):
        if not found.ispkg:
            continue
        module = importlib.import_module(f"{package}.{found.name}.connector")
        kinds = [
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind)
            and issubclass(kind, Connector)
            and kind.__module__ == module.__name__
        ]
        if len(kinds) != 1:
            raise ConfigError(f"{module.__name__} must have one subclass of Connector")
        (kind,) = kinds
        kind.manifest = load_manifest(Path(str(module.__file__)).with_name("manifest.yaml"))
        if kind.manifest.name != found.name:
            raise ConfigError(f"{found.name}/manifest.yaml: name must be {found.name!r}")
        yield found.name, kind


def load_manifest(file: Path) -> Manifest:
    """The promise in this file. Raises ConfigError that names file and key."""
    where = f"{file.parent.name}/{file.name}"
    try:
        data = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
        manifest = Manifest.model_validate(data)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{where}: {key}: {first['msg']}") from error
    _check_manifest(manifest, where)
    return manifest


def _check_manifest(manifest: Manifest, where: str) -> None:
    for scheme in manifest.signature:
        if scheme not in SCHEMES:
            raise ConfigError(f"{where}: signature: no scheme {scheme!r}{nearest(scheme, SCHEMES)}")
    for event, entity in manifest.webhook.events.items():
        if entity not in manifest.entities:
            raise ConfigError(
                f"{where}: webhook.events.{event}: no entity {entity!r}"
                f"{nearest(entity, manifest.entities)}"
            )
        if event in manifest.webhook.ignores:
            raise ConfigError(f"{where}: webhook.ignores: {event} is also in events")


# -------------------------------------------------------------------------------- handlers


def _module(name: str, folder: Path) -> ModuleType:
    """A module by dotted name or by file. Raises ConfigError that says what is wrong with it."""
    try:
        return _from_file(folder / name) if name.endswith(".py") else importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"handlers: {name}: {type(error).__name__}: {error}") from error


def _from_file(file: Path) -> ModuleType:
    path = file.resolve(strict=True)
    # Two files of one name must not meet in sys.modules.
    name = f"syncline_handlers_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _entry_point(entry: object) -> ModuleType:
    name = getattr(entry, "name", "?")
    try:
        found = entry.load()  # type: ignore[attr-defined]
    except Exception as error:
        raise ConfigError(
            f"entry point {name} of {ENTRY_POINTS}: {type(error).__name__}: {error}"
        ) from error
    if not inspect.ismodule(found):
        raise ConfigError(f"entry point {name} of {ENTRY_POINTS} must name a module")
    return found


def _collect(
    modules: Iterable[ModuleType], connectors: Mapping[str, type[Connector]]
) -> dict[tuple[str, str], _Routes]:
    """The marked functions of these modules, by event. Raises ConfigError for clashes."""
    routes: dict[tuple[str, str], _Routes] = {}
    loaded: set[str] = set()
    for module in modules:
        if module.__name__ in loaded:
            raise ConfigError(f"handlers: {module.__file__ or module.__name__} is named twice")
        loaded.add(module.__name__)
        # A function may have two names in its module.
        for handler in {id(value): value for value in vars(module).values()}.values():
            for mark in getattr(handler, MARKS, None) or ():
                _check_mark(handler, mark, connectors)
                key = (mark.connector, mark.event)
                routes[key] = _joined(routes.get(key, _Routes()), handler, mark)
    return routes


def _check_mark(handler: Handler, mark: Mark, connectors: Mapping[str, type[Connector]]) -> None:
    where = f'{_name(handler)}: @on("{mark.connector}", "{mark.event}")'
    if not inspect.iscoroutinefunction(handler):
        raise ConfigError(f"{where}: a handler is an `async def`")
    if mark.connector not in connectors:
        raise ConfigError(f"{where}: no such connector{nearest(mark.connector, connectors)}")
    manifest = connectors[mark.connector].manifest
    if not manifest.may_send(mark.event):
        known = [*manifest.webhook.events, *manifest.webhook.ignores]
        raise ConfigError(f"{where}: no such event{nearest(mark.event, known)}")


def _joined(routes: _Routes, handler: Handler, mark: Mark) -> _Routes:
    where = f"{mark.connector} {mark.event}"
    if handler is routes.instead or handler in routes.also:
        raise ConfigError(f"{_name(handler)} is registered twice for {where}")
    if not mark.instead:
        return _Routes(routes.instead, (*routes.also, handler))
    if routes.instead is not None:
        raise ConfigError(
            f"{_name(handler)} and {_name(routes.instead)} both want to replace the house "
            f"handler of {where}"
        )
    return _Routes(handler, routes.also)
