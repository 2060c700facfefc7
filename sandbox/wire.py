"""What a vendor sees of HTTP: a call comes in, an answer goes out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote

import orjson

if TYPE_CHECKING:
    from sandbox.later import Later
    from sandbox.options import Options

Json = dict[str, Any]


def now() -> datetime:
    """The present in UTC, in whole milliseconds as both vendors keep it."""
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is calling, in the words of the vendor's audit trail."""

    source: str
    source_id: str | None = None
    user: str | None = None
    tenant: str = ""
    token: str = ""

    @property
    def is_person(self) -> bool:
        return self.source == "CRM_UI"


PERSON = Actor("CRM_UI")
NOBODY = Actor("")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, read completely."""

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: datetime = field(default_factory=now)
    actor: Actor = NOBODY
    base: str = ""  # what a vendor took off the front of the path

    def one(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        return self.query[name][-1] if name in self.query else default

    def many(self, name: str) -> list[str]:
        """All values of a query parameter; repeated and comma-separated forms both count."""
        return [part for text in self.query.get(name, ()) for part in text.split(",") if part]

    @property
    def person(self) -> str:
        """The e-mail address of the person who acts, if it matters which."""
        return self.headers.get("x-sandbox-person", "").lower()

    def flag(self, name: str) -> bool:
        """A yes-or-no query parameter; clients write `true` or `True`."""
        return self.one(name).lower() == "true"

    def json(self) -> Any:
        """The body as JSON; `ValueError` if it is not."""
        return orjson.loads(self.body) if self.body else {}

    def form(self) -> dict[str, str]:
        """The body as an HTML form."""
        return {name: values[-1] for name, values in parse_qs(self.body.decode()).items()}

    def by(self, actor: Actor) -> "Call":
        return replace(self, actor=actor)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response; `body` is sent as JSON unless it is already bytes."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        return orjson.dumps(self.body)


class RefusedError(Exception):
    """The vendor would not do this; carries what it would say instead."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


Handler = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path template such as `/lead/{id}/`, with what answers it."""

    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler


class Routes:
    """A vendor's paths, in order: the first match answers."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def on(self, method: str, template: str) -> Callable[[Handler], Handler]:
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + r"\Z")

        def mark(handler: Handler) -> Handler:
            self._routes.append(Route(method, template, pattern, handler))
            return handler

        return mark

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        """The route of a call and its path values; `LookupError` if no route has the path."""
        known = False
        for route in self._routes:
            if match := route.pattern.match(path):
                if route.method == method:
                    return route, {k: unquote(v) for k, v in match.groupdict().items()}
                known = True
        if known:
            return None, {}
        raise LookupError(path)


class Vendor(Protocol):
    """What the front asks of a local CRM."""

    name: str
    later: "Later"

    @property
    def options(self) -> "Options": ...
    def answer(self, call: Call) -> Answer: ...
    def drain(self) -> list[tuple[str, str]]: ...
    def reset(self) -> None: ...
    def seed(self, wanted: Json) -> Json: ...
    def staff(self, person: Json, *, active: bool) -> Json: ...
    def history(self, type: str, id: str) -> Json | None: ...
    def tables(self, most: int | None) -> "dict[str, Table]": ...
    def dump(self) -> Json: ...
    def load(self, kept: Json) -> None: ...
    def post(self, target: str, events: list[Json], attempt: int) -> "Post | None": ...


@dataclass(frozen=True, slots=True)
class Table:
    """Records for the page: how many there are, and the newest of them."""

    count: int
    rows: list[Json]


@dataclass(frozen=True, slots=True)
class Post:
    """A webhook request, signed and ready to go."""

    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Window:
    """How a rate limit stands after one more call was counted."""

    limit: int
    remaining: int
    reset: float
    exceeded: bool


class Quota:
    """At most `limit` calls per rolling window and key. A limit of 0 never refuses."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._calls: dict[str, list[datetime]] = {}

    def take(self, key: str, at: datetime) -> Window:
        """Count a call unless the window is full."""
        since = at - timedelta(seconds=self.seconds)
        calls = [call for call in self._calls.get(key, ()) if call > since]
        full = len(calls) >= self.limit > 0
        if not full:
            calls.append(at)
        self._calls[key] = calls
        reset = self.seconds - (at - calls[0]).total_seconds()
        return Window(self.limit, max(self.limit - len(calls), 0), reset, full)

    def clear(self) -> None:
        self._calls.clear()
