"""The client: every answer has its class, and no secret is in any of them."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest
import stamina
import structlog
from pydantic import SecretStr

from app import clock
from app.domain.manifest import Manifest
from app.errors import (
    AccountError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
    UnknownOutcomeError,
)
from app.sdk.client import (
    LARGEST_ANSWER,
    Answer,
    Basic,
    Bearer,
    Client,
    Dialect,
    Wire,
    each,
    retry_after,
)
from app.sdk.quota import Quota

SECRET = "very-secret-key-0001"
BASE = "https://crm.example/api/v1"


@pytest.fixture(autouse=True)
def quick_retries():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def manifest(**more) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "x",
            "title": "X",
            "docs": "https://x.example",
            "base_url": BASE,
            "entities": {},
            "signature": ["close-sig"],
            "webhook": {"snapshot": "thin", "events": {}, "tolerance": 300},
            "whoami": "/me/",
            "credentials": [["api_key"]],
            **more,
        }
    )


class Server:
    """Answers in turn; the last one again and again."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            said = {"message": f"says {answer}"}
            return httpx.Response(answer, json=said, headers={"retry-after": "60"})
        assert isinstance(answer, httpx.Response)
        return answer


def client(*answers, auth=None, dialect=None, **more) -> tuple[Client, Server]:
    server = Server(*answers)
    wire = Wire(BASE, httpx.MockTransport(server))
    key = SecretStr(SECRET)
    made = Client(
        wire,
        auth or Basic(key),
        manifest(**more),
        Quota({}),
        account="acme",
        dialect=dialect,
        secrets=[key],
    )
    return made, server


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, TransientError),
        (400, RejectedError),
        (401, AccountError),
        (402, AccountError),
        (403, AccountError),
        (404, NotFoundError),
        (405, RejectedError),
        (408, TransientError),
        (409, StaleError),
        (410, NotFoundError),
        (412, StaleError),
        (415, RejectedError),
        (418, RejectedError),
        (422, RejectedError),
        (423, TransientError),
        (429, RateLimitedError),
        (500, TransientError),
        (502, TransientError),
        (503, TransientError),
        (504, TransientError),
        (522, TransientError),
    ],
)
async def test_each_status_has_its_class(status, kind):
    for method in ("GET", "PUT", "DELETE"):
        made, _ = client(status)
        with pytest.raises(kind) as caught:
            await made.call(method, "/a/{id}/", at={"id": "7"})
        assert type(caught.value) is kind


async def test_the_manifest_has_the_last_word_on_a_status():
    made, _ = client(418, errors={418: "account"})
    with pytest.raises(AccountError):
        await made.call("GET", "/a/")


async def test_errors_say_method_path_status_and_reason_and_are_short():
    made, _ = client(httpx.Response(422, json={"message": "no " + "x" * 2000}))
    with pytest.raises(RejectedError) as caught:
        await made.call("PUT", "/a/{id}/", at={"id": "7"}, json={})
    assert str(caught.value).startswith("PUT /a/7/ answered 422: “no x")
    assert len(str(caught.value)) <= 500


async def test_a_2xx_is_an_answer_and_so_is_what_is_accepted():
    made, server = client(httpx.Response(201, json={"id": 1}, headers={"X-Y": "z"}))
    answer = await made.call("POST", "/a/", json={"n": 1}, params={"q": "a b", "none": None})
    assert (answer.status, answer.data, answer.headers["x-y"]) == (201, {"id": 1}, "z")
    assert str(server.requests[0].url) == f"{BASE}/a/?q=a+b"
    assert server.requests[0].content == b'{"n":1}'
    made, _ = client(404)
    assert (await made.call("GET", "/a/", accept=(404,))).status == 404
    made, _ = client(httpx.Response(204))
    assert (await made.call("DELETE", "/a/")).data is None


