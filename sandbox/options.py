"""What a CRM does of its own accord. All of it is off until the control API asks for it."""

from dataclasses import dataclass, field, fields
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Self

from sandbox.wire import Json

CASES = {"upper": str.upper, "lower": str.lower, "title": str.title}


@dataclass(slots=True)
class Workflow:
    """Whenever the API writes a field, set it to a value, or change its case, a little later.

    `times` is how often it still does so; None is for ever.
    """

    type: str
    field: str
    value: Any = None
    case: str | None = None
    delay: float = 0.1
    times: int | None = None

    @classmethod
    def of(cls, given: Any) -> Self:
        """`ValueError` if it makes no sense."""
        if not isinstance(given, dict) or not {"type", "field"} <= set(given):
            raise ValueError("a workflow needs type and field")
        if unknown := set(given) - {f.name for f in fields(cls)}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        if given.get("case") not in (None, *CASES):
            raise ValueError(f"case must be one of {', '.join(CASES)}")
        return cls(**given)

    def outcome(self, present: Any) -> Any:
        """The value the workflow wants, given what is there."""
        if self.case is None:
            return self.value
        return CASES[self.case](present) if isinstance(present, str) else present


@dataclass(slots=True)
class Options:
    """What every CRM here can do of its own accord.

    `trim` strips and joins blanks in texts, `amounts` rounds money to a multiple (0 leaves it).
    """

    workflows: list[Workflow] = field(default_factory=list)
    trim: bool = False
    amounts: float = 0.0

    def set(self, wanted: Json) -> None:
        """Change what is named; `ValueError` for what this CRM does not know."""
        known = {f.name for f in fields(self)}
        if unknown := set(wanted) - known:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        for name, value in wanted.items():
            if name == "workflows":
                value = [Workflow.of(given) for given in value]
            elif not isinstance(
                value, bool if isinstance(getattr(self, name), bool) else (int, float)
            ):
                raise ValueError(f"{name} cannot be {value!r}")
            setattr(self, name, value)

    def due(self, type: str, names: list[str]) -> list[Workflow]:
        """The workflows that a change of these fields starts, each used up by one."""
        found = [w for w in self.workflows if w.type == type and w.field in names and w.times != 0]
        for workflow in found:
            if workflow.times is not None:
                workflow.times -= 1
        return found

    def spaced(self, text: str) -> str:
        return " ".join(text.split()) if self.trim else text

    def rounded(self, amount: Decimal) -> Decimal:
        if not self.amounts:
            return amount
        step = Decimal(str(self.amounts))
        return (amount / step).quantize(Decimal(1), ROUND_HALF_UP) * step
