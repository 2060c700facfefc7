"""Logging: one canonical line per unit of work, `noun.verb_past`, with secrets masked.

::

    log = logs.get()
    log.info("push.finished", account=account.name, wrote=3, unchanged=7, dead=1, ms=412)

Lines go to standard error: JSON when nobody watches, readable and coloured on a terminal.
Ids that belong to everything below (a delivery, a lane) are bound once with
``structlog.contextvars.bound_contextvars``.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, Protocol, TypeAlias, cast

import orjson
import structlog
from structlog.typing import ExcInfo

from app.errors import SynclineError

_Event: TypeAlias = MutableMapping[str, Any]

MASK = "***"
_SECRET_KEY = re.compile(
    r"token|secret|passw|authorization|cookie|credential|(api|private|signature|secret)[_-]?keys?$",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"([\w+])[\w.+'-]*(?:@|%40)([\w-]+(?:\.[\w-]+)+)")
#: `+1 415 555 0155`, `(415) 555-0155`, `415-555-0155`. Bare digits are ids and stay.
_PHONE = re.compile(
    r"(?P<plus>\+\d)[\d\s().-]{5,}(?P<a>\d\d)(?!\d)"
    r"|\(\d{2,4}\)[\s.-]?\d{3,4}[\s.-]?\d{0,2}(?P<b>\d\d)(?!\d)"
    r"|(?<![\w.-])\d{3}[-.\s]\d{3,4}[-.\s]\d\d(?P<c>\d\d)(?![\w.-])"
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
_TOKEN = re.compile(r"\bsyncline_[\w-]{20,}")
#: What a vendor, or a bug's text, has said: `errors.quoted`. It may be cut short.
_STRANGERS = re.compile(r"“[^”]*(?:”|$)")
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)

#: These say on every call what our own line says once.
_CHATTY = ("httpx", "httpcore", "hpack", "sqlalchemy", "asyncio", "alembic", "uvicorn")


class Preferences(Protocol):
    """The part of the settings that logging reads."""

    @property
    def log(self) -> Literal["auto", "json", "console"]: ...
    @property
    def log_level(self) -> str: ...


def get(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with these values on every line."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(**bound))


def configure(settings: Preferences) -> None:
    """Set up logging for this process; later calls replace the earlier."""
    readable = settings.log == "console" or (settings.log == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level]
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
        structlog.processors.ExceptionRenderer(_traceback),
        redact,
        _readable() if readable else _json,
    ]
    structlog.configure(
        processors=processors,
        # A disabled level is an empty method of a logger built once: a call and nothing else.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_FromStandardLibrary()]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def redact(_logger: object, _method: str, event: _Event) -> _Event:
    """Mask secrets by their key and personal data by their look, at any depth."""
    return {key: _masked(key, value) for key, value in event.items()}


def scrub(text: str) -> str:
    """The text without e-mail addresses, phone numbers, passwords, and words of strangers in it."""
    if len(text) < 6:
        return text
    if "“" in text:
        text = _STRANGERS.sub("“…”", text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(r"\1…@\2", text)
    text = _TOKEN.sub(MASK, _SCHEME.sub(rf"\1 {MASK}", text))
    return _PHONE.sub(_short_phone, text)


def words(error: BaseException) -> str:
    """What may be logged of an error: of one that nobody foresaw only its kind.

    Its text may quote anything: a value that could not be read, a row that the database refused.
    """
    if isinstance(error, SynclineError | OSError):
        return str(error)
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__


def _traceback(exc_info: ExcInfo) -> str:
    """Where it happened, without the words of what nobody foresaw."""
    lines: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None:
        kind = type(error).__name__
        said = words(error)
        told = said if said.startswith(kind) else f"{kind}: {said}"
        lines = [*traceback.format_tb(error.__traceback__), f"{told}\n", *lines]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(lines).rstrip()


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return MASK if value and _SECRET_KEY.search(key) else scrub(value)
    if isinstance(value, bool | int | float | None):
        return value
    if _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {k: _masked(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, item) for item in value]
    return scrub(str(value))


def _short_phone(found: re.Match[str]) -> str:
    last = found["a"] or found["b"] or found["c"]
    return f"{found['plus'] or ''}…{last}"


def _json(_logger: object, _method: str, event: _Event) -> str:
    line = {key: event.pop(key, None) for key in ("timestamp", "level", "event")}
    line.update(event)
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _readable() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), pad_event_to=28, sort_keys=False
    )


class _Lines:
    """Writes whole lines to what standard error is at that moment."""

    def __init__(self, *_: object) -> None: ...

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = warn = error = critical = exception = log = failure = msg


class _FromStandardLibrary(logging.Handler):
    """Sends what uvicorn, sqlalchemy and others log down our own path."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            log = structlog.get_logger()
            getattr(log, record.levelname.lower(), log.info)(record.getMessage(), **event)
        except Exception:
            self.handleError(record)