async def test_reads_are_repeated_and_writes_are_not():
    made, server = client(503, 503, httpx.Response(200, json={}))
    await made.call("GET", "/a/")
    assert len(server.requests) == 3
    made, server = client(503, httpx.Response(200, json={}))
    await made.call("POST", "/search/", json={}, reads=True)
    assert len(server.requests) == 2
    for method in ("POST", "PUT", "DELETE"):
        made, server = client(503, httpx.Response(200, json={}))
        with pytest.raises(TransientError):
            await made.call(method, "/a/", json={})
        assert len(server.requests) == 1


async def test_what_was_turned_away_for_a_moment_is_repeated_even_if_it_writes():
    made, server = client(
        httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(200, json={})
    )
    await made.call("POST", "/a/", json={}, creates=True)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [408, 500, 502, 504, 524])
async def test_a_create_that_broke_has_an_unknown_outcome(status):
    made, server = client(status)
    with pytest.raises(UnknownOutcomeError):
        await made.call("POST", "/a/", json={}, creates=True)
    assert len(server.requests) == 1


async def test_a_create_that_was_turned_away_has_not_happened():
    made, _ = client(503)
    with pytest.raises(TransientError) as caught:
        await made.call("POST", "/a/", json={}, creates=True)
    assert not isinstance(caught.value, UnknownOutcomeError)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadTimeout(SECRET),
        httpx.ReadError(SECRET),
        httpx.RemoteProtocolError(SECRET),
        httpx.WriteError(SECRET),
    ],
)
async def test_what_was_sent_and_not_answered_is_unknown_for_a_write_only(error):
    made, _ = client(error)
    with pytest.raises(UnknownOutcomeError) as caught:
        await made.call("POST", "/a/", json={}, creates=True)
    assert SECRET not in str(caught.value)
    for method in ("GET", "PUT"):
        made, _ = client(error)
        with pytest.raises(TransientError) as transient:
            await made.call(method, "/a/", json=None)
        assert not isinstance(transient.value, UnknownOutcomeError)


async def test_what_never_left_may_be_tried_again():
    made, _ = client(httpx.ConnectError("refused"))
    with pytest.raises(TransientError) as caught:
        await made.call("POST", "/a/", json={}, creates=True)
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert "https://crm.example cannot be reached: connect error" in str(caught.value)


async def test_a_2xx_that_is_not_json_is_no_answer():
    made, _ = client(httpx.Response(200, text="<html>"))
    with pytest.raises(TransientError, match="not JSON"):
        await made.call("GET", "/a/")
    made, _ = client(httpx.Response(200, text="<html>"))
    with pytest.raises(UnknownOutcomeError):
        await made.call("POST", "/a/", json={}, creates=True)


async def test_an_answer_without_end_is_cut():
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LARGEST_ANSWER // 1_000_000 + 2):
            yield b" " * 1_000_000

    made, _ = client(httpx.Response(200, content=chunks()))
    with pytest.raises(TransientError):
        await made.call("PUT", "/a/")


async def test_redirects_are_not_followed():
    made, server = client(httpx.Response(302, headers={"location": "https://evil.example/"}))
    with pytest.raises(TransientError, match="redirects"):
        await made.call("PUT", "/a/")
    assert {request.url.host for request in server.requests} == {"crm.example"}


@pytest.mark.parametrize(
    "id", ["../../me", "..", ".", "a/../b", "x?y=1#z", "@evil.example", "é/%2e"]
)
async def test_an_id_cannot_leave_its_place_in_the_path(id):
    made, server = client(httpx.Response(200, json={}))
    try:
        await made.call("GET", "/a/{id}/", at={"id": id})
    except RejectedError:
        assert server.requests == []
    else:
        (request,) = server.requests
        assert request.url.host == "crm.example"
        assert request.url.raw_path.startswith(b"/api/v1/a/")
        assert request.url.raw_path.count(b"/") == 5
        assert b"?" not in request.url.raw_path


async def test_a_wire_speaks_to_its_own_origin_only():
    wire = Wire(BASE, httpx.MockTransport(Server(200)))
    for url in ("https://crm.example.evil.example/", "http://crm.example/api", "/a/"):
        with pytest.raises(RejectedError):
            await wire.send("GET", url)


