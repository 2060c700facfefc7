"""Intake: a company and its people from a script or an agent, to every system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Response, Security
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.api import problems
from app.api.access import OPERATE, Caller, allowed
from app.api.deps import DeskDep
from app.api.problems import ProblemError
from app.api.shapes import EXAMPLE_RECORD
from app.config import LATEST, REVIEW
from app.domain.codecs import ABSENT
from app.domain.merge import Winner
from app.sync import intake
from app.sync.house import House
from app.sync.intake import Item, RepeatError, Report, Taken, UncertainError

router = APIRouter(prefix="/records", tags=["records"])

#: People of one company in one call.
MOST = 100
#: Characters of a text.
LONGEST = 10_000


def _sound(value: Any) -> Any:
    """Text that PostgreSQL can hold."""
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("a NUL is no text")
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters")
    return value


Text = Annotated[str | None, BeforeValidator(_sound)]
Texts = list[Annotated[str, BeforeValidator(_sound)]]
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
Scalar = Text | bool | int | float | Texts


class _Said(BaseModel):
    """A field that is not named says nothing; null, empty, zero and false are values."""

    model_config = ConfigDict(extra="forbid")

    record_id: UUID | None = Field(None, description="Which record it is, where keys do not tell")
    custom: dict[Name, Scalar] = Field(
        default_factory=dict, description="Fields of your own, `custom.<name>` in the mapping"
    )

    def said(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True, exclude={"record_id"}, mode="json")


class AddressSaid(BaseModel):
    """A postal address."""

    model_config = ConfigDict(extra="forbid")

    street: Text = None
    city: Text = None
    state: Text = None
    postal_code: Text = None
    country: Text = None


class CompanySaid(_Said):
    """A company, as far as it is known."""

    name: Text = None
    domain: Text = Field(None, description="That of the website, unless it is said")
    website: Text = None
    phone: Text = None
    address: AddressSaid | None = None
    industry: Text = None
    employees: int | None = None
    annual_revenue: float | str | None = None
    description: Text = None
    owner: Text = Field(None, description="The owner's e-mail address")


class PersonSaid(_Said):
    """Somebody who works there."""

    first_name: Text = None
    last_name: Text = None
    email: Text = None
    emails: Texts | None = Field(None, description="Further addresses")
    phone: Text = None
    phones: Texts | None = Field(None, description="Further numbers")
    title: Text = None
    lifecycle_stage: Text = None
    lead_status: Text = None
    owner: Text = Field(None, description="The owner's e-mail address")


class Intake(BaseModel):
    """A company with its people; either may be missing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "company": {"name": "Difference Ltd", "domain": "difference.example"},
                "contacts": [{"first_name": "Ada", "email": "ada@difference.example"}],
                "tier": "A",
                "source": "enrichment",
            }
        },
    )

    company: CompanySaid | None = None
    contacts: list[PersonSaid] = Field(default_factory=list, max_length=MOST)
    tier: Text = Field(None, description="The company's `custom.tier`")
    source: Text = Field(None, description="Where it comes from: the company's `custom.source`")
    dry_run: bool = Field(False, description="Only tell what would happen")

    @model_validator(mode="after")
    def _says_something(self) -> Intake:
        if self.company is None and not self.contacts:
            raise ValueError("say a company, or contacts, or both")
        if self.company is None and {"tier", "source"} & self.model_fields_set:
            raise ValueError("tier and source are those of a company")
        return self

    def items(self) -> list[Item]:
        found = []
        if self.company is not None:
            said = self.company.said()
            own = {n: getattr(self, n) for n in ("tier", "source") if n in self.model_fields_set}
            if own:
                said["custom"] = {**said.get("custom", {}), **own}
            found.append(Item("company", "company", said, self.company.record_id))
        for number, person in enumerate(self.contacts):
            place = f"contacts[{number}]"
            found.append(Item(place, "person", person.said(), person.record_id))
        return found


class ClashShape(BaseModel):
    """A field of which another value stands here, and which of the two counts."""

    field: str
    ours: Any
    yours: Any
    winner: Literal["ours", "yours", "nobody"] = Field(description="nobody: held for a person")
    rule: str


class TakenShape(BaseModel):
    """What became of one thing that was said."""

    place: str = Field(description="company, or contacts[0] …")
    entity: str
    record_id: UUID
    result: Literal["created", "updated", "held", "unchanged"]
    fields: dict[str, Any] = Field(description="What changed here, as {from, to}")
    conflicts: list[ClashShape]
    untold: list[str] = Field(description="Fields that the mapping of no account holds")


