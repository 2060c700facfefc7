"""By hand: link, unlink, split and merge records, restore values; each can be rehearsed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api import problems
from app.api.access import OPERATE
from app.api.deps import Desk, DeskDep, known
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_RECORD, RefShape, ref_shape
from app.db import records
from app.domain.state import RecordState
from app.domain.values import Ref
from app.errors import AccountError, RateLimitedError, RejectedError, TransientError
from app.sync import byhand, resolve
from app.sync.byhand import Operation, Report, expected
from app.sync.world import Seen

router = APIRouter(prefix="/records", tags=["records"])

_VERSION = "The record's version as you saw it; a newer one is a 409"
_DRY = "Only tell what would change"


class Asked(BaseModel):
    """What every operation takes."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(None, ge=1, description=_VERSION)
    dry_run: bool = Field(False, description=_DRY)


class Counterpart(Asked):
    """A remote record that is this record."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"account": "hubspot", "remote_id": "33451"}}
    )

    account: str = Field(min_length=1, max_length=100)
    remote_id: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")
    type: str | None = Field(
        None, description="The vendor's own word; only needed where it is not the entity's"
    )


class LeavingRef(BaseModel):
    """A counterpart that leaves."""

    model_config = ConfigDict(extra="forbid")

    account: str
    remote_id: str


class Split(Asked):
    """Which counterparts become a record of their own."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"refs": [{"account": "hubspot", "remote_id": "33451"}]}}
    )

    refs: list[LeavingRef] = Field(min_length=1)


class MergeInto(Asked):
    """The record that this one is merged into."""

    model_config = ConfigDict(json_schema_extra={"example": {"into": EXAMPLE_RECORD}})

    into: UUID


class Restore(Asked):
    """The row of the journal whose replaced value comes back."""

    model_config = ConfigDict(json_schema_extra={"example": {"journal": 812}})

    journal: int = Field(ge=1, le=2**63 - 1, description="`journal[].id` of the record")


class ValueChange(BaseModel):
    """A value before and after; null where there was or will be none."""

    from_: Any = Field(alias="from")
    to: Any


class LinkChange(BaseModel):
    """The state of a link before and after; null where there was or will be none."""

    ref: RefShape
    from_: str | None = Field(alias="from")
    to: str | None


class KeyShape(BaseModel):
    """An identity key."""

    kind: str
    value: str


class RecordChange(BaseModel):
    """What happened to one record."""

    id: UUID
    entity: str
    state: str
    version: int
    merged_into: UUID | None
    fields: dict[str, ValueChange]
    links: list[LinkChange]
    keys_gained: list[KeyShape]
    keys_lost: list[KeyShape]


class BehindShape(BaseModel):
    """A write that follows."""

    account: str
    record_id: UUID
    op: str = Field(description="create or update")


class ReportShape(BaseModel):
    """What a person's word changed, or would change."""

    dry_run: bool
    records: list[RecordChange]
    behind: list[BehindShape] = Field(description="Accounts that are brought into step now")


def report_shape(report: Report, *, dry_run: bool) -> ReportShape:
    return ReportShape(
        dry_run=dry_run,
        records=[
            RecordChange(
                id=one.record.id,
                entity=one.record.entity,
                state=one.record.state,
                version=one.record.version,
                merged_into=one.merged_into,
                fields={
                    name: ValueChange.model_validate({"from": old, "to": new})
                    for name, (old, new) in one.fields.items()
                },
                links=[
                    LinkChange.model_validate({"ref": ref_shape(ref), "from": old, "to": new})
                    for ref, (old, new) in one.links.items()
                ],
                keys_gained=[KeyShape(kind=k.kind, value=k.value) for k in one.keys_gained],
                keys_lost=[KeyShape(kind=k.kind, value=k.value) for k in one.keys_lost],
            )
            for one in report.changed
        ],
        behind=[
            BehindShape(account=account, record_id=record_id, op="create" if new else "update")
            for account, record_id, new in report.behind
        ],
    )


_CAN_FAIL = problems.responses(problems.NOT_FOUND, problems.UNKNOWN_ACCOUNT, problems.CONFLICT)