# ------------------------------------------------------------------------------- secrets


@pytest.fixture
def every_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client logs all it has to say, whatever an earlier test configured."""
    before = structlog.get_config()
    structlog.reset_defaults()
    monkeypatch.setattr("app.sdk.client.log", structlog.get_logger())
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("every_line")
@pytest.mark.parametrize("auth", [Basic(SecretStr(SECRET)), Bearer(SecretStr(SECRET))])
@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_no_credential_is_in_an_error_or_a_log_line(auth, status):
    header = (await auth.header())["authorization"].partition(" ")[2]
    echo = {"message": f"bad key {SECRET} / {header}", "errors": [SECRET]}
    made, _ = client(httpx.Response(status, json=echo), auth=auth)
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(Exception) as caught,  # noqa: PT011
    ):
        await made.call("PUT", "/a/{id}/", at={"id": "7"})
    for text in (str(caught.value), repr(caught.value), repr(lines)):
        assert SECRET not in text
        assert header not in text
    (line,) = [one for one in lines if one["event"] == "vendor.called"]
    assert (line["account"], line["method"], line["path"]) == ("acme", "PUT", "/a/{id}/")
    assert line["status"] == status


@pytest.mark.parametrize("key", ["line\nbreak-secret", "sécret-ÿ-secret", "\udcff-secret-secret"])
async def test_a_credential_that_http_cannot_carry_is_not_printed(key):
    made, _ = client(200, auth=Bearer(SecretStr(key)))
    with pytest.raises((AccountError, NotFoundError)) as caught:
        await made.call("GET", "/a/")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


# ---------------------------------------------------------------------------------- 429


async def test_a_429_says_when_and_pauses_its_group():
    made, server = client(httpx.Response(429, headers={"retry-after": "30"}))
    before = clock.now()
    with pytest.raises(RateLimitedError) as caught:
        await made.call("GET", "/a/")
    assert timedelta(seconds=29) < caught.value.retry_at - before < timedelta(seconds=32)
    with pytest.raises(RateLimitedError):
        await made.call("GET", "/b/")
    assert len(server.requests) == 1


async def test_a_vendor_that_moves_house_is_waited_for():
    made, _ = client(httpx.Response(477, headers={"retry-after": "3600"}))
    with pytest.raises(RateLimitedError):
        await made.call("GET", "/a/")


def test_retry_after_has_two_forms():
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def of(text: str) -> float | None:
        return retry_after(Answer(429, {"retry-after": text}, None), now)

    assert of("7") == 7
    assert of("1.5") == 1.5
    assert of(format_datetime(now + timedelta(seconds=90))) == 90
    assert of(format_datetime(now - timedelta(seconds=90))) == 0
    assert of("soon") is None
    assert of("") is None
    assert Dialect().retry_at(Answer(429, {}, None), now) == now + timedelta(seconds=1)


# ---------------------------------------------------------------------------------- each


async def test_each_keeps_the_order_and_the_bound():
    running, most = 0, 0

    async def do(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (n % 3))
        running -= 1
        return n * n

    assert await each(range(20), do, at_once=4) == [n * n for n in range(20)]
    assert most == 4


async def test_the_first_error_ends_it_all():
    finished = []

    async def do(n: int) -> None:
        if n == 1:
            raise RejectedError("no")
        await asyncio.sleep(0.05)
        finished.append(n)

    with pytest.raises(RejectedError):
        await each(range(3), do)
    await asyncio.sleep(0.1)
    assert finished == []


def test_the_default_words_are_found_in_common_shapes():
    def words(data: object) -> str:
        return Dialect().explain(Answer(400, {}, data)).text

    assert words({"message": "m"}) == "m"
    assert words({"error": "e"}) == "e"
    assert orjson.loads(words({"errors": ["a"]})) == ["a"]
    assert words("text") == "text"
    assert words(None) == ""
    assert re.match(r"\{", words({"x": 1}))
