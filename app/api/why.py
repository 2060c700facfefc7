"""Why a field is what it is: the journal in words, and how each account stands to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.access import READ
from app.api.deps import DeskDep
from app.api.problems import ProblemError
from app.api.records import JournalShape
from app.api.shapes import EXAMPLE_RECORD
from app.config import is_field
from app.db import accounts, listings
from app.domain.entities import ties_of
from app.sync.standing import About, held_cards, said, standings

router = APIRouter(prefix="/records", tags=["records"])


class Step(JournalShape):
    """One link of the chain that made a field what it is, in words too."""

    event_type: str | None = Field(description="The event that caused it")
    delivery_id: int | None = Field(description="The delivery that event came in")
    sentence: str


class StandingShape(BaseModel):
    """How one account stands to the field."""

    account: str
    remote_id: str | None = Field(description="Its counterpart there")
    state: Literal["same", "differs", "held", "waiting", "refused", "not_carried", "missing"] = (
        Field(
            description="same; held for a person; waiting to be written; refused (a dead letter); "
            "not_carried, by mapping or direction; missing: no counterpart there; differs"
        )
    )
    value: Any = Field(description="What it last showed")
    sentence: str


class Why(BaseModel):
    """Why a field is what it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "record_id": EXAMPLE_RECORD,
                "field": "phone",
                "value": "+14155550199",
                "sentence": "This phone came from hubspot, event 311 (contact.propertyChange), "
                'because the latest edit wins, over close\'s "+14155550100".',
                "accounts": [
                    {
                        "account": "close",
                        "remote_id": "cont_hbFJEs",
                        "state": "waiting",
                        "value": "+14155550100",
                        "sentence": 'close gets this phone (it shows "+14155550100") any moment; '
                        "it waits since 2026-11-22 03:07Z.",
                    }
                ],
                "journal": [],
            }
        }
    )

    record_id: UUID
    field: str
    value: Any
    sentence: str = Field(description="The present value, explained")
    accounts: list[StandingShape] = Field(description="What each account shows, and why")
    journal: list[Step] = Field(description="Every change of the field, newest first")


@router.get(
    "/{record_id}/why", dependencies=[READ], responses=problems.responses(problems.NOT_FOUND)
)
async def why(
    record_id: UUID,
    desk: DeskDep,
    field: Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$")],
) -> Why:
    """Why a field is what it is: every change, its cause, and the rule that decided; and for each
    account whether it shows the same, and if not, why.
    """
    async with desk.database.transaction() as db:
        row = await listings.record(db, record_id)
        rows = await listings.history(db, record_id, field)
        discarded = await listings.discarded(db, record_id)
        paused = await accounts.paused(db)
    if row is None:
        raise ProblemError(problems.NOT_FOUND, f"There is no record {record_id}.")
    entity = row["entity"]
    known = is_field(entity, field) or field in ties_of(entity)
    if not rows and field not in row["fields"] and not known:
        raise ProblemError(problems.NOT_FOUND, f"This {entity} has no {field} and never had one.")
    steps = _steps(rows, field)
    about = About(row, discarded, paused)
    return Why(
        record_id=record_id,
        field=field,
        value=row["fields"].get(field),
        sentence=_now(row, field, steps),
        accounts=[
            StandingShape(
                account=one.account,
                remote_id=one.remote_id,
                state=one.state,  # type: ignore[arg-type]
                value=one.value,
                sentence=one.sentence,
            )
            for one in standings(desk.house, about, field)
        ],
        journal=steps,
    )


# ------------------------------------------------------------------------------ in words


def _now(row: Mapping[str, Any], field: str, steps: Sequence[Step]) -> str:
    """The present value, explained."""
    if row["state"] == "merged":
        return f"This record was merged into {row['merged_into']}: ask there."
    held = held_cards(row["conflicts"], field)
    if held:
        sides = " and ".join(f"{c['account']} shows {said(c['theirs']['value'])}" for c in held)
        since = f"{min(c['opened_at'] for c in held):%Y-%m-%d %H:%M}Z"
        return (
            f"This {field} is held for a person since {since}: we keep "
            f"{said(row['fields'].get(field))}, {sides}."
        )
    if steps:
        return steps[0].sentence
    if row["fields"].get(field) is None:
        return f"Nobody has ever said anything of this {field}."
    return f"This {field} has been so since we have the record."


def _steps(rows: Sequence[Mapping[str, Any]], field: str) -> list[Step]:
    """The chain, newest first. ``rows`` are oldest first."""
    steps = []
    holder: str | None = None  # whose value ours was before this row
    for row in rows:
        steps.append(Step.model_validate({**row, "sentence": _sentence(row, field, holder)}))
        if not _kept(row):
            holder = row["account"]
    return steps[::-1]


def _kept(row: Mapping[str, Any]) -> bool:
    """Another value was offered, and ours stayed."""
    return bool(row["old"] == row["new"])


def _sentence(row: Mapping[str, Any], field: str, holder: str | None) -> str:
    came = "a person" if row["cause"] == "person" else f"{row['account']}, {_cause(row)}"
    if _kept(row):
        offered = f"{said(row['lost'])} was offered by {came}"
        kept = f"{said(row['new'])} stayed"
        return f"This {field} {kept} though {offered}, because {_because(row['rule'])}."
    verb = "was cleared by" if row["new"] is None else "came from"
    over = f", over {_whose(holder)} {said(row['lost'])}" if row["has_loser"] else ""
    return f"This {field} {verb} {came}, because {_because(row['rule'])}{over}."


def _whose(holder: str | None) -> str:
    match holder:
        case None:
            return "our"
        case "person":
            return "a person's"
    return f"{holder}'s"


def _cause(row: Mapping[str, Any]) -> str:
    """What made the change, as a clause."""
    cause, which = row["cause"], row["cause_id"] or ""
    match cause:
        case "push":
            return "seen when we wrote there"
        case "merge":
            return f"from record {which}, which was merged into this one"
    kind = f" ({row['event_type']})" if row["event_type"] else ""
    return f"{cause} {which}".strip() + kind


#: Rules that read as a clause only in other words.
_CLAUSES = {
    "first seen": "it was first seen there",
    "held for a person (review)": "a person decides (review): both values are kept",
}


def _because(rule: str) -> str:
    return _CLAUSES.get(rule, rule)
