"""`propertiesWithHistory`: the values a property had, and who set them.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from sandbox.hubspot.portal import iso
from sandbox.records import Record
from sandbox.wire import Json

# Pages and batches with history are half as large as those without.
PAGE = 50
KEPT = 20
KEPT_OF_CONTACTS = 45


def past(record: Record, name: str) -> list[Json]:
    """A property's latest values, newest first; a cleared value is an empty text."""
    most = KEPT_OF_CONTACTS if record.type == "contact" else KEPT
    return [
        {
            "value": version.value or "",
            "timestamp": iso(version.at),
            "sourceType": version.source,
            "sourceId": version.source_id,
            **_user(version.source_id),
        }
        for version in list(reversed(record.history.get(name, [])))[:most]
    ]


def _user(source_id: str | None) -> Json:
    kind, _, id = (source_id or "").partition(":")
    return {"updatedByUserId": int(id)} if kind == "userId" and id.isdigit() else {}
