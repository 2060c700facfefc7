"""The only module that imports httpx: signs in, keeps to the quota, and sorts the answers."""

from __future__ import annotations

import asyncio
import base64
import re
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import httpcore
import httpx
import orjson
import stamina
from pydantic import SecretStr

from app import clock, logs, metrics
from app.domain.manifest import Manifest
from app.domain.values import NOTHING
from app.domain.windows import Rate
from app.errors import (
    AccountError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    StaleError,
    SyncError,
    TransientError,
    UnknownOutcomeError,
    quoted,
)
from app.sdk.addresses import CarefulNetwork, PrivateAddressError, looked_up
from app.sdk.quota import Quota

Transport: TypeAlias = httpx.AsyncBaseTransport
_T = TypeVar("_T")
_R = TypeVar("_R")

TIMEOUT = httpx.Timeout(30, connect=5, pool=30)
POOL = httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=20)
LARGEST_ANSWER = 64 * 1024 * 1024
LONGEST_REASON = 500
#: In-process retries stay below this; what takes longer is the lane's business.
SHORT_WAIT = 3.0

log = logs.get()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the CRM said: lower-case header names, and the JSON (None for an empty body)."""

    status: int
    headers: Mapping[str, str]
    data: Any


@dataclass(frozen=True, slots=True)
class Reason:
    """The vendor's own words, and the field and value it objects to where it says so."""

    text: str
    field: str | None = None
    value: str | None = None


class Dialect:
    """How a vendor words refusals and limits; the defaults follow common practice."""

    #: Whether the vendor counts calls by path and method, so that each needs its own window.
    counts_by_path = False

    def is_signed_out(self, answer: Answer) -> bool:
        """Whether the credential of the call is good no more, and another may be."""
        return answer.status == 401

    def sort(self, answer: Answer) -> type[SyncError] | None:
        """What a refusal is where its body says more than its status; else None."""
        return None

    def explain(self, answer: Answer) -> Reason:
        """Why the vendor refused."""
        data = answer.data
        if isinstance(data, dict):
            said = data.get("message") or data.get("error") or data.get("errors")
            return Reason(said if isinstance(said, str) else orjson.dumps(said or data).decode())
        return Reason(data if isinstance(data, str) else "")

    def retry_at(self, answer: Answer, now: datetime) -> datetime:
        """When a rate-limited call may be made again."""
        return now + timedelta(seconds=retry_after(answer, now) or 1.0)

    def rate(self, answer: Answer) -> Rate:
        """The quota as the headers tell it."""
        return Rate()


def retry_after(answer: Answer, now: datetime) -> float | None:
    """The seconds of a Retry-After header, in either of its two forms."""
    text = answer.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return None