class WriteShape(BaseModel):
    """What an account is sent; `create` becomes a link where it has such a record already."""

    op: Literal["create", "update", "hold"]
    account: str
    entity: str
    record_id: UUID
    remote_id: str | None
    fields: dict[str, Any] = Field(description="As {from, to}")
    reason: str | None = Field(None, description="Why something is held")


class IntakeShape(BaseModel):
    """What was taken in, and what follows from it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "dry_run": False,
                "source": "enrichment",
                "records": [
                    {
                        "place": "company",
                        "entity": "company",
                        "record_id": EXAMPLE_RECORD,
                        "result": "created",
                        "fields": {"name": {"from": None, "to": "Difference Ltd"}},
                        "conflicts": [],
                        "untold": ["custom.tier"],
                    }
                ],
                "writes": [],
            }
        }
    )

    dry_run: bool
    source: str = Field(description="What the journal calls whoever said it: the token's name")
    records: list[TakenShape]
    writes: list[WriteShape]


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names this very intake; a repeat with it is answered as the first was. "
        "Needed unless it is a dry run",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
    ),
]


@router.post(
    "",
    status_code=202,
    dependencies=[OPERATE],
    responses={
        200: {"model": IntakeShape, "description": "There is nothing to write"},
        **problems.responses(problems.BAD_REQUEST, problems.CONFLICT, problems.INVALID),
    },
)
async def take(
    asked: Intake,
    desk: DeskDep,
    caller: Annotated[Caller, Security(allowed, scopes=["operate"])],
    response: Response,
    key: Key = None,
) -> IntakeShape:
    """Take in a company with its people, and bring every account into step.

    They are recognised, merged and explained as what a webhook tells; the source is the name of
    the token. All of it is taken in, or nothing.
    """
    source = _source(desk.house, caller.name)

    def answer(report: Report) -> tuple[int, dict[str, Any]]:
        shape = _shape(report, source=source, dry_run=asked.dry_run)
        return 202 if report.writes else 200, shape.model_dump(mode="json")

    if key is None and not asked.dry_run:
        raise ProblemError(
            problems.BAD_REQUEST,
            "Send the header Idempotency-Key, a text of your own that names this intake: with it "
            "a repeat does no harm.",
        )
    await desk.house.recall()  # whoever calls does not wait for a CRM
    try:
        if key is None or asked.dry_run:
            report = await intake.rehearse(desk.house, source, asked.items())
            response.status_code, content = 200, answer(report)[1]
            return IntakeShape.model_validate(content)
        found = await intake.take_in(
            desk.house,
            source,
            key,
            asked.items(),
            digest=intake.digest_of(asked.model_dump(exclude_unset=True, mode="json")),
            answer=answer,
        )
    except RepeatError as error:
        raise ProblemError(problems.INVALID, f"{error.reason}.") from error
    except UncertainError as error:
        candidates = [str(one) for one in error.candidates]
        raise ProblemError(
            problems.CONFLICT, f"{error.reason}.", place=error.place, candidates=candidates
        ) from error
    response.status_code = found.status
    if found.replayed:
        response.headers["idempotent-replayed"] = "true"
    return IntakeShape.model_validate(found.content)


def _source(house: House, name: str) -> str:
    """The name of the token; no account's, whose word would count as that account's."""
    taken = name in house.members or name in ("person", LATEST, "lww", REVIEW)
    return f"token:{name}" if taken else name


def _shape(report: Report, *, source: str, dry_run: bool) -> IntakeShape:
    return IntakeShape(
        dry_run=dry_run,
        source=source,
        records=[_taken(one) for one in report.taken],
        writes=[WriteShape.model_validate(item) for item in report.writes],
    )


_WINNERS: Mapping[Winner, Literal["ours", "yours", "nobody"]] = {
    Winner.OURS: "ours",
    Winner.THEIRS: "yours",
    Winner.NOBODY: "nobody",
}


def _taken(one: Taken) -> TakenShape:
    return TakenShape.model_validate(
        {
            "place": one.item.place,
            "entity": one.item.entity,
            "record_id": one.record.id,
            "result": str(one.result),
            "fields": {
                take.field: {"from": _shown(take.old), "to": take.new} for take in one.takes
            },
            "conflicts": [
                {
                    "field": clash.field,
                    "ours": _shown(clash.ours),
                    "yours": clash.theirs,
                    "winner": _WINNERS[clash.winner],
                    "rule": clash.rule,
                }
                for clash in one.clashes
            ],
            "untold": one.untold,
        }
    )


def _shown(value: Any) -> Any:
    return None if value is ABSENT else value
