"""What Salesforce works out itself: names, stages, what is closed, whose account it is."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.records import Record
from sandbox.salesforce.defaults import INTEGRATION
from sandbox.salesforce.errors import invalid
from sandbox.salesforce.stamps import moment, shown
from sandbox.wire import Json

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce


def defaulted(org: "Salesforce", type: str, values: Json, user: str | None) -> Json:
    """The values of a new record, those included that nobody gave."""
    found = org.schema.objects[type]
    filled: Json = {}
    for field in found.fields.values():
        if field.name == "IsDeleted" or (field.feature and not getattr(org.options, field.feature)):
            continue
        if field.name == "OwnerId":
            filled["OwnerId"] = user
        elif field.source and field.defaulted:
            rows = org.store.live(field.source)
            first = next((row for row in rows if row.get("IsDefault")), None)
            filled[field.name] = first.get("ApiName") if first else None
        elif field.name == "CurrencyIsoCode":
            filled[field.name] = "USD"
        elif field.default is not None:
            filled[field.name] = field.default
    return {**filled, **{name: value for name, value in values.items() if value is not None}}


def settled(org: "Salesforce", type: str, values: Json, current: Json) -> Json:
    """The values of a write and what follows from them. Raises RefusedError if they cannot be."""
    follow = _FOLLOW.get(type)
    return values | follow(org, values, {**current, **values}) if follow else values


def _person(org: "Salesforce", values: Json, row: Json) -> Json:
    parts = (row.get("Salutation"), row.get("FirstName"), row.get("LastName"))
    return {"Name": " ".join(part for part in parts[1:] if part)}


def _account(org: "Salesforce", values: Json, row: Json) -> Json:
    if not org.options.person_accounts:
        return {}
    # An account made of a person's last name is that person.
    is_person = bool(row.get("LastName"))
    return {"IsPersonAccount": is_person} | (_person(org, values, row) if is_person else {})


def _deal(org: "Salesforce", values: Json, row: Json) -> Json:
    stages = org.store.live("OpportunityStage")
    stage = next((s for s in stages if s.get("ApiName") == row.get("StageName")), None)
    found: Json = {}
    if stage and "StageName" in values:
        names = ("IsClosed", "IsWon", "ForecastCategory", "ForecastCategoryName")
        found = {name: stage.get(name) for name in names if name not in values}
        if "Probability" not in values:
            found["Probability"] = stage.get("DefaultProbability")
    amount, chance = row.get("Amount"), {**row, **found}.get("Probability")
    found["ExpectedRevenue"] = None
    if amount is not None and chance is not None:
        found["ExpectedRevenue"] = round(amount * chance / 100, 2)
    return found


def _case(org: "Salesforce", values: Json, row: Json) -> Json:
    found: Json = {}
    if "ContactId" in values and values["ContactId"] and not row.get("AccountId"):
        contact = org.find("Contact", values["ContactId"])
        found["AccountId"] = contact.get("AccountId") if contact else None
    closed = _is_closed(org, "CaseStatus", row)
    if closed != bool(row.get("IsClosed")) or "IsClosed" not in row:
        found |= {"IsClosed": closed, "ClosedDate": _now() if closed else None}
    return found


def _task(org: "Salesforce", values: Json, row: Json) -> Json:
    closed = _is_closed(org, "TaskStatus", row)
    found: Json = {"AccountId": _account_of(org, row)}
    found["IsHighPriority"] = row.get("Priority") == "High"
    if closed != bool(row.get("IsClosed")) or "IsClosed" not in row:
        found |= {"IsClosed": closed, "CompletedDateTime": _now() if closed else None}
    return found


def _event(org: "Salesforce", values: Json, row: Json) -> Json:
    """The two ways of saying when a meeting is agree.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_event.htm
    """
    start = values.get("StartDateTime") or values.get("ActivityDateTime")
    start = start or row.get("StartDateTime") or row.get("ActivityDateTime")
    if row.get("IsAllDayEvent") and not start and row.get("ActivityDate"):
        start = shown(moment(row["ActivityDate"]))
    minutes, end = row.get("DurationInMinutes"), row.get("EndDateTime")
    if values.get("EndDateTime"):
        minutes = None
    elif "DurationInMinutes" in values or "StartDateTime" in values or not end:
        end = None
    if row.get("IsAllDayEvent") and minutes is None and not end:
        minutes = 1440
    if not start or (minutes is None and not end):
        needed = {"DurationInMinutes": minutes is not None or end, "ActivityDateTime": start}
        lacking = [name for name, there in needed.items() if not there]
        text = f"Required fields are missing: [{', '.join(lacking)}]"
        raise invalid("REQUIRED_FIELD_MISSING", text, *lacking)
    began = moment(start)
    ended = moment(end) if end else began + timedelta(minutes=minutes or 0)
    length = ended - began
    if not timedelta(0) <= length <= timedelta(days=14):
        text = "End Date cannot be before Start Date, nor 14 days after it"
        raise invalid("FIELD_INTEGRITY_EXCEPTION", text, "DurationInMinutes")
    return {
        "StartDateTime": shown(began),
        "ActivityDateTime": None if row.get("IsAllDayEvent") else shown(began),
        "ActivityDate": began.date().isoformat(),
        "EndDateTime": shown(ended),
        "EndDate": ended.date().isoformat(),
        "DurationInMinutes": int(length.total_seconds() // 60),
        "AccountId": _account_of(org, row),
    }


def _note(org: "Salesforce", values: Json, row: Json) -> Json:
    return {"FileType": "SNOTE", "FileExtension": "snote"}


def _account_of(org: "Salesforce", row: Json) -> str | None:
    """The account of what an activity is about, else of whom it is with."""
    if what := org.of_any_type(row["WhatId"]) if row.get("WhatId") else None:
        return what.id if what.type == "Account" else what.get("AccountId")
    who = org.of_any_type(row["WhoId"]) if row.get("WhoId") else None
    found: str | None = who.get("AccountId") if who else None
    return found


def _activity(follow: Callable[..., Json]) -> Callable[..., Json]:
    def checked(org: "Salesforce", values: Json, row: Json) -> Json:
        if str(row.get("WhoId", "")).startswith("00Q") and row.get("WhatId"):
            text = "You may not associate a lead with another record: WhatId must be empty"
            raise invalid("FIELD_INTEGRITY_EXCEPTION", text, "WhatId")
        return follow(org, values, row)

    return checked


def _is_closed(org: "Salesforce", statuses: str, row: Json) -> bool:
    rows: Any = org.store.live(statuses)
    return any(s.get("ApiName") == row.get("Status") and s.get("IsClosed") for s in rows)


def _now() -> str:
    return shown(datetime.now().astimezone())


_FOLLOW: dict[str, Callable[..., Json]] = {
    "Account": _account,
    "Contact": _person,
    "Lead": _person,
    "Opportunity": _deal,
    "Case": _case,
    "Task": _activity(_task),
    "Event": _activity(_event),
    "ContentNote": _note,
}


def value(org: "Salesforce", record: Record, name: str) -> Any:
    """A field's value, the system's own included; None if unset."""
    match name:
        case "Id":
            return record.id
        case "IsDeleted":
            return record.gone is not None
        case "CreatedDate":
            return shown(record.created)
        case "LastModifiedDate":
            return shown(record.updated)
        case "SystemModstamp":
            return shown(max(record.updated, record.gone or record.updated))
        case "CreatedById" | "LastModifiedById":
            return record.get(name) or INTEGRATION
    return record.get(name)
