"""The fields of leads, contacts and opportunities: Close's own, and the organisation's.

https://developer.close.com/api/resources/leads · /contacts · /opportunities · /custom-fields
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.connectors.close.shapes import COMPANY, DEAL, PERSON
from app.sdk import Raw, RemoteField

_EVERYWHERE = "id organization_id date_created date_updated created_by updated_by"

#: What a PUT takes, and what is only shown.
_OWN: Mapping[str, tuple[str, str]] = {
    COMPANY: (
        "name url description status_id addresses contacts",
        f"{_EVERYWHERE} status_label display_name contact_ids opportunities tasks html_url",
    ),
    PERSON: (
        "name title emails phones urls lead_id",
        f"{_EVERYWHERE} display_name integration_links",
    ),
    DEAL: (
        "lead_id contact_id user_id status_id pipeline_id value value_period confidence note "
        "date_won",
        f"{_EVERYWHERE} value_currency value_formatted lead_name contact_name user_name "
        "status_label status_type status_display_name pipeline_name date_lost "
        "expected_value annualized_value annualized_expected_value created_by_name "
        "updated_by_name",
    ),
}


def own_fields(type: str) -> dict[str, RemoteField] | None:
    """Close's own fields of a type, None if they are not listed here."""
    if type not in _OWN:
        return None
    taken, shown = _OWN[type]
    return {
        **{path: RemoteField(path, writable=False) for path in shown.split()},
        **{path: RemoteField(path) for path in taken.split()},
    }


def custom_fields(rows: Iterable[Raw]) -> dict[str, RemoteField]:
    """The organisation's own fields, from their schema."""
    found = (
        RemoteField(
            f"custom.{row['id']}",
            str(row.get("type") or "text"),
            options=tuple(str(choice) for choice in row.get("choices") or ()),
        )
        for row in rows
    )
    return {field.path: field for field in found}
