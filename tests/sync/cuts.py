"""A process that dies after its k-th durable step, and the one that starts in its place.

A durable step is a commit, or a call that changed a CRM: whoever dies between two of them might
as well have died right after the first. Both are counted from outside, so that no step can be
forgotten. Once dead, nothing that still runs commits or calls any more.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import sqlalchemy as sa

from app.db.engine import Database
from app.sdk.connector import Account, Connector
from app.sdk.registry import Registry
from tests.connectors.conftest import Control
from tests.sync.town import Town, founded

_ONLY_READS = re.compile(r"/(search|batch/read)(/|$)")


class Died(BaseException):
    """The process is gone; nothing may catch this as an error of its own."""


@dataclass
class Life:
    """Counts the durable steps of a process, and ends it after one of them."""

    last: int | None = None
    steps: int = 0
    dead: bool = False

    def step(self) -> None:
        """A durable step was made."""
        self.steps += 1
        if self.steps == self.last:
            self.dead = True
        self.go_on()

    def go_on(self) -> None:
        if self.dead:
            raise Died


class _Calls(httpx.AsyncHTTPTransport):
    """The wire of a mortal: the CRM has done what was asked, the answer may not be heard."""

    def __init__(self, life: Life) -> None:
        super().__init__(verify=False)  # plain HTTP; certificates take long to load
        self.life = life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.life.go_on()
        answer = await super().handle_async_request(request)
        if request.method != "GET" and not _ONLY_READS.search(request.url.path):
            self.life.step()
        self.life.go_on()
        return answer


@dataclass(frozen=True)
class Mortal(Registry):
    """A registry whose connectors make their calls as long as the process lives."""

    life: Life | None = None

    def connect(
        self, account: Account, store: Any = None, transport: Any = None, **more: Any
    ) -> Connector:
        assert self.life is not None
        return super().connect(account, store, _Calls(self.life), **more)


def _watch_commits(database: Database, life: Life) -> None:
    engine = database.engine.sync_engine
    commit = engine.dialect.do_commit

    def committed(connection: Any) -> None:
        life.go_on()
        cursor = connection.cursor()
        cursor.execute("select pg_current_xact_id_if_assigned() is not null")
        (wrote,) = cursor.fetchone()
        commit(connection)
        if wrote:
            life.step()

    engine.dialect.do_commit = committed  # type: ignore[method-assign, assignment]


@asynccontextmanager
async def process(url: str, control: Control, life: Life) -> AsyncIterator[Town]:
    """A process that lives this long, with nothing left over from the one before it."""
    loaded = Registry.load()
    registry = Mortal(loaded.connectors, loaded._house, loaded._routes, life=life)
    database = Database(url)
    settings: Any = {"deletes": "propagate", "registry": registry}
    async with founded(database, control, **settings) as town:
        _watch_commits(database, life)
        yield town
    await database.close()


async def end(town: Town) -> dict[str, Any]:
    """How things stand in our books and in the CRMs, without ids and times."""
    queries = {
        "records": "select entity, state, "
        "fields - '{company,companies,people,owner}'::text[] from records",
        "links": "select entity, account, state, ended from links",
        "outbox": "select account, entity, state from outbox",
        "unfinished": "select type, state from events where state <> 'done'",
        "unread": "select account, state from deliveries where state <> 'done'",
        "cards": "select kind, entity, account, field from conflicts where state = 'open'",
    }
    found: dict[str, Any] = {}
    async with town.db.transaction() as db:
        for name, query in queries.items():
            rows = await db.execute(sa.text(query))
            found[name] = sorted(repr(tuple(row)) for row in rows)
    shown = await town.control.call("GET", "/_sandbox/records")
    for vendor in ("close", "hubspot"):
        found[vendor] = {title: _bare(rows) for title, rows in shown[vendor].items()}
    return found


def _bare(rows: list[Mapping[str, Any]]) -> list[str]:
    return sorted(repr([v for n, v in row.items() if not _PASSING.search(n)]) for row in rows)


_PASSING = re.compile(r"^id$|_id$|ids$|date|time|at$|created|updated|version")


async def wrote(control: Control) -> dict[str, int]:
    """How many rows were written in the CRMs, by vendor, type and verb."""
    counts = await control.call("GET", "/_sandbox/counts")
    return {
        f"{vendor} {type} {verb}": n
        for vendor, totals in counts.items()
        for type, verbs in totals["rows"].items()
        for verb, n in verbs.items()
    }


async def lived(url: str, control: Control, life: Life) -> bool:
    """Whether the process outlived the work that was waiting for it."""
    async with process(url, control, life) as town:
        try:
            await town.go_on()
        except BaseException:
            if not life.dead:
                raise
    return not life.dead
