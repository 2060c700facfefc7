"""Logging: one line per unit of work, and nothing in it that must not be."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import sqlalchemy.exc
import structlog

from app import logs
from app.errors import RejectedError, quoted


class Written:
    """What was logged since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().err

    def __call__(self) -> list[Any]:
        return [orjson.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What was logged; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield Written(capsys)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configure(log: str = "json", log_level: str = "INFO") -> None:
    logs.configure(SimpleNamespace(log=log, log_level=log_level))


def test_a_line_is_json_with_its_bound_values(lines):
    configure()
    with structlog.contextvars.bound_contextvars(delivery=7):
        logs.get(lane="out").info("push.finished", account="close", wrote=3)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "push.finished",
        "lane": "out",
        "delivery": 7,
        "account": "close",
        "wrote": 3,
    }


@pytest.mark.parametrize(
    "key",
    ["token", "access_token", "client_secret", "password", "Authorization", "api_key", "cookie"],
)
def test_secrets_are_masked_by_their_key_at_any_depth(lines, key):
    configure()
    logs.get().info("x.done", **{key: "hunter2"}, nested={"deep": [{key: "hunter2"}]})

    text = lines.text()
    assert "hunter2" not in text
    assert orjson.loads(text)["nested"]["deep"] == [{key: "***"}]


def test_counts_are_not_secrets(lines):
    configure()
    logs.get().info("x.done", tokens=3, password=None)

    (line,) = lines()
    assert (line["tokens"], line["password"]) == (3, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to ada.lovelace@example.com now", "write to a…@example.com now"),
        ("/contacts?email=ada%40example.com", "/contacts?email=a…@example.com"),
        ("call +1 415 555 0155", "call +1…55"),
        ("call +493012345678, or not", "call +4…78, or not"),
        ("(415) 555-0155 and 415-555-0199", "…55 and …99"),
        ("postgresql://syncline:hunter2@db:5432/x", "postgresql://syncline:***@db:5432/x"),
        ("postgresql://syncline:hunt@er2@db/x", "postgresql://syncline:***@db/x"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
    ],
)
def test_personal_data_is_masked_by_its_look(text, shown):
    assert logs.scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T03:12:00.123456+00:00",
        "0193b3c4-1234-7123-8123-123456789012",
        "hubspot/contacts/50123456789",
        "lead_bk4Qp5TMSvUGtqDGEmXkzrJhjm5hFPBOEl53iOgnOs5",
        "sig 3f2a1b5c-415-55501551",
        "http://127.0.0.1:8000/health/lanes",
    ],
)
def test_ids_and_times_stay(text):
    assert logs.scrub(text) == text


def test_a_traceback_says_where_and_not_what_a_bug_quotes(lines):
    configure()
    try:
        try:
            raise ValueError("no owner Ada Lovelace")
        except ValueError as bug:
            raise RejectedError(
                f"it answered 400: {quoted('Ada Lovelace')} of a@b.example"
            ) from bug
    except RejectedError:
        logs.get().exception("push.failed")

    (line,) = lines()
    assert "in test_a_traceback_says_where" in line["exception"]
    assert "\nValueError\n" in line["exception"]
    assert line["exception"].endswith("RejectedError: it answered 400: “…” of a…@b.example")


def test_words_of_strangers_are_left_out():
    said = f"it answered 400: {quoted('Ada “the first” is unknown')}, twice"
    assert logs.scrub(said) == "it answered 400: “…”, twice"
    assert logs.scrub("it was cut: “Ada Love") == "it was cut: “…”"


def test_what_the_database_refused_is_not_quoted():
    said = Exception("Key (name)=(Ada)")
    refused = sqlalchemy.exc.IntegrityError("insert", {"name": "Ada"}, said)
    assert logs.words(refused) == "IntegrityError"


def test_the_standard_library_goes_the_same_way(lines):
    configure()
    logging.getLogger("uvicorn.error").warning("100%% of %s", {"mail": "ada@example.com"})
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("sqlalchemy.pool").exception("lost")

    first, second = lines()
    assert first["event"] == "100% of {'mail': 'a…@example.com'}"
    assert (first["logger"], first["level"]) == ("uvicorn.error", "warning")
    assert "OSError: gone" in second["exception"]


def test_chatter_is_left_out(lines):
    configure()
    logging.getLogger("httpx").info("HTTP Request: GET https://api.example")
    logs.get().debug("push.started")

    assert lines() == []


def test_debug_shows_when_asked(lines):
    configure(log_level="DEBUG")
    logs.get().debug("push.started")

    assert lines()[0]["event"] == "push.started"


def test_a_terminal_gets_readable_lines(lines):
    configure(log="console")
    logs.get().info("push.finished", account="close", who="ada@example.com")

    text = lines.text()
    assert "push.finished" in text
    assert "account=close who=a…@example.com" in text


def test_a_value_that_json_does_not_know_is_text(lines):
    configure()
    logs.get().info("x.done", error=ValueError("odd"), path={1: object})

    assert lines()[0]["error"] == "odd"
