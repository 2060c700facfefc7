"""Our types beside the objects that hold them: a call is a Task of a kind of its own.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_task.htm
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from app.connectors.salesforce import soql
from app.connectors.salesforce.shapes import ACCOUNT, CASE, CONTACT, LEAD, OPPORTUNITY
from app.sdk import Event, Ref

TASK, CALL, EMAIL, MEETING, NOTE = "Task", "Call", "Email", "Event", "ContentNote"
ACTIVITIES = (CALL, EMAIL, MEETING, TASK, NOTE)
#: The kinds of a Task that we keep, by the TaskSubtype that makes them; nobody can change it.
SUBTYPE = "TaskSubtype"
SUBTYPES: Mapping[str, str] = {TASK: "Task", CALL: "Call", EMAIL: "Email"}
#: https://help.salesforce.com/s/articleView?id=000385203&type=1
PREFIXES: Mapping[str, str] = {
    ACCOUNT: "001",
    CONTACT: "003",
    OPPORTUNITY: "006",
    CASE: "500",
    TASK: "00T",
    CALL: "00T",
    EMAIL: "00T",
    MEETING: "00U",
    NOTE: "069",
}


def object_of(type: str) -> str:
    """The object in which this type is kept."""
    return TASK if type in SUBTYPES else type


def narrowed(type: str, where: soql.Condition | None) -> soql.Condition | None:
    """The condition, for records of this kind alone."""
    if type not in (*SUBTYPES, LEAD):
        return where
    # A lead that was converted is a contact.
    own = soql.equals("IsConverted", False)
    if type in SUBTYPES:
        own = soql.equals(SUBTYPE, SUBTYPES[type])
    return own if where is None else soql.every(own, where)


def told_of(event: Event) -> Iterator[Event]:
    """An event of a task, once for each kind that it may be: most news do not say which."""
    if event.ref is None or event.ref.type != TASK:
        yield event
        return
    _, _, change = event.type.partition(".")
    fields = event.data.get("fields")
    said = (fields if isinstance(fields, Mapping) else event.data).get(SUBTYPE)
    known = [type for type, subtype in SUBTYPES.items() if subtype == said]
    for type in known or SUBTYPES:
        yield replace(
            event,
            key=event.key if type == TASK else f"{event.key}:{type}",
            type=f"{type}.{change}",
            ref=Ref(event.ref.account, type, event.ref.id),
            fields={name: value for name, value in event.fields.items() if name != SUBTYPE},
        )
