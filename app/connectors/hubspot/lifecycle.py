"""The lifecycle stage of a contact or company only moves forward, unless it is cleared first.

HubSpot answers 200 to an earlier stage and keeps what it has:
https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/contacts/guide
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from app.sdk import Outcome, Raw, RejectedError, Write

LIFECYCLE = "lifecyclestage"
#: Where a portal does not show its own:
#: https://knowledge.hubspot.com/records/use-lifecycle-stages
DEFAULT_ORDER = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)


def order_of(definition: Raw | None) -> Sequence[str]:
    """The stages of a portal, first to last, from the definition of the property."""
    options = [o for o in (definition or {}).get("options") or () if o.get("value")]
    ranked = sorted(options, key=lambda option: option.get("displayOrder") or 0)
    return [str(option["value"]) for option in ranked] or DEFAULT_ORDER


def is_backward(value: str, current: str | None, order: Sequence[str]) -> bool:
    """Whether HubSpot would ignore this stage without a word."""
    if current not in order or value not in order:
        return False
    return order.index(value) < order.index(current)


def setting(writes: Iterable[Write]) -> list[Write]:
    """The writes that set a stage; to clear one is always possible."""
    return [write for write in writes if write.fields.get(LIFECYCLE) not in (None, "")]


def without(write: Write) -> Write:
    return replace(write, fields={k: v for k, v in write.fields.items() if k != LIFECYCLE})


def refusal(value: Any, current: Any) -> str:
    return (
        f"HubSpot keeps the lifecycle stage {current}: it cannot go back to {value} unless it is "
        "cleared first. Set it there by hand, or let us (lifecycle: clear)"
    )


def held(outcome: Outcome, write: Write, reason: str) -> Outcome:
    """The outcome of a write without its stage; where nothing else was written, a refusal."""
    if outcome.error is not None:
        return replace(outcome, write=write)
    if not without(write).fields and not write.relations:
        return Outcome(write, error=RejectedError(reason, field=LIFECYCLE))
    return replace(outcome, write=write, held={LIFECYCLE: reason})


def kept(outcome: Outcome) -> Outcome:
    """The outcome of a write, held where the answer shows that the stage was not taken."""
    wanted = outcome.write.fields.get(LIFECYCLE)
    shown = (outcome.stored.raw or {}).get(LIFECYCLE) if outcome.stored else None
    if wanted in (None, "") or shown in (None, "", str(wanted)):
        return outcome
    return held(outcome, outcome.write, refusal(wanted, shown))
