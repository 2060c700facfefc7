"""What was changed or deleted between two times, by id.

https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getupdated.html
"""

from datetime import datetime, timedelta

from sandbox.salesforce.errors import refuse
from sandbox.salesforce.org import Salesforce, routes
from sandbox.salesforce.stamps import moment, shown
from sandbox.wire import Answer, Call

DAYS_UPDATED, DAYS_DELETED = 30, 15


def _between(call: Call, days: int) -> tuple[datetime, datetime]:
    """Start and end, whose seconds count; refused if they are wrong."""
    try:
        # A plus that was not encoded comes as a blank.
        start, end = (moment(call.one(name).replace(" ", "+")) for name in ("start", "end"))
    except ValueError:
        raise refuse("MALFORMED_QUERY", "start and end must be ISO 8601 dates") from None
    if end <= start:
        text = "endDate must be greater than startDate"
        raise refuse("INVALID_REPLICATION_DATE", text)
    if start < call.at - timedelta(days=days):
        text = f"startDate before org replication enabled date, or more than {days} days ago"
        raise refuse("INVALID_REPLICATION_DATE", text)
    return start, end


@routes.on("GET", "/sobjects/{type}/updated")
def updated(org: Salesforce, call: Call, type: str) -> Answer:
    found = org.sobject(type, call)
    start, end = _between(call, DAYS_UPDATED)
    ids = [r.id for r in org.store.live(found.name) if start <= _whole(r.updated) < end]
    return Answer(200, {"ids": ids, "latestDateCovered": shown(min(end, call.at))})


@routes.on("GET", "/sobjects/{type}/deleted")
def deleted(org: Salesforce, call: Call, type: str) -> Answer:
    found = org.sobject(type, call)
    start, end = _between(call, DAYS_DELETED)
    gone = [
        {"id": record.id, "deletedDate": shown(record.gone)}
        for record in org.store.all(found.name)
        if record.gone and start <= _whole(record.gone) < end
    ]
    body = {
        "deletedRecords": gone,
        "earliestDateAvailable": shown(call.at - timedelta(days=DAYS_DELETED)),
        "latestDateCovered": shown(min(end, call.at)),
    }
    return Answer(200, body)


def _whole(at: datetime) -> datetime:
    return at.replace(microsecond=0)
