"""Guards: what an account takes in an hour, what waits above that, and the person's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from app import logs
from app.api import problems
from app.api.access import OPERATE, READ
from app.api.deps import Desk, DeskDep, known
from app.api.shapes import EXAMPLE_RECORD, EXAMPLE_TIME, Listed
from app.db import guards
from app.domain.entities import title_of
from app.domain.values import Op
from app.sync import merges

log = logs.get()

router = APIRouter(prefix="/accounts", tags=["accounts"])

Kind = Literal["create", "update", "delete"]


class Waiting(BaseModel):
    """A record whose write waits for a person."""

    record_id: UUID
    entity: str
    name: str | None
    since: datetime


class GuardShape(BaseModel):
    """How many writes of one kind an account takes in an hour, and what waits above that."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "op": "create",
                "limit": 100,
                "used": 100,
                "held": 412,
                "since": EXAMPLE_TIME,
                "open_until": None,
                "samples": [
                    {
                        "record_id": EXAMPLE_RECORD,
                        "entity": "person",
                        "name": "Ada Lovelace",
                        "since": EXAMPLE_TIME,
                    }
                ],
            }
        }
    )

    op: Kind
    limit: int | None = Field(description="Writes an hour; null: without limit")
    used: int = Field(description="Writes in the last hour, or since a person last approved")
    held: int = Field(description="Writes that wait for a person")
    since: datetime | None = Field(description="How long the oldest of them has waited")
    open_until: datetime | None = Field(description="A person let everything through until then")
    samples: list[Waiting] = Field(description="Some of what is held, the oldest first")


class Answer(BaseModel):
    """What a person says to a guard that holds."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"op": "create"}]})

    op: Kind | None = Field(None, description="Only this kind of write; default: all")

    @property
    def ops(self) -> list[Op]:
        return [Op(self.op)] if self.op else list(Op)


class Approval(Answer):
    """Let through what waits."""

    for_an_hour: bool = Field(False, description="And what comes within the next hour too")


class Decided(BaseModel):
    """What became of what was held."""

    account: str
    released: int = Field(0, description="Writes that will be made now")
    discarded: int = Field(0, description="Writes that will not be made")
    guards: list[GuardShape]


async def shapes(
    db: AsyncConnection, desk: Desk, names: Sequence[str]
) -> dict[str, list[GuardShape]]:
    """The guards of these accounts."""
    states = await guards.states(db)
    return {name: [await _shape(db, desk, name, op, states) for op in Op] for name in names}


async def _shape(
    db: AsyncConnection, desk: Desk, name: str, op: Op, states: Mapping[tuple[str, str], Any]
) -> GuardShape:
    state = states.get((name, op), {"used": 0, "held": 0, "since": None, "open_until": None})
    waiting = await guards.samples(db, name, op) if state["held"] else []
    return GuardShape(
        op=op.value,
        limit=desk.config.accounts[name].guard.of(op),
        **state,
        samples=[
            Waiting(
                record_id=row["record_id"],
                entity=row["entity"],
                name=title_of(row["fields"]),
                since=row["held_at"],
            )
            for row in waiting
        ],
    )


@router.get(
    "/{name}/guard", dependencies=[READ], responses=problems.responses(problems.UNKNOWN_ACCOUNT)
)
async def show(name: str, desk: DeskDep) -> Listed[GuardShape]:
    """What the account takes in an hour, what it got, and what waits for a person."""
    known(desk, name)
    async with desk.database.transaction() as db:
        found = await shapes(db, desk, [name])
    return Listed(items=found[name], next_cursor=None)


@router.post(
    "/{name}/guard/approve",
    dependencies=[OPERATE],
    responses=problems.responses(problems.UNKNOWN_ACCOUNT),
)
async def approve(name: str, desk: DeskDep, answer: Approval | None = None) -> Decided:
    """Make the writes that wait, and count anew."""
    known(desk, name)
    said = answer or Approval()
    async with desk.database.transaction() as db:
        count = await guards.approve(db, name, said.ops, for_an_hour=said.for_an_hour)
        found = await shapes(db, desk, [name])
    log.info("guard.approved", account=name, ops=said.ops, marks=count, hour=said.for_an_hour)
    return Decided(account=name, released=count, guards=found[name])


@router.post(
    "/{name}/guard/discard",
    dependencies=[OPERATE],
    responses=problems.responses(problems.UNKNOWN_ACCOUNT),
)
async def discard(name: str, desk: DeskDep, answer: Answer | None = None) -> Decided:
    """Do not make the writes that wait. Records and links stay as they are."""
    known(desk, name)
    said = answer or Answer()
    entities = desk.connectors[name].manifest.entities
    async with desk.database.transaction() as db:
        count = await guards.discard(
            db,
            name,
            said.ops,
            types={entity: promise.type for entity, promise in entities.items()},
            reason="a person discarded it while the guard held it",
        )
        await merges.give_up(db, name)
        found = await shapes(db, desk, [name])
    log.info("guard.discarded", account=name, ops=said.ops, marks=count)
    return Decided(account=name, discarded=count, guards=found[name])