@router.post(
    "/{record_id}/links",
    dependencies=[OPERATE],
    responses=_CAN_FAIL | problems.responses(problems.CRM_FAILED),
)
async def link(record_id: UUID, asked: Counterpart, desk: DeskDep) -> ReportShape:
    """Say that a remote record is this record; their values merge as when two meet."""
    known(desk, asked.account)
    record = await _record(desk, record_id)
    member = desk.house.members[asked.account]
    if record.entity not in member.connector.manifest.entities:
        raise ProblemError(problems.CONFLICT, f"{asked.account} has no {record.entity}.")
    type = asked.type or member.type_of(record.entity)
    if member.entity_of(type) != record.entity:
        raise ProblemError(problems.CONFLICT, f"{type} is no {record.entity} of {asked.account}.")
    if desk.house.sync_of(record.entity, asked.account) is None:
        raise ProblemError(problems.CONFLICT, f"No {record.entity} travels to {asked.account}.")
    seen = await look(desk, Ref(asked.account, type, asked.remote_id))

    async def work_on(seen: Seen) -> Report:
        async def work(db: AsyncConnection) -> list[UUID]:
            found = await expected(db, record_id, asked.version)
            return await byhand.link(db, desk.house, found, seen)

        return await byhand.run(desk.house, [record_id], work, dry_run=asked.dry_run)

    with problems.refusing():
        report = await byhand.timed(desk.house, seen, work_on)
    return report_shape(report, dry_run=asked.dry_run)


@router.delete("/{record_id}/links/{account}", dependencies=[OPERATE], responses=_CAN_FAIL)
async def unlink(
    record_id: UUID,
    account: str,
    desk: DeskDep,
    version: Annotated[int | None, Query(ge=1, description=_VERSION)] = None,
    dry_run: Annotated[bool, Query(description=_DRY)] = False,
) -> ReportShape:
    """Part a record from its counterpart; both stay, and neither is linked or made again."""
    await _record(desk, record_id)

    async def work(db: AsyncConnection) -> list[UUID]:
        return await byhand.unlink(db, await expected(db, record_id, version), account)

    return await _run(desk, [record_id], work, dry_run=dry_run)


@router.post("/{record_id}/split", dependencies=[OPERATE], responses=_CAN_FAIL)
async def split(record_id: UUID, asked: Split, desk: DeskDep) -> ReportShape:
    """Take a record apart that was wrongly one: these counterparts become a new record."""
    await _record(desk, record_id)
    refs = {(one.account, one.remote_id) for one in asked.refs}

    async def work(db: AsyncConnection) -> list[UUID]:
        found = await expected(db, record_id, asked.version)
        return await byhand.split(db, desk.house, found, refs)

    return await _run(desk, [record_id], work, dry_run=asked.dry_run)


@router.post("/{record_id}/merge", dependencies=[OPERATE], responses=_CAN_FAIL)
async def merge(record_id: UUID, asked: MergeInto, desk: DeskDep) -> ReportShape:
    """Say that two records of ours are one; this one lives on in the other."""
    await _record(desk, record_id)
    await _record(desk, asked.into)

    async def work(db: AsyncConnection) -> list[UUID]:
        await expected(db, record_id, asked.version)
        return await byhand.merge(db, desk.house, record_id, asked.into)

    return await _run(desk, [record_id, asked.into], work, dry_run=asked.dry_run)


@router.post("/{record_id}/restore", dependencies=[OPERATE], responses=_CAN_FAIL)
async def restore(record_id: UUID, asked: Restore, desk: DeskDep) -> ReportShape:
    """Give a field back the value that lost or was replaced in a row of the journal."""
    await _record(desk, record_id)

    async def work(db: AsyncConnection) -> list[UUID]:
        found = await expected(db, record_id, asked.version)
        return await resolve.restore(db, desk.house.config, found, asked.journal)

    return await _run(desk, [record_id], work, dry_run=asked.dry_run)


async def look(desk: Desk, ref: Ref) -> Seen:
    """What the CRM shows of a ref. Raises ProblemError where it shows nothing."""
    try:
        return await byhand.look(desk.house, ref)
    except (RateLimitedError, AccountError, TransientError):
        raise
    except RejectedError as error:
        raise ProblemError(problems.CONFLICT, f"{error.reason}.") from None


async def _record(desk: Desk, record_id: UUID) -> RecordState:
    async with desk.database.transaction() as db:
        found = (await records.get(db, [record_id])).get(record_id)
    if found is None:
        raise ProblemError(problems.NOT_FOUND, f"There is no record {record_id}.")
    return found


async def _run(desk: Desk, ids: list[UUID], work: Operation, *, dry_run: bool) -> ReportShape:
    with problems.refusing():
        report = await byhand.run(desk.house, ids, work, dry_run=dry_run)
    return report_shape(report, dry_run=dry_run)
