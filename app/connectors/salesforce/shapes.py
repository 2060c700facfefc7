"""Accounts, contacts, opportunities and cases: as Salesforce shows them, and as it takes them.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from app.sdk import Observation, Op, Raw, Ref, RejectedError, Write, normalise

ACCOUNT, CONTACT, OPPORTUNITY, CASE = "Account", "Contact", "Opportunity", "Case"
ROLE = "OpportunityContactRole"
#: A person of ours as a contact is: see `leads`.
LEAD = "Lead"
STAMP = "SystemModstamp"
#: The record type of whoever has none.
MASTER_TYPE = "012000000000000AAA"
QUEUE = "00G"

SYSTEM = ("Id", STAMP, "LastModifiedDate", "LastModifiedById", "CreatedDate", "IsPersonAccount")
#: What carries identity, a relation or a time, asked for whatever the mapping reads.
ALWAYS: Mapping[str, tuple[str, ...]] = {
    ACCOUNT: (*SYSTEM, "Name", "Website"),
    CONTACT: (*SYSTEM, "Email", "FirstName", "LastName", "AccountId"),
    LEAD: (*SYSTEM, "Email", "FirstName", "LastName", "IsConverted", "ConvertedContactId"),
    OPPORTUNITY: (*SYSTEM, "Name", "AccountId"),
    CASE: (*SYSTEM, "Subject", "AccountId", "ContactId"),
}
#: Fields that exist only where a feature is on: nobody misses them.
FEATURES = frozenset({"CurrencyIsoCode", "RecordTypeId", "IsPersonAccount"})
#: Fields by which a create whose answer was lost is known again.
NAMES: Mapping[str, tuple[str, ...]] = {
    ACCOUNT: ("Name",),
    CONTACT: ("FirstName", "LastName", "Email"),
    OPPORTUNITY: ("Name",),
    CASE: ("Subject",),
}

#: What stands where Salesforce demands a value and there is none. It says so itself, so that it
#: is never read as data, whoever finds it: nobody is called so, and no deal closes then.
NOT_PROVIDED, SOME_DAY = "[not provided]", "2999-12-31"
STAND_INS: Mapping[str, Mapping[str, str]] = {
    ACCOUNT: {"Name": NOT_PROVIDED},
    CONTACT: {"LastName": NOT_PROVIDED},
    LEAD: {"LastName": NOT_PROVIDED},
    OPPORTUNITY: {"Name": NOT_PROVIDED, "CloseDate": SOME_DAY},
    CASE: {},
}


def time_of(text: Any) -> datetime | None:
    """A moment as Salesforce writes it, with an offset that has no colon."""
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def http_date(at: datetime) -> str:
    """The second in which that moment ends, as a header has it."""
    whole = at.replace(microsecond=0)
    return format_datetime(whole + timedelta(seconds=whole < at), usegmt=True)


def shown(type: str, row: Raw) -> dict[str, Any]:
    """The fields of a row, with nothing where a placeholder stands.

    A queue is nobody: a record that belongs to one says nothing of an owner.
    """
    raw = {n: v for n, v in row.items() if n != "attributes" and not isinstance(v, dict | list)}
    for name, stand_in in STAND_INS.get(type, {}).items():
        if raw.get(name) == stand_in:
            raw[name] = None
    if str(raw.get("OwnerId") or "").startswith(QUEUE):
        del raw["OwnerId"]
    return raw


#: What the lookups of an object of the org's own name.
LOOKED_UP: Mapping[str, str] = {"company": ACCOUNT, "people": CONTACT, "deals": OPPORTUNITY}


def observed(
    account: str,
    type: str,
    row: Raw,
    people: Sequence[str] | None = None,
    lookups: Mapping[str, str] | None = None,
) -> Observation:
    """A row with its relations; ``people`` are the contacts of an opportunity, if asked for.

    ``lookups`` are the fields by relation of an object of the org's own.
    """
    relations: dict[str, tuple[Ref, ...]] = {}
    if lookups is not None:
        relations = {
            name: (Ref(account, LOOKED_UP[name], str(row[path])),) if row[path] else ()
            for name, path in lookups.items()
            if path in row
        }
    elif "AccountId" in row and type != ACCOUNT:
        parent = row["AccountId"]
        relations["company"] = (Ref(account, ACCOUNT, parent),) if parent else ()
    if type == CASE:
        people = [row["ContactId"]] if row.get("ContactId") else []
    if people is not None:
        relations["people"] = tuple(Ref(account, CONTACT, id) for id in people)
    return Observation(
        Ref(account, CONTACT if type == LEAD else type, str(row["Id"])),
        shown(type, row),
        version=time_of(row.get(STAMP)),
        relations=relations,
        mentions=tuple(dict.fromkeys(ref for refs in relations.values() for ref in refs)),
    )


def is_person(row: Raw) -> bool:
    """Whether this is a person account, or the contact inside of one."""
    return row.get("IsPersonAccount") is True


def unset(fields: Raw) -> dict[str, Any]:
    """What is empty, as Salesforce keeps it: it has null alone, and refuses an empty text where a
    number or a day belongs.
    """
    return {name: None if value == "" else value for name, value in fields.items()}


def body_of(write: Write, lookups: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A record as Salesforce takes it: what it demands stands in for what there is not."""
    body = unset(write.fields)
    if body.get("RecordTypeId") == MASTER_TYPE:
        del body["RecordTypeId"]  # to have none is no choice that can be written
    if lookups is not None:
        for name, path in lookups.items():
            if (one := one_of(without_leads(write), name)) is not None:
                body[path] = one[0].id if one else None
        return body
    company = write.relations.get("company")
    if company is not None and write.type not in (ACCOUNT, LEAD):
        body["AccountId"] = company.wanted[0].id if company.wanted else None
    if write.type == CASE and (people := one_of(without_leads(write), "people")) is not None:
        body["ContactId"] = people[0].id if people else None
    for name, stand_in in STAND_INS[write.type].items():
        demanded = name in body or write.op is Op.CREATE
        if demanded and body.get(name) in (None, ""):
            body[name] = stand_in
    return body


