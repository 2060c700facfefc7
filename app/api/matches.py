"""Matching reports: who would be recognised, who would be created, who needs a person."""

from __future__ import annotations

import csv as table
import io
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import DatabaseDep, Desk, DeskDep, known
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_RECORD, EXAMPLE_RESYNC
from app.config import Config
from app.db import lanes, listings, matches
from app.db.engine import Database

router = APIRouter(prefix="/matches", tags=["matches"])

VERDICTS = ("linked", "matched", "new", "unsure", "stays")
Verdict = Literal["linked", "matched", "new", "unsure", "stays"]

COLUMNS = (
    "entity",
    "account",
    "remote_id",
    "name",
    "verdict",
    "other_account",
    "other_id",
    "other_name",
    "record_id",
    "key",
    "reason",
)
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class NewMatch(BaseModel):
    """Whose records to compare."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{}, {"accounts": ["close", "hubspot"]}]},
    )

    accounts: list[str] | None = Field(None, min_length=1, description="Default: all")
    entity: str | None = Field(None, description="Default: all that each account syncs")


class Candidate(BaseModel):
    """A record that this one could be."""

    account: str | None
    remote_id: str | None
    name: str | None
    record_id: UUID | None = Field(description="Null for one that we do not have yet")


class MatchShape(BaseModel):
    """One remote record as it stands against one other account."""

    entity: str
    account: str
    remote_id: str
    name: str | None
    verdict: Verdict
    other: str | None = Field(description="The other account")
    other_id: str | None = Field(description="Its record there, if one was recognised")
    other_name: str | None
    record_id: UUID | None = Field(description="Our record; one still to be made has a passing id")
    key: str | None = Field(description="What agrees")
    reason: str | None
    candidates: list[Candidate] | None = Field(description="For `unsure`: those it could be")


class Tally(BaseModel):
    """How the records of one entity in one account stand against another account."""

    entity: str
    account: str
    other: str | None
    counts: dict[str, int] = Field(description="linked, matched, new, unsure, stays")
    keys: dict[str, int] = Field(description="Those that are matched, by kind of key")
    samples: dict[str, list[MatchShape]] = Field(description="A few of each verdict")


class Pair(BaseModel):
    """Records of two accounts that are the same and not linked yet."""

    entity: str
    accounts: list[str]
    matched: int = Field(description="Pairs, each counted once")
    disputed: int = Field(description="Those of them that could be another record too")


class Creates(BaseModel):
    """What an account would be given, beside what its guard lets through."""

    account: str
    new: int = Field(description="Records that would be created there")
    limit: int | None = Field(description="Creates an hour before a person is asked")


class MatchReport(BaseModel):
    """What a dry run, or several together, say before anything is written.

    `linked`: already. `matched`: recognised by a key, would be linked. `new`: would be created in
    the other account. `unsure`: nothing would be written, a person decides. `stays`: would not be
    created there.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_RESYNC,
                "state": "done",
                "dry_runs": [EXAMPLE_RESYNC],
                "entities": [
                    {
                        "entity": "person",
                        "account": "close",
                        "other": "hubspot",
                        "counts": {
                            "linked": 0,
                            "matched": 812,
                            "new": 140,
                            "unsure": 3,
                            "stays": 0,
                        },
                        "keys": {"email": 812},
                        "samples": {
                            "matched": [
                                {
                                    "entity": "person",
                                    "account": "close",
                                    "remote_id": "cont_hbFJEs",
                                    "name": "Ada Lovelace",
                                    "verdict": "matched",
                                    "other": "hubspot",
                                    "other_id": "33451",
                                    "other_name": "A. Lovelace",
                                    "record_id": EXAMPLE_RECORD,
                                    "key": "email ada@analytical.example",
                                    "reason": None,
                                    "candidates": None,
                                }
                            ]
                        },
                    }
                ],
                "pairs": [
                    {
                        "entity": "person",
                        "accounts": ["close", "hubspot"],
                        "matched": 812,
                        "disputed": 0,
                    }
                ],
                "creates": [{"account": "hubspot", "new": 140, "limit": 10000}],
            }
        }
    )

    id: UUID
    state: str = Field(description="queued, running, done, failed or cancelled")
    dry_runs: list[UUID] = Field(description="The resyncs that it consists of")
    entities: list[Tally]
    pairs: list[Pair]
    creates: list[Creates]


