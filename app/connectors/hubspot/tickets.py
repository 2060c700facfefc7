"""Tickets: objects with pipelines of their own, in which a stage is open or closed.

https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/tickets/guide
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TICKETS = "tickets"
TYPE_ID = "0-5"
#: Association types from a ticket to its primary company, to any company and to a contact:
#: https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
COMPANY, COMPANIES, CONTACT = 26, 339, 16
#: HubSpot demands a subject; who has none is called so, which is never data of ours.
NO_SUBJECT = "(no subject)"
#: The one scope of tickets, their properties and their pipelines.
SCOPE = "tickets"


def completed(properties: dict[str, str]) -> dict[str, str]:
    """With what HubSpot demands of a new one: a placeholder, never data of ours."""
    return {"subject": NO_SUBJECT, **{name: v for name, v in properties.items() if v}}


def kind_of(metadata: Mapping[str, object]) -> Literal["open", "closed"] | None:
    """The class of a ticket's stage; None for a stage of something else."""
    state = metadata.get("ticketState")
    return None if state is None else "closed" if state == "CLOSED" else "open"