def is_lead(id: object) -> bool:
    """https://help.salesforce.com/s/articleView?id=000385203&type=1"""
    return str(id or "").startswith("00Q")


def without_leads(write: Write) -> Write:
    """The write as what can name contacts alone takes it."""
    edit = write.relations.get("people")
    if edit is None:
        return write
    kept = {
        name: tuple(ref for ref in getattr(edit, name) if not is_lead(ref.id))
        for name in ("wanted", "add", "remove")
    }
    return replace(write, relations={**write.relations, "people": replace(edit, **kept)})


def one_of(write: Write, relation: str) -> Sequence[Ref] | None:
    """The one of several that a record can name, or none; None where the one it names stays."""
    edit = write.relations.get(relation)
    if edit is None:
        return None
    if write.op is Op.UPDATE and not edit.remove and len(edit.add) < len(edit.wanted):
        return None  # others join it
    return edit.wanted[:1]


def named(write: Write) -> Ref:
    if write.ref is None:
        raise RejectedError(f"a {write.op} without the remote record")
    return write.ref


def is_anothers(raw: Raw | None, me: str | None) -> bool:
    """Whether somebody else has edited it last, as far as both are told."""
    by = (raw or {}).get("LastModifiedById")
    return bool(me and by) and str(by)[:15] != str(me)[:15]


def keys_of(raw: Raw, external: str | None) -> set[tuple[str, str]]:
    """The identity keys that a record really carries."""
    said = {
        "email": raw.get("Email"),
        "domain": raw.get("Website"),
        "external_id": raw.get(external) if external else None,
    }
    return {
        (kind, key)
        for kind, text in said.items()
        if text and (key := normalise(kind, str(text))) is not None
    }


def chunked(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