async def report(
    db: AsyncConnection,
    config: Config,
    runs: Sequence[Mapping[str, Any]],
    *,
    id: UUID | None = None,
) -> MatchReport:
    """The report over these dry runs."""
    ids = [run["id"] for run in runs]
    tallies: dict[tuple[str, str, str | None], Tally] = {}
    for row in await matches.tallies(db, ids):
        place = (row["entity"], row["account"], row["other"])
        tally = tallies.setdefault(
            place,
            Tally(
                entity=place[0],
                account=place[1],
                other=place[2],
                counts=dict.fromkeys(VERDICTS, 0),
                keys={},
                samples={},
            ),
        )
        tally.counts[row["verdict"]] += row["count"]
        if row["kind"]:
            tally.keys[row["kind"]] = row["count"]
    for row in await matches.samples(db, ids):
        shown = MatchShape.model_validate({n: row[n] for n in MatchShape.model_fields})
        counted = tallies.get((row["entity"], row["account"], row["other"]))
        if counted is not None:  # what was found since we counted shows next time
            counted.samples.setdefault(row["verdict"], []).append(shown)
    new: Counter[str] = Counter()
    for tally in tallies.values():
        if tally.other is not None:
            new[tally.other] += tally.counts["new"]
    order = [entity for run in runs for entity in run["entities"]]
    return MatchReport(
        id=id or ids[0],
        state=_state([run["state"] for run in runs]),
        dry_runs=ids,
        entities=sorted(
            tallies.values(), key=lambda t: (order.index(t.entity), t.account, t.other or "")
        ),
        pairs=[
            Pair(
                entity=row["entity"],
                accounts=[row["one"], row["two"]],
                matched=row["matched"],
                disputed=row["disputed"],
            )
            for row in await matches.pairs(db, ids)
        ],
        creates=[
            Creates(account=name, new=count, limit=config.accounts[name].guard.creates)
            for name, count in sorted(new.items())
            if name in config.accounts
        ],
    )


def _state(states: Collection[str]) -> str:
    """The state of all together: over when all are, and then as the worst of them."""
    if set(states) == {"queued"}:
        return "queued"
    if {"queued", "running"}.intersection(states):
        return "running"
    return next(state for state in ("failed", "cancelled", "done") if state in states)


def csv(database: Database, ids: Collection[UUID], *, name: str) -> StreamingResponse:
    """Every row, as it comes from the database: however many there are."""
    return StreamingResponse(
        _lines(database, ids),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _lines(database: Database, ids: Collection[UUID]) -> AsyncIterator[str]:
    yield _line(COLUMNS)
    async for row in matches.every(database, ids):
        candidates = row["candidates"] or []
        other_ids = [c["remote_id"] for c in candidates if c["remote_id"]]
        other_names = [c["name"] for c in candidates if c["name"]]
        yield _line(
            (
                row["entity"],
                row["account"],
                row["remote_id"],
                row["name"],
                row["verdict"],
                row["other"] or next((c["account"] for c in candidates), None),
                row["other_id"] or "; ".join(other_ids),
                row["other_name"] or "; ".join(other_names),
                row["record_id"],
                row["key"],
                row["reason"],
            )
        )


def _line(values: Sequence[Any]) -> str:
    written = io.StringIO()
    table.writer(written, quoting=table.QUOTE_ALL).writerow([plain(value) for value in values])
    return written.getvalue()


def plain(value: Any) -> str:
    """A value that no spreadsheet will run: https://owasp.org/www-community/attacks/CSV_Injection"""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


# -------------------------------------------------------------------------- several accounts


def _chosen(desk: Desk, wanted: NewMatch) -> dict[str, list[str]]:
    """Which entities of which accounts to scan. Raises ProblemError."""
    names = list(dict.fromkeys(wanted.accounts or desk.config.accounts))
    for name in names:
        known(desk, name)
    found = {
        name: [
            entity
            for entity, how in desk.config.sync.items()
            if name in how.accounts and wanted.entity in (None, entity)
        ]
        for name in names
    }
    chosen = {name: entities for name, entities in found.items() if entities}
    if not chosen:
        what = wanted.entity or "anything at all"
        raise ProblemError(problems.CONFLICT, f"None of {', '.join(names)} syncs {what}.")
    return chosen


@router.post(
    "",
    dependencies=[OPERATE],
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(problems.UNKNOWN_ACCOUNT, problems.CONFLICT),
    },
)
async def start(desk: DeskDep, response: Response, wanted: NewMatch | None = None) -> MatchReport:
    """Queue a dry run of each account; the report over all of them is at `Location`."""
    chosen = _chosen(desk, wanted or NewMatch())
    match_id = uuid7()
    async with desk.database.transaction() as db:
        runs = [
            await listings.begin_resync(
                db,
                id=uuid7(),
                account=name,
                entities=entities,
                dry_run=True,
                match_id=match_id,
            )
            for name, entities in chosen.items()
        ]
        for name in chosen:
            await lanes.wake(db, name, "scan")
        found = await report(db, desk.config, runs, id=match_id)
    response.headers["location"] = f"/api/matches/{match_id}"
    return found


async def _runs(db: AsyncConnection, match_id: UUID) -> Sequence[Mapping[str, Any]]:
    runs = await matches.dry_runs(db, match_id)
    if not runs:
        raise ProblemError(problems.NOT_FOUND, f"There is no match {match_id}.")
    return runs


@router.get("/{match_id}", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND))
async def show(match_id: UUID, desk: DeskDep) -> MatchReport:
    """The accounts compared: counts, samples, and the pairs that nobody has linked yet."""
    async with desk.database.transaction() as db:
        return await report(db, desk.config, await _runs(db, match_id), id=match_id)


@router.get(
    "/{match_id}/report.csv",
    dependencies=[READ],
    response_class=StreamingResponse,
    responses=problems.responses(problems.NOT_FOUND),
)
async def show_csv(match_id: UUID, database: DatabaseDep) -> StreamingResponse:
    """Every row of the report, for a spreadsheet."""
    async with database.transaction() as db:
        runs = await _runs(db, match_id)
    return csv(database, [run["id"] for run in runs], name=f"matching-{match_id}.csv")
