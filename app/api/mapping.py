"""The mapping at work: one remote record, step by step, and what others would be told."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import problems
from app.api.access import READ
from app.api.deps import DeskDep, known
from app.api.problems import ProblemError
from app.errors import NotFoundError
from app.sync.trial import Told, Trial, try_mapping

router = APIRouter(prefix="/accounts", tags=["accounts"])


class Made(BaseModel):
    """What one step made of the value."""

    step: str
    value: Any


class StepShape(BaseModel):
    """One row of the mapping at work."""

    row: str = Field(description="The canonical field or fields, as the row is written")
    direction: str
    given: dict[str, Any] = Field(description="What the account sent at the paths of the row")
    through: list[Made] = Field(description="Filters, values and transform, in order")
    fields: dict[str, Any] | None = Field(description="What was read; null if nothing")
    note: str | None = Field(description="Why nothing was read")


class ToldShape(BaseModel):
    """What one other account would be told."""

    account: str
    op: str = Field(description="create, update, link (a record with the same keys) or none")
    remote_id: str | None
    says: dict[str, Any] = Field(description="The whole record in the account's own words")
    sent: dict[str, Any] = Field(description="What of it would be written now")
    held: dict[str, str] = Field(description="Fields that have no place there, and why")
    note: str | None


class TrialShape(BaseModel):
    """A remote record on its way through the mapping. Nothing was written anywhere."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "account": "close",
                "entity": "person",
                "type": "contact",
                "id": "cont_1",
                "record_id": None,
                "result": "created",
                "reason": "",
                "source": {"name": "Ada Lovelace", "title": "Founder"},
                "steps": [
                    {
                        "row": "first_name, last_name",
                        "direction": "both",
                        "given": {"name": "Ada Lovelace"},
                        "through": [
                            {
                                "step": "as person_name",
                                "value": {"first_name": "Ada", "last_name": "Lovelace"},
                            }
                        ],
                        "fields": {"first_name": "Ada", "last_name": "Lovelace"},
                        "note": None,
                    }
                ],
                "fields": {"first_name": "Ada", "last_name": "Lovelace", "title": "Founder"},
                "accounts": [
                    {
                        "account": "hubspot",
                        "op": "create",
                        "remote_id": None,
                        "says": {"firstname": "Ada", "lastname": "Lovelace"},
                        "sent": {"firstname": "Ada", "lastname": "Lovelace"},
                        "held": {},
                        "note": None,
                    }
                ],
            }
        }
    )

    account: str
    entity: str
    type: str
    id: str
    record_id: UUID | None = Field(description="Our record, if there is one already")
    result: str = Field(description="What would become of it: created, updated, linked …")
    reason: str
    source: dict[str, Any] = Field(description="The remote values that the mapping looks at")
    steps: list[StepShape]
    fields: dict[str, Any] = Field(description="The record in canonical terms")
    accounts: list[ToldShape]


@router.get(
    "/{name}/mapping/try",
    dependencies=[READ],
    responses=problems.responses(
        problems.UNKNOWN_ACCOUNT, problems.NOT_FOUND, problems.CRM_REFUSED, problems.CRM_FAILED
    ),
)
async def try_out(
    name: str,
    desk: DeskDep,
    id: Annotated[str, Query(description="The record's id in the CRM", min_length=1)],
    type: Annotated[
        str | None, Query(description="The CRM's word or ours; needed where an id is not unique")
    ] = None,
) -> TrialShape:
    """Read one record there and show each row at work, and what every other account would be
    told. Nothing is written.
    """
    known(desk, name)
    try:
        return _shape(await try_mapping(desk.house, name, id, type=type))
    except NotFoundError as error:
        raise ProblemError(problems.NOT_FOUND, f"{error.reason}.") from None
    except ValueError as error:
        raise ProblemError(problems.INVALID, f"{error}.") from None


def _shape(trial: Trial) -> TrialShape:
    return TrialShape(
        account=trial.ref.account,
        entity=trial.entity,
        type=trial.ref.type,
        id=trial.ref.id,
        record_id=trial.record_id,
        result=trial.result,
        reason=trial.reason,
        source=dict(trial.source),
        steps=[
            StepShape(
                row=step.row,
                direction=step.direction,
                given=step.given,
                through=[Made(step=what, value=value) for what, value in step.through],
                fields=step.fields,
                note=step.note,
            )
            for step in trial.steps
        ],
        fields=dict(trial.fields),
        accounts=[_told(told) for told in trial.accounts],
    )


def _told(told: Told) -> ToldShape:
    return ToldShape(
        account=told.account,
        op=told.op,
        remote_id=told.remote_id,
        says=dict(told.says),
        sent=dict(told.sent),
        held=dict(told.held),
        note=told.note,
    )