async def each(
    items: Iterable[_T], do: Callable[[_T], Awaitable[_R]], *, at_once: int = 8
) -> list[_R]:
    """Do one thing to each item, some at once, answers in order; the first error ends it all."""
    turn = asyncio.Semaphore(at_once)

    async def one(item: _T) -> _R:
        async with turn:
            return await do(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


# ------------------------------------------------------------------------------ the wire


@dataclass(frozen=True, slots=True)
class _Received:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """HTTP to one origin, and those that it names: no redirects, bounded answers, our own errors.

    ``private_hosts`` are names that may lead into a private network.
    """

    def __init__(
        self,
        base_url: str,
        transport: Transport | None = None,
        *,
        private_hosts: Collection[str] = (),
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.origin = origin_of(self.base_url)
        self._origins = {self.origin}
        self._private_hosts = private_hosts
        self._http = httpx.AsyncClient(
            transport=transport or _public(private_hosts),
            timeout=TIMEOUT,
            follow_redirects=False,
            # Proxies and .netrc of the environment must not see or change our credentials.
            trust_env=False,
            headers={
                "accept": "application/json",
                "accept-encoding": "gzip",
                "user-agent": "Syncline",
            },
        )

    def admit(self, url: str) -> None:
        """Calls may go to the origin of this address as well; whoever says so has looked at it."""
        self._origins.add(origin_of(url))

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NOTHING,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
    ) -> _Received:
        """One request to our origin and its whole answer. Raises TransientError, and
        UnknownOutcomeError for what was sent and not answered.
        """
        origin = next((one for one in self._origins if url.startswith(f"{one}/")), None)
        if origin is None or re.search(r"/\.{1,2}(/|$)", url):
            raise RejectedError(f"{method}: an address outside {self.origin} was refused")
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise AccountError("the credentials have characters that HTTP cannot carry")
        try:
            async with self._http.stream(
                method, url, headers=dict(headers), params=params, content=content
            ) as response:
                return _Received(
                    response.status_code,
                    {name.lower(): value for name, value in response.headers.items()},
                    await _bounded(response),
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _unreached(origin, error) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise UnknownOutcomeError(f"{origin} did not answer: {_words(error)}") from error
        except httpx.InvalidURL as error:
            raise RejectedError(f"{method}: this is not an address: {_words(error)}") from error

    async def post_form(self, url: str, form: Mapping[str, str]) -> Answer:
        """A form, as token endpoints want it."""
        body = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in form.items())
        headers = {"content-type": "application/x-www-form-urlencoded"}
        got = await self.send("POST", url, headers=headers, content=body.encode())
        try:
            data = orjson.loads(got.body) if got.body else None
        except orjson.JSONDecodeError:
            data = None
        return Answer(got.status, got.headers, data)

    async def look_up(self, url: str) -> list[str]:
        parts = urlsplit(url)
        try:
            return await looked_up(
                parts.hostname or "", parts.port or 443, self._private_hosts, TIMEOUT.connect
            )
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise _unreached(origin_of(url), error) from error

    async def aclose(self) -> None:
        await self._http.aclose()


def _unreached(origin: str, error: Exception) -> SyncError:
    if isinstance(error, PrivateAddressError) or isinstance(error.__cause__, PrivateAddressError):
        return AccountError(
            f"{origin} leads into a private network: if it is meant to, name the host in"
            " private_hosts"
        )
    return TransientError(f"{origin} cannot be reached: {_words(error)}")


def origin_of(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _public(private_hosts: Collection[str]) -> Transport:
    """The way out; httpx has no setting for who looks names up."""
    transport = httpx.AsyncHTTPTransport(limits=POOL, trust_env=False)
    transport._pool._network_backend = CarefulNetwork(private_hosts)
    return transport


async def _bounded(response: httpx.Response) -> bytes:
    """The whole answer, unpacked by us: what unpacks itself is bounded too late."""
    if response.is_stream_consumed:
        return response.content  # it never came over a network
    unpack = _unpacking(response.headers.get("content-encoding", ""))
    parts, size = [], 0
    async for packed in response.aiter_raw():
        part = unpack(packed, LARGEST_ANSWER + 1 - size) if unpack else packed
        size += len(part)
        if size > LARGEST_ANSWER:
            raise httpx.DecodingError("the answer is larger than we read")
        parts.append(part)
    return b"".join(parts)


def _unpacking(encoding: str) -> Callable[[bytes, int], bytes] | None:
    """How to unpack at most so many bytes; None where nothing is packed."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            unpacked = zlib.decompressobj(32 + zlib.MAX_WBITS)  # either header

            def unpack(packed: bytes, most: int) -> bytes:
                try:
                    return unpacked.decompress(packed, most)
                except zlib.error as error:
                    raise httpx.DecodingError("the answer cannot be unpacked") from error

            return unpack
    raise httpx.DecodingError("the answer is packed in a way that we did not ask for")


def _words(error: Exception) -> str:
    """`ReadTimeout` as `read timeout`; never the text, which may quote what we sent."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


# ------------------------------------------------------------------------------- sign in


class TokenSource(Protocol):
    """Where the credential of a call comes from."""

    @property
    def base_url(self) -> str | None:
        """Where the calls of this credential go; None: to the address of the account.

        To be asked in the moment after `header`, with nothing awaited in between.
        """
        ...

    async def header(self) -> dict[str, str]:
        """The headers that sign a call in."""
        ...

    async def refresh(self, refused: dict[str, str]) -> bool:
        """Get a new credential after these headers met a 401; False where there is none."""
        ...


class Basic:
    """HTTP Basic with a user name and an empty password: how API keys travel."""

    base_url = None

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    async def header(self) -> dict[str, str]:
        text = f"{self._key.get_secret_value()}:"
        return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    async def refresh(self, refused: dict[str, str]) -> bool:
        return False


class Bearer:
    """A static token."""

    base_url = None

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    async def header(self) -> dict[str, str]:
        return bearer(self._token.get_secret_value())

    async def refresh(self, refused: dict[str, str]) -> bool:
        return False


def bearer(token: str) -> dict[str, str]:
    """The header of a bearer token."""
    return {"authorization": f"Bearer {token}"}


# ------------------------------------------------------------------------ answers -> errors

_CLASSES: Mapping[str, type[SyncError]] = {
    "transient": TransientError,
    "stale": StaleError,
    "rejected": RejectedError,
    "account": AccountError,
}
_STATUSES: Mapping[int, type[SyncError]] = {
    401: AccountError,
    402: AccountError,
    403: AccountError,
    404: NotFoundError,
    408: TransientError,
    409: StaleError,
    410: NotFoundError,
    412: StaleError,
    423: TransientError,
    425: TransientError,
}
#: Answers that do not tell whether a write was done before something broke. 503 tells: it
#: was turned away.
_UNSURE = frozenset({408, 500, 502, 504, 520, 521, 522, 523, 524})


def error_class(status: int, manifest: Manifest) -> type[SyncError]:
    """The class of a refusal: the manifest's own row, else the default table."""
    if (own := manifest.errors.get(status)) is not None:
        return _CLASSES[own]
    if (known := _STATUSES.get(status)) is not None:
        return known
    return RejectedError if 400 <= status < 500 else TransientError


def _is_short(error: Exception) -> bool | float:
    """Whether, or after how many seconds, to try at once again."""
    if isinstance(error, RateLimitedError):
        wait = (error.retry_at - clock.now()).total_seconds()
        return max(0.0, wait) if wait <= SHORT_WAIT else False
    return isinstance(error, TransientError)


def _is_short_limit(error: Exception) -> bool | float:
    """Only a short rate limit: the call was turned away, so even a write may be repeated."""
    return isinstance(error, RateLimitedError) and _is_short(error)


class Client:
    """Calls to the API of one account."""

    def __init__(
        self,
        wire: Wire,
        auth: TokenSource,
        manifest: Manifest,
        quota: Quota,
        *,
        account: str,
        dialect: Dialect | None = None,
        secrets: Sequence[SecretStr] = (),
    ) -> None:
        self._wire, self._auth, self._manifest, self.quota = wire, auth, manifest, quota
        self._account = account
        self._dialect = dialect or Dialect()
        self._secrets = secrets
        self._sent: tuple[str, ...] = ()  # the credentials of the last call, to keep out of texts

    @property
    def base_url(self) -> str:
        return self._wire.base_url

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        at: Mapping[str, str] = NOTHING,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        group: str = "default",
        creates: bool = False,
        reads: bool | None = None,
        accept: Collection[int] = (),
        headers: Mapping[str, str] = NOTHING,
        text: bool = False,
        signs_in: bool = True,
        repeats: bool = True,
    ) -> Answer:
        """One call; the answer of a 2xx or of an ``accept``-ed status.

        ``path`` is a template below the base URL (``/lead/{id}/``) and ``at`` its values.
        ``reads`` marks a POST that only asks (a search): it may be repeated here. ``creates``
        marks one that must never be repeated blindly: where it is not known whether it was
        done, UnknownOutcomeError is raised. ``text`` says that no JSON is asked for. ``content`` is
        sent as it is, its type among the ``headers``. One that ``signs_in`` not carries a
        credential of its own; one that ``repeats`` not is made once. Errors say method, path,
        status and the vendor's reason, never a credential.
        """
        if self._dialect.counts_by_path:
            group = f"{group} {method} {path}"
        reads = method in ("GET", "HEAD") if reads is None else reads
        unsure = creates or (method in ("POST", "PATCH") and not reads)
        url = path.format_map({name: quote(value, safe="") for name, value in at.items()})
        if json is not None:
            content, headers = orjson.dumps(json), {**headers, "content-type": "application/json"}
        params = {k: v for k, v in (params or {}).items() if v is not None} or None

        async def once() -> Answer:
            answer = await self._signed_in(
                method,
                url,
                template=path,
                params=params,
                content=content,
                group=group,
                headers=headers,
                text=text,
                signs_in=signs_in,
            )
            if 200 <= answer.status < 300 or answer.status in accept:
                return answer
            error = self._error(answer, f"{method} {url}", group=group, unsure=unsure)
            await self.quota.tell(group)
            raise error

        on = _is_short if reads else _is_short_limit
        async for attempt in stamina.retry_context(
            on=on,
            attempts=3 if repeats else 1,
            timeout=SHORT_WAIT,
            wait_initial=0.2,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with attempt:
                try:
                    return await once()
                except UnknownOutcomeError as error:
                    if unsure:
                        raise
                    # Asking again, or setting the same values again, does no harm.
                    raise TransientError(error.reason) from error
        raise AssertionError("stamina either returns or raises")

    async def sign_in(self, refused: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
        """Where calls go, and the headers that sign one in, for what does not speak HTTP.

        ``refused`` are headers that were refused: others take their place where there are any.
        """
        if refused is not None:
            await self._auth.refresh(dict(refused))
        header = await self._auth.header()
        return self._auth.base_url or self._wire.base_url, header

    async def look_up(self, url: str) -> list[str]:
        """The addresses to call for this URL, for what does not speak HTTP.

        Raises AccountError where it leads into a private network, and TransientError.
        """
        return await self._wire.look_up(url)

    async def _signed_in(self, method: str, url: str, *, signs_in: bool, **rest: Any) -> Answer:
        if not signs_in:
            return await self._once(
                method, url, header=NOTHING, base_url=self._wire.base_url, **rest
            )
        header = await self._auth.header()
        base_url = self._auth.base_url or self._wire.base_url
        answer = await self._once(method, url, header=header, base_url=base_url, **rest)
        if self._dialect.is_signed_out(answer) and await self._auth.refresh(header):
            header = await self._auth.header()
            base_url = self._auth.base_url or self._wire.base_url
            answer = await self._once(method, url, header=header, base_url=base_url, **rest)
        self._sent = tuple(value.rpartition(" ")[2] for value in header.values())
        return answer

    async def _once(
        self,
        method: str,
        url: str,
        *,
        template: str,
        header: Mapping[str, str],
        base_url: str,
        params: Mapping[str, Any] | None,
        content: bytes | None,
        group: str,
        headers: Mapping[str, str],
        text: bool,
    ) -> Answer:
        headers = {**headers, **header}
        taken, rate = await self.quota.take(group), None
        try:
            async with self._measured(method, template) as note:
                got = await self._wire.send(
                    method,
                    base_url + url,
                    headers=headers,
                    params=params,
                    content=content,
                )
                note(got.status)
            answer = Answer(got.status, got.headers, _said(got, f"{method} {url}", text=text))
            rate = self._dialect.rate(answer)
        finally:
            self.quota.landed(taken, group, rate)
        await self.quota.tell(group)
        return answer

    @asynccontextmanager
    async def _measured(self, method: str, template: str) -> AsyncIterator[Callable[[int], None]]:
        start, status = clock.ticks(), None

        def note(seen: int) -> None:
            nonlocal status
            status = seen

        try:
            yield note
        finally:
            seconds = clock.ticks() - start
            metrics.VENDOR_CALLS.labels(self._account, metrics.status_class(status)).inc()
            metrics.VENDOR_CALL_SECONDS.labels(self._account).observe(seconds)
            log.debug(
                "vendor.called",
                account=self._account,
                method=method,
                path=template,
                status=status,
                ms=round(seconds * 1000),
            )

    def _error(self, answer: Answer, call: str, *, group: str, unsure: bool) -> SyncError:
        now = clock.now()
        said = self._dialect.explain(answer)
        why = quoted(said.text) if said.text else "without a reason"
        text = self._clean(f"{call} answered {answer.status}: {why}")
        kind = self._dialect.sort(answer)
        limited = answer.status == 429 or (answer.status == 477 and retry_after(answer, now))
        if limited or kind is RateLimitedError:
            at = self._dialect.retry_at(answer, now)
            self.quota.pause((at - now).total_seconds(), group)
            return RateLimitedError(at, text)
        if 300 <= answer.status < 400:
            return TransientError(
                f"{call} answered {answer.status}: redirects are not followed; check base_url"
            )
        kind = kind or error_class(answer.status, self._manifest)
        if unsure and answer.status in _UNSURE and issubclass(kind, TransientError):
            return UnknownOutcomeError(text)
        return kind(
            text,
            field=said.field,
            value=None if said.value is None else self._clean(said.value),
        )

    def _clean(self, text: str) -> str:
        """Short, and without our credentials should the vendor quote them."""
        for secret in (*(s.get_secret_value() for s in self._secrets), *self._sent):
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text[:LONGEST_REASON]


def _said(got: _Received, call: str, *, text: bool) -> Any:
    if not got.body:
        return None
    if text and 200 <= got.status < 300:
        return got.body.decode("utf-8", "replace")
    try:
        return orjson.loads(got.body)
    except orjson.JSONDecodeError:
        if 200 <= got.status < 300:
            raise UnknownOutcomeError(
                f"{call} answered {got.status} with something that is not JSON"
            ) from None
        return got.body[:LONGEST_REASON].decode("utf-8", "replace")
