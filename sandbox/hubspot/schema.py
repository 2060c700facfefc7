"""HubSpot's object types.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectType:
    """How an object type is called, what it shows unasked, and what a new one needs."""

    name: str
    plural: str
    id: str
    created: str
    modified: str
    defaults: tuple[str, ...]
    needs_one_of: tuple[str, ...]
    needs_all: tuple[str, ...] = ()
    searchable: tuple[str, ...] = ()


def _activity(name: str, plural: str, id: str, *more: str, text: str) -> ObjectType:
    dates = ("hs_createdate", "hs_lastmodifieddate")
    defaults = (*dates, "hs_object_id")
    return ObjectType(name, plural, id, *dates, defaults, (), ("hs_timestamp", *more), (text,))


TYPES = {
    type.name: type
    for type in (
        ObjectType(
            "contact",
            "contacts",
            "0-1",
            "createdate",
            "lastmodifieddate",
            ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"),
            ("email", "firstname", "lastname"),
            searchable=("firstname", "lastname", "email", "phone", "company"),
        ),
        ObjectType(
            "company",
            "companies",
            "0-2",
            "createdate",
            "hs_lastmodifieddate",
            ("createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"),
            ("name", "domain"),
            searchable=("name", "domain", "website", "phone"),
        ),
        ObjectType(
            "deal",
            "deals",
            "0-3",
            "createdate",
            "hs_lastmodifieddate",
            (
                *("amount", "closedate", "createdate", "dealname", "dealstage"),
                *("hs_lastmodifieddate", "hs_object_id", "pipeline"),
            ),
            (),
            ("dealname", "dealstage"),
            searchable=("dealname", "dealstage", "pipeline", "description"),
        ),
        ObjectType(
            "ticket",
            "tickets",
            "0-5",
            "createdate",
            "hs_lastmodifieddate",
            (
                *("content", "createdate", "hs_lastmodifieddate", "hs_object_id", "hs_pipeline"),
                *("hs_pipeline_stage", "hs_ticket_category", "hs_ticket_priority", "subject"),
            ),
            (),
            ("subject", "hs_pipeline_stage"),
            searchable=("subject", "content"),
        ),
        _activity("note", "notes", "0-46", text="hs_note_body"),
        _activity("meeting", "meetings", "0-47", text="hs_meeting_title"),
        _activity("call", "calls", "0-48", text="hs_call_title"),
        _activity("email", "emails", "0-49", "hs_email_direction", text="hs_email_subject"),
        _activity("task", "tasks", "0-27", text="hs_task_subject"),
    )
}

_NAMES = {
    spelling: type
    for type in TYPES.values()
    for spelling in (type.name, type.plural, type.id, type.name.upper())
}


def object_type(spelling: str) -> ObjectType | None:
    """The type called `contact`, `contacts`, `CONTACT` or `0-1`."""
    return _NAMES.get(spelling)


ACTIVITIES = ("note", "call", "email", "meeting", "task")
STAGE_PROPERTIES = {
    "deal": ("pipeline", "dealstage"),
    "ticket": ("hs_pipeline", "hs_pipeline_stage"),
}
LIFECYCLE = (
    *("subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity"),
    *("customer", "evangelist", "other"),
)
