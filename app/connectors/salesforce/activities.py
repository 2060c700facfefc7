"""Tasks, calls, e-mails and meetings: with whom they are (`WhoId`), what they are about (`WhatId`).

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_task.htm
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from typing import Any

from app.connectors.salesforce import notes, soql
from app.connectors.salesforce.kinds import (
    CALL,
    EMAIL,
    MEETING,
    NOTE,
    PREFIXES,
    SUBTYPE,
    SUBTYPES,
    TASK,
)
from app.connectors.salesforce.org import Org
from app.connectors.salesforce.shapes import (
    ACCOUNT,
    CONTACT,
    OPPORTUNITY,
    SYSTEM,
    is_lead,
    observed,
    one_of,
    time_of,
    unset,
)
from app.sdk import NOTHING, Observation, Op, Raw, Ref, Write

#: Those that name whom and what they are about; a note is linked.
WITH_ENDS = (TASK, CALL, EMAIL, MEETING)
_ENDS = ("WhoId", "WhatId", "AccountId")
#: What is asked for whatever the mapping reads.
ASKED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(SUBTYPES, (*SYSTEM, "Subject", *_ENDS, SUBTYPE, "IsClosed")),
    MEETING: (*SYSTEM, "Subject", *_ENDS),
    NOTE: (*SYSTEM, "Title"),
}
#: A call or an e-mail was made or sent; one that is still to be done is nothing to tell of yet.
DONE = (CALL, EMAIL)
#: By what a new one is known again, if the answer to its creation was lost.
_SAME = (
    *("Subject", "Description", "ActivityDate", "StartDateTime", "CallDurationInSeconds"),
    *("Title", "Content"),
)
#: The title of a note that has none, as Salesforce itself calls it; never data of ours.
UNTITLED = "Untitled Note"
#: What is written where a task is done, or not; the org may call it otherwise.
OPEN, CLOSED = "Not Started", "Completed"


async def statuses(org: Org) -> Mapping[str, str]:
    """What the org calls a task that is not done, and one that is."""
    fields = ("ApiName", "MasterLabel", "IsClosed", "SortOrder", "IsDefault")
    rows = await org.query(soql.select(fields, "TaskStatus", order=("SortOrder",)))
    found: dict[str, str] = {}
    for word, closed in ((OPEN, False), (CLOSED, True)):
        own = [str(r.get("ApiName") or r["MasterLabel"]) for r in rows if r["IsClosed"] is closed]
        found[word] = word if word in own or not own else own[0]
    return found


def is_shown(type: str, row: Raw) -> bool:
    """Whether this row is one of this kind, and done if it must be."""
    if type not in SUBTYPES:
        return True
    return row.get(SUBTYPE) == SUBTYPES[type] and (type not in DONE or row.get("IsClosed") is True)


async def seen(
    org: Org, account: str, type: str, rows: Sequence[Raw], *, leads: bool
) -> list[Observation]:
    """Rows of this kind with their relations, and notes with their texts; people may be leads."""
    rows = [row for row in rows if is_shown(type, row)]
    linked: Mapping[str, Mapping[str, str]] = {}
    if type == NOTE:
        rows = await notes.whole(org, rows)
        linked = await notes.links(org, [str(row["Id"]) for row in rows])
    found = []
    for row in rows:
        own = (
            notes.relations(account, linked[str(row["Id"])], leads=leads)
            if type == NOTE
            else _relations(account, row, leads=leads)
        )
        raw = {**row, "Title": None} if row.get("Title") == UNTITLED else row
        mentions = tuple(dict.fromkeys(ref for refs in own.values() for ref in refs))
        one = observed(account, type, raw)
        found.append(replace(one, relations=own, mentions=mentions))
    return found


def _relations(account: str, row: Raw, *, leads: bool) -> dict[str, tuple[Ref, ...]]:
    """Salesforce works out the account of an activity from what or whom it is about."""
    person = _is(row.get("WhoId"), CONTACT) or (leads and is_lead(row.get("WhoId")))
    company, who, what = row.get("AccountId"), row.get("WhoId"), row.get("WhatId")
    return {
        "company": (Ref(account, ACCOUNT, company),) if company else (),
        "people": (Ref(account, CONTACT, str(who)),) if person else (),
        "deals": (Ref(account, OPPORTUNITY, str(what)),) if _is(what, OPPORTUNITY) else (),
    }


def _is(id: Any, type: str) -> bool:
    return str(id or "").startswith(PREFIXES[type])


def body_of(
    write: Write, current: Raw = NOTHING, words: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """An activity as Salesforce takes it.

    ``current`` is whom and what it names now, ``words`` what the org calls a task that is done.
    """
    body = unset(write.fields)
    if write.type == NOTE:
        if "Title" in body or write.op is Op.CREATE:
            body["Title"] = body.get("Title") or UNTITLED
        return body
    body |= _about(write, current)
    if write.op is Op.CREATE:
        if write.type in SUBTYPES:
            body[SUBTYPE] = SUBTYPES[write.type]
        if write.type in DONE:
            body["Status"] = CLOSED
        if write.type == MEETING and body.get("StartDateTime"):
            body["EndDateTime"] = body.get("EndDateTime") or body["StartDateTime"]
    if body.get("Status") in words:
        body["Status"] = words[body["Status"]]
    return body


def _about(write: Write, current: Raw) -> dict[str, str | None]:
    """Whom and what it names from now on: a deal before its company, one of several people."""
    named = _ends_of(write, current)
    if is_lead(named.get("WhoId", current.get("WhoId"))):
        # Who is with a lead is about nothing else.
        named = {**named, "WhatId": None} if "WhoId" in named else {}
    return named


def _ends_of(write: Write, current: Raw) -> dict[str, str | None]:
    named: dict[str, str | None] = {}
    if (people := one_of(write, "people")) is not None:
        named["WhoId"] = people[0].id if people else None
    company, deals = write.relations.get("company"), write.relations.get("deals")
    of_a_deal = _is(current.get("WhatId"), OPPORTUNITY)
    if deals is not None:
        if (chosen := one_of(write, "deals")) is None and of_a_deal:
            return named
        own = company.wanted[0].id if company and company.wanted else current.get("AccountId")
        named["WhatId"] = chosen[0].id if chosen else own
    elif company is not None and not of_a_deal:  # the account of a deal is that of the deal
        named["WhatId"] = company.wanted[0].id if company.wanted else None
    return named


async def ends(org: Org, writes: Sequence[Write]) -> dict[str, Raw]:
    """Whom and what those name now whose relations change, by id."""
    ids = [w.ref.id for w in writes if w.ref is not None and w.relations and w.type in WITH_ENDS]
    if not ids:
        return {}
    rows = await org.retrieve(writes[0].type, ids, ("Id", *_ENDS))
    return {str(row["Id"]): row for row in rows}


def is_it(write: Write, raw: Raw) -> bool:
    """Whether this is what the create would have made."""
    said = [name for name in _SAME if write.fields.get(name) not in (None, "")]
    return bool(said) and all(_alike(name, write.fields[name], raw.get(name)) for name in said)


def _alike(name: str, sent: Any, there: Any) -> bool:
    if name == "StartDateTime":
        return time_of(sent) == time_of(there)
    return _words(sent) == _words(there)


def _words(value: Any) -> str:
    """Without the marks and spaces that an editor may set in another way."""
    return re.sub(r"<[^>]*>|\s", "", unescape(str(value))).casefold()
