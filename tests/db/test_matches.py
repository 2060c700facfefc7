"""Matching reports: dry runs judged together, counted, and read row by row."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
import uuid_utils.compat as uuid

from app.api.matches import plain
from app.db import listings, matches
from app.db.engine import Database
from app.db.matches import Match
from app.db.pages import Row


def deal(account: str, remote_id: str, *keys: str, verdict: str = "new") -> Match:
    """A deal that the other account cannot be asked for."""
    other = {"close": "hubspot", "hubspot": "close"}[account]
    return Match("deal", account, remote_id, f"Deal {remote_id}", verdict, other=other, keys=keys)


async def judged(database: Database, *found: Sequence[Match]) -> list[Row]:
    """What becomes of the rows of several dry runs, each of which ends in turn."""
    match_id = uuid.uuid7()
    ids: list[UUID] = []
    for rows in found:
        async with database.transaction() as db:
            account = rows[0].account
            run = await listings.begin_resync(
                db,
                id=uuid.uuid7(),
                account=account,
                entities=["deal"],
                dry_run=True,
                match_id=match_id,
            )
            ids.append(run["id"])
            await matches.queue(db, match_id)
            await matches.add(db, run["id"], rows, start=0)
            await matches.conclude(db, match_id)
    return [row async for row in matches.every(database, ids)]


async def test_what_no_crm_can_look_up_is_recognised_when_both_sides_were_seen(database: Database):
    rows = await judged(
        database,
        [deal("close", "1", "company + name a"), deal("close", "2", "company + name b")],
        [deal("hubspot", "11", "company + name a"), deal("hubspot", "12")],
    )
    told = {(row["account"], row["remote_id"]): (row["verdict"], row["other_id"]) for row in rows}
    assert told == {
        ("close", "1"): ("matched", "11"),
        ("close", "2"): ("new", None),
        ("hubspot", "11"): ("matched", "1"),
        ("hubspot", "12"): ("new", None),
    }
    assert {row["key"] for row in rows if row["verdict"] == "matched"} == {"company + name a"}


async def test_what_could_be_several_on_the_other_side_is_unsure(database: Database):
    rows = await judged(
        database,
        [deal("close", "1", "name a")],
        [deal("hubspot", "11", "name a"), deal("hubspot", "12", "name a")],
    )
    (unsure,) = [row for row in rows if row["account"] == "close"]
    assert unsure["verdict"] == "unsure"
    assert unsure["reason"] == "hubspot has 2 records that could be this one: 11, 12"
    assert [c["remote_id"] for c in unsure["candidates"]] == ["11", "12"]


async def test_a_pair_is_counted_once_and_disputed_if_an_end_of_it_is_unsure(database: Database):
    fine = [
        Match("deal", "close", "1", None, "matched", other="hubspot", other_id="11"),
        Match("deal", "close", "2", None, "matched", other="hubspot", other_id="12"),
    ]
    back = [
        Match("deal", "hubspot", "11", None, "matched", other="close", other_id="1"),
        Match("deal", "hubspot", "12", None, "unsure", other="close"),
    ]
    rows = await judged(database, fine, back)
    async with database.transaction() as db:
        (pair,) = await matches.pairs(db, {row["resync_id"] for row in rows})
    assert (pair["one"], pair["two"], pair["matched"], pair["disputed"]) == (
        "close",
        "hubspot",
        2,
        1,
    )


async def test_every_row_is_read_once_however_many_there_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(matches, "_PAGE", 7)
    rows = await judged(database, [deal("close", str(n)) for n in range(20)])
    assert [row["remote_id"] for row in rows] == [str(n) for n in range(20)]
    async with database.transaction() as db:
        shown = await matches.samples(db, {row["resync_id"] for row in rows})
    assert len(shown) == matches.SAMPLES


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("-Acme", "'-Acme"),
        ("@home", "'@home"),
        ("  =1", "'  =1"),
        ("\t=1", "'\t=1"),
        ("Acme = Co", "Acme = Co"),
        (None, ""),
    ],
)
def test_no_value_is_a_formula(value: str | None, written: str):
    assert plain(value) == written
