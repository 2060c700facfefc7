"""The service's REST API, as the commands call it."""

from __future__ import annotations

import http.client
import ipaddress
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

import orjson

from app.errors import ConfigError, SynclineError
from app.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"
TOKEN_FILE = "api-token"  # noqa: S105 - its name
URL_FILE = "service-url"
_PATIENCE = 120  # seconds; `accounts test` asks a CRM meanwhile
_PAGE = 100
_NONE: Mapping[str, str] = MappingProxyType({})


class UnreachableError(SynclineError):
    """No service answers, or it cannot work now."""


class RefusedError(SynclineError):
    """The service understood and said no."""


class NotFoundError(RefusedError):
    """The service knows of no such thing."""


@dataclass(frozen=True, slots=True)
class Rest:
    """One running service; ``token`` is read only when a call needs it."""

    url: str
    home: Path
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings, url: str | None = None) -> Rest:
        """The service that --url or SYNCLINE_URL names, else the one that runs here, else
        the one at PUBLIC_URL.
        """
        found = url or settings.url or _read(settings.home / URL_FILE) or settings.public_url
        token = settings.api_token.get_secret_value() if settings.api_token else None
        return cls((found or DEFAULT_URL).rstrip("/"), settings.home, token)

    def get(self, path: str, **query: object) -> Any:
        return self.call("GET", path, query=query)

    def post(
        self,
        path: str,
        content: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] = _NONE,
    ) -> Any:
        return self.call("POST", path, content=content or {}, headers=headers)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def list(self, path: str, *, limit: int, **query: object) -> dict[str, Any]:
        """Up to ``limit`` rows of a paged list, however many pages they take."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            size = min(limit - len(items), _PAGE)
            page = self.get(path, **query, cursor=cursor, limit=size)
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor or len(items) >= limit:
                return {**page, "items": items}

    def download(self, path: str, file: BinaryIO) -> None:
        """Write what is there into this file, however long it is."""
        try:
            with _opener(self.url).open(self._request("GET", path), timeout=_PATIENCE) as answer:
                shutil.copyfileobj(answer, file)
        except urllib.error.HTTPError as error:
            with error:
                said = _sentence(_json(error.read())) or f"HTTP {error.code}"
            raise (NotFoundError if error.code == 404 else RefusedError)(said) from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.url} broke off ({_reason(error)})") from None

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = _NONE,
    ) -> Any:
        """The JSON of a good answer. Raises UnreachableError, RefusedError, ConfigError."""
        status, answer = self.ask(method, path, query=query, content=content, headers=headers)
        if status < 300:
            return answer
        said = _sentence(answer) or f"HTTP {status}"
        if status >= 500:
            said = f"{self.url} answers {status}: {said}"
        if status == 401:
            raise ConfigError(
                f"{self.url}: {said} It is kept in SYNCLINE_HOME ({self.home}) of a service that "
                "made its own."
            )
        if status in (502, 503, 504):
            raise UnreachableError(said)
        raise (NotFoundError if status == 404 else RefusedError)(said)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = _NONE,
    ) -> tuple[int, Any]:
        """Status and JSON of any answer. Raises UnreachableError where there is none."""
        given = {k: v for k, v in (query or {}).items() if v is not None}
        query_string = f"?{urlencode(given, doseq=True)}" if given else ""
        request = self._request(method, path + query_string, content, headers)
        try:
            with _opener(self.url).open(request, timeout=_PATIENCE) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                f"no Syncline answers at {self.url} ({_reason(error)}). `syncline serve` starts "
                "one; --url or SYNCLINE_URL names another."
            ) from None

    def _request(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        more: Mapping[str, str] = _NONE,
    ) -> urllib.request.Request:
        """A call with our token, where it belongs. Raises ConfigError."""
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ConfigError(f"{self.url} is no URL that starts with https:// or http://")
        headers = {"Accept": "application/json", "User-Agent": "syncline-cli", **more}
        if path.startswith("/api") and (token := self.token or _read(self.home / TOKEN_FILE)):
            headers["Authorization"] = f"Bearer {token}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        return urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.url}{path}",
            method=method,
            headers=headers,
            data=None if content is None else orjson.dumps(content),
        )


def part(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _sentence(problem: Any) -> str | None:
    """What a problem document says."""
    if not isinstance(problem, Mapping):
        return None
    title, detail = problem.get("title"), problem.get("detail")
    return str(detail or title) if detail or title else None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__).lower()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to whoever it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(address: str) -> urllib.request.OpenerDirector:
    """A way out: by the environment's proxy, except to this machine."""
    proxies: dict[str, str] | None = {} if _is_local(urlsplit(address).hostname or "") else None
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
